//! How much of its tracebacks a process shows to the other side of a session.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// What is told of an error beside its class, arguments, notes and public attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// `"full"`: frames with their locals and globals, the text and the paths of source files.
    Full,
    /// `"redacted"`: functions, names of files without folders, line numbers. No frames, locals or
    /// source, no private attributes of the error, and not the object that lacked an attribute.
    Redacted,
    /// `"none"`: not that either, and neither causes nor contexts.
    Nothing,
}

impl Shown {
    /// Whether the peer may look into frames and read source.
    pub(crate) fn is_full(self) -> bool {
        self == Self::Full
    }

    /// The argument that gives it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Redacted => "redacted",
            Self::Nothing => "none",
        }
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Shown {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(full) = value.extract::<bool>() {
            return Ok(if full { Self::Full } else { Self::Redacted });
        }
        let known = [Self::Full, Self::Redacted, Self::Nothing];
        let found = value
            .extract::<&str>()
            .ok()
            .and_then(|name| known.into_iter().find(|shown| shown.name() == name));
        found.ok_or_else(|| {
            PyValueError::new_err(format!(
                "tracebacks must be \"full\", \"redacted\" or \"none\", not {}",
                value
                    .repr()
                    .map_or_else(|_| "that".into(), |text| text.to_string())
            ))
        })
    }
}
