//! From a URL to a stream on which a session may begin: connecting, TLS, and the handshake, all
//! within one time.

use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

use crate::handshake::{Admission, Failure, Handshake, Key};
use crate::tls::explain;
use crate::{Endpoint, Error, Interest, Stream, TlsClient, TlsServer, Waker};

/// What a client shows and asks for.
#[derive(Clone, Debug, Default)]
#[allow(
    clippy::exhaustive_structs,
    reason = "built by the host with ..Default::default()"
)]
pub struct ClientSecurity {
    /// The shared key.
    pub key: Option<Key>,
    /// For `tls://` only. If it is missing there, a key takes its place, or else the authorities of
    /// the system.
    pub tls: Option<TlsClient>,
}

/// What a server shows and asks for.
#[derive(Clone, Debug, Default)]
#[allow(
    clippy::exhaustive_structs,
    reason = "built by the host with ..Default::default()"
)]
pub struct ServerSecurity {
    /// The shared key.
    pub key: Option<Key>,
    /// For `tls://` only.
    pub tls: Option<TlsServer>,
}

impl ServerSecurity {
    /// Whether only those are let in who have shown who they are.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.key.is_some() || self.tls.as_ref().is_some_and(TlsServer::asks_clients)
    }
}

/// A client that was let in.
#[derive(Debug)]
#[non_exhaustive]
pub struct Welcomed {
    /// The session may begin.
    pub stream: Stream,
    /// The client has proved that it knows the key, or shown a certificate.
    pub authenticated: bool,
}

