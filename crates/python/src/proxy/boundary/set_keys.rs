//! A proxy of a set as a key of a set: the interpreter looks for a frozenset of its contents.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use objspace_proto::Op;
use pyo3::ffi;
use pyo3::prelude::*;

use super::{Class, Container, container, contents};
use crate::proxy::object::{Object, Payload, is_proxy, settled};

/// Functions of sets that take a key: the function put in, and what it goes on to.
macro_rules! keyed {
    ($($name:ident: $result:ty, $error:expr;)*) => {
        $(
            mod $name {
                use super::*;

                pub(super) static BEFORE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

                pub(super) unsafe extern "C" fn hook(set: Object, key: Object) -> $result {
                    // SAFETY: called by the interpreter in the place of the function in `BEFORE`,
                    // which has this type.
                    unsafe {
                        let before = std::mem::transmute::<
                            *mut c_void,
                            unsafe extern "C" fn(Object, Object) -> $result,
                        >(BEFORE.load(Ordering::Relaxed));
                        if !is_proxy(key) {
                            return before(set, key);
                        }
                        let real = real_key(key);
                        if real.is_null() {
                            return $error;
                        }
                        let result = before(set, real);
                        ffi::Py_DECREF(real);
                        let error = ffi::PyErr_Occurred();
                        if !error.is_null() && error == ffi::PyExc_KeyError {
                            // It names the key that was asked for.
                            ffi::PyErr_SetObject(error, key);
                        }
                        result
                    }
                }
            }
        )*
    };
}

keyed! {
    contained: c_int, -1;
    set_contains: Object, ptr::null_mut();
    set_remove: Object, ptr::null_mut();
    set_discard: Object, ptr::null_mut();
    frozenset_contains: Object, ptr::null_mut();
}

/// A key in the place of `key`; a new reference, or null with an error set.
unsafe fn real_key(key: Object) -> Object {
    // SAFETY: callers are attached, with a live proxy.
    unsafe {
        let key = settled(key);
        if key.is_null() || !is_proxy(key) || (*Payload::of(key)).is_deferred() {
            return key;
        }
        if container(key) != Some(Container::Set) || (*Payload::of(key)).has(Op::HASH) {
            return key;
        }
        let real = contents(key, Container::Frozenset);
        ffi::Py_DECREF(key);
        real
    }
}

pub(super) fn prepare(py: Python<'_>) -> PyResult<()> {
    let (set, frozenset) = (&raw mut ffi::PySet_Type, &raw mut ffi::PyFrozenSet_Type);
    let methods: [(Class, &str, ffi::PyCFunction, &AtomicPtr<c_void>); 4] = [
        (
            set,
            "__contains__",
            set_contains::hook,
            &set_contains::BEFORE,
        ),
        (set, "remove", set_remove::hook, &set_remove::BEFORE),
        (set, "discard", set_discard::hook, &set_discard::BEFORE),
        (
            frozenset,
            "__contains__",
            frozenset_contains::hook,
            &frozenset_contains::BEFORE,
        ),
    ];
    // SAFETY: attached; static types, whose tables and method definitions are static too and written
    // with the GIL held. Only methods of one argument are replaced.
    unsafe {
        for (class, name, hook, before) in methods {
            let class = Bound::from_borrowed_ptr(py, class.cast());
            let method = class.getattr("__dict__")?.get_item(name)?;
            if ffi::Py_TYPE(method.as_ptr()) != &raw mut ffi::PyMethodDescr_Type {
                continue;
            }
            let definition = (*method.as_ptr().cast::<ffi::PyMethodDescrObject>()).d_method;
            if (*definition).ml_flags & ffi::METH_O != 0 {
                before.store(
                    (*definition).ml_meth.PyCFunction as *mut c_void,
                    Ordering::Relaxed,
                );
                (*definition).ml_meth = ffi::PyMethodDefPointer { PyCFunction: hook };
            }
        }
        for class in [set, frozenset] {
            let table = (*class).tp_as_sequence;
            let Some(own) = (*table).sq_contains else {
                continue;
            };
            // Both types may share one table.
            if ptr::fn_addr_eq(own, contained::hook as ffi::objobjproc) {
                continue;
            }
            contained::BEFORE.store(own as *mut c_void, Ordering::Relaxed);
            (*table).sq_contains = Some(contained::hook);
        }
    }
    Ok(())
}
