//! Generators, coroutines and asynchronous generators at rest: taken apart into plain Python
//! objects, and put together from them.
//!
//! What is saved is free of addresses, of specialised bytecode and of the build: the unit of the
//! next instruction, the variables and cells, the value stack, the exception being handled, a few
//! flags. Together they are one tuple, the *state* ([`state`]). A null among the values (an unbound
//! variable, or what the interpreter itself pushes) is a sentinel of the caller's choice there.
//!
//! Putting together takes two steps, so that an object may be part of its own state: [`make`] calls
//! a function of the same code, which lets CPython itself allocate and size everything; the result
//! counts as finished until [`restore`] has overwritten what the call left in its frame. `restore`
//! trusts nothing: [`crate::verify`] has looked at the state before a single slot changes.

use std::ffi::c_int;
use std::{ptr, slice};

use pyo3_ffi::{
    Py_DECREF, Py_INCREF, Py_None, Py_TYPE, Py_XDECREF, PyAsyncGen_Type, PyCell_New, PyCode_Type,
    PyCoro_Type, PyDict_Check, PyDict_New, PyDict_SetItem, PyErr_Format, PyErr_SetString,
    PyExc_TypeError, PyExc_ValueError, PyFunction_SetClosure, PyFunction_SetKwDefaults, PyGen_Type,
    PyLong_AsLong, PyLong_CheckExact, PyLong_FromLong, PyObject, PyObject_Vectorcall,
    PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New, PyTuple_SET_ITEM,
    PyTypeObject, PyUnicode_CheckExact,
};

use crate::layout::{
    AHEAD, CLEARED, COMPLETED, Code, EXECUTING, Frame, FrameObject, Generator, OWNED_BY_GENERATOR,
};
use crate::owned::Owned;
use crate::verify::{self, Shape};

unsafe extern "C" {
    /// Public, but not declared by `pyo3-ffi` for every version.
    fn PyFunction_New(code: *mut PyObject, globals: *mut PyObject) -> *mut PyObject;
}

/// `gi_frame_state` of an object that [`make`] has made and [`restore`] has not filled: finished, as
/// far as CPython is concerned, but with a frame that is still to be cleared.
pub(crate) const UNFINISHED: i8 = 3;
const _: () = assert!(COMPLETED < UNFINISHED && UNFINISHED < CLEARED);

/// The values of a state before those of the frame.
const HEAD: usize = 4;

/// Flags of a state: `ag_closed`.
const CLOSED: i64 = 1;
/// `ag_running_async`.
const RUNNING_ASYNC: i64 = 2;

/// Which of the three an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are three")]
pub enum Kind {
    /// A generator, also one that `types.coroutine` made awaitable.
    Generator,
    /// A coroutine.
    Coroutine,
    /// An asynchronous generator.
    AsyncGenerator,
}

impl Kind {
    /// The kind of an object; `None` if it is none of them.
    ///
    /// # Safety
    /// See the crate.
    pub unsafe fn of(object: *mut PyObject) -> Option<Self> {
        // SAFETY: the object is alive.
        let kind = unsafe { Py_TYPE(object) };
        [Self::Generator, Self::Coroutine, Self::AsyncGenerator]
            .into_iter()
            .find(|known| known.type_object() == kind)
    }

    /// The kind of what a call of a function with these flags makes.
    const fn of_flags(flags: c_int) -> Option<Self> {
        const GENERATOR: c_int = 0x20;
        const COROUTINE: c_int = 0x80;
        const ITERABLE_COROUTINE: c_int = 0x100;
        const ASYNC_GENERATOR: c_int = 0x200;
        match flags & (GENERATOR | COROUTINE | ASYNC_GENERATOR) {
            GENERATOR => Some(Self::Generator),
            COROUTINE if flags & ITERABLE_COROUTINE == 0 => Some(Self::Coroutine),
            ASYNC_GENERATOR => Some(Self::AsyncGenerator),
            _ => None,
        }
    }

    /// The type of such objects.
    fn type_object(self) -> *mut PyTypeObject {
        match self {
            Self::Generator => &raw mut PyGen_Type,
            Self::Coroutine => &raw mut PyCoro_Type,
            Self::AsyncGenerator => &raw mut PyAsyncGen_Type,
        }
    }
}