/// Connects to a server and greets it, within `timeout` if there is one. `go_on` is asked now and
/// then; false ends the attempt.
///
/// # Errors
/// [`Error::Connect`], [`Error::Handshake`] or [`Error::Tls`]. [`Error::is_interrupted`]: a signal
/// came while connecting, or `go_on` said no.
pub fn connect(
    endpoint: &Endpoint,
    security: &ClientSecurity,
    timeout: Option<Duration>,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Stream, Error> {
    let started = Instant::now();
    let stream = Stream::connect(endpoint, timeout)?;
    let left = timeout.map(|time| time.saturating_sub(started.elapsed()));
    greet(stream, endpoint, security, left, go_on)
}

/// Greets a server on a stream that exists; `endpoint` says whether with TLS.
///
/// # Errors
/// As of [`connect`].
pub fn greet(
    stream: Stream,
    endpoint: &Endpoint,
    security: &ClientSecurity,
    timeout: Option<Duration>,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Stream, Error> {
    let peer = stream.peer().to_owned();
    let failed = |failure| Error::Handshake {
        peer: peer.clone(),
        failure,
    };
    let mut patience = Patience::new(timeout, None, go_on);
    let stream = if let Endpoint::Tls { host, .. } = endpoint {
        let tls = match (&security.tls, &security.key) {
            (Some(tls), _) => tls.clone(),
            (None, Some(_)) => TlsClient::unverified()?,
            (None, None) => TlsClient::new(&Default::default())?,
        };
        let connection = rustls::ClientConnection::new(tls.config(), tls.name(host)?)
            .map_err(|error| failed(explain(&error)))?;
        stream
            .over_tls(connection.into())
            .map_err(Failure::from)
            .and_then(|stream| start_tls(stream, &mut patience))
            .map_err(failed)?
    } else {
        stream
    };
    let binding = stream.binding().map_err(|error| failed(explain(&error)))?;
    let mut handshake = Handshake::client(security.key.clone(), binding);
    let mut room = || Admission::Open;
    run(&stream, &mut handshake, &mut room, &mut patience).map_err(failed)?;
    Ok(stream)
}

/// Greets a client that a listener has accepted, within `timeout`; `waker` ends it early. `room` is
/// asked, once the client has shown who it is, whether it is let in.
///
/// # Errors
/// [`Error::Handshake`]: it was not let in, and has been told why if it speaks this protocol.
pub fn welcome(
    stream: Stream,
    security: &ServerSecurity,
    room: &mut dyn FnMut() -> Admission,
    timeout: Duration,
    waker: &Waker,
) -> Result<Welcomed, Error> {
    let peer = stream.peer().to_owned();
    let failed = |failure| Error::Handshake {
        peer: peer.clone(),
        failure,
    };
    let mut go_on = || true;
    let mut patience = Patience::new(Some(timeout), Some(waker), &mut go_on);
    let stream = if let Some(tls) = &security.tls {
        let connection =
            rustls::ServerConnection::new(tls.config()).map_err(|error| failed(explain(&error)))?;
        stream
            .over_tls(connection.into())
            .map_err(Failure::from)
            .and_then(|stream| start_tls(stream, &mut patience))
            .map_err(failed)?
    } else {
        stream
    };
    let binding = stream.binding().map_err(|error| failed(explain(&error)))?;
    let certified = stream.peer_has_certificate();
    let mut handshake = Handshake::server(security.key.clone(), binding);
    run(&stream, &mut handshake, room, &mut patience).map_err(failed)?;
    Ok(Welcomed {
        authenticated: certified || security.key.is_some(),
        stream,
    })
}

/// How long to wait, and what ends it.
struct Patience<'a> {
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    waker: Option<&'a Waker>,
    go_on: &'a mut dyn FnMut() -> bool,
}

/// How often `go_on` is asked.
const SLICE: Duration = Duration::from_millis(100);

impl<'a> Patience<'a> {
    fn new(
        timeout: Option<Duration>,
        waker: Option<&'a Waker>,
        go_on: &'a mut dyn FnMut() -> bool,
    ) -> Self {
        Self {
            timeout,
            deadline: timeout.and_then(|time| Instant::now().checked_add(time)),
            waker,
            go_on,
        }
    }

    /// Waits until the stream may be ready.
    fn wait(&mut self, stream: &Stream, interest: Interest) -> Result<(), Failure> {
        let left = match self.deadline {
            Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            None => SLICE,
        };
        if left.is_zero() {
            return Err(Failure::Silent(self.timeout.unwrap_or_default()));
        }
        let ready = stream.wait(interest, self.waker, Some(left.min(SLICE)))?;
        if ready.woken || ((ready.interrupted || ready.timed_out) && !(self.go_on)()) {
            return Err(Failure::GivenUp);
        }
        Ok(())
    }
}

fn start_tls(stream: Stream, patience: &mut Patience<'_>) -> Result<Stream, Failure> {
    while !stream.greet_tls().map_err(broken)? {
        // Also for room to write: a stream with TLS knows itself what it needs.
        patience.wait(&stream, Interest::READ)?;
    }
    Ok(stream)
}

fn run(
    stream: &Stream,
    handshake: &mut Handshake,
    room: &mut dyn FnMut() -> Admission,
    patience: &mut Patience<'_>,
) -> Result<(), Failure> {
    let mut buffer = [0; 64];
    loop {
        send_all(stream, handshake.output(), patience)?;
        let wanted = handshake.wanted().min(buffer.len());
        if wanted == 0 {
            return Ok(());
        }
        match stream.try_read(&mut buffer[..wanted]).map_err(broken)? {
            Some(0) => return Err(Failure::Ended),
            Some(count) => {
                let mut result = handshake.receive(&buffer[..count]);
                if handshake.awaits_admission() {
                    result = handshake.admit(room());
                }
                if let Err(failure) = result {
                    // The refusal is sent as far as it goes at once.
                    let _ = stream.try_write_vectored(&[IoSlice::new(handshake.output())]);
                    linger(stream);
                    return Err(failure);
                }
            }
            None => patience.wait(stream, Interest::READ)?,
        }
    }
}

/// Lets a refused peer read why: closing a socket that holds unread bytes throws away what was sent.
fn linger(stream: &Stream) {
    let mut buffer = [0; 4096];
    for _ in 0..4 {
        match stream.try_read(&mut buffer) {
            Ok(Some(count)) if count > 0 => {}
            _ => return,
        }
    }
}

fn send_all(
    stream: &Stream,
    bytes: &mut Vec<u8>,
    patience: &mut Patience<'_>,
) -> Result<(), Failure> {
    while !bytes.is_empty() {
        match stream
            .try_write_vectored(&[IoSlice::new(bytes)])
            .map_err(broken)?
        {
            Some(count) => drop(bytes.drain(..count)),
            None => patience.wait(stream, Interest::WRITE)?,
        }
    }
    Ok(())
}

/// The failure that an error of the stream stands for: TLS hides its own in one.
fn broken(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => Failure::Ended,
        _ => error.downcast::<Failure>().unwrap_or_else(Failure::Io),
    }
}

/// The TLS that a listener at `endpoint` uses: what it was given, or, with a key alone, a
/// certificate made up for the purpose.
///
/// # Errors
/// [`Error::Tls`]: TLS was given where it has no meaning, or nothing was where it is needed.
pub fn server_tls(
    endpoint: &Endpoint,
    given: Option<TlsServer>,
    key: Option<&Key>,
) -> Result<Option<TlsServer>, Error> {
    match (endpoint, given) {
        (Endpoint::Tls { .. }, Some(tls)) => Ok(Some(tls)),
        (Endpoint::Tls { .. }, None) if key.is_some() => TlsServer::made_up().map(Some),
        (Endpoint::Tls { .. }, None) => Err(Error::Tls(format!(
            "{endpoint} needs a certificate and its private key (tls=), or a shared key (key=)"
        ))),
        (_, Some(_)) => Err(Error::Tls(format!(
            "tls= was given for {endpoint}, which is not encrypted: write tls://host:port"
        ))),
        (_, None) => Ok(None),
    }
}

impl Stream {
    fn binding(&self) -> Result<Vec<u8>, rustls::Error> {
        self.tls()
            .map_or_else(|| Ok(Vec::new()), |tls| tls.binding())
    }

    fn peer_has_certificate(&self) -> bool {
        self.tls().is_some_and(|tls| tls.peer_has_certificate())
    }

    fn greet_tls(&self) -> io::Result<bool> {
        self.tls().map_or(Ok(true), |tls| tls.greet())
    }
}
