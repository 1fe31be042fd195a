//! The frames of the running thread, from the innermost to where the chain ends.
//!
//! A waiting frame is in one of two states. If it called a Python function without C code in between,
//! its stack is saved and says where it goes on. Otherwise the depth of its stack is in a register of
//! C code: then the analysis of its bytecode says how much of the stack there is, and
//! [`boundary`](super::boundary) whether the call can be crossed.

use std::cell::RefCell;
use std::collections::HashMap;

use pyo3_ffi::{
    Py_TYPE, PyCell_Type, PyCode_Addr2Line, PyErr_Occurred, PyObject, PyThreadState_Get,
    PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE,
};

use super::boundary::{self, Callee, Crossing};
use super::{Action, Record, Then};
use crate::layout::{
    Code, EXECUTING, Frame, Generator, Handled, OWNED_BY_GENERATOR, Opcode, Thread, opcode,
};
use crate::owned::Owned;
use crate::suspended::{generator_around, slots, unit};
use crate::thread::is_python;
use crate::verify::Shape;

thread_local! {
    /// The frames at which chains of this thread end, and what was called there.
    static BASES: RefCell<Vec<(usize, usize)>> = const { RefCell::new(Vec::new()) };
    /// The frames that [`resume`](super::resume) has built and that wait.
    static WAITING: RefCell<HashMap<usize, Waits>> = RefCell::default();
}

/// What a frame waits for that was built.
enum Waits {
    /// For the frame behind it; its record says what becomes of the result. The record is alive for
    /// as long as the frame waits.
    Frame(*const Record),
    /// For something that [`settle`](super::settle) has called, which is alive for as long as that.
    Call {
        callee: *mut PyObject,
        next: u32,
        then: Then,
    },
    /// For `settle` itself, which may run code that has nothing to do with the frame.
    Native,
}

/// Runs `work`, which calls `entry`: chains that are captured meanwhile end there. What runs then
/// handles no exception of outside. Null for `entry`: what is called is a chain that is resumed.
///
/// # Safety
/// See the crate.
pub unsafe fn based<T>(entry: *mut PyObject, work: impl FnOnce() -> T) -> T {
    /// Also when `work` panics.
    struct End {
        thread: *mut Thread,
        base: (usize, usize),
        before: *mut Handled,
    }

    impl Drop for End {
        fn drop(&mut self) {
            // Not always the last: greenlets end in any order.
            BASES.with_borrow_mut(|bases| {
                if let Some(at) = bases.iter().rposition(|base| *base == self.base) {
                    bases.remove(at);
                }
            });
            // SAFETY: this is the thread that began; what ran has taken off its own items.
            unsafe { (*self.thread).exc_info = self.before };
        }
    }

    // SAFETY: attached, so that there is a thread state. The item is taken off before it goes away.
    unsafe {
        let thread = PyThreadState_Get().cast::<Thread>();
        let frame = (*thread).frame() as usize;
        let mut item = Handled {
            value: std::ptr::null_mut(),
            previous: (*thread).exc_info,
        };
        let end = End {
            thread,
            base: (frame, entry as usize),
            before: (*thread).exc_info,
        };
        BASES.with_borrow_mut(|bases| bases.push(end.base));
        if !entry.is_null() {
            (*thread).exc_info = &raw mut item;
        }
        let result = work();
        drop(end);
        pyo3_ffi::Py_XDECREF(item.value);
        result
    }
}

fn is_base(bases: &[(usize, usize)], frame: *const Frame) -> bool {
    bases.iter().any(|(base, _)| *base == frame as usize)
}

/// What was noted before goes away when nothing is borrowed.
fn note(frame: *const Frame, waits: Waits) {
    drop(WAITING.with_borrow_mut(|waiting| waiting.insert(frame as usize, waits)));
}

/// Notes that a frame waits for what its record says.
pub(super) fn wait(frame: *const Frame, record: *const Record) {
    note(frame, Waits::Frame(record));
}

/// Notes that a frame waits for C code.
pub(super) fn wait_for_native(frame: *const Frame) {
    note(frame, Waits::Native);
}

/// Notes that it waits no more.
pub(super) fn wait_no_more(frame: *const Frame) {
    drop(WAITING.with_borrow_mut(|waiting| waiting.remove(&(frame as usize))));
}

