//! One connection: the protocol engine behind its lock, the stream, and who waits for what.
//!
//! Data flow. A caller queues a message in the engine, `flush`es it, and `wait_for`s the reply.
//! Whoever waits takes the *right to read* if it is free: it polls the stream, feeds the engine
//! and hands out what arrived: a reply to the thread that waits for it, a nested call (its `parent`
//! is a question of ours) likewise, any other call to the workers. One idle worker holds the right
//! while nobody waits; a waiting thread takes it away from that worker, so that a busy caller never
//! pays for a hand-over between threads. The right is an epoch number: the worker that lost it
//! notices when it next looks.
//!
//! No Python code runs, and nobody waits for the GIL, while `state` is locked.

mod heartbeat;
mod workers;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{ErrorKind, IoSlice};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use objspace_net::{Interest, Stream, Waker};
use objspace_proto::{
    AnswerId, CloseCode, Deframer, Event, FetchKind, Frame, ImportId, IncomingCall, IncomingFetch,
    IncomingTarget, Op, Outcome, Output, QuestionId, Received, Session as Engine,
};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::deadline;
use super::errors;
use super::threads::{self, LogicalThread};

/// How long releases gather while the session is idle.
const GATHER: Duration = Duration::from_millis(10);

/// An object handed to the peer, kept alive by the table of exports.
#[derive(Debug)]
pub(crate) struct Held {
    object: Py<PyAny>,
    /// When it was handed over.
    pub(crate) since: Instant,
}

impl Held {
    pub(crate) fn new(object: Py<PyAny>) -> Self {
        Self {
            object,
            since: Instant::now(),
        }
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Py<PyAny> {
        self.object.clone_ref(py)
    }
}

/// A request of the peer that is being run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    answer: AnswerId,
    pub(crate) what: Asked,
    pub(crate) target: IncomingTarget,
    pub(crate) since: Instant,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    Op(Op),
    Fetch(FetchKind),
}

/// What arrived for a question.
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) payload: Received,
}

/// A request of the peer.
pub(crate) enum Request {
    Call(IncomingCall),
    Fetch(IncomingFetch),
}

impl Request {
    /// The arguments.
    pub(crate) fn into_payload(self) -> Received {
        match self {
            Self::Call(call) => call.payload,
            Self::Fetch(fetch) => fetch.payload,
        }
    }

    pub(crate) fn thread(&self) -> LogicalThread {
        match self {
            Self::Call(call) => LogicalThread(call.thread),
            Self::Fetch(fetch) => LogicalThread(fetch.thread),
        }
    }

    /// How many bytes a large request keeps in memory until it is run; small ones are bounded by
    /// their number.
    pub(crate) fn weight(&self) -> usize {
        let (Self::Call(IncomingCall { payload, .. }) | Self::Fetch(IncomingFetch { payload, .. })) =
            self;
        let size = payload.size();
        if size > 64 << 10 { size } else { 0 }
    }

    fn running(&self) -> Running {
        let (answer, what, target) = match self {
            Self::Call(call) => (call.answer, Asked::Op(call.op), call.target),
            Self::Fetch(fetch) => (fetch.answer, Asked::Fetch(fetch.what), fetch.target),
        };
        Running {
            answer,
            what,
            target,
            since: Instant::now(),
        }
    }

    fn deadline(&self) -> Option<(AnswerId, u64)> {
        match self {
            Self::Call(call) => Some((call.answer, call.deadline?)),
            Self::Fetch(fetch) => Some((fetch.answer, fetch.deadline?)),
        }
    }

    pub(crate) fn parent(&self) -> Option<QuestionId> {
        match self {
            Self::Call(call) => call.parent,
            Self::Fetch(fetch) => fetch.parent,
        }
    }
}

/// A thread that waits for the reply to one question.
struct Waiter {
    question: QuestionId,
    waker: Arc<Waker>,
    answer: Option<Answer>,
    nested: VecDeque<Request>,
    /// When it gives up.
    deadline: Option<Instant>,
    /// It sleeps until it is woken: the right to read can be handed to it.
    parked: bool,
}

/// The number of one wait. Unlike a question's number it is never used again: the engine may give
/// that to another thread's question before this thread has seen its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Wait(u64);

