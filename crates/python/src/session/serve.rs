//! A request of the peer, from its bytes to its reply.

use std::sync::Arc;
use std::time::Instant;

use objspace_proto::{
    AnswerId, FetchKind, IncomingCall, IncomingFetch, IncomingTarget, Op, Outcome, Payload, Ticket,
};
use pyo3::exceptions::{
    PyConnectionRefusedError, PyPermissionError, PyRecursionError, PyRuntimeError, PyTypeError,
};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple, PyType};

use super::awaiting;
use super::connection::Connection;
use super::deadline;
use super::errors::{self, ObjectNotFound};
use super::gate;
use super::link::{Held, Request};
use super::operator;
use super::perform::{Arguments, apply_operator, perform};
use super::pipeline;
use super::threads::{self, LogicalThread};
use crate::convert::decode::Reader;
use crate::convert::encode::{Prepared, Writer};
use crate::convert::graph;
use crate::pickling::hop;
use crate::remote::{buffer, chain, class, contents, read_ahead, traceback};

/// No request is begun with less than this of the thread's stack left: CPython's own limit counts
/// calls, and a call that comes from another process takes more of the stack than one of Python.
const STACK_LEFT: usize = 1 << 20;

/// Performs a request and queues its reply. A failure of any kind fails that request only.
pub(crate) fn serve(py: Python<'_>, connection: &Arc<Connection>, request: Request) {
    pipeline::suspended(py, || perform_request(py, connection, request));
}

fn perform_request(py: Python<'_>, connection: &Arc<Connection>, request: Request) {
    let (answer, thread, limited) = match &request {
        Request::Call(call) => (call.answer, call.thread, call.deadline),
        Request::Fetch(fetch) => (fetch.answer, fetch.thread, fetch.deadline),
    };
    // What a debugger is told is no new error.
    let debugging = matches!(
        &request,
        Request::Fetch(fetch) if fetch.what == FetchKind::LAST_ERROR
    );
    let weight = request.weight();
    if weight > 0 {
        let mut state = connection.link.state();
        state.weight = state.weight.saturating_sub(weight);
    }
    let deadline = limited.and_then(|_| connection.link.state().deadlines.remove(&answer));
    // Also while an error is described: that may run code of the other side.
    let running = threads::enter(LogicalThread(thread), &connection.link, answer, deadline);
    let keep = matches!(&request, Request::Call(call) if call.keep);
    let mut kept = None;
    let result = match request {
        request if deadline.is_some_and(|until| until <= Instant::now()) => {
            connection.finish_reading(request.into_payload(), Some(0));
            Err(deadline::too_late())
        }
        request if stacker::remaining_stack().is_some_and(|left| left < STACK_LEFT) => {
            connection.finish_reading(request.into_payload(), Some(0));
            Err(PyRecursionError::new_err(
                "calls to and fro between two processes are nested too deep for the stack of the \
                 thread that waits",
            ))
        }
        request if connection.turns_away() && request.parent().is_none() => {
            connection.finish_reading(request.into_payload(), Some(0));
            Err(PyConnectionRefusedError::new_err(
                "the server is closing and takes no further calls",
            ))
        }
        Request::Call(call) if call.op == Op::AWAIT => match run_await(py, connection, call) {
            Ok(None) => return,
            Ok(Some(prepared)) => Ok(prepared),
            Err(error) => Err(error),
        },
        Request::Call(call) => run_call(py, connection, call).map(|(prepared, result)| {
            kept = result;
            prepared
        }),
        Request::Fetch(fetch) => run_fetch(py, connection, fetch),
    };
    if let (true, Err(error)) = (keep, &result) {
        kept = Some(error.value(py).clone().into_any());
    }
    let result = described(py, connection, result, !debugging);
    drop(running);
    if let Some(kept) = kept {
        // For later requests that mention this one.
        let not_kept = connection
            .link
            .state()
            .engine
            .keep(answer, Held::new(kept.unbind()));
        drop(not_kept);
    }
    reply(py, connection, answer, result);
}

