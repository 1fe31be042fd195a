//! The C functions in the slots of proxy types. Each is a few lines that end in `object::operate`;
//! which of them a proxy type gets follows the slots of the proxied type (`table`, `types`).

use std::ffi::c_int;
use std::ptr;

use objspace_proto::Op;
use pyo3::ffi;

use super::delegation::directly;
use super::object::{Object, Payload, declared_type, is_proxy, operate, settled};
use super::perform::{arithmetic, compared, count, not_implemented};
use super::{exceptions, reduce, types};

const NO_NAMES: Object = ptr::null_mut();

pub(super) unsafe extern "C" fn unary<const OP: u8>(slf: Object) -> Object {
    // SAFETY: called by the interpreter as a slot of a proxy.
    unsafe {
        let shown = match Op(OP) {
            Op::REPR => directly(slf, |target| ffi::PyObject_Repr(target)),
            Op::STR => directly(slf, |target| ffi::PyObject_Str(target)),
            _ => None,
        };
        match shown {
            Some(text) => text,
            None => operate(slf, Op(OP), &[], NO_NAMES),
        }
    }
}

pub(super) unsafe extern "C" fn with_one<const OP: u8>(slf: Object, other: Object) -> Object {
    // SAFETY: called by the interpreter as a slot of a proxy.
    unsafe {
        if OP == Op::GETITEM.0
            && let Some(item) = directly(slf, |target| get_item(target, other, slf))
        {
            return item;
        }
        operate(slf, Op(OP), &[other], NO_NAMES)
    }
}

/// `target[key]`; a result that is `target` is the proxy.
unsafe fn get_item(target: Object, key: Object, proxy: Object) -> Object {
    // SAFETY: callers are attached, with live objects; the result is owned here.
    unsafe {
        let item = ffi::PyObject_GetItem(target, key);
        if item == target {
            ffi::Py_DECREF(item);
            return ffi::Py_NewRef(proxy);
        }
        item
    }
}

pub(super) unsafe extern "C" fn binary<const OP: u8, const REFLECTED: u8>(
    left: Object,
    right: Object,
) -> Object {
    // SAFETY: called by the interpreter as a slot, with a proxy on one side at least.
    unsafe { operator(left, right, Op(OP), Op(REFLECTED), &[]) }
}

pub(super) unsafe extern "C" fn power(left: Object, right: Object, modulus: Object) -> Object {
    // SAFETY: called by the interpreter as a slot, with a proxy among the three.
    unsafe {
        if modulus == ffi::Py_None() {
            operator(left, right, Op::POW, Op::RPOW, &[])
        } else if is_proxy(left) {
            operate(left, Op::POW, &[right, modulus], NO_NAMES)
        } else {
            not_implemented()
        }
    }
}

/// `left op right` by the rules of the interpreter, which calls this once even if both are proxies,
/// because the function in their slots is the same.
///
/// # Safety
/// Attached, with live objects.
unsafe fn operator(left: Object, right: Object, op: Op, reflected: Op, more: &[Object]) -> Object {
    debug_assert!(more.is_empty());
    // SAFETY: as the caller says; the payloads stay where they are while their proxies live.
    unsafe {
        let (mine, theirs) = (Payload::find(left).as_ref(), Payload::find(right).as_ref());
        let deferred = |side: Option<&Payload>| side.is_some_and(Payload::is_deferred);
        if deferred(mine) || deferred(theirs) {
            return settle_and_apply(left, right, op);
        }
        let other_type = theirs.map(|side| side.declared.cast::<ffi::PyTypeObject>());
        let own_type = mine.map_or_else(|| ffi::Py_TYPE(left), |side| side.declared.cast());
        let mut ask_right = other_type.is_some_and(|other| {
            let same = ptr::eq(other, own_type);
            // Asked before a real object on the left, because the proxy's type is a C-level subclass
            // of that object's: between two objects of one type the left one comes first.
            let early = mine.is_none() && ffi::PyType_IsSubtype(ffi::Py_TYPE(right), own_type) != 0;
            if mine.is_some() || early { !same } else { true }
        });
        let right_has = theirs.is_some_and(|side| side.has(reflected));
        if ask_right
            && right_has
            && mine.is_some()
            && other_type.is_some_and(|other| ffi::PyType_IsSubtype(other, own_type) != 0)
        {
            let result = operate(right, reflected, &[left], NO_NAMES);
            if result != ffi::Py_NotImplemented() {
                return result;
            }
            ffi::Py_DECREF(result);
            ask_right = false;
        }
        if mine.is_some_and(|side| side.has(op) && !concatenates(side.declared, op)) {
            let result = operate(left, op, &[right], NO_NAMES);
            if result != ffi::Py_NotImplemented() {
                return result;
            }
            ffi::Py_DECREF(result);
        }
        if ask_right && right_has {
            return operate(right, reflected, &[left], NO_NAMES);
        }
        not_implemented()
    }
}

