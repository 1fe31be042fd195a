//! A listener that gives every client a session over the same exported names.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use objspace_net::{Listener, Stream, Waker};
use objspace_proto::CloseCode;
use pyo3::exceptions::{PyPermissionError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};

use super::connection::Connection;
use super::link::Link;
use super::policy::Policy;
use super::{Session, endpoint};

/// Serves a mapping of names to objects on a URL.
///
/// `Server({"x": obj}, "tcp://127.0.0.1:7000").start()` returns at once; `address` is the URL that
/// clients connect to (with the port that was chosen if it was 0); `close()` ends it. A server is a
/// context manager that starts and closes itself. Policy: `Policy.public()` unless given.
#[pyclass(frozen, module = "objspace", name = "Server", weakref)]
pub(crate) struct Server {
    shared: Arc<Shared>,
    names: Py<PyAny>,
    policy: Py<Policy>,
    address: String,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    listener: Mutex<Option<Listener>>,
    waker: Waker,
    sessions: Mutex<Sessions>,
    /// The event loop that ran where the server was made.
    event_loop: Option<Py<PyAny>>,
}

struct Sessions {
    closed: bool,
    live: Vec<Weak<Connection>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (names, url, *, policy = None))]
    fn new(
        py: Python<'_>,
        names: Bound<'_, PyAny>,
        url: &str,
        policy: Option<Py<Policy>>,
    ) -> PyResult<Self> {
        if names.cast::<PyMapping>().is_err() {
            return Err(PyTypeError::new_err(format!(
                "a server exports a mapping of names to objects, such as {{\"x\": obj}}, not a '{}' object",
                names.get_type().name()?
            )));
        }
        let endpoint = endpoint(url)?;
        if !endpoint.is_local() {
            return Err(refused(url));
        }
        let listener = py
            .detach(|| Listener::bind(&endpoint))
            .map_err(|error| PyErr::from(std::io::Error::other(error.to_string())))?;
        let local = listener.local();
        if !local.is_local() {
            return Err(refused(url));
        }
        let policy = policy.map_or_else(|| Py::new(py, Policy::ordinary()), Ok)?;
        Ok(Self {
            shared: Arc::new(Shared {
                listener: Mutex::new(Some(listener)),
                waker: Waker::new()?,
                sessions: Mutex::new(Sessions {
                    closed: false,
                    live: Vec::new(),
                }),
                event_loop: super::awaiting::running_loop(py)?.map(Bound::unbind),
            }),
            names: names.unbind(),
            policy,
            address: local.to_string(),
            accepting: Mutex::new(None),
        })
    }

    /// The URL that clients connect to.
    #[getter]
    fn address(&self) -> &str {
        &self.address
    }

    /// Accepts clients from now on, on a thread of its own. Returns the server.
    fn start(this: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        let server = this.get();
        let mut accepting = lock(&server.accepting);
        if accepting.is_none() {
            let Some(listener) = lock(&server.shared.listener).take() else {
                return Err(PyRuntimeError::new_err(
                    "the server is closed: make a new one",
                ));
            };
            let shared = Arc::clone(&server.shared);
            let (names, policy) = (
                server.names.clone_ref(this.py()),
                server.policy.clone_ref(this.py()),
            );
            let thread = std::thread::Builder::new()
                .name("objspace-accept".into())
                .spawn(move || accept_loop(&shared, &listener, &names, &policy))?;
            *accepting = Some(thread);
        }
        drop(accepting);
        Ok(this)
    }

    /// Accepts clients and waits until the server is closed or interrupted (Ctrl-C).
    fn serve_forever(this: Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let this = Self::start(this)?;
        let server = this.get();
        let waker = super::threads::waker();
        loop {
            if lock(&server.shared.sessions).closed {
                return Ok(());
            }
            // A signal ends this wait early; the bound is for `close()` by another thread.
            py.detach(|| super::link::park(&waker, Some(Duration::from_millis(200))));
            if let Err(error) = py.check_signals() {
                server.close(py);
                return Err(error);
            }
        }
    }

    /// Stops listening and ends the sessions of all clients. Again: no effect.
    fn close(&self, py: Python<'_>) {
        let live = {
            let mut sessions = lock(&self.shared.sessions);
            sessions.closed = true;
            std::mem::take(&mut sessions.live)
        };
        drop(lock(&self.shared.listener).take());
        self.shared.waker.wake();
        let thread = lock(&self.accepting).take();
        if let Some(thread) = thread {
            // A panic there has been reported by its own thread.
            let _ = py.detach(|| thread.join());
        }
        for connection in live.iter().filter_map(Weak::upgrade) {
            farewell(py, &connection.link);
        }
    }

    fn __enter__(this: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        Self::start(this)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        format!("<objspace.Server at {}>", self.address)
    }

    /// The counts of all live sessions together, as of `Session.stats()`.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let live: Vec<_> = lock(&self.shared.sessions)
            .live
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        let total = PyDict::new(py);
        let mut open = 0u64;
        for connection in live {
            let state = connection.link.state();
            if state.end.is_some() {
                continue;
            }
            open += 1;
            let stats = state.engine.stats();
            drop(state);
            for (name, value) in [("exports", stats.exports), ("imports", stats.imports)] {
                let sum: usize = total.get_item(name)?.map_or(Ok(0), |sum| sum.extract())?;
                total.set_item(name, sum + value)?;
            }
        }
        total.set_item("sessions", open)?;
        Ok(total)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        lock(&self.shared.sessions).closed = true;
        self.shared.waker.wake();
    }
}

fn refused(url: &str) -> PyErr {
    PyPermissionError::new_err(format!(
        "{url} can be reached from other machines, and a listener there needs TLS or a shared key, which \
         are not available yet: bind to 127.0.0.1 or a unix:// path, and let ssh forward it"
    ))
}

fn farewell(py: Python<'_>, link: &Link) {
    link.close(py, CloseCode::GOING_AWAY, "the server is closing");
}

fn accept_loop(shared: &Arc<Shared>, listener: &Listener, names: &Py<PyAny>, policy: &Py<Policy>) {
    loop {
        if lock(&shared.sessions).closed {
            return;
        }
        match listener.accept(Some(&shared.waker)) {
            Ok(Some(stream)) => {
                let served = Python::try_attach(|py| welcome(py, shared, stream, names, policy));
                if served.is_none() {
                    return;
                }
            }
            Ok(None) => {
                shared.waker.drain();
            }
            Err(error) if error.is_interrupted() => {}
            // Out of descriptors or memory: it may pass.
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn welcome(
    py: Python<'_>,
    shared: &Arc<Shared>,
    stream: Stream,
    names: &Py<PyAny>,
    policy: &Py<Policy>,
) {
    let peer = format!("the client at {}", stream.peer());
    let connection = Session::over_stream(
        py,
        stream,
        peer,
        Some(names.bind(py).clone()),
        policy.clone_ref(py),
    );
    if let Some(event_loop) = &shared.event_loop {
        connection.choose_event_loop(event_loop.bind(py));
    }
    let mut sessions = lock(&shared.sessions);
    sessions
        .live
        .retain(|connection| connection.strong_count() > 0);
    if sessions.closed {
        drop(sessions);
        farewell(py, &connection.link);
    } else {
        sessions.live.push(Arc::downgrade(&connection));
    }
}
