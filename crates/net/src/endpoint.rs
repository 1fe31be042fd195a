//! The URLs that name endpoints. Purely textual: nothing is looked up and no file is touched.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// One end of a connection, as a URL names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// `stdio:`, the standard input and output of this process.
    Stdio,
    /// `tcp://host:port`; port 0 lets the system choose when listening.
    Tcp {
        /// A name, an IPv4 address, or an IPv6 address without its brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// `tls://host:port`, encrypted; the rest as of [`Endpoint::Tcp`].
    Tls {
        /// A name, an IPv4 address, or an IPv6 address without its brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// `unix:///absolute/path`.
    Unix {
        /// The file that stands for the socket.
        path: PathBuf,
    },
}

/// A text that names no endpoint; the message says what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url:?}: {problem}")]
pub struct UrlError {
    url: String,
    problem: String,
}

/// The longest path a Unix socket can have (`sun_path` without its final NUL).
const UNIX_PATH_MAX: usize = 107;

impl Endpoint {
    /// Reads a URL.
    ///
    /// # Errors
    /// One line that names the URL, says what is wrong with it, and shows one that would do.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let error = |problem: &str| UrlError {
            url: url.to_owned(),
            problem: problem.to_owned(),
        };
        if url.is_empty() {
            return Err(error(
                "an endpoint is expected, for example tcp://127.0.0.1:7000, unix:///tmp/app.sock or stdio:",
            ));
        }
        if let Some(bad) = url
            .chars()
            .find(|c| c.is_control() || (c.is_whitespace() && !url.starts_with("unix:")))
        {
            return Err(error(&format!("an endpoint cannot contain {bad:?}")));
        }
        let Some((scheme, rest)) = url.split_once(':') else {
            return Err(error(
                "there is no scheme; write, for example, tcp://127.0.0.1:7000 or unix:///tmp/app.sock",
            ));
        };
        match scheme {
            "stdio" if rest.is_empty() || rest == "//" => Ok(Self::Stdio),
            "stdio" => Err(error("nothing may follow stdio:")),
            "tcp" => match parse_address("tcp", rest) {
                Ok((host, port)) => Ok(Self::Tcp { host, port }),
                Err(problem) => Err(error(&problem)),
            },
            "tls" => match parse_address("tls", rest) {
                Ok((host, port)) => Ok(Self::Tls { host, port }),
                Err(problem) => Err(error(&problem)),
            },
            "unix" => parse_unix(rest).map_err(|problem| error(&problem)),
            "shm" => Err(error(
                "shm:// is not available; use unix:///path, tcp://host:port or tls://host:port",
            )),
            "ssh" => Err(error(
                "ssh:// is for objspace.connect(), which starts ssh; a listener has another scheme",
            )),
            "http" | "https" | "ws" | "wss" => Err(error(&format!(
                "{scheme} is another protocol; an objspace endpoint looks like tcp://127.0.0.1:7000"
            ))),
            // "localhost:7000" and "127.0.0.1:7000"
            _ if !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()) => Err(error(
                &format!("there is no scheme; did you mean tcp://{url}?"),
            )),
            _ => Err(error(&format!(
                "unknown scheme {scheme:?}; known are tcp://host:port, tls://host:port, unix:///path, ssh://host/module and stdio:"
            ))),
        }
    }

    /// Whether this endpoint can be reached from this machine only: a loopback address, a Unix
    /// socket or standard input and output. A name other than `localhost` counts as remote. For a
    /// listener ask [`Listener::local`](crate::Listener::local)'s answer, which is an address.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Stdio | Self::Unix { .. } => true,
            Self::Tcp { host, .. } | Self::Tls { host, .. } => match host.parse::<IpAddr>() {
                Ok(ip) => ip.to_canonical().is_loopback(),
                Err(_) => host.eq_ignore_ascii_case("localhost"),
            },
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdio => f.write_str("stdio:"),
            Self::Tcp { host, port } => write_address(f, "tcp", host, *port),
            Self::Tls { host, port } => write_address(f, "tls", host, *port),
            Self::Unix { path } => write!(f, "unix://{}", path.display()),
        }
    }
}

