//! What a pickle may name while it is loaded: `loads(data, allow=[...])`.
//!
//! The rule holds for the thread that loads, until it has loaded. It covers what pickle itself looks up
//! (`find_class`) and what the makers of this package import. It restricts modules and refuses code by
//! value; it does not make a pickle of unknown origin safe: code of allowed modules, in a state that
//! the pickle chooses, is still code that runs.

use std::cell::RefCell;
use std::rc::Rc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyModule, PyString};

use super::{errors, maker};

thread_local! {
    static RULES: RefCell<Vec<Option<Rc<Vec<String>>>>> = const { RefCell::new(Vec::new()) };
}

/// What can be called by name without doing harm; all else of `builtins` has to be allowed.
const BUILTINS: &[&str] = &[
    "ArithmeticError",
    "AssertionError",
    "AttributeError",
    "BaseException",
    "BaseExceptionGroup",
    "BlockingIOError",
    "BrokenPipeError",
    "BufferError",
    "ChildProcessError",
    "ConnectionAbortedError",
    "ConnectionError",
    "ConnectionRefusedError",
    "ConnectionResetError",
    "EOFError",
    "Ellipsis",
    "Exception",
    "ExceptionGroup",
    "FileExistsError",
    "FileNotFoundError",
    "FloatingPointError",
    "GeneratorExit",
    "ImportError",
    "IndentationError",
    "IndexError",
    "InterruptedError",
    "IsADirectoryError",
    "KeyError",
    "KeyboardInterrupt",
    "LookupError",
    "MemoryError",
    "ModuleNotFoundError",
    "NameError",
    "NotADirectoryError",
    "NotImplemented",
    "NotImplementedError",
    "OSError",
    "OverflowError",
    "PermissionError",
    "ProcessLookupError",
    "RecursionError",
    "ReferenceError",
    "RuntimeError",
    "StopAsyncIteration",
    "StopIteration",
    "SyntaxError",
    "SystemError",
    "SystemExit",
    "TabError",
    "TimeoutError",
    "TypeError",
    "UnboundLocalError",
    "UnicodeDecodeError",
    "UnicodeEncodeError",
    "UnicodeError",
    "UnicodeTranslateError",
    "ValueError",
    "ZeroDivisionError",
    "bool",
    "bytearray",
    "bytes",
    "complex",
    "dict",
    "enumerate",
    "filter",
    "float",
    "frozenset",
    "int",
    "iter",
    "list",
    "map",
    "object",
    "range",
    "reversed",
    "set",
    "slice",
    "str",
    "tuple",
    "zip",
];

/// Functions of the standard library that pickles of harmless values name.
const HARMLESS: &[(&str, &str)] = &[
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("collections", "deque"),
    ("copyreg", "__newobj__"),
    ("copyreg", "_reconstructor"),
];

/// Iterators of the standard library, all of which only iterate.
const ITERATORS: &str = "itertools";

/// Holds while a pickle is loaded.
pub(crate) struct Guard;

impl Guard {
    /// `None`: everything is allowed.
    pub(crate) fn new(modules: Option<Vec<String>>) -> Self {
        RULES.with_borrow_mut(|rules| rules.push(modules.map(Rc::new)));
        Self
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        RULES.with_borrow_mut(Vec::pop);
    }
}

fn rule() -> Option<Rc<Vec<String>>> {
    RULES.with_borrow(|rules| rules.last().cloned().flatten())
}

fn covered(rule: &[String], module: &str) -> bool {
    rule.iter().any(|name| {
        module
            .strip_prefix(name.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// Whether the pickle that is being loaded may name that module.
pub(crate) fn module(name: &str) -> PyResult<()> {
    match rule() {
        Some(rule) => check(&rule, name),
        None => Ok(()),
    }
}

fn check(rule: &[String], name: &str) -> PyResult<()> {
    if covered(rule, name) {
        return Ok(());
    }
    Err(errors::unpickling(format!(
        "the pickle names module {name}, which allow= does not list"
    )))
}

/// Whether it may bring code with it.
pub(crate) fn code_by_value() -> PyResult<()> {
    match rule() {
        Some(_) => Err(errors::unpickling(
            "the pickle contains code by value, which allow= refuses",
        )),
        None => Ok(()),
    }
}

/// Whether an attribute of that name may be looked up on an object of the pickle's choice.
pub(crate) fn attribute(value: &Bound<'_, PyAny>, name: &str) -> PyResult<()> {
    let Some(rule) = rule() else {
        return Ok(());
    };
    if let Ok(module) = value.cast::<PyModule>()
        && let Ok(module) = module.name()?.to_cow()
        && !covered(&rule, &module)
    {
        return self::module(&module);
    }
    let slot = name.starts_with("__") && name.ends_with("__");
    if slot
        && !matches!(
            name,
            "__next__" | "__len__" | "__getitem__" | "__contains__" | "__iter__"
        )
    {
        return Err(errors::unpickling(format!(
            "the pickle looks up {name} on an object, which allow= refuses"
        )));
    }
    Ok(())
}

/// An imported module, imported now if need be.
pub(crate) fn import<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    import_named(&PyString::new(py, name))
}

/// The same by a string object.
pub(crate) fn import_named<'py>(name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
    let py = name.py();
    if let Some(rule) = rule() {
        check(&rule, &name.to_cow()?)?;
    }
    if let Some(module) = maker::imported(name)?
        && !module.is_none()
    {
        return Ok(module);
    }
    py.import(intern!(py, "importlib"))?
        .call_method1(intern!(py, "import_module"), (name,))
}

/// What `Unpickler.find_class` does where a rule is given: `found` looks it up.
pub(crate) fn find<'py>(
    py: Python<'py>,
    module: &str,
    name: &str,
    found: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let Some(rule) = rule() else {
        return found();
    };
    let harmless = (module == maker::MODULE && !name.contains('.'))
        || (matches!(module, "builtins" | "__builtin__") && BUILTINS.contains(&name))
        || (module == ITERATORS && !name.contains('.'))
        || HARMLESS.contains(&(module, name));
    if harmless {
        return found();
    }
    self::module(module)?;
    let object = found()?;
    // What an allowed module has imported from elsewhere does not become allowed by that.
    let defined = object
        .getattr(intern!(py, "__module__"))
        .ok()
        .and_then(|name| name.cast_into::<PyString>().ok())
        .map(|name| name.to_string_lossy().into_owned());
    let elsewhere = match defined {
        Some(defined) => !covered(&rule, &defined),
        None => object.is_instance_of::<PyModule>(),
    };
    if elsewhere || (name.contains('.') && name.contains("__")) {
        return Err(errors::unpickling(format!(
            "the pickle names {module}.{name}, which is not defined in a module that allow= lists"
        )));
    }
    Ok(object)
}