/// Replies to a request that was performed elsewhere.
pub(crate) fn respond(
    py: Python<'_>,
    connection: &Arc<Connection>,
    answer: AnswerId,
    result: PyResult<Prepared>,
) {
    let result = described(py, connection, result, true);
    reply(py, connection, answer, result);
    // Nobody else writes it: a stream that fails here ends the session, which its reader reports.
    let _ = connection.link.flush(py);
}

/// `note`: an error is one of the served program, which may be debugged later.
fn described(
    py: Python<'_>,
    connection: &Arc<Connection>,
    result: PyResult<Prepared>,
    note: bool,
) -> (Outcome, Prepared) {
    match result {
        Ok(prepared) => (Outcome::Value, prepared),
        Err(error) => {
            if note {
                operator::note(py, connection, &error);
            }
            (Outcome::Error, error_payload(py, connection, error))
        }
    }
}

fn reply(
    py: Python<'_>,
    connection: &Arc<Connection>,
    answer: AnswerId,
    (outcome, (payload, alive)): (Outcome, Prepared),
) {
    let refused = {
        let mut state = connection.link.state();
        state.ran(answer);
        state.engine.reply(answer, outcome, payload)
    };
    drop(alive);
    // A reply beyond the limit of a message: the caller is told, and does not wait for ever.
    if let Err(error @ objspace_proto::Error::LimitExceeded { .. }) = refused {
        let (payload, alive) = error_payload(py, connection, errors::protocol(&error));
        // A session that has ended takes no replies, and nobody waits for them.
        let _ = connection
            .link
            .state()
            .engine
            .reply(answer, Outcome::Error, payload);
        drop(alive);
    }
}

/// Hands what is to be awaited to an event loop, which replies when it is done. What is no such
/// request is performed at once.
fn run_await(
    py: Python<'_>,
    connection: &Arc<Connection>,
    call: IncomingCall,
) -> PyResult<Option<Prepared>> {
    let target = find(py, connection, call.target, call.payload.ticket());
    let arguments = Reader::read_arguments(connection, py, call.payload)?;
    let Some(target) = target? else {
        return Err(PyTypeError::new_err("a session cannot be awaited"));
    };
    if !arguments.positional.is_empty() {
        awaiting::perform_later(py, connection, call.answer, &target, &arguments)?;
        return Ok(None);
    }
    connection.check(&target, call.op, None)?;
    let mut writer = Writer::new(connection);
    writer.value(&perform(&target, call.op, &arguments)?)?;
    Ok(Some(writer.finish()))
}

/// The reply of a call, and its result if that is to be kept.
fn run_call<'py>(
    py: Python<'py>,
    connection: &Arc<Connection>,
    call: IncomingCall,
) -> PyResult<(Prepared, Option<Bound<'py, PyAny>>)> {
    let keep = call.keep;
    let target = find(py, connection, call.target, call.payload.ticket());
    let arguments = Reader::read_arguments(connection, py, call.payload)?;
    let result = match target? {
        None => root(py, connection, call.op, &arguments)?,
        Some(target) => {
            let name = match call.op {
                Op::GETATTR | Op::SETATTR | Op::DELATTR | Op::CALL_METHOD => {
                    Some(arguments.name(call.op)?)
                }
                _ => None,
            };
            connection.check(&target, call.op, name)?;
            if keep {
                // The caller has gone on, and cannot ask the other operand.
                apply_operator(&target, call.op, &arguments)?
            } else {
                perform(&target, call.op, &arguments)?
            }
        }
    };
    let mut writer = Writer::new(connection);
    writer.value(&result)?;
    Ok((writer.finish(), keep.then_some(result)))
}

