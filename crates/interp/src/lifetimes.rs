//! Being told when objects are gone, without their taking notice.
//!
//! Two places together see the end of (nearly) every object. The allocator of objects sees memory
//! given back; that is when an object is gone for good, after its finalizer and its weak
//! references, and not if it was resurrected. And the few builtin types that keep memory for their
//! next instance (lists, dicts, tuples, slices) are watched one by one: on 3.13 by the reference
//! tracer, before by their deallocators. Such objects have no finalizer.
//!
//! An object is known by its [`key`]: where its memory begins.
//!
//! Not seen: types of C extensions that keep memory for their next instance by themselves.

use std::ffi::{c_ulong, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use pyo3_ffi::compat::PyThreadState_GetUnchecked;
use pyo3_ffi::{
    Py_TPFLAGS_HAVE_GC, Py_TYPE, PyInterpreterState, PyInterpreterState_Get, PyMem_GetAllocator,
    PyMem_SetAllocator, PyMemAllocatorDomain, PyMemAllocatorEx, PyObject,
    PyThreadState_GetInterpreter,
};

/// `Py_TPFLAGS_MANAGED_DICT`, and on 3.12 and later `Py_TPFLAGS_MANAGED_WEAKREF`: two words before
/// the collector's.
#[cfg(not(Py_3_12))]
const MANAGED: c_ulong = 1 << 4;
#[cfg(Py_3_12)]
const MANAGED: c_ulong = 1 << 4 | 1 << 3;

/// Where the memory of an object begins.
///
/// # Safety
/// See the crate.
#[inline]
pub unsafe fn key(object: *mut PyObject) -> usize {
    // SAFETY: a live object has a type. `_PyType_PreHeaderSize`.
    let flags = unsafe { (*Py_TYPE(object)).tp_flags };
    let collector = usize::from(flags & Py_TPFLAGS_HAVE_GC != 0) * 16;
    let managed = usize::from(flags & MANAGED != 0) * 16;
    object as usize - collector - managed
}

/// What is told about keys of objects that are gone. The GIL is held; it must not touch Python. It
/// is also called for keys that never were an object's.
pub type Gone = fn(usize);

static GONE: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());
static INTERPRETER: AtomicPtr<PyInterpreterState> = AtomicPtr::new(ptr::null_mut());
/// Whether our allocator is in the chain: it stays there if another was put on top of it.
static HOOKED: AtomicBool = AtomicBool::new(false);

struct Below(std::cell::UnsafeCell<PyMemAllocatorEx>);
// SAFETY: written only with the GIL held while our allocator is not in use.
unsafe impl Sync for Below {}

static BELOW: Below = Below(std::cell::UnsafeCell::new(PyMemAllocatorEx {
    ctx: ptr::null_mut(),
    malloc: None,
    calloc: None,
    realloc: None,
    free: None,
}));

#[inline]
fn tell(key: usize) {
    let gone = GONE.load(Ordering::Relaxed);
    if gone.is_null() {
        return;
    }
    // SAFETY: plain readings of the calling thread's state. Other interpreters may run with a GIL
    // of their own; their objects are none of ours.
    unsafe {
        let thread = PyThreadState_GetUnchecked();
        if thread.is_null()
            || PyThreadState_GetInterpreter(thread) != INTERPRETER.load(Ordering::Relaxed)
        {
            return;
        }
        let gone: Gone = std::mem::transmute::<*mut (), Gone>(gone);
        gone(key);
    }
}

extern "C" fn malloc(_: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: `BELOW` is what was there before, and is not changed while this is in use.
    unsafe {
        let below = BELOW.0.get();
        match (*below).malloc {
            Some(malloc) => malloc((*below).ctx, size),
            None => ptr::null_mut(),
        }
    }
}

extern "C" fn calloc(_: *mut c_void, count: usize, size: usize) -> *mut c_void {
    // SAFETY: as in `malloc`.
    unsafe {
        let below = BELOW.0.get();
        match (*below).calloc {
            Some(calloc) => calloc((*below).ctx, count, size),
            None => ptr::null_mut(),
        }
    }
}

extern "C" fn realloc(_: *mut c_void, memory: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: as in `malloc`.
    unsafe {
        let below = BELOW.0.get();
        let Some(realloc) = (*below).realloc else {
            return ptr::null_mut();
        };
        let moved = realloc((*below).ctx, memory, size);
        if moved != memory && !moved.is_null() && !memory.is_null() {
            tell(memory as usize);
        }
        moved
    }
}

extern "C" fn free(_: *mut c_void, memory: *mut c_void) {
    // SAFETY: as in `malloc`.
    unsafe {
        if !memory.is_null() {
            tell(memory as usize);
        }
        let below = BELOW.0.get();
        if let Some(free) = (*below).free {
            free((*below).ctx, memory);
        }
    }
}

