//! The hidden metaclasses of classes built here.
//!
//! One of them, `Remote`, stands for `type` and for `ABCMeta`: it derives from `ABCMeta`, so that a
//! remote class and a local abstract one can be bases of one class. Enums have their own, and so has
//! every metaclass of a user's (itself a class that came over). All leave `tp_new` as `type` has it,
//! except that of enums.
//!
//! A class is *remote* if its own dict holds a [`Record`] under [`KEY`]; local subclasses have the
//! hidden metaclass too, but no record of their own.
use std::cell::RefCell;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyTypeInfo, PyVisit, intern};

use super::attribute::RemoteAttribute;
use super::{flag, shape, statics};

/// Where a remote class keeps its record.
pub(super) const KEY: &str = "__objspace_class__";

/// What a class built here knows about itself.
#[pyclass(module = "objspace", frozen)]
pub(super) struct Record {
    pub(super) access: Py<PyAny>,
    pub(super) visible: Py<PyType>,
    pub(super) flags: u32,
    pub(super) description: Py<PyTuple>,
    /// If the class is a metaclass: the hidden one for its classes.
    pub(super) hidden: OnceLock<Py<PyType>>,
}

#[pymethods]
impl Record {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.access)?;
        visit.call(&self.visible)?;
        visit.call(&self.description)?;
        self.hidden
            .get()
            .map_or(Ok(()), |hidden| visit.call(hidden))
    }
}

/// The record of a class that was itself built here.
pub(super) fn record<'py>(class: &Bound<'py, PyType>) -> Option<Bound<'py, Record>> {
    if !statics::is_heap(class) {
        return None;
    }
    let found = statics::dict(class)
        .ok()?
        .get_item(intern!(class.py(), "__objspace_class__"))
        .ok()??;
    found.cast_into_exact::<Record>().ok()
}

/// The record of a class or of its nearest base that was built here.
fn nearest<'py>(class: &Bound<'py, PyType>) -> Option<Bound<'py, Record>> {
    class
        .mro()
        .iter()
        .find_map(|base| record(base.cast::<PyType>().ok()?))
}

/// The `access` of a class that was built here; `None` for any other class, subclasses included.
pub(super) fn access_of<'py>(class: &Bound<'py, PyType>) -> Option<Bound<'py, PyAny>> {
    record(class).map(|record| record.get().access.bind(class.py()).clone())
}

/// Whether a class was itself built here.
pub(crate) fn is_remote(class: &Bound<'_, PyType>) -> bool {
    record(class).is_some()
}

/// A fact about a remote class that its objects' attribute of that name is bound to be: what
/// `dataclasses` and `match` read from instances, by identity of its parts. A proxy answers these
/// names from here; asked for over there, they would be other objects than this process knows.
pub(crate) fn fact<'py>(class: &Bound<'py, PyType>, name: &str) -> Option<Bound<'py, PyAny>> {
    if !matches!(
        name,
        "__dataclass_fields__" | "__dataclass_params__" | "__match_args__"
    ) {
        return None;
    }
    nearest(class)?;
    statics::lookup(class, PyString::new(class.py(), name).as_any()).ok()?
}

/// The metaclass to show for a class whose true one is hidden; `None` for any other class.
pub(crate) fn visible_metaclass<'py>(class: &Bound<'py, PyType>) -> Option<Bound<'py, PyType>> {
    let py = class.py();
    if let Some(record) = record(class) {
        return Some(record.get().visible.bind(py).clone());
    }
    let hidden = remote(py).ok()?;
    if !is_subtype(&statics::true_type(class.as_any()), &hidden) {
        return None;
    }
    // The most derived of what the bases show, as Python would pick it.
    let mut best = PyType::type_object(py);
    for base in class.bases() {
        let base = base.cast_into::<PyType>().ok()?;
        let shown = visible_metaclass(&base).unwrap_or_else(|| statics::true_type(base.as_any()));
        if is_subtype(&shown, &best) {
            best = shown;
        }
    }
    Some(best)
}

fn is_subtype(class: &Bound<'_, PyType>, of: &Bound<'_, PyType>) -> bool {
    // SAFETY: two live types.
    unsafe { ffi::PyType_IsSubtype(class.as_type_ptr(), of.as_type_ptr()) != 0 }
}

