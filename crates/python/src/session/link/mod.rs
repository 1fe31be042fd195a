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

pub(crate) mod notices;
mod workers;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{ErrorKind, IoSlice};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use objspace_net::{Interest, Stream, Waker};
use objspace_proto::{
    CloseCode, Deframer, Event, Frame, ImportId, IncomingCall, IncomingFetch, Outcome, Output,
    QuestionId, Received, Session as Engine,
};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::errors;
use super::threads::{self, LogicalThread};

/// How long releases gather while the session is idle.
const GATHER: Duration = Duration::from_millis(10);

/// An object handed to the peer, kept alive by the table of exports.
pub(crate) type Held = Py<PyAny>;

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
    pub(crate) fn thread(&self) -> LogicalThread {
        match self {
            Self::Call(call) => LogicalThread(call.thread),
            Self::Fetch(fetch) => LogicalThread(fetch.thread),
        }
    }

    fn parent(&self) -> Option<QuestionId> {
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
    /// Logical threads that run a call here now, and the calls that must wait for them.
    lanes: HashMap<LogicalThread, VecDeque<Request>>,
    /// Shapes that arrived and are not turned into classes yet.
    pub(crate) shapes: HashMap<ImportId, Received>,
    /// Classes whose shape has arrived.
    shaped: HashSet<ImportId>,
    /// What is for event loops.
    pub(crate) notices: notices::Notices,
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
                lanes: HashMap::new(),
                shapes: HashMap::new(),
                shaped: HashSet::new(),
                notices: notices::Notices::default(),
                garbage: Vec::new(),
                reader: Reader::Nobody,
                epoch: 0,
                idle_waker: None,
                flushing: false,
                unsent: Output::new(),
                blocked: false,
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
            state.stop_writing(output);
            match written {
                Ok(()) if all => state.blocked = false,
                Ok(()) => {
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
    pub(crate) fn expect(state: &mut State, question: QuestionId) -> Wait {
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
                parked: false,
            },
        );
        state.waits.insert(question, wait);
        wait
    }

    /// Waits for the answer, running calls nested in it meanwhile.
    ///
    /// `run` performs a nested call. `interrupted` is asked on a signal; its error cancels the call.
    pub(crate) fn wait_for(
        self: &Arc<Self>,
        py: Python<'_>,
        wait: Wait,
        mut run: impl FnMut(Python<'_>, Request),
    ) -> PyResult<Answer> {
        enum Step {
            Done(Answer),
            Run(Request),
            Read(u64),
            Park(Arc<Waker>),
            Ended(End),
        }
        let mut mine: Option<u64> = None;
        loop {
            let step = {
                let mut guard = self.state();
                let state = &mut *guard;
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
                } else if let Some(request) = waiter.nested.pop_front() {
                    Step::Run(request)
                } else if let Some(end) = &state.end {
                    let end = end.clone();
                    state.waiters.remove(&wait);
                    Step::Ended(end)
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
                            Step::Park(Arc::clone(&waiter.waker))
                        }
                    }
                }
            };
            match step {
                Step::Done(answer) => {
                    self.leave_reading(mine);
                    self.drop_garbage();
                    return Ok(answer);
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
                Step::Park(waker) => {
                    let interrupted = threads::detach(py, || park(&waker, threads::signal_check()));
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
        self.flush(py)?;
        Err(error)
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
            Ok((false, seen)) => seen.unwrap_or(Seen::Woken),
            Err(error) => {
                self.end(End::Lost(format!("its receive function failed: {error}")));
                Seen::Ended
            }
        }
    }

    fn read_stream(&self, stream: &Stream, waker: &Waker, epoch: u64, wait: Option<Wait>) -> Seen {
        let mut gathered = 0;
        loop {
            let (writing, reader, releases) = {
                let state = self.state();
                (state.blocked, state.reader, state.engine.releases_pending())
            };
            if !holds(reader, epoch) {
                return Seen::LostRight;
            }
            // While the session is idle, releases gather for a moment and then go in one message.
            let timeout = match reader {
                Reader::Idle(_) => (releases > 0).then_some(GATHER),
                _ => threads::signal_check(),
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
            }
            if ready.readable {
                let mut deframer = self.deframer.lock().unwrap_or_else(PoisonError::into_inner);
                if !holds(self.state().reader, epoch) {
                    return Seen::LostRight;
                }
                match stream.try_read(deframer.space(READ_AT_LEAST)) {
                    Ok(Some(0)) => {
                        self.end(End::Lost("the other side is gone (end of stream)".into()));
                        return Seen::Ended;
                    }
                    Ok(Some(count)) => {
                        deframer.advance(count);
                        if let Some(seen) = self.hand_out(|| deframer.next_frame(), wait) {
                            return seen;
                        }
                    }
                    Ok(None) => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => {
                        self.end(End::Lost(error.to_string()));
                        return Seen::Ended;
                    }
                }
            }
            // An idle worker is woken to look at the right and at the releases, and reads on.
            if ready.woken && wait.is_some() {
                return Seen::Woken;
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
        if let Some(wait) = wait
            && state
                .waiters
                .get(&wait)
                .is_some_and(|w| w.answer.is_some() || !w.nested.is_empty())
        {
            // Work for others that came in the same read must not wait for this thread.
            if !state.work.is_empty() || state.notices.any() {
                self.call_workers();
            }
            return Some(Seen::Mine);
        }
        (!state.work.is_empty() || !state.garbage.is_empty() || state.notices.any())
            .then_some(Seen::Work)
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

    /// Gives back what an answer brought that nobody reads. Runs no Python code.
    pub(crate) fn give_back(&self, payload: Received) {
        if self.inherited() {
            return;
        }
        let mut state = self.state();
        let _ = state.engine.discard(&payload, 0);
        let mut dropped = state.engine.finish_reading(payload.ticket());
        state.garbage.append(&mut dropped);
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
        state.notices.end(&end);
        state.end = Some(end);
        let mut dropped = state.engine.lost();
        state.garbage.append(&mut dropped);
        state.work.clear();
        state.lanes.clear();
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

    /// Drops what the peer has released, and delivers what has come for event loops. The caller is
    /// attached to Python.
    pub(crate) fn drop_garbage(&self) {
        let (garbage, notices) = {
            let mut state = self.state();
            (std::mem::take(&mut state.garbage), state.notices.any())
        };
        drop(garbage);
        if notices {
            Python::attach(|py| self.deliver(py));
        }
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

/// How much room a read gets at least.
const READ_AT_LEAST: usize = 16 << 10;

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

    /// Takes the right to read if nobody has it.
    fn take_right(&mut self, kind: fn(u64) -> Reader) -> Option<u64> {
        if self.reader != Reader::Nobody || self.end.is_some() {
            return None;
        }
        self.epoch += 1;
        self.reader = kind(self.epoch);
        Some(self.epoch)
    }

    /// The next call that may run now; its logical thread is then busy.
    fn next_work(&mut self) -> Option<Request> {
        while let Some(request) = self.work.pop_front() {
            let thread = request.thread();
            if let Some(lane) = self.lanes.get_mut(&thread) {
                lane.push_back(request);
            } else {
                self.lanes.insert(thread, VecDeque::new());
                return Some(request);
            }
        }
        None
    }

    /// Sorts what arrived. Returns why the session ends, if it does.
    fn take(&mut self, event: Event<Held>, reader: Option<Wait>) -> Option<End> {
        match event {
            Event::Call(call) => self.route(Request::Call(call), reader),
            Event::Fetch(fetch) => self.route(Request::Fetch(fetch), reader),
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
                } else if let Some(Answer { payload, .. }) =
                    self.notices.answered(question, Answer { outcome, payload })
                {
                    // Nobody waits any more (the call was cancelled): what it brought goes back.
                    let _ = self.engine.discard(&payload, 0);
                    self.garbage
                        .append(&mut self.engine.finish_reading(payload.ticket()));
                } else {
                    self.round_trips += 1;
                }
            }
            Event::Cancelled(answer) => self.notices.cancelled(answer),
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

    fn route(&mut self, request: Request, reader: Option<Wait>) {
        if let Some(parent) = request.parent()
            && let Some(wait) = self.waits.get(&parent).copied()
            && let Some(waiter) = self.waiters.get_mut(&wait)
        {
            waiter.nested.push_back(request);
            if reader != Some(wait) {
                waiter.waker.wake();
            }
            return;
        }
        self.work.push_back(request);
    }
}

/// Writes as much as the stream takes.
fn write_output(stream: &Stream, output: &mut Output) -> std::io::Result<()> {
    while !output.is_empty() {
        let slices: Vec<IoSlice<'_>> = output.chunks().take(64).map(IoSlice::new).collect();
        match stream.try_write_vectored(&slices)? {
            Some(written) => output.advance(written),
            None => break,
        }
    }
    Ok(())
}
