//! Which objects have a reduction of their own, and where it is.
//!
//! | file | objects |
//! | --- | --- |
//! | `function` | functions, bound methods, `functools` wrappers |
//! | `class` | classes that cannot be imported |
//! | `blank_class` | the empty classes that these are made from |
//! | `pairwise` | `itertools.pairwise` and `batched` |
//! | `parameter` | type variables, `NewType`, type aliases |
//! | `weak` | weak references |
//! | `regex` | matches of regular expressions |
//! | `cell` | cells |
//! | `module` | modules by name |
//! | `descriptor` | `property`, `classmethod`, `staticmethod`, `mappingproxy` |
//! | `view` | dict views, iterators over dicts and sets |
//! | `itertools` | iterators of `itertools`, without the warning of 3.12 and later |
//! | `exception` | exceptions with traceback, cause and context |
//! | `traceback` | tracebacks and frames |
//! | `context` | context variables and contexts |
//! | `file` | regular files, where the user asks for it |
//! | `python/objspace/_tasks.py` | tasks and futures of `asyncio` |

mod blank_class;
mod cell;
mod class;
mod context;
mod descriptor;
mod exception;
pub(crate) mod file;
pub(crate) mod function;
mod itertools;
mod module;
mod pairwise;
mod parameter;
mod regex;
mod traceback;
mod view;
mod weak;

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCode, PyTuple, PyType};
use pyo3::{ffi, intern};

use super::globals::{self, Globals};
use super::reducer::{CodeMode, Pass, refused};
use super::{code, frames};

/// Types with a reduction of their own. Classes and exceptions are known by their flags instead.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    BoundMethod,
    BuiltinMethod,
    CachedProperty,
    Cell,
    ClassMethod,
    Code,
    Context,
    ContextVar,
    DictIterator(view::Over, bool),
    DictView(view::Over),
    Frame,
    /// A generator, a coroutine, or what belongs to one.
    Frames(frames::Kind),
    Function,
    Globals,
    Itertools,
    LruCache,
    KeyedReference,
    MappingProxy,
    Match,
    Module,
    OrderedDictView(view::Over),
    Pairwise,
    Property,
    Sentinel,
    SetIterator,
    StaticMethod,
    /// A task or future of `asyncio`.
    Task,
    Traceback,
    /// A type variable, or another name that `typing` makes.
    TypeParameter,
    WeakMethod,
    WeakReference,
    /// Refused, with the reason.
    Never(&'static str),
}

/// What each type is, by the address of the type. The types live as long as the process.
pub(crate) struct Kinds {
    by_type: HashMap<usize, Kind>,
    pub(crate) types: Vec<Py<PyType>>,
}

impl Kinds {
    pub(crate) fn of(&self, class: &Bound<'_, PyType>) -> Option<Kind> {
        self.by_type.get(&(class.as_ptr() as usize)).copied()
    }
}