pub(super) fn abc_meta(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    static ABC: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    ABC.import(py, "abc", "ABCMeta").cloned()
}

pub(super) fn enum_meta(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    static ENUM: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    ENUM.import(py, "enum", "EnumType").cloned()
}

/// The hidden metaclass for classes whose metaclass is `visible`.
pub(super) fn hidden<'py>(visible: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
    let py = visible.py();
    if visible.is(PyType::type_object(py)) || visible.is(abc_meta(py)?) {
        return remote(py);
    }
    if visible.is(enum_meta(py)?) {
        return remote_enum(py);
    }
    // Another metaclass, made visible by deriving from it. One that came over keeps its hidden one
    // itself; the few of this process are kept for good.
    static OTHERS: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let make = || -> PyResult<Py<PyType>> {
        let first = if is_subtype(visible, &enum_meta(py)?) {
            remote_enum(py)?
        } else {
            remote(py)?
        };
        let bases = PyTuple::new(py, [first, visible.clone()])?;
        let dict = PyDict::new(py);
        dict.set_item("__module__", "builtins")?;
        let meta = statics::true_type(visible.as_any());
        quietly(&meta, &visible.name()?.to_string_lossy(), &bases, &dict).map(Bound::unbind)
    };
    if let Some(record) = record(visible) {
        let slot = &record.get().hidden;
        if let Some(made) = slot.get() {
            return Ok(made.bind(py).clone());
        }
        let made = make()?;
        return Ok(slot.get_or_init(|| made).bind(py).clone());
    }
    let others = OTHERS.get_or_init(py, || PyDict::new(py).unbind()).bind(py);
    if let Some(found) = others.get_item(visible)? {
        return Ok(found.cast_into::<PyType>()?);
    }
    let made = make()?.into_bound(py);
    others.set_item(visible, &made)?;
    Ok(made)
}

/// Makes a class by `type.__new__` alone: no `__init_subclass__` of any base runs.
///
/// # Errors
/// Those of `type.__new__` (layouts that do not fit).
pub(super) fn quietly<'py>(
    meta: &Bound<'py, PyType>,
    name: &str,
    bases: &Bound<'py, PyTuple>,
    dict: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyType>> {
    let py = meta.py();
    let name_of_hook = intern!(py, "__init_subclass__").as_any();
    let silent = statics::lookup(&py.get_type::<PyAny>(), name_of_hook)?;
    let mut loud = false;
    for base in bases {
        let found = statics::lookup(&base.cast_into::<PyType>()?, name_of_hook)?;
        loud |= !found.is_none_or(|found| silent.as_ref().is_some_and(|silent| found.is(silent)));
    }
    if !loud {
        return type_new(meta, name, bases, dict);
    }
    // A metaclass that puts a silent class right after the new one in its order, for as long as it
    // takes to make it.
    static MUTE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let order = MUTE.get_or_try_init(py, || {
        py.import("objspace._stubs")?
            .getattr("quiet_order")
            .map(Bound::unbind)
    })?;
    let muted = PyDict::new(py);
    muted.set_item("mro", order)?;
    let muted = type_new(
        &statics::true_type(meta.as_any()),
        &meta.name()?.to_string_lossy(),
        &PyTuple::new(py, [meta])?,
        &muted,
    )?;
    let class = type_new(&muted, name, bases, dict)?;
    let object = py.get_type::<PyAny>();
    statics::own(&object, "__class__")?
        .ok_or_else(|| PyTypeError::new_err("object has no __class__"))?
        .call_method1("__set__", (&class, meta))?;
    statics::own(&PyType::type_object(py), "__bases__")?
        .ok_or_else(|| PyTypeError::new_err("type has no __bases__"))?
        .call_method1("__set__", (&class, bases))?;
    Ok(class)
}

fn type_new<'py>(
    meta: &Bound<'py, PyType>,
    name: &str,
    bases: &Bound<'py, PyTuple>,
    dict: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyType>> {
    let py = meta.py();
    let arguments = (name, bases, dict).into_pyobject(py)?;
    // SAFETY: `type` itself has a `tp_new`; called as `type.__new__(meta, name, bases, dict)`.
    let made = unsafe {
        let Some(new) = (*ptr::addr_of!(ffi::PyType_Type)).tp_new else {
            return Err(PyTypeError::new_err("type cannot be instantiated"));
        };
        Bound::from_owned_ptr_or_err(
            py,
            new(meta.as_type_ptr(), arguments.as_ptr(), ptr::null_mut()),
        )
    }?;
    Ok(made.cast_into::<PyType>()?)
}

