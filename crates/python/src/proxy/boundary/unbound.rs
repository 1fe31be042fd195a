//! Methods called by name of the type, with a proxy as the object: `list.copy(p)`, `dict.items(p)`,
//! `object.__setattr__(p, …)`, `super().__len__()`. They become operations on the proxy.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicIsize, AtomicPtr, Ordering};

use objspace_proto::Op;
use pyo3::ffi;
use pyo3::prelude::*;

use super::Class;
use crate::proxy::object::{Object, Payload, declared_type, is_proxy, operate};
use crate::proxy::perform::{count, not_implemented};
use crate::proxy::{bypass, slots};

pub(super) fn prepare(py: Python<'_>) -> PyResult<()> {
    methods(py)?;
    special_methods(py)
}

/// How C functions take their arguments, as far as CPython tells them apart in a descriptor.
const CONVENTIONS: usize = 6;

static VECTORCALLS: [AtomicPtr<c_void>; CONVENTIONS] =
    [const { AtomicPtr::new(ptr::null_mut()) }; CONVENTIONS];

const HOOKS: [ffi::vectorcallfunc; CONVENTIONS] = [
    call_method::<0>,
    call_method::<1>,
    call_method::<2>,
    call_method::<3>,
    call_method::<4>,
    call_method::<5>,
];

fn convention(flags: c_int) -> Option<usize> {
    let bits = flags
        & (ffi::METH_VARARGS
            | ffi::METH_FASTCALL
            | ffi::METH_NOARGS
            | ffi::METH_O
            | ffi::METH_KEYWORDS
            | ffi::METH_METHOD);
    [
        ffi::METH_VARARGS,
        ffi::METH_VARARGS | ffi::METH_KEYWORDS,
        ffi::METH_FASTCALL,
        ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ffi::METH_NOARGS,
        ffi::METH_O,
    ]
    .iter()
    .position(|known| *known == bits)
}

fn methods(py: Python<'_>) -> PyResult<()> {
    let classes: [Class; 7] = [
        &raw mut ffi::PyBaseObject_Type,
        &raw mut ffi::PyByteArray_Type,
        &raw mut ffi::PyDict_Type,
        &raw mut ffi::PyFrozenSet_Type,
        &raw mut ffi::PyList_Type,
        &raw mut ffi::PySet_Type,
        &raw mut ffi::PyTuple_Type,
    ];
    for class in classes {
        // SAFETY: attached; static types. A descriptor's fields are those of a public header, and it
        // is written with the GIL held. Descriptors of one calling convention share one function.
        unsafe {
            let class = Bound::from_borrowed_ptr(py, class.cast());
            for value in class
                .getattr("__dict__")?
                .call_method0("values")?
                .try_iter()?
            {
                let value = value?;
                if ffi::Py_TYPE(value.as_ptr()) != &raw mut ffi::PyMethodDescr_Type {
                    continue;
                }
                let descriptor = value.as_ptr().cast::<ffi::PyMethodDescrObject>();
                let Some(index) = convention((*(*descriptor).d_method).ml_flags) else {
                    continue;
                };
                let (Some(own), Some(before), Some(hook)) = (
                    (*descriptor).vectorcall,
                    VECTORCALLS.get(index),
                    HOOKS.get(index),
                ) else {
                    continue;
                };
                let own = own as *mut c_void;
                let known = before.load(Ordering::Relaxed);
                if known.is_null() || ptr::eq(known, own) {
                    before.store(own, Ordering::Relaxed);
                    (*descriptor).vectorcall = Some(*hook);
                }
            }
        }
    }
    Ok(())
}

unsafe extern "C" fn call_method<const CONVENTION: usize>(
    descriptor: Object,
    args: *const Object,
    flags: usize,
    kwnames: Object,
) -> Object {
    // SAFETY: called by the interpreter as the vectorcall of a method descriptor, after the function
    // of that calling convention was remembered.
    unsafe {
        let positional = ffi::PyVectorcall_NARGS(flags).cast_unsigned();
        if positional > 0 && is_proxy(*args) {
            let rest = std::slice::from_raw_parts(args.add(1), positional - 1 + count(kwnames));
            if let Some(result) = unbound(descriptor, *args, rest, kwnames) {
                return result;
            }
        }
        let before = VECTORCALLS
            .get(CONVENTION)
            .map_or(ptr::null_mut(), |own| own.load(Ordering::Relaxed));
        let before = std::mem::transmute::<*mut c_void, ffi::vectorcallfunc>(before);
        before(descriptor, args, flags, kwnames)
    }
}

