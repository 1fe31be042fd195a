//! Chains of running frames: taken while they run, and run on later, here or in another process.
//!
//! | file | |
//! | --- | --- |
//! | `capture` | walks the frames of the running thread and notes what each waits for |
//! | `boundary` | which calls through C code can be crossed: those whose result is the callee's result, or follows from it |
//! | `describe` | the others, in words |
//! | `operators` | the methods behind binary operations and comparisons |
//! | `resume` | builds the frames anew and runs them on |
//! | `greenlet` | the frames of a greenlet that has switched away |
//! | `abandon` | frames that end without running anything |
//! | `settle` | what a frame does with the result that it waited for |
//! | `check` | whether a saved chain is one that its code can have |
//!
//! A chain is a list of [`Record`]s, outermost first. Each is a frame that waits for the one after
//! it; the last waits for a value from outside. [`Then`] says what becomes of that value.

mod abandon;
mod boundary;
mod capture;
mod check;
mod describe;
mod greenlet;
mod operators;
mod resume;
mod settle;

pub use abandon::abandon;
pub use capture::{Refused, based, capture};
pub use check::check;
pub use greenlet::{Switches, capture_switched, referents};
#[doc(hidden)]
pub use resume::foreign_hook;
pub use resume::{Outcome, Start, resume};

use crate::owned::Owned;

/// A frame that waits.
#[derive(Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "records are made from what was saved"
)]
pub struct Record {
    /// The code.
    pub code: Owned,
    /// The globals, a dict.
    pub globals: Owned,
    /// The generator, coroutine or asynchronous generator that the frame belongs to.
    pub generator: Option<Owned>,
    /// The exception that this generator is handling.
    pub handled: Option<Owned>,
    /// The unit of the instruction pointer while it waits.
    pub at: u32,
    /// The unit at which it goes on with a value.
    pub next: u32,
    /// The variables and, behind them, the value stack without the value that is waited for.
    pub values: Vec<Option<Owned>>,
    /// What becomes of that value.
    pub then: Then,
}

/// What a frame does with the result that it waits for.
#[derive(Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "records are made from what was saved"
)]
pub struct Then {
    /// What is done.
    pub action: Action,
    /// What it needs for that.
    pub operands: Vec<Owned>,
}

impl Then {
    pub(crate) const fn plain(action: Action) -> Self {
        Self {
            action,
            operands: Vec::new(),
        }
    }
}

/// See [`Then`]. The numbers are part of what is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "all of them are saved by number")]
#[repr(u8)]
pub enum Action {
    /// The result is pushed.
    Push = 0,
    /// The result is dropped.
    Drop = 1,
    /// The result is pushed as something to be called without an object.
    PushCallable = 2,
    /// The result of `__init__` must be `None`; the operand, the new object, is pushed.
    Init = 3,
    /// The result of `__bool__` is pushed, or its opposite.
    Bool = 4,
    /// The result of `__bool__` decides on a jump.
    Branch = 5,
    /// The result must be an iterator.
    Iterator = 6,
    /// The result of `__next__`; `StopIteration` ends the loop.
    Step = 7,
    /// A step of a generator that a loop runs over.
    Loop = 8,
    /// A step of a generator or coroutine that is awaited or delegated to.
    Send = 9,
    /// A step of a generator that is run by a call of `next()` or `send()`; the operand is the default.
    Next = 10,
    /// A binary operation; operands: left, right, and the number of the method tried first.
    Binary = 11,
    /// A comparison; operands as for `Binary`.
    Compare = 12,
    /// The truth of the result of `__contains__` is pushed, or its opposite.
    Contains = 13,
    /// An attribute; `AttributeError` makes `__getattr__` of the operand, the object, be asked.
    Attribute = 14,
    /// The same for an attribute that is to be called.
    CallableAttribute = 15,
    /// The result of `__await__` must be an iterator and no coroutine.
    Await = 16,
}

impl Action {
    const ALL: [Self; 17] = [
        Self::Push,
        Self::Drop,
        Self::PushCallable,
        Self::Init,
        Self::Bool,
        Self::Branch,
        Self::Iterator,
        Self::Step,
        Self::Loop,
        Self::Send,
        Self::Next,
        Self::Binary,
        Self::Compare,
        Self::Contains,
        Self::Attribute,
        Self::CallableAttribute,
        Self::Await,
    ];

    /// The action with a number.
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }
}
