//! Standard-library values that are copied: what each is made of, and how it is made again.

use objspace_proto::StructKind;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::types;

/// The parts that `value` is sent as.
pub(crate) fn parts<'py>(
    kind: StructKind,
    value: &Bound<'py, PyAny>,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let attributes = |names: &[&str]| {
        names
            .iter()
            .map(|name| value.getattr(*name))
            .collect::<PyResult<Vec<_>>>()
    };
    match kind {
        StructKind::DATE => attributes(&["year", "month", "day"]),
        StructKind::TIME => {
            attributes(&["hour", "minute", "second", "microsecond", "tzinfo", "fold"])
        }
        StructKind::DATETIME => attributes(&[
            "year",
            "month",
            "day",
            "hour",
            "minute",
            "second",
            "microsecond",
            "tzinfo",
            "fold",
        ]),
        StructKind::TIMEDELTA => attributes(&["days", "seconds", "microseconds"]),
        StructKind::TIMEZONE => {
            let arguments = value.call_method0("__getinitargs__")?;
            arguments.try_iter()?.collect()
        }
        StructKind::ZONEINFO => {
            let key = value.getattr("key")?;
            if key.is_none() {
                return Err(PyTypeError::new_err(
                    "a ZoneInfo made from a file has no key and cannot be copied",
                ));
            }
            Ok(vec![key])
        }
        StructKind::FRACTION => attributes(&["numerator", "denominator"]),
        StructKind::UUID => attributes(&["bytes"]),
        StructKind::DECIMAL
        | StructKind::PURE_POSIX_PATH
        | StructKind::PURE_WINDOWS_PATH
        | StructKind::IPV4_ADDRESS
        | StructKind::IPV6_ADDRESS
        | StructKind::IPV4_NETWORK
        | StructKind::IPV6_NETWORK
        | StructKind::IPV4_INTERFACE
        | StructKind::IPV6_INTERFACE => Ok(vec![value.str()?.into_any()]),
        _ => Err(PyTypeError::new_err(format!(
            "no rule for copying a {}",
            value.get_type().qualname()?
        ))),
    }
}

/// The value that `parts` describe.
pub(crate) fn build<'py>(
    py: Python<'py>,
    kind: StructKind,
    parts: &[Bound<'py, PyAny>],
) -> PyResult<Bound<'py, PyAny>> {
    let Some(class) = types::class_of_value(py, kind)? else {
        return Err(PyTypeError::new_err(format!(
            "the other side sent a value of an unknown kind ({})",
            kind.0
        )));
    };
    match kind {
        StructKind::TIME | StructKind::DATETIME => {
            let Some((fold, rest)) = parts.split_last() else {
                return Err(PyTypeError::new_err("a time without parts"));
            };
            let keywords = PyDict::new(py);
            keywords.set_item("fold", fold)?;
            class.call(PyTuple::new(py, rest)?, Some(&keywords))
        }
        StructKind::UUID => {
            let keywords = PyDict::new(py);
            keywords.set_item("bytes", parts.first())?;
            class.call((), Some(&keywords))
        }
        _ => class.call1(PyTuple::new(py, parts)?),
    }
}
