//! Open numbers with named values: an unknown value of a newer peer survives decoding.

macro_rules! open_codes {
    ($(#[$outer:meta])* $type:ident { $($(#[$doc:meta])* $name:ident = $code:literal;)* }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(clippy::exhaustive_structs, reason = "an open number is complete by nature")]
        pub struct $type(pub u8);

        impl $type {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// Every named value, in the order of the codes.
            pub const ALL: &'static [Self] = &[$(Self($code)),*];

            /// The name of the value, or `None` for an unknown code.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!(stringify!($type), "({})"), self.0),
                }
            }
        }
    };
}

open_codes! {
    /// What an object sent by reference is.
    ///
    /// [`Kind::INSTANCE`] is followed by its class; every kind from 128 on by the module and the
    /// qualified name of its type; the others by nothing.
    Kind {
        /// An instance of a user's class; the class follows.
        INSTANCE = 0;
        /// `list`.
        LIST = 1;
        /// `dict`.
        DICT = 2;
        /// `set`.
        SET = 3;
        /// `frozenset`.
        FROZENSET = 4;
        /// `tuple`.
        TUPLE = 5;
        /// `bytearray`.
        BYTEARRAY = 6;
        /// `memoryview`.
        MEMORYVIEW = 7;
        /// A function written in Python.
        FUNCTION = 8;
        /// A bound method.
        METHOD = 9;
        /// A function or bound method written in C.
        BUILTIN = 10;
        /// A module.
        MODULE = 11;
        /// A generator.
        GENERATOR = 12;
        /// A coroutine.
        COROUTINE = 13;
        /// An asynchronous generator.
        ASYNC_GENERATOR = 14;
        /// A user's class; its shape tells the rest.
        CLASS = 15;
        /// A frame.
        FRAME = 16;
        /// A code object.
        CODE = 17;
        /// A traceback.
        TRACEBACK = 18;
        /// An iterator of a builtin type.
        ITERATOR = 19;
        /// An open file.
        FILE = 20;
        /// A `property`.
        PROPERTY = 21;
        /// An exception.
        EXCEPTION = 22;
        /// Any other builtin type, whose module and qualified name follow.
        OTHER_BUILTIN = 128;
    }
}

impl Kind {
    /// Whether a class follows (an instance of a user's class).
    #[must_use]
    pub const fn has_class(self) -> bool {
        self.0 == Self::INSTANCE.0
    }

    /// Whether the module and the qualified name of a type follow.
    #[must_use]
    pub const fn has_name(self) -> bool {
        self.0 >= 128
    }
}

open_codes! {
    /// An immutable value of the standard library that is copied; the host defines its arguments.
    StructKind {
        /// `datetime.date`.
        DATE = 1;
        /// `datetime.time`.
        TIME = 2;
        /// `datetime.datetime`.
        DATETIME = 3;
        /// `datetime.timedelta`.
        TIMEDELTA = 4;
        /// `datetime.timezone`.
        TIMEZONE = 5;
        /// `zoneinfo.ZoneInfo`.
        ZONEINFO = 6;
        /// `decimal.Decimal`.
        DECIMAL = 10;
        /// `fractions.Fraction`.
        FRACTION = 11;
        /// `uuid.UUID`.
        UUID = 12;
        /// `pathlib.PurePosixPath`.
        PURE_POSIX_PATH = 20;
        /// `pathlib.PureWindowsPath`.
        PURE_WINDOWS_PATH = 21;
        /// `ipaddress.IPv4Address`.
        IPV4_ADDRESS = 30;
        /// `ipaddress.IPv6Address`.
        IPV6_ADDRESS = 31;
        /// `ipaddress.IPv4Network`.
        IPV4_NETWORK = 32;
        /// `ipaddress.IPv6Network`.
        IPV6_NETWORK = 33;
        /// `ipaddress.IPv4Interface`.
        IPV4_INTERFACE = 34;
        /// `ipaddress.IPv6Interface`.
        IPV6_INTERFACE = 35;
        /// An exception with its traceback, as the payload of a failed reply.
        EXCEPTION = 40;
        /// One entry of a traceback.
        TRACEBACK_ENTRY = 41;
        /// A signature of a callable, inside a shape.
        SIGNATURE = 42;
        /// One attribute of a class, inside a shape.
        ATTRIBUTE = 43;
        /// A member of an `enum.Enum`, as (class, name).
        ENUM_MEMBER = 44;
        /// An instance of a class that both sides have declared to travel by value.
        INSTANCE = 45;
        /// A deep copy: a tuple for each container in it.
        GRAPH = 46;
        /// The number of a container, inside a deep copy.
        NODE = 47;
        /// A copy of a buffer: format, size of an item, shape, bytes.
        BUFFER = 48;
    }
}

open_codes! {
    /// What a `Fetch` asks for.
    FetchKind {
        /// A snapshot of all the contents of a container.
        CONTENTS = 1;
        /// The local variables of a frame.
        LOCALS = 2;
        /// Source lines.
        SOURCE = 3;
        /// The names of the attributes of an object.
        ATTRIBUTES = 4;
        /// The shape of a class.
        SHAPE = 5;
        /// The names that the peer exports.
        EXPORTED_NAMES = 6;
        /// The object that the peer exports under a name.
        EXPORTED = 7;
        /// A range of the bytes of a buffer.
        BUFFER = 8;
        /// The next items of an iterator.
        ITEMS = 9;
        /// What the twin of a class asks the class: an operation's word, a name, arguments.
        CLASS = 10;
        /// What the picture of a frame asks the frame: an operation's word, arguments.
        FRAME = 11;
        /// What a server tells those who operate it about itself.
        STATUS = 12;
        /// The last error of a server's calls, for a debugger.
        LAST_ERROR = 13;
        /// A deep copy of a container.
        COPY = 14;
        /// What lies at the end of a path of attributes: their names, whether the last is called,
        /// and the arguments of that call.
        PATH = 15;
    }
}

open_codes! {
    /// Why a side closes a session.
    CloseCode {
        /// Nothing is wrong.
        NORMAL = 0;
        /// The receiver of the close sent bytes that could not be decoded.
        MALFORMED = 1;
        /// The receiver of the close broke a rule of the protocol.
        MISBEHAVED = 2;
        /// The two sides do not speak the same protocol.
        INCOMPATIBLE = 3;
        /// The receiver of the close went beyond a limit.
        LIMIT_EXCEEDED = 4;
        /// The sender of the close has a bug.
        INTERNAL = 5;
        /// The sender of the close does not serve this peer.
        DENIED = 6;
        /// The receiver of the close was silent for too long.
        TIMEOUT = 7;
        /// The sender of the close is shutting down.
        GOING_AWAY = 8;
    }
}
