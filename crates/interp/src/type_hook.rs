//! `type(proxy)` answers the type that the proxy stands for.
//!
//! `type(x)` is a call of `PyType_Type`, whose `tp_vectorcall` and `tp_call` are replaced by
//! functions that ask a classifier first. Three things follow from that.
//!
//! 1. **The adaptive interpreter must not inline `type(x)`.** It does so for types that are flagged
//!    immutable, so that flag is cleared on `type`, and sites that are already specialised are set
//!    back (`sweep`).
//! 2. **`type` must stay immutable nonetheless.** What reads the flag to refuse a change of `type`
//!    (`tp_setattro`, the setters of `__name__` and its like, the setter of `__class__`) is wrapped
//!    by functions that raise the flag for the time of the original call, so that CPython itself
//!    refuses, with its own words.
//! 3. **Metaclasses must not notice.** CPython lets `type.__setattr__(cls, …)` through only if the
//!    function behind it is the one in the type's slot, so the wrapper goes into the slots of all
//!    metaclasses that inherited the original and behind `type.__setattr__`, `type.__delattr__` and
//!    `type.__call__` themselves.
//!
//! Known to differ while the hook is installed: `type.__flags__` lacks the bit; registering `type`
//! itself with `collections.abc.Mapping` or `Sequence` would take effect in patterns; a C extension
//! that creates an *immutable metaclass* gets CPython's warning about mutable bases (the standard
//! library of 3.13 has one such, `_ctypes`, which is therefore imported first).
//!
//! `PyType_Type` is shared by all interpreters of a process. Only the one that installs the hook is
//! swept, and `type.__setattr__` is patched in it and in interpreters that are created later; the
//! classifier is called in all of them. Install the hook in the main interpreter, before others.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use pyo3_ffi::{
    Py_DECREF, Py_NewRef, Py_TPFLAGS_IMMUTABLETYPE, Py_TPFLAGS_TYPE_SUBCLASS, Py_TYPE,
    PyBaseObject_Type, PyDict_Size, PyErr_Clear, PyErr_SetString, PyExc_RuntimeError, PyGetSetDef,
    PyImport_ImportModule, PyList_GET_ITEM, PyList_GET_SIZE, PyObject, PyObject_CallMethod,
    PyObject_GetAttrString, PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyType_Type, PyTypeObject,
    PyVectorcall_NARGS, PyWrapperDescr_Type, PyWrapperDescrObject, destructor,
};

use crate::layout::IMMUTABLE_METACLASSES;
use crate::sweep::despecialise;

/// What a classifier says about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the hook must know every answer")]
pub enum Answer {
    /// It is a proxy for this type; the reference is borrowed and outlives the call.
    Borrowed(*mut PyTypeObject),
    /// Finding out failed; a Python exception is set, and `type(x)` raises it.
    Failed,
    /// It is a proxy for this type; the reference is new.
    New(*mut PyTypeObject),
    /// It is no proxy: `type(x)` is what it always was.
    NotAProxy,
}

/// Says what an object is a proxy for. It is asked for objects with the destructor of proxies, and
/// for classes that have a metaclass; it may run Python code.
pub type Classify = unsafe fn(*mut PyObject) -> Answer;

/// How many setters `type` may have; CPython 3.13 has seven.
const SETTERS_MAX: usize = 12;

/// The classifier; null while the hook is not installed. Everything here changes with the GIL held,
/// so the atomics are for the compiler's peace only, and relaxed.
static CLASSIFY: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());
/// The destructor by which proxies are told from everything else.
static DEALLOC: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());
/// The replaced functions; null before the first installation.
static VECTORCALL: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());
static CALL: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());
static SETATTRO: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());
static SET_CLASS: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());
static SETTERS: [AtomicPtr<()>; SETTERS_MAX] =
    [const { AtomicPtr::new(ptr::null_mut()) }; SETTERS_MAX];
/// How many calls run that must find `type` immutable.
static GUARDED: AtomicUsize = AtomicUsize::new(0);
static FLAG_CLEARED: AtomicBool = AtomicBool::new(false);

