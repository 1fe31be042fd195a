//! Being told when objects are gone, without their taking notice.
//!
//! Two places together see the end of (nearly) every object. The allocator of objects sees memory
//! given back; that is when an object is gone for good, after its finalizer and its weak
//! references, and not if it was resurrected. And the few builtin types that keep memory for their
//! next instance (lists, dicts, tuples, slices) are watched one by one, by their deallocators. Such
//! objects have no finalizer.
//!
//! An object is known by its [`key`]: where its memory begins. Who wants to be told about one
//! [expects](expect) its key; most memory that is given back is nobody's concern, and is let go
//! after a look at one byte.
//!
//! Not seen: types of C extensions that keep memory for their next instance by themselves.

use std::ffi::{c_ulong, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering};

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
/// is also called for keys that never were an object's, or that nobody expects.
pub type Gone = fn(usize);

/// How many expected keys fall on each place. A count that has reached the largest number stays
/// there. Other interpreters, which have a GIL of their own, look at it too.
static EXPECTED: [AtomicU8; 1 << 16] = [const { AtomicU8::new(0) }; 1 << 16];

#[inline]
fn expected(key: usize) -> &'static AtomicU8 {
    &EXPECTED[(key >> 4 ^ key >> 20) & 0xffff]
}

/// From now on it is told when the object of this key is gone.
///
/// # Safety
/// See the crate.
#[inline]
pub unsafe fn expect(key: usize) {
    let count = expected(key);
    let number = count.load(Ordering::Relaxed);
    count.store(number.saturating_add(1), Ordering::Relaxed);
}

/// Takes back one [`expect`].
///
/// # Safety
/// See the crate; the key was expected since the last [`start`].
#[inline]
pub unsafe fn forget(key: usize) {
    let count = expected(key);
    let number = count.load(Ordering::Relaxed);
    if number != u8::MAX {
        count.store(number.saturating_sub(1), Ordering::Relaxed);
    }
}

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
    if expected(key).load(Ordering::Relaxed) == 0 {
        return;
    }
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

extern "C" fn realloc(_: *mut c_void, memory: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: `BELOW` is what was there before, and is not changed while this is in use.
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
    // SAFETY: as in `realloc`.
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

/// Begins to tell. Nothing is expected yet.
///
/// # Safety
/// See the crate.
pub unsafe fn start(gone: Gone) {
    // SAFETY: with the GIL held no object is allocated meanwhile. Memory allocated before comes
    // from the allocator below ours, and ours gives it back there.
    unsafe {
        INTERPRETER.store(PyInterpreterState_Get(), Ordering::Relaxed);
        for count in &EXPECTED {
            count.store(0, Ordering::Relaxed);
        }
        GONE.store(gone as *mut (), Ordering::Relaxed);
        if !HOOKED.swap(true, Ordering::Relaxed) {
            PyMem_GetAllocator(PyMemAllocatorDomain::PYMEM_DOMAIN_OBJ, BELOW.0.get());
            // What allocates is called directly, with what it was called with.
            let mut ours = PyMemAllocatorEx {
                ctx: (*BELOW.0.get()).ctx,
                malloc: (*BELOW.0.get()).malloc,
                calloc: (*BELOW.0.get()).calloc,
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

/// Types that keep memory: their deallocators are replaced. (The reference tracer of 3.13 will not
/// do: its evaluation loop calls deallocators without it.)
mod kept {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use pyo3_ffi::compat::PyThreadState_GetUnchecked;
    use pyo3_ffi::{
        Py_TYPE, PyDict_Type, PyList_Type, PyObject, PyObject_GC_UnTrack, PySlice_Type,
        PyThreadState, PyTuple_Type, PyTypeObject, destructor,
    };

    unsafe extern "C" {
        #[cfg(not(Py_3_13))]
        fn _PyTrash_begin(thread: *mut PyThreadState, object: *mut PyObject) -> std::ffi::c_int;
        #[cfg(not(Py_3_13))]
        fn _PyTrash_end(thread: *mut PyThreadState);
        #[cfg(Py_3_13)]
        fn _PyTrash_thread_deposit_object(thread: *mut PyThreadState, object: *mut PyObject);
        static mut _PyAsyncGenASend_Type: PyTypeObject;
    }

    /// The deallocator of a container. It asks whether it is the type's own to decide whether to
    /// limit the recursion of deallocations; it no longer is, so this one must do that.
    /// `Py_TRASHCAN_BEGIN` of 3.13: whether the object was put aside, to be deallocated later.
    #[cfg(Py_3_13)]
    unsafe fn begin(thread: *mut PyThreadState, object: *mut PyObject) -> bool {
        use crate::layout::{TRASHCAN_HEADROOM, Thread};
        // SAFETY: the caller deallocates the object in this thread; it is untracked. What was put
        // aside is deallocated at the end of the outermost original deallocator.
        unsafe {
            let thread_fields: *mut Thread = thread.cast();
            if (*thread_fields).c_recursion_remaining > TRASHCAN_HEADROOM {
                return false;
            }
            _PyTrash_thread_deposit_object(thread, object);
            true
        }
    }

    /// `Py_TRASHCAN_END`: done by the original, whose recursion it counts.
    #[cfg(Py_3_13)]
    unsafe fn end(_: *mut PyThreadState) {}

    #[cfg(not(Py_3_13))]
    unsafe fn begin(thread: *mut PyThreadState, object: *mut PyObject) -> bool {
        // SAFETY: as `Py_TRASHCAN_BEGIN`.
        unsafe { _PyTrash_begin(thread, object) != 0 }
    }

    #[cfg(not(Py_3_13))]
    unsafe fn end(thread: *mut PyThreadState) {
        // SAFETY: as `Py_TRASHCAN_END`, after a `begin` that let the caller go on.
        unsafe { _PyTrash_end(thread) }
    }

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
                        if begin(thread, object) {
                            return;
                        }
                        super::tell(super::key(object));
                        original(object);
                        end(thread);
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
