//! An operation, performed on the real object: what `delegate()` does.
//!
//! It is the special method of the object's type that is performed, not the operator: a
//! `NotImplemented` goes back to the interpreter, which then asks the other operand. The exception is
//! an operand that is itself a proxy: the special methods of built-in types look at the memory of
//! their operands, which a proxy has none of, so there the operator is applied, and the other proxy
//! gets its reflected operation.

use std::ffi::c_int;
use std::ptr;

use objspace_proto::Op;
use pyo3::ffi;
use pyo3::prelude::*;

use super::object::{Object, is_proxy, operate};
use super::table::opname;

/// Performs `op` on `target`, which may itself be a proxy. Arguments and result are as of
/// [`operate`].
///
/// # Safety
/// Attached; the target and all arguments are live.
pub(super) unsafe fn perform(target: Object, op: Op, args: &[Object], kwnames: Object) -> Object {
    // SAFETY: as the caller says.
    unsafe {
        if is_proxy(target) {
            return operate(target, op, args, kwnames);
        }
        match (op, args) {
            (Op::GETATTR, &[name]) => ffi::PyObject_GetAttr(target, name),
            (Op::SETATTR, &[name, value]) => none(ffi::PyObject_SetAttr(target, name, value)),
            (Op::DELATTR, &[name]) => none(ffi::PyObject_SetAttr(target, name, ptr::null_mut())),
            (Op::CALL, _) => {
                let named = count(kwnames);
                ffi::PyObject_Vectorcall(target, args.as_ptr(), args.len() - named, kwnames)
            }
            (Op::GETITEM, &[key]) => ffi::PyObject_GetItem(target, key),
            (Op::SETITEM, &[key, value]) => none(ffi::PyObject_SetItem(target, key, value)),
            (Op::DELITEM, &[key]) => none(ffi::PyObject_DelItem(target, key)),
            (Op::LEN, []) => match ffi::PyObject_Size(target) {
                -1 => ptr::null_mut(),
                length => ffi::PyLong_FromSsize_t(length),
            },
            (Op::HASH, []) => match ffi::PyObject_Hash(target) {
                -1 => ptr::null_mut(),
                hash => ffi::PyLong_FromSsize_t(hash),
            },
            (Op::BOOL, []) => truth(ffi::PyObject_IsTrue(target)),
            (Op::CONTAINS, &[item]) => truth(ffi::PySequence_Contains(target, item)),
            (Op::REPR, []) => ffi::PyObject_Repr(target),
            (Op::STR, []) => ffi::PyObject_Str(target),
            (Op::DIR, []) => ffi::PyObject_Dir(target),
            (Op::FORMAT, &[spec]) => ffi::PyObject_Format(target, spec),
            (Op::ITER, []) => ffi::PyObject_GetIter(target),
            (Op::NEXT, []) => next(target),
            (Op::BUFFER, _) => ffi::PyMemoryView_FromObject(target),
            (_, &[other]) if comparison(op).is_some() => {
                compared(target, other, comparison(op).unwrap_or(ffi::Py_EQ))
            }
            (_, &[other]) if is_proxy(other) && arithmetic(op).is_some() => match arithmetic(op) {
                Some((operator, false)) => operator(target, other),
                Some((operator, true)) => operator(other, target),
                None => not_implemented(),
            },
            _ => special(target, op, args, kwnames),
        }
    }
}

/// A binary operation as the operator that it belongs to, with the special methods of both operands
/// and their order. `None`: `op` is no such operation.
pub(crate) fn operator<'py>(
    target: &Bound<'py, PyAny>,
    op: Op,
    other: &Bound<'py, PyAny>,
) -> Option<PyResult<Bound<'py, PyAny>>> {
    let py = target.py();
    let (target, other) = (target.as_ptr(), other.as_ptr());
    // SAFETY: attached, with live objects; the functions return a new reference or set an error.
    unsafe {
        let result = if let Some(how) = comparison(op) {
            ffi::PyObject_RichCompare(target, other, how)
        } else {
            match arithmetic(op)? {
                (operator, false) => operator(target, other),
                (operator, true) => operator(other, target),
            }
        };
        Some(Bound::from_owned_ptr_or_err(py, result))
    }
}