/// Runs `work`, which calls `callee`, while the frame of a record waits for that: what is captured
/// meanwhile goes on with `then`.
pub(super) fn while_calling<T>(
    frame: *const Frame,
    record: &Record,
    callee: *mut PyObject,
    then: Then,
    work: impl FnOnce() -> T,
) -> T {
    let next = record.next;
    note(frame, Waits::Call { callee, next, then });
    let result = work();
    wait_for_native(frame);
    result
}

/// Whether a frame was built and waits.
pub(super) fn was_built(frame: *const Frame) -> bool {
    WAITING.with_borrow(|waiting| waiting.contains_key(&(frame as usize)))
}

/// How the wait of a frame that was built is captured. `None`: it was not built.
///
/// # Safety
/// As [`capture`].
unsafe fn crossing_of_built(
    frame: *const Frame,
    keep: usize,
    inner: Callee,
) -> Option<Result<Crossing, &'static str>> {
    let copy = |then: &Then| Then {
        action: then.action,
        // SAFETY: operands are alive as long as what holds them.
        operands: then
            .operands
            .iter()
            .filter_map(|operand| unsafe { Owned::new(operand.as_ptr()) })
            .collect(),
    };
    let (next, then, callee) = WAITING
        .with_borrow(|waiting| match waiting.get(&(frame as usize))? {
            // SAFETY: see `Waits`.
            Waits::Frame(record) => unsafe {
                let record = &**record;
                Some(Some((record.next, copy(&record.then), None)))
            },
            Waits::Call { callee, next, then } => Some(Some((*next, copy(then), Some(*callee)))),
            Waits::Native => Some(None),
        })?
        .map_or((0, None, None), |(next, then, callee)| {
            (next, Some(then), callee)
        });
    let Some(then) = then else {
        return Some(Err("C code runs there that cannot be captured"));
    };
    // SAFETY: passed on.
    if callee.is_some_and(|callee| !unsafe { boundary::calls(callee, inner) }) {
        return Some(Err("it has called C code that cannot be captured"));
    }
    Some(Ok(Crossing {
        keep,
        top: None,
        next: next as usize,
        then,
    }))
}

/// Why a chain cannot be captured.
#[derive(Debug)]
#[non_exhaustive]
pub enum Refused {
    /// A Python exception is set.
    Error,
    /// This frame cannot be part of a chain.
    Frame {
        /// Its code.
        code: Owned,
        /// The line that it is at.
        line: i32,
        /// What stands in the way.
        reason: String,
    },
    /// No [`Base`] is below.
    NoBase,
}

/// The frames of this thread, outermost first, up to the innermost end ([`based`]), and the exception
/// that is being handled by the functions there.
///
/// `callee` is the C function that the innermost frame has called to have this done.
///
/// # Errors
/// See [`Refused`].
///
/// # Safety
/// See the crate.
pub unsafe fn capture(callee: *mut PyObject) -> Result<(Vec<Record>, Option<Owned>), Refused> {
    // SAFETY: attached; all frames of this thread stand still below this call, and those of Python
    // code have valid code and slots as far as the analysis of their code says.
    unsafe {
        let thread = PyThreadState_Get().cast::<Thread>();
        // The base of another greenlet is none of this chain.
        let mut below = (*thread).frame();
        while !below.is_null() && !BASES.with_borrow(|bases| is_base(bases, below)) {
            below = (*below).previous;
        }
        if below.is_null() && !BASES.with_borrow(|bases| is_base(bases, below)) {
            return Err(Refused::NoBase);
        }
        let mut records = Vec::new();
        let mut inner = Callee::Native(callee);
        let mut through_c = true;
        let mut pending = None;
        let mut frame = (*thread).frame();
        loop {
            let base = BASES.with_borrow(|bases| {
                let mut bases = bases.iter().rev();
                bases.find(|(base, _)| *base == frame as usize).copied()
            });
            if through_c && let Some((_, entry)) = base {
                ends(&records, entry as *mut PyObject, inner)?;
                break;
            }
            if frame.is_null() {
                return Err(Refused::NoBase);
            }
            if !is_python(frame) {
                through_c = true;
                frame = (*frame).previous;
                continue;
            }
            if !through_c && is_shim(frame) {
                // 3.13 runs `__init__` on a frame of its own that keeps the new object.
                let new = slots(frame, 1)[0];
                pending = Owned::new(new).map(|new| Then {
                    action: Action::Init,
                    operands: vec![new],
                });
                through_c = (*frame).is_entered_from_c();
                frame = (*frame).previous;
                continue;
            }
            let record = waiting(frame, &inner, through_c, pending.take())?;
            records.push(record);
            inner = callee_of(frame);
            // A frame that waits since it was built was called by the hook.
            through_c = (*frame).is_entered_from_c() || was_built(frame);
            frame = (*frame).previous;
        }
        records.reverse();
        let handled = outermost_handled(thread, &records);
        Ok((records, handled))
    }
}

