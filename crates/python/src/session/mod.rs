//! Sessions: connecting, listening, serving, and the `Session` object that Python sees.

pub(crate) mod awaiting;
pub(crate) mod connection;
pub(crate) mod deadline;
pub(crate) mod errors;
pub(crate) mod gate;
pub(crate) mod link;
pub(crate) mod operator;
pub(crate) mod perform;
pub(crate) mod pipeline;
pub(crate) mod policy;
pub(crate) mod promise;
pub(crate) mod reception;
pub(crate) mod secure;
pub(crate) mod serve;
pub(crate) mod server;
pub(crate) mod threads;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use objspace_net::{Endpoint, Stream};
use objspace_proto::{
    CloseCode, Config, Deframer, FetchKind, Limits, Op, OutgoingTarget, Session as Engine,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyType};

use crate::convert::declared;
use crate::remote::view::RemoteView;
use connection::Connection;
use link::{Channel, Link};
use pipeline::Pipeline;
use policy::Policy;

/// A session with another process: what it exports can be reached through `remote`, and it can
/// reach what this side exports.
#[pyclass(frozen, module = "objspace.distributed", name = "Session", weakref)]
pub(crate) struct Session {
    connection: Arc<Connection>,
}

impl Session {
    fn declare(&self, class: &Bound<'_, PyType>, by_value: bool) -> PyResult<()> {
        let (module, qualname) = declared::name_of(class)?;
        if self.connection.has_twin(&module, &qualname) {
            return Err(PyValueError::new_err(format!(
                "an object of the other side's {module}.{qualname} was met before: declare the class \
                 before it is used"
            )));
        }
        self.connection.declared().declare(class, by_value)
    }

    pub(crate) fn of(connection: Arc<Connection>) -> Self {
        Self { connection }
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Wraps a stream; worker threads serve the peer from now on.
    pub(crate) fn over_stream(
        py: Python<'_>,
        stream: Stream,
        peer: String,
        names: Option<Bound<'_, PyAny>>,
        policy: Py<Policy>,
        options: Options,
    ) -> Arc<Connection> {
        let connection = open(
            py,
            Channel::Stream(stream),
            peer,
            names,
            policy,
            options.host.clone(),
        );
        start_workers(&connection);
        if options.watched {
            connection.link.watch(options.heartbeat);
        }
        connection
    }
}

/// What else is said about a session when it is opened.
#[derive(Clone, Default)]
pub(crate) struct Options {
    /// The peer is another program somewhere: see that it lives, and that it sees that we do.
    pub(crate) watched: bool,
    /// Within which time a dead peer is noticed.
    pub(crate) heartbeat: Option<Duration>,
    /// The server whose client the peer is.
    pub(crate) host: Option<reception::Host>,
}

/// A connection over any channel; nothing serves it yet.
fn open(
    py: Python<'_>,
    channel: Channel,
    peer: String,
    names: Option<Bound<'_, PyAny>>,
    policy: Py<Policy>,
    host: Option<reception::Host>,
) -> Arc<Connection> {
    // The thread that first imports it is the main thread to it, for which the interpreter waits at
    // its end: that must not be a thread that serves.
    if let Err(error) = py.import("threading") {
        error.write_unraisable(py, None);
    }
    let limits = Limits::default();
    let engine = Engine::new(&Config {
        agent: agent(py),
        nonce: nonce(),
        limits,
    });
    let link = Link::new(engine, Deframer::new(&limits), channel, peer);
    let names = names.unwrap_or_else(|| PyDict::new(py).into_any());
    let connection = Connection::new(link, policy, names.unbind(), host);
    if let Ok(Some(event_loop)) = awaiting::running_loop(py) {
        connection.choose_event_loop(&event_loop);
    }
    connection
}

/// Serves a connection by threads of its own.
pub(crate) fn start_workers(connection: &Arc<Connection>) {
    let serving = Arc::clone(connection);
    let serve: Arc<link::Serve> = Arc::new(move |py, request| serve::serve(py, &serving, request));
    connection.link.start_workers(&serve);
}

fn agent(py: Python<'_>) -> String {
    let version = py.version_info();
    format!(
        "objspace {} (CPython {}.{})",
        env!("CARGO_PKG_VERSION"),
        version.major,
        version.minor
    )
}

/// A number that tells this process from others.
pub(crate) fn nonce() -> u64 {
    static NONCE: OnceLock<u64> = OnceLock::new();
    *NONCE.get_or_init(|| RandomState::new().build_hasher().finish())
}

#[pymethods]
impl Session {
    /// A session over any channel: `send(bytes)` writes to the peer; `receive()` waits for bytes of
    /// the peer and returns them, or `b""` when the channel has ended. Bytes may be split and joined
    /// on the way. `exported_names` is a mapping of what the peer may ask for by name. The other
    /// side is served while this side waits for a reply, and by `serve()`.
    #[new]
    #[pyo3(signature = (send, receive, exported_names = None, *, policy = None))]
    fn new(
        py: Python<'_>,
        send: Py<PyAny>,
        receive: Py<PyAny>,
        exported_names: Option<Bound<'_, PyAny>>,
        policy: Option<Py<Policy>>,
    ) -> PyResult<Self> {
        let policy = policy.map_or_else(|| Py::new(py, Policy::everything()), Ok)?;
        let channel = Channel::Functions { send, receive };
        let connection = open(
            py,
            channel,
            "the other side of a custom channel".into(),
            exported_names,
            policy,
            None,
        );
        Ok(Self::of(connection))
    }