/// The comparison of a real object with another one, in one direction.
///
/// # Safety
/// Attached, with live objects; `target` is no proxy.
pub(super) unsafe fn compared(target: Object, other: Object, how: c_int) -> Object {
    // SAFETY: as the caller says; the slot is of the object's own type.
    unsafe {
        match (*ffi::Py_TYPE(target)).tp_richcompare {
            _ if is_proxy(other) => ffi::PyObject_RichCompare(target, other, how),
            Some(compare) => compare(target, other, how),
            None => not_implemented(),
        }
    }
}

/// How many keyword arguments there are.
///
/// # Safety
/// `kwnames` is a tuple or null.
pub(super) unsafe fn count(kwnames: Object) -> usize {
    if kwnames.is_null() {
        return 0;
    }
    // SAFETY: as the caller says.
    unsafe { ffi::PyTuple_GET_SIZE(kwnames).cast_unsigned() }
}

/// A new reference to `NotImplemented`.
///
/// # Safety
/// Attached.
pub(super) unsafe fn not_implemented() -> Object {
    // SAFETY: the singleton lives for ever.
    unsafe { ffi::Py_NewRef(ffi::Py_NotImplemented()) }
}

unsafe fn none(status: c_int) -> Object {
    // SAFETY: callers are attached; the singleton lives for ever.
    if status < 0 {
        ptr::null_mut()
    } else {
        // SAFETY: attached; None is always there.
        unsafe { ffi::Py_NewRef(ffi::Py_None()) }
    }
}

unsafe fn truth(answer: c_int) -> Object {
    // SAFETY: callers are attached.
    if answer < 0 {
        ptr::null_mut()
    } else {
        // SAFETY: attached; it answers True or False.
        unsafe { ffi::PyBool_FromLong(answer.into()) }
    }
}

/// `next(target)`; an exhausted iterator is null without an error, as in the slot.
unsafe fn next(target: Object) -> Object {
    // SAFETY: callers are attached, with a live object; the slot is of the object's own type.
    unsafe {
        if let Some(step) = (*ffi::Py_TYPE(target)).tp_iternext {
            let item = step(target);
            if item.is_null() && ffi::PyErr_Occurred().is_null() {
                ffi::PyErr_SetNone(ffi::PyExc_StopIteration);
            }
            return item;
        }
        special(target, Op::NEXT, &[], ptr::null_mut())
    }
}

/// Any other special method, looked up on the type as the interpreter does it.
unsafe fn special(target: Object, op: Op, args: &[Object], kwnames: Object) -> Object {
    // SAFETY: callers are attached, with live objects.
    unsafe {
        let class = ffi::Py_TYPE(target);
        let method = ffi::PyObject_GetAttr(class.cast(), opname(op));
        if method.is_null() {
            if ffi::PyErr_ExceptionMatches(ffi::PyExc_AttributeError) == 0 {
                return ptr::null_mut();
            }
            ffi::PyErr_Clear();
            if comparison(op).is_some() || arithmetic(op).is_some() {
                return not_implemented();
            }
            return absent(target, op, args, kwnames);
        }
        let mut values = Vec::with_capacity(args.len() + 2);
        values.extend([ptr::null_mut(), target]);
        values.extend_from_slice(args);
        let positional = (args.len() - count(kwnames) + 1) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        let result = ffi::PyObject_Vectorcall(method, values.as_ptr().add(1), positional, kwnames);
        ffi::Py_DECREF(method);
        result
    }
}

/// A method that the type does not have: what looking it up on the object itself says.
unsafe fn absent(target: Object, op: Op, args: &[Object], kwnames: Object) -> Object {
    // SAFETY: callers are attached, with live objects.
    unsafe {
        let method = ffi::PyObject_GetAttr(target, opname(op));
        if method.is_null() {
            return ptr::null_mut();
        }
        let result =
            ffi::PyObject_Vectorcall(method, args.as_ptr(), args.len() - count(kwnames), kwnames);
        ffi::Py_DECREF(method);
        result
    }
}