/// The table of kinds, made on first use.
pub(crate) fn kinds(py: Python<'_>) -> PyResult<&'static Kinds> {
    static KINDS: PyOnceLock<Kinds> = PyOnceLock::new();
    KINDS.get_or_try_init(py, || {
        let mut kinds = Kinds {
            by_type: HashMap::new(),
            types: Vec::new(),
        };
        let mut add = |class: Bound<'_, PyAny>, kind: Kind| -> PyResult<()> {
            let class = class.cast_into::<PyType>()?;
            kinds.by_type.insert(class.as_ptr() as usize, kind);
            kinds.types.push(class.unbind());
            Ok(())
        };
        let types = py.import("types")?;
        for (name, kind) in [
            ("BuiltinMethodType", Kind::BuiltinMethod),
            ("CellType", Kind::Cell),
            ("CodeType", Kind::Code),
            ("FrameType", Kind::Frame),
            ("FunctionType", Kind::Function),
            ("MappingProxyType", Kind::MappingProxy),
            ("MethodType", Kind::BoundMethod),
            ("MethodWrapperType", Kind::BuiltinMethod),
            ("ModuleType", Kind::Module),
            ("TracebackType", Kind::Traceback),
        ] {
            add(types.getattr(name)?, kind)?;
        }
        // Methods of C types that want to know their class have a type of their own, without a name.
        let pattern = py.import("re")?.call_method1("compile", ("",))?;
        add(
            pattern.getattr("search")?.get_type().into_any(),
            Kind::BuiltinMethod,
        )?;
        add(py.import("re")?.getattr("Match")?, Kind::Match)?;
        add(
            pattern.call_method1("scanner", ("",))?.get_type().into_any(),
            Kind::Never(
                "where a search stands is kept in C; a list of the matches can be pickled \
                 (list(re.finditer(...)))",
            ),
        )?;
        let weakref = py.import("weakref")?;
        for (name, kind) in [
            ("ref", Kind::WeakReference),
            ("KeyedRef", Kind::KeyedReference),
            ("WeakMethod", Kind::WeakMethod),
        ] {
            add(weakref.getattr(name)?, kind)?;
        }
        for class in pairwise::types(py)? {
            add(class, Kind::Pairwise)?;
        }
        for class in parameter::types(py)? {
            add(class, Kind::TypeParameter)?;
        }
        let builtins = py.import("builtins")?;
        for (name, kind) in [
            ("classmethod", Kind::ClassMethod),
            ("property", Kind::Property),
            ("staticmethod", Kind::StaticMethod),
            (
                "memoryview",
                Kind::Never("it is a view of memory; bytes(view) copies it"),
            ),
        ] {
            add(builtins.getattr(name)?, kind)?;
        }
        add(py.get_type::<Globals>().into_any(), Kind::Globals)?;
        let functools = py.import("functools")?;
        add(functools.getattr("_lru_cache_wrapper")?, Kind::LruCache)?;
        add(functools.getattr("cached_property")?, Kind::CachedProperty)?;
        let contextvars = py.import("contextvars")?;
        add(contextvars.getattr("ContextVar")?, Kind::ContextVar)?;
        add(contextvars.getattr("Context")?, Kind::Context)?;
        add(
            contextvars.getattr("Token")?,
            Kind::Never("it undoes a change in one context of this process"),
        )?;
        let dataclasses = py.import("dataclasses")?;
        add(dataclasses.getattr("MISSING")?.get_type().into_any(), Kind::Sentinel)?;
        add(dataclasses.getattr("_FIELD")?.get_type().into_any(), Kind::Sentinel)?;
        let thread = py.import("threading")?.getattr("Thread")?;
        add(thread, Kind::Never("it is a thread of this process"))?;
        for (name, reason) in [
            ("LockType", "it is a lock of this process"),
            ("RLock", "it is a lock of this process"),
        ] {
            let lock = py.import("_thread")?.getattr(name)?;
            add(lock, Kind::Never(reason))?;
        }
        let sockets = py.import("_socket")?;
        add(
            sockets.getattr("socket")?,
            Kind::Never("it is a connection of this process"),
        )?;
        let io = py.import("_io")?;
        for name in [
            "BufferedRWPair",
            "BufferedRandom",
            "BufferedReader",
            "BufferedWriter",
            "FileIO",
            "TextIOWrapper",
        ] {
            add(
                io.getattr(name)?,
                Kind::Never(
                    "it is an open file of this process; pickling.reopen_files() lets regular files be \
                     opened again",
                ),
            )?;
        }
        let tasks = py.import("objspace._tasks")?.call_method0("types")?;
        for class in tasks.try_iter()? {
            add(class?, Kind::Task)?;
        }
        for class in itertools::types(py)? {
            add(class.into_any(), Kind::Itertools)?;
        }
        for (class, kind) in view::types(py)? {
            add(class.into_any(), kind)?;
        }
        for (class, kind) in frames::types(py)? {
            add(class.into_any(), Kind::Frames(kind))?;
        }
        Ok(kinds)
    })
}