/// `descriptor(proxy, *rest)` as an operation on the proxy, if that is what its type would do;
/// `None` if the descriptor is to see the proxy itself, which for a built-in type is an error.
///
/// # Safety
/// Attached, with live objects; `descriptor` is one of a method or of a slot.
unsafe fn unbound(
    descriptor: Object,
    proxy: Object,
    rest: &[Object],
    kwnames: Object,
) -> Option<Object> {
    // SAFETY: as the caller says. Both kinds of descriptor begin with the fields read here.
    unsafe {
        let common = descriptor.cast::<ffi::PyDescrObject>();
        let (class, name) = ((*common).d_type, (*common).d_name);
        let declared = declared_type(proxy);
        if declared.is_null() {
            return Some(ptr::null_mut());
        }
        let of_object = ptr::eq(class, &raw mut ffi::PyBaseObject_Type);
        let text = ffi::PyUnicode_AsUTF8(name);
        let text = if text.is_null() {
            ""
        } else {
            CStr::from_ptr(text).to_str().unwrap_or("")
        };
        let result = match (text, rest) {
            // What `super().__setattr__` of a class ends in: a proxy has no other attributes.
            ("__getattribute__" | "__setattr__" | "__delattr__", _)
                if of_object && kwnames.is_null() && rest.len() == attribute_arguments(text) =>
            {
                let operation = || match (text, rest) {
                    ("__getattribute__", &[name]) => slots::get_attribute(proxy, name),
                    ("__delattr__", &[name]) => {
                        none(slots::set_attribute(proxy, name, ptr::null_mut()))
                    }
                    (_, &[name, value]) => none(slots::set_attribute(proxy, name, value)),
                    _ => not_implemented(),
                };
                Some(if is_method(declared, name, descriptor) {
                    operation()
                } else {
                    bypass::around(proxy, operation)
                })
            }
            _ if ffi::PyType_IsSubtype(declared.cast(), class) == 0 => None,
            _ => {
                // Only if the method is not overridden between here and the proxied type.
                is_method(declared, name, descriptor)
                    .then(|| forward(proxy, text, name, rest, kwnames))
            }
        };
        ffi::Py_DECREF(declared);
        result
    }
}