impl FromStr for Endpoint {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        Self::parse(url)
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

impl Endpoint {
    /// The same scheme at an address that the system chose.
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        let (host, port) = (address.ip().to_string(), address.port());
        match self {
            Self::Tls { .. } => Self::Tls { host, port },
            _ => Self::Tcp { host, port },
        }
    }
}

fn write_address(f: &mut fmt::Formatter<'_>, scheme: &str, host: &str, port: u16) -> fmt::Result {
    if host.contains(':') {
        write!(f, "{scheme}://[{host}]:{port}")
    } else {
        write!(f, "{scheme}://{host}:{port}")
    }
}

/// The host and the port of `tcp://` and `tls://`.
fn parse_address(scheme: &str, rest: &str) -> Result<(String, u16), String> {
    let Some(authority) = rest.strip_prefix("//") else {
        return Err(format!(
            "two slashes are missing; did you mean {scheme}://{rest}?"
        ));
    };
    if let Some((before, _)) = authority.split_once(['/', '?', '#']) {
        return Err(format!(
            "nothing may follow the port; did you mean {scheme}://{before}?"
        ));
    }
    if authority.contains('@') {
        return Err(format!(
            "a user name has no meaning here; write {scheme}://host:port"
        ));
    }
    let (host, port) = if let Some(inner) = authority.strip_prefix('[') {
        let Some((host, tail)) = inner.split_once(']') else {
            return Err(format!(
                "the bracket of the IPv6 address is not closed; write, for example, {scheme}://[::1]:7000"
            ));
        };
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(format!(
                "{host:?} is no IPv6 address; write, for example, {scheme}://[::1]:7000"
            ));
        }
        match tail.strip_prefix(':') {
            Some(port) => (host, port),
            None => {
                return Err(format!(
                    "the port is missing; write, for example, {scheme}://[{host}]:7000"
                ));
            }
        }
    } else {
        if authority.parse::<Ipv6Addr>().is_ok() || authority.matches(':').count() > 1 {
            return Err(format!(
                "an IPv6 address stands in brackets; write, for example, {scheme}://[::1]:7000"
            ));
        }
        match authority.split_once(':') {
            Some(parts) => parts,
            None if authority.is_empty() => {
                return Err(format!(
                    "host and port are missing; write, for example, {scheme}://127.0.0.1:7000"
                ));
            }
            None => {
                return Err(format!(
                    "the port is missing; write, for example, {scheme}://{authority}:7000"
                ));
            }
        }
    };
    if host.is_empty() {
        return Err(format!(
            "the host is missing; write {scheme}://127.0.0.1:{port} for this machine only, {scheme}://0.0.0.0:{port} to be reachable from others"
        ));
    }
    if host == "*" {
        return Err(format!(
            "'*' is no host; to be reachable from other machines write {scheme}://0.0.0.0:{port}"
        ));
    }
    let shown = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    if port.is_empty() {
        return Err(format!(
            "the port is missing; write, for example, {scheme}://{shown}:7000"
        ));
    }
    // `u16::from_str` would take a leading plus sign.
    let number = if port.bytes().all(|b| b.is_ascii_digit()) {
        port.parse::<u16>().ok()
    } else {
        None
    };
    match number {
        Some(port) => Ok((host.to_owned(), port)),
        None => Err(format!(
            "the port {port:?} is no number from 0 to 65535; write, for example, {scheme}://{shown}:7000"
        )),
    }
}