/// Begins to tell. Does nothing if it has begun.
///
/// # Safety
/// See the crate.
pub unsafe fn start(gone: Gone) {
    // SAFETY: with the GIL held no object is allocated meanwhile. Memory allocated before comes
    // from the allocator below ours, and ours gives it back there.
    unsafe {
        INTERPRETER.store(PyInterpreterState_Get(), Ordering::Relaxed);
        GONE.store(gone as *mut (), Ordering::Relaxed);
        if !HOOKED.swap(true, Ordering::Relaxed) {
            PyMem_GetAllocator(PyMemAllocatorDomain::PYMEM_DOMAIN_OBJ, BELOW.0.get());
            let mut ours = PyMemAllocatorEx {
                ctx: ptr::null_mut(),
                malloc: Some(malloc),
                calloc: Some(calloc),
                realloc: Some(realloc),
                free: Some(free),
            };
            PyMem_SetAllocator(PyMemAllocatorDomain::PYMEM_DOMAIN_OBJ, &raw mut ours);
        }
        kept::start();
    }
}

/// Ends it.
///
/// # Safety
/// See the crate.
pub unsafe fn stop() {
    GONE.store(ptr::null_mut(), Ordering::Relaxed);
    // SAFETY: as in `start`.
    unsafe {
        kept::stop();
        let mut top = PyMemAllocatorEx {
            ctx: ptr::null_mut(),
            malloc: None,
            calloc: None,
            realloc: None,
            free: None,
        };
        PyMem_GetAllocator(PyMemAllocatorDomain::PYMEM_DOMAIN_OBJ, &raw mut top);
        // Somebody who came later (tracemalloc) still calls ours, which then only passes on.
        if HOOKED.load(Ordering::Relaxed)
            && top.free.map(|f| f as usize) == Some(free as *const () as usize)
        {
            PyMem_SetAllocator(PyMemAllocatorDomain::PYMEM_DOMAIN_OBJ, BELOW.0.get());
            HOOKED.store(false, Ordering::Relaxed);
        }
    }
}

/// Types that keep memory: on 3.13 the interpreter tells of the end of every object.
#[cfg(Py_3_13)]
mod kept {
    use std::cell::UnsafeCell;
    use std::ffi::{c_int, c_void};
    use std::ptr;

    use pyo3_ffi::{
        Py_TPFLAGS_DICT_SUBCLASS, Py_TPFLAGS_HEAPTYPE, Py_TPFLAGS_LIST_SUBCLASS,
        Py_TPFLAGS_TUPLE_SUBCLASS, Py_TYPE, PyObject, PySlice_Type,
    };

    type Tracer = unsafe extern "C" fn(*mut PyObject, c_int, *mut c_void) -> c_int;

    unsafe extern "C" {
        fn PyRefTracer_SetTracer(tracer: Option<Tracer>, data: *mut c_void) -> c_int;
        fn PyRefTracer_GetTracer(data: *mut *mut c_void) -> Option<Tracer>;
        static mut _PyAsyncGenASend_Type: pyo3_ffi::PyTypeObject;
    }
    const DESTROY: c_int = 1;

    struct Before(UnsafeCell<(Option<Tracer>, *mut c_void)>);
    // SAFETY: used with the GIL held only.
    unsafe impl Sync for Before {}
    static BEFORE: Before = Before(UnsafeCell::new((None, ptr::null_mut())));

    unsafe extern "C" fn trace(object: *mut PyObject, event: c_int, _: *mut c_void) -> c_int {
        // SAFETY: an object that is about to be deallocated still has its type.
        unsafe {
            if event == DESTROY {
                let class = Py_TYPE(object);
                let flags = (*class).tp_flags;
                // Others give their memory back, which the allocator sees; and they may be
                // resurrected, which builtin containers never are.
                if flags
                    & (Py_TPFLAGS_LIST_SUBCLASS
                        | Py_TPFLAGS_DICT_SUBCLASS
                        | Py_TPFLAGS_TUPLE_SUBCLASS)
                    != 0
                    && flags & Py_TPFLAGS_HEAPTYPE == 0
                    || class == &raw mut PySlice_Type
                    || class == &raw mut _PyAsyncGenASend_Type
                {
                    super::tell(super::key(object));
                }
            }
            match *BEFORE.0.get() {
                (Some(before), data) => before(object, event, data),
                _ => 0,
            }
        }
    }