/// Makes an instance of `class` as `class.__new__(class, *args, **kwargs)` should, where a remote
/// base defines `__new__`.
pub(super) fn make<'py>(
    class: &Bound<'py, PyType>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    if let Some(record) = record(class) {
        return ask(
            record.get().access.bind(py),
            "new",
            &py.None().into_bound(py),
            args,
            kwargs,
        );
    }
    let mut owner = class.qualname()?;
    for base in class.mro() {
        let base = base.cast_into::<PyType>()?;
        if record(&base).is_some() && statics::dict(&base)?.contains("__new__")? {
            owner = base.qualname()?;
            break;
        }
    }
    Err(PyTypeError::new_err(format!(
        "cannot make an object of the local class '{}': its remote base '{}' defines __new__, which makes objects in \
         the other process only; call '{}' itself, or wrap what it makes",
        class.qualname()?.to_string_lossy(),
        owner.to_string_lossy(),
        owner.to_string_lossy(),
    )))
}

/// `access(operation, name, *args, **kwargs)`.
pub(super) fn ask<'py>(
    access: &Bound<'py, PyAny>,
    operation: &str,
    name: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = access.py();
    let mut all = Vec::with_capacity(args.len() + 2);
    all.push(PyString::intern(py, operation).into_any());
    all.push(name.clone());
    all.extend(args.iter());
    access.call(PyTuple::new(py, all)?, kwargs)
}

// ---- the hidden metaclass itself -------------------------------------------------------------

/// The hidden metaclass of plain and of abstract classes.
pub(super) fn remote(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    static REMOTE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    REMOTE
        .get_or_try_init(py, || {
            // SAFETY: reading a field of `type`, which is ready.
            let new = unsafe { (*ptr::addr_of!(ffi::PyType_Type)).tp_new };
            let methods = vec![
                method(c"__dir__", list_names, ffi::METH_NOARGS),
                method(c"__instancecheck__", check_instance, ffi::METH_O),
                method(c"__subclasscheck__", check_subclass, ffi::METH_O),
            ];
            let slots = vec![
                slot(
                    ffi::Py_tp_new,
                    new.map_or(ptr::null_mut(), |new| new as *mut c_void),
                ),
                slot(ffi::Py_tp_init, init as *mut c_void),
                slot(ffi::Py_tp_call, call as *mut c_void),
                slot(ffi::Py_tp_getattro, getattro as *mut c_void),
                slot(ffi::Py_tp_setattro, setattro as *mut c_void),
            ];
            let bases = PyTuple::new(py, [abc_meta(py)?])?;
            from_spec(c"builtins.type", slots, methods, Vec::new(), &bases).map(Bound::unbind)
        })
        .map(|found| found.bind(py).clone())
}

/// The hidden metaclass of enums: what an enum class can do is done over there.
fn remote_enum(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    static REMOTE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    REMOTE
        .get_or_try_init(py, || {
            let methods = vec![method(c"__reversed__", enum_reversed, ffi::METH_NOARGS)];
            let members = vec![ffi::PyGetSetDef {
                name: c"__members__".as_ptr(),
                get: Some(enum_members),
                set: None,
                doc: ptr::null(),
                closure: ptr::null_mut(),
            }];
            let slots = vec![
                slot(ffi::Py_tp_new, enum_new as *mut c_void),
                slot(ffi::Py_tp_iter, enum_iter as *mut c_void),
                slot(ffi::Py_mp_length, enum_len as *mut c_void),
                slot(ffi::Py_mp_subscript, enum_item as *mut c_void),
                slot(ffi::Py_sq_contains, enum_contains as *mut c_void),
            ];
            let bases = PyTuple::new(py, [remote(py)?, enum_meta(py)?])?;
            from_spec(c"enum.EnumType", slots, methods, members, &bases).map(Bound::unbind)
        })
        .map(|found| found.bind(py).clone())
}

fn slot(slot: c_int, pfunc: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot { slot, pfunc }
}

