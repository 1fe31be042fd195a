//! Keys and certificates as Python gives them, and connecting with them.

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use objspace_net::handshake::Key;
use objspace_net::{ClientSecurity, TlsClient, TlsFiles, TlsServer};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use super::policy::Policy;
use super::{Options, Session, endpoint, errors};
use crate::remote::view::RemoteView;

/// Certificates for `tls://`: files in PEM form.
///
/// `cert` and `key` are this side's certificate (with those between it and its authority) and its
/// private key; a server needs them, a client only if the server asks. `ca` holds the authorities
/// whose certificates the other side may show: with it a server asks its clients for certificates;
/// without it a client trusts the authorities of the system. `server_name` is the name in the
/// server's certificate, if it is not the host of the URL.
#[pyclass(frozen, module = "objspace", name = "TLS")]
pub(crate) struct Tls {
    files: TlsFiles,
}

#[pymethods]
impl Tls {
    #[new]
    #[pyo3(signature = (*, cert = None, key = None, ca = None, server_name = None))]
    fn new(
        cert: Option<PathBuf>,
        key: Option<PathBuf>,
        ca: Option<PathBuf>,
        server_name: Option<String>,
    ) -> Self {
        Self {
            files: TlsFiles {
                cert,
                key,
                ca,
                server_name,
            },
        }
    }

    fn __repr__(&self) -> String {
        let shown: Vec<String> = [
            ("cert", &self.files.cert),
            ("key", &self.files.key),
            ("ca", &self.files.ca),
        ]
        .iter()
        .filter_map(|(name, path)| Some(format!("{name}={:?}", path.as_ref()?)))
        .collect();
        format!("objspace.TLS({})", shown.join(", "))
    }
}

impl Tls {
    pub(crate) fn server(&self) -> PyResult<TlsServer> {
        TlsServer::new(&self.files).map_err(errors::network)
    }

    fn client(&self) -> PyResult<TlsClient> {
        TlsClient::new(&self.files).map_err(errors::network)
    }
}

/// The shared key: what was given, or what the environment says. An empty one is none.
pub(crate) fn shared_key(given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Key>> {
    let Some(given) = given else {
        return key_of_environment();
    };
    let secret = if let Ok(bytes) = given.cast::<PyBytes>() {
        bytes.as_bytes().to_vec()
    } else if let Ok(text) = given.cast::<PyString>() {
        text.to_str()?.as_bytes().to_vec()
    } else {
        return Err(PyTypeError::new_err(format!(
            "key must be bytes or str, not {}",
            given.get_type().name()?
        )));
    };
    Ok(Key::new(&secret))
}

fn key_of_environment() -> PyResult<Option<Key>> {
    if let Some(secret) = std::env::var_os("OBJSPACE_KEY") {
        return Ok(Key::new(secret.as_encoded_bytes()));
    }
    let Some(path) = std::env::var_os("OBJSPACE_KEY_FILE") else {
        return Ok(None);
    };
    let path = PathBuf::from(path);
    let secret = std::fs::read(&path).map_err(|error| {
        PyValueError::new_err(format!(
            "OBJSPACE_KEY_FILE: cannot read {}: {error}",
            path.display()
        ))
    })?;
    match Key::new(secret.trim_ascii()) {
        Some(key) => Ok(Some(key)),
        None => Err(PyValueError::new_err(format!(
            "OBJSPACE_KEY_FILE: {} is empty",
            path.display()
        ))),
    }
}

/// A time in seconds; `None` is none.
pub(crate) fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|error| PyValueError::new_err(format!("{name}={value}: {error}")))
}

/// The heartbeat of a session: `None` or 0 for no heartbeat.
pub(crate) fn heartbeat(value: Option<f64>) -> PyResult<Option<Duration>> {
    let Some(value) = value.filter(|value| *value != 0.0) else {
        return Ok(None);
    };
    let time = seconds("heartbeat", value)?;
    if time < Duration::from_millis(50) {
        return Err(PyValueError::new_err(format!(
            "heartbeat={value}: less than 0.05 seconds is no time to answer in"
        )));
    }
    Ok(Some(time))
}