/// Puts the hook in. With the same classifier again: no effect. `dealloc` is the destructor that all
/// types of proxies share; objects with another one are taken for what they are.
///
/// Returns zero, or -1 with a Python exception set and nothing changed.
///
/// # Safety
/// See the crate. `classify` upholds what [`Answer`] says.
pub unsafe fn install(classify: Classify, dealloc: destructor) -> c_int {
    // SAFETY: the GIL is held throughout, and `type`'s slots are only ever read with it held.
    unsafe {
        if installed() {
            if CLASSIFY.load(Ordering::Relaxed) == classify as *mut () {
                return 0;
            }
            PyErr_SetString(
                PyExc_RuntimeError,
                c"the hook of type(x) is in use already".as_ptr(),
            );
            return -1;
        }
        for module in IMMUTABLE_METACLASSES {
            let module = PyImport_ImportModule(module.as_ptr());
            if module.is_null() {
                // Not every Python is built with it.
                PyErr_Clear();
            } else {
                Py_DECREF(module);
            }
        }
        let Some(wrappers) = Wrappers::find() else {
            return -1;
        };
        let Some(metaclasses) = Metaclasses::find() else {
            return -1;
        };
        let kind = &raw mut PyType_Type;
        let (Some(vectorcall), Some(call), Some(setattro)) =
            ((*kind).tp_vectorcall, (*kind).tp_call, (*kind).tp_setattro)
        else {
            PyErr_SetString(PyExc_RuntimeError, c"'type' has lost its slots".as_ptr());
            return -1;
        };
        VECTORCALL.store(vectorcall as *mut (), Ordering::Relaxed);
        CALL.store(call as *mut (), Ordering::Relaxed);
        SETATTRO.store(setattro as *mut (), Ordering::Relaxed);
        CLASSIFY.store(classify as *mut (), Ordering::Relaxed);
        DEALLOC.store(dealloc as *mut (), Ordering::Relaxed);

        (*kind).tp_vectorcall = Some(hooked_vectorcall);
        (*kind).tp_call = Some(hooked_call);
        wrappers.set(hooked_call as *mut c_void, hooked_setattro as *mut c_void);
        metaclasses.replace(setattro, hooked_setattro);
        guard_setters();
        (*kind).tp_flags &= !Py_TPFLAGS_IMMUTABLETYPE;
        FLAG_CLEARED.store(true, Ordering::Relaxed);

        // Last: from here on no site is specialised any more. Python code may run while objects are
        // listed, which is why the hook already works.
        if !despecialise() {
            uninstall_found(&wrappers, &metaclasses);
            return -1;
        }
        0
    }
}

/// Takes the hook out: everything is as it was before. Not installed: no effect.
///
/// Returns zero, or -1 with a Python exception set and nothing changed.
///
/// # Safety
/// See the crate.
pub unsafe fn uninstall() -> c_int {
    // SAFETY: as in `install`.
    unsafe {
        if !installed() {
            return 0;
        }
        let Some(wrappers) = Wrappers::find() else {
            return -1;
        };
        let Some(metaclasses) = Metaclasses::find() else {
            return -1;
        };
        uninstall_found(&wrappers, &metaclasses);
        0
    }
}

/// Whether the hook is in.
pub fn installed() -> bool {
    !CLASSIFY.load(Ordering::Relaxed).is_null()
}

unsafe fn uninstall_found(wrappers: &Wrappers, metaclasses: &Metaclasses) {
    // SAFETY: as in `install`; the stored functions are those that were replaced.
    unsafe {
        let kind = &raw mut PyType_Type;
        (*kind).tp_vectorcall = Some(original_vectorcall());
        (*kind).tp_call = Some(original_call());
        wrappers.set(
            original_call() as *mut c_void,
            original_setattro() as *mut c_void,
        );
        metaclasses.replace(hooked_setattro, original_setattro());
        release_setters();
        (*kind).tp_flags |= Py_TPFLAGS_IMMUTABLETYPE;
        FLAG_CLEARED.store(false, Ordering::Relaxed);
        CLASSIFY.store(ptr::null_mut(), Ordering::Relaxed);
    }
}

fn original_vectorcall()
-> unsafe extern "C" fn(*mut PyObject, *const *mut PyObject, usize, *mut PyObject) -> *mut PyObject
{
    // SAFETY: the only value ever stored is such a function, before the first caller of this.
    unsafe { std::mem::transmute(VECTORCALL.load(Ordering::Relaxed)) }
}