/// What may be asked of the session itself: its exported names.
pub(crate) fn root<'py>(
    py: Python<'py>,
    connection: &Arc<Connection>,
    op: Op,
    arguments: &Arguments<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let names = connection.names().bind(py);
    match op {
        Op::GETITEM | Op::GETATTR => {
            let name = arguments.name(op)?;
            if let Some(arrivals) = hop::arrivals(py, connection, &name.to_cow()?)? {
                return Ok(arrivals);
            }
            if !names.contains(name)? {
                return Err(ObjectNotFound::new_err(format!(
                    "{name} is not exported by the other side, which exports {}",
                    listing(names)?
                )));
            }
            names.get_item(name)
        }
        _ => Err(PyTypeError::new_err(format!(
            "{op:?} is no operation of a session"
        ))),
    }
}

fn listing(names: &Bound<'_, PyAny>) -> PyResult<String> {
    let mut all: Vec<String> = names
        .try_iter()?
        .map(|name| name?.extract())
        .collect::<PyResult<_>>()?;
    all.retain(|name| !name.starts_with('_'));
    all.sort();
    Ok(if all.is_empty() {
        "nothing".to_owned()
    } else {
        all.join(", ")
    })
}

fn run_fetch(
    py: Python<'_>,
    connection: &Arc<Connection>,
    fetch: IncomingFetch,
) -> PyResult<Prepared> {
    let target = find(py, connection, fetch.target, fetch.payload.ticket());
    let arguments = Reader::read_arguments(connection, py, fetch.payload)?;
    let mut writer = Writer::new(connection);
    let target = target?;
    let decision = gate::fetch(fetch.what)
        .ok_or_else(|| PyTypeError::new_err(format!("unknown fetch {}", fetch.what.0)))?;
    let target = match (decision, target) {
        (gate::Fetch::Names, None) => {
            let names = connection.names().bind(py).try_iter()?;
            let names = names.collect::<PyResult<Vec<_>>>()?;
            writer.value(PyTuple::new(py, names)?.as_any())?;
            return Ok(writer.finish());
        }
        (gate::Fetch::Operator, None) => {
            let told = if fetch.what == FetchKind::STATUS {
                operator::status(py, connection)?
            } else {
                let again = arguments.positional.first();
                let again = again.map_or(Ok(false), |again| again.is_truthy())?;
                operator::last_error(py, connection, again)?
            };
            writer.value(&told)?;
            return Ok(writer.finish());
        }
        (gate::Fetch::As(op), Some(target)) => {
            connection.check(&target, op, None)?;
            target
        }
        (gate::Fetch::Path, target) => {
            let found = chain::walk(py, connection, target, arguments)?;
            writer.value(found.as_any())?;
            return Ok(writer.finish());
        }
        // These ask the gate themselves, about what the question turns out to be.
        (gate::Fetch::Question | gate::Fetch::Frames, Some(target)) => target,
        (gate::Fetch::Unanswered, _) => {
            return Err(PyTypeError::new_err(format!(
                "{:?} is not answered by this side",
                fetch.what
            )));
        }
        (_, None) => {
            return Err(PyTypeError::new_err(format!(
                "{:?} is no fetch from a session itself",
                fetch.what
            )));
        }
        (_, Some(_)) => {
            return Err(PyTypeError::new_err(format!(
                "{:?} is a fetch from a session itself",
                fetch.what
            )));
        }
    };
    match fetch.what {
        FetchKind::CONTENTS => {
            writer.contents(&contents::part_of(&target, &arguments.positional)?)?;
        }
        FetchKind::ATTRIBUTES => {
            let names = target.dir()?;
            writer.contents(names.as_any())?;
        }
        FetchKind::ITEMS => {
            writer.value(read_ahead::answer(&target, &arguments.positional)?.as_any())?;
        }
        FetchKind::BUFFER => {
            writer.buffer(&buffer::answer(&target)?)?;
        }
        FetchKind::COPY => {
            let rest = if arguments.positional.is_empty() {
                graph::Rest::Refused
            } else {
                graph::Rest::Referred
            };
            writer.copy(&target, rest)?;
        }
        FetchKind::CLASS => writer.value(&ask_class(py, connection, &target, &arguments)?)?,
        FetchKind::FRAME => writer.value(&ask_frame(py, connection, &target, &arguments)?)?,
        other => {
            return Err(PyTypeError::new_err(format!(
                "{other:?} is not answered by this side"
            )));
        }
    }
    Ok(writer.finish())
}