/// Whether a call of the code makes a generator or the like, by its flags.
///
/// # Safety
/// See the crate; it is a code object.
pub(crate) unsafe fn begins(code: *const Code) -> bool {
    // SAFETY: passed on.
    unsafe { Kind::of_flags((*code).flags).is_some() }
}

/// Where a generator is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "readers must know every stage")]
pub enum Stage {
    /// It can be taken apart: it has not begun, or stands at a `yield` or `await`.
    AtRest,
    /// It is being executed.
    Executing,
    /// It will not run again.
    Finished,
    /// [`make`] has made it, and [`restore`] has not been called.
    Unfinished,
}

/// The parts of a generator that do not change while it runs. Borrowed from it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Parts {
    /// The code.
    pub code: *mut PyObject,
    /// The globals; null if it is finished.
    pub globals: *mut PyObject,
    /// `__name__`.
    pub name: *mut PyObject,
    /// `__qualname__`.
    pub qualname: *mut PyObject,
    /// Whether both names are those of the code.
    pub names_of_code: bool,
    /// Whether an asynchronous generator is closed.
    pub closed: bool,
}

/// The stage of a generator.
///
/// # Safety
/// See the crate; the object has a [`Kind`].
pub unsafe fn stage(generator: *mut PyObject) -> Stage {
    // SAFETY: its struct is a `Generator`.
    match unsafe { (*generator.cast::<Generator>()).state } {
        EXECUTING => Stage::Executing,
        UNFINISHED => Stage::Unfinished,
        state if state < EXECUTING => Stage::AtRest,
        _ => Stage::Finished,
    }
}

/// The parts of a generator.
///
/// # Safety
/// As [`stage`]. The result is borrowed from the generator.
pub unsafe fn parts(generator: *mut PyObject) -> Parts {
    // SAFETY: its struct is a `Generator`, whose frame keeps its code to the end and its globals as
    // long as it can run.
    unsafe {
        let finished = stage(generator) == Stage::Finished;
        let generator = &*generator.cast::<Generator>();
        let code = code_of(generator);
        Parts {
            code: code.cast(),
            globals: if finished {
                ptr::null_mut()
            } else {
                generator.frame.globals
            },
            name: generator.name,
            qualname: generator.qualname,
            names_of_code: generator.name == (*code).name && generator.qualname == (*code).qualname,
            closed: generator.closed != 0,
        }
    }
}

pub(crate) fn code_of(generator: &Generator) -> *mut Code {
    #[cfg(not(Py_3_12))]
    let code = generator.code;
    #[cfg(Py_3_12)]
    let code = generator.frame.code;
    code.cast()
}

/// What the state of a generator at rest consists of, borrowed from it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct View<'a> {
    /// The unit of the next instruction.
    pub next: usize,
    /// Flags of a state.
    pub flags: i64,
    /// The exception that is being handled; `None` for none.
    pub handled: *mut PyObject,
    /// The origin of a coroutine; `None` for none.
    pub origin: *mut PyObject,
    /// The variables and the value stack, null for what has no value.
    pub values: &'a [*mut PyObject],
}

/// Looks at a generator at rest.
///
/// # Safety
/// As [`stage`]; the generator is at rest, and stays so while the result is used.
pub unsafe fn view<'a>(generator: *mut PyObject) -> View<'a> {
    // SAFETY: a generator at rest has a frame with `stacktop` valid slots.
    unsafe {
        let is_coroutine = Kind::of(generator) == Some(Kind::Coroutine);
        let generator = &*generator.cast::<Generator>();
        let frame = &raw const generator.frame;
        let count = usize::try_from((*frame).stacktop).unwrap_or(0);
        let or_none = |object: *mut PyObject| if object.is_null() { Py_None() } else { object };
        View {
            next: next_unit(frame),
            flags: i64::from(generator.closed != 0) * CLOSED
                + i64::from(generator.running_async != 0) * RUNNING_ASYNC,
            handled: or_none(generator.handled.value),
            origin: if is_coroutine {
                or_none(generator.origin_or_finalizer)
            } else {
                Py_None()
            },
            values: slots(frame, count),
        }
    }
}