fn method(name: &'static CStr, function: ffi::PyCFunction, flags: c_int) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunction: function,
        },
        ml_flags: flags,
        ml_doc: ptr::null(),
    }
}

/// A heap type of C. Its tables live as long as the process: so do the two that are made.
fn from_spec<'py>(
    name: &'static CStr,
    mut slots: Vec<ffi::PyType_Slot>,
    mut methods: Vec<ffi::PyMethodDef>,
    mut members: Vec<ffi::PyGetSetDef>,
    bases: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyType>> {
    let py = bases.py();
    methods.push(ffi::PyMethodDef::zeroed());
    slots.push(slot(
        ffi::Py_tp_methods,
        Box::leak(methods.into_boxed_slice()).as_mut_ptr().cast(),
    ));
    if !members.is_empty() {
        members.push(ffi::PyGetSetDef {
            name: ptr::null(),
            get: None,
            set: None,
            doc: ptr::null(),
            closure: ptr::null_mut(),
        });
        slots.push(slot(
            ffi::Py_tp_getset,
            Box::leak(members.into_boxed_slice()).as_mut_ptr().cast(),
        ));
    }
    slots.push(slot(0, ptr::null_mut()));
    let mut spec = ffi::PyType_Spec {
        name: name.as_ptr(),
        // Both sizes are the base's.
        basicsize: 0,
        itemsize: 0,
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the field is narrower than the constants"
        )]
        flags: (ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_BASETYPE) as u32,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the spec is well formed; its tables of methods are leaked, the others are copied.
    let made = unsafe {
        Bound::from_owned_ptr_or_err(
            py,
            ffi::PyType_FromSpecWithBases(&raw mut spec, bases.as_ptr()),
        )
    }?;
    Ok(made.cast_into::<PyType>()?)
}

/// Runs the body of a slot.
///
/// # Safety
/// Called by the interpreter, with this thread attached.
unsafe fn slot_body<R>(failed: R, body: impl for<'py> FnOnce(Python<'py>) -> PyResult<R>) -> R {
    Python::attach(|py| {
        body(py).unwrap_or_else(|error| {
            error.restore(py);
            failed
        })
    })
}

/// A borrowed argument of a slot.
///
/// # Safety
/// `object` is a live object.
unsafe fn any<'py>(py: Python<'py>, object: *mut ffi::PyObject) -> Bound<'py, PyAny> {
    // SAFETY: by the contract of this function.
    unsafe { Bound::from_borrowed_ptr(py, object) }
}

/// The class that a slot of a metaclass was called for.
///
/// # Safety
/// `object` is a live class.
unsafe fn class<'py>(py: Python<'py>, object: *mut ffi::PyObject) -> PyResult<Bound<'py, PyType>> {
    // SAFETY: by the contract of this function.
    Ok(unsafe { any(py, object) }.cast_into::<PyType>()?)
}

/// The text of an attribute's name, if it is a string.
///
/// # Safety
/// `name` is a live object.
unsafe fn text<'a>(name: *mut ffi::PyObject) -> &'a str {
    let mut length = 0;
    // SAFETY: the text lives as long as the string, which the caller holds.
    unsafe {
        if ffi::PyUnicode_Check(name) == 0 {
            return "";
        }
        let data = ffi::PyUnicode_AsUTF8AndSize(name, &raw mut length);
        if data.is_null() {
            ffi::PyErr_Clear();
            return "";
        }
        let bytes =
            std::slice::from_raw_parts(data.cast::<u8>(), usize::try_from(length).unwrap_or(0));
        std::str::from_utf8(bytes).unwrap_or("")
    }
}

fn is_dunder(name: &str) -> bool {
    name.len() > 4 && name.starts_with("__") && name.ends_with("__")
}

/// What `ABCMeta` adds to its classes; only abstract classes may show it.
const ABC_NAMES: [&str; 4] = [
    "register",
    "_dump_registry",
    "_abc_registry_clear",
    "_abc_caches_clear",
];

/// Names that the standard library looks for on any class, in vain: not worth a message.
const PROBED: [&str; 4] = ["_abc_impl", "_fields", "_is_protocol", "_partialmethod"];

