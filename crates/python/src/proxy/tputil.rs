//! `tproxy` and `tputil`: proxies whose controller is a Python callable.

use objspace_proto::Op;
use pyo3::exceptions::{PyAttributeError, PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::object::{Keywords, Native, as_proxy, dict, new_proxy};

/// An object that is `type` in every respect but its behaviour: each operation on it calls
/// `controller(opname, *args, **kwargs)`.
#[pyfunction]
#[pyo3(signature = (r#type, controller, /))]
pub(crate) fn tproxy<'py>(
    py: Python<'py>,
    r#type: &Bound<'py, PyAny>,
    controller: Bound<'py, PyAny>,
) -> PyResult<Py<PyAny>> {
    let declared = r#type
        .cast::<PyType>()
        .map_err(|_| PyTypeError::new_err("the first argument of tproxy() must be a type"))?;
    if !controller.is_callable() {
        return Err(PyTypeError::new_err("the controller must be callable"));
    }
    new_proxy(py, declared, controller.unbind(), None)
}

/// The controller of a proxy made by `tproxy` or `make_proxy`; `None` for anything else.
#[pyfunction]
#[pyo3(signature = (obj, /))]
pub(crate) fn get_tproxy_controller<'py>(obj: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let proxy = as_proxy(obj)?;
    let controller = proxy.controller()?;
    if proxy.is_native(&TPUTIL) {
        let controller = controller.cast::<Delegation>().ok()?;
        return Some(controller.get().controller.bind(obj.py()).clone());
    }
    (!proxy.has_native()).then_some(controller)
}

/// What `make_proxy` was given.
#[pyclass(frozen, module = "objspace._core")]
struct Delegation {
    controller: Py<PyAny>,
    obj: Option<Py<PyAny>>,
}

#[pymethods]
impl Delegation {
    fn __traverse__(&self, visit: pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::gc::PyTraverseError> {
        visit.call(&self.controller)?;
        if let Some(obj) = &self.obj {
            visit.call(obj)?;
        }
        Ok(())
    }
}

static TPUTIL: Native = Native { operate, dropped, resolve };

/// A proxy whose operations call `controller` with one `ProxyOperation`. `type` defaults to the type
/// of `obj`; neither given is a `TypeError`.
#[pyfunction]
#[pyo3(signature = (controller, r#type = None, **kwargs))]
pub(crate) fn make_proxy<'py>(
    py: Python<'py>,
    controller: Bound<'py, PyAny>,
    r#type: Option<Bound<'py, PyAny>>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Py<PyAny>> {
    let mut obj = None;
    if let Some(kwargs) = kwargs {
        for (name, value) in kwargs.iter() {
            if name.eq("obj")? {
                obj = Some(value);
            } else {
                return Err(PyTypeError::new_err(format!("make_proxy() got an unexpected keyword argument {}", name.repr()?)));
            }
        }
    }
    if !controller.is_callable() {
        return Err(PyTypeError::new_err("the controller must be callable"));
    }
    let declared = match (r#type, &obj) {
        (Some(declared), _) => declared.cast_into::<PyType>().map_err(|_| {
            PyTypeError::new_err("the type of a proxy must be a type")
        })?,
        (None, Some(obj)) => match as_proxy(obj) {
            Some(proxy) => proxy.declared(py)?,
            None => obj.get_type(),
        },
        (None, None) => return Err(PyTypeError::new_err("make_proxy() needs a type or an obj")),
    };
    let delegation = Py::new(py, Delegation { controller: controller.unbind(), obj: obj.map(Bound::unbind) })?;
    new_proxy(py, &declared, delegation.into_any(), Some(&TPUTIL))
}

fn operate<'py>(
    py: Python<'py>,
    proxy: &Bound<'py, PyAny>,
    controller: &Bound<'py, PyAny>,
    op: Op,
    args: &[Bound<'py, PyAny>],
    keywords: &Keywords<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let broken = || PyRuntimeError::new_err("objspace: a proxy without its delegation; please report this");
    let delegation = controller.cast::<Delegation>().map_err(|_| broken())?.get();
    let operation = ProxyOperation {
        proxyobj: proxy.clone().unbind(),
        opname: PyString::intern(py, op.name().ok_or_else(broken)?).unbind(),
        args: PyTuple::new(py, args)?.unbind(),
        kwargs: dict(py, keywords)?.unbind(),
        obj: delegation.obj.as_ref().map(|obj| obj.clone_ref(py)),
    };
    let result = delegation.controller.bind(py).call1((operation,))?;
    Ok(match &delegation.obj {
        Some(obj) if result.is(obj) => proxy.clone(),
        _ => result,
    })
}

fn dropped(_: *mut ffi::PyObject, _: *mut ffi::PyObject) {}

fn resolve<'py>(_: Python<'py>, _: &Bound<'py, PyAny>, _: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    Err(PyRuntimeError::new_err("objspace: a proxy of unknown type; please report this"))
}

/// One operation on a proxy made by `make_proxy`.
///
/// `proxyobj` is the proxy, `opname` the special method's name, `args` and `kwargs` its arguments,
/// `obj` the underlying object if one was given.
#[pyclass(frozen, module = "objspace.tputil", name = "ProxyOperation")]
pub(crate) struct ProxyOperation {
    #[pyo3(get)]
    proxyobj: Py<PyAny>,
    #[pyo3(get)]
    opname: Py<PyString>,
    #[pyo3(get)]
    args: Py<PyTuple>,
    #[pyo3(get)]
    kwargs: Py<PyDict>,
    obj: Option<Py<PyAny>>,
}

#[pymethods]
impl ProxyOperation {
    #[getter]
    fn obj(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.obj.as_ref().map(|obj| obj.clone_ref(py)).ok_or_else(|| {
            PyAttributeError::new_err("this proxy was made without an underlying obj")
        })
    }

    /// Performs the operation on the underlying object. A result that is this object comes back as
    /// the proxy. `TypeError` if the proxy has no underlying object.
    fn delegate<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let Some(obj) = &self.obj else {
            return Err(PyTypeError::new_err("the proxy was made without an underlying obj: there is nothing to delegate to"));
        };
        let obj = obj.bind(py);
        let method = obj.getattr(self.opname.bind(py))?;
        let result = method.call(self.args.bind(py), Some(self.kwargs.bind(py)))?;
        Ok(if result.is(obj) { self.proxyobj.bind(py).clone() } else { result })
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let args = self.args.bind(py);
        let mut parts: Vec<String> = args.iter().map(|arg| Ok(arg.repr()?.to_string())).collect::<PyResult<_>>()?;
        for (name, value) in self.kwargs.bind(py).iter() {
            parts.push(format!("{name}={}", value.repr()?));
        }
        let class = match as_proxy(self.proxyobj.bind(py)) {
            Some(proxy) => proxy.declared(py)?.name()?.to_string(),
            None => "?".to_owned(),
        };
        Ok(format!("<ProxyOperation {class}.{}({})>", self.opname.bind(py), parts.join(", ")))
    }
}
