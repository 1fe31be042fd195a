//! Classes that cross a session: a shape described as one plain tuple here, a real class there.
//!
//! [`describe`] reads a class without running anything of the user's; [`build`] makes a real local
//! class of the same name, bases, signatures and kinds of attributes. Facts (functions, properties,
//! documentation, signatures, abstractness, fields) are answered by the local class at once. State
//! (class attributes that are values) stays on the other side and is asked for each time it is read,
//! through an `access` callable, `access(operation, name, *arguments, **keywords)`:
//!
//! | operation, name, arguments | performed on the remote class `C` |
//! | --- | --- |
//! | `"get", name` | `getattr(C, name)` |
//! | `"set", name, value` and `"delete", name` | `setattr`, `delattr` |
//! | `"call", name, *args, **kw` | `getattr(C, name)(*args, **kw)`: unbound functions, static methods |
//! | `"call_for", name, owner, *args, **kw` | the class method bound to `owner` (C or a subclass here) |
//! | `"new", None, *args, **kw` | `C(*args, **kw)` |
//! | `"get_for", name, instance, owner` | the descriptor's `__get__(instance, owner)` |
//! | `"set_for", name, instance, value`, `"delete_for", name, instance` | its `__set__`, `__delete__` |
//! | `"property_get", name, instance`, `"property_set", name, instance, value`, `"property_delete", name, instance` | the property's functions |
//! | `"default_factory", name` | calls the default factory of the dataclass field `name` |
//! | `"__instancecheck__", None, x`, `"__subclasscheck__", None, x` | `isinstance(x, C)`, `issubclass(x, C)` |
//! | `"__iter__"`, `"__reversed__"`, `"__len__"`, `"__contains__"`, `"__getitem__"`, name `None` | that operation on the class itself (enums) |
//! | `"source", file` | the text of a source file that methods of `C` come from, or `None` |
//!
//! [`answer`] performs all of them on the owner's side.
//!
//! # What a built class does
//! - `C(…)` makes an object over there and answers what comes back; `__init__` does not run again.
//!   That goes for exception classes too: `raise C(1)` raises the copy that arrives.
//! - A local subclass `D(C)` is local: `D()` is a local object, and inherited methods run over there
//!   with it by reference. If `C` has a `__new__` of its own this is a `TypeError`.
//! - An unknown attribute of `C` is asked for over there, unless it is a dunder name: those are
//!   facts, so what the shape lacks is not there.
//! - Setting or deleting an attribute of `C` happens over there; from then on that name is state.
//! - The true metaclass is a hidden one, called like the original's; `C.__class__` and
//!   [`visible_metaclass`] tell the one to show (the hook of `type(x)` should ask it).
//! - `__del__` is left out: destructors never send.
//!
//! What this is not: no session, no encoding, no proxies of instances.

mod answer;
mod attribute;
mod build;
mod describe;
mod function;
mod generic;
mod meta;
mod source;
pub(crate) mod statics;

pub(crate) use answer::answer;
pub(crate) use build::build;
pub(crate) use describe::describe;
pub(crate) use meta::{fact, is_remote, visible_metaclass};

/// Positions in the description of a class.
pub(crate) mod shape {
    /// `str`: `__name__`.
    pub(crate) const NAME: usize = 0;
    /// `str`: `__qualname__`.
    pub(crate) const QUALNAME: usize = 1;
    /// `str` or `None`: `__module__`.
    pub(crate) const MODULE: usize = 2;
    /// `str` or `None`: `__doc__`.
    pub(crate) const DOC: usize = 3;
    /// A tuple of the bases (live classes).
    pub(crate) const BASES: usize = 4;
    /// The metaclass (a live class), or `None` for `type`, `ABCMeta` and `EnumType`, which the flags tell.
    pub(crate) const METACLASS: usize = 5;
    /// `int`: the bits of [`super::flag`].
    pub(crate) const FLAGS: usize = 6;
    /// A tuple of `(name, kind, …)`, see [`super::kind`].
    pub(crate) const ATTRIBUTES: usize = 7;
    /// A tuple of `(name, value)`, see [`super::extra`].
    pub(crate) const EXTRAS: usize = 8;
    /// How many there are.
    pub(crate) const LEN: usize = 9;
}

