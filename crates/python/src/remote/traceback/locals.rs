//! The `f_locals` of a remote frame's picture.
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{PyKeyError, PyOSError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyIterator, PyList, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::source::missing;

/// Names under which debuggers keep notes of their own in a frame's locals. No function has locals
/// of these names, so nobody is asked about them.
const NOTES: [&str; 3] = ["__return__", "__exception__", "__args__"];

/// What is known so far.
enum Known {
    /// Nobody looked yet.
    Nothing,
    /// The frame's locals.
    Locals(Py<PyDict>),
    /// Why there are none: withheld, or the other side is gone. One entry that says so.
    Unavailable(Py<PyDict>),
}

/// A mapping of the locals of a frame that lives in another process.
///
/// The first look fetches all of them in one message. A name that is not a local is looked up among
/// the globals of the remote frame, so that a debugger finds them; listings show locals only.
/// Assignments stay here: they never reach the other side. Deleting is refused.
#[pyclass(module = "objspace", frozen, mapping, weakref)]
pub(crate) struct RemoteLocals {
    access: Option<Py<PyAny>>,
    frame: Py<PyAny>,
    /// Assigned here; hides what is over there.
    own: Py<PyDict>,
    globals: Py<PyDict>,
    known: Mutex<Known>,
}

impl RemoteLocals {
    /// The locals of `frame`; without `access` they are withheld.
    pub(super) fn new(py: Python<'_>, access: Option<Py<PyAny>>, frame: Py<PyAny>) -> Self {
        announce(py);
        Self {
            access,
            frame,
            own: PyDict::new(py).unbind(),
            globals: PyDict::new(py).unbind(),
            known: Mutex::new(Known::Nothing),
        }
    }

    /// What stands for the frame itself.
    pub(super) fn frame<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.frame.bind(py).clone()
    }

    /// The locals, and whether they are the real ones.
    fn fetched<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyDict>, bool)> {
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            match &*known {
                Known::Locals(locals) => return Ok((locals.bind(py).clone(), true)),
                Known::Unavailable(reason) => return Ok((reason.bind(py).clone(), false)),
                Known::Nothing => {}
            }
        }
        let found = self.fetch(py)?;
        let answer = match &found {
            Known::Locals(locals) => (locals.bind(py).clone(), true),
            Known::Unavailable(reason) => (reason.bind(py).clone(), false),
            Known::Nothing => (PyDict::new(py), false),
        };
        let before = std::mem::replace(
            &mut *self.known.lock().unwrap_or_else(PoisonError::into_inner),
            found,
        );
        drop(before);
        Ok(answer)
    }

    fn fetch(&self, py: Python<'_>) -> PyResult<Known> {
        let reason = PyDict::new(py);
        let Some(access) = &self.access else {
            reason.set_item("(locals)", "withheld by the other side")?;
            return Ok(Known::Unavailable(reason.unbind()));
        };
        match access.bind(py).call1((intern!(py, "locals"), &self.frame)) {
            Ok(items) => {
                let locals = PyDict::new(py);
                for item in items.try_iter()? {
                    let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item?.extract()?;
                    locals.set_item(name, value)?;
                }
                Ok(Known::Locals(locals.unbind()))
            }
            // A printer of tracebacks looks in passing and must not fail because the other side is gone.
            Err(error) if error.is_instance_of::<PyOSError>(py) => {
                reason.set_item("(locals)", format!("unavailable: {error}"))?;
                Ok(Known::Unavailable(reason.unbind()))
            }
            Err(error) => Err(error),
        }
    }

    fn is_note(name: &Bound<'_, PyAny>) -> bool {
        name.cast::<PyString>()
            .ok()
            .and_then(|name| name.to_str().ok().map(|name| NOTES.contains(&name)))
            .unwrap_or(false)
    }

    /// Locals and what was assigned here, as one new dict.
    fn merged<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let all = self.fetched(py)?.0.copy()?;
        all.update(self.own.bind(py).as_mapping())?;
        Ok(all)
    }

    fn global<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Some(access) = &self.access else {
            return Err(missing(name));
        };
        if !name.is_instance_of::<PyString>() || Self::is_note(name) {
            return Err(missing(name));
        }
        if let Some(value) = self.globals.bind(py).get_item(name)? {
            return Ok(value);
        }
        let value = access
            .bind(py)
            .call1((intern!(py, "global"), &self.frame, name))?;
        self.globals.bind(py).set_item(name, &value)?;
        Ok(value)
    }
}

