//! Context variables travel as the name of the module and of the global that they are; a context as
//! the values of its variables.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::pickling::reducer::{phased, reduced, refused};
use crate::pickling::{allow, errors, maker};

pub(super) fn variable<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    let modules = py
        .import(intern!(py, "sys"))?
        .getattr(intern!(py, "modules"))?;
    for item in modules
        .call_method0("copy")?
        .call_method0("items")?
        .try_iter()?
    {
        let (name, module): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item?.extract()?;
        let Ok(names) = module.getattr(intern!(py, "__dict__")) else {
            continue;
        };
        let (Ok(names), Ok(name)) = (names.cast::<PyDict>(), name.extract::<String>()) else {
            continue;
        };
        for (key, value) in names.copy()? {
            if value.is(object)
                && let Ok(key) = key.extract::<String>()
            {
                return reduced(py, "context_variable", (name, key));
            }
        }
    }
    Err(refused(format!(
        "cannot pickle the context variable '{}': it is no global of an imported module, by which the \
         other side could find it",
        object.getattr("name")?
    )))
}

pub(super) fn context<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    let values = PyDict::new(py);
    let mut decimal = py.None().into_bound(py);
    for item in object.call_method0("items")?.try_iter()? {
        let (variable, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item?.extract()?;
        if is_decimal(&variable, &value)? {
            decimal = value;
        } else {
            values.set_item(variable, value)?;
        }
    }
    let make = maker::get(py, "make_context")?;
    let state = (values, decimal).into_pyobject(py)?;
    phased(
        py,
        make,
        PyTuple::empty(py).into_any(),
        state.into_any(),
        "set_context",
    )
}

/// Whether this is the variable of the module `decimal`, which no name leads to.
fn is_decimal(variable: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = variable.py();
    let name: String = variable.getattr("name")?.extract()?;
    if name != "decimal_context" {
        return Ok(false);
    }
    value.is_instance(&py.import("decimal")?.getattr("Context")?)
}

/// The context variable that is a global of a module.
#[pyfunction]
fn context_variable<'py>(py: Python<'py>, module: &str, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let found = allow::import(py, module)?.getattr(name).ok();
    let class = py.import("contextvars")?.getattr("ContextVar")?;
    found
        .filter(|found| found.get_type().is(&class))
        .ok_or_else(|| errors::unpickling(format!("{module}.{name} is no context variable here")))
}

#[pyfunction]
fn make_context(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("contextvars")?.getattr("Context")?.call0()
}

#[pyfunction]
fn set_context<'py>(
    context: &Bound<'py, PyAny>,
    state: (Bound<'py, PyDict>, Bound<'py, PyAny>),
) -> PyResult<()> {
    let (values, decimal) = state;
    if !decimal.is_none() {
        let set = context.py().import("decimal")?.getattr("setcontext")?;
        context.call_method1("run", (set, decimal))?;
    }
    for (variable, value) in values {
        context.call_method1("run", (variable.getattr("set")?, value))?;
    }
    Ok(())
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maker::add(module, wrap_pyfunction!(context_variable, module)?)?;
    maker::add(module, wrap_pyfunction!(make_context, module)?)?;
    maker::add(module, wrap_pyfunction!(set_context, module)?)
}
