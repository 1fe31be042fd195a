//! A listener that gives every client a session over the same exported names.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use objspace_net::{Endpoint, Listener, ServerSecurity, server_tls};
use objspace_proto::CloseCode;
use pyo3::exceptions::{PyPermissionError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};

use super::link::Link;
use super::policy::Policy;
use super::reception::{Operators, Reception};
use super::secure::{self, Tls};
use super::{Options, endpoint, errors};

/// Serves a mapping of names to objects on a URL.
///
/// `Server({"x": obj}, "tcp://127.0.0.1:7000").start()` returns at once; `address` is the URL that
/// clients connect to (with the port that was chosen if it was 0); `close()` ends it. A server is a
/// context manager that starts and closes itself.
///
/// `policy` is what clients may do (`Policy.public()` unless given); `key` a shared key (as of
/// `connect`); `tls` the certificates of a `tls://` URL, which may be left out with a key;
/// `heartbeat` the seconds within which a dead client is noticed (`None`: never); `max_clients` how
/// many sessions there may be; `handshake_timeout` the seconds that a client has to show who it is.
/// `status=True` tells every client what `objspace top` shows, not only those who have shown a key or
/// a certificate or came by a Unix socket; `debug=True` lets the latter debug the last error of a call
/// with `objspace debug`, which means that they may run any code.
///
/// Raises `PermissionError` for a URL that other machines can reach if clients need neither a key
/// nor a certificate, `OSError` (with its `errno`) if it cannot be listened on, `ValueError` for a
/// URL or files that are wrong.
#[pyclass(frozen, module = "objspace", name = "Server", weakref)]
pub(crate) struct Server {
    reception: Arc<Reception>,
    listener: Mutex<Option<Listener>>,
    address: String,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (names, url, *, policy = None, key = None, tls = None, heartbeat = Some(20.0),
                        max_clients = 1000, handshake_timeout = 10.0, status = false, debug = false))]
    #[allow(
        clippy::too_many_arguments,
        reason = "the keyword arguments of a Python class"
    )]
    fn new(
        py: Python<'_>,
        names: Bound<'_, PyAny>,
        url: &str,
        policy: Option<Py<Policy>>,
        key: Option<Bound<'_, PyAny>>,
        tls: Option<Py<Tls>>,
        heartbeat: Option<f64>,
        max_clients: usize,
        handshake_timeout: f64,
        status: bool,
        debug: bool,
    ) -> PyResult<Self> {
        if names.cast::<PyMapping>().is_err() {
            return Err(PyTypeError::new_err(format!(
                "a server exports a mapping of names to objects, such as {{\"x\": obj}}, not a '{}' object",
                names.get_type().name()?
            )));
        }
        let endpoint = endpoint(url)?;
        let key = secure::shared_key(key.as_ref())?;
        let tls = tls.map(|tls| tls.get().server()).transpose()?;
        let tls = server_tls(&endpoint, tls, key.as_ref()).map_err(errors::network)?;
        let security = ServerSecurity { key, tls };
        let refuse = |endpoint: &Endpoint| !endpoint.is_local() && !security.asks();
        if refuse(&endpoint) {
            return Err(refused(url));
        }
        let listener = py
            .detach(|| Listener::bind(&endpoint))
            .map_err(errors::network)?;
        let local = listener.local();
        if refuse(&local) {
            return Err(refused(url));
        }
        let operators = Operators {
            status,
            debug,
            private: matches!(local, Endpoint::Unix { .. } | Endpoint::Stdio),
        };
        if debug && !operators.private && !security.asks() {
            return Err(PyPermissionError::new_err(format!(
                "debug=True lets whoever connects run any code, and {url} asks nobody who they are: give \
                 a key (key=) or certificates (tls=), or serve at a unix:// path"
            )));
        }
        let policy = policy.map_or_else(|| Py::new(py, Policy::ordinary()), Ok)?;
        let options = Options {
            watched: true,
            heartbeat: secure::heartbeat(heartbeat)?,
            ..Options::default()
        };
        let handshake_timeout = secure::seconds("handshake_timeout", handshake_timeout)?;
        let reception = Reception::new(
            names.unbind(),
            policy,
            security,
            options,
            max_clients,
            handshake_timeout,
            operators,
            local.to_string(),
            super::awaiting::running_loop(py)?.map(Bound::unbind),
        )?;
        Ok(Self {
            reception,
            listener: Mutex::new(Some(listener)),
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
            let Some(listener) = lock(&server.listener).take() else {
                return Err(PyRuntimeError::new_err(
                    "the server is closed: make a new one",
                ));
            };
            let reception = Arc::clone(&server.reception);
            let thread = std::thread::Builder::new()
                .name("objspace-accept".into())
                .spawn(move || reception.accept(&listener))?;
            *accepting = Some(thread);
        }
        drop(accepting);
        Ok(this)
    }

    /// Accepts clients and waits until the server is closed or interrupted (Ctrl-C); on `stdio:`,
    /// where there is one client, until that has left.
    fn serve_forever(this: Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let this = Self::start(this)?;
        let server = this.get();
        let waker = super::threads::waker();
        let one_client = server.address == "stdio:";
        loop {
            let over = {
                let mut guests = server.reception.guests();
                guests.closed || (one_client && guests.deserted())
            };
            if over {
                return Ok(());
            }
            // A signal ends this wait early; the bound is for `close()` by another thread.
            py.detach(|| super::link::park(&waker, Some(Duration::from_millis(200))));
            py.check_signals()?;
        }
    }

    /// Stops listening and ends the sessions of all clients. Again: no effect.
    ///
    /// For up to `grace` seconds, calls that run may finish and their replies arrive; new ones are
    /// refused meanwhile with `ConnectionRefusedError`.
    #[pyo3(signature = (grace = 0.0))]
    fn close(&self, py: Python<'_>, grace: f64) -> PyResult<()> {
        let grace = secure::seconds("grace", grace)?;
        let live = {
            let mut guests = self.reception.guests();
            guests.closing = true;
            guests.live()
        };
        self.reception.stop();
        drop(lock(&self.listener).take());
        let thread = lock(&self.accepting).take();
        if let Some(thread) = thread {
            // A panic there has been reported by its own thread.
            let _ = py.detach(|| thread.join());
        }
        let until = Instant::now() + grace.min(Duration::from_secs(1 << 30));
        for guest in &live {
            guest.turn_away();
        }
        let mut interrupted = Ok(());
        while interrupted.is_ok()
            && Instant::now() < until
            && live.iter().any(|guest| guest.link.state().busy())
        {
            py.detach(|| std::thread::sleep(Duration::from_millis(5)));
            interrupted = py.check_signals();
        }
        for guest in &live {
            farewell(py, &guest.link);
        }
        interrupted
    }

    fn __enter__(this: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        Self::start(this)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close(py, 0.0)
    }

    fn __repr__(&self) -> String {
        format!("<objspace.Server at {}>", self.address)
    }

    /// The live entries `exports` and `imports` of all sessions together, the number of live
    /// `sessions`, and how many were `refused` in the handshake.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (live, refused) = {
            let mut guests = self.reception.guests();
            (guests.live(), guests.refused)
        };
        let (mut exports, mut imports) = (0, 0);
        for guest in &live {
            let stats = guest.link.state().engine.stats();
            exports += stats.exports;
            imports += stats.imports;
        }
        let total = PyDict::new(py);
        total.set_item("exports", exports)?;
        total.set_item("imports", imports)?;
        total.set_item("sessions", live.len())?;
        total.set_item("refused", refused)?;
        Ok(total)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.reception.stop();
    }
}

fn refused(url: &str) -> PyErr {
    PyPermissionError::new_err(format!(
        "{url} can be reached from other machines, and a listener there needs a shared key (key=, or \
         OBJSPACE_KEY) or TLS with client certificates (tls=objspace.TLS(cert=, key=, ca=)): give one, \
         or bind to 127.0.0.1 or a unix:// path"
    ))
}

pub(super) fn farewell(py: Python<'_>, link: &Link) {
    link.close(py, CloseCode::GOING_AWAY, "the server is closing");
}