/// The state of a generator at rest: a new tuple of the parts of its [`View`]. `null` stands for null
/// pointers.
///
/// # Safety
/// As [`stage`]; the generator is at rest.
pub unsafe fn state(generator: *mut PyObject, null: *mut PyObject) -> *mut PyObject {
    // SAFETY: Nothing here runs Python code; a collector that a new tuple may set off does not see the
    // tuple before it is full.
    unsafe {
        // A new tuple may set off the collector: the generator is looked at afterwards.
        let count = view(generator).values.len();
        let tuple = PyTuple_New((HEAD + count).cast_signed());
        if tuple.is_null() {
            return tuple;
        }
        let view = view(generator);
        let (next, flags) = (
            PyLong_FromLong(view.next as _),
            PyLong_FromLong(view.flags as _),
        );
        if next.is_null() || flags.is_null() || view.values.len() != count {
            for object in [next, flags, tuple] {
                Py_XDECREF(object);
            }
            if !next.is_null() && !flags.is_null() {
                PyErr_SetString(PyExc_ValueError, c"the generator has changed".as_ptr());
            }
            return ptr::null_mut();
        }
        PyTuple_SET_ITEM(tuple, 0, next);
        PyTuple_SET_ITEM(tuple, 1, flags);
        for (index, value) in [view.handled, view.origin]
            .into_iter()
            .chain(view.values.iter().copied())
            .enumerate()
        {
            let value = if value.is_null() { null } else { value };
            Py_INCREF(value);
            PyTuple_SET_ITEM(tuple, (2 + index).cast_signed(), value);
        }
        tuple
    }
}

/// The unit of the instruction at which a frame at rest goes on.
///
/// # Safety
/// The frame has code and is at rest.
pub(crate) unsafe fn next_unit(frame: *const Frame) -> usize {
    // SAFETY: the instruction pointer points into the code.
    unsafe { unit(frame) + AHEAD }
}

/// The unit of the instruction pointer.
///
/// # Safety
/// The frame has code.
pub(crate) unsafe fn unit(frame: *const Frame) -> usize {
    // SAFETY: passed on.
    unsafe {
        let first = &raw const (*(*frame).code.cast::<Code>()).adaptive;
        // One before the first, if nothing has run yet.
        ((*frame).instruction.addr() as isize - first.addr() as isize) as usize / size_of::<u16>()
    }
}

/// Lets the instruction pointer stand on a unit.
///
/// # Safety
/// The frame has code, which has that unit (or the one behind).
pub(crate) unsafe fn set_unit(frame: *mut Frame, unit: usize) {
    // SAFETY: passed on.
    unsafe {
        let first = (&raw const (*(*frame).code.cast::<Code>()).adaptive).cast::<u16>();
        (*frame).instruction = first.wrapping_add(unit);
    }
}

/// The first slots of a frame.
///
/// # Safety
/// The frame has that many, and all are initialised; nothing changes them meanwhile.
pub(crate) unsafe fn slots<'a>(frame: *const Frame, count: usize) -> &'a [*mut PyObject] {
    // SAFETY: passed on.
    unsafe { slice::from_raw_parts((&raw const (*frame).localsplus).cast(), count) }
}

