//! `x.a.b.c(1)` and `x.a.b` in one message: the bytecode of the caller tells which attributes follow.
//!
//! Here: the first fetch gives a deferred object, which each further fetch of the expected name makes
//! longer; the last one, or the call, sends the whole path. There: [`walk`] goes along it, but only
//! over objects that would travel by reference and are its own. At any other (a copied value, a class,
//! something that comes home) it stops and sends that, and the rest of the path happens here, as it
//! would have without all this.

use std::sync::Arc;

use objspace_interp::lookahead;
use objspace_proto::{FetchKind, Kind, Op, OutgoingTarget};
use pyo3::exceptions::{PyAttributeError, PyBaseException, PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyInt, PyString, PyTuple, PyType};

use super::dict_view;
use crate::convert::types::{self, Rule};
use crate::proxy::{self, Native};
use crate::session::connection::Connection;
use crate::session::errors::ObjectNotFound;
use crate::session::perform::{Arguments, perform};
use crate::session::{pipeline, serve};

/// Attributes that are fetched one of the other, and not asked for yet.
#[pyclass(frozen, module = "objspace._core", name = "DeferredChain")]
struct Chain {
    connection: Arc<Connection>,
    /// What the path starts from; alive until it is sent.
    start: Py<PyAny>,
    target: OutgoingTarget,
    path: Vec<Py<PyString>>,
    /// The names that the caller fetches next.
    expected: Vec<Py<PyString>>,
    /// Whether the last one is called then.
    call: bool,
}

static CHAIN: Native = Native {
    operate,
    dropped,
    resolve,
    attributes: true,
};

fn is_dunder(name: &Bound<'_, PyString>) -> bool {
    name.to_string_lossy().starts_with("__")
}

/// The deferred beginning of a path, if the caller fetches more than `start.name` at once. To be
/// called from the attribute slot of `start`, before any Python code has run.
pub(crate) fn begin<'py>(
    start: &Bound<'py, PyAny>,
    connection: &Arc<Connection>,
    target: OutgoingTarget,
    name: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = start.py();
    // SAFETY: attached, with the arguments of the attribute slot that is being called. The names are
    // those of the code that runs, and references to them are taken at once.
    let (mut expected, mut call) = unsafe {
        let Some(chain) = lookahead::attribute_chain(start.as_ptr(), name.as_ptr()) else {
            return Ok(None);
        };
        let names: Vec<Bound<'py, PyString>> = chain
            .names
            .iter()
            .filter_map(|name| Bound::from_borrowed_ptr(py, *name).cast_into().ok())
            .collect();
        (names, chain.call)
    };
    // What Python itself asks for may be answered here; so may a view of a dict.
    if let Some(special) = expected.iter().position(is_dunder) {
        expected.truncate(special);
        call = false;
    }
    if call
        && let Some(last) = expected.last()
        && dict_view::part_of(&last.to_string_lossy()).is_some()
    {
        expected.pop();
        call = false;
    }
    let alone = expected.is_empty();
    if is_dunder(name)
        || (alone && !(call && target == OutgoingTarget::Root))
        || pipeline::current(py, connection)?.is_some()
    {
        return Ok(None);
    }
    defer(
        py,
        Chain {
            connection: Arc::clone(connection),
            start: start.clone().unbind(),
            target,
            path: vec![name.clone().unbind()],
            expected: expected.into_iter().map(Bound::unbind).collect(),
            call,
        },
    )
    .map(Some)
}

/// Whether a proxy is the deferred beginning of a path.
pub(crate) fn is_chain(proxy: &proxy::ProxyRef<'_>) -> bool {
    proxy.is_native(&CHAIN)
}

fn defer(py: Python<'_>, chain: Chain) -> PyResult<Bound<'_, PyAny>> {
    let controller = Py::new(py, chain)?.into_any();
    proxy::new_deferred(py, controller, &CHAIN).map(|deferred| deferred.into_bound(py))
}

fn parts<'a>(controller: &'a Bound<'_, PyAny>) -> PyResult<&'a Chain> {
    controller.cast::<Chain>().map(Bound::get).map_err(|_| {
        PyRuntimeError::new_err("objspace: a deferred path without its parts; please report this")
    })
}

fn operate<'py>(
    py: Python<'py>,
    proxy: &Bound<'py, PyAny>,
    controller: &Bound<'py, PyAny>,
    op: Op,
    args: &[Bound<'py, PyAny>],
    keywords: &[(Bound<'py, PyString>, Bound<'py, PyAny>)],
) -> PyResult<Bound<'py, PyAny>> {
    let chain = parts(controller)?;
    if op == Op::GETATTR
        && let ([name], Some((next, rest))) = (args, chain.expected.split_first())
        && next.is(name)
    {
        let mut path: Vec<_> = chain.path.iter().map(|name| name.clone_ref(py)).collect();
        path.push(next.clone_ref(py));
        if rest.is_empty() && !chain.call {
            return chain.send(py, &path, None);
        }
        return defer(
            py,
            Chain {
                connection: Arc::clone(&chain.connection),
                start: chain.start.clone_ref(py),
                target: chain.target,
                path,
                expected: rest.iter().map(|name| name.clone_ref(py)).collect(),
                call: chain.call,
            },
        );
    }
    if op == Op::CALL && chain.expected.is_empty() && chain.call {
        return chain.send(py, &chain.path, Some((args, keywords)));
    }
    // Not what was expected: step by step.
    let found = resolved(proxy)?;
    match (op, args) {
        (Op::GETATTR, [name]) => found.getattr(name.cast::<PyString>()?),
        _ => found.call(PyTuple::new(py, args)?, named(py, keywords)?.as_ref()),
    }
}

