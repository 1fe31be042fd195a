//! CPython 3.11. Headers: `Include/internal/pycore_frame.h`, `cpython/pystate.h`, `cpython/code.h`, `opcode.h`.
//!
//! A thread finds its frame through `cframe`; `prev_instr` stands on the instruction being
//! executed, or on its last cache; a call is `PRECALL` and `CALL`, and `PRECALL` is what gets
//! specialised.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::offset_of;

use pyo3_ffi::{PyObject, PyVarObject};

use super::{Jump, Op};

/// The minor version of CPython that this build is for.
pub const MINOR: u32 = 11;

/// `_PyInterpreterFrame`.
#[repr(C)]
pub(crate) struct Frame {
    pub(crate) function: *mut PyObject,
    pub(crate) globals: *mut PyObject,
    pub(crate) builtins: *mut PyObject,
    pub(crate) locals: *mut PyObject,
    pub(crate) code: *mut PyObject,
    pub(crate) object: *mut PyObject,
    pub(crate) previous: *mut Self,
    pub(crate) instruction: *const u16,
    pub(crate) stacktop: c_int,
    pub(crate) is_entry: bool,
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
    pub(crate) warmup: i16,
    pub(crate) linearray_entry_size: i16,
    pub(crate) argcount: c_int,
    pub(crate) posonlyargcount: c_int,
    pub(crate) kwonlyargcount: c_int,
    pub(crate) stacksize: c_int,
    pub(crate) firstlineno: c_int,
    pub(crate) nlocalsplus: c_int,
    pub(crate) nlocals: c_int,
    pub(crate) nplaincellvars: c_int,
    pub(crate) ncellvars: c_int,
    pub(crate) nfreevars: c_int,
    pub(crate) localsplusnames: *mut PyObject,
    pub(crate) localspluskinds: *mut PyObject,
    pub(crate) filename: *mut PyObject,
    pub(crate) name: *mut PyObject,
    pub(crate) qualname: *mut PyObject,
    pub(crate) linetable: *mut PyObject,
    pub(crate) weakreflist: *mut PyObject,
    pub(crate) co_code: *mut PyObject,
    pub(crate) linearray: *mut c_void,
    pub(crate) firsttraceable: c_int,
    pub(crate) extra: *mut c_void,
    pub(crate) adaptive: [u16; 1],
}

/// `PyThreadState`, up to its stack of handled exceptions.
#[repr(C)]
pub(crate) struct Thread {
    before: [u8; 32],
    pub(crate) recursion_remaining: c_int,
    between: [u8; 20],
    pub(crate) cframe: *mut CFrame,
    profile_function: *const c_void,
    pub(crate) trace_function: *const c_void,
    profile_object: *mut PyObject,
    pub(crate) trace_object: *mut PyObject,
    behind: [u8; 24],
    pub(crate) exc_info: *mut Handled,
}

impl Thread {
    /// The innermost frame.
    ///
    /// # Safety
    /// The thread state is alive and the GIL is held.
    pub(crate) unsafe fn frame(&self) -> *mut Frame {
        // SAFETY: `cframe` is never null in a live thread state: it begins at its own root.
        unsafe { (*self.cframe).current_frame }
    }

    /// Makes another frame the innermost one.
    ///
    /// # Safety
    /// The thread state is alive and the GIL is held; the frame outlives its being the innermost.
    pub(crate) unsafe fn set_frame(&mut self, frame: *mut Frame) {
        // SAFETY: as in `frame`.
        unsafe { (*self.cframe).current_frame = frame };
    }

    /// Whether a trace or profile function is watching this thread.
    ///
    /// # Safety
    /// The thread state is alive and the GIL is held.
    pub(crate) unsafe fn is_traced(&self) -> bool {
        // SAFETY: as in `frame`.
        unsafe { (*self.cframe).use_tracing != 0 }
    }
}

/// `_PyCFrame`.
#[repr(C)]
pub(crate) struct CFrame {
    pub(crate) use_tracing: u8,
    pub(crate) current_frame: *mut Frame,
}

/// `PRECALL`, of which the next is the form specialised for `type(x)`.
pub(crate) const TYPE_CALL_BASE: u8 = 166;
/// `PRECALL_NO_KW_TYPE_1`.
pub(crate) const TYPE_CALL: u8 = 141;
/// `PRECALL_ADAPTIVE`: what a specialised call goes back to.
pub(crate) const TYPE_CALL_GENERIC: u8 = 64;
/// The counter that goes with it. `adaptive_counter_start()`: specialisation is tried again after 31 runs.
pub(crate) const TYPE_CALL_COUNTER: u16 = (31 << 4) | 5;

/// Modules with metaclasses that are flagged immutable: CPython warns when such a class is made
/// while the flag is cleared on `type`, its base.
pub(crate) const IMMUTABLE_METACLASSES: &[&CStr] = &[];

