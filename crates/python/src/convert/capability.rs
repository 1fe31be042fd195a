//! Which of the types and functions that travel by name a peer may hand over that is not trusted
//! with everything.
//!
//! A name arrives as the receiver's own object. Whoever calls it calls local code with arguments
//! that the peer may have chosen: `shelf.items.sort(key=eval)` would run text of the peer in this
//! process, although the policy allows `sort`. So functions pass by a list of those that only
//! compute, and classes unless an instance of them opens files, runs code or reaches past the gate.
//! It asks about the object that was found, not about the name: one object has many names.

use pyo3::exceptions::PyPermissionError;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// Functions of `builtins` that read their arguments by ordinary operators and do nothing else.
const FUNCTIONS: &[&str] = &[
    "abs",
    "aiter",
    "all",
    "anext",
    "any",
    "ascii",
    "bin",
    "callable",
    "chr",
    "divmod",
    "format",
    "hash",
    "hex",
    "isinstance",
    "issubclass",
    "iter",
    "len",
    "max",
    "min",
    "next",
    "oct",
    "ord",
    "pow",
    "repr",
    "round",
    "sorted",
    "sum",
];

/// Classes whose instances open files, start threads, hold code, or fetch attributes by name.
const CLASSES: &[(&str, &str)] = &[
    ("_io", "FileIO"),
    ("_pyio", "FileIO"),
    ("builtins", "code"),
    ("builtins", "function"),
    ("functools", "partialmethod"),
    ("functools", "singledispatchmethod"),
    ("operator", "attrgetter"),
    ("operator", "methodcaller"),
    ("string", "Formatter"),
    ("threading", "Thread"),
    ("threading", "Timer"),
    ("threading", "_DummyThread"),
    ("threading", "_MainThread"),
    ("weakref", "finalize"),
];

/// Classes that open files only for who can call their methods: a peer that gets an instance can.
const CLASSES_IN_REQUESTS: &[(&str, &str)] = &[
    ("pathlib", "Path"),
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("pathlib._local", "Path"),
    ("pathlib._local", "PosixPath"),
    ("pathlib._local", "WindowsPath"),
];

/// Where a name stands, which says what the peer could do with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the description of a class: a base, an annotation.
    Shape,
    /// In the answer to a question of this side.
    Reply,
    /// In the arguments of a request of the peer.
    Request,
}

/// Refuses `found`, which a peer without full rights named at `place`, unless it is harmless there.
pub(crate) fn check(found: &Bound<'_, PyAny>, place: Place) -> PyResult<()> {
    if place == Place::Shape {
        return Ok(());
    }
    // Types of this interpreter and of the standard library: their names are theirs.
    let module: String = found.getattr("__module__")?.extract()?;
    let qualname: String = found.getattr("__qualname__")?.extract()?;
    let passes = if found.is_instance_of::<PyType>() {
        let name = (&*module, &*qualname);
        let refused = CLASSES.contains(&name)
            || place == Place::Request && CLASSES_IN_REQUESTS.contains(&name);
        !refused
    } else {
        module == "builtins" && FUNCTIONS.contains(&&*qualname)
    };
    if passes {
        return Ok(());
    }
    Err(PyPermissionError::new_err(format!(
        "the other side hands over {module}.{qualname} by name, which would run here: only \
         Policy.full() takes it. Pass a function of your own, which runs on your side \
         (lambda *args: {qualname}(*args))"
    )))
}
