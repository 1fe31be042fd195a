//! Who may do what: the one gate that every operation of a peer passes.

use std::collections::{HashMap, HashSet};

use objspace_proto::Op;
use pyo3::exceptions::{PyPermissionError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule, PyString, PyType};

use super::gate::{self, Kind};
use crate::remote::traceback::Shown;

/// What the peer of a session may do with the objects that it was given.
///
/// `Policy.full()`: everything. `Policy.public()`: public attributes and ordinary operators of what
/// was exported and of what is returned from it; no `_names`, no writes to attributes, no way to
/// class internals, globals, code or frames. `Policy.listed({Class: ["name", ...]})`: only the named
/// attributes of the named classes, and the operators whose special methods are named
/// (`"__len__"`, `"__setitem__"`; `"__init__"` to make instances). What a listed method returns can
/// be called and read if it is of a builtin type, and not be changed.
#[pyclass(frozen, module = "objspace", name = "Policy")]
pub(crate) struct Policy {
    rule: Rule,
    tracebacks: Shown,
}

enum Rule {
    Full,
    Public,
    Listed(Listed),
}

/// The names that may be used, by class.
struct Listed(HashMap<usize, (Py<PyType>, HashSet<String>)>);

impl Listed {
    /// Whether `name` is listed for the class or one of its bases.
    fn lists(&self, class: &Bound<'_, PyType>, name: &str) -> bool {
        class.mro().iter().any(|base| {
            self.0
                .get(&(base.as_ptr() as usize))
                .is_some_and(|(_, names)| names.contains(name))
        })
    }

    /// Whether an operation that is not about an attribute may be performed: one whose special method
    /// is listed; a call of a function, which was reached by a name that is; and reading, where the
    /// object is of a builtin type: what a listed method returns.
    fn allows_operator(&self, target: &Bound<'_, PyAny>, op: Op, kind: Kind) -> bool {
        let class = target.get_type();
        if op.name().is_some_and(|name| self.lists(&class, name)) {
            return true;
        }
        match kind {
            Kind::Call => match target.cast::<PyType>() {
                // Calling a class makes an instance.
                Ok(made) => self.lists(made, "__init__") || self.lists(made, "__new__"),
                Err(_) => is_builtin(&class),
            },
            Kind::Operator => is_builtin(&class),
            _ => false,
        }
    }
}

/// Whether a class is part of the interpreter, and so runs no code of the program by itself.
fn is_builtin(class: &Bound<'_, PyType>) -> bool {
    // SAFETY: the flags of a live type may be read.
    let flags = unsafe { ffi::PyType_GetFlags(class.as_type_ptr()) };
    flags & ffi::Py_TPFLAGS_HEAPTYPE == 0
}

/// Underscore names that say something about an object and open no way into the process.
const HARMLESS: &[&str] = &[
    "__doc__",
    "__init__",
    "__match_args__",
    "__module__",
    "__name__",
    "__notes__",
    "__qualname__",
    "__text_signature__",
];

/// Public names that lead into frames, code and globals all the same.
const INTERNALS: &[&str] = &[
    "ag_await",
    "ag_code",
    "ag_frame",
    "cr_await",
    "cr_code",
    "cr_frame",
    "cr_origin",
    "f_back",
    "f_builtins",
    "f_code",
    "f_globals",
    "f_locals",
    "func_globals",
    "gi_code",
    "gi_frame",
    "gi_yieldfrom",
    "mro",
    "tb_frame",
    "tb_next",
];

/// Special methods that would reach past the gate when called by name.
const PAST_THE_GATE: &[&str] = &[
    "__delattr__",
    "__dir__",
    "__getattribute__",
    "__getstate__",
    "__reduce__",
    "__reduce_ex__",
    "__setattr__",
    "__setstate__",
    "__sizeof__",
    "__get__",
    "__set__",
    "__delete__",
];

impl Policy {
    /// `Policy.full()`.
    pub(crate) fn everything() -> Self {
        Self {
            rule: Rule::Full,
            tracebacks: Shown::Full,
        }
    }