/// Bits of a class.
pub(crate) mod flag {
    /// Instances are exceptions.
    pub(crate) const EXCEPTION: u32 = 1;
    /// The class is abstract: its metaclass is `ABCMeta`, or a subclass of it.
    pub(crate) const ABC: u32 = 1 << 1;
    /// An enum.
    pub(crate) const ENUM: u32 = 1 << 2;
    /// It has abstract methods left.
    pub(crate) const ABSTRACT: u32 = 1 << 3;
    /// It defines `__new__` itself.
    pub(crate) const OWN_NEW: u32 = 1 << 4;
    /// Its instances have a `__dict__`.
    pub(crate) const DICT: u32 = 1 << 5;
    /// A dataclass.
    pub(crate) const DATACLASS: u32 = 1 << 6;
    /// Sequence patterns match its instances.
    pub(crate) const SEQUENCE: u32 = 1 << 7;
    /// Mapping patterns match its instances.
    pub(crate) const MAPPING: u32 = 1 << 8;
    /// Its metaclass decides `isinstance` or `issubclass` by code of its own.
    pub(crate) const OWN_CHECK: u32 = 1 << 9;
    /// It is a metaclass itself.
    pub(crate) const METACLASS: u32 = 1 << 10;
    /// It cannot be subclassed.
    pub(crate) const FINAL: u32 = 1 << 11;
}

/// Kinds of attributes, the second item of each.
pub(crate) mod kind {
    /// A function: `(name, METHOD, function)`; see [`super::function`].
    pub(crate) const METHOD: u8 = 0;
    /// A class method: `(name, CLASSMETHOD, function)`.
    pub(crate) const CLASSMETHOD: u8 = 1;
    /// A static method: `(name, STATICMETHOD, function)`.
    pub(crate) const STATICMETHOD: u8 = 2;
    /// A property: `(name, PROPERTY, getter or None, has setter, has deleter, doc)`.
    pub(crate) const PROPERTY: u8 = 3;
    /// Another descriptor: `(name, DESCRIPTOR, has __set__ or __delete__, doc)`.
    pub(crate) const DESCRIPTOR: u8 = 4;
    /// State, asked for whenever it is read: `(name, VALUE)`.
    pub(crate) const VALUE: u8 = 5;
    /// A nested class or an enum's member: `(name, KEPT)`; asked for once.
    pub(crate) const KEPT: u8 = 6;
    /// A value that is a fact: `(name, CONSTANT, value)`.
    pub(crate) const CONSTANT: u8 = 7;
    /// `__class_getitem__ = classmethod(types.GenericAlias)`: `(name, GENERIC)`.
    pub(crate) const GENERIC: u8 = 8;
}

/// Names of the extras.
pub(crate) mod extra {
    /// `((name, annotation), …)`.
    pub(crate) const ANNOTATIONS: &str = "annotations";
    /// `__match_args__`, a tuple.
    pub(crate) const MATCH_ARGS: &str = "match_args";
    /// The slots that the class adds, with `__dict__` and `__weakref__` where it has them; absent
    /// if it has no `__slots__`.
    pub(crate) const SLOTS: &str = "slots";
    /// `__slots__` as written.
    pub(crate) const SLOTS_SHOWN: &str = "slots_shown";
    /// Names of abstract methods.
    pub(crate) const ABSTRACT: &str = "abstract";
    /// `((kind, name), …)` of `__parameters__`.
    pub(crate) const PARAMETERS: &str = "parameters";
    /// `((kind, name), …)` of `__type_params__`.
    pub(crate) const TYPE_PARAMS: &str = "type_params";
    /// `__orig_bases__`, see [`super::generic`].
    pub(crate) const ORIGINAL_BASES: &str = "orig_bases";
    /// Parameters of the dataclass decorator, `((name, bool), …)`.
    pub(crate) const DATACLASS: &str = "dataclass";
    /// Fields of the dataclass.
    pub(crate) const FIELDS: &str = "fields";
    /// Which ABCs of the standard library it is registered with, by name.
    pub(crate) const REGISTERED: &str = "registered";
    /// `(file, stamp or None)` that most functions come from.
    pub(crate) const FILE: &str = "file";
}