    /// The names that the other side exports, as attributes.
    #[getter(remote)]
    fn view(&self, py: Python<'_>) -> PyResult<Py<RemoteView>> {
        Py::new(py, RemoteView::new(Arc::clone(&self.connection)))
    }

    /// The object that the other side exports under `name`; `ObjectNotFound` if there is none.
    #[pyo3(name = "get_remote")]
    fn exported_by_peer<'py>(
        &self,
        py: Python<'py>,
        name: Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.connection.call(
            py,
            OutgoingTarget::Root,
            Op::GETITEM,
            &[name.into_any()],
            &[],
        )
    }

    /// The names that the other side exports, sorted.
    fn remote_keys(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let names = self.connection.fetch(
            py,
            OutgoingTarget::Root,
            FetchKind::EXPORTED_NAMES,
            &[],
            &[],
        )?;
        let mut names: Vec<String> = names.extract()?;
        names.sort();
        Ok(names)
    }

    /// A block in which operations on the other side's objects do not wait: each gives a `Promise`
    /// at once, which may be passed on or operated on before it arrives. Leaving the block waits for
    /// all, in one round trip, and raises the first error that was not seen. It concerns this thread
    /// (this task, this greenlet) only.
    fn pipeline(&self, py: Python<'_>) -> PyResult<Py<Pipeline>> {
        Py::new(py, Pipeline::new(Arc::clone(&self.connection)))
    }

    /// Serves the other side on this thread until the session ends.
    fn serve(&self, py: Python<'_>) -> PyResult<()> {
        let connection = &self.connection;
        connection
            .link
            .serve_here(py, &|py, request| serve::serve(py, connection, request))
    }

    /// Declares that `cls`, a class of this process, is the other side's class of the same module and
    /// qualified name. Objects of that class are then of `cls`, and `cls` itself arrives as such.
    ///
    /// Both classes must mean the same. Returns `cls`. Raises `ValueError` if an object of the other
    /// side's class was met before: declare it first.
    fn adopt<'py>(&self, cls: Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
        self.declare(&cls, false)?;
        Ok(cls)
    }

    /// Instances of `cls` travel by value in this session, in both directions.
    ///
    /// As `objspace.by_value`, for one session: both sides have to declare their class of that name.
    /// Raises `TypeError` for a class whose instances are made by C code, and `ValueError` if the other
    /// side's class was met before.
    fn by_value<'py>(&self, cls: Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
        self.declare(&cls, true)?;
        Ok(cls)
    }

    /// Ends the session. Proxies of it raise `ConnectionLost` from now on. Again: no effect.
    fn close(&self, py: Python<'_>) {
        self.connection.link.close(py, CloseCode::NORMAL, "");
    }

    /// Whether the session has ended.
    #[getter]
    fn closed(&self) -> bool {
        self.connection.link.state().end.is_some()
    }

    /// The other side, as error messages name it.
    #[getter]
    fn peer(&self) -> &str {
        self.connection.peer()
    }

    /// Exact counts: `round_trips`, `messages_sent`, `messages_received`, `bytes_sent`,
    /// `bytes_received`, and the live entries `exports` and `imports`.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (stats, round_trips) = {
            let state = self.connection.link.state();
            (state.engine.stats(), state.round_trips)
        };
        let dict = PyDict::new(py);
        dict.set_item("round_trips", round_trips)?;
        dict.set_item("messages_sent", stats.messages_sent)?;
        dict.set_item("messages_received", stats.messages_received)?;
        dict.set_item("bytes_sent", stats.bytes_sent)?;
        dict.set_item("bytes_received", stats.bytes_received)?;
        dict.set_item("exports", stats.exports)?;
        dict.set_item("imports", stats.imports)?;
        Ok(dict)
    }

    fn __enter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        let state = if self.closed() { "closed" } else { "open" };
        format!(
            "<objspace.distributed.Session with {}, {state}>",
            self.connection.peer()
        )
    }
}

