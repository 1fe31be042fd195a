//! Pickling of lists, tuples and dicts. The pickler knows these by their C type alone; by the old
//! protocols their own `__reduce_ex__` refuses, and by the new ones it would hand out the contents of
//! the object behind a proxy. So a proxy of one reduces itself, by its own operations.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::object::{Object, Payload, guarded};

/// `proxy.__reduce_ex__` where the type of the proxy is one that needs help; null for all others.
///
/// # Safety
/// Attached; `proxy` is a live proxy.
pub(super) unsafe fn reducer(proxy: Object) -> Option<Object> {
    // SAFETY: as the caller says; the payload's type is null or live.
    unsafe {
        let declared = (*Payload::of(proxy)).declared.cast::<ffi::PyTypeObject>();
        let known = [
            &raw mut ffi::PyDict_Type,
            &raw mut ffi::PyList_Type,
            &raw mut ffi::PyTuple_Type,
        ];
        if !known.contains(&declared) {
            return None;
        }
        Some(Python::attach_unchecked(|py| {
            guarded(py, || {
                let proxy = Bound::from_borrowed_ptr(py, proxy).unbind();
                Ok(Bound::new(py, Reducer { proxy })?.into_ptr())
            })
        }))
    }
}

/// `__reduce_ex__` of a proxy of a list, tuple or dict.
#[pyclass(frozen, module = "objspace._core")]
struct Reducer {
    proxy: Py<PyAny>,
}

#[pymethods]
impl Reducer {
    fn __call__<'py>(&self, py: Python<'py>, _protocol: i64) -> PyResult<Bound<'py, PyAny>> {
        self.contents(py)
    }

    fn __traverse__(&self, visit: pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::gc::PyTraverseError> {
        visit.call(&self.proxy)
    }
}

impl Reducer {
    /// (type, arguments, no state, items of a list, items of a dict).
    fn contents<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let proxy = self.proxy.bind(py);
        let class = proxy.getattr("__class__")?;
        let (none, empty) = (py.None(), PyTuple::empty(py));
        let reduced = if class.is(py.get_type::<PyList>()) {
            PyTuple::new(
                py,
                [
                    class,
                    empty.into_any(),
                    none.into_bound(py),
                    proxy.try_iter()?.into_any(),
                ],
            )?
        } else if class.is(py.get_type::<PyDict>()) {
            let items = proxy.call_method0("items")?.try_iter()?.into_any();
            let none = none.into_bound(py);
            PyTuple::new(py, [class, empty.into_any(), none.clone(), none, items])?
        } else {
            let items = proxy.try_iter()?.collect::<PyResult<Vec<_>>>()?;
            let items = PyList::new(py, items)?.into_any();
            PyTuple::new(py, [class, PyTuple::new(py, [items])?.into_any()])?
        };
        Ok(reduced.into_any())
    }
}
