//! One session as the rest of the extension sees it: the link, what this side exports, what the
//! peer may do, and the classes that both sides have told each other.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use objspace_proto::{
    AnswerId, AnswerValue, CallFlags, ExportId, FetchKind, Import, ImportId, Op, Outcome,
    OutgoingTarget, QuestionId, Received, Ticket,
};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple, PyType};

use super::deadline;
use super::errors;
use super::link::{Answer, Held, Link, State, Wait};
use super::pipeline::{self, Pipeline};
use super::policy::Policy;
use super::reception::Host;
use super::{serve, threads};
use crate::convert::capability::Place;
use crate::convert::declared;
use crate::convert::decode::Reader;
use crate::convert::encode::{Prepared, Writer};
use crate::remote::class;
use crate::remote::class_access::ClassAccess;

/// A session. Shared by the `Session` object, its proxies and its worker threads.
pub(crate) struct Connection {
    pub(crate) link: Arc<Link>,
    policy: Py<Policy>,
    names: Py<PyAny>,
    classes: Mutex<Classes>,
    label: String,
    declared: declared::Classes,
    /// The server whose client the peer is.
    host: Option<Host>,
    /// The peer debugs this process: nothing is refused to it.
    debugging: AtomicBool,
    /// The server is closing: calls that run may finish, new ones are refused.
    turned_away: AtomicBool,
    /// The event loop that performs what the peer awaits, if one was chosen.
    event_loop: OnceLock<Py<PyAny>>,
}

/// Classes of the peer that have a local twin.
#[derive(Default)]
struct Classes {
    by_import: HashMap<ImportId, Py<PyType>>,
    by_class: HashMap<usize, ImportId>,
    /// Classes of the peer that a thread is making now.
    making: HashMap<ImportId, ThreadId>,
    /// Classes whose shape could not be built, and why.
    refused: HashMap<ImportId, String>,
    /// Classes of this side whose shape a thread is writing, so that a cycle ends. Another thread
    /// writes it as well: it must not mention the class before its shape is sent.
    describing: Vec<(usize, ThreadId)>,
}

fn label(peer: &str) -> String {
    static SEEN: Mutex<Option<HashMap<String, u32>>> = Mutex::new(None);
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let count = seen
        .get_or_insert_default()
        .entry(peer.to_owned())
        .or_insert(0);
    *count += 1;
    if *count == 1 {
        peer.to_owned()
    } else {
        format!("{peer}, session {count}")
    }
}

impl Connection {
    pub(crate) fn new(
        link: Arc<Link>,
        policy: Py<Policy>,
        names: Py<PyAny>,
        host: Option<Host>,
    ) -> Arc<Self> {
        let label = label(&link.peer);
        Arc::new(Self {
            link,
            policy,
            names,
            classes: Mutex::default(),
            label,
            declared: declared::Classes::default(),
            host,
            debugging: AtomicBool::new(false),
            turned_away: AtomicBool::new(false),
            event_loop: OnceLock::new(),
        })
    }

    pub(crate) fn policy(&self) -> &Policy {
        if self.debugging.load(Ordering::Relaxed) {
            return Policy::of_debuggers();
        }
        self.policy.get()
    }

    /// Asks whether the peer may perform `op` (with `name`, if it is about an attribute).
    ///
    /// An object whose class derives from a class of that very peer is in part the peer's own: its
    /// methods run over there with this object as `self`, and reach its attributes as methods do.
    pub(crate) fn check(
        &self,
        target: &Bound<'_, PyAny>,
        op: Op,
        name: Option<&Bound<'_, PyString>>,
    ) -> PyResult<()> {
        if self.policy().is_full() {
            return Ok(());
        }
        let attribute = matches!(
            op,
            Op::GETATTR | Op::SETATTR | Op::DELATTR | Op::CALL_METHOD
        );
        if attribute
            && let Some(name) = name
            && Policy::stays_inside(&name.to_string_lossy())
            && target.get_type().mro().iter().any(|base| {
                base.cast_into::<PyType>()
                    .is_ok_and(|base| self.imported_class(&base).is_some())
            })
        {
            return Ok(());
        }
        self.policy().check(target, op, name)
    }

    /// The server whose client the peer is, if it is one.
    pub(crate) fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// Gives the peer, which debugs this process, every right.
    pub(crate) fn let_debug(&self) {
        self.debugging.store(true, Ordering::Relaxed);
    }