/// Makes an object that [`restore`] will fill, or one that is finished at once (`globals` is null
/// then). It takes part in nothing until then: as far as CPython is concerned it is finished.
///
/// `name` and `qualname` are null for those of the code. Errors: `TypeError` for arguments of a
/// wrong type, `ValueError` if the code is not that of such a thing.
///
/// # Safety
/// See the crate. The arguments may be any objects.
pub unsafe fn make(
    kind: Kind,
    code: *mut PyObject,
    globals: *mut PyObject,
    name: *mut PyObject,
    qualname: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: the types are checked before anything relies on them. The function is called with as
    // many arguments as its code asks for; its code begins by making the generator and leaving, as
    // `begins_as_generator` has seen, so that the call runs nothing else.
    unsafe {
        if Py_TYPE(code) != &raw mut PyCode_Type {
            return type_error(c"not a code object: %R", code);
        }
        for name in [name, qualname] {
            if !name.is_null() && PyUnicode_CheckExact(name) == 0 {
                return type_error(c"not a name: %R", name);
            }
        }
        let code: *mut Code = code.cast();
        if Kind::of_flags((*code).flags) != Some(kind)
            || !Shape::of(code).is_some_and(Shape::begins_as_generator)
        {
            PyErr_Format(
                PyExc_ValueError,
                c"%R is not the code of a %s".as_ptr(),
                code,
                (*kind.type_object()).tp_name,
            );
            return ptr::null_mut();
        }
        let Some(no_globals) = Owned::taking(PyDict_New()) else {
            return ptr::null_mut();
        };
        let (globals, finished) = if globals.is_null() {
            (no_globals.as_ptr(), true)
        } else {
            (globals, false)
        };
        if PyDict_Check(globals) == 0 {
            return type_error(c"the globals of a function must be a dict, not %R", globals);
        }
        let Some(function) = function_for(code, globals) else {
            return ptr::null_mut();
        };
        let Some(object) = Owned::taking(call_with_nothing(function.as_ptr(), code)) else {
            return ptr::null_mut();
        };
        drop(function);
        if Kind::of(object.as_ptr()) != Some(kind) {
            PyErr_SetString(
                PyExc_ValueError,
                c"the code made another kind of object than it says".as_ptr(),
            );
            return ptr::null_mut();
        }
        let generator = object.as_ptr().cast::<Generator>();
        (*generator).state = UNFINISHED;
        for (slot, name) in [
            (&raw mut (*generator).name, name),
            (&raw mut (*generator).qualname, qualname),
        ] {
            if !name.is_null() {
                Py_INCREF(name);
                Py_DECREF(slot.replace(name));
            }
        }
        if finished {
            clear(generator);
        }
        object.into_ptr()
    }
}

/// A function that exists to be called, so that its frame can be overwritten.
///
/// # Safety
/// `code` is a code object, `globals` a dict.
pub(crate) unsafe fn function_for(code: *mut Code, globals: *mut PyObject) -> Option<Owned> {
    // SAFETY: the setters check what they are given, and each object is checked for null.
    unsafe {
        let function = Owned::taking(PyFunction_New(code.cast(), globals))?;
        if (*code).nfreevars > 0 {
            // `COPY_FREE_VARS` copies the cells of the closure before the frame is overwritten.
            let cells = Owned::taking(PyTuple_New((*code).nfreevars as isize))?;
            for index in 0..(*code).nfreevars as isize {
                let cell = Owned::taking(PyCell_New(ptr::null_mut()))?;
                PyTuple_SET_ITEM(cells.as_ptr(), index, cell.into_ptr());
            }
            if PyFunction_SetClosure(function.as_ptr(), cells.as_ptr()) != 0 {
                return None;
            }
        }
        if (*code).kwonlyargcount > 0 {
            let defaults = Owned::taking(PyDict_New())?;
            for index in 0..(*code).kwonlyargcount {
                let name =
                    PyTuple_GET_ITEM((*code).localsplusnames, ((*code).argcount + index) as isize);
                if PyDict_SetItem(defaults.as_ptr(), name, Py_None()) != 0 {
                    return None;
                }
            }
            if PyFunction_SetKwDefaults(function.as_ptr(), defaults.as_ptr()) != 0 {
                return None;
            }
        }
        Some(function)
    }
}

/// Calls a function of [`function_for`] with `None` for every argument.
///
/// # Safety
/// As said; `code` is its code.
pub(crate) unsafe fn call_with_nothing(
    function: *mut PyObject,
    code: *const Code,
) -> *mut PyObject {
    const MANY: usize = 16;
    // SAFETY: as many arguments as said; `None` outlives the call.
    unsafe {
        let count = usize::try_from((*code).argcount).unwrap_or(0);
        if count <= MANY {
            let nothing = [Py_None(); MANY];
            PyObject_Vectorcall(function, nothing.as_ptr(), count, ptr::null_mut())
        } else {
            let nothing = vec![Py_None(); count];
            PyObject_Vectorcall(function, nothing.as_ptr(), count, ptr::null_mut())
        }
    }
}

