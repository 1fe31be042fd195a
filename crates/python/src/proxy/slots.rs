//! The C functions in the slots of proxy types. Each is a few lines that end in `object::operate`;
//! which of them a proxy type gets follows the special methods of the proxied type.

use std::ffi::{c_int, c_void};

use objspace_proto::Op;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::object::{as_proxy, guarded, is_proxy, operate};
use super::types;

type Object = *mut ffi::PyObject;

/// The object behind a pointer that the interpreter passes to a slot.
///
/// # Safety
/// Attached, and `object` is live: what the interpreter guarantees for the arguments of a slot.
unsafe fn bound<'py>(py: Python<'py>, object: Object) -> Bound<'py, PyAny> {
    // SAFETY: as the caller says.
    unsafe { Bound::from_borrowed_ptr(py, object) }
}

/// An operation with up to two plain arguments.
///
/// # Safety
/// As of [`bound`].
unsafe fn run(slf: Object, op: Op, args: &[Object]) -> Object {
    // SAFETY: slots are called attached, with live objects.
    unsafe {
        let py = Python::assume_attached();
        let proxy = bound(py, slf);
        let args: Vec<_> = args.iter().map(|arg| bound(py, *arg)).collect();
        guarded(py, || Ok(operate(&proxy, op, &args, &[])?.into_ptr()))
    }
}

unsafe extern "C" fn unary<const OP: u8>(slf: Object) -> Object {
    // SAFETY: called by the interpreter as a slot.
    unsafe { run(slf, Op(OP), &[]) }
}

unsafe extern "C" fn with_one<const OP: u8>(slf: Object, other: Object) -> Object {
    // SAFETY: called by the interpreter as a slot.
    unsafe { run(slf, Op(OP), &[other]) }
}

/// `a + b` where at least one is a proxy of this type.
unsafe extern "C" fn binary<const OP: u8, const REFLECTED: u8>(left: Object, right: Object) -> Object {
    // SAFETY: called by the interpreter as a slot.
    unsafe {
        let py = Python::assume_attached();
        guarded(py, || binary_operator(&bound(py, left), &bound(py, right), Op(OP), Op(REFLECTED)).map(Bound::into_ptr))
    }
}

fn binary_operator<'py>(
    left: &Bound<'py, PyAny>,
    right: &Bound<'py, PyAny>,
    op: Op,
    reflected: Op,
) -> PyResult<Bound<'py, PyAny>> {
    let py = left.py();
    let has = |object: &Bound<'py, PyAny>, op: Op| -> PyResult<bool> {
        match (as_proxy(object), op.name()) {
            (Some(proxy), Some(name)) => Ok(types::has(&proxy.declared(py)?, name)),
            _ => Ok(false),
        }
    };
    if is_proxy(left.as_ptr()) && has(left, op)? {
        let result = operate(left, op, std::slice::from_ref(right), &[])?;
        if !result.is(py.NotImplemented()) {
            return Ok(result);
        }
    }
    if is_proxy(right.as_ptr()) {
        if has(right, reflected)? {
            return operate(right, reflected, std::slice::from_ref(left), &[]);
        }
        if !is_proxy(left.as_ptr()) {
            return concatenate(left, right, op);
        }
    }
    Ok(py.NotImplemented().into_bound(py))
}

/// `[1] + p` where the left type takes only its own kind: the contents of `p`, by its own protocol.
fn concatenate<'py>(left: &Bound<'py, PyAny>, right: &Bound<'py, PyAny>, op: Op) -> PyResult<Bound<'py, PyAny>> {
    let py = left.py();
    let not_implemented = || Ok(py.NotImplemented().into_bound(py));
    let (Some(proxy), Some(name)) = (as_proxy(right), op.name()) else {
        return not_implemented();
    };
    let declared = proxy.declared(py)?;
    let containers = ["list", "tuple", "bytearray", "dict", "set", "frozenset"];
    let known = declared.getattr("__module__")?.eq("builtins")?
        && containers.iter().any(|known| declared.name().is_ok_and(|own| own == *known));
    if !known || !left.get_type().hasattr(name)? {
        return not_implemented();
    }
    let contents = declared.call1((right,))?;
    left.get_type().call_method1(name, (left, contents))
}

