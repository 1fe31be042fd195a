//! The proxy object and the one gate that all its operations pass.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use objspace_interp::type_hook::{self, Answer};
use objspace_proto::Op;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::types;
use crate::remote::class::visible_metaclass;
use crate::session::perform::{Arguments, perform};

/// Keyword arguments: names and values.
pub(crate) type Keywords<'py> = [(Bound<'py, PyString>, Bound<'py, PyAny>)];

/// A controller written in Rust.
pub(crate) struct Native {
    /// Performs an operation: (proxy, controller, operation, arguments, keyword arguments).
    pub(crate) operate: for<'py> fn(
        Python<'py>,
        &Bound<'py, PyAny>,
        &Bound<'py, PyAny>,
        Op,
        &[Bound<'py, PyAny>],
        &Keywords<'py>,
    ) -> PyResult<Bound<'py, PyAny>>,
    /// Told (controller, proxy) first thing when the proxy dies. It may not run Python code.
    pub(crate) dropped: fn(*mut ffi::PyObject, *mut ffi::PyObject),
    /// For a deferred proxy: the object that it turns out to be.
    pub(crate) resolve:
        for<'py> fn(Python<'py>, &Bound<'py, PyAny>, &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
}

/// The memory of every proxy.
#[repr(C)]
pub(super) struct ProxyObject {
    head: ffi::PyObject,
    /// Owned; null for a deferred proxy.
    declared: *mut ffi::PyObject,
    /// Owned; null once the garbage collector has cleared the proxy.
    controller: *mut ffi::PyObject,
    /// Null for a controller that is any Python callable.
    native: *const Native,
    /// Owned; what a deferred proxy turned out to be, or null.
    resolved: *mut ffi::PyObject,
    pub(super) weakrefs: *mut ffi::PyObject,
}

/// Whether `object` is a proxy: all proxy types share one destructor.
pub(crate) fn is_proxy(object: *mut ffi::PyObject) -> bool {
    // SAFETY: the caller has a live object; reading its type is allowed while attached.
    let dealloc = unsafe { (*ffi::Py_TYPE(object)).tp_dealloc };
    dealloc.is_some_and(|dealloc| ptr::fn_addr_eq(dealloc, dealloc_proxy as ffi::destructor))
}

fn fields(object: *mut ffi::PyObject) -> *mut ProxyObject {
    debug_assert!(is_proxy(object));
    object.cast()
}

/// A proxy, known to be one.
pub(crate) struct ProxyRef<'py>(Bound<'py, PyAny>);

/// `object` as a proxy, if it is one.
pub(crate) fn as_proxy<'py>(object: &Bound<'py, PyAny>) -> Option<ProxyRef<'py>> {
    is_proxy(object.as_ptr()).then(|| ProxyRef(object.clone()))
}

impl<'py> ProxyRef<'py> {
    /// The type that the proxy says it has.
    pub(crate) fn declared(&self, py: Python<'py>) -> PyResult<Bound<'py, PyType>> {
        // SAFETY: `self` is a live proxy; its declared type is owned by it, or null.
        let declared = unsafe { Bound::from_borrowed_ptr_or_opt(py, (*fields(self.0.as_ptr())).declared) };
        match declared {
            Some(declared) => Ok(declared.cast_into()?),
            None => {
                let resolved = self.resolved(py)?;
                match as_proxy(&resolved) {
                    Some(inner) => inner.declared(py),
                    None => Ok(resolved.get_type()),
                }
            }
        }
    }

    /// The controller; `None` once the collector has cleared the proxy.
    pub(crate) fn controller(&self) -> Option<Bound<'py, PyAny>> {
        // SAFETY: `self` is a live proxy; its controller is owned by it, or null.
        unsafe { Bound::from_borrowed_ptr_or_opt(self.0.py(), (*fields(self.0.as_ptr())).controller) }
    }

    fn native(&self) -> Option<&'static Native> {
        // SAFETY: `self` is a live proxy; the table is static, or null.
        unsafe { (*fields(self.0.as_ptr())).native.as_ref() }
    }

    /// Whether this is controlled by Rust code at all.
    pub(crate) fn has_native(&self) -> bool {
        self.native().is_some()
    }

    /// Whether `native` controls this proxy.
    pub(crate) fn is_native(&self, native: &'static Native) -> bool {
        self.native().is_some_and(|own| ptr::eq(own, native))
    }

    /// What a deferred proxy turns out to be: asked once.
    pub(crate) fn resolved(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let memory = fields(self.0.as_ptr());
        // SAFETY: `self` is a live proxy; the object is owned by it, or null.
        if let Some(resolved) = unsafe { Bound::from_borrowed_ptr_or_opt(py, (*memory).resolved) } {
            return Ok(resolved);
        }
        let (Some(native), Some(controller)) = (self.native(), self.controller()) else {
            return Err(cleared());
        };
        let resolved = (native.resolve)(py, &self.0, &controller)?;
        // SAFETY: as above. Asking may have run other code that resolved it meanwhile: the first
        // answer stays.
        unsafe {
            if (*memory).resolved.is_null() {
                (*memory).resolved = resolved.clone().into_ptr();
                Ok(resolved)
            } else {
                Ok(Bound::from_borrowed_ptr(py, (*memory).resolved))
            }
        }
    }
}