/// Empties the frame of a generator that was just made, as if it had run to its end.
///
/// # Safety
/// The generator is unfinished: its frame has valid slots, and nobody executes it.
unsafe fn clear(generator: *mut Generator) {
    // SAFETY: every reference is taken out before it is given back. The generator can no longer be
    // run, and what CPython reads of a cleared frame is its code alone (3.11 keeps another
    // reference for that).
    unsafe {
        let frame = &raw mut (*generator).frame;
        (*generator).state = CLEARED;
        let count = usize::try_from((*frame).stacktop).unwrap_or(0);
        (*frame).stacktop = 0;
        let slots = (&raw mut (*frame).localsplus).cast::<*mut PyObject>();
        for index in 0..count {
            Py_XDECREF(slots.add(index).replace(ptr::null_mut()));
        }
        Py_XDECREF((&raw mut (*frame).locals).replace(ptr::null_mut()));
        Py_XDECREF((&raw mut (*frame).function).replace(ptr::null_mut()));
        #[cfg(not(Py_3_12))]
        Py_DECREF((*frame).code);
    }
}

/// Marks an asynchronous generator that [`make`] made as closed.
///
/// # Safety
/// See the crate; the object has a [`Kind`].
pub unsafe fn set_closed(generator: *mut PyObject) {
    // SAFETY: its struct is a `Generator`; the field is a flag.
    unsafe { (*generator.cast::<Generator>()).closed = 1 };
}

/// Gives an object made by [`make`] the state that [`state`] took from another.
///
/// Returns zero, or -1 with an exception set and the object as it was: `TypeError` if it is no such
/// object or the state no such tuple, `ValueError` if the object is not waiting for a state or the
/// state does not fit its code.
///
/// # Safety
/// See the crate. Both may be any objects.
pub unsafe fn restore(
    generator: *mut PyObject,
    state: *mut PyObject,
    null: *mut PyObject,
) -> c_int {
    // SAFETY: an unfinished generator has a frame that nobody executes, with `stacktop` valid slots
    // and room for as many as its code asks for. `verify` has compared the number of values with
    // that. Slots change before old values are given back, and nothing in between runs Python code.
    unsafe {
        let Some(kind) = Kind::of(generator) else {
            type_error(c"not a generator: %R", generator);
            return -1;
        };
        if stage(generator) != Stage::Unfinished {
            PyErr_Format(
                PyExc_ValueError,
                c"%R has a state already".as_ptr(),
                generator,
            );
            return -1;
        }
        let generator = generator.cast::<Generator>();
        let Some(parsed) = Parsed::of(state, null) else {
            return -1;
        };
        let code = code_of(&*generator);
        let Some(stage) = verify::suspended(code, parsed.next, parsed.values, parsed.handled, null)
        else {
            return -1;
        };
        let frame = &raw mut (*generator).frame;
        let values = parsed.values.iter().map(|&value| {
            if value == null {
                ptr::null_mut()
            } else {
                value
            }
        });
        let old_values = overwrite(frame, values);
        set_unit(frame, parsed.next.wrapping_sub(AHEAD));
        (*generator).closed = (parsed.flags & CLOSED != 0).into();
        (*generator).running_async = (parsed.flags & RUNNING_ASYNC != 0).into();
        (*generator).hooks_inited = 0;
        if !parsed.handled.is_null() {
            Py_INCREF(parsed.handled);
        }
        Py_XDECREF((&raw mut (*generator).handled.value).replace(parsed.handled));
        if kind == Kind::Coroutine {
            Py_INCREF(parsed.origin);
            let origin = if parsed.origin == Py_None() {
                ptr::null_mut()
            } else {
                parsed.origin
            };
            Py_XDECREF((&raw mut (*generator).origin_or_finalizer).replace(origin));
        }
        (*generator).state = stage;
        drop(old_values);
        0
    }
}

/// Puts values (null: none) into the slots of a frame that nobody executes, from the first on; returns
/// what was there.
///
/// # Safety
/// The frame has `stacktop` valid slots and room for all values.
pub(crate) unsafe fn overwrite(
    frame: *mut Frame,
    values: impl ExactSizeIterator<Item = *mut PyObject>,
) -> Vec<Owned> {
    // SAFETY: passed on; the values are alive, and each slot gets a reference of its own.
    unsafe {
        let count = usize::try_from((*frame).stacktop).unwrap_or(0);
        let slots = (&raw mut (*frame).localsplus).cast::<*mut PyObject>();
        let mut old = Vec::new();
        let mut take = |before: *mut PyObject| {
            // `None` and the like are not worth a list.
            if before == Py_None() {
                Py_DECREF(before);
            } else if let Some(before) = Owned::taking(before) {
                old.push(before);
            }
        };
        let length = values.len();
        for (index, value) in values.enumerate() {
            pyo3_ffi::Py_XINCREF(value);
            let slot = slots.add(index);
            if index < count {
                take(slot.replace(value));
            } else {
                slot.write(value);
            }
        }
        for index in length..count {
            take(slots.add(index).replace(ptr::null_mut()));
        }
        (*frame).stacktop = length as c_int;
        old
    }
}