unsafe extern "C" fn power<const OP: u8, const REFLECTED: u8>(left: Object, right: Object, modulus: Object) -> Object {
    // SAFETY: called by the interpreter as a slot.
    unsafe {
        let py = Python::assume_attached();
        if modulus == ffi::Py_None() {
            return binary::<OP, REFLECTED>(left, right);
        }
        if is_proxy(left) {
            return run(left, Op(OP), &[right, modulus]);
        }
        guarded(py, || Ok(py.NotImplemented().into_ptr()))
    }
}

unsafe extern "C" fn in_place_power(slf: Object, other: Object, _modulus: Object) -> Object {
    // SAFETY: called by the interpreter as a slot.
    unsafe { run(slf, Op::IPOW, &[other]) }
}

unsafe extern "C" fn compare(slf: Object, other: Object, how: c_int) -> Object {
    let op = match how {
        ffi::Py_LT => Op::LT,
        ffi::Py_LE => Op::LE,
        ffi::Py_EQ => Op::EQ,
        ffi::Py_NE => Op::NE,
        ffi::Py_GT => Op::GT,
        _ => Op::GE,
    };
    // SAFETY: called by the interpreter as a slot.
    unsafe { run(slf, op, &[other]) }
}

unsafe extern "C" fn length(slf: Object) -> ffi::Py_ssize_t {
    // SAFETY: called by the interpreter as a slot.
    unsafe { number(slf, Op::LEN, &[], |value| {
        let index = value.py().import("operator")?.call_method1("index", (value,))?;
        let length: ffi::Py_ssize_t = index.extract()?;
        if length < 0 {
            return Err(PyValueError::new_err("__len__() should return >= 0"));
        }
        Ok(length)
    }) }
}

unsafe extern "C" fn hash(slf: Object) -> ffi::Py_hash_t {
    // SAFETY: called by the interpreter as a slot.
    unsafe { number(slf, Op::HASH, &[], |value| {
        if !value.is_instance_of::<pyo3::types::PyInt>() {
            return Err(PyTypeError::new_err("__hash__ method should return an integer"));
        }
        // The hash of an int is itself, folded into range; -1 is never a hash.
        value.hash()
    }) }
}

/// An operation with a C number for a result; -1 on error.
///
/// # Safety
/// As of [`bound`].
unsafe fn number(
    slf: Object,
    op: Op,
    args: &[Object],
    convert: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<isize>,
) -> isize {
    let mut answer = -1;
    // SAFETY: as the caller says; `run` gives a new reference or null.
    unsafe {
        let py = Python::assume_attached();
        let Some(result) = Bound::from_owned_ptr_or_opt(py, run(slf, op, args)) else { return -1 };
        guarded(py, || {
            answer = convert(&result)?;
            Ok(std::ptr::null_mut())
        });
    }
    answer
}

unsafe extern "C" fn truth(slf: Object) -> c_int {
    // SAFETY: called by the interpreter as a slot.
    let answer = unsafe { number(slf, Op::BOOL, &[], |value| match value.cast::<pyo3::types::PyBool>() {
        Ok(flag) => Ok(isize::from(flag.is_true())),
        Err(_) => Err(PyTypeError::new_err(format!(
            "__bool__ should return bool, returned {}",
            value.get_type().name()?
        ))),
    }) };
    answer as c_int
}

unsafe extern "C" fn contains(slf: Object, item: Object) -> c_int {
    // SAFETY: called by the interpreter as a slot.
    (unsafe { number(slf, Op::CONTAINS, &[item], |value| Ok(isize::from(value.is_truthy()?))) }) as c_int
}

unsafe extern "C" fn item_at(slf: Object, index: ffi::Py_ssize_t) -> Object {
    // SAFETY: called by the interpreter as a slot; the new int is owned here.
    unsafe {
        let Some(index) = Bound::from_owned_ptr_or_opt(Python::assume_attached(), ffi::PyLong_FromSsize_t(index)) else {
            return std::ptr::null_mut();
        };
        run(slf, Op::GETITEM, &[index.as_ptr()])
    }
}

