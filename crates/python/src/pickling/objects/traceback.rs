//! Tracebacks, and the frames in them: frames that will not run again.
//!
//! A frame is its code, its globals, where it stands, and its variables; who called it is kept only
//! where the caller stands in the same traceback. The frame of a suspended generator is the
//! generator's own. A traceback is a chain; the entry that is met first writes the links of all that
//! follow it, so that long ones need no recursion.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyCode, PyDict, PyFrame, PyList, PyTraceback, PyTuple};

use crate::pickling::globals;
use crate::pickling::reducer::{CodeMode, Pass, phased, reduced};
use crate::pickling::{errors, maker};

pub(super) fn reduce<'py>(entry: &Bound<'py, PyAny>, pass: &Pass) -> PyResult<Bound<'py, PyTuple>> {
    let py = entry.py();
    let make = maker::get(py, "make_traceback")?;
    let frame = entry.getattr(intern!(py, "tb_frame"))?;
    let arguments = (
        &frame,
        entry.getattr(intern!(py, "tb_lasti"))?,
        entry.getattr(intern!(py, "tb_lineno"))?,
    )
        .into_pyobject(py)?
        .into_any();
    let mut links = Vec::new();
    let mut current = entry.clone();
    let mut caller = frame;
    {
        let mut linked = pass
            .linked
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if linked.contains(&(entry.as_ptr() as usize)) {
            return PyTuple::new(py, [make, arguments]);
        }
        loop {
            let next = current.getattr(intern!(py, "tb_next"))?;
            if next.is_none() {
                break;
            }
            // A pickler of others may begin anew at any time: there each entry writes its own link.
            if pass.mode == CodeMode::Plain && !links.is_empty() {
                break;
            }
            let frame = next.getattr(intern!(py, "tb_frame"))?;
            let called = frame.getattr(intern!(py, "f_back"))?.is(&caller);
            links.push(next.clone());
            links.push(PyBool::new(py, called).to_owned().into_any());
            // Another entry has written the links from there on.
            if pass.mode != CodeMode::Plain && !linked.insert(next.as_ptr() as usize) {
                break;
            }
            (current, caller) = (next, frame);
        }
    }
    if links.is_empty() {
        return PyTuple::new(py, [make, arguments]);
    }
    let links = PyList::new(py, links)?.into_any();
    phased(py, make, arguments, links, "link_traceback")
}

pub(super) fn frame<'py>(frame: &Bound<'py, PyAny>, pass: &Pass) -> PyResult<Bound<'py, PyTuple>> {
    let py = frame.py();
    if let Some(generator) = objspace_generator(frame) {
        return reduced(py, "generator_frame", (generator,));
    }
    let code = frame
        .getattr(intern!(py, "f_code"))?
        .cast_into::<PyCode>()?;
    let dict = frame
        .getattr(intern!(py, "f_globals"))?
        .cast_into::<PyDict>()?;
    let wrapped = globals::wrap(&dict)?;
    // SAFETY: attached; it is a live frame object.
    let variables = unsafe {
        Bound::from_owned_ptr_or_err(py, objspace_interp::still::variables(frame.as_ptr()))?
    };
    // The body of a class or module has a mapping instead.
    // SAFETY: as before.
    let locals =
        unsafe { Bound::from_owned_ptr_or_opt(py, objspace_interp::still::locals(frame.as_ptr())) };
    let locals = match locals {
        None => py.None().into_bound(py),
        Some(locals) if locals.is(&dict) => wrapped.clone().into_any(),
        Some(locals) => locals,
    };
    let arguments = (&code, wrapped, frame.getattr(intern!(py, "f_lasti"))?).into_pyobject(py)?;
    let state = (variables, locals).into_pyobject(py)?;
    let make = maker::get(py, "make_frame")?;
    let reduction = phased(
        py,
        make,
        arguments.into_any(),
        state.into_any(),
        "set_frame",
    )?;
    globals::with_used(reduction, &dict, &code, pass.mode)
}

