//! Setting call sites of `type(x)` that are already specialised back to the generic instruction.
//!
//! A specialised site has `type(x)` inlined and never asks the hook. Such sites can be in any code
//! object that ever ran, so all of them are looked for: in everything that the collector tracks
//! and in the containers that it does not, in the constants of code objects, and in the frames
//! that run now, of every thread. What is found is changed in place, as the interpreter itself
//! changes it, so a loop that runs at this moment continues with the generic instruction.
//!
//! Not found: a code object that only a C extension holds and that runs in no frame.

use std::collections::HashSet;
use std::ffi::{c_int, c_void};

use pyo3_ffi::{
    Py_DECREF, Py_SIZE, Py_TYPE, PyCode_Type, PyDict_CheckExact, PyErr_Clear,
    PyImport_ImportModule, PyInterpreterState_Get, PyInterpreterState_ThreadHead, PyList_GET_ITEM,
    PyList_GET_SIZE, PyLong_AsLong, PyObject, PyObject_CallMethod, PyObject_GC_IsTracked,
    PyObject_IS_GC, PySys_GetObject, PyThreadState_Next, PyTuple_CheckExact, PyTuple_GET_ITEM,
    PyTuple_GET_SIZE,
};

use crate::bytecode::Base;
use crate::layout::{Code, Frame, TYPE_CALL, TYPE_CALL_BASE, TYPE_CALL_COUNTER, TYPE_CALL_GENERIC};
use crate::thread::{current_frame, is_python};

/// Makes every specialised `type(x)` of this interpreter generic. False: a Python exception is set.
///
/// # Safety
/// See the crate.
pub(crate) unsafe fn despecialise() -> bool {
    // SAFETY: plain calls of the C API on live objects. `tracked` keeps every object of the list
    // alive; the code objects and containers found through them are owned by them or by a frame
    // that runs, and nothing below runs Python code (which could free them) until all is done:
    // traversing and reading `co_code` allocate no object that the collector tracks.
    unsafe {
        let gc = PyImport_ImportModule(c"gc".as_ptr());
        if gc.is_null() {
            return false;
        }
        let frozen = PyObject_CallMethod(gc, c"get_freeze_count".as_ptr(), std::ptr::null());
        let count = if frozen.is_null() {
            -1
        } else {
            PyLong_AsLong(frozen)
        };
        let tracked = PyObject_CallMethod(gc, c"get_objects".as_ptr(), std::ptr::null());
        Py_DECREF(gc);
        if !frozen.is_null() {
            Py_DECREF(frozen);
        }
        if tracked.is_null() {
            return false;
        }
        if count < 0 {
            PyErr_Clear();
        }
        let mut search = Search {
            descend_tracked: count != 0,
            ..Search::default()
        };
        let count = PyList_GET_SIZE(tracked);
        if search.descend_tracked {
            // They are walked here; what leads to them need not do it again.
            search
                .seen
                .extend((0..count).map(|i| PyList_GET_ITEM(tracked, i)));
        }
        for i in 0..count {
            search.traverse(PyList_GET_ITEM(tracked, i));
        }
        search.see(PySys_GetObject(c"modules".as_ptr()));
        search.see_running();
        search.finish();
        Py_DECREF(tracked);
        !search.failed
    }
}

/// A walk over objects that ends at code objects.
#[derive(Default)]
struct Search {
    /// Objects that `gc.freeze()` hid (3.12 hides some at its start) are not in the list of tracked objects; then everything that
    /// can be reached is walked. Otherwise only containers that the collector does not track are.
    descend_tracked: bool,
    seen: HashSet<*mut PyObject>,
    codes: Vec<*mut PyObject>,
    containers: Vec<*mut PyObject>,
    failed: bool,
}

impl Search {
    /// # Safety
    /// `object` is a live object that the collector knows how to traverse.
    unsafe fn traverse(&mut self, object: *mut PyObject) {
        unsafe extern "C" fn visit(object: *mut PyObject, search: *mut c_void) -> c_int {
            // SAFETY: `search` is the `Search` that `traverse` passed, and no other reference to
            // it is in use while `tp_traverse` runs; `object` is alive, its container holds it.
            unsafe { (*search.cast::<Search>()).see(object) };
            0
        }
        // SAFETY: traversing is what the collector does with this very object; it only visits.
        unsafe {
            if let Some(traverse) = (*Py_TYPE(object)).tp_traverse {
                traverse(object, visit, std::ptr::from_mut(self).cast());
            }
        }
    }