/// A state, with its head taken apart. Borrowed from the tuple.
struct Parsed<'a> {
    next: usize,
    flags: i64,
    /// Null for none.
    handled: *mut PyObject,
    /// `None` for none.
    origin: *mut PyObject,
    values: &'a [*mut PyObject],
}

impl Parsed<'_> {
    /// `None`: it is no state; an exception is set.
    ///
    /// # Safety
    /// See the crate. The tuple outlives the result.
    unsafe fn of(state: *mut PyObject, null: *mut PyObject) -> Option<Self> {
        // SAFETY: types and sizes are checked before items are read.
        unsafe {
            if PyTuple_CheckExact(state) == 0 || PyTuple_GET_SIZE(state) < HEAD as isize {
                type_error(c"not a state: %R", state);
                return None;
            }
            let items = items(state);
            let (head, values) = items.split_at(HEAD);
            for &number in &head[..2] {
                if PyLong_CheckExact(number) == 0 {
                    type_error(c"not a state: %R", state);
                    return None;
                }
            }
            let (next, flags) = (PyLong_AsLong(head[0]), PyLong_AsLong(head[1]));
            let known = CLOSED | RUNNING_ASYNC;
            // A number that is too large is -1 with an exception set.
            let (Ok(next), true) = (usize::try_from(next), flags >= 0 && flags & !known == 0)
            else {
                pyo3_ffi::PyErr_Clear();
                PyErr_SetString(PyExc_ValueError, c"the state is damaged".as_ptr());
                return None;
            };
            let origin = head[3];
            if origin == null || (origin != Py_None() && PyTuple_CheckExact(origin) == 0) {
                PyErr_SetString(PyExc_ValueError, c"the state is damaged".as_ptr());
                return None;
            }
            let handled = if head[2] == Py_None() {
                ptr::null_mut()
            } else {
                head[2]
            };
            Some(Self {
                next,
                flags,
                handled,
                origin,
                values,
            })
        }
    }
}

/// The items of a tuple.
///
/// # Safety
/// See the crate; it is a tuple and outlives the result.
pub(crate) unsafe fn items<'a>(tuple: *mut PyObject) -> &'a [*mut PyObject] {
    // SAFETY: the items of a tuple lie behind one another.
    unsafe {
        let count = PyTuple_GET_SIZE(tuple).cast_unsigned();
        if count == 0 {
            return &[];
        }
        slice::from_raw_parts(
            (&raw const (*tuple.cast::<pyo3_ffi::PyTupleObject>()).ob_item).cast(),
            count,
        )
    }
}

/// The generator that a frame object belongs to, borrowed. Null: it is a frame of something else,
/// or its generator is gone.
///
/// # Safety
/// See the crate; `frame` is a frame object.
pub unsafe fn generator_of(frame: *mut PyObject) -> *mut PyObject {
    // SAFETY: a frame that a generator owns lies inside of it.
    unsafe {
        let frame = (*frame.cast::<FrameObject>()).frame;
        if frame.is_null() || (*frame).owner != OWNED_BY_GENERATOR {
            return ptr::null_mut();
        }
        generator_around(frame)
    }
}

/// The generator that a frame lies in.
///
/// # Safety
/// The frame is owned by a generator.
pub(crate) unsafe fn generator_around(frame: *mut Frame) -> *mut PyObject {
    // SAFETY: the frame is a field of it.
    unsafe {
        frame
            .cast::<u8>()
            .sub(std::mem::offset_of!(Generator, frame))
            .cast()
    }
}

/// Sets a `TypeError` about an object.
///
/// # Safety
/// See the crate; the format has one `%R`.
pub(crate) unsafe fn type_error(format: &std::ffi::CStr, object: *mut PyObject) -> *mut PyObject {
    // SAFETY: passed on.
    unsafe { PyErr_Format(PyExc_TypeError, format.as_ptr(), object) }
}
