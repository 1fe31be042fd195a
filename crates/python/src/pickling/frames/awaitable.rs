//! What asynchronous generators and coroutines return to be awaited.
//!
//! `(make, (generator,), (value, stage), None, None, setter)`. Before it is set such an object counts as
//! closed. The types have no names, so one object of each is made to find them, and to see that they
//! are laid out as `objspace_interp` believes.

use objspace_interp::awaitable::{self, Stage};
use objspace_interp::suspended::Kind as Generator;
use pyo3::exceptions::{PyImportError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::Kind;
use super::null::null;
use crate::pickling::maker;
use crate::pickling::reducer::{phased, reduced, refused};

struct Types {
    anext: Py<PyType>,
    asend: Py<PyType>,
    athrow: Py<PyType>,
    wrapper: Py<PyType>,
}

fn known(py: Python<'_>) -> PyResult<&'static Types> {
    static TYPES: PyOnceLock<Types> = PyOnceLock::new();
    TYPES.get_or_try_init(py, || {
        let namespace = PyDict::new(py);
        py.run(
            c"async def generator():\n    yield\nasync def coroutine():\n    pass\n",
            Some(&namespace),
            None,
        )?;
        let call = |name| {
            let function = namespace.get_item(name)?;
            function
                .ok_or_else(|| PyTypeError::new_err("no function"))?
                .call0()
        };
        let (generator, coroutine) = (call("generator")?, call("coroutine")?);
        let thrown = py.get_type::<PyTypeError>();
        // What is thrown in is closed by hand, so that nobody complains that it was never awaited.
        let (asend, athrow, aclose) = without_hooks(&generator, || {
            Ok((
                generator.call_method1("asend", (&namespace,))?,
                generator.call_method1("athrow", (&thrown,))?,
                generator.call_method0("aclose")?,
            ))
        })?;
        // SAFETY: attached; the three were just made by `generator`. What `athrow` keeps is a tuple.
        let fine = unsafe {
            let generator = generator.as_ptr();
            awaitable::matches(asend.as_ptr(), generator, |value| {
                value == namespace.as_ptr()
            }) && awaitable::matches(aclose.as_ptr(), generator, |value| value.is_null())
                && awaitable::matches(athrow.as_ptr(), generator, |value| {
                    Bound::from_borrowed_ptr_or_opt(py, value)
                        .and_then(|value| value.cast_into_exact::<PyTuple>().ok())
                        .and_then(|value| value.get_item(0).ok())
                        .is_some_and(|value| value.is(&thrown))
                })
                && athrow.get_type().is(aclose.get_type())
        };
        if !fine {
            return Err(PyImportError::new_err(
                "this Python's asynchronous generators are not those that objspace knows",
            ));
        }
        for object in [&asend, &athrow, &aclose] {
            // SAFETY: they are laid out as was just seen.
            unsafe { awaitable::set(object.as_ptr(), std::ptr::null_mut(), Stage::Closed) };
        }
        let wrapper = coroutine.call_method0("__await__")?.get_type().unbind();
        coroutine.call_method0("close")?;
        let anext = anext(&py.None().into_bound(py), &py.None().into_bound(py))?;
        Ok(Types {
            anext: anext.get_type().unbind(),
            asend: asend.get_type().unbind(),
            athrow: athrow.get_type().unbind(),
            wrapper,
        })
    })
}

pub(super) fn types(py: Python<'_>) -> PyResult<Vec<(Bound<'_, PyType>, Kind)>> {
    let types = known(py)?;
    Ok(vec![
        (types.anext.bind(py).clone(), Kind::Anext),
        (types.asend.bind(py).clone(), Kind::Asend),
        (types.athrow.bind(py).clone(), Kind::Athrow),
        (types.wrapper.bind(py).clone(), Kind::CoroutineWrapper),
    ])
}

/// Runs `work` without the hooks of an asynchronous generator.
fn without_hooks<T>(
    generator: &Bound<'_, PyAny>,
    work: impl FnOnce() -> PyResult<T>,
) -> PyResult<T> {
    // SAFETY: attached; any object may be asked for its kind.
    let kind = unsafe { Generator::of(generator.as_ptr()) };
    if kind != Some(Generator::AsyncGenerator) {
        return Err(super::damaged());
    }
    // SAFETY: attached; it is an asynchronous generator, which the caller holds.
    unsafe { awaitable::without_hooks(generator.as_ptr(), work) }
}

/// `asend()` and `athrow()`, `aclose()`.
pub(super) fn reduce<'py>(
    object: &Bound<'py, PyAny>,
    make: &'static str,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    known(py)?;
    // SAFETY: attached; objects of these types are laid out as `known` has seen.
    let parts = unsafe { awaitable::parts(object.as_ptr()) };
    let Some((generator, value, stage)) = parts else {
        return Err(refused(format!("cannot pickle {}", object.repr()?)));
    };
    // SAFETY: borrowed from `object`, which is alive.
    let (generator, value) = unsafe {
        (
            Bound::from_borrowed_ptr(py, generator),
            Bound::from_borrowed_ptr_or_opt(py, value),
        )
    };
    let value = value.map_or_else(|| null(py).map(|null| null.clone().into_any()), Ok)?;
    let args = PyTuple::new(py, [generator])?.into_any();
    let state = (value, stage.number()).into_pyobject(py)?.into_any();
    let setter = if make == "make_asend" {
        "set_asend"
    } else {
        "set_athrow"
    };
    phased(py, maker::get(py, make)?, args, state, setter)
}

/// `asend()` that counts as closed.
#[pyfunction]
fn make_asend<'py>(generator: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    closed(generator, |generator| {
        generator.call_method1(intern!(generator.py(), "asend"), (generator.py().None(),))
    })
}