unsafe extern "C" fn getattro(
    object: *mut ffi::PyObject,
    name: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a class and a name.
    unsafe {
        let wanted = text(name);
        if wanted == "__class__" {
            return slot_body(ptr::null_mut(), |py| {
                let class = class(py, object)?;
                let shown =
                    visible_metaclass(&class).unwrap_or_else(|| statics::true_type(class.as_any()));
                Ok(shown.into_any().into_ptr())
            });
        }
        if ABC_NAMES.contains(&wanted) {
            return slot_body(ptr::null_mut(), |py| {
                abc_attribute(&class(py, object)?, &any(py, name)).map(Bound::into_ptr)
            });
        }
        let Some(usual) = (*ptr::addr_of!(ffi::PyType_Type)).tp_getattro else {
            return ptr::null_mut();
        };
        let found = usual(object, name);
        if !found.is_null()
            || is_dunder(wanted)
            || PROBED.contains(&wanted)
            || ffi::PyErr_ExceptionMatches(ffi::PyExc_AttributeError) == 0
        {
            return found;
        }
        slot_body(ptr::null_mut(), |py| {
            let error = PyErr::fetch(py);
            ask_for(&class(py, object)?, &any(py, name), error).map(Bound::into_ptr)
        })
    }
}

/// An attribute that no dict here has: the other side may have got it since.
fn ask_for<'py>(
    class: &Bound<'py, PyType>,
    name: &Bound<'py, PyAny>,
    error: PyErr,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let Some(record) = nearest(class) else {
        return Err(error);
    };
    let answer = record
        .get()
        .access
        .bind(py)
        .call1((intern!(py, "get"), name));
    answer.map_err(|other| {
        if other.is_instance_of::<PyAttributeError>(py) {
            error
        } else {
            other
        }
    })
}

fn abc_attribute<'py>(
    class: &Bound<'py, PyType>,
    name: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let own = statics::lookup(class, name)?.is_some();
    let local = record(class).is_none()
        && visible_metaclass(class)
            .is_some_and(|shown| abc_meta(py).is_ok_and(|abc| is_subtype(&shown, &abc)));
    if own || local {
        // SAFETY: as the slot itself would.
        return unsafe {
            match (*ptr::addr_of!(ffi::PyType_Type)).tp_getattro {
                Some(usual) => {
                    Bound::from_owned_ptr_or_err(py, usual(class.as_ptr(), name.as_ptr()))
                }
                None => Err(PyAttributeError::new_err(name.clone().unbind())),
            }
        };
    }
    let text = format!(
        "type object '{}' has no attribute '{name}'",
        class.name()?.to_string_lossy()
    );
    ask_for(class, name, PyAttributeError::new_err(text))
}

unsafe extern "C" fn setattro(
    object: *mut ffi::PyObject,
    name: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
) -> c_int {
    // SAFETY: called by the interpreter with a class, a name and a value or null.
    unsafe {
        slot_body(-1, |py| {
            let class = class(py, object)?;
            let name = any(py, name);
            let value = Bound::from_borrowed_ptr_or_opt(py, value);
            match record(&class) {
                None => set_here(&class, &name, value.as_ref())?,
                Some(record) => set_there(&class, record.get(), &name, value.as_ref())?,
            }
            Ok(0)
        })
    }
}

/// Sets or deletes an attribute of the class object itself, as `type` does it.
pub(super) fn set_here(
    class: &Bound<'_, PyType>,
    name: &Bound<'_, PyAny>,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let py = class.py();
    // SAFETY: as the slot of `type` is called, with a class, a name and a value or null.
    let status = unsafe {
        match (*ptr::addr_of!(ffi::PyType_Type)).tp_setattro {
            Some(usual) => usual(
                class.as_ptr(),
                name.as_ptr(),
                value.map_or(ptr::null_mut(), |value| value.as_ptr()),
            ),
            None => 0,
        }
    };
    if status < 0 {
        Err(PyErr::fetch(py))
    } else {
        Ok(())
    }
}

