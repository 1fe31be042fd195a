//! Exceptions, with what pickle drops: traceback, cause, context, whether the context is shown.
//!
//! Classes that say themselves how they are pickled are asked. Others are made without their own
//! `__init__`, which may want other arguments than those it kept.

use pyo3::exceptions::PyBaseException;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};

use crate::pickling::reducer::phased;
use crate::pickling::{errors, maker};

/// Attributes that builtin classes keep in their own structs and that their arguments do not tell.
const KEPT: [(&str, &[&str]); 4] = [
    ("AttributeError", &["name", "obj"]),
    ("ImportError", &["name", "path"]),
    ("NameError", &["name"]),
    ("StopIteration", &["value"]),
];

pub(super) fn reduce<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    let class = object.get_type();
    let own = own_way(&class)?;
    let none = py.None().into_bound(py);
    let (make, arguments, inner, setter) = if own {
        // What the class makes of it: two to six parts.
        let reduced = object
            .call_method1(intern!(py, "__reduce_ex__"), (4,))?
            .cast_into::<PyTuple>()?;
        let part = |index| reduced.get_item(index).unwrap_or_else(|_| none.clone());
        let simple = part(3).is_none() && part(4).is_none();
        if !simple {
            return Ok(reduced);
        }
        (part(0), part(1), part(2), part(5))
    } else {
        let arguments = (&class, object.getattr(intern!(py, "args"))?).into_pyobject(py)?;
        let state = object.getattr(intern!(py, "__dict__"))?;
        let state = if state.is_truthy()? {
            state
        } else {
            none.clone()
        };
        (
            maker::get(py, "make_exception")?,
            arguments.into_any(),
            state,
            none.clone(),
        )
    };
    let kept = PyDict::new(py);
    // A group is made of its members, which may lead back to it through their tracebacks. A list would
    // then be found half-filled.
    let group = py
        .import(intern!(py, "builtins"))?
        .getattr(intern!(py, "BaseExceptionGroup"))?;
    let arguments = if class.is_subclass(&group)? {
        let given = object.getattr(intern!(py, "args"))?;
        kept.set_item("args", &given)?;
        without_lists(arguments.cast()?)?.into_any()
    } else {
        arguments
    };
    for (base, names) in KEPT {
        let base = py.import(intern!(py, "builtins"))?.getattr(base)?;
        if class.is_subclass(&base)? {
            for name in names {
                let value = object.getattr(*name)?;
                if !value.is_none() {
                    kept.set_item(name, value)?;
                }
            }
        }
    }
    let state = (
        object.getattr(intern!(py, "__traceback__"))?,
        object.getattr(intern!(py, "__cause__"))?,
        object.getattr(intern!(py, "__context__"))?,
        object.getattr(intern!(py, "__suppress_context__"))?,
        inner,
        setter,
        if kept.is_empty() {
            none
        } else {
            kept.into_any()
        },
    );
    let state = state.into_pyobject(py)?.into_any();
    phased(py, make, arguments, state, "set_exception")
}

/// The errors that the pools of the standard library send back stand in objects of their own, with the
/// text of their tracebacks. Their frames are those of the pool, full of locks: they go without.
pub(super) fn of_worker<'py>(
    object: &Bound<'py, PyAny>,
    class: &Bound<'py, PyType>,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let py = object.py();
    if !class.name()?.to_cow()?.ends_with("ExceptionWithTraceback") {
        return Ok(None);
    }
    let reduced = object
        .call_method1(intern!(py, "__reduce_ex__"), (4,))?
        .cast_into::<PyTuple>()?;
    let (make, arguments) = (reduced.get_item(0)?, reduced.get_item(1)?);
    let arguments = arguments.try_iter()?.map(|argument| {
        let argument = argument?;
        if argument.is_instance_of::<PyBaseException>() {
            let error = argument.unbind();
            Ok(Bound::new(py, Plain { error })?.into_any())
        } else {
            Ok(argument)
        }
    });
    let arguments = PyTuple::new(py, arguments.collect::<PyResult<Vec<_>>>()?)?;
    Ok(Some(PyTuple::new(py, [make, arguments.into_any()])?))
}

/// Stands for an exception in a pickle: it is reduced as plain pickle does it.
#[pyclass(frozen, module = "objspace._pickles")]
struct Plain {
    error: Py<PyAny>,
}