/// `athrow()` or `aclose()` that counts as closed.
#[pyfunction]
fn make_athrow<'py>(generator: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    closed(generator, |generator| {
        generator.call_method0(intern!(generator.py(), "aclose"))
    })
}

fn closed<'py>(
    generator: &Bound<'py, PyAny>,
    make: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    known(generator.py())?;
    let made = without_hooks(generator, || make(generator))?;
    // SAFETY: attached; laid out as `known` has seen.
    unsafe { awaitable::set(made.as_ptr(), std::ptr::null_mut(), Stage::Closed) };
    Ok(made)
}

#[pyfunction]
fn set_asend(object: &Bound<'_, PyAny>, state: (Bound<'_, PyAny>, i32)) -> PyResult<()> {
    let class = known(object.py())?.asend.bind(object.py());
    set(object, class, state, |_| true)
}

#[pyfunction]
fn set_athrow(object: &Bound<'_, PyAny>, state: (Bound<'_, PyAny>, i32)) -> PyResult<()> {
    let class = known(object.py())?.athrow.bind(object.py());
    set(object, class, state, |value| {
        let tuple = value.cast_exact::<PyTuple>();
        tuple.is_ok_and(|tuple| (1..=3).contains(&tuple.len()))
    })
}

fn set(
    object: &Bound<'_, PyAny>,
    class: &Bound<'_, PyType>,
    (value, stage): (Bound<'_, PyAny>, i32),
    fits: impl FnOnce(&Bound<'_, PyAny>) -> bool,
) -> PyResult<()> {
    let is_null = value.is(null(object.py())?);
    let stage = Stage::of(stage).ok_or_else(super::damaged)?;
    if !object.get_type().is(class) || !(is_null || fits(&value)) {
        return Err(super::damaged());
    }
    let value = if is_null {
        std::ptr::null_mut()
    } else {
        value.as_ptr()
    };
    // SAFETY: attached; laid out as `known` has seen, and a value as its kind has them.
    unsafe { awaitable::set(object.as_ptr(), value, stage) };
    Ok(())
}

/// What an object refers to, in the order in which it shows it to the collector.
fn referents<'py>(object: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    object
        .py()
        .import(intern!(object.py(), "gc"))?
        .call_method1(intern!(object.py(), "get_referents"), (object,))?
        .extract()
}

/// `coroutine.__await__()`
pub(super) fn reduce_wrapper<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    match &referents(object)?[..] {
        [coroutine] => reduced(object.py(), "make_coroutine_wrapper", (coroutine,)),
        _ => Err(refused(format!("cannot pickle {}", object.repr()?))),
    }
}

#[pyfunction]
fn make_coroutine_wrapper<'py>(coroutine: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached; any object may be asked for its kind.
    if unsafe { Generator::of(coroutine.as_ptr()) } != Some(Generator::Coroutine) {
        return Err(super::damaged());
    }
    coroutine.call_method0(intern!(coroutine.py(), "__await__"))
}

/// `anext(iterator, default)`
pub(super) fn reduce_anext<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    match &referents(object)?[..] {
        [wrapped, default] => reduced(object.py(), "make_anext", (wrapped, default)),
        _ => Err(refused(format!("cannot pickle {}", object.repr()?))),
    }
}

#[pyfunction]
fn make_anext<'py>(
    wrapped: &Bound<'py, PyAny>,
    default: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    anext(wrapped, default)
}

/// An asynchronous iterator whose next step is the given awaitable.
#[pyclass(frozen, module = "objspace._pickles")]
struct Step {
    next: Py<PyAny>,
}

#[pymethods]
impl Step {
    fn __aiter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __anext__(&self, py: Python<'_>) -> Py<PyAny> {
        self.next.clone_ref(py)
    }
}

fn anext<'py>(
    wrapped: &Bound<'py, PyAny>,
    default: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = wrapped.py();
    let next = wrapped.clone().unbind();
    py.import(intern!(py, "builtins"))?
        .call_method1(intern!(py, "anext"), (Step { next }, default))
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maker::add(module, wrap_pyfunction!(make_asend, module)?)?;
    maker::add(module, wrap_pyfunction!(make_athrow, module)?)?;
    maker::add(module, wrap_pyfunction!(set_asend, module)?)?;
    maker::add(module, wrap_pyfunction!(set_athrow, module)?)?;
    maker::add(module, wrap_pyfunction!(make_coroutine_wrapper, module)?)?;
    maker::add(module, wrap_pyfunction!(make_anext, module)?)
}