fn cleared() -> PyErr {
    PyRuntimeError::new_err("the proxy was part of a reference cycle that the garbage collector has cleared")
}

/// A proxy of `declared`.
pub(crate) fn new_proxy(
    py: Python<'_>,
    declared: &Bound<'_, PyType>,
    controller: Py<PyAny>,
    native: Option<&'static Native>,
) -> PyResult<Py<PyAny>> {
    let class = types::proxy_type(declared)?;
    allocate(py, &class, declared.clone().into_ptr(), controller, native)
}

/// A proxy whose type is not known before it is asked for anything but a call.
pub(crate) fn new_deferred(py: Python<'_>, controller: Py<PyAny>, native: &'static Native) -> PyResult<Py<PyAny>> {
    let class = types::deferred_type(py)?;
    allocate(py, &class, ptr::null_mut(), controller, Some(native))
}

fn allocate(
    py: Python<'_>,
    class: &Bound<'_, PyType>,
    declared: *mut ffi::PyObject,
    controller: Py<PyAny>,
    native: Option<&'static Native>,
) -> PyResult<Py<PyAny>> {
    // SAFETY: a proxy type, whose instances have the memory of `ProxyObject` and a collector header;
    // the allocation is zeroed and tracked, and zero is a valid value of every field.
    let object = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_GenericAlloc(class.as_type_ptr(), 0)) };
    let object = match object {
        Ok(object) => object,
        Err(error) => {
            // SAFETY: the reference that was handed over is given back.
            unsafe { ffi::Py_XDECREF(declared) };
            return Err(error);
        }
    };
    // SAFETY: the new object is ours alone; ownership of both references moves into it.
    unsafe {
        let memory = fields(object.as_ptr());
        (*memory).declared = declared;
        (*memory).controller = controller.into_ptr();
        (*memory).native = native.map_or(ptr::null(), ptr::from_ref);
    }
    Ok(object.unbind())
}

// ------------------------------------------------------------------ memory

unsafe fn let_go(object: *mut ffi::PyObject) {
    let memory = fields(object);
    // SAFETY: the caller is a destructor or the collector of this proxy. Each field is emptied before
    // its reference is given back, because that may run code that looks at the proxy.
    unsafe {
        let controller = ptr::replace(&raw mut (*memory).controller, ptr::null_mut());
        if let (false, Some(native)) = (controller.is_null(), (*memory).native.as_ref()) {
            (native.dropped)(controller, object);
        }
        let resolved = ptr::replace(&raw mut (*memory).resolved, ptr::null_mut());
        ffi::Py_XDECREF(controller);
        ffi::Py_XDECREF(resolved);
    }
}

pub(super) unsafe extern "C" fn dealloc_proxy(object: *mut ffi::PyObject) {
    // SAFETY: called once, by the interpreter, with a proxy whose count has reached zero. Weak
    // references are cleared before anything else can run code; a deep chain of proxies is cut by
    // the interpreter's own guard in the types that hold them.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        let class = ffi::Py_TYPE(object);
        let memory = fields(object);
        // The table of imports must forget the proxy before a weak reference's callback can ask it.
        if let (false, Some(native)) = ((*memory).controller.is_null(), (*memory).native.as_ref()) {
            (native.dropped)((*memory).controller, object);
            (*memory).native = ptr::null();
        }
        if !(*memory).weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(object);
        }
        let_go(object);
        let declared = ptr::replace(&raw mut (*memory).declared, ptr::null_mut());
        ffi::Py_XDECREF(declared);
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(class.cast());
    }
}

pub(super) unsafe extern "C" fn traverse_proxy(
    object: *mut ffi::PyObject,
    visit: ffi::visitproc,
    arg: *mut std::ffi::c_void,
) -> std::ffi::c_int {
    // SAFETY: called by the collector with a live proxy; only its own references are visited.
    unsafe {
        let memory = fields(object);
        for reference in
            [(*memory).declared, (*memory).controller, (*memory).resolved, ffi::Py_TYPE(object).cast()]
        {
            if !reference.is_null() {
                let stop = visit(reference, arg);
                if stop != 0 {
                    return stop;
                }
            }
        }
    }
    0
}