fn set_there(
    class: &Bound<'_, PyType>,
    record: &Record,
    name: &Bound<'_, PyAny>,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let py = class.py();
    let text = name.cast::<PyString>()?.to_string_lossy();
    match &*text {
        // Notes of the interpreter and the standard library about this very class object.
        "__abstractmethods__" | "_abc_impl" | "__slotnames__" | KEY => {
            return set_here(class, name, value);
        }
        "__bases__" | "__class__" | "__mro__" => {
            return Err(PyTypeError::new_err(format!(
                "{text} of the remote class '{}' cannot be changed",
                class.qualname()?.to_string_lossy()
            )));
        }
        _ => {}
    }
    let access = record.access.bind(py);
    match value {
        Some(value) => access.call1((intern!(py, "set"), name, value))?,
        None => access.call1((intern!(py, "delete"), name))?,
    };
    match (&*text, value) {
        ("__name__" | "__qualname__" | "__doc__" | "__module__", Some(value)) => {
            set_here(class, name, Some(value))
        }
        // From now on it is state.
        (_, Some(_)) => {
            let attribute = RemoteAttribute::new(
                access.clone().unbind(),
                name.clone().cast_into::<PyString>()?.unbind(),
                true,
            );
            set_here(class, name, Some(Bound::new(py, attribute)?.as_any()))
        }
        (_, None) => {
            if statics::dict(class)?.contains(name)? {
                set_here(class, name, None)
            } else {
                Ok(())
            }
        }
    }
}

unsafe extern "C" fn call(
    object: *mut ffi::PyObject,
    args: *mut ffi::PyObject,
    kwargs: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a class, a tuple and a dict or null.
    unsafe {
        slot_body(ptr::null_mut(), |py| {
            let class = class(py, object)?;
            let arguments = any(py, args).cast_into::<PyTuple>()?;
            let keywords = Bound::from_borrowed_ptr_or_opt(py, kwargs)
                .map(Bound::cast_into::<PyDict>)
                .transpose()?;
            let made = if let Some(record) = record(&class) {
                ask(
                    record.get().access.bind(py),
                    "new",
                    &py.None().into_bound(py),
                    &arguments,
                    keywords.as_ref(),
                )?
            } else if let Some(custom) = metaclass_method(&class, "__call__")? {
                let all = PyTuple::new(py, [&class])?
                    .as_sequence()
                    .concat(arguments.as_sequence())?
                    .to_tuple()?;
                custom.call(all, keywords.as_ref())?
            } else {
                let Some(usual) = (*ptr::addr_of!(ffi::PyType_Type)).tp_call else {
                    return Ok(ptr::null_mut());
                };
                Bound::from_owned_ptr_or_err(py, usual(object, args, kwargs))?
            };
            Ok(made.into_ptr())
        })
    }
}