/// The comparison that `op` is.
pub(super) fn comparison(op: Op) -> Option<c_int> {
    Some(match op {
        Op::LT => ffi::Py_LT,
        Op::LE => ffi::Py_LE,
        Op::EQ => ffi::Py_EQ,
        Op::NE => ffi::Py_NE,
        Op::GT => ffi::Py_GT,
        Op::GE => ffi::Py_GE,
        _ => return None,
    })
}

type Operator = unsafe extern "C" fn(Object, Object) -> Object;

unsafe extern "C" fn power(left: Object, right: Object) -> Object {
    // SAFETY: called with live objects only.
    unsafe { ffi::PyNumber_Power(left, right, ffi::Py_None()) }
}

unsafe extern "C" fn in_place_power(left: Object, right: Object) -> Object {
    // SAFETY: called with live objects only.
    unsafe { ffi::PyNumber_InPlacePower(left, right, ffi::Py_None()) }
}

/// The operator that a binary operation belongs to, and whether it is the reflected form.
pub(super) fn arithmetic(op: Op) -> Option<(Operator, bool)> {
    let (operator, reflected): (Operator, bool) = match op {
        Op::ADD => (ffi::PyNumber_Add, false),
        Op::SUB => (ffi::PyNumber_Subtract, false),
        Op::MUL => (ffi::PyNumber_Multiply, false),
        Op::MATMUL => (ffi::PyNumber_MatrixMultiply, false),
        Op::TRUEDIV => (ffi::PyNumber_TrueDivide, false),
        Op::FLOORDIV => (ffi::PyNumber_FloorDivide, false),
        Op::MOD => (ffi::PyNumber_Remainder, false),
        Op::DIVMOD => (ffi::PyNumber_Divmod, false),
        Op::POW => (power, false),
        Op::LSHIFT => (ffi::PyNumber_Lshift, false),
        Op::RSHIFT => (ffi::PyNumber_Rshift, false),
        Op::AND => (ffi::PyNumber_And, false),
        Op::XOR => (ffi::PyNumber_Xor, false),
        Op::OR => (ffi::PyNumber_Or, false),
        Op::RADD => (ffi::PyNumber_Add, true),
        Op::RSUB => (ffi::PyNumber_Subtract, true),
        Op::RMUL => (ffi::PyNumber_Multiply, true),
        Op::RMATMUL => (ffi::PyNumber_MatrixMultiply, true),
        Op::RTRUEDIV => (ffi::PyNumber_TrueDivide, true),
        Op::RFLOORDIV => (ffi::PyNumber_FloorDivide, true),
        Op::RMOD => (ffi::PyNumber_Remainder, true),
        Op::RDIVMOD => (ffi::PyNumber_Divmod, true),
        Op::RPOW => (power, true),
        Op::RLSHIFT => (ffi::PyNumber_Lshift, true),
        Op::RRSHIFT => (ffi::PyNumber_Rshift, true),
        Op::RAND => (ffi::PyNumber_And, true),
        Op::RXOR => (ffi::PyNumber_Xor, true),
        Op::ROR => (ffi::PyNumber_Or, true),
        Op::IADD => (ffi::PyNumber_InPlaceAdd, false),
        Op::ISUB => (ffi::PyNumber_InPlaceSubtract, false),
        Op::IMUL => (ffi::PyNumber_InPlaceMultiply, false),
        Op::IMATMUL => (ffi::PyNumber_InPlaceMatrixMultiply, false),
        Op::ITRUEDIV => (ffi::PyNumber_InPlaceTrueDivide, false),
        Op::IFLOORDIV => (ffi::PyNumber_InPlaceFloorDivide, false),
        Op::IMOD => (ffi::PyNumber_InPlaceRemainder, false),
        Op::IPOW => (in_place_power, false),
        Op::ILSHIFT => (ffi::PyNumber_InPlaceLshift, false),
        Op::IRSHIFT => (ffi::PyNumber_InPlaceRshift, false),
        Op::IAND => (ffi::PyNumber_InPlaceAnd, false),
        Op::IXOR => (ffi::PyNumber_InPlaceXor, false),
        Op::IOR => (ffi::PyNumber_InPlaceOr, false),
        _ => return None,
    };
    Some((operator, reflected))
}
