//! Operands and results.

/// An operand or a result.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Value {
    /// Nothing: an argument that is not there.
    Absent,
    /// `None`
    None,
    /// `True`
    True,
    /// `False`
    False,
    /// `...`
    Ellipsis,
    /// `NotImplemented`
    NotImplemented,
    /// Something was there, and it is not known what.
    Unknown,
    /// An `int` of at most 61 bits.
    Int(i64),
    /// A `float`.
    Float(f64),
    /// Any other object, by its serial.
    Object(u64),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Object(a), Self::Object(b)) => a == b,
            _ => match (self.special(), other.special()) {
                (Some(a), Some(b)) => a == b,
                _ => false,
            },
        }
    }
}

impl Value {
    const SPECIALS: [Self; 7] = [
        Self::Absent,
        Self::None,
        Self::True,
        Self::False,
        Self::Ellipsis,
        Self::NotImplemented,
        Self::Unknown,
    ];

    /// The number of a value that is nothing but itself.
    pub(crate) const fn special(self) -> Option<u64> {
        match self {
            Self::Absent => Some(0),
            Self::None => Some(1),
            Self::True => Some(2),
            Self::False => Some(3),
            Self::Ellipsis => Some(4),
            Self::NotImplemented => Some(5),
            Self::Unknown => Some(6),
            _ => None,
        }
    }

    pub(crate) fn from_special(number: u64) -> Option<Self> {
        Self::SPECIALS.get(usize::try_from(number).ok()?).copied()
    }

    /// The serial, if it is an object.
    pub const fn serial(self) -> Option<u64> {
        match self {
            Self::Object(serial) => Some(serial),
            _ => None,
        }
    }
}