    /// Notes an object if it is code or may lead to code that nothing else leads to.
    ///
    /// # Safety
    /// `object` is null or alive.
    unsafe fn see(&mut self, object: *mut PyObject) {
        // SAFETY: type checks on a live object.
        unsafe {
            if object.is_null() {
                return;
            }
            if Py_TYPE(object) == &raw mut PyCode_Type {
                if self.seen.insert(object) {
                    self.codes.push(object);
                }
                return;
            }
            let worth = if self.descend_tracked {
                PyObject_IS_GC(object) != 0
            } else {
                (PyTuple_CheckExact(object) != 0 || PyDict_CheckExact(object) != 0)
                    && PyObject_GC_IsTracked(object) == 0
            };
            if worth && self.seen.insert(object) {
                self.containers.push(object);
            }
        }
    }

    /// Notes what the frames of all threads run and hold.
    ///
    /// # Safety
    /// See the crate.
    unsafe fn see_running(&mut self) {
        // SAFETY: with the GIL held no thread of this interpreter starts, ends, or pushes or pops
        // a frame, so the two linked lists stand still. A frame that runs Python code has all its
        // locals initialised (to null or an object); its value stack is not read, since how much
        // of it is in use is known to its evaluation loop only.
        unsafe {
            let mut thread = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
            while !thread.is_null() {
                let mut frame: *mut Frame = current_frame(thread);
                while !frame.is_null() {
                    if is_python(frame) {
                        let code = (*frame).code;
                        self.see(code);
                        // Only a frozen heap needs these: otherwise they are in the list.
                        self.see((*frame).function);
                        self.see((*frame).globals);
                        self.see((*frame).locals);
                        let locals = (&raw const (*frame).localsplus).cast::<*mut PyObject>();
                        let count =
                            usize::try_from((*code.cast::<Code>()).nlocalsplus).unwrap_or(0);
                        for i in 0..count {
                            self.see(*locals.add(i));
                        }
                    }
                    frame = (*frame).previous;
                }
                thread = PyThreadState_Next(thread);
            }
        }
    }

    /// Walks what was noted, and makes the code generic.
    ///
    /// # Safety
    /// What was noted is still alive.
    unsafe fn finish(&mut self) {
        // SAFETY: every entry is alive (see `despecialise`), and is what it was noted as.
        unsafe {
            loop {
                if let Some(code) = self.codes.pop() {
                    self.failed |= !generalise(code.cast());
                    let constants = (*code.cast::<Code>()).consts;
                    self.see_items(constants);
                } else if let Some(container) = self.containers.pop() {
                    self.traverse(container);
                } else {
                    return;
                }
            }
        }
    }

    /// # Safety
    /// `tuple` is a tuple.
    unsafe fn see_items(&mut self, tuple: *mut PyObject) {
        // SAFETY: indices within the tuple's size.
        unsafe {
            for i in 0..PyTuple_GET_SIZE(tuple) {
                self.see(PyTuple_GET_ITEM(tuple, i));
            }
        }
    }
}

/// Makes the call sites of one code object generic. False: out of memory.
///
/// # Safety
/// `code` is a code object.
unsafe fn generalise(code: *mut Code) -> bool {
    // SAFETY: `adaptive` has as many units as the object's size says. It is written by whoever
    // holds the GIL, which is this thread; an evaluation loop reads an instruction only after it
    // took the GIL back, and decodes either form alike: both have the same caches.
    unsafe {
        let units = usize::try_from(Py_SIZE(code.cast())).unwrap_or(0);
        let first = (&raw mut (*code).adaptive).cast::<u16>();
        let opcode = |unit: usize| first.add(unit).cast::<u8>();
        // Most code has no such byte, be it an opcode or a cache: a glance spares the decoding.
        if !(0..units).any(|unit| *opcode(unit) == TYPE_CALL) {
            return true;
        }
        let Some(base) = Base::of(code) else {
            return false;
        };
        for instruction in base.instructions() {
            let unit = instruction.unit;
            if instruction.opcode == TYPE_CALL_BASE && *opcode(unit) == TYPE_CALL {
                *opcode(unit) = TYPE_CALL_GENERIC;
                *first.add(unit + 1) = TYPE_CALL_COUNTER;
            }
        }
        true
    }
}
