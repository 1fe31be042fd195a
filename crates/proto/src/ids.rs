//! Names of table entries: a slot and its generation, or a slot alone; never an address.
//!
//! Each kind has its own type, so that an id of one table cannot be used with another.

macro_rules! reference_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name {
            slot: u32,
            generation: u32,
        }

        impl $name {
            /// Only tables and the codec make ids.
            pub(crate) const fn new(slot: u32, generation: u32) -> Self {
                Self { slot, generation }
            }

            /// The place in the table.
            #[must_use]
            pub const fn slot(self) -> u32 {
                self.slot
            }

            /// Which user of that place.
            #[must_use]
            pub const fn generation(self) -> u32 {
                self.generation
            }
        }
    };
}

reference_id! {
    /// An object of this side that the peer may refer to.
    ExportId
}
reference_id! {
    /// An object of the peer that this side refers to.
    ImportId
}

/// A request of this side, until its reply (or, if kept, until it is finished).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuestionId(pub(crate) u32);

impl QuestionId {
    /// The number that travels.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// A request of the peer that this side is to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AnswerId {
    pub(crate) question: u32,
    /// Tells this request from an earlier one of the same number.
    pub(crate) serial: u64,
}

impl AnswerId {
    /// The number that the peer gave its question.
    #[must_use]
    pub const fn question(self) -> u32 {
        self.question
    }
}
