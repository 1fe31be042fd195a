//! What kind of thing each operation and each fetch of a peer is: the table that every policy is about.
//!
//! The lists of operations and of fetches are closed. One that is added without a decision here does
//! not compile.

use objspace_proto::{FetchKind, Op};

/// What an operation does with its object, as far as a policy is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Reads or calls an attribute: the name decides.
    Attribute,
    /// Calls the object.
    Call,
    /// Tells what the object is, and does nothing else (`repr`, `==`, `hash`, ...).
    Inert,
    /// Would reach what the object is made of.
    Internal,
    /// An operator that computes or reads.
    Operator,
    /// An operator that changes the object.
    Change,
    /// Writes or deletes an attribute.
    Write,
}

/// The decision about an operation; `None` for a code that means nothing.
pub(crate) const fn kind(op: Op) -> Option<Kind> {
    Some(match op {
        Op::GETATTR | Op::CALL_METHOD => Kind::Attribute,
        Op::SETATTR | Op::DELATTR => Kind::Write,
        Op::CALL => Kind::Call,
        Op::DIR
        | Op::REPR
        | Op::STR
        | Op::FORMAT
        | Op::HASH
        | Op::BOOL
        | Op::EQ
        | Op::NE
        | Op::INSTANCECHECK
        | Op::SUBCLASSCHECK => Kind::Inert,
        Op::SIZEOF | Op::GET | Op::SET | Op::DELETE | Op::REDUCE | Op::REDUCE_EX | Op::GETSTATE => {
            Kind::Internal
        }
        Op::BYTES
        | Op::INT
        | Op::FLOAT
        | Op::COMPLEX
        | Op::INDEX
        | Op::ROUND
        | Op::TRUNC
        | Op::FLOOR
        | Op::CEIL
        | Op::FSPATH
        | Op::LT
        | Op::LE
        | Op::GT
        | Op::GE
        | Op::LEN
        | Op::LENGTH_HINT
        | Op::GETITEM
        | Op::CONTAINS
        | Op::ITER
        | Op::NEXT
        | Op::REVERSED
        | Op::NEG
        | Op::POS
        | Op::ABS
        | Op::INVERT
        | Op::ADD
        | Op::SUB
        | Op::MUL
        | Op::MATMUL
        | Op::TRUEDIV
        | Op::FLOORDIV
        | Op::MOD
        | Op::DIVMOD
        | Op::POW
        | Op::LSHIFT
        | Op::RSHIFT
        | Op::AND
        | Op::XOR
        | Op::OR
        | Op::RADD
        | Op::RSUB
        | Op::RMUL
        | Op::RMATMUL
        | Op::RTRUEDIV
        | Op::RFLOORDIV
        | Op::RMOD
        | Op::RDIVMOD
        | Op::RPOW
        | Op::RLSHIFT
        | Op::RRSHIFT
        | Op::RAND
        | Op::RXOR
        | Op::ROR
        | Op::ENTER
        | Op::EXIT
        | Op::AENTER
        | Op::AEXIT
        | Op::AWAIT
        | Op::AITER
        | Op::ANEXT
        | Op::COPY
        | Op::DEEPCOPY
        | Op::BUFFER => Kind::Operator,
        Op::SETITEM
        | Op::DELITEM
        | Op::IADD
        | Op::ISUB
        | Op::IMUL
        | Op::IMATMUL
        | Op::ITRUEDIV
        | Op::IFLOORDIV
        | Op::IMOD
        | Op::IPOW
        | Op::ILSHIFT
        | Op::IRSHIFT
        | Op::IAND
        | Op::IXOR
        | Op::IOR => Kind::Change,
        _ => return None,
    })
}

/// What decides about a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fetch {
    /// It is allowed where this operation on its object is.
    As(Op),
    /// The question itself is an operation, which is asked about.
    Question,
    /// Each step of the path is an operation, which is asked about.
    Path,
    /// Only where tracebacks are shown.
    Frames,
    /// The exported names are told to everybody.
    Names,
    /// It has a gate of its own: see [`operator`](super::operator).
    Operator,
    /// Nothing answers it yet.
    Unanswered,
}

/// The decision about a fetch; `None` for a code that means nothing.
pub(crate) const fn fetch(what: FetchKind) -> Option<Fetch> {
    Some(match what {
        FetchKind::CONTENTS | FetchKind::COPY => Fetch::As(Op::ITER),
        FetchKind::ITEMS => Fetch::As(Op::NEXT),
        FetchKind::ATTRIBUTES => Fetch::As(Op::DIR),
        FetchKind::BUFFER => Fetch::As(Op::BUFFER),
        FetchKind::EXPORTED_NAMES => Fetch::Names,
        FetchKind::CLASS => Fetch::Question,
        FetchKind::PATH => Fetch::Path,
        FetchKind::FRAME => Fetch::Frames,
        FetchKind::STATUS | FetchKind::LAST_ERROR => Fetch::Operator,
        FetchKind::LOCALS | FetchKind::SOURCE | FetchKind::SHAPE | FetchKind::EXPORTED => {
            Fetch::Unanswered
        }
        _ => return None,
    })
}

const _: () = {
    let mut at = 0;
    while at < Op::ALL.len() {
        assert!(
            kind(Op::ALL[at]).is_some(),
            "an operation without a decision"
        );
        at += 1;
    }
    let mut at = 0;
    while at < FetchKind::ALL.len() {
        assert!(
            fetch(FetchKind::ALL[at]).is_some(),
            "a fetch without a decision"
        );
        at += 1;
    }
};