    pub(super) unsafe fn start() {
        // SAFETY: the GIL is held.
        unsafe {
            let mut data = ptr::null_mut();
            let before = PyRefTracer_GetTracer(&raw mut data);
            if before.map(|f| f as usize) != Some(trace as *const () as usize) {
                *BEFORE.0.get() = (before, data);
                PyRefTracer_SetTracer(Some(trace), ptr::null_mut());
            }
        }
    }

    pub(super) unsafe fn stop() {
        // SAFETY: the GIL is held.
        unsafe {
            let mut data = ptr::null_mut();
            let now = PyRefTracer_GetTracer(&raw mut data);
            if now.map(|f| f as usize) == Some(trace as *const () as usize) {
                let (before, data) = *BEFORE.0.get();
                PyRefTracer_SetTracer(before, data);
            }
        }
    }
}

/// Types that keep memory: their deallocators are replaced.
#[cfg(not(Py_3_13))]
mod kept {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use pyo3_ffi::compat::PyThreadState_GetUnchecked;
    use pyo3_ffi::{
        Py_TYPE, PyDict_Type, PyList_Type, PyObject, PyObject_GC_UnTrack, PySlice_Type,
        PyThreadState, PyTuple_Type, PyTypeObject, destructor,
    };

    unsafe extern "C" {
        fn _PyTrash_begin(thread: *mut PyThreadState, object: *mut PyObject) -> std::ffi::c_int;
        fn _PyTrash_end(thread: *mut PyThreadState);
        static mut _PyAsyncGenASend_Type: PyTypeObject;
    }

    /// The deallocator of a container. It asks whether it is the type's own to decide whether to
    /// limit the recursion of deallocations; it no longer is, so this one must do that.
    macro_rules! container {
        ($name:ident, $original:ident) => {
            static $original: AtomicUsize = AtomicUsize::new(0);

            unsafe extern "C" fn $name(object: *mut PyObject) {
                // SAFETY: `Py_TRASHCAN_BEGIN` and `END`, around the deallocator that was the
                // type's own. The object is untracked first, as they demand; twice does no harm.
                unsafe {
                    let original = $original.load(Ordering::Relaxed);
                    let original: destructor = std::mem::transmute::<usize, destructor>(original);
                    PyObject_GC_UnTrack(object.cast());
                    let own = (*Py_TYPE(object)).tp_dealloc.map(|f| f as usize)
                        == Some($name as *const () as usize);
                    if own {
                        let thread = PyThreadState_GetUnchecked();
                        if _PyTrash_begin(thread, object) != 0 {
                            return;
                        }
                        super::tell(super::key(object));
                        original(object);
                        _PyTrash_end(thread);
                    } else {
                        // Of a derived class, which limits the recursion itself, and whose memory
                        // goes back to the allocator.
                        original(object);
                    }
                }
            }
        };
    }

    macro_rules! plain {
        ($name:ident, $original:ident) => {
            static $original: AtomicUsize = AtomicUsize::new(0);

            unsafe extern "C" fn $name(object: *mut PyObject) {
                // SAFETY: the deallocator that was the type's own.
                unsafe {
                    let original = $original.load(Ordering::Relaxed);
                    let original: destructor = std::mem::transmute::<usize, destructor>(original);
                    super::tell(super::key(object));
                    original(object);
                }
            }
        };
    }

    container!(list, LIST);
    container!(dict, DICT);
    container!(tuple, TUPLE);
    plain!(slice, SLICE);
    plain!(asend, ASEND);

    unsafe fn types() -> [(*mut PyTypeObject, destructor, &'static AtomicUsize); 5] {
        [
            (&raw mut PyList_Type, list, &LIST),
            (&raw mut PyDict_Type, dict, &DICT),
            (&raw mut PyTuple_Type, tuple, &TUPLE),
            (&raw mut PySlice_Type, slice, &SLICE),
            (&raw mut _PyAsyncGenASend_Type, asend, &ASEND),
        ]
    }

    pub(super) unsafe fn start() {
        // SAFETY: the GIL is held; each type's deallocator is replaced by one that ends in it.
        unsafe {
            for (class, ours, original) in types() {
                if let Some(theirs) = (*class).tp_dealloc
                    && theirs as usize != ours as usize
                {
                    original.store(theirs as usize, Ordering::Relaxed);
                    (*class).tp_dealloc = Some(ours);
                }
            }
        }
    }

    pub(super) unsafe fn stop() {
        // SAFETY: as in `start`.
        unsafe {
            for (class, ours, original) in types() {
                if (*class).tp_dealloc.map(|f| f as usize) == Some(ours as usize) {
                    let theirs = original.load(Ordering::Relaxed);
                    (*class).tp_dealloc = Some(std::mem::transmute::<usize, destructor>(theirs));
                }
            }
        }
    }
}
