//! What stands in a built class for an attribute whose value is on the other side.
use std::sync::OnceLock;

use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};
use pyo3::{PyTraverseError, PyVisit, intern};

/// State of the class: read over there whenever it is looked at.
#[pyclass(module = "objspace", frozen)]
pub(super) struct RemoteAttribute {
    access: Py<PyAny>,
    name: Py<PyString>,
    /// Whether the value may bind to instances (a descriptor, or nobody knows).
    binds: bool,
}

impl RemoteAttribute {
    pub(super) fn new(access: Py<PyAny>, name: Py<PyString>, binds: bool) -> Self {
        Self {
            access,
            name,
            binds,
        }
    }
}

fn read<'py>(
    py: Python<'py>,
    access: &Py<PyAny>,
    name: &Py<PyString>,
    instance: Option<Bound<'py, PyAny>>,
    owner: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    match instance {
        Some(instance) => {
            let owner = owner.unwrap_or_else(|| instance.get_type().into_any());
            access
                .bind(py)
                .call1((intern!(py, "get_for"), name, instance, owner))
        }
        None => access.bind(py).call1((intern!(py, "get"), name)),
    }
}

#[pymethods]
impl RemoteAttribute {
    fn __get__<'py>(
        &self,
        py: Python<'py>,
        instance: Option<Bound<'py, PyAny>>,
        owner: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        read(
            py,
            &self.access,
            &self.name,
            instance.filter(|_| self.binds),
            owner,
        )
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!(
            "<remote class attribute '{}'>",
            self.name.bind(py).to_string_lossy()
        )
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.access)
    }
}

/// A descriptor over there that also answers assignment or deletion.
#[pyclass(module = "objspace", frozen)]
pub(super) struct RemoteDescriptor {
    access: Py<PyAny>,
    name: Py<PyString>,
    doc: Option<Py<PyAny>>,
}

impl RemoteDescriptor {
    pub(super) fn new(access: Py<PyAny>, name: Py<PyString>, doc: Option<Py<PyAny>>) -> Self {
        Self { access, name, doc }
    }
}

#[pymethods]
impl RemoteDescriptor {
    fn __get__<'py>(
        &self,
        py: Python<'py>,
        instance: Option<Bound<'py, PyAny>>,
        owner: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        read(py, &self.access, &self.name, instance, owner)
    }

    fn __set__(
        &self,
        py: Python<'_>,
        instance: Bound<'_, PyAny>,
        value: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.access
            .bind(py)
            .call1((intern!(py, "set_for"), &self.name, instance, value))
            .map(drop)
    }

    fn __delete__(&self, py: Python<'_>, instance: Bound<'_, PyAny>) -> PyResult<()> {
        self.access
            .bind(py)
            .call1((intern!(py, "delete_for"), &self.name, instance))
            .map(drop)
    }

    #[getter]
    fn __doc__(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.doc.as_ref().map(|doc| doc.clone_ref(py))
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!(
            "<remote descriptor '{}'>",
            self.name.bind(py).to_string_lossy()
        )
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.access)?;
        visit.call(&self.doc)
    }
}

/// A fact whose value is on the other side (a nested class, a member of an enum): fetched once.
#[pyclass(module = "objspace", frozen)]
pub(super) struct RemoteFact {
    access: Py<PyAny>,
    name: Py<PyString>,
    value: OnceLock<Py<PyAny>>,
}

impl RemoteFact {
    pub(super) fn new(access: Py<PyAny>, name: Py<PyString>) -> Self {
        Self {
            access,
            name,
            value: OnceLock::new(),
        }
    }
}

#[pymethods]
impl RemoteFact {
    fn __get__<'py>(
        &self,
        py: Python<'py>,
        instance: Option<Bound<'py, PyAny>>,
        owner: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        drop((instance, owner));
        if let Some(value) = self.value.get() {
            return Ok(value.bind(py).clone());
        }
        let value = self
            .access
            .bind(py)
            .call1((intern!(py, "get"), &self.name))?;
        // Two threads may have asked; both got the same object.
        drop(self.value.set(value.clone().unbind()));
        Ok(value)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!(
            "<remote class attribute '{}'>",
            self.name.bind(py).to_string_lossy()
        )
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.access)?;
        self.value.get().map_or(Ok(()), |value| visit.call(value))
    }
}

/// Called by stubs in place of `access` where something must be decided here first.
#[pyclass(module = "objspace", frozen)]
pub(super) struct Target {
    pub(super) access: Py<PyAny>,
    pub(super) what: Decision,
}

/// What a [`Target`] decides.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// `__new__`: over there for remote classes, not at all for local subclasses.
    New,
    /// `__str__` and `__repr__` of exceptions: the text that came with them, if any.
    Text,
}

#[pymethods]
impl Target {
    #[pyo3(signature = (operation, name, *args, **kwargs))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        operation: Bound<'py, PyString>,
        name: Bound<'py, PyString>,
        args: Bound<'py, pyo3::types::PyTuple>,
        kwargs: Option<Bound<'py, pyo3::types::PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self.what {
            Decision::New => {
                let (class, rest) = super::function::split_first(&args)?;
                let class = class.cast_into::<PyType>()?;
                super::meta::make(&class, &rest, kwargs.as_ref())
            }
            Decision::Text => {
                if let Ok(exception) = args.get_item(0)
                    && let Some(text) =
                        crate::remote::exception::shipped_text(&exception, name.to_str()?)
                {
                    return Ok(text.into_any());
                }
                let all = (operation, name)
                    .into_pyobject(py)?
                    .as_sequence()
                    .concat(args.as_sequence())?;
                self.access.bind(py).call(all.to_tuple()?, kwargs.as_ref())
            }
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.access)
    }
}