/// Two sessions joined in this process: each exports its names to the other.
#[pyfunction]
#[pyo3(signature = (here = None, there = None, *, policy = None))]
pub(crate) fn pair(
    py: Python<'_>,
    here: Option<Bound<'_, PyAny>>,
    there: Option<Bound<'_, PyAny>>,
    policy: Option<(Py<Policy>, Py<Policy>)>,
) -> PyResult<(Session, Session)> {
    let (one, other) = Stream::pair()?;
    let (first, second) = match policy {
        Some(policies) => policies,
        None => (
            Py::new(py, Policy::everything())?,
            Py::new(py, Policy::everything())?,
        ),
    };
    Ok((
        Session::of(Session::over_stream(
            py,
            one,
            "the second session of a pair".into(),
            here,
            first,
            Options::default(),
        )),
        Session::of(Session::over_stream(
            py,
            other,
            "the first session of a pair".into(),
            there,
            second,
            Options::default(),
        )),
    ))
}

/// A session over two file descriptors, which it owns from now on (pipes to a child process).
#[pyfunction]
#[pyo3(signature = (read_fd, write_fd, peer, exported_names = None, policy = None))]
pub(crate) fn session_over_fds(
    py: Python<'_>,
    read_fd: RawFd,
    write_fd: RawFd,
    peer: String,
    exported_names: Option<Bound<'_, PyAny>>,
    policy: Option<Py<Policy>>,
) -> PyResult<Session> {
    let policy = policy.map_or_else(|| Py::new(py, Policy::everything()), Ok)?;
    let stream = stream_over_fds(read_fd, write_fd, peer.clone())?;
    Ok(Session::of(Session::over_stream(
        py,
        stream,
        peer,
        exported_names,
        policy,
        Options::default(),
    )))
}

/// A stream over two descriptors that it owns from now on.
fn stream_over_fds(read_fd: RawFd, write_fd: RawFd, peer: String) -> PyResult<Stream> {
    if read_fd < 0 || write_fd < 0 || read_fd == write_fd {
        return Err(PyValueError::new_err(
            "two different open file descriptors are needed",
        ));
    }
    // SAFETY: the caller hands both descriptors over, as the contract of the functions that call
    // this one says; they are checked to be two different non-negative numbers.
    let (read, write) = unsafe {
        (
            OwnedFd::from_raw_fd(read_fd),
            OwnedFd::from_raw_fd(write_fd),
        )
    };
    Ok(Stream::from_named_fds(read, write, peer)?)
}

/// The session behind a `RemoteView` or a remote object; `TypeError` for anything else.
#[pyfunction]
pub(crate) fn session_of(remote: &Bound<'_, PyAny>) -> PyResult<Session> {
    let py = remote.py();
    if let Ok(view) = remote.cast::<RemoteView>() {
        return Ok(Session::of(Arc::clone(view.get().connection())));
    }
    if let Some(proxy) = crate::proxy::as_proxy(remote)
        && let Some(remote) = crate::remote::controller::remote_of(&proxy, py)?
    {
        return Ok(Session::of(Arc::clone(remote.get().connection())));
    }
    Err(pyo3::exceptions::PyTypeError::new_err(format!(
        "session_of() takes a RemoteView or a remote object, not a local '{}' object",
        remote.get_type().name()?
    )))
}

/// Lets `event_loop` perform what the other side of a view's session awaits.
#[pyfunction]
pub(crate) fn choose_event_loop(view: &RemoteView, event_loop: &Bound<'_, PyAny>) {
    view.connection().choose_event_loop(event_loop);
}

/// What a URL names; `ValueError` with what would do.
pub(crate) fn endpoint(url: &str) -> PyResult<Endpoint> {
    Endpoint::parse(url).map_err(|error| PyValueError::new_err(error.to_string()))
}