fn original_call()
-> unsafe extern "C" fn(*mut PyObject, *mut PyObject, *mut PyObject) -> *mut PyObject {
    // SAFETY: as in `original_vectorcall`.
    unsafe { std::mem::transmute(CALL.load(Ordering::Relaxed)) }
}

fn original_setattro() -> unsafe extern "C" fn(*mut PyObject, *mut PyObject, *mut PyObject) -> c_int
{
    // SAFETY: as in `original_vectorcall`.
    unsafe { std::mem::transmute(SETATTRO.load(Ordering::Relaxed)) }
}

/// What is to be answered for an object that may be a proxy. `None`: no proxy, or no hook.
///
/// # Safety
/// See the crate.
unsafe fn answer(object: *mut PyObject) -> Option<*mut PyObject> {
    let classify = CLASSIFY.load(Ordering::Relaxed);
    if classify.is_null() {
        return None;
    }
    // SAFETY: the only values ever stored are null and functions of this type.
    let classify: Classify = unsafe { std::mem::transmute(classify) };
    // SAFETY: `object` is alive: it is an argument of the call that runs.
    match unsafe { classify(object) } {
        // SAFETY: the classifier's promise.
        Answer::Borrowed(kind) => Some(unsafe { Py_NewRef(kind.cast()) }),
        Answer::Failed => Some(ptr::null_mut()),
        Answer::New(kind) => Some(kind.cast()),
        Answer::NotAProxy => None,
    }
}

/// Whether the classifier has to be asked at all: for objects with the destructor of proxies, and
/// for classes that have a metaclass. This is what an ordinary `type(x)` pays.
///
/// # Safety
/// See the crate; `kind` is the live type of an object.
#[inline]
unsafe fn may_be_a_proxy(kind: *mut PyTypeObject) -> bool {
    // SAFETY: as the caller says.
    unsafe {
        (*kind)
            .tp_dealloc
            .is_some_and(|dealloc| dealloc as *mut () == DEALLOC.load(Ordering::Relaxed))
            || ((*kind).tp_flags & Py_TPFLAGS_TYPE_SUBCLASS != 0 && kind != &raw mut PyType_Type)
    }
}

unsafe extern "C" fn hooked_vectorcall(
    callable: *mut PyObject,
    arguments: *const *mut PyObject,
    count: usize,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: the vectorcall protocol: `arguments` has as many entries as `count` says, `names` is
    // null or a tuple.
    unsafe {
        if callable == (&raw mut PyType_Type).cast()
            && PyVectorcall_NARGS(count) == 1
            && (names.is_null() || PyTuple_GET_SIZE(names) == 0)
        {
            let object = *arguments;
            let kind = Py_TYPE(object);
            if !may_be_a_proxy(kind) {
                // What the original does with one argument.
                return Py_NewRef(kind.cast());
            }
            if let Some(kind) = answer(object) {
                return kind;
            }
        }
        original_vectorcall()(callable, arguments, count, names)
    }
}

unsafe extern "C" fn hooked_call(
    callable: *mut PyObject,
    arguments: *mut PyObject,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: the protocol of `tp_call`: a tuple, and null or a dict.
    unsafe {
        if callable == (&raw mut PyType_Type).cast()
            && PyTuple_GET_SIZE(arguments) == 1
            && (names.is_null() || PyDict_Size(names) == 0)
            && let Some(kind) = answer(PyTuple_GET_ITEM(arguments, 0))
        {
            return kind;
        }
        original_call()(callable, arguments, names)
    }
}

/// Runs a call that must find `type` immutable, and fails because of it. Python code runs meanwhile
/// only in an audit hook of `object.__setattr__`, or to print a name whose class derives from
/// `str`; a `type(x)` that gets hot in exactly that code would be specialised.
///
/// # Safety
/// See the crate.
unsafe fn guarded(call: impl FnOnce() -> c_int) -> c_int {
    // SAFETY: the GIL is held whenever the flag or the counter is touched.
    unsafe {
        let kind = &raw mut PyType_Type;
        GUARDED.fetch_add(1, Ordering::Relaxed);
        (*kind).tp_flags |= Py_TPFLAGS_IMMUTABLETYPE;
        let result = call();
        if GUARDED.fetch_sub(1, Ordering::Relaxed) == 1 && FLAG_CLEARED.load(Ordering::Relaxed) {
            (*kind).tp_flags &= !Py_TPFLAGS_IMMUTABLETYPE;
        }
        result
    }
}

