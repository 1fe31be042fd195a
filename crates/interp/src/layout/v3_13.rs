//! CPython 3.13. Headers: `Include/internal/pycore_frame.h`, `cpython/pystate.h`, `cpython/code.h`, `opcode_ids.h`.
//!
//! Against 3.12: the thread points at its frame itself; the frame's executable may be something
//! else than code; `instr_ptr` replaces `prev_instr`; keyword calls are `CALL_KW`; opcodes are
//! renumbered; `_PyRuntime` begins with `_Py_DebugOffsets`.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::offset_of;

use pyo3_ffi::{PyObject, PyVarObject};

use super::{Jump, Op};

/// The minor version of CPython that this build is for.
pub const MINOR: u32 = 13;

/// `_PyInterpreterFrame`.
#[repr(C)]
pub(crate) struct Frame {
    pub(crate) code: *mut PyObject,
    pub(crate) previous: *mut Self,
    pub(crate) function: *mut PyObject,
    pub(crate) globals: *mut PyObject,
    pub(crate) builtins: *mut PyObject,
    pub(crate) locals: *mut PyObject,
    pub(crate) object: *mut PyObject,
    pub(crate) instruction: *const u16,
    pub(crate) stacktop: c_int,
    pub(crate) return_offset: u16,
    pub(crate) owner: c_char,
    pub(crate) localsplus: [*mut PyObject; 1],
}

/// `PyCodeObject`.
#[repr(C)]
pub(crate) struct Code {
    pub(crate) base: PyVarObject,
    pub(crate) consts: *mut PyObject,
    pub(crate) names: *mut PyObject,
    pub(crate) exceptiontable: *mut PyObject,
    pub(crate) flags: c_int,
    pub(crate) argcount: c_int,
    pub(crate) posonlyargcount: c_int,
    pub(crate) kwonlyargcount: c_int,
    pub(crate) stacksize: c_int,
    pub(crate) firstlineno: c_int,
    pub(crate) nlocalsplus: c_int,
    pub(crate) framesize: c_int,
    pub(crate) nlocals: c_int,
    pub(crate) ncellvars: c_int,
    pub(crate) nfreevars: c_int,
    pub(crate) version: u32,
    pub(crate) localsplusnames: *mut PyObject,
    pub(crate) localspluskinds: *mut PyObject,
    pub(crate) filename: *mut PyObject,
    pub(crate) name: *mut PyObject,
    pub(crate) qualname: *mut PyObject,
    pub(crate) linetable: *mut PyObject,
    pub(crate) weakreflist: *mut PyObject,
    pub(crate) executors: *mut c_void,
    pub(crate) cached: *mut c_void,
    pub(crate) instrumentation_version: u64,
    pub(crate) monitoring: *mut c_void,
    pub(crate) firsttraceable: c_int,
    pub(crate) extra: *mut c_void,
    pub(crate) adaptive: [u16; 1],
}

/// `PyThreadState`, up to its frames.
#[repr(C)]
pub(crate) struct Thread {
    before: [u8; 44],
    pub(crate) recursion_remaining: c_int,
    recursion_limit: c_int,
    pub(crate) c_recursion_remaining: c_int,
    between: [u8; 16],
    pub(crate) current_frame: *mut Frame,
    behind: [u8; 40],
    pub(crate) exc_info: *mut Handled,
}

/// `Py_TRASHCAN_HEADROOM`
pub(crate) const TRASHCAN_HEADROOM: c_int = 50;

impl Thread {
    /// The innermost frame.
    ///
    /// # Safety
    /// The thread state is alive and the GIL is held.
    pub(crate) unsafe fn frame(&self) -> *mut Frame {
        self.current_frame
    }

    /// Makes another frame the innermost one.
    ///
    /// # Safety
    /// The thread state is alive and the GIL is held; the frame outlives its being the innermost.
    pub(crate) unsafe fn set_frame(&mut self, frame: *mut Frame) {
        self.current_frame = frame;
    }

    /// Whether a trace or profile function is watching this thread.
    ///
    /// # Safety
    /// The thread state is alive and the GIL is held.
    pub(crate) unsafe fn is_traced(&self) -> bool {
        // Tracing is done by instrumented opcodes.
        false
    }
}

