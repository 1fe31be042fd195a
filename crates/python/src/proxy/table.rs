//! The table of operations: where each special method enters a proxy, and who answers it.
//!
//! Slots, special methods, presence and `docs/operations.md` all come from here.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use objspace_proto::Op;
use pyo3::ffi;
use pyo3::prelude::*;

use super::object::Object;
use super::slots as s;

/// A set of operations.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct OpSet([u64; 4]);

impl OpSet {
    pub(super) fn insert(&mut self, op: Op) {
        if let Some(word) = self.0.get_mut(usize::from(op.0 >> 6)) {
            *word |= 1 << (op.0 & 63);
        }
    }

    pub(super) fn contains(&self, op: Op) -> bool {
        self.0
            .get(usize::from(op.0 >> 6))
            .is_some_and(|word| word >> (op.0 & 63) & 1 == 1)
    }
}

/// A slot of the C type, by its number, and the function that goes there.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) number: c_int,
    pub(super) function: *const c_void,
}

// SAFETY: a number and the address of a function, neither of which ever changes.
unsafe impl Sync for Slot {}
// SAFETY: as above.
unsafe impl Send for Slot {}

macro_rules! slots {
    ($($number:ident = $function:expr;)*) => {
        &[$(Slot { number: ffi::$number, function: $function as *const c_void },)*]
    };
}

macro_rules! unary {
    ($op:ident) => {
        s::unary::<{ Op::$op.0 }>
    };
}

macro_rules! binary {
    ($op:ident, $reflected:ident) => {
        s::binary::<{ Op::$op.0 }, { Op::$reflected.0 }>
    };
}

macro_rules! with_one {
    ($op:ident) => {
        s::with_one::<{ Op::$op.0 }>
    };
}

/// Every slot that can lead to an operation. A proxy type has those that its proxied type has.
pub(super) static SLOTS: &[Slot] = slots! {
    Py_tp_repr = unary!(REPR);
    Py_tp_str = unary!(STR);
    Py_tp_hash = s::hash;
    Py_tp_call = ffi::PyVectorcall_Call;
    Py_tp_iter = unary!(ITER);
    Py_tp_iternext = unary!(NEXT);
    Py_tp_richcompare = s::compare;
    Py_tp_descr_get = s::descriptor_get;
    Py_tp_descr_set = s::descriptor_set;
    Py_nb_add = binary!(ADD, RADD);
    Py_nb_subtract = binary!(SUB, RSUB);
    Py_nb_multiply = binary!(MUL, RMUL);
    Py_nb_matrix_multiply = binary!(MATMUL, RMATMUL);
    Py_nb_true_divide = binary!(TRUEDIV, RTRUEDIV);
    Py_nb_floor_divide = binary!(FLOORDIV, RFLOORDIV);
    Py_nb_remainder = binary!(MOD, RMOD);
    Py_nb_divmod = binary!(DIVMOD, RDIVMOD);
    Py_nb_power = s::power;
    Py_nb_lshift = binary!(LSHIFT, RLSHIFT);
    Py_nb_rshift = binary!(RSHIFT, RRSHIFT);
    Py_nb_and = binary!(AND, RAND);
    Py_nb_xor = binary!(XOR, RXOR);
    Py_nb_or = binary!(OR, ROR);
    Py_nb_inplace_add = with_one!(IADD);
    Py_nb_inplace_subtract = with_one!(ISUB);
    Py_nb_inplace_multiply = with_one!(IMUL);
    Py_nb_inplace_matrix_multiply = with_one!(IMATMUL);
    Py_nb_inplace_true_divide = with_one!(ITRUEDIV);
    Py_nb_inplace_floor_divide = with_one!(IFLOORDIV);
    Py_nb_inplace_remainder = with_one!(IMOD);
    Py_nb_inplace_power = s::in_place_power;
    Py_nb_inplace_lshift = with_one!(ILSHIFT);
    Py_nb_inplace_rshift = with_one!(IRSHIFT);
    Py_nb_inplace_and = with_one!(IAND);
    Py_nb_inplace_xor = with_one!(IXOR);
    Py_nb_inplace_or = with_one!(IOR);
    Py_nb_negative = unary!(NEG);
    Py_nb_positive = unary!(POS);
    Py_nb_absolute = unary!(ABS);
    Py_nb_invert = unary!(INVERT);
    Py_nb_bool = s::truth;
    Py_nb_int = unary!(INT);
    Py_nb_float = unary!(FLOAT);
    Py_nb_index = unary!(INDEX);
    Py_sq_length = s::length;
    Py_sq_concat = with_one!(ADD);
    Py_sq_repeat = s::repeat::<{ Op::MUL.0 }>;
    Py_sq_item = s::item_at;
    Py_sq_ass_item = s::assign_item_at;
    Py_sq_contains = s::contains;
    Py_sq_inplace_concat = with_one!(IADD);
    Py_sq_inplace_repeat = s::repeat::<{ Op::IMUL.0 }>;
    Py_mp_length = s::length;
    Py_mp_subscript = with_one!(GETITEM);
    Py_mp_ass_subscript = s::assign_item;
    Py_am_await = unary!(AWAIT);
    Py_am_aiter = unary!(AITER);
    Py_am_anext = unary!(ANEXT);
    Py_bf_getbuffer = s::get_buffer;
};