unsafe extern "C" {
    /// A slot for something of one's own in every code object of the interpreter.
    #[link_name = "_PyEval_RequestCodeExtraIndex"]
    pub(crate) fn code_extra_index(free: unsafe extern "C" fn(*mut c_void)) -> isize;
    /// What is in it, or null.
    #[link_name = "_PyCode_GetExtra"]
    pub(crate) fn code_get_extra(
        code: *mut PyObject,
        index: isize,
        extra: *mut *mut c_void,
    ) -> c_int;
    /// Fills it.
    #[link_name = "_PyCode_SetExtra"]
    pub(crate) fn code_set_extra(code: *mut PyObject, index: isize, extra: *mut c_void) -> c_int;
}

/// `PyFrameObject`, up to how it is traced.
#[repr(C)]
pub(crate) struct FrameObject {
    base: PyObject,
    pub(crate) back: *mut PyObject,
    pub(crate) frame: *mut Frame,
    trace: *mut PyObject,
    lineno: c_int,
    pub(crate) trace_lines: c_char,
    pub(crate) trace_opcodes: c_char,
}

/// `PyLongObject`.
#[repr(C)]
struct Long {
    base: PyVarObject,
    digit: [u32; 1],
}

/// The value of an `int` of at most one digit.
///
/// # Safety
/// `int` is an exact `int`.
#[inline]
pub(crate) unsafe fn small_int(int: *mut PyObject) -> Option<i64> {
    // SAFETY: the caller's promise; even zero has room for a digit, which the size says is unused.
    unsafe {
        let long = int.cast::<Long>();
        match (*long).base.ob_size {
            0 => Some(0),
            size @ (1 | -1) => Some(size as i64 * i64::from((*long).digit[0])),
            _ => None,
        }
    }
}

/// `frame.owner` of a frame that lies in its frame object: it has returned, or never ran.
pub(crate) const OWNED_BY_FRAME_OBJECT: c_char = 2;

impl Code {
    /// Whether `sys.monitoring` has ever had to do with this code.
    pub(crate) fn is_monitored(&self) -> bool {
        false
    }
}

/// Opcodes from here on report to `sys.monitoring`: 3.11 has none.
pub(crate) const INSTRUMENTED: u8 = u8::MAX;

/// Splits the argument of `LOAD_ATTR` into the index of its name and whether it fetches a method to
/// call at once (which 3.11 has `LOAD_METHOD` for).
pub(crate) const fn attribute(argument: u32) -> (u32, bool) {
    (argument, false)
}

/// The meaning of a base opcode.
pub(crate) const fn op(opcode: u8) -> Op {
    match opcode {
        2 => Op::PushNull,
        9 => Op::Nop,
        99 => Op::Swap,
        100 => Op::LoadConst,
        101 => Op::LoadName,
        102 => Op::BuildTuple,
        103 => Op::BuildList,
        104 => Op::BuildSet,
        105 => Op::BuildMap,
        106 => Op::LoadAttr,
        116 => Op::LoadGlobal,
        117 => Op::Is,
        120 => Op::Copy,
        124 => Op::LoadFast,
        132 => Op::MakeFunction,
        133 => Op::BuildSlice,
        136 => Op::LoadClosure,
        137 => Op::LoadDeref,
        144 => Op::ExtendedArg,
        156 => Op::BuildConstKeyMap,
        160 => Op::LoadMethod,
        162 => Op::ListExtend,
        163 => Op::SetUpdate,
        166 => Op::PreCall,
        171 => Op::Call,
        172 => Op::KwNames,
        _ => Op::Other,
    }
}

/// Where a base opcode may continue besides the next instruction.
pub(crate) const fn jump(opcode: u8) -> Jump {
    match opcode {
        93 | 110 | 111 | 112 | 114 | 115 | 123 | 128 | 129 => Jump::Forward,
        134 | 140 | 173 | 174 | 175 | 176 => Jump::Backward,
        _ => Jump::None,
    }
}

/// Whether a base opcode never continues with the next instruction.
pub(crate) const fn ends(opcode: u8) -> bool {
    matches!(opcode, 83 | 110 | 119 | 130 | 134 | 140)
}

/// `RETURN_GENERATOR`, after which a value lies on the stack that its stack effect does not count.
pub(crate) const RETURN_GENERATOR: u8 = 75;

