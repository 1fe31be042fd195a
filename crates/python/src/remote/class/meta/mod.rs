//! The hidden metaclasses of classes built here, and what such a class knows about itself.
//!
//! One of them, `Remote`, stands for `type` and for `ABCMeta`: it derives from `ABCMeta`, so that a
//! remote class and a local abstract one can be bases of one class. Enums have their own, and so has
//! every metaclass of a user's (itself a class that came over). All leave `tp_new` as `type` has it,
//! except that of enums.
//!
//! A class is *remote* if its own dict holds a [`Record`] under [`KEY`]; local subclasses have the
//! hidden metaclass too, but no record of their own.
//!
//! Here is the record and what is read from it. [`make`] makes metaclasses and classes, [`spec`] the
//! two metaclasses of C; what these do is in [`attributes`], [`calls`], [`checks`] and [`enums`].

mod attributes;
mod calls;
mod checks;
mod enums;
mod make;
mod spec;

use std::sync::OnceLock;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyTypeInfo, PyVisit, intern};

use super::{shape, statics};

pub(super) use attributes::set_here;
pub(super) use calls::make;
pub(super) use checks::abc_registry;
pub(super) use make::{hidden, quietly};
use spec::remote;

/// Where a remote class keeps its record.
pub(super) const KEY: &str = "__objspace_class__";

/// What a class built here knows about itself.
#[pyclass(module = "objspace", frozen)]
pub(super) struct Record {
    pub(super) access: Py<PyAny>,
    pub(super) visible: Py<PyType>,
    pub(super) flags: u32,
    pub(super) description: Py<PyTuple>,
    /// The name here of the file that the class comes from.
    pub(super) file: Option<Py<PyString>>,
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

/// The description that a class was built from.
pub(super) fn description<'py>(class: &Bound<'py, PyType>) -> Option<Bound<'py, PyTuple>> {
    let record = record(class)?;
    let description = record.get().description.bind(class.py()).clone();
    (description.len() == shape::LEN).then_some(description)
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