/// Connects to a listener; the session behind the returned view is served by its own threads.
///
/// Arguments: `url` such as `tcp://127.0.0.1:7000`, `tls://host:port` or `unix:///path`; `timeout`,
/// in seconds, for connecting and the handshake; `key`, the shared key (bytes or str; if it is not
/// given, that of the environment variable `OBJSPACE_KEY` or of the file that `OBJSPACE_KEY_FILE`
/// names; `b""` for none at all); `tls`, certificates for `tls://`; `heartbeat`, the seconds within
/// which a dead peer is noticed (`None`: never); `exported_names`, what the other side may ask for
/// by name; `policy`, what it may do with objects of this side (default `Policy.public()`).
///
/// Raises `ValueError` for a URL that names nothing, `AuthenticationError` if one side does not
/// believe the other to be who it should be, another `ConnectionError` if nobody answers there.
#[pyfunction]
#[pyo3(signature = (url, *, timeout = 20.0, key = None, tls = None, heartbeat = Some(20.0),
                    exported_names = None, policy = None))]
#[allow(
    clippy::too_many_arguments,
    reason = "the keyword arguments of a Python function"
)]
pub(crate) fn connect(
    py: Python<'_>,
    url: &str,
    timeout: f64,
    key: Option<Bound<'_, PyAny>>,
    tls: Option<Py<Tls>>,
    heartbeat: Option<f64>,
    exported_names: Option<Bound<'_, PyAny>>,
    policy: Option<Py<Policy>>,
) -> PyResult<RemoteView> {
    let endpoint = endpoint(url)?;
    let timeout = seconds("timeout", timeout)?;
    let options = Options {
        watched: true,
        heartbeat: self::heartbeat(heartbeat)?,
        ..Options::default()
    };
    let security = ClientSecurity {
        key: shared_key(key.as_ref())?,
        tls: tls.map(|tls| tls.get().client()).transpose()?,
    };
    if security.tls.is_some() && !matches!(endpoint, objspace_net::Endpoint::Tls { .. }) {
        return Err(PyValueError::new_err(format!(
            "tls= was given for {url}, which is not encrypted: write tls://host:port"
        )));
    }
    let policy = policy.map_or_else(|| Py::new(py, Policy::ordinary()), Ok)?;
    let started = Instant::now();
    let stream = loop {
        let left = timeout.saturating_sub(started.elapsed());
        let mut signal = Ok(());
        let result = py.detach(|| {
            objspace_net::connect(&endpoint, &security, Some(left), &mut || {
                signal = Python::attach(|py| py.check_signals());
                signal.is_ok()
            })
        });
        signal?;
        match result {
            Ok(stream) => break stream,
            // A signal whose handler had nothing against going on.
            Err(error) if error.is_interrupted() => py.check_signals()?,
            Err(error) => return Err(errors::network(error)),
        }
    };
    let peer = endpoint.to_string();
    let connection = Session::over_stream(py, stream, peer, exported_names, policy, options);
    Ok(RemoteView::new(connection))
}

/// The `RemoteView` of a server at the other end of two file descriptors, which the session owns
/// from now on: greeted as one behind a URL.
#[pyfunction]
#[pyo3(signature = (read_fd, write_fd, peer, *, timeout, key, heartbeat, exported_names, policy))]
#[allow(
    clippy::too_many_arguments,
    reason = "the keyword arguments of a Python function"
)]
pub(crate) fn connect_over_fds(
    py: Python<'_>,
    read_fd: RawFd,
    write_fd: RawFd,
    peer: String,
    timeout: f64,
    key: Option<Bound<'_, PyAny>>,
    heartbeat: Option<f64>,
    exported_names: Option<Bound<'_, PyAny>>,
    policy: Option<Py<Policy>>,
) -> PyResult<RemoteView> {
    let stream = super::stream_over_fds(read_fd, write_fd, peer.clone())?;
    let options = Options {
        watched: true,
        heartbeat: self::heartbeat(heartbeat)?,
        ..Options::default()
    };
    let security = ClientSecurity {
        key: shared_key(key.as_ref())?,
        tls: None,
    };
    let timeout = seconds("timeout", timeout)?;
    let policy = policy.map_or_else(|| Py::new(py, Policy::ordinary()), Ok)?;
    let mut signal = Ok(());
    let result = py.detach(|| {
        let endpoint = objspace_net::Endpoint::Stdio;
        objspace_net::greet(stream, &endpoint, &security, Some(timeout), &mut || {
            signal = Python::attach(|py| py.check_signals());
            signal.is_ok()
        })
    });
    signal?;
    let stream = result.map_err(errors::network)?;
    let connection = Session::over_stream(py, stream, peer, exported_names, policy, options);
    Ok(RemoteView::new(connection))
}