/// How many cache units follow a base opcode.
pub(crate) const fn caches(opcode: u8) -> usize {
    match opcode {
        // STORE_SUBSCR, UNPACK_SEQUENCE, BINARY_OP, PRECALL
        60 | 92 | 122 | 166 => 1,
        // COMPARE_OP
        107 => 2,
        // BINARY_SUBSCR, STORE_ATTR, LOAD_ATTR, CALL
        25 | 95 | 106 | 171 => 4,
        // LOAD_GLOBAL
        116 => 5,
        // LOAD_METHOD
        160 => 10,
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
    pub(crate) code: *mut PyObject,
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
pub(crate) const CREATED: i8 = -2;
/// `gi_frame_state` of a generator that stands at a `yield`.
pub(crate) const SUSPENDED: i8 = -1;
/// What is added to it when the generator delegates to another: this version does not tell.
pub(crate) const DELEGATING: i8 = 0;
/// `gi_frame_state` of a generator that runs.
pub(crate) const EXECUTING: i8 = 0;
/// `gi_frame_state` of a generator that will not run again.
pub(crate) const COMPLETED: i8 = 1;
/// `gi_frame_state` of a generator whose frame is emptied.
pub(crate) const CLEARED: i8 = 4;

/// The instruction pointer of a frame at rest stands one unit before the next instruction.
pub(crate) const AHEAD: usize = 1;

impl Frame {
    /// The unit at which this frame goes on when the function returns that it calls without C
    /// code in between. `at` is the unit of its instruction pointer.
    pub(crate) const fn returns_to(&self, at: usize) -> usize {
        at + 1
    }

    /// Lets `returns_to` say `next` while the frame waits at `at`, as far as this version can.
    pub(crate) const fn set_return(&mut self, _at: usize, _next: usize) {}

    /// Whether C code called the function of this frame.
    pub(crate) const fn is_entered_from_c(&self) -> bool {
        self.is_entry
    }
}

/// The frame behind one of a greenlet that has switched away, as it was while it ran.
///
/// # Safety
/// The frame is one of Python code, and of a greenlet that has switched away.
pub(crate) unsafe fn linked_before(frame: *const Frame) -> *mut Frame {
    // SAFETY: passed on. The library changes nothing in the frames of this version.
    unsafe { (*frame).previous }
}

/// `frame.owner` of a frame of a plain function.
pub(crate) const OWNED_BY_THREAD: c_char = 0;
/// `frame.owner` of a frame that lies in its generator or coroutine.
pub(crate) const OWNED_BY_GENERATOR: c_char = 1;

/// Each fact of this file beside the C expression that must have the same value.
pub const CHECKS: &[(&str, usize)] = &[
    (
        "offsetof(_PyInterpreterFrame, f_func)",
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
        "offsetof(_PyInterpreterFrame, f_code)",
        offset_of!(Frame, code),
    ),
    (
        "offsetof(_PyInterpreterFrame, frame_obj)",
        offset_of!(Frame, object),
    ),
    (
        "offsetof(_PyInterpreterFrame, previous)",
        offset_of!(Frame, previous),
    ),
    (
        "offsetof(_PyInterpreterFrame, prev_instr)",
        offset_of!(Frame, instruction),
    ),
    (
        "offsetof(_PyInterpreterFrame, stacktop)",
        offset_of!(Frame, stacktop),
    ),
    (
        "offsetof(_PyInterpreterFrame, is_entry)",
        offset_of!(Frame, is_entry),
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
        "offsetof(PyCodeObject, co_warmup)",
        offset_of!(Code, warmup),
    ),
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
    ("offsetof(PyCodeObject, co_extra)", offset_of!(Code, extra)),
    (
        "offsetof(PyCodeObject, co_code_adaptive)",
        offset_of!(Code, adaptive),
    ),
    (
        "offsetof(PyThreadState, cframe)",
        offset_of!(Thread, cframe),
    ),
    (
        "offsetof(_PyCFrame, current_frame)",
        offset_of!(CFrame, current_frame),
    ),
    (
        "offsetof(_PyCFrame, use_tracing)",
        offset_of!(CFrame, use_tracing),
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
        "offsetof(PyThreadState, recursion_remaining)",
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
        "offsetof(PyThreadState, c_tracefunc)",
        offset_of!(Thread, trace_function),
    ),
    (
        "offsetof(PyThreadState, c_traceobj)",
        offset_of!(Thread, trace_object),
    ),
    (
        "offsetof(PyFrameObject, f_trace_lines)",
        offset_of!(FrameObject, trace_lines),
    ),
    (
        "offsetof(PyFrameObject, f_trace_opcodes)",
        offset_of!(FrameObject, trace_opcodes),
    ),
    ("offsetof(PyLongObject, ob_digit)", offset_of!(Long, digit)),
    ("RETURN_GENERATOR", RETURN_GENERATOR as usize),
    ("FRAME_OWNED_BY_THREAD", OWNED_BY_THREAD as usize),
    ("FRAME_OWNED_BY_GENERATOR", OWNED_BY_GENERATOR as usize),
    ("sizeof(_Py_CODEUNIT)", size_of::<u16>()),
    ("PRECALL", TYPE_CALL_BASE as usize),
    ("PRECALL_NO_KW_TYPE_1", TYPE_CALL as usize),
    ("PRECALL_ADAPTIVE", TYPE_CALL_GENERIC as usize),
    ("adaptive_counter_start()", TYPE_CALL_COUNTER as usize),
    ("_PyOpcode_Caches[BINARY_SUBSCR]", caches(25)),
    ("_PyOpcode_Caches[STORE_SUBSCR]", caches(60)),
    ("_PyOpcode_Caches[UNPACK_SEQUENCE]", caches(92)),
    ("_PyOpcode_Caches[STORE_ATTR]", caches(95)),
    ("_PyOpcode_Caches[LOAD_ATTR]", caches(106)),
    ("_PyOpcode_Caches[COMPARE_OP]", caches(107)),
    ("_PyOpcode_Caches[LOAD_GLOBAL]", caches(116)),
    ("_PyOpcode_Caches[BINARY_OP]", caches(122)),
    ("_PyOpcode_Caches[LOAD_METHOD]", caches(160)),
    ("_PyOpcode_Caches[PRECALL]", caches(166)),
    ("_PyOpcode_Caches[CALL]", caches(171)),
    ("BUILD_CONST_KEY_MAP", number(Op::BuildConstKeyMap, 156)),
    ("BUILD_LIST", number(Op::BuildList, 103)),
    ("BUILD_MAP", number(Op::BuildMap, 105)),
    ("BUILD_SET", number(Op::BuildSet, 104)),
    ("BUILD_SLICE", number(Op::BuildSlice, 133)),
    ("BUILD_TUPLE", number(Op::BuildTuple, 102)),
    ("CALL", number(Op::Call, 171)),
    ("COPY", number(Op::Copy, 120)),
    ("EXTENDED_ARG", number(Op::ExtendedArg, 144)),
    ("IS_OP", number(Op::Is, 117)),
    ("KW_NAMES", number(Op::KwNames, 172)),
    ("LIST_EXTEND", number(Op::ListExtend, 162)),
    ("LOAD_ATTR", number(Op::LoadAttr, 106)),
    ("LOAD_CLOSURE", number(Op::LoadClosure, 136)),
    ("LOAD_CONST", number(Op::LoadConst, 100)),
    ("LOAD_DEREF", number(Op::LoadDeref, 137)),
    ("LOAD_FAST", number(Op::LoadFast, 124)),
    ("LOAD_GLOBAL", number(Op::LoadGlobal, 116)),
    ("LOAD_METHOD", number(Op::LoadMethod, 160)),
    ("LOAD_NAME", number(Op::LoadName, 101)),
    ("MAKE_FUNCTION", number(Op::MakeFunction, 132)),
    ("NOP", number(Op::Nop, 9)),
    ("PRECALL", number(Op::PreCall, 166)),
    ("PUSH_NULL", number(Op::PushNull, 2)),
    ("SET_UPDATE", number(Op::SetUpdate, 163)),
    ("SWAP", number(Op::Swap, 99)),
    ("RETURN_VALUE", ending(83)),
    ("FOR_ITER", jumping(93, Jump::Forward)),
    ("JUMP_FORWARD", jumping(110, Jump::Forward)),
    ("JUMP_FORWARD", ending(110)),
    ("JUMP_IF_FALSE_OR_POP", jumping(111, Jump::Forward)),
    ("JUMP_IF_TRUE_OR_POP", jumping(112, Jump::Forward)),
    ("POP_JUMP_FORWARD_IF_FALSE", jumping(114, Jump::Forward)),
    ("POP_JUMP_FORWARD_IF_TRUE", jumping(115, Jump::Forward)),
    ("RERAISE", ending(119)),
    ("SEND", jumping(123, Jump::Forward)),
    ("POP_JUMP_FORWARD_IF_NOT_NONE", jumping(128, Jump::Forward)),
    ("POP_JUMP_FORWARD_IF_NONE", jumping(129, Jump::Forward)),
    ("RAISE_VARARGS", ending(130)),
    ("JUMP_BACKWARD_NO_INTERRUPT", jumping(134, Jump::Backward)),
    ("JUMP_BACKWARD_NO_INTERRUPT", ending(134)),
    ("JUMP_BACKWARD", jumping(140, Jump::Backward)),
    ("JUMP_BACKWARD", ending(140)),
    (
        "POP_JUMP_BACKWARD_IF_NOT_NONE",
        jumping(173, Jump::Backward),
    ),
    ("POP_JUMP_BACKWARD_IF_NONE", jumping(174, Jump::Backward)),
    ("POP_JUMP_BACKWARD_IF_FALSE", jumping(175, Jump::Backward)),
    ("POP_JUMP_BACKWARD_IF_TRUE", jumping(176, Jump::Backward)),
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
