//! The proxy object: its memory, its life, and the one gate that all its operations pass.
//!
//! A proxy's own fields stand at the *end* of its memory, after whatever the C layout of the proxied
//! class demands (for most types nothing but the object header). One rule therefore finds them in
//! every proxy: the basic size of its type less the size of [`Payload`].

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{ptr, slice};

use objspace_proto::Op;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::bypass;
use super::delegation::{DELEGATE, forwarded};
use super::perform::perform;
use super::table::{OpSet, opname};
use super::types;

/// A pointer to a Python object, as slots take and return it.
pub(super) type Object = *mut ffi::PyObject;

/// Keyword arguments: names and values.
pub(crate) type Keywords<'py> = [(Bound<'py, PyString>, Bound<'py, PyAny>)];

/// A controller written in Rust.
pub(crate) struct Native {
    /// Performs an operation: (proxy, controller, operation, arguments, keyword arguments).
    #[allow(
        clippy::type_complexity,
        reason = "a table of functions, read where they are defined"
    )]
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
    #[allow(clippy::type_complexity, reason = "as above")]
    pub(crate) resolve: for<'py> fn(
        Python<'py>,
        &Bound<'py, PyAny>,
        &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>>,
    /// For a deferred proxy: it answers the fetch of an attribute itself, unresolved.
    pub(crate) attributes: bool,
}

/// The fields of every proxy. All zeros is a valid value.
#[repr(C)]
pub(super) struct Payload {
    /// Owned; null for a deferred proxy.
    pub(super) declared: Object,
    /// Owned; null once the garbage collector has cleared the proxy.
    controller: Object,
    /// Null for a controller that is any Python callable.
    native: *const Native,
    /// Owned; what a deferred proxy turned out to be, or null.
    resolved: Object,
    /// The operations that the declared type has; static.
    present: *const OpSet,
    /// What `Py_TPFLAGS_HAVE_VECTORCALL` reads, in types that can be called.
    pub(super) vectorcall: Option<ffi::vectorcallfunc>,
    /// The list of weak references, in types that keep it here.
    pub(super) weakrefs: Object,
}

/// Whether `object` is a proxy: all proxy types share one destructor.
#[inline]
pub(crate) fn is_proxy(object: *mut ffi::PyObject) -> bool {
    // SAFETY: callers are attached and have a live object, whose type is live too.
    let dealloc = unsafe { (*ffi::Py_TYPE(object)).tp_dealloc };
    dealloc.is_some_and(|dealloc| ptr::fn_addr_eq(dealloc, dealloc_proxy as ffi::destructor))
}

impl Payload {
    /// Where the fields of `proxy` are.
    ///
    /// # Safety
    /// Attached, and `proxy` is a live proxy.
    #[inline]
    pub(super) unsafe fn of(proxy: Object) -> *mut Self {
        // SAFETY: every proxy type is made with a basic size that ends in a payload, and none can be
        // subclassed, so that the type of a proxy is always one of those.
        unsafe {
            let end = (*ffi::Py_TYPE(proxy)).tp_basicsize.cast_unsigned();
            proxy.byte_add(end - size_of::<Self>()).cast()
        }
    }

    /// The same for any object: null if it is no proxy.
    ///
    /// # Safety
    /// Attached, and `object` is live.
    #[inline]
    pub(super) unsafe fn find(object: Object) -> *mut Self {
        // SAFETY: as the caller says.
        if is_proxy(object) {
            // SAFETY: it has just been seen to be a proxy.
            unsafe { Self::of(object) }
        } else {
            ptr::null_mut()
        }
    }

    /// Whether the declared type has the special method of `op`.
    pub(super) fn has(&self, op: Op) -> bool {
        // SAFETY: set when the proxy was made, to a set that is never freed.
        unsafe { self.present.as_ref() }.is_none_or(|present| present.contains(op))
    }

    /// The object behind `proxy` if that only delegates; borrowed.
    ///
    /// # Safety
    /// Attached, and `proxy` is a live proxy.
    #[inline]
    pub(super) unsafe fn delegate_of(proxy: Object) -> Option<Object> {
        // SAFETY: as the caller says.
        unsafe {
            let payload = Self::of(proxy);
            let delegates = ptr::eq((*payload).native, &raw const DELEGATE);
            (delegates && !(*payload).controller.is_null()).then_some((*payload).controller)
        }
    }

    /// Whether the type of the proxy is yet to be found out.
    pub(super) fn is_deferred(&self) -> bool {
        self.declared.is_null()
    }
}