/// Whether objects of a type have `+` or `*` as sequences only: then the interpreter asks the number
/// on the right first, and comes back to the sequence by another slot.
///
/// # Safety
/// Attached, with a live type.
unsafe fn concatenates(class: Object, op: Op) -> bool {
    let slot = match op {
        Op::ADD => ffi::Py_nb_add,
        Op::MUL => ffi::Py_nb_multiply,
        _ => return false,
    };
    // SAFETY: as the caller says.
    unsafe { ffi::PyType_GetSlot(class.cast(), slot).is_null() }
}

/// The operator on what deferred proxies turned out to be.
unsafe fn settle_and_apply(left: Object, right: Object, op: Op) -> Object {
    // SAFETY: callers are attached, with live objects; both results are owned here.
    unsafe {
        let left = settled(left);
        if left.is_null() {
            return ptr::null_mut();
        }
        let right = settled(right);
        let result = match arithmetic(op) {
            _ if right.is_null() => ptr::null_mut(),
            Some((apply, _)) => apply(left, right),
            None => not_implemented(),
        };
        ffi::Py_DECREF(left);
        ffi::Py_XDECREF(right);
        result
    }
}

/// `3 * p` where the type of `p` repeats as a sequence does. `p * 3` goes to [`repeat`].
pub(super) unsafe extern "C" fn repeat_reflected(left: Object, right: Object) -> Object {
    // SAFETY: called by the interpreter as a slot, with a proxy on one side at least.
    unsafe {
        let theirs = Payload::find(right);
        if is_proxy(left)
            || theirs.is_null()
            || ffi::PyIndex_Check(left) == 0
            || !(*theirs).has(Op::RMUL)
        {
            return not_implemented();
        }
        operate(right, Op::RMUL, &[left], NO_NAMES)
    }
}

pub(super) unsafe extern "C" fn repeat<const OP: u8>(
    slf: Object,
    times: ffi::Py_ssize_t,
) -> Object {
    // SAFETY: called by the interpreter as a slot of a proxy; the new int is owned here.
    unsafe { with_index(times, |times| operate(slf, Op(OP), &[times], NO_NAMES)) }
}

/// Calls `then` with a Python int; null if that cannot be made.
///
/// # Safety
/// Attached.
unsafe fn with_index(index: ffi::Py_ssize_t, then: impl FnOnce(Object) -> Object) -> Object {
    // SAFETY: as the caller says; the new int is owned here.
    unsafe {
        let index = ffi::PyLong_FromSsize_t(index);
        if index.is_null() {
            return ptr::null_mut();
        }
        let result = then(index);
        ffi::Py_DECREF(index);
        result
    }
}

pub(super) unsafe extern "C" fn in_place_power(
    slf: Object,
    other: Object,
    modulus: Object,
) -> Object {
    // SAFETY: called by the interpreter as a slot of a proxy.
    unsafe {
        if modulus == ffi::Py_None() {
            operate(slf, Op::IPOW, &[other], NO_NAMES)
        } else {
            operate(slf, Op::IPOW, &[other, modulus], NO_NAMES)
        }
    }
}

pub(super) unsafe extern "C" fn compare(slf: Object, other: Object, how: c_int) -> Object {
    let op = match how {
        ffi::Py_LT => Op::LT,
        ffi::Py_LE => Op::LE,
        ffi::Py_EQ => Op::EQ,
        ffi::Py_NE => Op::NE,
        ffi::Py_GT => Op::GT,
        _ => Op::GE,
    };
    // SAFETY: called by the interpreter as a slot of a proxy.
    unsafe {
        match directly(slf, |target| compared(target, other, how)) {
            Some(result) if Payload::delegate_of(slf) != Some(result) => result,
            Some(result) => {
                ffi::Py_DECREF(result);
                ffi::Py_NewRef(slf)
            }
            None => operate(slf, op, &[other], NO_NAMES),
        }
    }
}

