//! `heapq` over proxies of lists. Its C functions move the items of a list in memory; over a proxy they
//! work on a copy of its contents, which is then written back by `proxy[:] = copy`.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;

use super::{Container, container, contents};
use crate::proxy::object::{Object, Payload, is_proxy};

/// Whether `heapq` is to work on a copy of this.
///
/// # Safety
/// Attached, with a live object.
unsafe fn is_proxied_list(heap: Object) -> bool {
    // SAFETY: as the caller says.
    unsafe {
        is_proxy(heap)
            && !(*Payload::of(heap)).is_deferred()
            && container(heap) == Some(Container::List)
    }
}

/// `work(copy)`, with the copy written back, also after an error: a comparison that raises leaves a
/// real list half sorted too.
///
/// # Safety
/// Attached, with a live proxy of a list.
unsafe fn on_a_copy(proxy: Object, work: impl FnOnce(Object) -> Object) -> Object {
    // SAFETY: as the caller says; the copy and all results are owned here.
    unsafe {
        let copy = contents(proxy, Container::List);
        if copy.is_null() {
            return copy;
        }
        let result = work(copy);
        let error = if result.is_null() {
            PyErr::take(Python::assume_attached())
        } else {
            None
        };
        let all = ffi::PySlice_New(ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        let written = if all.is_null() {
            -1
        } else {
            ffi::PyObject_SetItem(proxy, all, copy)
        };
        ffi::Py_XDECREF(all);
        ffi::Py_DECREF(copy);
        if let Some(error) = error {
            error.restore(Python::assume_attached());
        }
        if written != 0 {
            ffi::Py_XDECREF(result);
            return ptr::null_mut();
        }
        result
    }
}

macro_rules! of_one {
    ($($name:ident)*) => {
        $(
            mod $name {
                use super::*;

                pub(super) static BEFORE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

                pub(super) unsafe extern "C" fn hook(module: Object, heap: Object) -> Object {
                    // SAFETY: called by the interpreter in the place of the function in `BEFORE`.
                    unsafe {
                        let before = BEFORE.load(Ordering::Relaxed);
                        let before = std::mem::transmute::<*mut c_void, ffi::PyCFunction>(before);
                        if is_proxied_list(heap) {
                            return on_a_copy(heap, |copy| before(module, copy));
                        }
                        before(module, heap)
                    }
                }
            }
        )*
    };
}

macro_rules! of_two {
    ($($name:ident)*) => {
        $(
            mod $name {
                use super::*;

                pub(super) static BEFORE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

                pub(super) unsafe extern "C" fn hook(
                    module: Object,
                    args: *mut Object,
                    count: ffi::Py_ssize_t,
                ) -> Object {
                    // SAFETY: called by the interpreter in the place of the function in `BEFORE`,
                    // with as many arguments as `count` says.
                    unsafe {
                        let before = BEFORE.load(Ordering::Relaxed);
                        let before = std::mem::transmute::<*mut c_void, ffi::PyCFunctionFast>(before);
                        if count == 2 && is_proxied_list(*args) {
                            let item = *args.add(1);
                            return on_a_copy(*args, |copy| {
                                let mut values = [copy, item];
                                before(module, values.as_mut_ptr(), count)
                            });
                        }
                        before(module, args, count)
                    }
                }
            }
        )*
    };
}

of_one!(heapify heappop);
of_two!(heappush heappushpop heapreplace);

/// Puts the functions of this module in the place of those of `_heapq`.
pub(super) fn prepare(py: Python<'_>) -> PyResult<()> {
    let Ok(module) = py.import("_heapq") else {
        // Not every Python is built with it; what is written in Python works by itself.
        return Ok(());
    };
    let two = |function| ffi::PyMethodDefPointer {
        PyCFunctionFast: function,
    };
    let one = |function| ffi::PyMethodDefPointer {
        PyCFunction: function,
    };
    let changes: [(&str, c_int, ffi::PyMethodDefPointer, &AtomicPtr<c_void>); 5] = [
        ("heapify", ffi::METH_O, one(heapify::hook), &heapify::BEFORE),
        ("heappop", ffi::METH_O, one(heappop::hook), &heappop::BEFORE),
        (
            "heappush",
            ffi::METH_FASTCALL,
            two(heappush::hook),
            &heappush::BEFORE,
        ),
        (
            "heappushpop",
            ffi::METH_FASTCALL,
            two(heappushpop::hook),
            &heappushpop::BEFORE,
        ),
        (
            "heapreplace",
            ffi::METH_FASTCALL,
            two(heapreplace::hook),
            &heapreplace::BEFORE,
        ),
    ];
    for (name, flags, hook, before) in changes {
        let function = module.getattr(name)?;
        // SAFETY: attached. The definition of a function of a C module is static, and is written with
        // the GIL held; only one of the expected calling convention is replaced.
        unsafe {
            if ffi::Py_TYPE(function.as_ptr()) != &raw mut ffi::PyCFunction_Type {
                continue;
            }
            let definition = (*function.as_ptr().cast::<ffi::PyCFunctionObject>()).m_ml;
            if (*definition).ml_flags == flags {
                before.store(
                    (*definition).ml_meth.PyCFunction as *mut c_void,
                    Ordering::Relaxed,
                );
                (*definition).ml_meth = hook;
            }
        }
    }
    Ok(())
}