/// A proxy, known to be one.
pub(crate) struct ProxyRef<'py>(Bound<'py, PyAny>);

/// `object` as a proxy, if it is one.
pub(crate) fn as_proxy<'py>(object: &Bound<'py, PyAny>) -> Option<ProxyRef<'py>> {
    is_proxy(object.as_ptr()).then(|| ProxyRef(object.clone()))
}

impl<'py> ProxyRef<'py> {
    /// The proxy itself.
    pub(crate) fn object(&self) -> &Bound<'py, PyAny> {
        &self.0
    }

    fn payload(&self) -> *mut Payload {
        // SAFETY: `self` holds a live proxy, and a `Bound` means attached.
        unsafe { Payload::of(self.0.as_ptr()) }
    }

    /// The type that the proxy says it has.
    pub(crate) fn declared(&self, py: Python<'py>) -> PyResult<Bound<'py, PyType>> {
        // SAFETY: `self` is a live proxy; its declared type is owned by it, or null.
        let declared = unsafe { Bound::from_borrowed_ptr_or_opt(py, (*self.payload()).declared) };
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
        unsafe { Bound::from_borrowed_ptr_or_opt(self.0.py(), (*self.payload()).controller) }
    }

    fn native(&self) -> Option<&'static Native> {
        // SAFETY: `self` is a live proxy; the table is static, or null.
        unsafe { (*self.payload()).native.as_ref() }
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
        let payload = self.payload();
        // SAFETY: `self` is a live proxy; the object is owned by it, or null.
        if let Some(resolved) = unsafe { Bound::from_borrowed_ptr_or_opt(py, (*payload).resolved) }
        {
            return Ok(resolved);
        }
        let (Some(native), Some(controller)) = (self.native(), self.controller()) else {
            return Err(cleared());
        };
        let resolved = (native.resolve)(py, &self.0, &controller)?;
        // SAFETY: as above. Asking may have run other code that resolved it meanwhile: the first
        // answer stays.
        unsafe {
            if (*payload).resolved.is_null() {
                (*payload).resolved = resolved.clone().into_ptr();
                Ok(resolved)
            } else {
                Ok(Bound::from_borrowed_ptr(py, (*payload).resolved))
            }
        }
    }
}

fn cleared() -> PyErr {
    PyRuntimeError::new_err(
        "the proxy was part of a reference cycle that the garbage collector has cleared",
    )
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
pub(crate) fn new_deferred(
    py: Python<'_>,
    controller: Py<PyAny>,
    native: &'static Native,
) -> PyResult<Py<PyAny>> {
    let class = types::deferred_type(py)?;
    allocate(py, &class, ptr::null_mut(), controller, Some(native))
}

fn allocate(
    py: Python<'_>,
    class: &types::ProxyType<'_>,
    declared: Object,
    controller: Py<PyAny>,
    native: Option<&'static Native>,
) -> PyResult<Py<PyAny>> {
    let kind = class.class.as_type_ptr();
    // SAFETY: a proxy type; its allocation is zeroed and tracked, and zero is a valid value of every
    // field, also of the memory that the C layout of an exception demands once its base has been
    // through `initialise`.
    let object = unsafe {
        let object = ffi::PyType_GenericAlloc(kind, 0);
        Bound::from_owned_ptr_or_err(py, object)
    };
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
        let payload = Payload::of(object.as_ptr());
        (*payload).declared = declared;
        (*payload).controller = controller.into_ptr();
        (*payload).native = native.map_or(ptr::null(), ptr::from_ref);
        (*payload).present = class.present;
        (*payload).vectorcall = Some(super::slots::vectorcall);
    }
    if class.is_exception {
        super::exceptions::initialise(&object)?;
    }
    Ok(object.unbind())
}

// ------------------------------------------------------------------ memory

/// Calls `each` with the words of a proxy's memory that belong to the slots of the proxied class:
/// the proxy never reads them, but the descriptors of these slots, called by hand, can write them.
///
/// # Safety
/// Attached, and `object` is a live proxy.
unsafe fn foreign_slots(object: Object, mut each: impl FnMut(*mut Object) -> c_int) -> c_int {
    // SAFETY: between the memory of the innermost static base, which is `object` or a built-in
    // exception, and the payload there is nothing but what `class` statements put there: pointers to
    // objects or null, and the list of weak references, which is skipped.
    unsafe {
        let class = ffi::Py_TYPE(object);
        let base = types::static_base(class);
        let weakrefs = (*class).tp_weaklistoffset;
        let end = (*class).tp_basicsize.cast_unsigned() - size_of::<Payload>();
        let mut offset = (*base).tp_basicsize.cast_unsigned();
        while offset < end {
            if offset.cast_signed() != weakrefs {
                let stop = each(object.byte_add(offset).cast());
                if stop != 0 {
                    return stop;
                }
            }
            offset += size_of::<Object>();
        }
    }
    0
}