#[pymethods]
impl Plain {
    fn __reduce_ex__<'py>(
        &self,
        py: Python<'py>,
        protocol: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.error
            .bind(py)
            .call_method1(intern!(py, "__reduce_ex__"), (protocol,))
    }

    fn __traverse__(&self, visit: pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::gc::PyTraverseError> {
        visit.call(&self.error)
    }
}

/// A tuple in which lists, also those in its tuples, have become tuples.
fn without_lists<'py>(tuple: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyTuple>> {
    let items = tuple.iter().map(|item| {
        if let Ok(list) = item.cast_exact::<PyList>() {
            Ok(list.to_tuple().into_any())
        } else if let Ok(tuple) = item.cast_exact::<PyTuple>() {
            Ok(without_lists(tuple)?.into_any())
        } else {
            Ok(item)
        }
    });
    PyTuple::new(tuple.py(), items.collect::<PyResult<Vec<_>>>()?)
}

/// Whether the class, or the way it is made, is not just that of its builtin base.
fn own_way(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let base = builtin_base(class)?;
    // Builtin classes know best, OSError for one.
    if base.is(class) {
        return Ok(true);
    }
    for name in [
        "__reduce_ex__",
        "__reduce__",
        "__getstate__",
        "__getnewargs_ex__",
        "__getnewargs__",
        "__setstate__",
    ] {
        let (theirs, builtin) = (class.getattr(name).ok(), base.getattr(name).ok());
        let same = match (theirs, builtin) {
            (Some(one), Some(other)) => one.is(&other) || one.eq(&other)?,
            (None, None) => true,
            _ => false,
        };
        if !same {
            return Ok(true);
        }
    }
    // Slots are known to the general protocol only.
    class.hasattr("__slots__")
}

/// The nearest base that no Python code has made.
fn builtin_base<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
    for base in class.mro() {
        let base = base.cast_into::<PyType>()?;
        // SAFETY: the type is live; its flags are read.
        let heap = unsafe { (*base.as_type_ptr()).tp_flags & ffi::Py_TPFLAGS_HEAPTYPE != 0 };
        if !heap {
            return Ok(base);
        }
    }
    Ok(class.py().get_type::<PyBaseException>())
}

/// An exception that its own class has not initialised: only the builtin class it derives from has.
#[pyfunction]
fn make_exception<'py>(
    class: &Bound<'py, PyType>,
    arguments: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    if !class.is_subclass_of::<PyBaseException>()? {
        return Err(errors::unpickling(format!(
            "{} is no class of exceptions",
            class.repr()?
        )));
    }
    let base = builtin_base(class)?;
    let mut all = vec![class.clone().into_any()];
    all.extend(arguments.iter());
    let made = base
        .getattr(intern!(py, "__new__"))?
        .call1(PyTuple::new(py, all)?)?;
    let mut all = vec![made.clone()];
    all.extend(arguments.iter());
    base.getattr(intern!(py, "__init__"))?
        .call1(PyTuple::new(py, all)?)?;
    Ok(made)
}

type ExceptionState<'py> = (
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    bool,
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    Option<Bound<'py, PyDict>>,
);

#[pyfunction]
fn set_exception<'py>(
    exception: &Bound<'py, PyBaseException>,
    state: ExceptionState<'py>,
) -> PyResult<()> {
    let py = exception.py();
    let (traceback, cause, context, suppressed, inner, setter, kept) = state;
    if !setter.is_none() {
        setter.call1((exception, inner))?;
    } else if !inner.is_none() {
        // As pickle does with a state.
        exception.call_method1(intern!(py, "__setstate__"), (inner,))?;
    }
    exception.setattr(intern!(py, "__traceback__"), traceback)?;
    exception.setattr(intern!(py, "__cause__"), cause)?;
    exception.setattr(intern!(py, "__context__"), context)?;
    exception.setattr(intern!(py, "__suppress_context__"), suppressed)?;
    for (name, value) in kept.iter().flatten() {
        let name: String = name.extract()?;
        if name != "args" && !KEPT.iter().any(|(_, names)| names.contains(&&*name)) {
            return Err(errors::unpickling(format!(
                "no attribute of exceptions: {name:?}"
            )));
        }
        exception.setattr(name, value)?;
    }
    Ok(())
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maker::add(module, wrap_pyfunction!(make_exception, module)?)?;
    maker::add(module, wrap_pyfunction!(set_exception, module)?)
}