unsafe extern "C" fn assign_item(slf: Object, key: Object, value: Object) -> c_int {
    // SAFETY: called by the interpreter as a slot; a null value means deletion.
    unsafe {
        if value.is_null() {
            status(run(slf, Op::DELITEM, &[key]))
        } else {
            status(run(slf, Op::SETITEM, &[key, value]))
        }
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

unsafe extern "C" fn get_attribute(slf: Object, name: Object) -> Object {
    // SAFETY: called by the interpreter as a slot.
    unsafe {
        let py = Python::assume_attached();
        let (proxy, name) = (bound(py, slf), bound(py, name));
        guarded(py, || {
            if is_class_name(&name) {
                let Some(proxy) = as_proxy(&proxy) else {
                    return Err(PyTypeError::new_err("not a proxy"));
                };
                return Ok(proxy.declared(py)?.into_ptr());
            }
            Ok(operate(&proxy, Op::GETATTR, &[name], &[])?.into_ptr())
        })
    }
}

fn is_class_name(name: &Bound<'_, PyAny>) -> bool {
    name.cast::<PyString>().is_ok_and(|name| name.to_str().is_ok_and(|name| name == "__class__"))
}

unsafe extern "C" fn set_attribute(slf: Object, name: Object, value: Object) -> c_int {
    // SAFETY: called by the interpreter as a slot; a null value means deletion.
    unsafe {
        let py = Python::assume_attached();
        if is_class_name(&bound(py, name)) {
            return status(guarded(py, || Err(PyTypeError::new_err("the __class__ of a proxy cannot be assigned"))));
        }
        if value.is_null() {
            status(run(slf, Op::DELATTR, &[name]))
        } else {
            status(run(slf, Op::SETATTR, &[name, value]))
        }
    }
}

unsafe extern "C" fn call(slf: Object, args: Object, kwargs: Object) -> Object {
    // SAFETY: called by the interpreter as a slot: a tuple, and a dict or null.
    unsafe {
        let py = Python::assume_attached();
        let (proxy, args) = (bound(py, slf), bound(py, args));
        let kwargs = Bound::from_borrowed_ptr_or_opt(py, kwargs);
        guarded(py, || {
            let args: Vec<_> = args.cast::<PyTuple>()?.iter().collect();
            let mut keywords = Vec::new();
            if let Some(kwargs) = kwargs {
                for (name, value) in kwargs.cast::<pyo3::types::PyDict>()?.iter() {
                    keywords.push((name.cast_into::<PyString>()?, value));
                }
            }
            Ok(operate(&proxy, Op::CALL, &args, &keywords)?.into_ptr())
        })
    }
}

unsafe extern "C" fn next(slf: Object) -> Object {
    // SAFETY: called by the interpreter as a slot; StopIteration is allowed to be set or left out.
    unsafe { run(slf, Op::NEXT, &[]) }
}

unsafe extern "C" fn descriptor_get(slf: Object, object: Object, class: Object) -> Object {
    // SAFETY: called by the interpreter as a slot; either argument may be null for None.
    unsafe {
        let or_none = |pointer: Object| if pointer.is_null() { ffi::Py_None() } else { pointer };
        run(slf, Op::GET, &[or_none(object), or_none(class)])
    }
}

unsafe extern "C" fn descriptor_set(slf: Object, object: Object, value: Object) -> c_int {
    // SAFETY: called by the interpreter as a slot; a null value means deletion.
    unsafe {
        if value.is_null() {
            status(run(slf, Op::DELETE, &[object]))
        } else {
            status(run(slf, Op::SET, &[object, value]))
        }
    }
}

/// A special method that has no slot.
unsafe extern "C" fn method<const OP: u8>(
    slf: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    // SAFETY: called by the interpreter by the vectorcall convention: `count` positional values,
    // then one for each name in the tuple `names`, which may be null.
    unsafe {
        let py = Python::assume_attached();
        let proxy = bound(py, slf);
        let count = count.cast_unsigned();
        let at = |index: usize| bound(py, *args.add(index));
        let positional: Vec<_> = (0..count).map(at).collect();
        let names = Bound::from_borrowed_ptr_or_opt(py, names);
        guarded(py, || {
            let mut keywords = Vec::new();
            if let Some(names) = names {
                for (index, name) in names.cast::<PyTuple>()?.iter().enumerate() {
                    keywords.push((name.cast_into::<PyString>()?, at(count + index)));
                }
            }
            Ok(operate(&proxy, Op(OP), &positional, &keywords)?.into_ptr())
        })
    }
}

/// The slots of a proxy type whose proxied type has the special methods that `has` knows.
pub(super) fn of(has: &dyn Fn(&str) -> bool) -> Vec<ffi::PyType_Slot> {
    let mut table = Vec::new();
    let mut always = |slot: c_int, pfunc: *mut c_void| table.push(ffi::PyType_Slot { slot, pfunc });
    always(ffi::Py_tp_getattro, get_attribute as *mut c_void);
    always(ffi::Py_tp_setattro, set_attribute as *mut c_void);
    always(ffi::Py_tp_repr, unary::<{ Op::REPR.0 }> as *mut c_void);
    always(ffi::Py_tp_str, unary::<{ Op::STR.0 }> as *mut c_void);
    always(ffi::Py_tp_richcompare, compare as *mut c_void);
    if has("__hash__") {
        always(ffi::Py_tp_hash, hash as *mut c_void);
    } else {
        always(ffi::Py_tp_hash, ffi::PyObject_HashNotImplemented as *mut c_void);
    }
    let mut if_has = |name: &str, slot: c_int, pfunc: *mut c_void| {
        if has(name) {
            table.push(ffi::PyType_Slot { slot, pfunc });
        }
    };
    if_has("__len__", ffi::Py_mp_length, length as *mut c_void);
    if_has("__getitem__", ffi::Py_mp_subscript, with_one::<{ Op::GETITEM.0 }> as *mut c_void);
    if_has("__setitem__", ffi::Py_mp_ass_subscript, assign_item as *mut c_void);
    if_has("__contains__", ffi::Py_sq_contains, contains as *mut c_void);
    // What has the order of a sequence can be asked by number; mappings and generics cannot.
    if has("__len__") && has("__getitem__") && !has("keys") {
        if_has("__getitem__", ffi::Py_sq_item, item_at as *mut c_void);
        if_has("__len__", ffi::Py_sq_length, length as *mut c_void);
    }
    if_has("__iter__", ffi::Py_tp_iter, unary::<{ Op::ITER.0 }> as *mut c_void);
    if_has("__next__", ffi::Py_tp_iternext, next as *mut c_void);
    if_has("__call__", ffi::Py_tp_call, call as *mut c_void);
    if_has("__get__", ffi::Py_tp_descr_get, descriptor_get as *mut c_void);
    if_has("__set__", ffi::Py_tp_descr_set, descriptor_set as *mut c_void);
    if_has("__await__", ffi::Py_am_await, unary::<{ Op::AWAIT.0 }> as *mut c_void);
    if_has("__aiter__", ffi::Py_am_aiter, unary::<{ Op::AITER.0 }> as *mut c_void);
    if_has("__anext__", ffi::Py_am_anext, unary::<{ Op::ANEXT.0 }> as *mut c_void);
    if_has("__bool__", ffi::Py_nb_bool, truth as *mut c_void);
    if_has("__index__", ffi::Py_nb_index, unary::<{ Op::INDEX.0 }> as *mut c_void);
    if_has("__int__", ffi::Py_nb_int, unary::<{ Op::INT.0 }> as *mut c_void);
    if_has("__float__", ffi::Py_nb_float, unary::<{ Op::FLOAT.0 }> as *mut c_void);
    if_has("__neg__", ffi::Py_nb_negative, unary::<{ Op::NEG.0 }> as *mut c_void);
    if_has("__pos__", ffi::Py_nb_positive, unary::<{ Op::POS.0 }> as *mut c_void);
    if_has("__abs__", ffi::Py_nb_absolute, unary::<{ Op::ABS.0 }> as *mut c_void);
    if_has("__invert__", ffi::Py_nb_invert, unary::<{ Op::INVERT.0 }> as *mut c_void);
    macro_rules! operators {
        ($($name:literal $reflected:literal $slot:ident $op:ident $rop:ident;)*) => {$(
            if has($name) || has($reflected) {
                table.push(ffi::PyType_Slot {
                    slot: ffi::$slot,
                    pfunc: binary::<{ Op::$op.0 }, { Op::$rop.0 }> as *mut c_void,
                });
            }
        )*};
    }
    operators! {
        "__add__" "__radd__" Py_nb_add ADD RADD;
        "__sub__" "__rsub__" Py_nb_subtract SUB RSUB;
        "__mul__" "__rmul__" Py_nb_multiply MUL RMUL;
        "__matmul__" "__rmatmul__" Py_nb_matrix_multiply MATMUL RMATMUL;
        "__truediv__" "__rtruediv__" Py_nb_true_divide TRUEDIV RTRUEDIV;
        "__floordiv__" "__rfloordiv__" Py_nb_floor_divide FLOORDIV RFLOORDIV;
        "__mod__" "__rmod__" Py_nb_remainder MOD RMOD;
        "__divmod__" "__rdivmod__" Py_nb_divmod DIVMOD RDIVMOD;
        "__lshift__" "__rlshift__" Py_nb_lshift LSHIFT RLSHIFT;
        "__rshift__" "__rrshift__" Py_nb_rshift RSHIFT RRSHIFT;
        "__and__" "__rand__" Py_nb_and AND RAND;
        "__xor__" "__rxor__" Py_nb_xor XOR RXOR;
        "__or__" "__ror__" Py_nb_or OR ROR;
    }
    if has("__pow__") || has("__rpow__") {
        table.push(ffi::PyType_Slot {
            slot: ffi::Py_nb_power,
            pfunc: power::<{ Op::POW.0 }, { Op::RPOW.0 }> as *mut c_void,
        });
    }
    macro_rules! in_place {
        ($($name:literal $slot:ident $op:ident;)*) => {$(
            if has($name) {
                table.push(ffi::PyType_Slot {
                    slot: ffi::$slot,
                    pfunc: with_one::<{ Op::$op.0 }> as *mut c_void,
                });
            }
        )*};
    }
    in_place! {
        "__iadd__" Py_nb_inplace_add IADD;
        "__isub__" Py_nb_inplace_subtract ISUB;
        "__imul__" Py_nb_inplace_multiply IMUL;
        "__imatmul__" Py_nb_inplace_matrix_multiply IMATMUL;
        "__itruediv__" Py_nb_inplace_true_divide ITRUEDIV;
        "__ifloordiv__" Py_nb_inplace_floor_divide IFLOORDIV;
        "__imod__" Py_nb_inplace_remainder IMOD;
        "__ilshift__" Py_nb_inplace_lshift ILSHIFT;
        "__irshift__" Py_nb_inplace_rshift IRSHIFT;
        "__iand__" Py_nb_inplace_and IAND;
        "__ixor__" Py_nb_inplace_xor IXOR;
        "__ior__" Py_nb_inplace_or IOR;
    }
    if has("__ipow__") {
        table.push(ffi::PyType_Slot { slot: ffi::Py_nb_inplace_power, pfunc: in_place_power as *mut c_void });
    }
    table
}

/// Special methods without a slot, which the interpreter looks up in the type's dict.
pub(super) fn methods(has: &dyn Fn(&str) -> bool) -> Vec<ffi::PyMethodDef> {
    let mut table = Vec::new();
    macro_rules! methods {
        ($($name:literal $op:ident;)*) => {$(
            if has($name.to_str().unwrap_or_default()) {
                table.push(ffi::PyMethodDef {
                    ml_name: $name.as_ptr(),
                    ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: method::<{ Op::$op.0 }> },
                    ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
                    ml_doc: std::ptr::null(),
                });
            }
        )*};
    }
    methods! {
        c"__dir__" DIR;
        c"__format__" FORMAT;
        c"__bytes__" BYTES;
        c"__complex__" COMPLEX;
        c"__round__" ROUND;
        c"__trunc__" TRUNC;
        c"__floor__" FLOOR;
        c"__ceil__" CEIL;
        c"__fspath__" FSPATH;
        c"__sizeof__" SIZEOF;
        c"__length_hint__" LENGTH_HINT;
        c"__reversed__" REVERSED;
        c"__enter__" ENTER;
        c"__exit__" EXIT;
        c"__aenter__" AENTER;
        c"__aexit__" AEXIT;
        c"__reduce__" REDUCE;
        c"__reduce_ex__" REDUCE_EX;
        c"__getstate__" GETSTATE;
        c"__copy__" COPY;
        c"__deepcopy__" DEEPCOPY;
    }
    table.push(ffi::PyMethodDef::zeroed());
    table
}