/// How many arguments a method of attributes takes: a name, and what is assigned.
fn attribute_arguments(method: &str) -> usize {
    if method == "__setattr__" { 2 } else { 1 }
}
/// Whether `descriptor` is what `declared` has by that name.
///
/// # Safety
/// Attached, with live objects; `declared` is a type.
unsafe fn is_method(declared: Object, name: Object, descriptor: Object) -> bool {
    // SAFETY: as the caller says; what is found is owned here.
    unsafe {
        let kind = &raw mut ffi::PyType_Type;
        let found = match (*kind).tp_getattro {
            Some(get) => get(declared, name),
            None => ptr::null_mut(),
        };
        if found.is_null() {
            ffi::PyErr_Clear();
        }
        let same = ptr::eq(found, descriptor);
        ffi::Py_XDECREF(found);
        same
    }
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

/// The operation of that name, or the method that the proxy has by that name, called.
unsafe fn forward(
    proxy: Object,
    text: &str,
    name: Object,
    rest: &[Object],
    kwnames: Object,
) -> Object {
    // SAFETY: callers are attached, with live objects.
    unsafe {
        match Op::from_name(text) {
            Some(op) if (*Payload::of(proxy)).has(op) => operate(proxy, op, rest, kwnames),
            _ => {
                let method = ffi::PyObject_GetAttr(proxy, name);
                if method.is_null() {
                    return method;
                }
                let result = ffi::PyObject_Vectorcall(
                    method,
                    rest.as_ptr(),
                    rest.len() - count(kwnames),
                    kwnames,
                );
                ffi::Py_DECREF(method);
                result
            }
        }
    }
}

// ------------------------------------------------------------------ special methods of slots

static WRAPPER_CALL: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static BOUND_WRAPPER_CALL: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
/// Where a bound slot wrapper keeps its object, as its own table of members says.
static BOUND_SELF: AtomicIsize = AtomicIsize::new(0);

fn special_methods(py: Python<'_>) -> PyResult<()> {
    // SAFETY: attached; static types whose slots are written with the GIL held.
    unsafe {
        let class = &raw mut ffi::PyWrapperDescr_Type;
        if let Some(call) = (*class).tp_call {
            WRAPPER_CALL.store(call as *mut c_void, Ordering::Relaxed);
            (*class).tp_call = Some(call_wrapper);
        }
        let bound = py.None().bind(py).getattr("__str__")?;
        let class = ffi::Py_TYPE(bound.as_ptr());
        let mut member = (*class).tp_members;
        while !member.is_null() && !(*member).name.is_null() {
            if CStr::from_ptr((*member).name) == c"__self__" {
                BOUND_SELF.store((*member).offset, Ordering::Relaxed);
            }
            member = member.add(1);
        }
        if BOUND_SELF.load(Ordering::Relaxed) > 0
            && let Some(call) = (*class).tp_call
        {
            BOUND_WRAPPER_CALL.store(call as *mut c_void, Ordering::Relaxed);
            (*class).tp_call = Some(call_bound_wrapper);
        }
    }
    Ok(())
}

unsafe fn is_empty(kwargs: Object) -> bool {
    // SAFETY: callers pass a dict or null.
    kwargs.is_null() || unsafe { ffi::PyDict_Size(kwargs) } == 0
}

unsafe extern "C" fn call_wrapper(descriptor: Object, args: Object, kwargs: Object) -> Object {
    // SAFETY: called by the interpreter as `tp_call` of a slot wrapper: a tuple, and a dict or null.
    unsafe {
        let size = ffi::PyTuple_GET_SIZE(args);
        if size > 0 {
            let proxy = ffi::PyTuple_GET_ITEM(args, 0);
            if is_proxy(proxy) && is_empty(kwargs) {
                let rest: Vec<_> = (1..size)
                    .map(|index| ffi::PyTuple_GET_ITEM(args, index))
                    .collect();
                if let Some(result) = unbound(descriptor, proxy, &rest, ptr::null_mut()) {
                    return result;
                }
            }
        }
        let before = WRAPPER_CALL.load(Ordering::Relaxed);
        std::mem::transmute::<*mut c_void, ffi::ternaryfunc>(before)(descriptor, args, kwargs)
    }
}

unsafe extern "C" fn call_bound_wrapper(wrapper: Object, args: Object, kwargs: Object) -> Object {
    // SAFETY: called by the interpreter as `tp_call` of a bound slot wrapper, whose own table of
    // members says where its object is.
    unsafe {
        let proxy = *wrapper
            .byte_offset(BOUND_SELF.load(Ordering::Relaxed))
            .cast::<Object>();
        if !proxy.is_null() && is_proxy(proxy) && is_empty(kwargs) {
            let rest: Vec<_> = (0..ffi::PyTuple_GET_SIZE(args))
                .map(|index| ffi::PyTuple_GET_ITEM(args, index))
                .collect();
            let descriptor = descriptor_of(wrapper);
            if descriptor.is_null() {
                return descriptor;
            }
            let result = unbound(descriptor, proxy, &rest, ptr::null_mut());
            ffi::Py_DECREF(descriptor);
            if let Some(result) = result {
                return result;
            }
        }
        let before = BOUND_WRAPPER_CALL.load(Ordering::Relaxed);
        std::mem::transmute::<*mut c_void, ffi::ternaryfunc>(before)(wrapper, args, kwargs)
    }
}

/// The descriptor that a bound slot wrapper came from; a new reference or null with an error set.
unsafe fn descriptor_of(wrapper: Object) -> Object {
    // SAFETY: callers are attached, with a live wrapper; all results are owned here.
    unsafe {
        let class = ffi::PyObject_GetAttrString(wrapper, c"__objclass__".as_ptr());
        let name = ffi::PyObject_GetAttrString(wrapper, c"__name__".as_ptr());
        let kind = &raw mut ffi::PyType_Type;
        let found = match (*kind).tp_getattro {
            Some(get) if !class.is_null() && !name.is_null() => get(class, name),
            _ => ptr::null_mut(),
        };
        ffi::Py_XDECREF(class);
        ffi::Py_XDECREF(name);
        if !found.is_null() && ffi::Py_TYPE(found) != &raw mut ffi::PyWrapperDescr_Type {
            ffi::Py_DECREF(found);
            ffi::PyErr_SetString(
                ffi::PyExc_TypeError,
                c"the method of a proxy's type was replaced".as_ptr(),
            );
            return ptr::null_mut();
        }
        found
    }
}