/// `CALL`, of which the next is the form specialised for `type(x)`.
pub(crate) const TYPE_CALL_BASE: u8 = 53;
/// `CALL_TYPE_1`.
pub(crate) const TYPE_CALL: u8 = 181;
/// `CALL`: what a specialised call goes back to.
pub(crate) const TYPE_CALL_GENERIC: u8 = 53;
/// The counter that goes with it. `adaptive_counter_warmup()`.
pub(crate) const TYPE_CALL_COUNTER: u16 = (1 << 4) | 1;

/// Modules with metaclasses that are flagged immutable: CPython warns when such a class is made
/// while the flag is cleared on `type`, its base.
pub(crate) const IMMUTABLE_METACLASSES: &[&CStr] = &[c"_ctypes"];

unsafe extern "C" {
    /// A slot for something of one's own in every code object of the interpreter.
    #[link_name = "PyUnstable_Eval_RequestCodeExtraIndex"]
    pub(crate) fn code_extra_index(free: unsafe extern "C" fn(*mut c_void)) -> isize;
    /// What is in it, or null.
    #[link_name = "PyUnstable_Code_GetExtra"]
    pub(crate) fn code_get_extra(
        code: *mut PyObject,
        index: isize,
        extra: *mut *mut c_void,
    ) -> c_int;
    /// Fills it.
    #[link_name = "PyUnstable_Code_SetExtra"]
    pub(crate) fn code_set_extra(code: *mut PyObject, index: isize, extra: *mut c_void) -> c_int;
}

/// `PyFrameObject`, up to the room for a frame of its own.
#[repr(C)]
pub(crate) struct FrameObject {
    base: PyObject,
    pub(crate) back: *mut PyObject,
    pub(crate) frame: *mut Frame,
    trace: *mut PyObject,
    lineno: c_int,
    trace_flags: [c_char; 2],
    extra_locals: *mut PyObject,
    locals_cache: *mut PyObject,
    data: [*mut PyObject; 1],
}

/// `PyLongObject`.
#[repr(C)]
struct Long {
    base: PyObject,
    tag: usize,
    digit: [u32; 1],
}

impl Long {
    /// `NON_SIZE_BITS`: above them is the number of digits, below one minus the sign.
    const SIZE_SHIFT: usize = 3;
}

/// The value of an `int` of at most one digit.
///
/// # Safety
/// `int` is an exact `int`.
#[inline]
pub(crate) unsafe fn small_int(int: *mut PyObject) -> Option<i64> {
    // SAFETY: the caller's promise; even zero has a digit.
    unsafe {
        let long = int.cast::<Long>();
        let tag = (*long).tag;
        (tag >> Long::SIZE_SHIFT <= 1).then(|| (1 - (tag & 3) as i64) * i64::from((*long).digit[0]))
    }
}

/// `frame.owner` of a frame that lies in its frame object: it has returned, or never ran.
pub(crate) const OWNED_BY_FRAME_OBJECT: c_char = 2;

impl Code {
    /// Whether `sys.monitoring` has ever had to do with this code.
    pub(crate) fn is_monitored(&self) -> bool {
        !self.monitoring.is_null()
    }
}

/// From here on opcodes report to `sys.monitoring` before they do their work.
pub(crate) const INSTRUMENTED: u8 = 236;

/// Splits the argument of `LOAD_ATTR` into the index of its name and whether it fetches a method to
/// call at once (which 3.11 has `LOAD_METHOD` for).
pub(crate) const fn attribute(argument: u32) -> (u32, bool) {
    (argument >> 1, argument & 1 != 0)
}

/// The meaning of a base opcode.
pub(crate) const fn op(opcode: u8) -> Op {
    match opcode {
        26 => Op::MakeFunction,
        30 => Op::Nop,
        34 => Op::PushNull,
        46 => Op::BuildConstKeyMap,
        47 => Op::BuildList,
        48 => Op::BuildMap,
        49 => Op::BuildSet,
        50 => Op::BuildSlice,
        52 => Op::BuildTuple,
        53 => Op::Call,
        57 => Op::CallKw,
        61 => Op::Copy,
        71 => Op::ExtendedArg,
        76 => Op::Is,
        81 => Op::ListExtend,
        82 => Op::LoadAttr,
        83 => Op::LoadConst,
        84 => Op::LoadDeref,
        85 | 87 => Op::LoadFast,
        88 => Op::LoadFastLoadFast,
        91 => Op::LoadGlobal,
        92 => Op::LoadName,
        106 => Op::SetFunctionAttribute,
        107 => Op::SetUpdate,
        115 => Op::Swap,
        _ => Op::Other,
    }
}

