//! Both ends of the handshake over real connections, with keys, with certificates and with neither.
#![forbid(unsafe_code)]

use std::io::{IoSlice, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use objspace_net::handshake::{Admission, Failure, Key};
use objspace_net::{
    ClientSecurity, Endpoint, Error, Interest, Listener, ServerSecurity, Stream, TlsClient,
    TlsFiles, TlsServer, Waker, Welcomed, connect, server_tls, welcome,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

const LONG: Duration = Duration::from_secs(20);

/// An authority and what it has signed, as files that go with the value.
struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("objspace-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("folder");
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("key");
        let cert = params.self_signed(&key).expect("authority");
        std::fs::write(folder.join("ca.pem"), cert.pem()).expect("write");
        Self {
            folder,
            issuer: Issuer::new(params, key),
        }
    }

    fn ca(&self) -> Option<PathBuf> {
        Some(self.folder.join("ca.pem"))
    }

    fn sign(&self, name: &str, expired: bool) -> TlsFiles {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("params");
        if expired {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().expect("key");
        let cert = params.signed_by(&key, &self.issuer).expect("signed");
        let file = |kind: &str| {
            self.folder
                .join(format!("{}-{expired}.{kind}", name.replace('.', "-")))
        };
        std::fs::write(file("pem"), cert.pem()).expect("write");
        std::fs::write(file("key"), key.serialize_pem()).expect("write");
        TlsFiles {
            cert: Some(file("pem")),
            key: Some(file("key")),
            ..TlsFiles::default()
        }
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn key(text: &str) -> Option<Key> {
    Key::new(text.as_bytes())
}

fn client_tls(files: &TlsFiles) -> Option<TlsClient> {
    Some(TlsClient::new(files).expect("client files"))
}

fn trusting(authority: &Authority) -> TlsFiles {
    TlsFiles {
        ca: authority.ca(),
        ..TlsFiles::default()
    }
}

/// A server and a client meet at `scheme://127.0.0.1`.
fn meet(
    scheme: &str,
    mut server: ServerSecurity,
    client: &ClientSecurity,
) -> (Result<Stream, Error>, Result<Welcomed, Error>) {
    let endpoint = Endpoint::parse(&format!("{scheme}://127.0.0.1:0")).expect("url");
    server.tls = server_tls(&endpoint, server.tls, server.key.as_ref()).expect("tls");
    let listener = Listener::bind(&endpoint).expect("bind");
    let url = listener.local();
    assert!(url.to_string().starts_with(scheme), "{url}");
    thread::scope(|scope| {
        let there = scope.spawn(|| {
            let stream = listener.accept(None).expect("accept").expect("stream");
            let waker = Waker::new().expect("waker");
            welcome(stream, &server, &mut || Admission::Open, LONG, &waker)
        });
        let here = connect(&url, client, Some(LONG), &mut || true);
        (here, there.join().expect("server"))
    })
}

fn refused(result: Result<Stream, Error>) -> String {
    let text = result.expect_err("refused").to_string();
    assert!(!text.contains('\n'), "{text}");
    assert!(text.contains("://127.0.0.1:"), "{text}");
    text
}

/// Sends `length` bytes each way at once, and compares.
fn exchange(here: &Stream, there: &Stream, length: usize) {
    let pattern: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
    let both = |stream: &Stream| {
        let (mut sent, mut got) = (0, Vec::new());
        let mut buffer = vec![0; 70_000];
        let deadline = Instant::now() + LONG;
        while sent < length || got.len() < length {
            assert!(Instant::now() < deadline, "sent {sent}, got {}", got.len());
            if sent < length
                && let Some(count) = stream
                    .try_write_vectored(&[IoSlice::new(&pattern[sent..])])
                    .expect("write")
            {
                sent += count;
            }
            match stream.try_read(&mut buffer).expect("read") {
                Some(0) => panic!("the end came early"),
                Some(count) => got.extend_from_slice(&buffer[..count]),
                None => {
                    let interest = Interest {
                        read: true,
                        write: sent < length,
                    };
                    stream.wait(interest, None, Some(LONG)).expect("wait");
                }
            }
        }
        assert!(got == pattern);
        // What is encrypted and not sent yet goes while somebody waits.
        let _ = stream.wait(Interest::READ, None, Some(Duration::from_millis(50)));
    };
    thread::scope(|scope| {
        scope.spawn(|| both(here));
        scope.spawn(|| both(there));
    });
}

#[test]
fn with_neither_key_nor_tls_the_two_meet_unauthenticated() {
    let (here, there) = meet("tcp", ServerSecurity::default(), &ClientSecurity::default());
    let (here, there) = (here.expect("client"), there.expect("server"));
    assert!(!there.authenticated);
    exchange(&here, &there.stream, 100_000);
}

#[test]
fn a_shared_key_lets_in_over_tcp_and_over_tls_without_certificates() {
    for scheme in ["tcp", "tls"] {
        let server = ServerSecurity {
            key: key("secret"),
            tls: None,
        };
        let client = ClientSecurity {
            key: key("secret"),
            tls: None,
        };
        let (here, there) = meet(scheme, server.clone(), &client);
        let (here, there) = (here.expect("client"), there.expect("server"));
        assert!(there.authenticated);
        exchange(&here, &there.stream, 3_000_000);
        for wrong in [key("other"), None] {
            let client = ClientSecurity {
                key: wrong.clone(),
                tls: scheme
                    .eq("tls")
                    .then(|| TlsClient::unverified().expect("tls")),
            };
            let (here, there) = meet(scheme, server.clone(), &client);
            let text = refused(here);
            let wanted = if wrong.is_some() {
                "refused this side's key"
            } else {
                "asks for a key"
            };
            assert!(text.contains(wanted), "{text}");
            assert!(there.is_err());
        }
    }
}

/// Somebody in the middle who speaks TLS with both ends: each proof is about another connection.
#[test]
fn a_key_over_tls_finds_out_who_stands_between() {
    let security = ServerSecurity {
        key: key("secret"),
        tls: Some(TlsServer::made_up().expect("certificate")),
    };
    let url = Endpoint::parse("tls://127.0.0.1:0").expect("url");
    let true_server = Listener::bind(&url).expect("bind");
    let true_url = true_server.local();
    let middle = TcpListener::bind("127.0.0.1:0").expect("bind");
    let middle_url = format!("tls://{}", middle.local_addr().expect("address"));
    let middle_url = Endpoint::parse(&middle_url).expect("url");
    thread::scope(|scope| {
        scope.spawn(|| {
            let stream = true_server.accept(None).expect("accept").expect("stream");
            let waker = Waker::new().expect("waker");
            let result = welcome(stream, &security, &mut || Admission::Open, LONG, &waker);
            assert!(matches!(
                result,
                Err(Error::Handshake {
                    failure: Failure::WrongKey,
                    ..
                })
            ));
        });
        scope.spawn(|| {
            // To the client it is a server with any certificate, to the server any client.
            let (client, _) = middle.accept().expect("accept");
            relay(client, &true_url).expect("relay");
        });
        let client = ClientSecurity {
            key: key("secret"),
            tls: None,
        };
        let text = refused(connect(&middle_url, &client, Some(LONG), &mut || true));
        assert!(text.contains("refused this side's key"), "{text}");
    });
}

/// Decrypts with one end and encrypts for the other, byte for byte.
fn relay(mut near: TcpStream, server: &Endpoint) -> std::io::Result<()> {
    let Endpoint::Tls { host, port } = server else {
        panic!("tls");
    };
    let made = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).expect("cert");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into(),
        )
        .expect("config");
    let mut near_tls = rustls::ServerConnection::new(config.into()).expect("server");
    let mut far = TcpStream::connect((host.as_str(), *port))?;
    let config = trust_anything(provider);
    let name = ServerName::try_from(host.clone()).expect("name");
    let mut far_tls = rustls::ClientConnection::new(config.into(), name).expect("client");
    let mut buffer = [0; 4096];
    // The client's hello, the server's, the client's proof, the server's verdict.
    for turn in 0..4 {
        let mut near = rustls::Stream::new(&mut near_tls, &mut near);
        let mut far = rustls::Stream::new(&mut far_tls, &mut far);
        if turn % 2 == 0 {
            let count = near.read(&mut buffer)?;
            far.write_all(&buffer[..count])?;
        } else {
            let count = far.read(&mut buffer)?;
            near.write_all(&buffer[..count])?;
        }
    }
    Ok(())
}

fn trust_anything(provider: Arc<rustls::crypto::CryptoProvider>) -> rustls::ClientConfig {
    #[derive(Debug)]
    struct Anything(Arc<rustls::crypto::CryptoProvider>);
    impl ServerCertVerifier for Anything {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
    rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything(provider)))
        .with_no_client_auth()
}

#[test]
fn certificates_on_both_sides_let_in() {
    let authority = Authority::new("both");
    let mut server = authority.sign("127.0.0.1", false);
    server.ca = authority.ca();
    let mut client = authority.sign("a client", false);
    client.ca = authority.ca();
    let (here, there) = meet(
        "tls",
        ServerSecurity {
            key: None,
            tls: Some(TlsServer::new(&server).expect("server files")),
        },
        &ClientSecurity {
            key: None,
            tls: client_tls(&client),
        },
    );
    let (here, there) = (here.expect("client"), there.expect("server"));
    assert!(there.authenticated);
    exchange(&here, &there.stream, 3_000_000);
    // The end of one is seen by the other.
    here.shutdown();
    let mut buffer = [0; 10];
    while there.stream.try_read(&mut buffer).expect("read") != Some(0) {
        there
            .stream
            .wait(Interest::READ, None, Some(LONG))
            .expect("wait");
    }
}

#[test]
fn each_wrong_certificate_is_told_in_one_line() {
    let authority = Authority::new("wrong");
    let stranger = Authority::new("stranger");
    let plain = |files: &TlsFiles| ServerSecurity {
        key: None,
        tls: Some(TlsServer::new(files).expect("server files")),
    };
    let trusting_client = |files: TlsFiles| ClientSecurity {
        key: None,
        tls: client_tls(&files),
    };
    let good = authority.sign("127.0.0.1", false);
    let asking = TlsFiles {
        ca: authority.ca(),
        ..good.clone()
    };
    let unknown_client = TlsFiles {
        ca: authority.ca(),
        ..stranger.sign("a client", false)
    };
    let expired_client = TlsFiles {
        ca: authority.ca(),
        ..authority.sign("a client", true)
    };
    for (server, client, wanted) in [
        (
            &authority.sign("127.0.0.1", true),
            trusting(&authority),
            "has expired",
        ),
        (
            &authority.sign("other.example", false),
            trusting(&authority),
            "it is for other.example, not for 127.0.0.1",
        ),
        (
            &good,
            trusting(&stranger),
            "an authority that this side does not trust",
        ),
        (
            &asking,
            trusting(&authority),
            "asks for a certificate of this side",
        ),
        (&asking, unknown_client, "refused this side's certificate"),
        (&asking, expired_client, "it has expired"),
    ] {
        let (here, there) = meet("tls", plain(server), &trusting_client(client));
        let text = refused(here);
        assert!(text.contains(wanted), "{wanted}: {text}");
        assert!(there.is_err());
    }
    // The name that is meant can be said.
    let other = authority.sign("other.example", false);
    let client = trusting_client(TlsFiles {
        server_name: Some("other.example".to_owned()),
        ..trusting(&authority)
    });
    assert!(meet("tls", plain(&other), &client).0.is_ok());
}

#[test]
fn files_that_are_wrong_are_named() {
    let authority = Authority::new("files");
    let good = authority.sign("x", false);
    let other = authority.sign("y", false);
    let empty = authority.folder.join("empty.pem");
    std::fs::write(&empty, "nothing").expect("write");
    let with = |cert: Option<&Path>, key: Option<&Path>| TlsFiles {
        cert: cert.map(Path::to_owned),
        key: key.map(Path::to_owned),
        ..TlsFiles::default()
    };
    let cert = good.cert.as_deref();
    for (files, wanted) in [
        (with(None, None), "needs a certificate"),
        (
            with(Some(Path::new("/nowhere")), None),
            "cannot read /nowhere",
        ),
        (with(Some(&empty), None), "empty.pem holds no certificate"),
        (with(cert, Some(&empty)), "empty.pem holds no private key"),
        (with(None, cert), "give cert= as well"),
        (with(cert, other.key.as_deref()), "x-false.pem"),
    ] {
        let text = TlsServer::new(&files).expect_err(wanted).to_string();
        assert!(text.contains(wanted) && !text.contains('\n'), "{text}");
    }
}

#[test]
fn tls_and_plain_do_not_mix_and_say_so() {
    let secret = key("secret");
    let endpoint = Endpoint::parse("tls://127.0.0.1:0").expect("url");
    for (listens, connects, wanted) in [
        ("tls", "tcp", "speaks TLS: write tls://"),
        ("tcp", "tls", "does not speak TLS: try tcp://"),
    ] {
        let at = Endpoint::parse(&format!("{listens}://127.0.0.1:0")).expect("url");
        let listener = Listener::bind(&at).expect("bind");
        let server = ServerSecurity {
            key: secret.clone(),
            tls: (listens == "tls").then(|| {
                server_tls(&endpoint, None, secret.as_ref())
                    .expect("tls")
                    .expect("made up")
            }),
        };
        let url = listener.local().to_string().replace(listens, connects);
        let url = Endpoint::parse(&url).expect("url");
        let client = ClientSecurity {
            key: secret.clone(),
            tls: None,
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                let stream = listener.accept(None).expect("accept").expect("stream");
                let waker = Waker::new().expect("waker");
                welcome(stream, &server, &mut || Admission::Open, LONG, &waker)
                    .expect_err("foreign");
            });
            let text = refused(connect(&url, &client, Some(LONG), &mut || true));
            assert!(text.contains(wanted), "{text}");
        });
    }
}

