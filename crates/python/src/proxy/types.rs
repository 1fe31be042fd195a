//! Proxy types: one per proxied type, with the slots and special methods that this type has.

use std::collections::HashMap;
use std::ffi::{CString, c_int, c_void};
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{PyBaseException, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType, PyWeakrefReference};

use super::object::{ProxyObject, clear_proxy, dealloc_proxy, traverse_proxy};
use super::slots;
use crate::remote::class::statics;

/// Proxy types by the address of the proxied type, with a weak reference that tells whether that
/// address still means the same type.
static TYPES: Mutex<Option<HashMap<usize, (Py<PyAny>, Py<PyType>)>>> = Mutex::new(None);

/// Built-in types whose values are plain: a proxy of one could not be told from a wrong value.
const PLAIN: &[&str] = &["NoneType", "bool", "bytes", "complex", "ellipsis", "float", "int", "str", "NotImplementedType"];

/// Whether objects of `class` can have proxies; the error names the type.
pub(crate) fn proxyable(class: &Bound<'_, PyType>) -> PyResult<()> {
    let module = class.getattr("__module__")?;
    let name = class.qualname()?;
    let plain = module.eq("builtins")? && PLAIN.iter().any(|plain| name == *plain);
    let final_exception = class.is_subclass_of::<PyBaseException>()?;
    let is_metaclass = class.is_subclass_of::<PyType>()?;
    if plain || final_exception || is_metaclass {
        return Err(PyTypeError::new_err(format!("cannot make a proxy of type '{name}'")));
    }
    Ok(())
}

/// The proxy type of `declared`, made when first asked for.
pub(super) fn proxy_type<'py>(declared: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
    let py = declared.py();
    let key = declared.as_ptr() as usize;
    let found = {
        let types = TYPES.lock().unwrap_or_else(PoisonError::into_inner);
        types.as_ref().and_then(|types| types.get(&key)).map(|(weak, class)| (weak.clone_ref(py), class.clone_ref(py)))
    };
    if let Some((weak, class)) = found
        && weak.bind(py).call0()?.is(declared)
    {
        return Ok(class.into_bound(py));
    }
    proxyable(declared)?;
    let class = make(declared)?;
    let weak = PyWeakrefReference::new(declared)?.into_any().unbind();
    let old = {
        let mut types = TYPES.lock().unwrap_or_else(PoisonError::into_inner);
        types.get_or_insert_default().insert(key, (weak, class.clone().unbind()))
    };
    drop(old);
    Ok(class)
}

/// The type of deferred proxies: it has every slot.
pub(super) fn deferred_type<'py>(py: Python<'py>) -> PyResult<Bound<'py, PyType>> {
    static DEFERRED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = DEFERRED.get_or_try_init(py, || {
        make_from(py, "object", 0, &|_| true).map(Bound::unbind)
    })?;
    Ok(class.bind(py).clone())
}

/// Whether `class` has the special method `name`, as the interpreter looks it up.
pub(super) fn has(class: &Bound<'_, PyType>, name: &str) -> bool {
    let name = PyString::intern(class.py(), name);
    statics::lookup(class, name.as_any()).is_ok_and(|found| found.is_some_and(|found| !found.is_none()))
}

fn make<'py>(declared: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
    // SAFETY: a live type; its flags may be read while attached.
    let flags = unsafe { ffi::PyType_GetFlags(declared.as_type_ptr()) };
    let patterns = flags & (ffi::Py_TPFLAGS_SEQUENCE | ffi::Py_TPFLAGS_MAPPING);
    make_from(declared.py(), &declared.name()?.to_string(), patterns, &|name| has(declared, name))
}

fn make_from<'py>(
    py: Python<'py>,
    name: &str,
    patterns: std::ffi::c_ulong,
    has: &dyn Fn(&str) -> bool,
) -> PyResult<Bound<'py, PyType>> {
    let mut table: Vec<ffi::PyType_Slot> = slots::of(has);
    // The method table is read as long as the type lives, and types are few: it is never freed.
    let methods: &'static mut [ffi::PyMethodDef] = slots::methods(has).leak();
    let members: &'static mut [ffi::PyMemberDef] = vec![
        ffi::PyMemberDef {
            name: c"__weaklistoffset__".as_ptr(),
            type_code: ffi::Py_T_PYSSIZET,
            offset: std::mem::offset_of!(ProxyObject, weakrefs).cast_signed(),
            flags: ffi::Py_READONLY,
            doc: std::ptr::null(),
        },
        // SAFETY: all zeros is the end mark of a member table.
        unsafe { std::mem::zeroed() },
    ]
    .leak();
    let mut push = |slot: c_int, pfunc: *mut c_void| table.push(ffi::PyType_Slot { slot, pfunc });
    push(ffi::Py_tp_dealloc, dealloc_proxy as *mut c_void);
    push(ffi::Py_tp_traverse, traverse_proxy as *mut c_void);
    push(ffi::Py_tp_clear, clear_proxy as *mut c_void);
    push(ffi::Py_tp_methods, methods.as_mut_ptr().cast());
    push(ffi::Py_tp_members, members.as_mut_ptr().cast());
    push(0, std::ptr::null_mut());
    // A name without a module is deprecated for a new type; messages show the name alone all the same.
    let dotted = CString::new(format!("objspace.{name}"))?;
    let flags = ffi::Py_TPFLAGS_DEFAULT
        | ffi::Py_TPFLAGS_HAVE_GC
        | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION
        | ffi::Py_TPFLAGS_IMMUTABLETYPE
        | patterns;
    let mut spec = ffi::PyType_Spec {
        name: dotted.as_ptr(),
        basicsize: c_int::try_from(size_of::<ProxyObject>())?,
        itemsize: 0,
        flags: flags as std::ffi::c_uint,
        slots: table.as_mut_ptr(),
    };
    // SAFETY: the spec and its tables are complete and live; the methods and members for ever.
    let class = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&raw mut spec))? };
    // SAFETY: a new heap type of ours; the interpreter frees its own copy of the name by another
    // field, and only reads this one, which stays for ever.
    unsafe { (*class.as_ptr().cast::<ffi::PyTypeObject>()).tp_name = CString::new(name)?.into_raw() };
    Ok(class.cast_into()?)
}
