//! `object.__setattr__(p, name, value)` and its like, where the class of `p` has a method of its own in
//! that place: what frozen dataclasses and methods of attributes themselves use to get around it.
//!
//! It reaches the controller as the operation `__setattr__`, as there is no other. But where that is
//! delegated, the object's own method would be run, once more or instead. So the proxy is marked for
//! the moment between this call and its controller, and the mark goes along with the operation.

use std::cell::Cell;
use std::ptr;

use objspace_proto::Op;
use pyo3::ffi;

use super::object::{Object, is_proxy};
use super::perform::perform;
use super::table::opname;

thread_local! {
    /// The proxy whose next operation goes around the methods of its class. Only compared.
    static MARKED: Cell<Object> = const { Cell::new(ptr::null_mut()) };
}

/// Runs one operation on `proxy`, which goes around the methods of its class.
pub(super) fn around<T>(proxy: Object, operation: impl FnOnce() -> T) -> T {
    MARKED.set(proxy);
    let result = operation();
    MARKED.set(ptr::null_mut());
    result
}

/// Whether the operation that begins on `proxy` is such a one: asked first thing, once.
#[inline]
pub(super) fn taken(proxy: Object, op: Op) -> bool {
    let marked = MARKED.get();
    if marked.is_null() {
        return false;
    }
    MARKED.set(ptr::null_mut());
    ptr::eq(marked, proxy) && matches!(op, Op::GETATTR | Op::SETATTR | Op::DELATTR)
}

/// Performs the operation on the object behind a proxy, around the methods of its class.
///
/// # Safety
/// As of [`perform`].
pub(super) unsafe fn perform_around(target: Object, op: Op, args: &[Object]) -> Object {
    // SAFETY: as the caller says; the method is owned here. It refuses what it is not for.
    unsafe {
        if is_proxy(target) {
            return around(target, || perform(target, op, args, ptr::null_mut()));
        }
        let object = (&raw mut ffi::PyBaseObject_Type).cast();
        let method = ffi::PyObject_GetAttr(object, opname(op));
        if method.is_null() {
            return method;
        }
        let mut values = Vec::with_capacity(args.len() + 1);
        values.push(target);
        values.extend_from_slice(args);
        let result =
            ffi::PyObject_Vectorcall(method, values.as_ptr(), values.len(), ptr::null_mut());
        ffi::Py_DECREF(method);
        result
    }
}