pub(super) unsafe extern "C" fn length(slf: Object) -> ffi::Py_ssize_t {
    // SAFETY: called by the interpreter as a slot of a proxy; results are owned here.
    unsafe {
        if let Some(length) = directly(slf, |target| ffi::PyObject_Size(target)) {
            return length;
        }
        let result = operate(slf, Op::LEN, &[], NO_NAMES);
        if result.is_null() {
            return -1;
        }
        let index = ffi::PyNumber_Index(result);
        ffi::Py_DECREF(result);
        if index.is_null() {
            return -1;
        }
        let length = ffi::PyNumber_AsSsize_t(index, ffi::PyExc_OverflowError);
        // A number too negative for C is an error of its sign first, as in the interpreter.
        let overflow = length == -1 && !ffi::PyErr_Occurred().is_null();
        let zero = ffi::PyLong_FromLong(0);
        let (kind, value) = saved_error(overflow);
        let negative = ffi::PyObject_RichCompareBool(index, zero, ffi::Py_LT);
        ffi::Py_DECREF(index);
        ffi::Py_XDECREF(zero);
        if negative == 1 {
            ffi::Py_XDECREF(kind);
            ffi::Py_XDECREF(value);
            ffi::PyErr_SetString(
                ffi::PyExc_ValueError,
                c"__len__() should return >= 0".as_ptr(),
            );
            return -1;
        }
        if overflow {
            ffi::PyErr_SetObject(kind, value);
            ffi::Py_XDECREF(kind);
            ffi::Py_XDECREF(value);
            return -1;
        }
        length
    }
}

/// The error that is set, taken; nulls if there is none.
unsafe fn saved_error(any: bool) -> (Object, Object) {
    let (mut kind, mut value, mut traceback) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    if any {
        // SAFETY: callers are attached; the three references are owned from here on.
        unsafe {
            #[allow(deprecated, reason = "its successor is not in CPython 3.11")]
            ffi::PyErr_Fetch(&raw mut kind, &raw mut value, &raw mut traceback);
            ffi::Py_XDECREF(traceback);
        }
    }
    (kind, value)
}

pub(super) unsafe extern "C" fn hash(slf: Object) -> ffi::Py_hash_t {
    // SAFETY: called by the interpreter as a slot of a proxy; the result is owned here.
    unsafe {
        if let Some(hash) = directly(slf, |target| ffi::PyObject_Hash(target)) {
            return hash;
        }
        let result = operate(slf, Op::HASH, &[], NO_NAMES);
        if result.is_null() {
            return -1;
        }
        let hash = if ffi::PyLong_Check(result) == 0 {
            ffi::PyErr_SetString(
                ffi::PyExc_TypeError,
                c"__hash__ method should return an integer".as_ptr(),
            );
            -1
        } else {
            let hash = ffi::PyLong_AsSsize_t(result);
            if hash == -1 && !ffi::PyErr_Occurred().is_null() {
                // An int too large for C: its own hash is a fold of all its bits.
                ffi::PyErr_Clear();
                ffi::PyObject_Hash(result)
            } else if hash == -1 {
                -2
            } else {
                hash
            }
        };
        ffi::Py_DECREF(result);
        hash
    }
}

pub(super) unsafe extern "C" fn truth(slf: Object) -> c_int {
    // SAFETY: called by the interpreter as a slot of a proxy; the result is owned here.
    unsafe {
        if let Some(answer) = directly(slf, |target| ffi::PyObject_IsTrue(target)) {
            return answer;
        }
        let result = operate(slf, Op::BOOL, &[], NO_NAMES);
        if result.is_null() {
            return -1;
        }
        let answer = if ffi::PyBool_Check(result) == 0 {
            ffi::PyErr_Format(
                ffi::PyExc_TypeError,
                c"__bool__ should return bool, returned %s".as_ptr(),
                (*ffi::Py_TYPE(result)).tp_name,
            );
            -1
        } else {
            c_int::from(result == ffi::Py_True())
        };
        ffi::Py_DECREF(result);
        answer
    }
}