/// Whether the outermost frame (the last of `records`, so far) is that of what was called at the end.
///
/// # Safety
/// As [`capture`].
unsafe fn ends(records: &[Record], entry: *mut PyObject, outermost: Callee) -> Result<(), Refused> {
    let Some(record) = records.last() else {
        return Err(Refused::NoBase);
    };
    // SAFETY: passed on; `entry` is null or called at this moment.
    let direct = unsafe { entry.is_null() || boundary::calls(entry, outermost) };
    if direct {
        return Ok(());
    }
    // SAFETY: passed on.
    Err(unsafe {
        refuse(
            record.code.as_ptr().cast(),
            record.at as usize,
            "it was not called by run() itself, but by C code in between".into(),
        )
    })
}

/// The exception that the functions at the outer end of a chain handle.
///
/// # Safety
/// As [`capture`].
unsafe fn outermost_handled(thread: *mut Thread, records: &[Record]) -> Option<Owned> {
    // SAFETY: each generator that runs has pushed an item of its own, in the order of the chain.
    unsafe {
        let mut item = (*thread).exc_info;
        for _ in records.iter().filter(|record| record.generator.is_some()) {
            item = (*item).previous;
        }
        let value = (*item).value;
        (value != pyo3_ffi::Py_None())
            .then(|| Owned::new(value))
            .flatten()
    }
}

/// Whether a frame is the one that 3.13 puts below `__init__`.
///
/// # Safety
/// The frame is one of Python code.
pub(super) unsafe fn is_shim(frame: *const Frame) -> bool {
    // SAFETY: passed on.
    unsafe {
        let function = (*frame).function;
        cfg!(Py_3_13)
            && (*frame).owner != OWNED_BY_GENERATOR
            && (function.is_null() || function == pyo3_ffi::Py_None())
    }
}

/// What a frame is for the one that waits for it.
///
/// # Safety
/// The frame is one of Python code that runs.
pub(super) unsafe fn callee_of(frame: *mut Frame) -> Callee {
    const VARARGS: i32 = 4;
    // SAFETY: passed on. The first slot is the first argument, if there is one, or its cell.
    unsafe {
        if (*frame).owner == OWNED_BY_GENERATOR {
            return Callee::Generator(generator_around(frame));
        }
        let code: *mut Code = (*frame).code.cast();
        let mut first = std::ptr::null_mut();
        // With `*args` alone the first argument is in a tuple.
        let packed = (*code).argcount == 0 && (*code).flags & VARARGS != 0;
        if (*code).argcount > 0 || packed {
            let index = if packed {
                (*code).kwonlyargcount as usize
            } else {
                0
            };
            first = slots(frame, index + 1)[index];
            if !first.is_null() && Py_TYPE(first) == &raw mut PyCell_Type {
                let content = pyo3_ffi::PyCell_Get(first);
                if !content.is_null() {
                    // The cell holds it too.
                    pyo3_ffi::Py_DECREF(content);
                }
                first = content;
            }
            if packed && !first.is_null() {
                let fine = PyTuple_CheckExact(first) != 0 && PyTuple_GET_SIZE(first) > 0;
                first = if fine {
                    PyTuple_GET_ITEM(first, 0)
                } else {
                    std::ptr::null_mut()
                };
            }
        }
        Callee::Function {
            function: (*frame).function,
            first,
        }
    }
}