fn resolved<'py>(proxy: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    match proxy::as_proxy(proxy) {
        Some(inner) => inner.resolved(proxy.py()),
        None => Ok(proxy.clone()),
    }
}

fn resolve<'py>(
    py: Python<'py>,
    _proxy: &Bound<'py, PyAny>,
    controller: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let chain = parts(controller)?;
    chain.send(py, &chain.path, None)
}

fn dropped(_: *mut ffi::PyObject, _: *mut ffi::PyObject) {}

fn named<'py>(
    py: Python<'py>,
    keywords: &[(Bound<'py, PyString>, Bound<'py, PyAny>)],
) -> PyResult<Option<Bound<'py, PyDict>>> {
    if keywords.is_empty() {
        return Ok(None);
    }
    let dict = PyDict::new(py);
    for (name, value) in keywords {
        dict.set_item(name, value)?;
    }
    Ok(Some(dict))
}

type Given<'a, 'py> = (
    &'a [Bound<'py, PyAny>],
    &'a [(Bound<'py, PyString>, Bound<'py, PyAny>)],
);

impl Chain {
    /// Asks for the end of `path`, called with `call` if given, and does here what was left over.
    fn send<'py>(
        &self,
        py: Python<'py>,
        path: &[Py<PyString>],
        call: Option<Given<'_, 'py>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut asked = vec![
            PyTuple::new(py, path)?.into_any(),
            PyBool::new(py, call.is_some()).to_owned().into_any(),
        ];
        let (args, keywords) = call.unwrap_or_default();
        asked.extend_from_slice(args);
        let answer = self
            .connection
            .fetch(py, self.target, FetchKind::PATH, &asked, keywords)?
            .cast_into::<PyTuple>()?;
        let (walked, done, mut found) = answer.extract::<(usize, bool, Bound<'py, PyAny>)>()?;
        if done {
            return Ok(found);
        }
        let rest = path.get(walked..).unwrap_or_default();
        for name in rest {
            found = found.getattr(name.bind(py))?;
        }
        match call {
            Some(_) => found.call(PyTuple::new(py, args)?, named(py, keywords)?.as_ref()),
            None => Ok(found),
        }
    }
}

// ------------------------------------------------------------------ on the owner's side

/// Whether an object is of the kind that stays here and is asked from afar, so that a path may go on
/// from it.
fn stays(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    if proxy::as_proxy(value).is_some()
        || value.is_instance_of::<PyType>()
        || value.is_instance_of::<PyBaseException>()
        || value.is_instance_of::<PyString>()
        || value.is_instance_of::<PyInt>()
    {
        return Ok(false);
    }
    Ok(match types::rule_of(&value.get_type())? {
        Rule::Described => true,
        Rule::Builtin(kind) => matches!(
            kind,
            Kind::LIST | Kind::DICT | Kind::SET | Kind::FUNCTION | Kind::METHOD | Kind::MODULE
        ),
        _ => false,
    })
}

/// Goes along a path: how many names of it, whether to the end, and what was found there.
pub(crate) fn walk<'py>(
    py: Python<'py>,
    connection: &Arc<Connection>,
    target: Option<Bound<'py, PyAny>>,
    arguments: Arguments<'py>,
) -> PyResult<Bound<'py, PyTuple>> {
    let malformed = || PyTypeError::new_err("a path without names");
    let mut positional = arguments.positional.into_iter();
    let names = positional
        .next()
        .ok_or_else(malformed)?
        .cast_into::<PyTuple>()?;
    let call: bool = positional.next().ok_or_else(malformed)?.extract()?;
    let args: Vec<_> = positional.collect();
    let answer = |walked: usize, done: bool, found: &Bound<'py, PyAny>| {
        (walked, done, found).into_pyobject(py)
    };
    let (mut walked, mut found) = match target {
        Some(target) => (0, target),
        None => (1, exported(py, connection, names.get_item(0)?)?),
    };
    loop {
        if walked > 0 && !stays(&found)? {
            let done = walked == names.len() && !call;
            return answer(walked, done, &found);
        }
        if walked == names.len() {
            if call {
                // Of the exported names alone: otherwise the last name is that of a method.
                connection.check(&found, Op::CALL, None)?;
                let given = Arguments {
                    positional: args,
                    keywords: arguments.keywords,
                };
                found = perform(&found, Op::CALL, &given)?;
            }
            return answer(walked, true, &found);
        }
        let name = names.get_item(walked)?.cast_into::<PyString>()?;
        walked += 1;
        let (op, rest, keywords) = if call && walked == names.len() {
            (Op::CALL_METHOD, args.clone(), arguments.keywords.clone())
        } else {
            (Op::GETATTR, Vec::new(), None)
        };
        connection.check(&found, op, Some(&name))?;
        let mut given = vec![name.into_any()];
        given.extend(rest);
        let given = Arguments {
            positional: given,
            keywords,
        };
        found = perform(&found, op, &given)?;
        if op == Op::CALL_METHOD {
            return answer(walked, true, &found);
        }
    }
}

/// What is exported under a name: an attribute of the view over there, which lacks what is missing.
fn exported<'py>(
    py: Python<'py>,
    connection: &Arc<Connection>,
    name: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let given = Arguments {
        positional: vec![name],
        keywords: None,
    };
    serve::root(py, connection, Op::GETITEM, &given).map_err(|error| {
        if !error.is_instance_of::<ObjectNotFound>(py) {
            return error;
        }
        let words = error
            .value(py)
            .getattr("args")
            .and_then(|args| args.get_item(0));
        let missing = PyAttributeError::new_err(
            words.map_or_else(|_| error.to_string(), |words| words.to_string()),
        );
        missing.set_cause(py, Some(error));
        missing
    })
}