pub(super) unsafe extern "C" fn contains(slf: Object, item: Object) -> c_int {
    // SAFETY: called by the interpreter as a slot of a proxy; the result is owned here.
    unsafe {
        if let Some(answer) = directly(slf, |target| ffi::PySequence_Contains(target, item)) {
            return answer;
        }
        let result = operate(slf, Op::CONTAINS, &[item], NO_NAMES);
        if result.is_null() {
            return -1;
        }
        let answer = ffi::PyObject_IsTrue(result);
        ffi::Py_DECREF(result);
        answer
    }
}

pub(super) unsafe extern "C" fn item_at(slf: Object, index: ffi::Py_ssize_t) -> Object {
    // SAFETY: called by the interpreter as a slot of a proxy.
    unsafe {
        with_index(sequence_index(slf, index), |index| {
            operate(slf, Op::GETITEM, &[index], NO_NAMES)
        })
    }
}

/// The index to ask the real object for. A sequence without a mapping's subscript (a deque) is asked
/// after the interpreter has added the length to a negative index: what is negative still is out of
/// range, and must not have the length added once more.
///
/// # Safety
/// Attached; `slf` is a live proxy.
unsafe fn sequence_index(slf: Object, index: ffi::Py_ssize_t) -> ffi::Py_ssize_t {
    // SAFETY: as the caller says.
    let subscript = unsafe { ffi::PyType_GetSlot(ffi::Py_TYPE(slf), ffi::Py_mp_subscript) };
    if index < 0 && subscript.is_null() {
        ffi::PY_SSIZE_T_MIN / 2
    } else {
        index
    }
}

pub(super) unsafe extern "C" fn assign_item_at(
    slf: Object,
    index: ffi::Py_ssize_t,
    value: Object,
) -> c_int {
    // SAFETY: called by the interpreter as a slot of a proxy; a null value means deletion.
    unsafe {
        status(with_index(sequence_index(slf, index), |index| {
            if value.is_null() {
                operate(slf, Op::DELITEM, &[index], NO_NAMES)
            } else {
                operate(slf, Op::SETITEM, &[index, value], NO_NAMES)
            }
        }))
    }
}

pub(super) unsafe extern "C" fn assign_item(slf: Object, key: Object, value: Object) -> c_int {
    // SAFETY: called by the interpreter as a slot of a proxy; a null value means deletion.
    unsafe {
        let assigned = directly(slf, |target| {
            if value.is_null() {
                ffi::PyObject_DelItem(target, key)
            } else {
                ffi::PyObject_SetItem(target, key, value)
            }
        });
        if let Some(status) = assigned {
            return status;
        }
        status(if value.is_null() {
            operate(slf, Op::DELITEM, &[key], NO_NAMES)
        } else {
            operate(slf, Op::SETITEM, &[key, value], NO_NAMES)
        })
    }
}

/// 0 or -1 for a result that does not matter.
///
/// # Safety
/// `result` is an owned reference or null with an error set.
unsafe fn status(result: Object) -> c_int {
    if result.is_null() {
        return -1;
    }
    // SAFETY: as the caller says.
    unsafe { ffi::Py_DECREF(result) };
    0
}

/// Whether a name, which may be any object, is the given one.
///
/// # Safety
/// Attached, with live objects.
unsafe fn is_name(name: Object, wanted: &std::ffi::CStr) -> bool {
    // SAFETY: as the caller says; a str is checked for before it is compared.
    unsafe {
        // The length tells most names apart without a call.
        ffi::PyUnicode_Check(name) != 0
            && ffi::PyUnicode_GET_LENGTH(name) == wanted.count_bytes().cast_signed()
            && ffi::PyUnicode_CompareWithASCIIString(name, wanted.as_ptr()) == 0
    }
}

pub(super) unsafe extern "C" fn get_attribute(slf: Object, name: Object) -> Object {
    // SAFETY: called by the interpreter as a slot of a proxy.
    unsafe {
        if is_name(name, c"__class__") {
            return declared_type(slf);
        }
        if is_name(name, c"__reduce_ex__")
            && let Some(answer) = reduce::reducer(slf)
        {
            return answer;
        }
        if types::is_exception_class(ffi::Py_TYPE(slf))
            && let Some(answer) = exceptions::own_attribute(slf, name)
        {
            return answer;
        }
        operate(slf, Op::GETATTR, &[name], NO_NAMES)
    }
}

