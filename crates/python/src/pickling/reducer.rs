//! The `reducer_override` of a pickler: which object is reduced by which file of `objects/`.
//!
//! A reduction is what `pickle` expects of `__reduce_ex__`. Most have two phases: an empty object is
//! made first, and a setter fills it (`(make, args, state, None, None, setter)`), so that what refers to
//! itself can be written. `None` here is `NotImplemented` there: pickle's own way.

use std::sync::Mutex;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::{errors, frames, maker, objects};

/// How code, functions, classes and globals travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodeMode {
    /// By reference where the loader of their module finds the same, else by value.
    Auto,
    /// By reference, or not at all.
    Reference,
    /// By value, also where they could be imported.
    Value,
    /// As `Auto`, for picklers that others have made: what is in `__main__` keeps going by name.
    Plain,
}

impl CodeMode {
    pub(crate) fn parse(text: &str) -> PyResult<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "reference" => Ok(Self::Reference),
            "value" => Ok(Self::Value),
            _ => Err(PyValueError::new_err(format!(
                "code={text:?}: \"auto\", \"reference\" or \"value\""
            ))),
        }
    }
}

/// What reductions of one pickle know of each other.
pub(crate) struct Pass {
    pub(crate) mode: CodeMode,
    /// Whether exceptions keep their tracebacks, causes and contexts.
    pub(crate) exceptions: bool,
    /// Addresses of tracebacks whose links another entry writes.
    pub(crate) linked: Mutex<std::collections::HashSet<usize>>,
    /// What `frames` knows of the pickle.
    pub(crate) frames: frames::Running,
}

impl Pass {
    pub(crate) fn new(mode: CodeMode, exceptions: bool) -> Self {
        Self {
            mode,
            exceptions,
            linked: Mutex::default(),
            frames: frames::Running::default(),
        }
    }
}

/// `reducer_override` of one pickler.
#[pyclass(frozen, module = "objspace._core")]
pub(crate) struct Reducer {
    pass: Pass,
    /// A reducer of the user's own, which is asked first.
    first: Option<Py<PyAny>>,
}

#[pymethods]
impl Reducer {
    #[new]
    #[pyo3(signature = (code = "auto", first = None))]
    fn new(code: &str, first: Option<Py<PyAny>>) -> PyResult<Self> {
        Ok(Self {
            pass: Pass::new(CodeMode::parse(code)?, true),
            first,
        })
    }

    /// Before a pickler writes the next object.
    fn begin(&self) {
        self.pass.frames.clear();
        self.pass
            .linked
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clear();
    }

    fn __call__<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = object.py();
        if let Some(first) = &self.first {
            let reduced = first.bind(py).call1((object,))?;
            if !reduced.is(py.NotImplemented()) {
                return Ok(reduced);
            }
        }
        match reduce(object, &self.pass)? {
            Some(reduced) => Ok(reduced),
            None => Ok(py.NotImplemented().into_bound(py)),
        }
    }

    fn __traverse__(&self, visit: pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::gc::PyTraverseError> {
        if let Some(first) = &self.first {
            visit.call(first)?;
        }
        Ok(())
    }
}

impl Reducer {
    /// For the picklers of others.
    pub(crate) fn plain(exceptions: bool) -> Self {
        Self {
            pass: Pass::new(CodeMode::Plain, exceptions),
            first: None,
        }
    }

    /// A fresh pass of the same kind.
    pub(crate) fn again(&self) -> Pass {
        Pass::new(self.pass.mode, self.pass.exceptions)
    }
}

/// The reduction of an object; `None` where pickle's own way is right.
pub(crate) fn reduce<'py>(
    object: &Bound<'py, PyAny>,
    pass: &Pass,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    if let Some(reduced) = registered(object)? {
        return Ok(Some(reduced));
    }
    Ok(objects::reduce(object, pass)?.map(Bound::into_any))
}

/// Types with reducers of the user's: class to function.
static REGISTERED: Mutex<Option<Py<PyDict>>> = Mutex::new(None);

/// Whether the user has registered any reducer.
pub(crate) fn any_registered(py: Python<'_>) -> bool {
    let table = REGISTERED
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    table
        .as_ref()
        .is_some_and(|table| !table.bind(py).is_empty())
}

/// Whether one of them is for objects of this class, or of one that it is derived from.
pub(crate) fn is_registered(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = class.py();
    let table = REGISTERED
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .as_ref()
        .map(|table| table.clone_ref(py));
    let Some(table) = table else {
        return Ok(false);
    };
    for class in class.mro() {
        if table.bind(py).contains(&class)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn registered<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = object.py();
    let Some(table) = REGISTERED
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .as_ref()
        .map(|table| table.clone_ref(py))
    else {
        return Ok(None);
    };
    for class in object.get_type().mro() {
        if let Some(function) = table.bind(py).get_item(&class)? {
            let reduced = function.call1((object,))?;
            let right = reduced.is_instance_of::<PyTuple>() || reduced.is_instance_of::<PyString>();
            if reduced.is(py.NotImplemented()) {
                return Ok(None);
            }
            if !right {
                return Err(refused(format!(
                    "the reducer registered for {} must return a tuple, a string or NotImplemented",
                    class.repr()?
                )));
            }
            return Ok(Some(reduced));
        }
    }
    Ok(None)
}

/// Lets objects of `type`, and of classes derived from it, be pickled by `reducer(object)`, which returns
/// what `object.__reduce__()` would, or `NotImplemented`. `None` takes that back.
#[pyfunction]
#[pyo3(signature = (r#type, reducer, /))]
pub(crate) fn register_reducer(
    py: Python<'_>,
    r#type: &Bound<'_, PyType>,
    reducer: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let table = {
        let mut table = REGISTERED
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*table {
            Some(table) => table.clone_ref(py),
            None => {
                let made = PyDict::new(py).unbind();
                *table = Some(made.clone_ref(py));
                made
            }
        }
    };
    if reducer.is_none() {
        let _ = table.bind(py).del_item(r#type);
        return Ok(());
    }
    if !reducer.is_callable() {
        return Err(pyo3::exceptions::PyTypeError::new_err(
            "register() takes a type and a function",
        ));
    }
    table.bind(py).set_item(r#type, reducer)
}

/// `(make, args)`
pub(crate) fn reduced<'py, A>(py: Python<'py>, make: &str, args: A) -> PyResult<Bound<'py, PyTuple>>
where
    A: IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error = PyErr>,
{
    let args = args.into_pyobject(py)?;
    PyTuple::new(py, [maker::get(py, make)?, args.into_any()])
}

/// `(make, args, state, None, None, setter)`. The state is not `None`, which pickle takes for no state.
pub(crate) fn phased<'py>(
    py: Python<'py>,
    make: Bound<'py, PyAny>,
    args: Bound<'py, PyAny>,
    state: Bound<'py, PyAny>,
    setter: &str,
) -> PyResult<Bound<'py, PyTuple>> {
    debug_assert!(!state.is_none());
    let none = py.None().into_bound(py);
    let setter = maker::get(py, setter)?;
    PyTuple::new(py, [make, args, state, none.clone(), none, setter])
}

/// `pickle.PicklingError` for an object that does not travel.
pub(crate) fn refused(message: impl Into<String>) -> PyErr {
    errors::pickling(message)
}