unsafe extern "C" fn hooked_setattro(
    object: *mut PyObject,
    name: *mut PyObject,
    value: *mut PyObject,
) -> c_int {
    // SAFETY: the arguments are passed on as they are.
    unsafe {
        if object == (&raw mut PyType_Type).cast() {
            return guarded(|| original_setattro()(object, name, value));
        }
        original_setattro()(object, name, value)
    }
}

type Setter = unsafe extern "C" fn(*mut PyObject, *mut PyObject, *mut c_void) -> c_int;

/// The wrapper of the setter with this index among the getset descriptors of `type`.
unsafe extern "C" fn hooked_setter<const INDEX: usize>(
    object: *mut PyObject,
    value: *mut PyObject,
    closure: *mut c_void,
) -> c_int {
    // SAFETY: the setter was stored before this wrapper was put in its place; the arguments are
    // passed on as they are.
    unsafe {
        let original: Setter = std::mem::transmute(SETTERS[INDEX].load(Ordering::Relaxed));
        if object == (&raw mut PyType_Type).cast() {
            return guarded(|| original(object, value, closure));
        }
        original(object, value, closure)
    }
}

const HOOKED_SETTERS: [Setter; SETTERS_MAX] = [
    hooked_setter::<0>,
    hooked_setter::<1>,
    hooked_setter::<2>,
    hooked_setter::<3>,
    hooked_setter::<4>,
    hooked_setter::<5>,
    hooked_setter::<6>,
    hooked_setter::<7>,
    hooked_setter::<8>,
    hooked_setter::<9>,
    hooked_setter::<10>,
    hooked_setter::<11>,
];

/// The setter of `__class__`: neither may an instance of `type` get another class, nor anything get
/// the class `type`.
unsafe extern "C" fn hooked_set_class(
    object: *mut PyObject,
    value: *mut PyObject,
    closure: *mut c_void,
) -> c_int {
    // SAFETY: as in `hooked_setter`.
    unsafe {
        let original: Setter = std::mem::transmute(SET_CLASS.load(Ordering::Relaxed));
        let kind = &raw mut PyType_Type;
        if Py_TYPE(object) == kind || value == kind.cast() {
            return guarded(|| original(object, value, closure));
        }
        original(object, value, closure)
    }
}

/// Calls `change` with the index and the definition of each attribute with a getter or setter.
///
/// # Safety
/// `kind` is a static type.
unsafe fn each_getset(kind: *mut PyTypeObject, mut change: impl FnMut(usize, &mut PyGetSetDef)) {
    // SAFETY: the table ends with a definition without a name. It is static data of libpython that
    // is not constant, and descriptors read it with the GIL held.
    unsafe {
        let mut definition = (*kind).tp_getset;
        let mut index = 0;
        while !definition.is_null() && !(*definition).name.is_null() {
            change(index, &mut *definition);
            definition = definition.add(1);
            index += 1;
        }
    }
}

/// # Safety
/// See the crate.
unsafe fn guard_setters() {
    // SAFETY: both types are static.
    unsafe {
        each_getset(&raw mut PyType_Type, |index, definition| {
            if let Some(setter) = definition.set
                && index < SETTERS_MAX
            {
                SETTERS[index].store(setter as *mut (), Ordering::Relaxed);
                definition.set = Some(HOOKED_SETTERS[index]);
            }
        });
        each_getset(&raw mut PyBaseObject_Type, |_, definition| {
            if let Some(setter) = definition.set
                && CStr::from_ptr(definition.name) == c"__class__"
            {
                SET_CLASS.store(setter as *mut (), Ordering::Relaxed);
                definition.set = Some(hooked_set_class);
            }
        });
    }
}

/// # Safety
/// See the crate; `guard_setters` was called.
unsafe fn release_setters() {
    // SAFETY: as in `guard_setters`; what is restored is what was stored there.
    unsafe {
        each_getset(&raw mut PyType_Type, |index, definition| {
            if definition.set.is_some() && index < SETTERS_MAX {
                let original: Setter = std::mem::transmute(SETTERS[index].load(Ordering::Relaxed));
                definition.set = Some(original);
            }
        });
        each_getset(&raw mut PyBaseObject_Type, |_, definition| {
            if definition.set.is_some() && CStr::from_ptr(definition.name) == c"__class__" {
                let original: Setter = std::mem::transmute(SET_CLASS.load(Ordering::Relaxed));
                definition.set = Some(original);
            }
        });
    }
}