    /// That of a session that debugs this process.
    pub(crate) fn of_debuggers() -> &'static Self {
        static FULL: Policy = Policy {
            rule: Rule::Full,
            tracebacks: Shown::Full,
        };
        &FULL
    }

    /// `Policy.public()`.
    pub(crate) fn ordinary() -> Self {
        Self {
            rule: Rule::Public,
            tracebacks: Shown::Redacted,
        }
    }

    /// How much of its errors the peer is shown.
    pub(crate) fn tracebacks(&self) -> Shown {
        self.tracebacks
    }

    pub(crate) fn is_full(&self) -> bool {
        matches!(self.rule, Rule::Full)
    }

    /// Whether an attribute of that name is the object's own matter: it leads neither to the class
    /// nor into frames, code or globals.
    pub(crate) fn stays_inside(name: &str) -> bool {
        let dunder = name.starts_with("__") && name.ends_with("__");
        !INTERNALS.contains(&name) && (!dunder || name == "__init__" || name == "__dict__")
    }

    /// Asks whether the peer may perform `op` (with `name`, if it is about an attribute).
    pub(crate) fn check(
        &self,
        target: &Bound<'_, PyAny>,
        op: Op,
        name: Option<&Bound<'_, PyString>>,
    ) -> PyResult<()> {
        if self.is_full() {
            return Ok(());
        }
        let refuse = |rule: &str| {
            let class = target
                .get_type()
                .name()
                .map_or_else(|_| "?".into(), |n| n.to_string());
            let what = match name {
                Some(name) => format!(
                    "{op:?} of {name:?} on a '{class}' object",
                    name = name.to_string_lossy()
                ),
                None => format!("{op:?} on a '{class}' object"),
            };
            Err(PyPermissionError::new_err(format!(
                "the policy of the other side ({self}) refuses {what}: {rule}",
                self = self.describe(),
            )))
        };
        match gate::kind(op) {
            None => return refuse("unknown operation"),
            Some(Kind::Write) => return refuse("attributes may not be written"),
            Some(Kind::Internal) => return refuse("it would reach the object's internals"),
            Some(Kind::Inert) => return Ok(()),
            Some(kind @ (Kind::Call | Kind::Operator | Kind::Change)) => {
                return match &self.rule {
                    Rule::Listed(classes) if !classes.allows_operator(target, op, kind) => {
                        refuse("the operation is not listed for its class")
                    }
                    _ => Ok(()),
                };
            }
            Some(Kind::Attribute) => {}
        }
        let Some(name) = name else {
            return refuse("no attribute name");
        };
        let name = name.to_string_lossy();
        if let Rule::Listed(classes) = &self.rule {
            return if classes.lists(&target.get_type(), &name) {
                Ok(())
            } else {
                refuse("the name is not listed")
            };
        }
        if INTERNALS.contains(&&*name) {
            return refuse("the name leads into frames, code or globals");
        }
        if name.starts_with('_') {
            let special = Op::from_name(&name).is_some() && !PAST_THE_GATE.contains(&&*name);
            if !special && !HARMLESS.contains(&&*name) {
                return refuse("names that begin with '_' are private");
            }
        }
        if target.is_instance_of::<PyModule>()
            && target
                .getattr(&*name)
                .is_ok_and(|value| value.is_instance_of::<PyModule>())
        {
            return refuse("a module does not hand out the modules that it imported");
        }
        Ok(())
    }

    fn describe(&self) -> &'static str {
        match self.rule {
            Rule::Full => "Policy.full",
            Rule::Public => "Policy.public",
            Rule::Listed(_) => "Policy.listed",
        }
    }
}

#[pymethods]
impl Policy {
    /// Everything: for peers that are yours (the default of `spawn`, pipes and `pair`).
    #[staticmethod]
    fn full() -> Self {
        Self::everything()
    }

    /// Public attributes and ordinary operators, no writes to attributes (the default of listeners).
    ///
    /// `tracebacks` says how much of an error the peer is shown: `"redacted"` functions, names of files
    /// and lines, `"full"` (or `True`) frames with their locals and source as well, `"none"` neither
    /// these nor causes and contexts.
    #[staticmethod]
    #[pyo3(signature = (*, tracebacks = Shown::Redacted), text_signature = "(*, tracebacks='redacted')")]
    fn public(tracebacks: Shown) -> Self {
        Self {
            rule: Rule::Public,
            tracebacks,
        }
    }

    /// Only these attributes and special methods: `Policy.listed({Class: ["name", ...]})`.
    #[staticmethod]
    #[pyo3(
        signature = (names, *, tracebacks = Shown::Redacted),
        text_signature = "(names, *, tracebacks='redacted')"
    )]
    fn listed(names: &Bound<'_, PyDict>, tracebacks: Shown) -> PyResult<Self> {
        let mut classes = HashMap::new();
        for (class, names) in names.iter() {
            let class: Bound<'_, PyType> = class.cast_into().map_err(|error| {
                PyTypeError::new_err(format!(
                    "Policy.listed takes a dict from classes to names: {error}"
                ))
            })?;
            let names: HashSet<String> = names
                .try_iter()?
                .map(|name| name?.extract::<String>())
                .collect::<PyResult<_>>()?;
            classes.insert(class.as_ptr() as usize, (class.unbind(), names));
        }
        Ok(Self {
            rule: Rule::Listed(Listed(classes)),
            tracebacks,
        })
    }

    fn __repr__(&self) -> String {
        let usual = if self.is_full() {
            Shown::Full
        } else {
            Shown::Redacted
        };
        if self.tracebacks == usual {
            format!("{}()", self.describe())
        } else {
            format!(
                "{}(tracebacks={:?})",
                self.describe(),
                self.tracebacks.name()
            )
        }
    }
}