/// Empties everything but the declared type, appending the references to `loose`.
///
/// # Safety
/// Attached, and `object` is a live proxy.
unsafe fn let_go(object: Object, loose: &mut Vec<Object>) {
    // SAFETY: as the caller says. Every field is emptied before any reference is given back, because
    // that may run code that looks at the proxy.
    unsafe {
        let payload = Payload::of(object);
        let controller = ptr::replace(&raw mut (*payload).controller, ptr::null_mut());
        let native = ptr::replace(&raw mut (*payload).native, ptr::null());
        if let (false, Some(native)) = (controller.is_null(), native.as_ref()) {
            (native.dropped)(controller, object);
        }
        let resolved = ptr::replace(&raw mut (*payload).resolved, ptr::null_mut());
        loose.extend(
            [controller, resolved]
                .into_iter()
                .filter(|held| !held.is_null()),
        );
        foreign_slots(object, |slot| {
            let held = ptr::replace(slot, ptr::null_mut());
            if !held.is_null() {
                loose.push(held);
            }
            0
        });
    }
}

thread_local! {
    /// How many destructors of proxies are under way on this thread, one inside the other.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// References of proxies that died too deep: the outermost destructor gives them back.
    static LOOSE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Deeper than this, references are left to the outermost destructor, so that a long chain of
/// proxies of proxies does not exhaust the C stack.
const MAX_DEPTH: u32 = 40;

/// Gives references back, however deep the chain behind them is.
///
/// # Safety
/// Attached; every reference is owned by the caller.
unsafe fn release(loose: &[Object]) {
    let depth = DEPTH.try_with(Cell::get).unwrap_or(0);
    if depth >= MAX_DEPTH {
        let kept = LOOSE.try_with(|queue| {
            queue
                .borrow_mut()
                .extend(loose.iter().map(|held| held.expose_provenance()));
        });
        if kept.is_ok() {
            return;
        }
    }
    let _ = DEPTH.try_with(|cell| cell.set(depth + 1));
    for held in loose {
        // SAFETY: owned, as the caller says.
        unsafe { ffi::Py_DECREF(*held) };
    }
    if depth == 0 {
        while let Ok(Some(held)) = LOOSE.try_with(|queue| queue.borrow_mut().pop()) {
            // SAFETY: put there by a destructor that owned it.
            unsafe { ffi::Py_DECREF(ptr::with_exposed_provenance_mut(held)) };
        }
    }
    let _ = DEPTH.try_with(|cell| cell.set(depth));
}

pub(super) unsafe extern "C" fn dealloc_proxy(object: Object) {
    // SAFETY: called once, by the interpreter, with a proxy whose count has reached zero. The
    // controller is told before a weak reference's callback can ask it; nothing runs Python code
    // while the proxy is still tracked.
    unsafe {
        let payload = Payload::of(object);
        let native = ptr::replace(&raw mut (*payload).native, ptr::null());
        if let (false, Some(native)) = ((*payload).controller.is_null(), native.as_ref()) {
            (native.dropped)((*payload).controller, object);
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        let class = ffi::Py_TYPE(object);
        // An error that is being raised must survive whatever the end of the proxy runs.
        let error = ffi::PyErr_Occurred();
        let mut saved = [ptr::null_mut(); 3];
        if !error.is_null() {
            let [kind, value, traceback] = &mut saved;
            #[allow(deprecated, reason = "its successor is not in CPython 3.11")]
            ffi::PyErr_Fetch(kind, value, traceback);
        }
        if (*class).tp_weaklistoffset != 0 {
            ffi::PyObject_ClearWeakRefs(object);
        }
        let mut loose = Vec::new();
        let_go(object, &mut loose);
        let base = types::static_base(class);
        if types::is_exception_class(class)
            && let Some(clear) = (*base).tp_clear
        {
            clear(object);
        }
        let declared = ptr::replace(&raw mut (*payload).declared, ptr::null_mut());
        if !declared.is_null() {
            loose.push(declared);
        }
        ffi::PyObject_GC_Del(object.cast());
        loose.push(class.cast());
        release(&loose);
        if !error.is_null() {
            let [kind, value, traceback] = saved;
            #[allow(deprecated, reason = "its successor is not in CPython 3.11")]
            ffi::PyErr_Restore(kind, value, traceback);
        }
    }
}

pub(super) unsafe extern "C" fn traverse_proxy(
    object: Object,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: called by the collector with a live proxy; only its own references are visited.
    unsafe {
        let payload = Payload::of(object);
        let class = ffi::Py_TYPE(object);
        for held in [
            (*payload).declared,
            (*payload).controller,
            (*payload).resolved,
            class.cast(),
        ] {
            if !held.is_null() {
                let stop = visit(held, arg);
                if stop != 0 {
                    return stop;
                }
            }
        }
        if types::is_exception_class(class)
            && let Some(traverse) = (*types::static_base(class)).tp_traverse
        {
            let stop = traverse(object, visit, arg);
            if stop != 0 {
                return stop;
            }
        }
        foreign_slots(object, |slot| {
            if (*slot).is_null() {
                0
            } else {
                visit(*slot, arg)
            }
        })
    }
}

pub(super) unsafe extern "C" fn clear_proxy(object: Object) -> c_int {
    // SAFETY: called by the collector with a live proxy.
    unsafe {
        let mut loose = Vec::new();
        let_go(object, &mut loose);
        let class = ffi::Py_TYPE(object);
        if types::is_exception_class(class)
            && let Some(clear) = (*types::static_base(class)).tp_clear
        {
            clear(object);
        }
        release(&loose);
    }
    0
}

// ------------------------------------------------------------------ operations

/// Runs `body`, turning errors and panics into a Python error and a null result.
pub(super) fn guarded(py: Python<'_>, body: impl FnOnce() -> PyResult<Object>) -> Object {
    let error = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(result)) => return result,
        Ok(Err(error)) => error,
        Err(_) => PyRuntimeError::new_err("objspace: a panic inside a proxy; please report this"),
    };
    error.restore(py);
    ptr::null_mut()
}