/// `type.__call__`, `type.__setattr__` and `type.__delattr__`.
struct Wrappers([*mut PyWrapperDescrObject; 3]);

impl Wrappers {
    /// `None`: a Python exception is set.
    ///
    /// # Safety
    /// See the crate.
    unsafe fn find() -> Option<Self> {
        let mut found = [ptr::null_mut(); 3];
        for (slot, name) in found
            .iter_mut()
            .zip([c"__call__", c"__setattr__", c"__delattr__"])
        {
            // SAFETY: `type` and its dictionary live as long as the interpreter, and so do the
            // descriptors in it (nobody can change `type`): the reference can be given back.
            unsafe {
                let object = PyObject_GetAttrString((&raw mut PyType_Type).cast(), name.as_ptr());
                if object.is_null() {
                    return None;
                }
                let kind = Py_TYPE(object);
                Py_DECREF(object);
                if kind != &raw mut PyWrapperDescr_Type {
                    PyErr_SetString(
                        PyExc_RuntimeError,
                        c"'type' has been changed by another extension".as_ptr(),
                    );
                    return None;
                }
                *slot = object.cast();
            }
        }
        Some(Self(found))
    }

    /// # Safety
    /// The functions are of the kinds that the wrappers call.
    unsafe fn set(&self, call: *mut c_void, setattro: *mut c_void) {
        let [call_wrapper, setattr_wrapper, delattr_wrapper] = self.0;
        // SAFETY: they are wrapper descriptors and alive (see `find`).
        unsafe {
            (*call_wrapper).d_wrapped = call;
            (*setattr_wrapper).d_wrapped = setattro;
            (*delattr_wrapper).d_wrapped = setattro;
        }
    }
}

/// `type` and everything derived from it. Holds a reference to each.
struct Metaclasses(Vec<*mut PyTypeObject>);

impl Metaclasses {
    /// `None`: a Python exception is set.
    ///
    /// # Safety
    /// See the crate.
    unsafe fn find() -> Option<Self> {
        let mut found = Self(Vec::new());
        // SAFETY: `__subclasses__` returns a list of types; each gets a reference of its own
        // before the list goes.
        unsafe {
            let kind = &raw mut PyType_Type;
            found.0.push(Py_NewRef(kind.cast()).cast());
            let mut next = 0;
            while next < found.0.len() {
                let base: *mut PyObject = found.0[next].cast();
                next += 1;
                let list = PyObject_CallMethod(
                    kind.cast(),
                    c"__subclasses__".as_ptr(),
                    c"(O)".as_ptr(),
                    base,
                );
                if list.is_null() {
                    return None;
                }
                for i in 0..PyList_GET_SIZE(list) {
                    let derived: *mut PyTypeObject = PyList_GET_ITEM(list, i).cast();
                    if !found.0.contains(&derived) {
                        found.0.push(Py_NewRef(derived.cast()).cast());
                    }
                }
                Py_DECREF(list);
            }
        }
        Some(found)
    }

    /// Changes the slot of `__setattr__` where it is `from`.
    ///
    /// # Safety
    /// `from` and `to` behave alike but for the type `type`.
    unsafe fn replace(
        &self,
        from: unsafe extern "C" fn(*mut PyObject, *mut PyObject, *mut PyObject) -> c_int,
        to: unsafe extern "C" fn(*mut PyObject, *mut PyObject, *mut PyObject) -> c_int,
    ) {
        for &kind in &self.0 {
            // SAFETY: a live type, whose slots are read with the GIL held. No cache of CPython's
            // depends on this slot's value, so nothing has to be invalidated.
            unsafe {
                if (*kind)
                    .tp_setattro
                    .is_some_and(|slot| slot as usize == from as usize)
                {
                    (*kind).tp_setattro = Some(to);
                }
            }
        }
    }
}

impl Drop for Metaclasses {
    fn drop(&mut self) {
        for kind in self.0.drain(..) {
            // SAFETY: the reference that `find` took; the GIL is held as in every caller.
            unsafe { Py_DECREF(kind.cast()) };
        }
    }
}