/// Why a session no longer works.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// This side closed it.
    Closed,
    /// The peer closed it, with its words.
    ByPeer(String),
    /// The stream ended or failed.
    Lost(String),
    /// The peer broke the protocol.
    Broken(String),
}

/// Who may read the stream.
#[derive(Clone, Copy, PartialEq)]
enum Reader {
    Nobody,
    /// A waiting caller or a worker that has just been busy: it keeps the right until it leaves.
    Busy(u64),
    /// A worker that reads because nobody else does.
    Idle(u64),
}

pub(crate) struct State {
    pub(crate) engine: Engine<Held>,
    waiters: HashMap<Wait, Waiter>,
    /// The waits for questions that are open.
    waits: HashMap<QuestionId, Wait>,
    next_wait: u64,
    /// Calls that nobody in particular waits for.
    work: VecDeque<Request>,
    /// The [weight](Request::weight) of all requests that wait to be run.
    pub(crate) weight: usize,
    /// Logical threads that run a call here now, and the calls that must wait for them.
    lanes: HashMap<LogicalThread, VecDeque<Request>>,
    /// The requests of the peer that run now, and how many have ended.
    pub(crate) running: Vec<Running>,
    pub(crate) served: u64,
    /// When the peer gives up requests that wait to be run.
    pub(crate) deadlines: HashMap<AnswerId, Instant>,
    /// Shapes that arrived and are not turned into classes yet.
    pub(crate) shapes: HashMap<ImportId, Received>,
    /// Classes whose shape has arrived.
    shaped: HashSet<ImportId>,
    /// Objects the peer released, to be dropped by a thread that is attached to Python.
    garbage: Vec<Held>,
    reader: Reader,
    epoch: u64,
    idle_waker: Option<Arc<Waker>>,
    /// Someone writes now, and takes along what is queued meanwhile.
    flushing: bool,
    /// What the stream has not taken yet.
    unsent: Output,
    /// The stream takes no more for now.
    blocked: bool,
    /// Counts the reads that brought something, and the writes that took something.
    reads: u64,
    writes: u64,
    /// Counts reads and hand-overs, so that a worker sees whether anything happened.
    activity: u64,
    sleeping: u32,
    workers: u32,
    working: u32,
    pub(crate) round_trips: u64,
    pub(crate) end: Option<End>,
}

/// The bytes' way to the peer.
pub(crate) enum Channel {
    Stream(Stream),
    /// Two Python functions that move bytes objects.
    Functions {
        send: Py<PyAny>,
        receive: Py<PyAny>,
    },
}

pub(crate) struct Link {
    state: Mutex<State>,
    /// Held while reading and handing out, so that a reader that lost its right cannot interleave.
    deframer: Mutex<Deframer>,
    channel: Channel,
    work_ready: Condvar,
    /// The process that opened the session: after a fork the stream is still the parent's.
    process: u32,
    pub(crate) peer: String,
}

/// What a reader does next.
enum Seen {
    Mine,
    Work,
    LostRight,
    Interrupted,
    Woken,
    Ended,
}

impl Link {
    pub(crate) fn new(
        engine: Engine<Held>,
        deframer: Deframer,
        channel: Channel,
        peer: String,
    ) -> Arc<Self> {
        let link = Arc::new(Self {
            state: Mutex::new(State {
                engine,
                waiters: HashMap::new(),
                waits: HashMap::new(),
                next_wait: 0,
                work: VecDeque::new(),
                weight: 0,
                lanes: HashMap::new(),
                running: Vec::new(),
                served: 0,
                deadlines: HashMap::new(),
                shapes: HashMap::new(),
                shaped: HashSet::new(),
                garbage: Vec::new(),
                reader: Reader::Nobody,
                epoch: 0,
                idle_waker: None,
                flushing: false,
                unsent: Output::new(),
                blocked: false,
                reads: 0,
                writes: 0,
                activity: 0,
                sleeping: 0,
                workers: 0,
                working: 0,
                round_trips: 0,
                end: None,
            }),
            deframer: Mutex::new(deframer),
            channel,
            work_ready: Condvar::new(),
            process: std::process::id(),
            peer,
        });
        let mut links = all_links();
        links.retain(|link| link.strong_count() > 0);
        links.push(Arc::downgrade(&link));
        link
    }