pub(super) unsafe extern "C" fn set_attribute(slf: Object, name: Object, value: Object) -> c_int {
    // SAFETY: called by the interpreter as a slot of a proxy; a null value means deletion.
    unsafe {
        if is_name(name, c"__class__") {
            ffi::PyErr_SetString(
                ffi::PyExc_TypeError,
                c"the __class__ of a proxy cannot be assigned".as_ptr(),
            );
            return -1;
        }
        if types::is_exception_class(ffi::Py_TYPE(slf)) && exceptions::is_own(name) {
            return ffi::PyObject_GenericSetAttr(slf, name, value);
        }
        status(if value.is_null() {
            operate(slf, Op::DELATTR, &[name], NO_NAMES)
        } else {
            operate(slf, Op::SETATTR, &[name, value], NO_NAMES)
        })
    }
}

/// A call of a proxy, by the vectorcall convention.
pub(super) unsafe extern "C" fn vectorcall(
    slf: Object,
    args: *const Object,
    flags: usize,
    kwnames: Object,
) -> Object {
    // SAFETY: called by the interpreter: as many positional values as `flags` says, then one for
    // each name in the tuple `kwnames`, which may be null.
    unsafe {
        let positional = ffi::PyVectorcall_NARGS(flags).cast_unsigned();
        operate(
            slf,
            Op::CALL,
            values(args, positional + count(kwnames)),
            kwnames,
        )
    }
}

/// The arguments of a call as a slice.
///
/// # Safety
/// `args` points to `len` live objects, or `len` is zero.
unsafe fn values<'a>(args: *const Object, len: usize) -> &'a [Object] {
    if len == 0 {
        return &[];
    }
    // SAFETY: as the caller says.
    unsafe { std::slice::from_raw_parts(args, len) }
}

pub(super) unsafe extern "C" fn descriptor_get(
    slf: Object,
    object: Object,
    class: Object,
) -> Object {
    // SAFETY: called by the interpreter as a slot of a proxy; either argument may be null for None.
    unsafe {
        let or_none = |pointer: Object| {
            if pointer.is_null() {
                ffi::Py_None()
            } else {
                pointer
            }
        };
        operate(slf, Op::GET, &[or_none(object), or_none(class)], NO_NAMES)
    }
}

pub(super) unsafe extern "C" fn descriptor_set(
    slf: Object,
    object: Object,
    value: Object,
) -> c_int {
    // SAFETY: called by the interpreter as a slot of a proxy; a null value means deletion.
    unsafe {
        status(if value.is_null() {
            operate(slf, Op::DELETE, &[object], NO_NAMES)
        } else {
            operate(slf, Op::SET, &[object, value], NO_NAMES)
        })
    }
}

/// The buffer of whatever `__buffer__` answers: that object is the exporter, so that it, and not the
/// proxy, is told when the buffer is let go.
pub(super) unsafe extern "C" fn get_buffer(
    slf: Object,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> c_int {
    // SAFETY: called by the interpreter as a slot of a proxy; the results are owned here.
    unsafe {
        (*view).obj = ptr::null_mut();
        let flags_object = ffi::PyLong_FromLong(flags.into());
        if flags_object.is_null() {
            return -1;
        }
        let exporter = operate(slf, Op::BUFFER, &[flags_object], NO_NAMES);
        ffi::Py_DECREF(flags_object);
        if exporter.is_null() {
            return -1;
        }
        let status = ffi::PyObject_GetBuffer(exporter, view, flags);
        ffi::Py_DECREF(exporter);
        status
    }
}

/// A special method that has no slot.
pub(super) unsafe extern "C" fn method<const OP: u8>(
    slf: Object,
    args: *const Object,
    positional: ffi::Py_ssize_t,
    kwnames: Object,
) -> Object {
    // SAFETY: called by the interpreter, which has checked the type of `slf`, by the convention of
    // METH_FASTCALL with keywords: as many values as `positional` says, then one for each name.
    unsafe {
        let len = positional.cast_unsigned() + count(kwnames);
        operate(slf, Op(OP), values(args, len), kwnames)
    }
}
