//! `tproxy` and `tputil`: proxies whose controller is a Python callable.

use objspace_proto::Op;
use pyo3::exceptions::{PyAttributeError, PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::object::{Keywords, Native, as_proxy, dict, new_proxy};
use super::perform::perform;
use super::table::opname;
use super::{bypass, delegation};

/// An object that is `type` in every respect but its behaviour: each operation on it calls
/// `controller(opname, *args, **kwargs)`.
#[pyfunction]
#[pyo3(signature = (r#type, controller, /))]
pub(crate) fn tproxy<'py>(
    py: Python<'py>,
    r#type: &Bound<'py, PyAny>,
    controller: Bound<'py, PyAny>,
) -> PyResult<Py<PyAny>> {
    let declared = as_type(r#type, "tproxy() argument 1")?;
    callable(&controller)?;
    new_proxy(py, declared, controller.unbind(), None)
}

/// The controller of a proxy made by `tproxy` or `make_proxy`; `None` for anything else.
#[pyfunction]
#[pyo3(signature = (obj, /))]
pub(crate) fn get_tproxy_controller<'py>(obj: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let proxy = as_proxy(obj)?;
    let controller = proxy.controller()?;
    if proxy.is_native(&delegation::DELEGATE) {
        return delegation::function(obj.py());
    }
    if proxy.is_native(&TPUTIL) {
        let controller = controller.cast::<Delegation>().ok()?;
        return Some(controller.get().controller.bind(obj.py()).clone());
    }
    (!proxy.has_native()).then_some(controller)
}

/// `value` as a class. A proxy of a class will not do: nothing can be an instance of it.
fn as_type<'a, 'py>(value: &'a Bound<'py, PyAny>, what: &str) -> PyResult<&'a Bound<'py, PyType>> {
    value.cast::<PyType>().map_err(|_| {
        let name = value
            .get_type()
            .name()
            .map_or_else(|_| "?".to_owned(), |name| name.to_string());
        PyTypeError::new_err(format!("{what} must be a type, not {name}"))
    })
}

fn callable(controller: &Bound<'_, PyAny>) -> PyResult<()> {
    if controller.is_callable() {
        return Ok(());
    }
    let name = controller.get_type().name()?;
    Err(PyTypeError::new_err(format!(
        "the controller must be callable, not '{name}'"
    )))
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
        visit.call(&self.obj)
    }
}

static TPUTIL: Native = Native {
    operate,
    dropped,
    resolve,
    attributes: false,
};

/// A proxy whose operations call `controller` with one `ProxyOperation`. `type` defaults to the type
/// of `obj`; neither given is a `TypeError`.
#[pyfunction]
#[pyo3(signature = (controller, *args, **kwargs))]
#[pyo3(text_signature = "(controller, type=<unset>, obj=<unset>)")]
pub(crate) fn make_proxy<'py>(
    py: Python<'py>,
    controller: Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Py<PyAny>> {
    // Any object can be the underlying one, `None` too: what is missing must be told apart.
    let mut given = [None, None];
    if args.len() > given.len() {
        return Err(PyTypeError::new_err(format!(
            "make_proxy() takes at most 3 arguments ({} given)",
            args.len() + 1
        )));
    }
    for (place, value) in given.iter_mut().zip(args.iter()) {
        *place = Some(value);
    }
    let [mut class, mut obj] = given;
    for (name, value) in kwargs.into_iter().flatten() {
        let place = match name.cast::<PyString>()?.to_str()? {
            "type" => &mut class,
            "obj" => &mut obj,
            other => {
                return Err(PyTypeError::new_err(format!(
                    "make_proxy() got an unexpected keyword argument '{other}'"
                )));
            }
        };
        if place.replace(value).is_some() {
            return Err(PyTypeError::new_err(format!(
                "make_proxy() got multiple values for argument {}",
                name.repr()?
            )));
        }
    }
    callable(&controller)?;
    let declared = match (&class, &obj) {
        (Some(class), _) => as_type(class, "make_proxy() argument 'type'")?.clone(),
        (None, Some(obj)) => match as_proxy(obj) {
            Some(proxy) => proxy.declared(py)?,
            None => obj.get_type(),
        },
        (None, None) => {
            return Err(PyTypeError::new_err(
                "make_proxy() needs a type or an obj of that type",
            ));
        }
    };
    if let Some(obj) = &obj
        && delegation::function(py).is_some_and(|function| function.is(&controller))
    {
        return new_proxy(
            py,
            &declared,
            obj.clone().unbind(),
            Some(&delegation::DELEGATE),
        );
    }
    let delegation = Delegation {
        controller: controller.unbind(),
        obj: obj.map(Bound::unbind),
    };
    new_proxy(
        py,
        &declared,
        Py::new(py, delegation)?.into_any(),
        Some(&TPUTIL),
    )
}

fn broken() -> PyErr {
    PyRuntimeError::new_err("objspace: a proxy without its delegation; please report this")
}

