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

mod ending;
mod heartbeat;
pub(crate) mod notices;
mod reading;
mod routing;
mod waiting;
mod workers;
mod writing;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use objspace_net::{Stream, Waker};
use objspace_proto::{
    AnswerId, Deframer, FetchKind, ImportId, IncomingCall, IncomingFetch, IncomingTarget, Op,
    Outcome, Output, QuestionId, Received, Session as Engine,
};
use pyo3::prelude::*;

use super::errors;
use super::threads::LogicalThread;

pub(crate) use ending::end_all_sessions;
pub(crate) use waiting::park;

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
    /// The requests of the peer that run now, and how many have been answered.
    pub(crate) running: Vec<Running>,
    pub(crate) answered: u64,
    /// When the peer gives up requests that wait to be run.
    pub(crate) deadlines: HashMap<AnswerId, Instant>,
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
    /// Counts the reads that brought something, and the writes that took something.
    reads: u64,
    writes: u64,
    /// Counts reads and hand-overs, so that a worker sees whether anything happened.
    activity: u64,
    sleeping: u32,
    workers: u32,
    working: u32,
    /// Calls that workers have run since a caller last wanted to read in place of one.
    served: u32,
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
                answered: 0,
                deadlines: HashMap::new(),
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
                reads: 0,
                writes: 0,
                activity: 0,
                sleeping: 0,
                workers: 0,
                working: 0,
                served: 0,
                round_trips: 0,
                end: None,
            }),
            deframer: Mutex::new(deframer),
            channel,
            work_ready: Condvar::new(),
            process: std::process::id(),
            peer,
        });
        let mut links = ending::all_links();
        links.retain(|link| link.strong_count() > 0);
        links.push(Arc::downgrade(&link));
        link
    }

    /// The engine and the tables. Never held while Python code can run.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of a session that has not ended; the error that says so if it has.
    pub(crate) fn open_state(&self) -> PyResult<MutexGuard<'_, State>> {
        let state = self.state();
        match &state.end {
            None => Ok(state),
            Some(end) => {
                let end = end.clone();
                drop(state);
                Err(errors::session_ended(&self.peer, &end))
            }
        }
    }

    /// Whether this is a forked child of the process that opened the session. Nothing of the
    /// session may be touched then: its locks may be held by threads that are not here.
    pub(crate) fn inherited(&self) -> bool {
        self.process != std::process::id()
    }
}

/// Performs one request of the peer and replies.
pub(crate) type Serve = dyn Fn(Python<'_>, Request) + Send + Sync;