pub(super) unsafe extern "C" fn clear_proxy(object: *mut ffi::PyObject) -> std::ffi::c_int {
    // SAFETY: called by the collector with a live proxy.
    unsafe { let_go(object) };
    0
}

// ------------------------------------------------------------------ operations

/// Runs `body`, turning errors and panics into a Python error and a null result.
pub(super) fn guarded(py: Python<'_>, body: impl FnOnce() -> PyResult<*mut ffi::PyObject>) -> *mut ffi::PyObject {
    let error = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(result)) => return result,
        Ok(Err(error)) => error,
        Err(_) => PyRuntimeError::new_err("objspace: a panic inside a proxy; please report this"),
    };
    error.restore(py);
    ptr::null_mut()
}

/// The one gate: performs `op` on a proxy.
pub(crate) fn operate<'py>(
    proxy: &Bound<'py, PyAny>,
    op: Op,
    args: &[Bound<'py, PyAny>],
    keywords: &Keywords<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = proxy.py();
    let this = ProxyRef(proxy.clone());
    // Held for the whole operation, during which the proxy may be cleared.
    let Some(controller) = this.controller() else {
        return Err(cleared());
    };
    // SAFETY: a live proxy.
    let deferred = unsafe { (*fields(proxy.as_ptr())).declared.is_null() };
    if deferred && (op != Op::CALL || unsafe { !(*fields(proxy.as_ptr())).resolved.is_null() }) {
        let resolved = this.resolved(py)?;
        let keywords = (!keywords.is_empty()).then(|| dict(py, keywords)).transpose()?;
        return perform(&resolved, op, &Arguments { positional: args.to_vec(), keywords });
    }
    match this.native() {
        Some(native) => (native.operate)(py, proxy, &controller, op, args, keywords),
        None => {
            let Some(name) = op.name() else {
                return Err(PyTypeError::new_err("an unknown operation"));
            };
            let mut all = Vec::with_capacity(args.len() + 1);
            all.push(PyString::intern(py, name).into_any());
            all.extend_from_slice(args);
            let keywords = (!keywords.is_empty()).then(|| dict(py, keywords)).transpose()?;
            controller.call(PyTuple::new(py, all)?, keywords.as_ref())
        }
    }
}

/// Keyword arguments as a dict.
pub(crate) fn dict<'py>(py: Python<'py>, keywords: &Keywords<'py>) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in keywords {
        dict.set_item(name, value)?;
    }
    Ok(dict)
}

/// What the hook of `type(x)` asks of every object: the declared type of a proxy.
unsafe fn classify(object: *mut ffi::PyObject) -> Answer {
    if !is_proxy(object) {
        // SAFETY: attached, with a live object. The twin of a remote class shows another metaclass
        // than it has; any class whose metaclass is `type` itself is none.
        unsafe {
            if ffi::PyType_Check(object) == 0 || ffi::Py_TYPE(object) == &raw mut ffi::PyType_Type {
                return Answer::NotAProxy;
            }
            let class = Bound::from_borrowed_ptr(Python::assume_attached(), object);
            let visible = class.cast::<PyType>().ok().and_then(visible_metaclass);
            return visible.map_or(Answer::NotAProxy, |visible| Answer::New(visible.into_ptr().cast()));
        }
    }
    // SAFETY: the interpreter calls `type(x)` attached, with a live object, which keeps its declared
    // type alive.
    unsafe {
        let py = Python::assume_attached();
        let declared = (*fields(object)).declared;
        if !declared.is_null() {
            return Answer::Borrowed(declared.cast());
        }
        let proxy = ProxyRef(Bound::from_borrowed_ptr(py, object));
        let found = guarded(py, || Ok(proxy.declared(py)?.into_ptr()));
        if found.is_null() { Answer::Failed } else { Answer::New(found.cast()) }
    }
}

/// Makes `type(proxy)` answer the declared type, unless `OBJSPACE_TYPE_HOOK=0`.
pub(crate) fn install_type_hook(py: Python<'_>) -> PyResult<()> {
    if std::env::var_os("OBJSPACE_TYPE_HOOK").is_some_and(|value| value == "0") {
        return Ok(());
    }
    // SAFETY: attached; `classify` tells the truth about its references.
    if unsafe { type_hook::install(classify) } == 0 { Ok(()) } else { Err(PyErr::fetch(py)) }
}