/// A method that a metaclass of the user's defines, as the function (stub) it is.
fn metaclass_method<'py>(
    class: &Bound<'py, PyType>,
    name: &str,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    for base in statics::true_type(class.as_any()).mro() {
        let base = base.cast_into::<PyType>()?;
        if record(&base).is_some()
            && let Some(found) = statics::dict(&base)?.get_item(name)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Finishes a local subclass, which `type.__new__` made.
unsafe extern "C" fn init(
    object: *mut ffi::PyObject,
    args: *mut ffi::PyObject,
    kwargs: *mut ffi::PyObject,
) -> c_int {
    // SAFETY: called by the interpreter with a class, a tuple and a dict or null.
    unsafe {
        slot_body(-1, |py| {
            let class = class(py, object)?;
            if metaclass_method(&class, "__new__")?.is_some() {
                let meta = visible_metaclass(&class)
                    .map_or_else(|| Ok(PyString::new(py, "?")), |meta| meta.qualname())?;
                return Err(PyTypeError::new_err(format!(
                    "cannot subclass a remote class of metaclass '{}' here: the metaclass defines __new__, which makes \
                     classes in the other process only",
                    meta.to_string_lossy()
                )));
            }
            abc_init(&class)?;
            if let Some(custom) = metaclass_method(&class, "__init__")? {
                let all = PyTuple::new(py, [&class])?
                    .as_sequence()
                    .concat(any(py, args).cast::<PyTuple>()?.as_sequence())?;
                let keywords = Bound::from_borrowed_ptr_or_opt(py, kwargs)
                    .map(Bound::cast_into::<PyDict>)
                    .transpose()?;
                custom.call(all.to_tuple()?, keywords.as_ref())?;
            }
            Ok(0)
        })
    }
}

/// Gives a remote class the registry of an abstract one. Its abstract names are known; working them
/// out would read attributes of it.
pub(super) fn abc_registry(class: &Bound<'_, PyType>) -> PyResult<()> {
    let py = class.py();
    let names = PyDict::new(py);
    names.set_item("__bases__", PyTuple::empty(py))?;
    let blank = py
        .import("types")?
        .getattr("SimpleNamespace")?
        .call((), Some(&names))?;
    py.import("_abc")?.getattr("_abc_init")?.call1((&blank,))?;
    set_here(
        class,
        intern!(py, "_abc_impl").as_any(),
        Some(&blank.getattr("_abc_impl")?),
    )
}

/// What `ABCMeta.__new__` does after making the class.
fn abc_init(class: &Bound<'_, PyType>) -> PyResult<()> {
    static INIT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = class.py();
    let init = INIT.get_or_try_init(py, || {
        py.import("_abc")?.getattr("_abc_init").map(Bound::unbind)
    })?;
    init.bind(py).call1((class,)).map(drop)
}

unsafe extern "C" fn list_names(
    object: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a class.
    unsafe {
        slot_body(ptr::null_mut(), |py| {
            let class = class(py, object)?;
            let usual = PyType::type_object(py).getattr(intern!(py, "__dir__"))?;
            let abstract_class = visible_metaclass(&class)
                .is_some_and(|shown| abc_meta(py).is_ok_and(|abc| is_subtype(&shown, &abc)));
            let names = PyList::empty(py);
            for name in usual.call1((&class,))?.try_iter()? {
                let name = name?;
                let text = name.cast::<PyString>()?.to_string_lossy();
                if text != KEY && (abstract_class || text != "_abc_impl") {
                    names.append(&name)?;
                }
            }
            Ok(names.into_any().into_ptr())
        })
    }
}

/// Asks the true owner of a class whose metaclass (or registrations, for abstract classes) decide.
fn ask_check(
    class: &Bound<'_, PyType>,
    operation: &str,
    subject: &Bound<'_, PyAny>,
) -> PyResult<Option<bool>> {
    let py = class.py();
    let Some(record) = record(class) else {
        return Ok(None);
    };
    let record = record.get();
    if record.flags & (flag::OWN_CHECK | flag::ABC) == 0 {
        return Ok(None);
    }
    record
        .access
        .bind(py)
        .call1((operation, py.None(), subject))?
        .is_truthy()
        .map(Some)
}

thread_local! {
    /// The classes that abstract checks of this thread are about, with what is checked.
    static CHECKS: RefCell<Vec<(usize, usize)>> = const { RefCell::new(Vec::new()) };
}

/// While it lives, this thread checks a class against an abstract one. `ABCMeta` goes through the
/// subclasses of that one; the other side is asked once, about the whole.
struct Checking {
    nested: bool,
}

impl Checking {
    fn start(class: &Bound<'_, PyType>, about: &Bound<'_, PyAny>) -> Self {
        let (class, about) = (class.as_ptr() as usize, about.as_ptr() as usize);
        CHECKS.with_borrow_mut(|checks| {
            let nested = checks.iter().any(|&(of, same)| {
                // SAFETY: the classes in the list are held by the callers that entered them.
                same == about
                    && unsafe { ffi::PyType_IsSubtype(class as *mut _, of as *mut _) != 0 }
            });
            checks.push((class, about));
            Self { nested }
        })
    }
}

impl Drop for Checking {
    fn drop(&mut self) {
        CHECKS.with_borrow_mut(|checks| checks.pop());
    }
}

/// What both checks do.
///
/// # Safety
/// Called by the interpreter with a class and any object.
unsafe fn check(
    object: *mut ffi::PyObject,
    subject: *mut ffi::PyObject,
    operation: &'static str,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a class and any object.
    unsafe {
        slot_body(ptr::null_mut(), |py| {
            let class = class(py, object)?;
            let subject = any(py, subject);
            let by_instance = operation == "__instancecheck__";
            let own = statics::true_type(&subject);
            let exact = if by_instance {
                is_subtype(&own, &class)
            } else {
                subject
                    .cast::<PyType>()
                    .is_ok_and(|subject| is_subtype(subject, &class))
            };
            let own_check =
                record(&class).is_some_and(|record| record.get().flags & flag::OWN_CHECK != 0);
            let mut answer = exact && !own_check;
            if !answer && !own_check {
                let shown = visible_metaclass(&class).unwrap_or_else(|| PyType::type_object(py));
                let abc = abc_meta(py)?;
                let usual = |meta: Bound<'_, PyType>| {
                    meta.getattr(operation)?
                        .call1((&class, &subject))?
                        .is_truthy()
                };
                if is_subtype(&shown, &abc) {
                    let about = if by_instance {
                        subject.getattr("__class__")?
                    } else {
                        subject.clone()
                    };
                    let checking = Checking::start(&class, &about);
                    answer = usual(abc)?;
                    if checking.nested {
                        return Ok(ffi::PyBool_FromLong(answer.into()));
                    }
                } else {
                    answer = usual(PyType::type_object(py))?;
                }
            }
            if !answer {
                answer = ask_check(&class, operation, &subject)?.unwrap_or(false);
            }
            Ok(ffi::PyBool_FromLong(answer.into()))
        })
    }
}