    /// The engine and the tables. Never held while Python code can run.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is a forked child of the process that opened the session. Nothing of the
    /// session may be touched then: its locks may be held by threads that are not here.
    pub(crate) fn inherited(&self) -> bool {
        self.process != std::process::id()
    }

    // ------------------------------------------------------------------ writing

    /// Writes what is queued, as far as the stream takes it now.
    pub(crate) fn flush(&self, py: Python<'_>) -> PyResult<()> {
        match &self.channel {
            Channel::Stream(stream) => {
                // The write cannot block, so the GIL is kept: small messages go at once. What does
                // not fit is written by whoever reads next.
                self.write_some(stream);
                Ok(())
            }
            Channel::Functions { send, .. } => {
                loop {
                    // Not in the head of the loop, where the lock would be held throughout.
                    let Some(mut output) = self.state().start_writing() else {
                        return Ok(());
                    };
                    let bytes = output.chunks().flatten().copied().collect::<Vec<u8>>();
                    output.clear();
                    let sent = send.call1(py, (PyBytes::new(py, &bytes),));
                    self.state().stop_writing(output);
                    if let Err(error) = sent {
                        let end = End::Lost(format!("its send function failed: {error}"));
                        self.end(end.clone());
                        return Err(errors::session_ended(&self.peer, &end));
                    }
                }
            }
        }
    }

    /// Writes queued output until it is gone or the stream takes no more.
    fn write_some(&self, stream: &Stream) {
        loop {
            let Some(mut output) = self.state().start_writing() else {
                return;
            };
            let written = write_output(stream, &mut output);
            let mut state = self.state();
            let all = output.is_empty();
            state.writes += u64::from(matches!(written, Ok(some) if some));
            state.stop_writing(output);
            match written {
                Ok(_) if all => state.blocked = false,
                Ok(_) => {
                    state.blocked = true;
                    // Whoever polls must now poll for room as well.
                    if let Some(waker) = &state.idle_waker {
                        waker.wake();
                    }
                    return;
                }
                Err(error) => {
                    drop(state);
                    self.end(End::Lost(error.to_string()));
                    return;
                }
            }
        }
    }

    // ------------------------------------------------------------------ waiting

    /// Announces that this thread will wait for the answer to `question`.
    pub(crate) fn expect(
        state: &mut State,
        question: QuestionId,
        deadline: Option<Instant>,
    ) -> Wait {
        let wait = Wait(state.next_wait);
        state.next_wait += 1;
        let waker = threads::waker();
        state.waiters.insert(
            wait,
            Waiter {
                question,
                waker,
                answer: None,
                nested: VecDeque::new(),
                deadline,
                parked: false,
            },
        );
        state.waits.insert(question, wait);
        wait
    }