/// The suspended generator that a frame belongs to.
fn objspace_generator<'py>(frame: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    // SAFETY: attached; it is a live frame object.
    unsafe {
        Bound::from_owned_ptr_or_opt(
            frame.py(),
            objspace_interp::still::suspended_generator(frame.as_ptr()),
        )
    }
}

/// One entry of a traceback, without those that follow.
#[pyfunction]
fn make_traceback<'py>(
    frame: &Bound<'py, PyFrame>,
    lasti: i32,
    lineno: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = frame.py();
    // Without a line there is none to compute: -1 is CPython's mark for that.
    let lineno: i32 = if lineno.is_none() {
        -1
    } else {
        lineno.extract()?
    };
    py.import(intern!(py, "types"))?
        .getattr(intern!(py, "TracebackType"))?
        .call1((py.None(), frame, lasti, lineno))
}

/// Links an entry with those that follow: pairs of an entry and whether its frame was called by the
/// frame before it.
#[pyfunction]
fn link_traceback(first: &Bound<'_, PyTraceback>, links: &Bound<'_, PyList>) -> PyResult<()> {
    let py = first.py();
    let mut current = first.clone().into_any();
    for pair in links.iter().collect::<Vec<_>>().chunks(2) {
        let [next, called] = pair else {
            return Err(errors::unpickling("the links of a traceback are pairs"));
        };
        current.setattr(intern!(py, "tb_next"), next)?;
        if called.is_truthy()? {
            let (inner, outer) = (
                next.getattr(intern!(py, "tb_frame"))?,
                current.getattr(intern!(py, "tb_frame"))?,
            );
            // SAFETY: attached; both are frame objects, as tracebacks hold no others.
            unsafe { objspace_interp::still::set_back(inner.as_ptr(), outer.as_ptr()) };
        }
        current = next.clone();
    }
    Ok(())
}

/// A frame that will not run, without variables.
#[pyfunction]
fn make_frame<'py>(
    code: &Bound<'py, PyCode>,
    globals: &Bound<'py, PyAny>,
    lasti: i64,
) -> PyResult<Bound<'py, PyAny>> {
    let py = code.py();
    let globals = globals::unwrap(globals)?;
    // SAFETY: attached; a code object and a dict, as their types say.
    unsafe {
        Bound::from_owned_ptr_or_err(
            py,
            objspace_interp::still::new_frame(code.as_ptr(), globals.as_ptr(), lasti),
        )
    }
}

/// Gives a frame its variables.
#[pyfunction]
fn set_frame<'py>(
    frame: &Bound<'py, PyFrame>,
    state: (Bound<'py, PyDict>, Bound<'py, PyAny>),
) -> PyResult<()> {
    let (variables, locals) = state;
    let locals = match globals::unwrap(&locals) {
        Ok(dict) => dict.into_any(),
        Err(_) => locals,
    };
    // SAFETY: attached; a frame and a dict, as their types say, and any object.
    let done = unsafe {
        objspace_interp::still::set_variables(
            frame.as_ptr(),
            variables.as_ptr(),
            if locals.is_none() {
                std::ptr::null_mut()
            } else {
                locals.as_ptr()
            },
        )
    };
    if done < 0 {
        return Err(PyErr::fetch(frame.py()));
    }
    Ok(())
}

/// The frame of a suspended generator, coroutine or asynchronous generator.
#[pyfunction]
fn generator_frame<'py>(generator: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = generator.py();
    // SAFETY: attached; any object.
    unsafe {
        Bound::from_owned_ptr_or_err(py, objspace_interp::still::frame_of(generator.as_ptr()))
    }
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maker::add(module, wrap_pyfunction!(make_traceback, module)?)?;
    maker::add(module, wrap_pyfunction!(link_traceback, module)?)?;
    maker::add(module, wrap_pyfunction!(make_frame, module)?)?;
    maker::add(module, wrap_pyfunction!(set_frame, module)?)?;
    maker::add(module, wrap_pyfunction!(generator_frame, module)?)
}