/// How many values a call to a controller can have before they are put on the heap.
const ON_STACK: usize = 7;

/// How many C calls an operation weighs against the interpreter's limit of recursion. Since CPython
/// 3.12 that limit is one of the C stack, at ten thousand calls, for which the frames of an operation
/// are too large: those of an unoptimised build are several times the size.
fn recursion_weight() -> u32 {
    // SAFETY: a constant of the running interpreter.
    if unsafe { ffi::Py_Version } < 0x030c_0000 {
        1
    } else if cfg!(debug_assertions) {
        16
    } else {
        3
    }
}

/// The one gate: performs `op` on a proxy.
///
/// `args` and `kwnames` follow the vectorcall convention: the values of the keyword arguments stand
/// at the end of `args`, their names in the tuple `kwnames`, which may be null. The result is a new
/// reference, or null with an error set.
///
/// # Safety
/// Attached; `proxy` is a live proxy that the caller keeps alive, and so are all arguments.
pub(super) unsafe fn operate(proxy: Object, op: Op, args: &[Object], kwnames: Object) -> Object {
    // SAFETY: as the caller says. The controller is held during the operation, in which the proxy may
    // be cleared.
    unsafe {
        let payload = Payload::of(proxy);
        let controller = (*payload).controller;
        if controller.is_null() {
            cleared().restore(Python::assume_attached());
            return ptr::null_mut();
        }
        let native = (*payload).native;
        let delegates = ptr::eq(native, &raw const DELEGATE);
        let weight = if delegates && !cfg!(debug_assertions) {
            1
        } else {
            recursion_weight()
        };
        for entered in 0..weight {
            if ffi::Py_EnterRecursiveCall(c" in an operation on a proxy".as_ptr()) != 0 {
                (0..entered).for_each(|_| ffi::Py_LeaveRecursiveCall());
                return ptr::null_mut();
            }
        }
        ffi::Py_INCREF(controller);
        let result = if delegates {
            forwarded(proxy, controller, op, args, kwnames)
        } else if native.is_null() {
            // There is nothing to go around before a controller that is handed the operation itself.
            let _ = bypass::taken(proxy, op);
            call_controller(controller, op, args, kwnames)
        } else {
            Python::attach_unchecked(|py| {
                guarded(py, || {
                    call_native(py, proxy, controller, &*native, op, args, kwnames)
                })
            })
        };
        ffi::Py_DECREF(controller);
        (0..weight).for_each(|_| ffi::Py_LeaveRecursiveCall());
        result
    }
}