    /// Waits for the answer, running calls nested in it meanwhile. `None`: it was given up, because its
    /// deadline came first.
    ///
    /// `run` performs a nested call. `interrupted` is asked on a signal; its error cancels the call.
    pub(crate) fn wait_for(
        self: &Arc<Self>,
        py: Python<'_>,
        wait: Wait,
        mut run: impl FnMut(Python<'_>, Request),
    ) -> PyResult<Option<Answer>> {
        enum Step {
            Done(Answer),
            Run(Request),
            Read(u64),
            Park(Arc<Waker>, Option<Duration>),
            Ended(End),
            Expired,
        }
        let mut mine: Option<u64> = None;
        loop {
            let step = {
                let mut guard = self.state();
                let state = &mut *guard;
                let congested = state.congested();
                let Some(waiter) = state.waiters.get_mut(&wait) else {
                    return Err(PyRuntimeError::new_err(
                        "objspace: a wait without a question; please report this",
                    ));
                };
                waiter.parked = false;
                if let Some(answer) = waiter.answer.take() {
                    state.waiters.remove(&wait);
                    state.round_trips += 1;
                    Step::Done(answer)
                } else if !congested && let Some(request) = waiter.nested.pop_front() {
                    Step::Run(request)
                } else if let Some(end) = &state.end {
                    let end = end.clone();
                    state.waiters.remove(&wait);
                    Step::Ended(end)
                } else if waiter.deadline.is_some_and(|until| until <= Instant::now()) {
                    Step::Expired
                } else if let Some(epoch) = mine {
                    Step::Read(epoch)
                } else {
                    match state.reader {
                        Reader::Nobody | Reader::Idle(_) => {
                            if let (Reader::Idle(_), Some(waker)) =
                                (state.reader, &state.idle_waker)
                            {
                                waker.wake();
                            }
                            state.epoch += 1;
                            state.reader = Reader::Busy(state.epoch);
                            state.idle_waker = Some(threads::waker());
                            mine = Some(state.epoch);
                            Step::Read(state.epoch)
                        }
                        Reader::Busy(_) => {
                            waiter.parked = true;
                            let mut time = shorter(threads::signal_check(), waiter.deadline);
                            if !waiter.nested.is_empty() {
                                // The peer reads too slowly: look again soon.
                                let soon = Duration::from_millis(20);
                                time = Some(time.map_or(soon, |time| time.min(soon)));
                            }
                            Step::Park(Arc::clone(&waiter.waker), time)
                        }
                    }
                }
            };
            match step {
                Step::Done(answer) => {
                    self.leave_reading(mine);
                    self.drop_garbage();
                    return Ok(Some(answer));
                }
                Step::Expired => {
                    self.give_up(py, wait, &mut mine)?;
                    return Ok(None);
                }
                Step::Ended(end) => {
                    self.leave_reading(mine);
                    self.drop_garbage();
                    return Err(errors::session_ended(&self.peer, &end));
                }
                Step::Run(request) => {
                    // Others may read while the nested call runs.
                    self.leave_reading(mine.take());
                    run(py, request);
                }
                Step::Read(epoch) => {
                    let seen = self.read_for(py, epoch, Some(wait));
                    match seen {
                        Seen::Interrupted => self.check_signals(py, wait, &mut mine)?,
                        Seen::LostRight => mine = None,
                        Seen::Work => self.call_workers(),
                        Seen::Mine | Seen::Woken | Seen::Ended => {}
                    }
                }
                Step::Park(waker, time) => {
                    let interrupted = threads::detach(py, || park(&waker, time));
                    if interrupted {
                        self.check_signals(py, wait, &mut mine)?;
                    }
                }
            }
        }
    }

    /// Runs Python's signal handlers; an exception of theirs (Ctrl-C) cancels the call.
    fn check_signals(&self, py: Python<'_>, wait: Wait, mine: &mut Option<u64>) -> PyResult<()> {
        let Err(error) = py.check_signals() else {
            return Ok(());
        };
        self.give_up(py, wait, mine)?;
        Err(error)
    }

    /// Cancels what this thread waits for.
    fn give_up(&self, py: Python<'_>, wait: Wait, mine: &mut Option<u64>) -> PyResult<()> {
        {
            let mut state = self.state();
            if let Some(waiter) = state.waiters.remove(&wait)
                && waiter.answer.is_none()
            {
                // The reply comes all the same, and is let go then.
                let _ = state.engine.cancel(waiter.question);
            }
        }
        self.leave_reading(mine.take());
        // The cancelled call may go on over there: later calls are not to wait for it.
        threads::renew();
        self.flush(py)
    }

    /// Gives the right to read to a parked waiter, or leaves it to the workers.
    fn leave_reading(&self, mine: Option<u64>) {
        let Some(epoch) = mine else { return };
        let mut state = self.state();
        if state.reader == Reader::Busy(epoch) {
            state.reader = Reader::Nobody;
            state.idle_waker = None;
            state.activity += 1;
            if let Some(waiter) = state
                .waiters
                .values()
                .find(|w| w.parked && w.answer.is_none())
            {
                waiter.waker.wake();
            } else {
                self.keep_watch(&state);
            }
        }
    }

    /// Makes sure that a worker is awake to take over reading if nobody else does.
    fn keep_watch(&self, state: &State) {
        if state.sleeping > 0 && state.sleeping + state.working >= state.workers {
            self.work_ready.notify_one();
        }
    }

    /// Reads and hands out until something for `wait` (or any work, for a worker) has arrived.
    fn read_for(&self, py: Python<'_>, epoch: u64, wait: Option<Wait>) -> Seen {
        match &self.channel {
            Channel::Stream(stream) => {
                let waker = threads::waker();
                threads::detach(py, || self.read_stream(stream, &waker, epoch, wait))
            }
            Channel::Functions { receive, .. } => self.read_function(py, receive, wait),
        }
    }

    fn read_function(&self, py: Python<'_>, receive: &Py<PyAny>, wait: Option<Wait>) -> Seen {
        let received = receive.call0(py).and_then(|data| {
            let data = data.into_bound(py).cast_into::<PyBytes>()?;
            let mut deframer = self.deframer.lock().unwrap_or_else(PoisonError::into_inner);
            let bytes = data.as_bytes();
            let mut frames = VecDeque::new();
            let whole = deframer.extend(bytes, |frame| frames.push_back(Ok(Some(frame))));
            frames.extend(whole.err().map(Err));
            Ok((
                bytes.is_empty(),
                self.hand_out(|| frames.pop_front().unwrap_or(Ok(None)), wait),
            ))
        });
        match received {
            Ok((true, _)) => {
                self.end(End::Lost(
                    "its receive function returned no bytes: the channel has ended".into(),
                ));
                Seen::Ended
            }
            Ok((false, seen)) => {
                // The answer to a ping; a send that fails ends the session.
                let _ = self.flush(py);
                seen.unwrap_or(Seen::Woken)
            }
            Err(error) => {
                self.end(End::Lost(format!("its receive function failed: {error}")));
                Seen::Ended
            }
        }
    }

    fn read_stream(&self, stream: &Stream, waker: &Waker, epoch: u64, wait: Option<Wait>) -> Seen {
        let mut gathered = 0;
        loop {
            let (writing, reader, releases, deadline) = {
                let state = self.state();
                let deadline = wait.and_then(|wait| state.waiters.get(&wait)?.deadline);
                let releases = state.engine.releases_pending();
                (state.blocked, state.reader, releases, deadline)
            };
            if !holds(reader, epoch) {
                return Seen::LostRight;
            }
            // While the session is idle, releases gather for a moment and then go in one message.
            let timeout = match reader {
                Reader::Idle(_) => (releases > 0).then_some(GATHER),
                _ => shorter(threads::signal_check(), deadline),
            };
            let ready = match stream.wait(
                Interest {
                    read: true,
                    write: writing,
                },
                Some(waker),
                timeout,
            ) {
                Ok(ready) => ready,
                Err(error) => {
                    self.end(End::Lost(error.to_string()));
                    return Seen::Ended;
                }
            };
            if ready.interrupted {
                return Seen::Interrupted;
            }
            if ready.woken {
                waker.drain();
            }
            if ready.timed_out && matches!(reader, Reader::Busy(_)) {
                return Seen::Interrupted;
            }
            if ready.timed_out && releases > gathered {
                // More objects are dying: they go together.
                gathered = releases;
            } else if ready.timed_out {
                gathered = 0;
                // On a closed session there is nothing to give back.
                let _ = self.state().engine.flush_releases();
                self.write_some(stream);
            }
            if ready.writable {
                self.write_some(stream);
                // Requests have waited for this.
                let mut state = self.state();
                if !state.congested() {
                    let nested = wait.and_then(|wait| state.waiters.get(&wait));
                    if nested.is_some_and(|waiter| !waiter.nested.is_empty()) {
                        return Seen::Mine;
                    }
                    if !state.work.is_empty() {
                        return Seen::Work;
                    }
                }
            }
            if ready.readable {
                match self.read_once(stream, epoch, wait) {
                    Ok(_) => {}
                    Err(seen) => return seen,
                }
            }
            // An idle worker is woken to look at the right and at the releases, and reads on.
            if ready.woken && wait.is_some() {
                return Seen::Woken;
            }
        }
    }

    /// One read; whether it brought anything, or what ends the reading.
    fn read_once(&self, stream: &Stream, epoch: u64, wait: Option<Wait>) -> Result<bool, Seen> {
        let mut deframer = self.deframer.lock().unwrap_or_else(PoisonError::into_inner);
        if !holds(self.state().reader, epoch) {
            return Err(Seen::LostRight);
        }
        match stream.try_read(deframer.space(READ_AT_LEAST)) {
            Ok(Some(0)) => {
                self.end(End::Lost("the other side is gone (end of stream)".into()));
                Err(Seen::Ended)
            }
            Ok(Some(count)) => {
                deframer.advance(count);
                self.hand_out(|| deframer.next_frame(), wait)
                    .map_or(Ok(true), Err)
            }
            Ok(None) => Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(false),
            Err(error) => {
                self.end(End::Lost(error.to_string()));
                Err(Seen::Ended)
            }
        }
    }

    /// Feeds complete frames to the engine; tells the reader why it should stop reading, if it should.
    fn hand_out(
        &self,
        mut next: impl FnMut() -> Result<Option<Frame>, objspace_proto::Error>,
        wait: Option<Wait>,
    ) -> Option<Seen> {
        let mut guard = self.state();
        let state = &mut *guard;
        state.activity += 1;
        state.reads += 1;
        loop {
            let frame = match next() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    drop(guard);
                    self.broken(&error);
                    return Some(Seen::Ended);
                }
            };
            let event = match state.engine.handle_frame(frame) {
                Ok(event) => event,
                Err(error) => {
                    drop(guard);
                    self.broken(&error);
                    return Some(Seen::Ended);
                }
            };
            if let Some(end) = state.take(event, wait) {
                drop(guard);
                self.end(end);
                return Some(Seen::Ended);
            }
        }
        // The answer to a ping, which no host gives, must not wait for another message.
        let owed = !state.engine.poll_output().is_empty();
        let seen = state.seen(wait);
        // Work for others that came in the same read must not wait for this thread.
        if matches!(seen, Some(Seen::Mine)) && !state.work.is_empty() {
            self.call_workers();
        }
        drop(guard);
        if owed && let Channel::Stream(stream) = &self.channel {
            self.write_some(stream);
        }
        seen
    }

    fn broken(&self, error: &objspace_proto::Error) {
        let reason = error.to_string();
        if let Some(code) = error.close_code() {
            // A session that is closed already has said farewell.
            let _ = self.state().engine.close(code, &reason);
        }
        if let Channel::Stream(stream) = &self.channel {
            self.write_some(stream);
        }
        self.end(End::Broken(reason));
    }

    /// A proxy of this session has died: its entry goes now, the peer is told later.
    ///
    /// Called from a destructor: it neither runs Python code nor writes to the stream.
    pub(crate) fn forget(&self, import: ImportId, proxy: u64) {
        if self.inherited() {
            return;
        }
        let mut state = self.state();
        let first = state.engine.releases_pending() == 0;
        state.engine.unbind(import, proxy);
        if first && let (Reader::Idle(_), Some(waker)) = (state.reader, &state.idle_waker) {
            waker.wake();
        }
    }

    // ------------------------------------------------------------------ ending

    /// Ends the session: everybody who waits is told, everything the peer held is let go.
    pub(crate) fn end(&self, end: End) {
        if self.inherited() {
            return;
        }
        let mut state = self.state();
        if state.end.is_some() {
            return;
        }
        state.end = Some(end);
        let mut dropped = state.engine.lost();
        state.garbage.append(&mut dropped);
        state.work.clear();
        state.lanes.clear();
        state.deadlines.clear();
        state.shapes.clear();
        for waiter in state.waiters.values() {
            waiter.waker.wake();
        }
        if let Some(waker) = &state.idle_waker {
            waker.wake();
        }
        self.work_ready.notify_all();
        drop(state);
        if let Channel::Stream(stream) = &self.channel {
            stream.shutdown();
        }
    }

    /// Ends the session on this side, with a last word to the peer. Again: no effect.
    pub(crate) fn close(&self, py: Python<'_>, code: CloseCode, reason: &str) {
        let open = {
            let mut state = self.state();
            // A session that is closed already has said its last word.
            state.end.is_none() && state.engine.close(code, reason).is_ok()
        };
        if open {
            // A peer that is gone already needs no farewell.
            let _ = self.flush(py);
        }
        self.end(End::Closed);
        self.drop_garbage();
    }

    /// Drops what the peer has released. The caller is attached to Python.
    pub(crate) fn drop_garbage(&self) {
        let garbage = std::mem::take(&mut self.state().garbage);
        drop(garbage);
    }
}