/// Slots of sequences, which a deferred proxy leaves to the other protocols.
pub(super) fn is_sequence_slot(number: c_int) -> bool {
    matches!(
        number,
        ffi::Py_sq_concat
            | ffi::Py_sq_repeat
            | ffi::Py_sq_item
            | ffi::Py_sq_ass_item
            | ffi::Py_sq_inplace_concat
            | ffi::Py_sq_inplace_repeat
    )
}

/// Special methods without a slot: found in the dictionary of the proxy type.
macro_rules! methods {
    ($($op:ident)*) => {
        /// Special methods without a slot, and the functions that go into a proxy type for them.
        static METHODS: &[(Op, ffi::PyCFunctionFastWithKeywords)] =
            &[$((Op::$op, s::method::<{ Op::$op.0 }>),)*];
    };
}

methods! {
    DIR FORMAT BYTES COMPLEX ROUND TRUNC FLOOR CEIL FSPATH SIZEOF LENGTH_HINT REVERSED
    ENTER EXIT AENTER AEXIT INSTANCECHECK SUBCLASSCHECK
    REDUCE REDUCE_EX GETSTATE COPY DEEPCOPY
}

/// The method table of a proxy type whose proxied type has the operations `present`, with its end
/// mark.
pub(super) fn methods(present: &OpSet) -> Vec<ffi::PyMethodDef> {
    let mut table: Vec<_> = METHODS
        .iter()
        .filter(|(op, _)| present.contains(*op))
        .map(|(op, function)| ffi::PyMethodDef {
            ml_name: c_name(*op),
            ml_meth: ffi::PyMethodDefPointer {
                PyCFunctionFastWithKeywords: *function,
            },
            ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            ml_doc: ptr::null(),
        })
        .collect();
    table.push(ffi::PyMethodDef::zeroed());
    table
}

/// Attributes that a proxy answers itself, and why.
pub(super) const LOCAL: &[(&str, &str)] = &[
    (
        "__class__",
        "the type is the one aspect that a controller cannot change; assigning it is a TypeError",
    ),
    ("__init__", "a proxy is not made by calling its type"),
    ("__new__", "a proxy is not made by calling its type"),
    (
        "__del__",
        "the end of a proxy is not the end of what it stands for",
    ),
    ("__init_subclass__", "belongs to the class, which is real"),
    (
        "__set_name__",
        "belongs to the class body that the proxy stands in: forwarded as an attribute",
    ),
    ("__class_getitem__", "belongs to the class, which is real"),
    ("__prepare__", "belongs to the class, which is real"),
    (
        "__reduce_ex__",
        "of a list, tuple or dict: built from the proxy's own operations, else forwarded",
    ),
    (
        "__traceback__",
        "of an exception: what raising the proxy itself left there, else forwarded",
    ),
    (
        "__context__",
        "of an exception: what raising the proxy itself left there, else forwarded",
    ),
    (
        "__cause__",
        "of an exception: what raising the proxy itself left there, else forwarded",
    ),
    (
        "__suppress_context__",
        "of an exception: goes with `__cause__`",
    ),
    (
        "with_traceback",
        "of an exception: sets the proxy's own traceback, and returns the proxy",
    ),
    (
        "split",
        "of an exception group: takes the proxy apart, whose parts are made by `derive`, which is forwarded",
    ),
    ("subgroup", "of an exception group: as `split`"),
];

// ------------------------------------------------------------------ names

struct Names(Vec<(Object, std::ffi::CString)>);

// SAFETY: immortal interned strings, read while attached only.
unsafe impl Sync for Names {}
// SAFETY: as above.
unsafe impl Send for Names {}

static NAMES: OnceLock<Names> = OnceLock::new();

fn names() -> &'static Names {
    NAMES.get_or_init(|| {
        let names = (0..=u8::MAX).map(|code| {
            let name = Op(code).name().unwrap_or("<unknown operation>");
            let name = std::ffi::CString::new(name).unwrap_or_default();
            // SAFETY: first called when a proxy is made, attached. The reference is kept for ever.
            let interned = unsafe { ffi::PyUnicode_InternFromString(name.as_ptr()) };
            (interned, name)
        });
        Names(names.collect())
    })
}

/// The name of an operation as an interned string, borrowed; it lives for ever.
pub(super) fn opname(op: Op) -> Object {
    names()
        .0
        .get(usize::from(op.0))
        .map_or(ptr::null_mut(), |(name, _)| *name)
}

fn c_name(op: Op) -> *const std::ffi::c_char {
    names()
        .0
        .get(usize::from(op.0))
        .map_or(ptr::null(), |(_, name)| name.as_ptr())
}

/// The rows of `docs/operations.md`: (operation, how it enters, who answers, reason).
#[pyfunction]
pub(crate) fn operation_table() -> Vec<(String, String, String, String)> {
    let row = |name: &str, entry: &str, answer: &str, reason: &str| {
        (
            name.to_owned(),
            entry.to_owned(),
            answer.to_owned(),
            reason.to_owned(),
        )
    };
    let mut rows: Vec<_> = Op::ALL
        .iter()
        .filter(|op| **op != Op::CALL_METHOD)
        .filter_map(|op| {
            let entry = match *op {
                Op::GETATTR | Op::SETATTR | Op::DELATTR => "slot",
                op if METHODS.iter().any(|(method, _)| *method == op) => "special method",
                _ => "slot",
            };
            Some(row(op.name()?, entry, "the controller", ""))
        })
        .collect();
    rows.extend(
        LOCAL
            .iter()
            .map(|(name, reason)| row(name, "attribute", "the proxy itself", reason)),
    );
    rows
}