/// `controller(opname, *args, **kwargs)`.
///
/// # Safety
/// As of [`operate`].
unsafe fn call_controller(controller: Object, op: Op, args: &[Object], kwnames: Object) -> Object {
    // SAFETY: as the caller says; the first word of the array is room for the callee, as the flag
    // promises.
    unsafe {
        let named = if kwnames.is_null() {
            0
        } else {
            ffi::PyTuple_GET_SIZE(kwnames).cast_unsigned()
        };
        let positional = (args.len() - named + 1) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        if args.len() + 2 <= ON_STACK {
            let mut values = [ptr::null_mut(); ON_STACK];
            let [_, name, rest @ ..] = &mut values;
            *name = opname(op);
            for (to, from) in rest.iter_mut().zip(args) {
                *to = *from;
            }
            ffi::PyObject_Vectorcall(controller, values.as_ptr().add(1), positional, kwnames)
        } else {
            let mut values = Vec::with_capacity(args.len() + 2);
            values.extend([ptr::null_mut(), opname(op)]);
            values.extend_from_slice(args);
            ffi::PyObject_Vectorcall(controller, values.as_ptr().add(1), positional, kwnames)
        }
    }
}

/// Whether a deferred proxy hands an operation to its controller before it is resolved.
fn takes_deferred(native: &Native, op: Op) -> bool {
    op == Op::CALL || (op == Op::GETATTR && native.attributes)
}

/// Hands an operation to a controller written in Rust, or to what a deferred proxy turned out to be.
///
/// # Safety
/// As of [`operate`].
unsafe fn call_native(
    py: Python<'_>,
    proxy: Object,
    controller: Object,
    native: &'static Native,
    op: Op,
    args: &[Object],
    kwnames: Object,
) -> PyResult<Object> {
    // SAFETY: as the caller says. A `Bound` is one pointer to a live object, so that a slice of
    // borrowed pointers can be read as a slice of them behind a reference, which gives nothing back.
    unsafe {
        let proxy = Bound::from_borrowed_ptr(py, proxy);
        let payload = Payload::of(proxy.as_ptr());
        if (*payload).is_deferred()
            && (!takes_deferred(native, op) || !(*payload).resolved.is_null())
        {
            let target = ProxyRef(proxy).resolved(py)?;
            let result = perform(target.as_ptr(), op, args, kwnames);
            return Ok(Bound::from_owned_ptr_or_err(py, result)?.into_ptr());
        }
        let controller = Bound::from_borrowed_ptr(py, controller);
        let all: &[Bound<'_, PyAny>] = slice::from_raw_parts(args.as_ptr().cast(), args.len());
        if kwnames.is_null() {
            return (native.operate)(py, &proxy, &controller, op, all, &[]).map(Bound::into_ptr);
        }
        let names = Bound::from_borrowed_ptr(py, kwnames).cast_into::<PyTuple>()?;
        let (positional, named) = all.split_at(all.len() - names.len());
        let keywords = names
            .iter()
            .zip(named)
            .map(|(name, value)| Ok((name.cast_into::<PyString>()?, value.clone())))
            .collect::<PyResult<Vec<_>>>()?;
        (native.operate)(py, &proxy, &controller, op, positional, &keywords).map(Bound::into_ptr)
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

/// The type that a proxy says it has, as a new reference; null with an error set.
///
/// # Safety
/// Attached, and `proxy` is a live proxy.
pub(super) unsafe fn declared_type(proxy: Object) -> Object {
    // SAFETY: as the caller says.
    unsafe {
        let declared = (*Payload::of(proxy)).declared;
        if !declared.is_null() {
            ffi::Py_INCREF(declared);
            return declared;
        }
        Python::attach_unchecked(|py| {
            let proxy = ProxyRef(Bound::from_borrowed_ptr(py, proxy));
            guarded(py, || Ok(proxy.declared(py)?.into_ptr()))
        })
    }
}

/// What a deferred proxy turned out to be, or the object itself, as a new reference.
///
/// # Safety
/// Attached, and `object` is live.
pub(super) unsafe fn settled(object: Object) -> Object {
    // SAFETY: as the caller says.
    unsafe {
        let payload = Payload::find(object);
        if payload.is_null() || !(*payload).is_deferred() {
            ffi::Py_INCREF(object);
            return object;
        }
        Python::attach_unchecked(|py| {
            let proxy = ProxyRef(Bound::from_borrowed_ptr(py, object));
            guarded(py, || Ok(proxy.resolved(py)?.into_ptr()))
        })
    }
}
