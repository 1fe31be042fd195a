//! The closed list of operations: one code per special method.
//!
//! A code is what travels; the name is what a controller is told. Codes are never reused.

/// One operation on one object, as it travels: an open number with named values, so that a code
/// of a newer peer survives decoding and can be refused by name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(
    clippy::exhaustive_structs,
    reason = "an open number is complete by nature"
)]
pub struct Op(pub u8);

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $method:literal;)*) => {
        impl Op {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// Every operation, in the order of their codes.
            pub const ALL: &'static [Self] = &[$(Self($code)),*];

            /// The special method (`__add__`) that this operation is, or `None` for an unknown code.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some($method),)*
                    _ => None,
                }
            }

            /// The operation of a special method's name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($method => Some(Self($code)),)*
                    _ => None,
                }
            }
        }
    };
}

operations! {
    // attribute access
    /// `__getattribute__`.
    GETATTR = 1, "__getattribute__";
    /// `__setattr__`.
    SETATTR = 2, "__setattr__";
    /// `__delattr__`.
    DELATTR = 3, "__delattr__";
    /// `__dir__`.
    DIR = 4, "__dir__";
    // calling
    /// `__call__`.
    CALL = 10, "__call__";
    /// An attribute fetched and called at once: `x.name(...)` in one message.
    CALL_METHOD = 11, "<call method>";
    // conversion
    /// `__repr__`.
    REPR = 20, "__repr__";
    /// `__str__`.
    STR = 21, "__str__";
    /// `__format__`.
    FORMAT = 22, "__format__";
    /// `__bytes__`.
    BYTES = 23, "__bytes__";
    /// `__hash__`.
    HASH = 24, "__hash__";
    /// `__bool__`.
    BOOL = 25, "__bool__";
    /// `__int__`.
    INT = 26, "__int__";
    /// `__float__`.
    FLOAT = 27, "__float__";
    /// `__complex__`.
    COMPLEX = 28, "__complex__";
    /// `__index__`.
    INDEX = 29, "__index__";
    /// `__round__`.
    ROUND = 30, "__round__";
    /// `__trunc__`.
    TRUNC = 31, "__trunc__";
    /// `__floor__`.
    FLOOR = 32, "__floor__";
    /// `__ceil__`.
    CEIL = 33, "__ceil__";
    /// `__fspath__`.
    FSPATH = 34, "__fspath__";
    /// `__sizeof__`.
    SIZEOF = 35, "__sizeof__";
    // comparison
    /// `__lt__`.
    LT = 40, "__lt__";
    /// `__le__`.
    LE = 41, "__le__";
    /// `__eq__`.
    EQ = 42, "__eq__";
    /// `__ne__`.
    NE = 43, "__ne__";
    /// `__gt__`.
    GT = 44, "__gt__";
    /// `__ge__`.
    GE = 45, "__ge__";
    // containers
    /// `__len__`.
    LEN = 50, "__len__";
    /// `__length_hint__`.
    LENGTH_HINT = 51, "__length_hint__";
    /// `__getitem__`.
    GETITEM = 52, "__getitem__";
    /// `__setitem__`.
    SETITEM = 53, "__setitem__";
    /// `__delitem__`.
    DELITEM = 54, "__delitem__";
    /// `__contains__`.
    CONTAINS = 55, "__contains__";
    /// `__iter__`.
    ITER = 56, "__iter__";
    /// `__next__`.
    NEXT = 57, "__next__";
    /// `__reversed__`.
    REVERSED = 58, "__reversed__";
    // unary arithmetic
    /// `__neg__`.
    NEG = 60, "__neg__";
    /// `__pos__`.
    POS = 61, "__pos__";
    /// `__abs__`.
    ABS = 62, "__abs__";
    /// `__invert__`.
    INVERT = 63, "__invert__";
    // binary arithmetic
    /// `__add__`.
    ADD = 70, "__add__";
    /// `__sub__`.
    SUB = 71, "__sub__";
    /// `__mul__`.
    MUL = 72, "__mul__";
    /// `__matmul__`.
    MATMUL = 73, "__matmul__";
    /// `__truediv__`.
    TRUEDIV = 74, "__truediv__";
    /// `__floordiv__`.
    FLOORDIV = 75, "__floordiv__";
    /// `__mod__`.
    MOD = 76, "__mod__";
    /// `__divmod__`.
    DIVMOD = 77, "__divmod__";
    /// `__pow__`.
    POW = 78, "__pow__";
    /// `__lshift__`.
    LSHIFT = 79, "__lshift__";
    /// `__rshift__`.
    RSHIFT = 80, "__rshift__";
    /// `__and__`.
    AND = 81, "__and__";
    /// `__xor__`.
    XOR = 82, "__xor__";
    /// `__or__`.
    OR = 83, "__or__";
    // reflected arithmetic
    /// `__radd__`.
    RADD = 90, "__radd__";
    /// `__rsub__`.
    RSUB = 91, "__rsub__";
    /// `__rmul__`.
    RMUL = 92, "__rmul__";
    /// `__rmatmul__`.
    RMATMUL = 93, "__rmatmul__";
    /// `__rtruediv__`.
    RTRUEDIV = 94, "__rtruediv__";
    /// `__rfloordiv__`.
    RFLOORDIV = 95, "__rfloordiv__";
    /// `__rmod__`.
    RMOD = 96, "__rmod__";
    /// `__rdivmod__`.
    RDIVMOD = 97, "__rdivmod__";
    /// `__rpow__`.
    RPOW = 98, "__rpow__";
    /// `__rlshift__`.
    RLSHIFT = 99, "__rlshift__";
    /// `__rrshift__`.
    RRSHIFT = 100, "__rrshift__";
    /// `__rand__`.
    RAND = 101, "__rand__";
    /// `__rxor__`.
    RXOR = 102, "__rxor__";
    /// `__ror__`.
    ROR = 103, "__ror__";
    // in-place arithmetic
    /// `__iadd__`.
    IADD = 110, "__iadd__";
    /// `__isub__`.
    ISUB = 111, "__isub__";
    /// `__imul__`.
    IMUL = 112, "__imul__";
    /// `__imatmul__`.
    IMATMUL = 113, "__imatmul__";
    /// `__itruediv__`.
    ITRUEDIV = 114, "__itruediv__";
    /// `__ifloordiv__`.
    IFLOORDIV = 115, "__ifloordiv__";
    /// `__imod__`.
    IMOD = 116, "__imod__";
    /// `__ipow__`.
    IPOW = 117, "__ipow__";
    /// `__ilshift__`.
    ILSHIFT = 118, "__ilshift__";
    /// `__irshift__`.
    IRSHIFT = 119, "__irshift__";
    /// `__iand__`.
    IAND = 120, "__iand__";
    /// `__ixor__`.
    IXOR = 121, "__ixor__";
    /// `__ior__`.
    IOR = 122, "__ior__";
    // descriptors
    /// `__get__`.
    GET = 130, "__get__";
    /// `__set__`.
    SET = 131, "__set__";
    /// `__delete__`.
    DELETE = 132, "__delete__";
    // contexts
    /// `__enter__`.
    ENTER = 140, "__enter__";
    /// `__exit__`.
    EXIT = 141, "__exit__";
    /// `__aenter__`.
    AENTER = 142, "__aenter__";
    /// `__aexit__`.
    AEXIT = 143, "__aexit__";
    // asynchronous
    /// `__await__`.
    AWAIT = 150, "__await__";
    /// `__aiter__`.
    AITER = 151, "__aiter__";
    /// `__anext__`.
    ANEXT = 152, "__anext__";
    // classes
    /// `__instancecheck__`.
    INSTANCECHECK = 160, "__instancecheck__";
    /// `__subclasscheck__`.
    SUBCLASSCHECK = 161, "__subclasscheck__";
    // copying
    /// `__reduce__`.
    REDUCE = 170, "__reduce__";
    /// `__reduce_ex__`.
    REDUCE_EX = 171, "__reduce_ex__";
    /// `__getstate__`.
    GETSTATE = 172, "__getstate__";
    /// `__copy__`.
    COPY = 173, "__copy__";
    /// `__deepcopy__`.
    DEEPCOPY = 174, "__deepcopy__";
    // buffers
    /// `__buffer__`.
    BUFFER = 180, "__buffer__";
}

impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Op({})", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Op;

    #[test]
    fn names_and_codes_are_one_to_one() {
        for op in Op::ALL {
            let name = op.name().unwrap();
            assert_eq!(Op::from_name(name), Some(*op), "{name}");
        }
    }

    #[test]
    fn an_unknown_code_has_no_name() {
        assert_eq!(Op(255).name(), None);
        assert_eq!(format!("{:?}", Op(255)), "Op(255)");
    }
}