fn parse_unix(rest: &str) -> Result<Endpoint, String> {
    let Some(path) = rest.strip_prefix("//") else {
        return Err("two slashes are missing; write, for example, unix:///tmp/app.sock".to_owned());
    };
    if path.is_empty() || path == "/" {
        return Err("the path is missing; write, for example, unix:///tmp/app.sock".to_owned());
    }
    if !path.starts_with('/') {
        return Err(
            "the path must be absolute, with three slashes, as in unix:///tmp/app.sock".to_owned(),
        );
    }
    if path.ends_with('/') {
        return Err(
            "the path names a directory; write, for example, unix:///tmp/app.sock".to_owned(),
        );
    }
    if path.len() > UNIX_PATH_MAX {
        return Err(format!(
            "the path has {} bytes and a Unix socket allows {UNIX_PATH_MAX}; use a shorter one, for example unix:///tmp/app.sock",
            path.len()
        ));
    }
    Ok(Endpoint::Unix {
        path: PathBuf::from(path),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(url: &str) -> String {
        let text = Endpoint::parse(url).expect_err(url).to_string();
        assert!(
            !text.contains('\n') && text.contains(&format!("{url:?}")),
            "{text}"
        );
        text
    }

    #[test]
    fn good_urls_round_trip() {
        for url in [
            "tcp://127.0.0.1:7000",
            "tcp://localhost:0",
            "tcp://[::1]:65535",
            "tcp://db.example.org:1",
            "tls://[::1]:65535",
            "tls://db.example.org:1",
            "unix:///tmp/a b.sock",
            "stdio:",
        ] {
            assert_eq!(Endpoint::parse(url).expect(url).to_string(), url);
        }
        assert_eq!(Endpoint::parse("stdio://").expect("stdio"), Endpoint::Stdio);
        assert_eq!(
            Endpoint::parse("tcp://[::1]:7").expect("ipv6"),
            Endpoint::Tcp {
                host: "::1".to_owned(),
                port: 7
            }
        );
    }

    #[test]
    fn bad_urls_say_what_is_expected() {
        for (url, expected) in [
            ("", "tcp://127.0.0.1:7000"),
            (
                "tcp://localhost",
                "the port is missing; write, for example, tcp://localhost:7000",
            ),
            ("tcp://localhost:", "the port is missing"),
            ("tcp://[::1]", "tcp://[::1]:7000"),
            ("tcp://[::1]:", "tcp://[::1]:7000"),
            ("tcp://[::1", "not closed"),
            ("tcp://[zz]:1", "no IPv6 address"),
            ("tcp://::1:7000", "brackets"),
            ("tcp://", "host and port are missing"),
            ("tcp://:7000", "tcp://0.0.0.0:7000"),
            ("tcp://*:7000", "tcp://0.0.0.0:7000"),
            ("tcp://h:70000", "0 to 65535"),
            ("tcp://h:+7", "0 to 65535"),
            ("tcp://h:x", "0 to 65535"),
            ("tcp://h:1/path", "did you mean tcp://h:1?"),
            ("tcp://u@h:1", "user name"),
            ("tcp:h:1", "did you mean tcp://h:1?"),
            ("localhost:7000", "did you mean tcp://localhost:7000?"),
            ("localhost", "no scheme"),
            ("http://localhost:80", "another protocol"),
            (
                "tls://h",
                "the port is missing; write, for example, tls://h:7000",
            ),
            ("tls://*:1", "tls://0.0.0.0:1"),
            ("shm:///x", "not available"),
            ("ssh://h", "objspace.connect()"),
            ("gopher://h:1", "unknown scheme"),
            ("unix:/tmp/x", "two slashes"),
            ("unix://tmp/x", "must be absolute"),
            ("unix://", "the path is missing"),
            ("unix:///tmp/", "directory"),
            ("stdio:x", "nothing may follow"),
            ("tcp://h :1", "cannot contain"),
            ("unix:///tmp/\0", "cannot contain"),
        ] {
            assert!(problem(url).contains(expected), "{url}: {}", problem(url));
        }
        assert!(problem(&format!("unix:///{}", "x".repeat(200))).contains("107"));
    }

    #[test]
    fn local_means_this_machine_only() {
        for (url, local) in [
            ("stdio:", true),
            ("unix:///tmp/x", true),
            ("tcp://127.0.0.1:1", true),
            ("tcp://127.9.9.9:1", true),
            ("tcp://[::1]:1", true),
            ("tcp://[::ffff:127.0.0.1]:1", true),
            ("tcp://LocalHost:1", true),
            ("tcp://0.0.0.0:1", false),
            ("tls://127.0.0.1:1", true),
            ("tls://0.0.0.0:1", false),
            ("tcp://[::]:1", false),
            ("tcp://10.0.0.1:1", false),
            ("tcp://localhost.example.org:1", false),
        ] {
            assert_eq!(Endpoint::parse(url).expect(url).is_local(), local, "{url}");
        }
    }
}