/// Registers the class as a `Mapping`, once.
fn announce(py: Python<'_>) {
    static DONE: PyOnceLock<()> = PyOnceLock::new();
    DONE.get_or_init(py, || {
        let registered = py.import("collections.abc").and_then(|module| {
            module
                .getattr("Mapping")?
                .call_method1("register", (py.get_type::<RemoteLocals>(),))
        });
        // Without it everything but `isinstance(x, Mapping)` works.
        drop(registered);
    });
}

#[pymethods]
impl RemoteLocals {
    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        name: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(value) = self.own.bind(py).get_item(&name)? {
            return Ok(value);
        }
        if Self::is_note(&name) {
            return Err(missing(&name));
        }
        if let Some(value) = self.fetched(py)?.0.get_item(&name)? {
            return Ok(value);
        }
        self.global(py, &name)
    }

    fn __setitem__(
        &self,
        py: Python<'_>,
        name: Bound<'_, PyAny>,
        value: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.own.bind(py).set_item(name, value)
    }

    /// Always refused. The interpreter itself "deletes" each argument of the frame when it reads
    /// `f_locals` (3.11 and 3.12), and takes `KeyError` for done.
    fn __delitem__(&self, py: Python<'_>, name: Bound<'_, PyAny>) -> PyResult<()> {
        let _ = py;
        Err(missing(&name))
    }

    fn __contains__(&self, py: Python<'_>, name: Bound<'_, PyAny>) -> PyResult<bool> {
        if self.own.bind(py).contains(&name)? {
            return Ok(true);
        }
        if Self::is_note(&name) {
            return Ok(false);
        }
        self.fetched(py)?.0.contains(name)
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.merged(py)?.len())
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        self.merged(py)?.keys().try_iter()
    }

    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        Ok(self.merged(py)?.keys())
    }

    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        Ok(self.merged(py)?.values())
    }

    fn items<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        Ok(self.merged(py)?.items())
    }

    /// A local variable, never a global; `default` if there is none.
    #[pyo3(signature = (name, default=None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        name: Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self.__contains__(py, name.clone())? {
            self.__getitem__(py, name).map(Some)
        } else {
            Ok(default)
        }
    }

    /// A plain dict of the locals.
    fn copy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.merged(py)
    }

    #[pyo3(signature = (*others, **names))]
    fn update(
        &self,
        py: Python<'_>,
        others: Bound<'_, PyTuple>,
        names: Option<Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        self.own
            .bind(py)
            .call_method("update", others, names.as_ref())
            .map(drop)
    }

    #[pyo3(signature = (name, default=None))]
    fn setdefault<'py>(
        &self,
        py: Python<'py>,
        name: Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if self.__contains__(py, name.clone())? {
            return self.__getitem__(py, name);
        }
        let value = default.unwrap_or_else(|| py.None().into_bound(py));
        self.own.bind(py).set_item(name, &value)?;
        Ok(value)
    }

    /// Takes away what was assigned here; the locals over there stay.
    #[pyo3(signature = (name, *default))]
    fn pop<'py>(
        &self,
        py: Python<'py>,
        name: Bound<'py, PyAny>,
        default: Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let own = self.own.bind(py);
        if let Some(value) = own.get_item(&name)? {
            own.del_item(&name)?;
            return Ok(value);
        }
        if self.__contains__(py, name.clone())? {
            return Err(PyTypeError::new_err(
                "the locals of a remote frame cannot be deleted",
            ));
        }
        default
            .get_item(0)
            .map_err(|_| PyKeyError::new_err((name.unbind(),)))
    }

    fn __eq__<'py>(&self, py: Python<'py>, other: Bound<'py, PyAny>) -> PyResult<bool> {
        if let Ok(other) = other.cast_exact::<Self>() {
            return self.merged(py)?.eq(other.get().merged(py)?);
        }
        self.merged(py)?.eq(other)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<Py<PyString>> {
        Ok(self.merged(py)?.repr()?.unbind())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.access)?;
        visit.call(&self.frame)?;
        visit.call(&self.own)?;
        visit.call(&self.globals)?;
        if let Ok(known) = self.known.try_lock() {
            match &*known {
                Known::Nothing => {}
                Known::Locals(dict) | Known::Unavailable(dict) => visit.call(dict)?,
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let before = std::mem::replace(
            &mut *self.known.lock().unwrap_or_else(PoisonError::into_inner),
            Known::Nothing,
        );
        drop(before);
    }
}