    /// Refuses every further request of the peer that is not part of one that runs.
    pub(crate) fn turn_away(&self) {
        self.turned_away.store(true, Ordering::Relaxed);
    }

    pub(crate) fn turns_away(&self) -> bool {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// Lets `event_loop` perform what the peer awaits. The first choice stays.
    pub(crate) fn choose_event_loop(&self, event_loop: &Bound<'_, PyAny>) {
        let _ = self.event_loop.set(event_loop.clone().unbind());
    }

    pub(crate) fn event_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.event_loop.get().map(|chosen| chosen.bind(py).clone())
    }

    /// The classes that this side has declared for this session.
    pub(crate) fn declared(&self) -> &declared::Classes {
        &self.declared
    }

    /// Whether the peer's class of that name is known here by a twin already.
    pub(crate) fn has_twin(&self, module: &str, qualname: &str) -> bool {
        let py_names = |class: &Bound<'_, PyType>| declared::name_of(class).ok();
        Python::attach(|py| {
            let twins: Vec<_> = self
                .classes()
                .by_import
                .values()
                .map(|class| class.clone_ref(py))
                .collect();
            twins.iter().any(|class| {
                py_names(class.bind(py)).is_some_and(|(m, q)| m == module && q == qualname)
            })
        })
    }

    pub(crate) fn names(&self) -> &Py<PyAny> {
        &self.names
    }

    pub(crate) fn peer(&self) -> &str {
        &self.link.peer
    }

    /// The peer's name, told apart from earlier sessions with the same peer: source lines are kept
    /// under it.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    fn classes(&self) -> MutexGuard<'_, Classes> {
        self.classes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ------------------------------------------------------------------ asking the peer

    /// Performs `op` on the peer's `target`: the result, or in a `pipeline()` block the promise of
    /// it. For operations whose result may be any object.
    pub(crate) fn operate<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        target: OutgoingTarget,
        op: Op,
        positional: &[Bound<'py, PyAny>],
        keywords: &[(Bound<'py, PyString>, Bound<'py, PyAny>)],
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(pipeline) = pipeline::current(py, self)? {
            pipeline.get().make_room(py)?;
            let target = pipeline::Target::Known(target);
            return Pipeline::send(&pipeline, &target, op, positional, keywords)
                .map(Bound::into_any);
        }
        self.call(py, target, op, positional, keywords)
    }