#[test]
fn who_says_nothing_is_given_up_after_the_time() {
    let endpoint = Endpoint::parse("tcp://127.0.0.1:0").expect("url");
    let listener = Listener::bind(&endpoint).expect("bind");
    let Endpoint::Tcp { host, port } = listener.local() else {
        panic!("tcp")
    };
    let mut silent = TcpStream::connect((host.as_str(), port)).expect("connect");
    let time = Duration::from_millis(100);
    for tls in [false, true] {
        let mut other = TcpStream::connect((host.as_str(), port)).expect("connect");
        let stream = listener.accept(None).expect("accept").expect("stream");
        // A byte now and then does not extend the time.
        other.write_all(b"O").expect("write");
        let security = ServerSecurity {
            key: key("k"),
            tls: tls.then(|| TlsServer::made_up().expect("certificate")),
        };
        let waker = Waker::new().expect("waker");
        let started = Instant::now();
        let error = welcome(stream, &security, &mut || Admission::Open, time, &waker);
        let text = error.expect_err("silent").to_string();
        assert!(text.contains("within 0.1 s") || tls, "{text}");
        assert!(started.elapsed() < LONG / 2);
    }
    // And the other way round: a server that never answers.
    let text = refused(connect(
        &listener.local(),
        &ClientSecurity::default(),
        Some(time),
        &mut || true,
    ));
    assert!(text.contains("within"), "{text}");
    let _ = silent.write_all(b"x");
}

#[test]
fn an_attempt_can_be_given_up() {
    let endpoint = Endpoint::parse("tcp://127.0.0.1:0").expect("url");
    let listener = Listener::bind(&endpoint).expect("bind");
    let mut asked = 0;
    let result = connect(
        &listener.local(),
        &ClientSecurity::default(),
        None,
        &mut || {
            asked += 1;
            asked < 3
        },
    );
    assert!(result.expect_err("given up").is_interrupted());
    assert_eq!(asked, 3);
}