/// The record of a frame that waits for `inner`.
///
/// # Safety
/// As [`capture`].
pub(super) unsafe fn waiting(
    frame: *mut Frame,
    inner: &Callee,
    through_c: bool,
    pending: Option<Then>,
) -> Result<Record, Refused> {
    const OPTIMIZED: i32 = 1;
    // SAFETY: as `capture`.
    unsafe {
        let code: *mut Code = (*frame).code.cast();
        let at = unit(frame);
        let Some(shape) = Shape::of(code) else {
            return Err(Refused::Error);
        };
        let refuse = |reason: &str| refuse(code, at, reason.to_owned());
        if (*code).flags & OPTIMIZED == 0 {
            return Err(refuse("it is the body of a class or of a module"));
        }
        let Some((number, step)) = shape.step(at).filter(|_| shape.understood()) else {
            return Err(refuse("its bytecode is not what the compiler makes"));
        };
        let variables = shape.kinds.len();
        let saved = usize::try_from((*frame).stacktop).ok();
        let built = crossing_of_built(frame, saved.unwrap_or(variables) - variables, *inner);
        let crossing = if let Some(crossing) = built {
            crossing.map_err(refuse)?
        } else if let Some(count) = saved {
            if through_c {
                return Err(refuse("it is interrupted by a trace function or a monitor"));
            }
            let keep = count - variables;
            inlined(shape, number, frame, at, keep, inner, pending)
                .ok_or_else(|| refuse("it waits in a way that is not known"))?
        } else {
            let depth = step.stack.as_ref().map_or(0, |stack| stack.len());
            let stack = &slots(frame, variables + depth)[variables..];
            match boundary::cross(code, shape, number, stack, inner) {
                Ok(crossing) => crossing,
                Err(reason) => {
                    if !PyErr_Occurred().is_null() {
                        return Err(Refused::Error);
                    }
                    return Err(refuse(&reason));
                }
            }
        };
        let mut values: Vec<_> = slots(frame, variables + crossing.keep)
            .iter()
            .map(|&value| Owned::new(value))
            .collect();
        if let (Some(top), Some(last)) = (crossing.top, values.last_mut()) {
            *last = Some(top);
        }
        let generator = ((*frame).owner == OWNED_BY_GENERATOR).then(|| generator_around(frame));
        let handled = generator.and_then(|generator| {
            debug_assert_eq!((*generator.cast::<Generator>()).state, EXECUTING);
            let value = (*generator.cast::<Generator>()).handled.value;
            (value != pyo3_ffi::Py_None())
                .then(|| Owned::new(value))
                .flatten()
        });
        let (Some(code), Some(globals)) = (Owned::new(code.cast()), Owned::new((*frame).globals))
        else {
            return Err(refuse("it has no globals"));
        };
        Ok(Record {
            code,
            globals,
            generator: generator.and_then(|generator| Owned::new(generator)),
            handled,
            at: at as u32,
            next: crossing.next as u32,
            values,
            then: crossing.then,
        })
    }
}

/// What a frame waits for that has called without C code in between.
///
/// # Safety
/// As [`capture`].
unsafe fn inlined(
    shape: &Shape,
    number: usize,
    frame: *const Frame,
    at: usize,
    keep: usize,
    inner: &Callee,
    pending: Option<Then>,
) -> Option<Crossing> {
    let step = &shape.instructions[number];
    let kind = opcode(step.instruction.opcode);
    // SAFETY: passed on.
    let (next, then) = unsafe {
        match (inner, kind) {
            (Callee::Generator(_), Opcode::ForIter) => {
                (step.instruction.next, Then::plain(Action::Loop))
            }
            (Callee::Generator(_), Opcode::Send) => {
                (step.instruction.next, Then::plain(Action::Send))
            }
            (Callee::Generator(_) | Callee::Native(_) | Callee::Switch(_), _) => return None,
            (Callee::Function { first, .. }, Opcode::LoadAttr) => {
                let then = boundary::attribute_of(*first, false);
                ((*frame).returns_to(at), then)
            }
            (Callee::Function { .. }, _) => (
                (*frame).returns_to(at),
                pending.unwrap_or_else(|| Then::plain(Action::Push)),
            ),
        }
    };
    let (_, _, stack) = shape.beginning(next)?;
    (stack.len() == keep + 1).then_some(Crossing {
        keep,
        top: None,
        next,
        then,
    })
}

/// # Safety
/// See the crate; `code` is a code object.
pub(super) unsafe fn refuse(code: *mut Code, unit: usize, reason: String) -> Refused {
    // SAFETY: passed on; a code object is no null pointer.
    unsafe {
        let line = PyCode_Addr2Line(code.cast(), 2 * unit as i32);
        match Owned::new(code.cast()) {
            Some(code) => Refused::Frame { code, line, reason },
            None => Refused::Error,
        }
    }
}