fn all_links() -> MutexGuard<'static, Vec<Weak<Link>>> {
    static LINKS: Mutex<Vec<Weak<Link>>> = Mutex::new(Vec::new());
    LINKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends every session of this process and gives its threads a moment to leave: a thread that comes
/// back to an interpreter that is shutting down takes the process down.
#[pyfunction]
pub(crate) fn end_all_sessions(py: Python<'_>) {
    let links: Vec<_> = all_links()
        .iter()
        .filter_map(Weak::upgrade)
        .filter(|link| !link.inherited())
        .collect();
    for link in &links {
        link.end(End::Closed);
        link.drop_garbage();
    }
    for _ in 0..500 {
        if threads::detached() == 0 {
            break;
        }
        py.detach(|| std::thread::sleep(Duration::from_millis(1)));
    }
}

/// Performs one request of the peer and replies.
pub(crate) type Serve = dyn Fn(Python<'_>, Request) + Send + Sync;

/// Waits until the waker is woken; true if signals are to be looked at.
pub(crate) fn park(waker: &Waker, timeout: Option<Duration>) -> bool {
    waker
        .wait(timeout)
        .is_ok_and(|ready| ready.interrupted || ready.timed_out)
}

/// So many classes may be described before any of them is mentioned.
const MOST_UNREAD_SHAPES: usize = 4096;

/// Requests of a peer that leaves more than so much unread have to wait.
const CONGESTED: usize = 16 << 20;

/// How much room a read gets at least.
const READ_AT_LEAST: usize = 16 << 10;

/// The time until `deadline`, but at most `time`.
fn shorter(time: Option<Duration>, deadline: Option<Instant>) -> Option<Duration> {
    let left = deadline.map(|until| until.saturating_duration_since(Instant::now()));
    match (time, left) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn holds(reader: Reader, epoch: u64) -> bool {
    matches!(reader, Reader::Busy(e) | Reader::Idle(e) if e == epoch)
}

impl State {
    /// What is to be written, if there is anything and nobody writes it already.
    fn start_writing(&mut self) -> Option<Output> {
        if self.flushing {
            return None;
        }
        if self.unsent.is_empty() {
            std::mem::swap(&mut self.unsent, self.engine.poll_output());
        }
        if self.unsent.is_empty() {
            return None;
        }
        self.flushing = true;
        Some(std::mem::take(&mut self.unsent))
    }

    fn stop_writing(&mut self, rest: Output) {
        self.flushing = false;
        self.unsent = rest;
    }

    /// Why a reader should stop reading after what has come, if it should.
    fn seen(&self, wait: Option<Wait>) -> Option<Seen> {
        let waiter = wait.and_then(|wait| self.waiters.get(&wait));
        if waiter.is_some_and(|waiter| waiter.answer.is_some() || !waiter.nested.is_empty()) {
            return Some(Seen::Mine);
        }
        (!self.work.is_empty() || !self.garbage.is_empty()).then_some(Seen::Work)
    }

    /// Takes the right to read if nobody has it.
    fn take_right(&mut self, kind: fn(u64) -> Reader) -> Option<u64> {
        if self.reader != Reader::Nobody || self.end.is_some() {
            return None;
        }
        self.epoch += 1;
        self.reader = kind(self.epoch);
        Some(self.epoch)
    }

    /// A request of the peer has been answered.
    pub(crate) fn ran(&mut self, answer: AnswerId) {
        if let Some(at) = self.running.iter().rposition(|run| run.answer == answer) {
            self.running.swap_remove(at);
            self.served += 1;
        }
    }

    /// How many bytes wait to be written.
    pub(crate) fn waiting_to_be_written(&mut self) -> usize {
        self.unsent.len() + self.engine.poll_output().len()
    }

    /// Whether a call of the peer runs or waits to, or a reply is still on its way.
    pub(crate) fn busy(&mut self) -> bool {
        self.end.is_none()
            && (self.working > 0
                || !self.work.is_empty()
                || self.flushing
                || !self.unsent.is_empty()
                || !self.engine.poll_output().is_empty())
    }

    /// Whether the peer is so far behind with reading that it gets no more replies for now: what
    /// waits to be written is bounded by this, however much is asked.
    fn congested(&mut self) -> bool {
        self.blocked && self.waiting_to_be_written() > CONGESTED
    }

    /// The next call that may run now; its logical thread is then busy.
    fn next_work(&mut self) -> Option<Request> {
        if self.congested() {
            return None;
        }
        while let Some(request) = self.work.pop_front() {
            let thread = request.thread();
            if let Some(lane) = self.lanes.get_mut(&thread) {
                lane.push_back(request);
            } else {
                self.lanes.insert(thread, VecDeque::new());
                self.running.push(request.running());
                return Some(request);
            }
        }
        None
    }

    /// Sorts what arrived. Returns why the session ends, if it does.
    fn take(&mut self, event: Event<Held>, reader: Option<Wait>) -> Option<End> {
        match event {
            Event::Call(call) => return self.route(Request::Call(call), reader),
            Event::Fetch(fetch) => return self.route(Request::Fetch(fetch), reader),
            Event::Reply {
                question,
                outcome,
                payload,
            } => {
                let wait = self.waits.remove(&question);
                if let Some(wait) = wait
                    && let Some(waiter) = self.waiters.get_mut(&wait)
                {
                    waiter.answer = Some(Answer { outcome, payload });
                    if reader != Some(wait) {
                        waiter.waker.wake();
                    }
                } else {
                    // Nobody waits any more (the call was cancelled): what it brought goes back.
                    let _ = self.engine.discard(&payload, 0);
                    self.garbage
                        .append(&mut self.engine.finish_reading(payload.ticket()));
                }
            }
            Event::Released(mut objects) => self.garbage.append(&mut objects),
            Event::Shape { class, payload } => return self.keep_shape(class, payload),
            Event::Closed { reason, .. } => return Some(End::ByPeer(reason)),
            _ => {}
        }
        None
    }

    /// Keeps a shape until its class is first met. Two threads of the peer may both have sent it: the
    /// first counts.
    fn keep_shape(&mut self, class: ImportId, payload: Received) -> Option<End> {
        if self.shaped.insert(class) {
            self.shapes.insert(class, payload);
            if self.shapes.len() > MOST_UNREAD_SHAPES {
                let reason = "it describes classes that it never mentions";
                return Some(End::Broken(reason.into()));
            }
        } else {
            // It refers to nothing that the first did not.
            let _ = self.engine.discard(&payload, 0);
            self.garbage
                .append(&mut self.engine.finish_reading(payload.ticket()));
        }
        None
    }

    /// Gives a request to whoever is to run it. Returns why the session ends, if it does.
    fn route(&mut self, request: Request, reader: Option<Wait>) -> Option<End> {
        if let Some((answer, milliseconds)) = request.deadline() {
            self.deadlines.insert(answer, deadline::after(milliseconds));
        }
        self.weight += request.weight();
        if self.weight > self.engine.limits().message_size.saturating_mul(2) {
            let reason = "more than twice the limit of a message waits in its requests";
            return Some(End::Broken(reason.into()));
        }
        if let Some(parent) = request.parent()
            && let Some(wait) = self.waits.get(&parent).copied()
            && let Some(waiter) = self.waiters.get_mut(&wait)
        {
            waiter.nested.push_back(request);
            if reader != Some(wait) {
                waiter.waker.wake();
            }
            return None;
        }
        self.work.push_back(request);
        None
    }
}

/// Writes as much as the stream takes; whether it took anything.
fn write_output(stream: &Stream, output: &mut Output) -> std::io::Result<bool> {
    let mut some = false;
    while !output.is_empty() {
        let slices: Vec<IoSlice<'_>> = output.chunks().take(64).map(IoSlice::new).collect();
        match stream.try_write_vectored(&slices)? {
            Some(written) => {
                some = true;
                output.advance(written);
            }
            None => break,
        }
    }
    Ok(some)
}