/// Where a base opcode may continue besides the next instruction.
pub(crate) const fn jump(opcode: u8) -> Jump {
    match opcode {
        72 | 79 | 97 | 98 | 99 | 100 | 104 => Jump::Forward,
        77 | 78 => Jump::Backward,
        _ => Jump::None,
    }
}

/// Whether a base opcode never continues with the next instruction.
pub(crate) const fn ends(opcode: u8) -> bool {
    matches!(opcode, 22 | 36 | 77 | 78 | 79 | 101 | 102 | 103)
}

/// `RETURN_GENERATOR`, after which a value lies on the stack that its stack effect does not count.
pub(crate) const RETURN_GENERATOR: u8 = 35;

/// How many cache units follow a base opcode.
pub(crate) const fn caches(opcode: u8) -> usize {
    match opcode {
        // BINARY_SUBSCR, STORE_SUBSCR, BINARY_OP, COMPARE_OP, CONTAINS_OP, FOR_ITER, JUMP_BACKWARD, LOAD_SUPER_ATTR, POP_JUMP_IF_FALSE, POP_JUMP_IF_NONE, POP_JUMP_IF_NOT_NONE, POP_JUMP_IF_TRUE, SEND, UNPACK_SEQUENCE
        5 | 39 | 45 | 58 | 59 | 72 | 77 | 93 | 97 | 98 | 99 | 100 | 104 | 117 => 1,
        // TO_BOOL, CALL
        40 | 53 => 3,
        // LOAD_GLOBAL, STORE_ATTR
        91 | 108 => 4,
        // LOAD_ATTR
        82 => 9,
        _ => 0,
    }
}

/// `_PyErr_StackItem`: the exception that is being handled, and the item around it.
#[repr(C)]
pub(crate) struct Handled {
    pub(crate) value: *mut PyObject,
    pub(crate) previous: *mut Self,
}

/// `PyGenObject`, which coroutines and asynchronous generators share.
#[repr(C)]
pub(crate) struct Generator {
    base: PyObject,
    weakreflist: *mut PyObject,
    pub(crate) name: *mut PyObject,
    pub(crate) qualname: *mut PyObject,
    pub(crate) handled: Handled,
    pub(crate) origin_or_finalizer: *mut PyObject,
    pub(crate) hooks_inited: c_char,
    pub(crate) closed: c_char,
    pub(crate) running_async: c_char,
    pub(crate) state: i8,
    pub(crate) frame: Frame,
}

/// `gi_frame_state` of a generator that has not begun.
pub(crate) const CREATED: i8 = -3;
/// `gi_frame_state` of a generator that stands at a `yield`.
pub(crate) const SUSPENDED: i8 = -2;
/// What is added to it when the generator delegates to another (`yield from`, `await`).
pub(crate) const DELEGATING: i8 = 1;
/// `gi_frame_state` of a generator that runs.
pub(crate) const EXECUTING: i8 = 0;
/// `gi_frame_state` of a generator that will not run again.
pub(crate) const COMPLETED: i8 = 1;
/// `gi_frame_state` of a generator whose frame is emptied.
pub(crate) const CLEARED: i8 = 4;

/// The instruction pointer of a frame at rest stands on the next instruction.
pub(crate) const AHEAD: usize = 0;

impl Frame {
    /// The unit at which this frame goes on when the function returns that it calls without C
    /// code in between. `at` is the unit of its instruction pointer.
    pub(crate) const fn returns_to(&self, at: usize) -> usize {
        at + self.return_offset as usize
    }

    /// Lets `returns_to` say `next` while the frame waits at `at`.
    pub(crate) const fn set_return(&mut self, at: usize, next: usize) {
        self.return_offset = next.saturating_sub(at) as u16;
    }

    /// Whether C code called the function of this frame: here a frame of the C stack says so.
    pub(crate) const fn is_entered_from_c(&self) -> bool {
        false
    }
}