/// The reduction of an object; `None` where pickle's own way is right.
pub(crate) fn reduce<'py>(
    object: &Bound<'py, PyAny>,
    pass: &Pass,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let py = object.py();
    let class = object.get_type();
    let Some(kind) = kinds(py)?.of(&class) else {
        return by_flags(object, &class, pass);
    };
    match kind {
        Kind::BoundMethod => function::bound_method(object).map(Some),
        Kind::BuiltinMethod => function::builtin_method(object),
        Kind::CachedProperty => descriptor::cached_property(object).map(Some),
        Kind::Cell => cell::reduce(object).map(Some),
        Kind::ClassMethod => descriptor::wrapper(object, "make_classmethod").map(Some),
        Kind::Code => code::reduce(object.cast::<PyCode>()?, pass.mode).map(Some),
        Kind::Context => context::context(object).map(Some),
        Kind::ContextVar => context::variable(object).map(Some),
        Kind::DictIterator(over, reversed) => view::dict_iterator(object, over, reversed).map(Some),
        Kind::DictView(over) => view::dict_view(object, over).map(Some),
        Kind::OrderedDictView(over) => view::ordered_dict_view(object, over).map(Some),
        Kind::Frame => traceback::frame(object, pass).map(Some),
        Kind::Frames(kind) => frames::reduce(object, kind, pass).map(Some),
        Kind::Function => function::reduce(object, pass),
        Kind::Globals => globals::reduce(object.cast::<Globals>()?, pass.mode).map(Some),
        Kind::Itertools => itertools::reduce(object).map(Some),
        Kind::LruCache => function::lru_cache(object, pass),
        Kind::MappingProxy => descriptor::mapping_proxy(object).map(Some),
        Kind::KeyedReference => weak::keyed(object).map(Some),
        Kind::Match => regex::reduce(object).map(Some),
        Kind::Module => module::reduce(object).map(Some),
        Kind::Pairwise => pairwise::reduce(object).map(Some),
        Kind::Property => descriptor::property(object).map(Some),
        Kind::Sentinel => descriptor::sentinel(object).map(Some),
        Kind::SetIterator => view::set_iterator(object).map(Some),
        Kind::StaticMethod => descriptor::wrapper(object, "make_staticmethod").map(Some),
        Kind::Task => {
            let module = py.import(intern!(py, "objspace._tasks"))?;
            let reduced = module.call_method1(intern!(py, "reduce"), (object,))?;
            Ok(Some(reduced.cast_into::<PyTuple>()?))
        }
        Kind::Traceback => traceback::reduce(object, pass).map(Some),
        Kind::TypeParameter => parameter::reduce(object, pass),
        Kind::WeakMethod => weak::method(object).map(Some),
        Kind::WeakReference => weak::reference(object).map(Some),
        // Picklers that others have made may know better.
        Kind::Never(_) if pass.mode == CodeMode::Plain => Ok(None),
        Kind::Never(reason) => Err(refused(format!(
            "cannot pickle '{}' object: {reason}",
            class.fully_qualified_name()?
        ))),
    }
}

/// Classes and exceptions, whatever their metaclass and class.
fn by_flags<'py>(
    object: &Bound<'py, PyAny>,
    class: &Bound<'py, PyType>,
    pass: &Pass,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    if let Ok(class) = object.cast::<PyType>() {
        return class::reduce(class, pass);
    }
    if object.is_instance_of::<frames::chain::Continuation>() {
        return frames::reduce(object, frames::Kind::Continuation, pass).map(Some);
    }
    if let Some(base) = frames::greenlet::class_of(class)? {
        if !class.is(&base) && overrides_reduce(class, &base)? {
            return Ok(None);
        }
        return frames::greenlet::reduce(object, pass).map(Some);
    }
    // SAFETY: both are live; a subclass of the class of exceptions is asked for, no code runs.
    let exception = unsafe {
        ffi::PyType_IsSubtype(class.as_ptr().cast(), ffi::PyExc_BaseException.cast()) != 0
    };
    if exception && pass.exceptions {
        return exception::reduce(object).map(Some);
    }
    if pass.mode == CodeMode::Plain {
        return exception::of_worker(object, class);
    }
    // Derived from a type of the table: a socket with more methods is a socket.
    let kinds = kinds(object.py())?;
    for base in class.mro() {
        if let Ok(base) = base.cast::<PyType>()
            && let Some(Kind::Never(reason)) = kinds.of(base)
        {
            if overrides_reduce(class, base)? {
                return Ok(None);
            }
            return Err(refused(format!(
                "cannot pickle '{}' object: {reason}",
                class.fully_qualified_name()?
            )));
        }
    }
    Ok(None)
}

/// Whether a class says by itself how its objects are pickled, in a way that `base` does not.
fn overrides_reduce(class: &Bound<'_, PyType>, base: &Bound<'_, PyType>) -> PyResult<bool> {
    for name in ["__reduce_ex__", "__reduce__"] {
        if !class.getattr(name)?.is(&base.getattr(name)?) {
            return Ok(true);
        }
    }
    class
        .py()
        .import("copyreg")?
        .getattr("dispatch_table")?
        .contains(class)
}

/// Registers the makers of all objects.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    cell::register(module)?;
    class::register(module)?;
    context::register(module)?;
    descriptor::register(module)?;
    exception::register(module)?;
    file::register(module)?;
    function::register(module)?;
    itertools::register(module)?;
    module::register(module)?;
    pairwise::register(module)?;
    parameter::register(module)?;
    regex::register(module)?;
    traceback::register(module)?;
    view::register(module)?;
    weak::register(module)
}