/// What the twin of a class asks its original.
fn ask_class<'py>(
    py: Python<'py>,
    connection: &Arc<Connection>,
    target: &Bound<'py, PyAny>,
    arguments: &Arguments<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let class = target
        .cast::<PyType>()
        .map_err(|_| PyTypeError::new_err("a class is asked, and this is none"))?;
    let (operation, name, rest) = match arguments.positional.as_slice() {
        [operation, name, rest @ ..] => (
            operation.extract::<String>()?,
            name.cast::<PyString>().ok(),
            rest,
        ),
        _ => {
            return Err(PyTypeError::new_err(
                "a question to a class without an operation",
            ));
        }
    };
    let op = match &*operation {
        "set" | "set_for" | "property_set" => Op::SETATTR,
        "delete" | "delete_for" | "property_delete" => Op::DELATTR,
        "new" | "default_factory" => Op::CALL,
        "get" | "get_for" | "property_get" => Op::GETATTR,
        "call" | "call_for" => Op::CALL_METHOD,
        "source" => {
            if !connection.policy().tracebacks().is_full() {
                return Ok(py.None().into_bound(py));
            }
            Op::DIR
        }
        other => Op::from_name(other)
            .ok_or_else(|| PyTypeError::new_err(format!("no operation {other:?} on a class")))?,
    };
    connection.check(target, op, name)?;
    class::answer(
        py,
        class,
        &operation,
        name,
        &PyTuple::new(py, rest)?,
        arguments.keywords.as_ref(),
    )
}

/// What the picture of a frame asks the frame.
fn ask_frame<'py>(
    py: Python<'py>,
    connection: &Arc<Connection>,
    target: &Bound<'py, PyAny>,
    arguments: &Arguments<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    if !connection.policy().tracebacks().is_full() {
        return Err(PyPermissionError::new_err(
            "the policy of the other side does not show frames, locals or source",
        ));
    }
    let Some((operation, rest)) = arguments.positional.split_first() else {
        return Err(PyTypeError::new_err(
            "a question to a frame without an operation",
        ));
    };
    let mut all = vec![target.clone()];
    all.extend_from_slice(rest);
    traceback::answer(py, &operation.extract::<String>()?, &PyTuple::new(py, all)?)
}

/// What a request is addressed to; `None` is the session itself. Asked before the payload is read:
/// until then nothing that the peer names can be released.
fn find<'py>(
    py: Python<'py>,
    connection: &Arc<Connection>,
    target: IncomingTarget,
    ticket: Ticket,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match target {
        IncomingTarget::Root => Ok(None),
        IncomingTarget::Export(id) => connection.exported(py, id).map(Some),
        IncomingTarget::Answer(question) => connection.answered(py, question, ticket).map(Some),
    }
}

/// The error reply; if the error itself cannot be sent, one that says so.
fn error_payload(py: Python<'_>, connection: &Arc<Connection>, error: PyErr) -> Prepared {
    let value = error.into_value(py).into_bound(py);
    let mut writer = Writer::new(connection);
    match writer.exception(value.as_any()) {
        Ok(()) => writer.finish(),
        Err(failure) => {
            drop(writer);
            let text = PyRuntimeError::new_err(format!(
                "a {} of the other side could not be sent: {failure}",
                value
                    .get_type()
                    .name()
                    .map_or_else(|_| "?".into(), |name| name.to_string()),
            ));
            let mut writer = Writer::new(connection);
            if writer.exception(text.value(py).as_any()).is_err() {
                return (Payload::new(), Vec::new());
            }
            writer.finish()
        }
    }
}