/// The frame behind one of a greenlet that has switched away, as it was while it ran.
///
/// # Safety
/// The frame is one of Python code, and of a greenlet that has switched away.
pub(crate) unsafe fn linked_before(frame: *const Frame) -> *mut Frame {
    // SAFETY: passed on. The library has linked each frame past those of the C stack, which is
    // elsewhere now, and has put down in its frame object, made for this, how it was linked.
    unsafe { (*(*frame).object.cast::<FrameObject>()).data[0].cast() }
}

/// `frame.owner` of a frame of a plain function.
pub(crate) const OWNED_BY_THREAD: c_char = 0;
/// `frame.owner` of a frame that lies in its generator or coroutine.
pub(crate) const OWNED_BY_GENERATOR: c_char = 1;

/// Each fact of this file beside the C expression that must have the same value.
pub const CHECKS: &[(&str, usize)] = &[
    (
        "offsetof(_PyInterpreterFrame, f_executable)",
        offset_of!(Frame, code),
    ),
    (
        "offsetof(_PyInterpreterFrame, previous)",
        offset_of!(Frame, previous),
    ),
    (
        "offsetof(_PyInterpreterFrame, f_funcobj)",
        offset_of!(Frame, function),
    ),
    (
        "offsetof(_PyInterpreterFrame, f_globals)",
        offset_of!(Frame, globals),
    ),
    (
        "offsetof(_PyInterpreterFrame, f_builtins)",
        offset_of!(Frame, builtins),
    ),
    (
        "offsetof(_PyInterpreterFrame, f_locals)",
        offset_of!(Frame, locals),
    ),
    (
        "offsetof(_PyInterpreterFrame, frame_obj)",
        offset_of!(Frame, object),
    ),
    (
        "offsetof(_PyInterpreterFrame, instr_ptr)",
        offset_of!(Frame, instruction),
    ),
    (
        "offsetof(_PyInterpreterFrame, stacktop)",
        offset_of!(Frame, stacktop),
    ),
    (
        "offsetof(_PyInterpreterFrame, return_offset)",
        offset_of!(Frame, return_offset),
    ),
    (
        "offsetof(_PyInterpreterFrame, owner)",
        offset_of!(Frame, owner),
    ),
    (
        "offsetof(_PyInterpreterFrame, localsplus)",
        offset_of!(Frame, localsplus),
    ),
    ("sizeof(_PyInterpreterFrame)", size_of::<Frame>()),
    (
        "offsetof(PyCodeObject, co_consts)",
        offset_of!(Code, consts),
    ),
    ("offsetof(PyCodeObject, co_names)", offset_of!(Code, names)),
    (
        "offsetof(PyCodeObject, co_exceptiontable)",
        offset_of!(Code, exceptiontable),
    ),
    ("offsetof(PyCodeObject, co_flags)", offset_of!(Code, flags)),
    (
        "offsetof(PyCodeObject, co_stacksize)",
        offset_of!(Code, stacksize),
    ),
    (
        "offsetof(PyCodeObject, co_firstlineno)",
        offset_of!(Code, firstlineno),
    ),
    (
        "offsetof(PyCodeObject, co_nlocalsplus)",
        offset_of!(Code, nlocalsplus),
    ),
    (
        "offsetof(PyCodeObject, co_localsplusnames)",
        offset_of!(Code, localsplusnames),
    ),
    (
        "offsetof(PyCodeObject, co_localspluskinds)",
        offset_of!(Code, localspluskinds),
    ),
    (
        "offsetof(PyCodeObject, co_executors)",
        offset_of!(Code, executors),
    ),
    (
        "offsetof(PyCodeObject, _co_monitoring)",
        offset_of!(Code, monitoring),
    ),
    ("offsetof(PyCodeObject, co_extra)", offset_of!(Code, extra)),
    (
        "offsetof(PyCodeObject, co_code_adaptive)",
        offset_of!(Code, adaptive),
    ),
    (
        "offsetof(PyThreadState, c_recursion_remaining)",
        offset_of!(Thread, c_recursion_remaining),
    ),
    ("Py_TRASHCAN_HEADROOM", TRASHCAN_HEADROOM as usize),
    (
        "offsetof(PyThreadState, current_frame)",
        offset_of!(Thread, current_frame),
    ),
    (
        "FRAME_OWNED_BY_FRAME_OBJECT",
        OWNED_BY_FRAME_OBJECT as usize,
    ),
    (
        "offsetof(PyFrameObject, f_back)",
        offset_of!(FrameObject, back),
    ),
    (
        "offsetof(PyFrameObject, f_frame)",
        offset_of!(FrameObject, frame),
    ),
    (
        "offsetof(PyFrameObject, _f_frame_data)",
        offset_of!(FrameObject, data),
    ),
    (
        "offsetof(PyThreadState, py_recursion_remaining)",
        offset_of!(Thread, recursion_remaining),
    ),
    (
        "offsetof(PyThreadState, exc_info)",
        offset_of!(Thread, exc_info),
    ),
    (
        "offsetof(_PyErr_StackItem, exc_value)",
        offset_of!(Handled, value),
    ),
    (
        "offsetof(_PyErr_StackItem, previous_item)",
        offset_of!(Handled, previous),
    ),
    (
        "offsetof(PyGenObject, gi_name)",
        offset_of!(Generator, name),
    ),
    (
        "offsetof(PyGenObject, gi_qualname)",
        offset_of!(Generator, qualname),
    ),
    (
        "offsetof(PyGenObject, gi_exc_state)",
        offset_of!(Generator, handled),
    ),
    (
        "offsetof(PyGenObject, gi_origin_or_finalizer)",
        offset_of!(Generator, origin_or_finalizer),
    ),
    (
        "offsetof(PyGenObject, gi_hooks_inited)",
        offset_of!(Generator, hooks_inited),
    ),
    (
        "offsetof(PyGenObject, gi_closed)",
        offset_of!(Generator, closed),
    ),
    (
        "offsetof(PyGenObject, gi_running_async)",
        offset_of!(Generator, running_async),
    ),
    (
        "offsetof(PyGenObject, gi_frame_state)",
        offset_of!(Generator, state),
    ),
    (
        "offsetof(PyGenObject, gi_iframe)",
        offset_of!(Generator, frame),
    ),
    ("(size_t)(signed char)FRAME_CREATED", CREATED as usize),
    ("(size_t)(signed char)FRAME_SUSPENDED", SUSPENDED as usize),
    ("FRAME_EXECUTING", EXECUTING as usize),
    ("FRAME_COMPLETED", COMPLETED as usize),
    ("FRAME_CLEARED", CLEARED as usize),
    (
        "offsetof(PyLongObject, long_value.lv_tag)",
        offset_of!(Long, tag),
    ),
    (
        "offsetof(PyLongObject, long_value.ob_digit)",
        offset_of!(Long, digit),
    ),
    ("NON_SIZE_BITS", Long::SIZE_SHIFT),
    ("RETURN_GENERATOR", RETURN_GENERATOR as usize),
    ("FRAME_OWNED_BY_THREAD", OWNED_BY_THREAD as usize),
    ("FRAME_OWNED_BY_GENERATOR", OWNED_BY_GENERATOR as usize),
    ("sizeof(_Py_CODEUNIT)", size_of::<u16>()),
    ("CALL", TYPE_CALL_BASE as usize),
    ("CALL_TYPE_1", TYPE_CALL as usize),
    (
        "adaptive_counter_warmup().as_counter",
        TYPE_CALL_COUNTER as usize,
    ),
    ("MIN_INSTRUMENTED_OPCODE", INSTRUMENTED as usize),
    ("_PyOpcode_Caches[BINARY_SUBSCR]", caches(5)),
    ("_PyOpcode_Caches[STORE_SUBSCR]", caches(39)),
    ("_PyOpcode_Caches[TO_BOOL]", caches(40)),
    ("_PyOpcode_Caches[BINARY_OP]", caches(45)),
    ("_PyOpcode_Caches[CALL]", caches(53)),
    ("_PyOpcode_Caches[COMPARE_OP]", caches(58)),
    ("_PyOpcode_Caches[CONTAINS_OP]", caches(59)),
    ("_PyOpcode_Caches[FOR_ITER]", caches(72)),
    ("_PyOpcode_Caches[JUMP_BACKWARD]", caches(77)),
    ("_PyOpcode_Caches[LOAD_ATTR]", caches(82)),
    ("_PyOpcode_Caches[LOAD_GLOBAL]", caches(91)),
    ("_PyOpcode_Caches[LOAD_SUPER_ATTR]", caches(93)),
    ("_PyOpcode_Caches[POP_JUMP_IF_FALSE]", caches(97)),
    ("_PyOpcode_Caches[POP_JUMP_IF_NONE]", caches(98)),
    ("_PyOpcode_Caches[POP_JUMP_IF_NOT_NONE]", caches(99)),
    ("_PyOpcode_Caches[POP_JUMP_IF_TRUE]", caches(100)),
    ("_PyOpcode_Caches[SEND]", caches(104)),
    ("_PyOpcode_Caches[STORE_ATTR]", caches(108)),
    ("_PyOpcode_Caches[UNPACK_SEQUENCE]", caches(117)),
    ("BUILD_CONST_KEY_MAP", number(Op::BuildConstKeyMap, 46)),
    ("BUILD_LIST", number(Op::BuildList, 47)),
    ("BUILD_MAP", number(Op::BuildMap, 48)),
    ("BUILD_SET", number(Op::BuildSet, 49)),
    ("BUILD_SLICE", number(Op::BuildSlice, 50)),
    ("BUILD_TUPLE", number(Op::BuildTuple, 52)),
    ("CALL", number(Op::Call, 53)),
    ("COPY", number(Op::Copy, 61)),
    ("EXTENDED_ARG", number(Op::ExtendedArg, 71)),
    ("IS_OP", number(Op::Is, 76)),
    ("LIST_EXTEND", number(Op::ListExtend, 81)),
    ("LOAD_ATTR", number(Op::LoadAttr, 82)),
    ("LOAD_CONST", number(Op::LoadConst, 83)),
    ("LOAD_DEREF", number(Op::LoadDeref, 84)),
    ("LOAD_FAST", number(Op::LoadFast, 85)),
    ("LOAD_FAST_CHECK", number(Op::LoadFast, 87)),
    ("LOAD_GLOBAL", number(Op::LoadGlobal, 91)),
    ("LOAD_NAME", number(Op::LoadName, 92)),
    ("MAKE_FUNCTION", number(Op::MakeFunction, 26)),
    ("NOP", number(Op::Nop, 30)),
    ("PUSH_NULL", number(Op::PushNull, 34)),
    ("SET_UPDATE", number(Op::SetUpdate, 107)),
    ("SWAP", number(Op::Swap, 115)),
    ("CALL_KW", number(Op::CallKw, 57)),
    (
        "SET_FUNCTION_ATTRIBUTE",
        number(Op::SetFunctionAttribute, 106),
    ),
    ("LOAD_FAST_LOAD_FAST", number(Op::LoadFastLoadFast, 88)),
    ("INTERPRETER_EXIT", ending(22)),
    ("RETURN_VALUE", ending(36)),
    ("FOR_ITER", jumping(72, Jump::Forward)),
    ("JUMP_BACKWARD", jumping(77, Jump::Backward)),
    ("JUMP_BACKWARD", ending(77)),
    ("JUMP_BACKWARD_NO_INTERRUPT", jumping(78, Jump::Backward)),
    ("JUMP_BACKWARD_NO_INTERRUPT", ending(78)),
    ("JUMP_FORWARD", jumping(79, Jump::Forward)),
    ("JUMP_FORWARD", ending(79)),
    ("POP_JUMP_IF_FALSE", jumping(97, Jump::Forward)),
    ("POP_JUMP_IF_NONE", jumping(98, Jump::Forward)),
    ("POP_JUMP_IF_NOT_NONE", jumping(99, Jump::Forward)),
    ("POP_JUMP_IF_TRUE", jumping(100, Jump::Forward)),
    ("RAISE_VARARGS", ending(101)),
    ("RERAISE", ending(102)),
    ("RETURN_CONST", ending(103)),
    ("SEND", jumping(104, Jump::Forward)),
];

/// The opcode itself, if this file gives it this meaning; zero, which is none of them, if not.
const fn number(meaning: Op, opcode: u8) -> usize {
    if op(opcode) as u8 == meaning as u8 {
        opcode as usize
    } else {
        0
    }
}

/// The opcode, if this file gives it this jump.
const fn jumping(opcode: u8, direction: Jump) -> usize {
    if jump(opcode) as u8 == direction as u8 {
        opcode as usize
    } else {
        0
    }
}

/// The opcode, if this file says that it never continues.
const fn ending(opcode: u8) -> usize {
    if ends(opcode) { opcode as usize } else { 0 }
}