    /// Performs `op` on the peer's `target` and waits for the result.
    pub(crate) fn call<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        target: OutgoingTarget,
        op: Op,
        positional: &[Bound<'py, PyAny>],
        keywords: &[(Bound<'py, PyString>, Bound<'py, PyAny>)],
    ) -> PyResult<Bound<'py, PyAny>> {
        let (payload, _alive) = self.arguments(positional, keywords)?;
        let asked = self.ask(py, |state, thread, parent| {
            state
                .engine
                .call(thread, parent, target, op, CallFlags::NONE, payload)
        })?;
        asked.ok_or_else(|| {
            let name = positional.first().and_then(|name| name.cast().ok());
            deadline::expired(
                &self.words(py, target, &format!("{op:?}"), name),
                self.peer(),
            )
        })
    }

    /// Fetches facts about the peer's `target` in one message.
    pub(crate) fn fetch<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        target: OutgoingTarget,
        what: FetchKind,
        positional: &[Bound<'py, PyAny>],
        keywords: &[(Bound<'py, PyString>, Bound<'py, PyAny>)],
    ) -> PyResult<Bound<'py, PyAny>> {
        let (payload, _alive) = self.arguments(positional, keywords)?;
        let asked = self.ask(py, |state, thread, parent| {
            state.engine.fetch(thread, parent, target, what, payload)
        })?;
        asked.ok_or_else(|| {
            let what = if what == FetchKind::PATH {
                let path = positional.first().and_then(|path| path.extract().ok());
                let path: Vec<String> = path.unwrap_or_default();
                let call = positional
                    .get(1)
                    .is_some_and(|call| call.is_truthy().unwrap_or(false));
                let verb = if call { "calling" } else { "reading" };
                format!("{verb} '{}'", path.join("."))
            } else {
                format!("fetching {what:?}")
            };
            deadline::expired(&self.words(py, target, &what, None), self.peer())
        })
    }

    fn arguments<'py>(
        self: &Arc<Self>,
        positional: &[Bound<'py, PyAny>],
        keywords: &[(Bound<'py, PyString>, Bound<'py, PyAny>)],
    ) -> PyResult<Prepared> {
        loop {
            let mut writer = Writer::new(self);
            writer.arguments(positional, keywords)?;
            if writer.promises_are_pending() {
                return Ok(writer.finish());
            }
        }
    }

    /// What was asked of which object, for an error message.
    fn words(
        &self,
        py: Python<'_>,
        target: OutgoingTarget,
        operation: &str,
        name: Option<&Bound<'_, PyString>>,
    ) -> String {
        let operation = match name {
            Some(name) => format!("{operation} '{}'", name.to_string_lossy()),
            None => operation.to_owned(),
        };
        match target {
            OutgoingTarget::Root => format!("{operation} of the exported names"),
            OutgoingTarget::Import(id) => {
                let proxy = self.link.state().engine.bound(id).map(|handle| {
                    // SAFETY: an object that is bound in the table is alive: the first thing that
                    // its destructor does is to unbind it, under the GIL, which this thread holds.
                    unsafe { Bound::from_borrowed_ptr(py, handle as *mut ffi::PyObject) }
                });
                let class = proxy
                    .and_then(|proxy| proxy.getattr("__class__").ok())
                    .and_then(|class| class.cast_into::<PyType>().ok())
                    .and_then(|class| class.name().ok());
                match class {
                    Some(class) => format!("{operation} of a '{class}' object"),
                    None => format!("{operation} of an object"),
                }
            }
            _ => format!("{operation} of a result"),
        }
    }

    /// Sends a request and waits. `None`: the time was over first.
    fn ask<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        send: impl FnOnce(
            &mut State,
            u64,
            Option<AnswerId>,
        ) -> Result<QuestionId, objspace_proto::Error>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let deadline = deadline::current(py)?;
        if deadline.is_some_and(|until| until <= Instant::now()) {
            return Ok(None);
        }
        if self.link.inherited() {
            return Err(errors::forked(&self.link.peer));
        }
        let (thread, parent) = threads::context(&self.link);
        let wait = {
            let mut state = self.link.open_state()?;
            state.engine.set_deadline(deadline.map(deadline::left));
            match send(&mut state, thread.0, parent) {
                Ok(question) => Link::expect(&mut state, question, deadline),
                Err(error) => {
                    drop(state);
                    return Err(errors::unsent(&error));
                }
            }
        };
        self.link.flush(py)?;
        if let Err(error) = pipeline::collect_open(py) {
            self.link.cancel(wait);
            return Err(error);
        }
        let answer = self.wait(py, wait, true)?;
        answer.map(|answer| self.result(py, answer)).transpose()
    }

    /// Waits for a reply, running calls nested in it meanwhile. `counts`: as a round trip. `None`:
    /// the time was over first.
    pub(crate) fn wait(
        self: &Arc<Self>,
        py: Python<'_>,
        wait: Wait,
        counts: bool,
    ) -> PyResult<Option<Answer>> {
        self.link.wait_for(py, wait, counts, |py, request| {
            serve::serve(py, self, request);
        })
    }

    /// What a reply says.
    pub(crate) fn result<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        answer: Answer,
    ) -> PyResult<Bound<'py, PyAny>> {
        let value = Reader::read_one(self, py, answer.payload, Place::Reply)?;
        match answer.outcome {
            Outcome::Value => Ok(value),
            _ => Err(errors::in_context(py, value)),
        }
    }

    // ------------------------------------------------------------------ exports

    /// Enters `value` in the table of exports, for one reference that is about to be sent.
    pub(crate) fn export(&self, value: &Bound<'_, PyAny>) -> PyResult<ExportId> {
        let held = Held::new(value.clone().unbind());
        let key = value.as_ptr() as u64;
        let mut state = self.link.state();
        if let Some(end) = state.end.clone() {
            // Its table is empty for good: what was entered now would stay, and could hold whatever
            // holds this session.
            drop(state);
            return Err(errors::session_ended(self.peer(), &end));
        }
        let exported = state.engine.export(key, move || held);
        drop(state);
        exported.map_err(|error| errors::protocol(&error))
    }

    /// Takes back references that were not sent after all.
    pub(crate) fn unexport(&self, ids: &[ExportId]) {
        let mut dropped = Vec::new();
        let mut state = self.link.state();
        for id in ids {
            dropped.extend(state.engine.unexport(*id).ok().flatten());
        }
        drop(state);
        drop(dropped);
    }

    /// The object of this process that the peer names.
    pub(crate) fn exported<'py>(
        &self,
        py: Python<'py>,
        id: ExportId,
    ) -> PyResult<Bound<'py, PyAny>> {
        let found = {
            let state = self.link.state();
            state.engine.exported(id).map(|held| held.clone_ref(py))
        };
        match found {
            Ok(held) => Ok(held.into_bound(py)),
            Err(error) => Err(errors::protocol(&error)),
        }
    }

    /// Sends the shape of `class`, and of the classes that it is made of, unless the peer has it.
    pub(crate) fn send_shape(self: &Arc<Self>, class: &Bound<'_, PyType>) -> PyResult<ExportId> {
        let py = class.py();
        let key = (class.as_ptr() as usize, std::thread::current().id());
        let id = self.export(class.as_any())?;
        let known = self.link.state().engine.shape_sent(id);
        if known || self.classes().describing.contains(&key) {
            self.unexport(&[id]);
            return Ok(id);
        }
        self.classes().describing.push(key);
        let redact = !self.policy().tracebacks().is_full();
        let written = class::describe(py, class, redact).and_then(|description| {
            let mut writer = Writer::new(self);
            writer.value(description.as_any())?;
            Ok(writer.finish())
        });
        self.classes().describing.retain(|other| *other != key);
        match written {
            Ok((payload, _alive)) => {
                // Another thread may have sent it meanwhile: the peer keeps the first.
                let sent = self.link.state().engine.shape(id, payload);
                self.unexport(&[id]);
                sent.map(|()| id).map_err(|error| errors::protocol(&error))
            }
            Err(error) => {
                self.unexport(&[id]);
                Err(error)
            }
        }
    }

    // ------------------------------------------------------------------ imports

    /// The local twin of the peer's class.
    pub(crate) fn class_of<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        id: ImportId,
    ) -> PyResult<Bound<'py, PyType>> {
        if let Some(class) = self.classes().by_import.get(&id) {
            return Ok(class.bind(py).clone());
        }
        if let Some(error) = self.classes().refused.get(&id) {
            return Err(PyTypeError::new_err(format!(
                "a class of {} has no counterpart here: {error}",
                self.peer()
            )));
        }
        let this_thread = std::thread::current().id();
        let (shape, end) = {
            let mut state = self.link.state();
            (state.shapes.remove(&id), state.end.clone())
        };
        let Some(shape) = shape else {
            // Another thread that met the class first is making it.
            let maker = self.classes().making.get(&id).copied();
            if maker.is_some_and(|maker| maker != this_thread) {
                return self.class_from_another_thread(py, id);
            }
            if let Some(class) = self.classes().by_import.get(&id) {
                return Ok(class.bind(py).clone());
            }
            // A session that ends forgets the shapes that nobody has read.
            if let Some(end) = end {
                return Err(errors::session_ended(self.peer(), &end));
            }
            return Err(PyTypeError::new_err(format!(
                "{} refers to a class (number {}) that it has not described",
                self.peer(),
                id.slot()
            )));
        };
        self.classes().making.insert(id, this_thread);
        let built = self.build_class(py, id, shape);
        let failure = built
            .as_ref()
            .err()
            .filter(|error| !error.is_instance_of::<errors::ConnectionLost>(py))
            .map(ToString::to_string);
        let mut classes = self.classes();
        classes.making.remove(&id);
        if let Ok(class) = &built {
            classes.by_class.insert(class.as_ptr() as usize, id);
            classes.by_import.insert(id, class.clone().unbind());
        } else if let Some(failure) = failure {
            // The shape comes once: who meets the class again is told what was wrong with it.
            classes.refused.insert(id, failure);
        }
        drop(classes);
        built
    }

    /// Waits for the class that another thread is making.
    fn class_from_another_thread<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        id: ImportId,
    ) -> PyResult<Bound<'py, PyType>> {
        while self.classes().making.contains_key(&id) {
            threads::detach(py, || std::thread::sleep(Duration::from_micros(200)));
            py.check_signals()?;
        }
        // If that failed, this says so in its own words.
        self.class_of(py, id)
    }

    fn build_class<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        id: ImportId,
        shape: Received,
    ) -> PyResult<Bound<'py, PyType>> {
        let description =
            Reader::read_one(self, py, shape, Place::Shape)?.cast_into::<PyTuple>()?;
        let bases = description
            .get_item(class::shape::BASES)?
            .cast_into::<PyTuple>()?;
        match self.adopted(py, &description)? {
            Some(class) => Ok(class),
            None => {
                let access = Bound::new(py, ClassAccess::new(self, id))?;
                class::build(py, &description, &bases, access.as_any(), self.label())
            }
        }
    }

    /// The class of this process that is declared to be the one that is described.
    fn adopted<'py>(
        &self,
        py: Python<'py>,
        description: &Bound<'py, PyTuple>,
    ) -> PyResult<Option<Bound<'py, PyType>>> {
        let module = description.get_item(class::shape::MODULE)?;
        let qualname = description.get_item(class::shape::QUALNAME)?;
        let (Ok(module), Ok(qualname)) = (module.extract::<String>(), qualname.extract::<String>())
        else {
            return Ok(None);
        };
        let found = self.declared.named(py, &module, &qualname);
        Ok(found.map(|found| found.class))
    }

    /// The peer's id of a class that is the twin of one of its own.
    pub(crate) fn imported_class(&self, class: &Bound<'_, PyType>) -> Option<ImportId> {
        self.classes()
            .by_class
            .get(&(class.as_ptr() as usize))
            .copied()
    }

    /// The proxy or handle that stands for `id` here, entered for one reference that has arrived;
    /// `make` makes it if none is alive.
    pub(crate) fn import<'py>(
        &self,
        py: Python<'py>,
        id: ImportId,
        make: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let revive = |handle: u64| {
            // SAFETY: an object that is bound in the table is alive: the first thing that its
            // destructor does is to unbind it, under the GIL, which this thread holds. Taking a
            // reference runs no code.
            unsafe { ffi::Py_INCREF(handle as *mut ffi::PyObject) };
            true
        };
        let known = {
            let mut state = self.link.state();
            if let Some(end) = state.end.clone() {
                drop(state);
                return Err(errors::session_ended(self.peer(), &end));
            }
            state.engine.import(id, revive)
        };
        let known = known.map_err(|error| errors::protocol(&error))?;
        if let Import::Known(handle) = known {
            // SAFETY: `revive` took the reference that is handed over here.
            return Ok(unsafe { Bound::from_owned_ptr(py, handle as *mut ffi::PyObject) });
        }
        let made = make();
        let mut state = self.link.state();
        match made {
            Ok(object) => {
                if let Some(handle) = state.engine.bound(id) {
                    // Another thread was quicker: there is one proxy for one object.
                    revive(handle);
                    drop(state);
                    // SAFETY: as above.
                    return Ok(unsafe { Bound::from_owned_ptr(py, handle as *mut ffi::PyObject) });
                }
                // A session that was lost meanwhile has no tables: the proxy will say so.
                let _ = state.engine.bind(id, object.as_ptr() as u64);
                drop(state);
                Ok(object)
            }
            Err(error) => {
                let _ = state.engine.unimport(id);
                drop(state);
                Err(error)
            }
        }
    }

    /// Makes `proxy` the one that stands for `id` here.
    pub(crate) fn rebind(&self, id: ImportId, proxy: &Bound<'_, PyAny>) {
        // A session that was lost meanwhile has no tables: the proxy will say so.
        let _ = self.link.state().engine.bind(id, proxy.as_ptr() as u64);
    }

    /// A result that was kept for later calls of the peer.
    pub(crate) fn answered<'py>(
        &self,
        py: Python<'py>,
        question: u32,
        ticket: Ticket,
    ) -> PyResult<Bound<'py, PyAny>> {
        let found = {
            let state = self.link.state();
            match state.engine.answer_value(question, ticket) {
                Ok(AnswerValue::Done {
                    value: Some(held),
                    outcome: Outcome::Value,
                }) => Ok(held.clone_ref(py)),
                Ok(AnswerValue::Done {
                    value: Some(held), ..
                }) => {
                    let error = held.clone_ref(py);
                    drop(state);
                    return Err(PyErr::from_value(error.into_bound(py)));
                }
                Ok(_) => Err(errors::ProtocolError::new_err(
                    "the result of an earlier call is not there",
                )),
                Err(error) => Err(errors::protocol(&error)),
            }
        };
        found.map(|held| held.into_bound(py))
    }

    /// A payload was read to its end or to its failure at byte `from`.
    pub(crate) fn finish_reading(&self, payload: Received, failed_at: Option<usize>) {
        let mut state = self.link.state();
        if let Some(from) = failed_at {
            // A malformed rest holds no references that could be given back.
            let _ = state.engine.discard(&payload, from);
        }
        let dropped = state.engine.finish_reading(payload.ticket());
        state.engine.recycle(payload.into_buffer());
        drop(state);
        drop(dropped);
    }
}
