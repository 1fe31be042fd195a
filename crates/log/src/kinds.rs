//! The kinds of operations.

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)*) => {
        /// What an operation is. Its number in a log never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[$doc])* $variant = $number,)*
        }

        impl Kind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name by which filters and readers know it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The kind with this number.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }

            /// The kind with this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

kinds! {
    /// `object.name`: operands object.
    GetAttr = 1, "getattr";
    /// `object.name = value`: operands object, value.
    SetAttr = 2, "setattr";
    /// `del object.name`: operands object.
    DelAttr = 3, "delattr";
    /// `object[key]`: operands object, key; a slice without step has two keys.
    GetItem = 4, "getitem";
    /// `object[key] = value`: operands object, key (two for a slice), value.
    SetItem = 5, "setitem";
    /// `del object[key]`: operands object, key.
    DelItem = 6, "delitem";
    /// A call: operands the callable, then the arguments. The site's name lists the keywords of the
    /// last ones.
    Call = 7, "call";
    /// `f(*args, **kwargs)`: operands the callable, the tuple, the dict (or nothing).
    CallEx = 8, "call_ex";
    /// `a + b`; the site's name is the operator.
    Binary = 9, "binary";
    /// `a += b`; the site's name is the operator.
    InPlace = 10, "inplace";
    /// `-a`; the site's name is the operator.
    Unary = 11, "unary";
    /// `a < b`; the site's name is the operator.
    Compare = 12, "compare";
    /// `a is b`; the site's name is "is" or "is not".
    Is = 13, "is";
    /// `a in b`: operands the container, the element. The site's name is "in" or "not in".
    Contains = 14, "contains";
    /// The truth value of an object that is no bool.
    Truth = 15, "truth";
    /// `iter(object)`, and its asynchronous form (the name is then "async").
    Iter = 16, "iter";
    /// The next value of an iterator, and its asynchronous form; `exhausted` if there is none.
    Next = 17, "next";
    /// `a, b = object`: operands the object.
    Unpack = 18, "unpack";
    /// A display: operands its elements; the site's name is the type.
    Build = 19, "build";
    /// An element or elements added by a comprehension or display: operands the container, then
    /// what is added. The site's name says how.
    Add = 20, "add";
    /// `import module`; the site's name is the module.
    Import = 21, "import";
    /// `from module import name`: operands the module.
    ImportFrom = 22, "import_from";
    /// A global variable is set: operands the value.
    SetGlobal = 23, "setglobal";
    /// A global variable is deleted.
    DelGlobal = 24, "delglobal";
    /// A variable of a module or class body is set: operands the value.
    SetName = 25, "setname";
    /// A variable of a module or class body is deleted.
    DelName = 26, "delname";
    /// A variable that a nested function shares is set: operands the value.
    SetCell = 27, "setcell";
    /// A variable that a nested function shares is deleted.
    DelCell = 28, "delcell";
    /// `raise`: operands the exception and its cause, as far as given.
    Raise = 29, "raise";
    /// `yield value`, also on behalf of `await` and `yield from`: operands the value.
    Yield = 30, "yield";
    /// A generator or coroutine goes on: operands the value sent to it.
    Resume = 31, "resume";
    /// `await object` asks for the iterator behind it.
    Await = 32, "await";
    /// A value is sent on by `await` or `yield from`: operands the receiver, the value.
    Send = 33, "send";
    /// `with object` enters; the name is "async" for `async with`.
    Enter = 34, "enter";
    /// `with` leaves because of an exception: operands the exit method, the exception.
    Exit = 35, "exit";
    /// A value is formatted for an f-string: operands the value, the format if given.
    Format = 36, "format";
    /// A pattern looks into its subject: operands the subject, then the class or keys.
    Match = 37, "match";
    /// `super().name`: operands `super`, the class, the object.
    SuperAttr = 38, "superattr";
    /// An operation that reached a watched object through its proxy: operands the object, then the
    /// arguments. The site's name is the special method.
    Watch = 39, "watch";
}
