//! Operators of built-in types that look at the memory of their right operand.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::{Class, Container, real_operand};
use crate::proxy::object::{Object, is_proxy};

/// Where a binary operator stands in a type, as a place that can be written.
type Place = unsafe fn(Class) -> *mut Option<ffi::binaryfunc>;

macro_rules! places {
    ($($name:ident: $table:ident . $field:ident;)*) => {
        $(
            unsafe fn $name(class: Class) -> *mut Option<ffi::binaryfunc> {
                // SAFETY: callers are attached, with a live type whose tables live as long.
                unsafe {
                    let table = (*class).$table;
                    if table.is_null() { ptr::null_mut() } else { &raw mut (*table).$field }
                }
            }
        )*
    };
}

places! {
    concat: tp_as_sequence.sq_concat;
    remainder: tp_as_number.nb_remainder;
    in_place_or: tp_as_number.nb_inplace_or;
    in_place_and: tp_as_number.nb_inplace_and;
    in_place_xor: tp_as_number.nb_inplace_xor;
    in_place_subtract: tp_as_number.nb_inplace_subtract;
}

/// Operators that get a look at their right operand: the function put in, and what it goes on to.
macro_rules! hooked {
    ($($name:ident: $wanted:expr;)*) => {
        $(
            mod $name {
                use super::*;

                pub(super) static BEFORE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

                pub(super) unsafe extern "C" fn hook(left: Object, right: Object) -> Object {
                    // SAFETY: called by the interpreter as a slot, after `BEFORE` was set to the
                    // function of that slot.
                    unsafe {
                        let before = BEFORE.load(Ordering::Relaxed);
                        let before = std::mem::transmute::<*mut c_void, ffi::binaryfunc>(before);
                        if !is_proxy(right) {
                            return before(left, right);
                        }
                        let real = real_operand(right, $wanted);
                        if real.is_null() {
                            return ptr::null_mut();
                        }
                        let result = before(left, real);
                        ffi::Py_DECREF(real);
                        result
                    }
                }
            }
        )*
    };
}

hooked! {
    list_concat: &[Container::List];
    tuple_concat: &[Container::Tuple];
    str_remainder: &[Container::Tuple];
    bytes_remainder: &[Container::Tuple];
    bytearray_remainder: &[Container::Tuple];
    set_or: &[Container::Set, Container::Frozenset];
    set_and: &[Container::Set, Container::Frozenset];
    set_xor: &[Container::Set, Container::Frozenset];
    set_subtract: &[Container::Set, Container::Frozenset];
}

pub(super) fn prepare(py: Python<'_>) -> PyResult<()> {
    let list = &raw mut ffi::PyList_Type;
    let tuple = &raw mut ffi::PyTuple_Type;
    let set = &raw mut ffi::PySet_Type;
    let changes: [(Class, &str, Place, ffi::binaryfunc, &AtomicPtr<c_void>); 9] = [
        (
            list,
            "__add__",
            concat,
            list_concat::hook,
            &list_concat::BEFORE,
        ),
        (
            tuple,
            "__add__",
            concat,
            tuple_concat::hook,
            &tuple_concat::BEFORE,
        ),
        (
            &raw mut ffi::PyUnicode_Type,
            "__mod__",
            remainder,
            str_remainder::hook,
            &str_remainder::BEFORE,
        ),
        (
            &raw mut ffi::PyBytes_Type,
            "__mod__",
            remainder,
            bytes_remainder::hook,
            &bytes_remainder::BEFORE,
        ),
        (
            &raw mut ffi::PyByteArray_Type,
            "__mod__",
            remainder,
            bytearray_remainder::hook,
            &bytearray_remainder::BEFORE,
        ),
        (set, "__ior__", in_place_or, set_or::hook, &set_or::BEFORE),
        (
            set,
            "__iand__",
            in_place_and,
            set_and::hook,
            &set_and::BEFORE,
        ),
        (
            set,
            "__ixor__",
            in_place_xor,
            set_xor::hook,
            &set_xor::BEFORE,
        ),
        (
            set,
            "__isub__",
            in_place_subtract,
            set_subtract::hook,
            &set_subtract::BEFORE,
        ),
    ];
    for (class, name, place, hook, before) in changes {
        // SAFETY: attached; static types, whose tables are static too and written with the GIL held.
        unsafe {
            let Some(own) = place(class).as_mut().and_then(|slot| *slot) else {
                continue;
            };
            before.store(own as *mut c_void, Ordering::Relaxed);
            let class = Bound::from_borrowed_ptr(py, class.cast()).cast_into::<PyType>()?;
            replace(&class, place, own, hook)?;
            let wrapper = class.getattr("__dict__")?.get_item(name)?;
            if ffi::Py_TYPE(wrapper.as_ptr()) == &raw mut ffi::PyWrapperDescr_Type {
                let wrapper = wrapper.as_ptr().cast::<ffi::PyWrapperDescrObject>();
                if (*wrapper).d_wrapped == own as *mut c_void {
                    (*wrapper).d_wrapped = hook as *mut c_void;
                }
            }
        }
    }
    Ok(())
}

/// Replaces a slot in a type and in all subclasses that inherited it.
///
/// # Safety
/// Attached; both functions may stand in that slot.
unsafe fn replace(
    class: &Bound<'_, PyType>,
    place: Place,
    own: ffi::binaryfunc,
    hook: ffi::binaryfunc,
) -> PyResult<()> {
    // SAFETY: as the caller says; the type is live.
    unsafe {
        match place(class.as_type_ptr()).as_mut() {
            Some(slot) if slot.is_some_and(|slot| ptr::fn_addr_eq(slot, own)) => *slot = Some(hook),
            _ => return Ok(()),
        }
        let subclasses = class
            .py()
            .get_type::<PyType>()
            .call_method1("__subclasses__", (class,))?;
        for subclass in subclasses.try_iter()? {
            replace(subclass?.cast::<PyType>()?, place, own, hook)?;
        }
    }
    Ok(())
}