unsafe extern "C" fn check_instance(
    object: *mut ffi::PyObject,
    subject: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: passed on.
    unsafe { check(object, subject, "__instancecheck__") }
}

unsafe extern "C" fn check_subclass(
    object: *mut ffi::PyObject,
    subject: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: passed on.
    unsafe { check(object, subject, "__subclasscheck__") }
}

// ---- enums -----------------------------------------------------------------------------------

/// An operation on an enum class, done over there.
fn on_class<'py>(
    class: &Bound<'py, PyType>,
    operation: &str,
    argument: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let Some(record) = nearest(class) else {
        return Err(PyTypeError::new_err("not a remote enum"));
    };
    let arguments = PyTuple::new(py, argument)?;
    ask(
        record.get().access.bind(py),
        operation,
        &py.None().into_bound(py),
        &arguments,
        None,
    )
}

unsafe extern "C" fn enum_new(
    _: *mut ffi::PyTypeObject,
    _: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter.
    unsafe {
        slot_body(ptr::null_mut(), |_| {
            Err(PyTypeError::new_err(
                "a remote enum cannot be subclassed here: its members are made in the other process",
            ))
        })
    }
}

unsafe extern "C" fn enum_iter(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a class.
    unsafe {
        slot_body(ptr::null_mut(), |py| {
            let members = on_class(&class(py, object)?, "__iter__", None)?;
            Ok(members.try_iter()?.into_any().into_ptr())
        })
    }
}

unsafe extern "C" fn enum_reversed(
    object: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a class.
    unsafe {
        slot_body(ptr::null_mut(), |py| {
            on_class(&class(py, object)?, "__reversed__", None).map(Bound::into_ptr)
        })
    }
}

unsafe extern "C" fn enum_members(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a class.
    unsafe {
        slot_body(ptr::null_mut(), |py| {
            let Some(record) = nearest(&class(py, object)?) else {
                return Err(PyAttributeError::new_err("__members__"));
            };
            record
                .get()
                .access
                .bind(py)
                .call1((intern!(py, "get"), intern!(py, "__members__")))
                .map(Bound::into_ptr)
        })
    }
}

unsafe extern "C" fn enum_len(object: *mut ffi::PyObject) -> ffi::Py_ssize_t {
    // SAFETY: called by the interpreter with a class.
    unsafe {
        slot_body(-1, |py| {
            on_class(&class(py, object)?, "__len__", None)?.extract()
        })
    }
}

unsafe extern "C" fn enum_item(
    object: *mut ffi::PyObject,
    key: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a class and a key.
    unsafe {
        slot_body(ptr::null_mut(), |py| {
            on_class(&class(py, object)?, "__getitem__", Some(any(py, key))).map(Bound::into_ptr)
        })
    }
}

unsafe extern "C" fn enum_contains(object: *mut ffi::PyObject, value: *mut ffi::PyObject) -> c_int {
    // SAFETY: called by the interpreter with a class and a value.
    unsafe {
        slot_body(-1, |py| {
            on_class(&class(py, object)?, "__contains__", Some(any(py, value)))?
                .is_truthy()
                .map(c_int::from)
        })
    }
}

/// The description that a class was built from.
pub(super) fn description<'py>(class: &Bound<'py, PyType>) -> Option<Bound<'py, PyTuple>> {
    let record = record(class)?;
    let description = record.get().description.bind(class.py()).clone();
    (description.len() == shape::LEN).then_some(description)
}