fn operate<'py>(
    py: Python<'py>,
    proxy: &Bound<'py, PyAny>,
    controller: &Bound<'py, PyAny>,
    op: Op,
    args: &[Bound<'py, PyAny>],
    keywords: &Keywords<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let around = bypass::taken(proxy.as_ptr(), op).then_some(op);
    let delegation = controller.cast::<Delegation>().map_err(|_| broken())?.get();
    // SAFETY: the name lives for ever.
    let opname = unsafe { Bound::from_borrowed_ptr(py, opname(op)) }.cast_into::<PyString>()?;
    let operation = ProxyOperation {
        proxyobj: proxy.clone().unbind(),
        opname: opname.unbind(),
        args: PyTuple::new(py, args)?.unbind(),
        kwargs: if keywords.is_empty() {
            None
        } else {
            Some(dict(py, keywords)?.unbind())
        },
        obj: delegation.obj.as_ref().map(|obj| obj.clone_ref(py)),
        around,
    };
    let result = delegation
        .controller
        .bind(py)
        .call1((Py::new(py, operation)?,))?;
    Ok(match &delegation.obj {
        Some(obj) if result.is(obj) => proxy.clone(),
        _ => result,
    })
}

fn dropped(_: *mut ffi::PyObject, _: *mut ffi::PyObject) {}

fn resolve<'py>(
    _: Python<'py>,
    _: &Bound<'py, PyAny>,
    _: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    Err(broken())
}

/// One operation on a proxy made by `make_proxy`.
///
/// `proxyobj` is the proxy, `opname` the special method's name, `args` and `kwargs` its arguments,
/// `obj` the underlying object if one was given.
#[pyclass(module = "objspace.tputil", name = "ProxyOperation")]
pub(crate) struct ProxyOperation {
    #[pyo3(get)]
    proxyobj: Py<PyAny>,
    #[pyo3(get, set)]
    opname: Py<PyString>,
    #[pyo3(get, set)]
    args: Py<PyTuple>,
    /// Made when first looked at: most operations have none.
    kwargs: Option<Py<PyDict>>,
    obj: Option<Py<PyAny>>,
    /// The operation, if it goes around the methods of the object's class.
    around: Option<Op>,
}

#[pymethods]
impl ProxyOperation {
    #[getter]
    fn kwargs<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyDict> {
        self.kwargs
            .get_or_insert_with(|| PyDict::new(py).unbind())
            .bind(py)
            .clone()
    }

    #[setter]
    fn set_kwargs(&mut self, kwargs: Py<PyDict>) {
        self.kwargs = Some(kwargs);
    }

    #[getter]
    fn obj(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.obj
            .as_ref()
            .map(|obj| obj.clone_ref(py))
            .ok_or_else(|| {
                PyAttributeError::new_err("this proxy was made without an underlying obj")
            })
    }

    /// Performs the operation on the underlying object. A result that is this object comes back as
    /// the proxy. `TypeError` if the proxy has no underlying object.
    pub(super) fn delegate<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        // Nothing stays borrowed while other code runs, which may look at the operation again.
        let (proxy, opname, args, kwargs, obj, around) = {
            let this = slf.borrow();
            let Some(obj) = this.obj.as_ref().map(|obj| obj.bind(py).clone()) else {
                return Err(PyTypeError::new_err(
                    "the proxy was made without an underlying obj: there is nothing to delegate to",
                ));
            };
            (
                this.proxyobj.bind(py).clone(),
                this.opname.bind(py).clone(),
                this.args.bind(py).clone(),
                this.kwargs.as_ref().map(|kwargs| kwargs.bind(py).clone()),
                obj,
                this.around,
            )
        };
        let kwargs = kwargs.filter(|kwargs| !kwargs.is_empty());
        let result = match (Op::from_name(opname.to_str()?), kwargs) {
            (Some(op), None) => {
                // SAFETY: attached, with live objects; the tuple that holds the arguments stays alive.
                unsafe {
                    let len = ffi::PyTuple_GET_SIZE(args.as_ptr()).cast_unsigned();
                    let first: *const *mut ffi::PyObject =
                        (&raw const (*args.as_ptr().cast::<ffi::PyTupleObject>()).ob_item).cast();
                    let values = std::slice::from_raw_parts(first, len);
                    let result = if around == Some(op) {
                        bypass::perform_around(obj.as_ptr(), op, values)
                    } else {
                        perform(obj.as_ptr(), op, values, std::ptr::null_mut())
                    };
                    Bound::from_owned_ptr_or_err(py, result)?
                }
            }
            (Some(Op::CALL), Some(kwargs)) => obj.call(args, Some(&kwargs))?,
            (_, kwargs) => obj.getattr(opname)?.call(args, kwargs.as_ref())?,
        };
        Ok(if result.is(&obj) { proxy } else { result })
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let (proxy, opname, args, kwargs) = {
            let this = slf.borrow();
            let kwargs = this.kwargs.as_ref().map(|kwargs| kwargs.bind(py).clone());
            (
                this.proxyobj.bind(py).clone(),
                this.opname.bind(py).clone(),
                this.args.bind(py).clone(),
                kwargs,
            )
        };
        let mut parts = vec![format!("<{:#x}>", proxy.as_ptr().addr())];
        for value in args.iter() {
            parts.push(value.repr()?.to_string());
        }
        for (name, value) in kwargs.into_iter().flatten() {
            parts.push(format!("{name}={}", value.repr()?));
        }
        let class = match as_proxy(&proxy) {
            Some(proxy) => proxy.declared(py)?.name()?.to_string(),
            None => "?".to_owned(),
        };
        Ok(format!(
            "<ProxyOperation {class}.{opname}({})>",
            parts.join(", ")
        ))
    }

    fn __traverse__(&self, visit: pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::gc::PyTraverseError> {
        visit.call(&self.proxyobj)?;
        visit.call(&self.args)?;
        visit.call(&self.kwargs)?;
        visit.call(&self.obj)
    }
}
