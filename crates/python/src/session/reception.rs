//! What a server does with those who connect: it greets each on a thread of its own, without Python
//! and for a limited time, and gives those it lets in a session.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use objspace_net::handshake::Admission;
use objspace_net::{Listener, ServerSecurity, Stream, Waker, Welcomed};
use pyo3::prelude::*;

use super::connection::Connection;
use super::operator::LastError;
use super::policy::Policy;
use super::{Options, Session};

/// So many may be in the handshake at a time: the oldest is given up for one more.
const IN_HANDSHAKE: usize = 128;

/// What the threads of one server share.
pub(super) struct Reception {
    pub(super) names: Py<PyAny>,
    pub(super) policy: Py<Policy>,
    pub(super) security: ServerSecurity,
    pub(super) options: Options,
    pub(super) max_clients: usize,
    pub(super) handshake_timeout: Duration,
    pub(super) operators: Operators,
    pub(super) address: String,
    pub(super) started: Instant,
    pub(super) last_error: Mutex<Option<LastError>>,
    /// The event loop that ran where the server was made.
    event_loop: Option<Py<PyAny>>,
    /// Ends the wait for the next connection.
    pub(super) waker: Waker,
    guests: Mutex<Guests>,
}

/// A client's way to its server.
#[derive(Clone)]
pub(crate) struct Host {
    reception: Weak<Reception>,
    /// The client has proved who it is, or could not have come otherwise.
    pub(super) trusted: bool,
    pub(super) since: Instant,
}

impl Host {
    /// The server, while it lives.
    pub(super) fn reception(&self) -> Option<Arc<Reception>> {
        self.reception.upgrade()
    }
}

/// What those who operate a server may ask of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operators {
    /// Its status, also without having proved who they are.
    pub(super) status: bool,
    /// Its last error, to debug it: which is any code.
    pub(super) debug: bool,
    /// Only the user that runs the server can reach it (a Unix socket, pipes).
    pub(super) private: bool,
}

/// Who is here.
#[derive(Default)]
pub(super) struct Guests {
    /// Nobody else is let in.
    pub(super) closing: bool,
    /// The listener is to leave.
    pub(super) closed: bool,
    live: Vec<Weak<Connection>>,
    /// Let in by the handshake, and not among the live ones yet.
    coming: usize,
    /// In the handshake, the oldest first.
    greeting: VecDeque<Arc<Waker>>,
    admitted: u64,
    pub(super) refused: u64,
    pub(super) last_refusal: Option<String>,
}

impl Guests {
    /// Whether somebody came and all have left.
    pub(super) fn deserted(&mut self) -> bool {
        self.admitted + self.refused > 0 && self.greeting.is_empty() && self.live().is_empty()
    }

    /// The sessions that have not ended.
    pub(super) fn live(&mut self) -> Vec<Arc<Connection>> {
        self.live.retain(|guest| guest.strong_count() > 0);
        self.live
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|guest| guest.link.state().end.is_none())
            .collect()
    }
}

impl Reception {
    #[allow(clippy::too_many_arguments, reason = "the parts of one value")]
    pub(super) fn new(
        names: Py<PyAny>,
        policy: Py<Policy>,
        security: ServerSecurity,
        options: Options,
        max_clients: usize,
        handshake_timeout: Duration,
        operators: Operators,
        address: String,
        event_loop: Option<Py<PyAny>>,
    ) -> PyResult<Arc<Self>> {
        Ok(Arc::new(Self {
            names,
            policy,
            security,
            options,
            max_clients,
            handshake_timeout,
            operators,
            address,
            started: Instant::now(),
            last_error: Mutex::new(None),
            event_loop,
            waker: Waker::new()?,
            guests: Mutex::default(),
        }))
    }

    pub(super) fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets nobody else in, and gives up those in the handshake.
    pub(super) fn stop(&self) {
        let mut guests = self.guests();
        guests.closing = true;
        guests.closed = true;
        for greeting in guests.greeting.drain(..) {
            greeting.wake();
        }
        drop(guests);
        self.waker.wake();
    }

    /// Accepts until the server is closed.
    pub(super) fn accept(self: &Arc<Self>, listener: &Listener) {
        loop {
            if self.guests().closed {
                return;
            }
            match listener.accept(Some(&self.waker)) {
                Ok(Some(stream)) => self.receive(stream),
                Ok(None) => {
                    self.waker.drain();
                }
                Err(error) if error.is_interrupted() => {}
                // Out of descriptors or memory: it may pass.
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn receive(self: &Arc<Self>, stream: Stream) {
        // Without a free descriptor nobody can be greeted: dropping the stream says so.
        let Ok(waker) = Waker::new().map(Arc::new) else {
            return;
        };
        {
            let mut guests = self.guests();
            if guests.closed {
                return;
            }
            if guests.greeting.len() >= IN_HANDSHAKE
                && let Some(oldest) = guests.greeting.pop_front()
            {
                oldest.wake();
            }
            guests.greeting.push_back(Arc::clone(&waker));
        }
        let reception = Arc::clone(self);
        let greeter = Arc::clone(&waker);
        let spawned = std::thread::Builder::new()
            .name("objspace-greeting".into())
            .stack_size(512 << 10)
            .spawn(move || reception.greet(stream, &greeter));
        if spawned.is_err() {
            self.greeted(&waker);
        }
    }

    fn greeted(&self, waker: &Arc<Waker>) {
        self.guests()
            .greeting
            .retain(|other| !Arc::ptr_eq(other, waker));
    }

    fn greet(self: &Arc<Self>, stream: Stream, waker: &Arc<Waker>) {
        let mut coming = 0;
        let mut room = || {
            let mut guests = self.guests();
            if guests.closing {
                Admission::GoingAway
            } else if guests.live().len() + guests.coming >= self.max_clients {
                Admission::Busy
            } else {
                guests.coming += 1;
                coming = 1;
                Admission::Open
            }
        };
        let time = self.handshake_timeout;
        let result = objspace_net::welcome(stream, &self.security, &mut room, time, waker);
        match result {
            Ok(welcomed) => {
                // None: the interpreter is shutting down.
                let _ = Python::try_attach(|py| self.let_in(py, welcomed));
            }
            Err(error) => {
                let mut guests = self.guests();
                guests.refused += 1;
                guests.last_refusal = Some(error.to_string());
            }
        }
        self.guests().coming -= coming;
        self.greeted(waker);
    }

    fn let_in(self: &Arc<Self>, py: Python<'_>, welcomed: Welcomed) {
        let peer = if self.operators.private {
            // They have no addresses that tell them apart.
            let number = self.guests().admitted + 1;
            format!("client {number} at {}", welcomed.stream.peer())
        } else {
            format!("the client at {}", welcomed.stream.peer())
        };
        let connection = Session::over_stream(
            py,
            welcomed.stream,
            peer,
            Some(self.names.bind(py).clone()),
            self.policy.clone_ref(py),
            Options {
                host: Some(Host {
                    reception: Arc::downgrade(self),
                    trusted: welcomed.authenticated || self.operators.private,
                    since: Instant::now(),
                }),
                ..self.options.clone()
            },
        );
        if let Some(event_loop) = &self.event_loop {
            connection.choose_event_loop(event_loop.bind(py));
        }
        let mut guests = self.guests();
        if guests.closing {
            drop(guests);
            super::server::farewell(py, &connection.link);
        } else {
            guests.admitted += 1;
            guests.live.push(Arc::downgrade(&connection));
        }
    }
}
