//! TLS 1.3 by rustls: certificates from files, and what an end must show.
//!
//! Without files, but with a shared key, `tls://` works too: the server makes up a certificate,
//! the client takes any, and the handshake of the key, which is bound to this very TLS connection,
//! tells both ends that nobody stands between them.

mod channel;
mod files;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
    ServerConfig, SignatureScheme,
};

pub(crate) use channel::TlsChannel;

use crate::Error;
use crate::handshake::Failure;

/// The files that hold an end's certificate and those that it trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_structs,
    reason = "built by the host with ..Default::default()"
)]
pub struct TlsFiles {
    /// A PEM file with this end's certificate, and those between it and the authority.
    pub cert: Option<PathBuf>,
    /// A PEM file with the private key of `cert`.
    pub key: Option<PathBuf>,
    /// A PEM file with the authorities whose certificates the other end may show. A server that has
    /// it asks its clients for certificates. A client without it trusts those of the system.
    pub ca: Option<PathBuf>,
    /// The name that must stand in the server's certificate, if it is not the host of the URL.
    pub server_name: Option<String>,
}

/// What a client needs for TLS.
#[derive(Clone, Debug)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    server_name: Option<String>,
}

/// What a server needs for TLS.
#[derive(Clone, Debug)]
pub struct TlsServer {
    config: Arc<ServerConfig>,
    asks_clients: bool,
}

impl TlsClient {
    /// Reads the files. Without a `ca`, the authorities of the system are trusted.
    ///
    /// # Errors
    /// [`Error::Tls`] names the file and what is wrong with it.
    pub fn new(files: &TlsFiles) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &files.ca {
            files::authorities(path, &mut roots)?;
        } else {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err(Error::Tls(
                    "this system has no certificates of authorities: name those to trust with ca="
                        .to_owned(),
                ));
            }
        }
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| Error::Tls(error.to_string()))?
            .with_root_certificates(roots);
        let config = match files::identity(files)? {
            Some((chain, key, path)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| files::unusable(&path, &error))?,
            None => builder.with_no_client_auth(),
        };
        Ok(Self {
            config: Arc::new(config),
            server_name: files.server_name.clone(),
        })
    }

    /// Takes any certificate: only for a connection on which a shared key proves the server.
    ///
    /// # Errors
    /// [`Error::Tls`], if TLS itself cannot be set up.
    pub fn unverified() -> Result<Self, Error> {
        let provider = provider();
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| Error::Tls(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        Ok(Self {
            config: Arc::new(config),
            server_name: None,
        })
    }

    pub(crate) fn name(&self, host: &str) -> Result<ServerName<'static>, Error> {
        let name = self.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned()).map_err(|_| {
            Error::Tls(format!(
                "{name:?} is no host name that a certificate can have"
            ))
        })
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }
}

impl TlsServer {
    /// Reads the files; `cert` and `key` are needed.
    ///
    /// # Errors
    /// [`Error::Tls`] names the file and what is wrong with it.
    pub fn new(files: &TlsFiles) -> Result<Self, Error> {
        let Some((chain, key, path)) = files::identity(files)? else {
            return Err(Error::Tls(
                "a TLS server needs a certificate and its private key: give cert= and key="
                    .to_owned(),
            ));
        };
        Self::build(chain, key, files.ca.as_ref()).map_err(|error| match error {
            Error::Tls(text) if !text.contains(&*path.to_string_lossy()) => {
                Error::Tls(format!("{}: {text}", path.display()))
            }
            other => other,
        })
    }

    /// A certificate made up for this process: only for a listener whose clients prove a shared key.
    ///
    /// # Errors
    /// [`Error::Tls`], if TLS itself cannot be set up.
    pub fn made_up() -> Result<Self, Error> {
        let failed = |error: rcgen::Error| Error::Tls(error.to_string());
        let made =
            rcgen::generate_simple_self_signed(vec!["objspace".to_owned()]).map_err(failed)?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        Self::build(vec![made.cert.der().clone()], key.into(), None)
    }

    fn build(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        ca: Option<&PathBuf>,
    ) -> Result<Self, Error> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| Error::Tls(error.to_string()))?;
        let builder = if let Some(path) = ca {
            let mut roots = RootCertStore::empty();
            files::authorities(path, &mut roots)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .map_err(|error| files::unusable(path, &error))?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| Error::Tls(error.to_string()))?;
        // A session is long: tickets to resume one would only be kept for nothing.
        config.send_tls13_tickets = 0;
        Ok(Self {
            config: Arc::new(config),
            asks_clients: ca.is_some(),
        })
    }

    /// Whether clients must show certificates.
    #[must_use]
    pub const fn asks_clients(&self) -> bool {
        self.asks_clients
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Takes any certificate, but only from whoever has its private key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What an error of TLS means for whoever connects or listens; the text goes on after the peer's
/// name.
pub(crate) fn explain(error: &rustls::Error) -> Failure {
    use rustls::Error as Tls;
    let certificate = |what: String| Failure::Certificate(what);
    match error {
        Tls::InvalidCertificate(problem) => certificate(match problem {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "showed a certificate that has expired: it needs a new one".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "showed a certificate that is not valid yet: compare the clocks".to_owned()
            }
            CertificateError::NotValidForName => {
                "showed a certificate of another host: connect by the name that stands in it, or \
                 give server_name="
                    .to_owned()
            }
            CertificateError::NotValidForNameContext {
                expected,
                presented,
            } => format!(
                "showed a certificate of another host: it is for {}, not for {}; connect by the name \
                 that stands in it, or give server_name=",
                if presented.is_empty() {
                    "no name at all".to_owned()
                } else {
                    let bare = |name: &String| name.split('"').nth(1).unwrap_or(name).to_owned();
                    presented.iter().map(bare).collect::<Vec<_>>().join(", ")
                },
                expected.to_str(),
            ),
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "showed a certificate of an authority that this side does not trust: give the \
                 authority's certificate as ca=, or the shared key, if it has one, as key="
                    .to_owned()
            }
            other => format!("showed a certificate that this side does not accept ({other:?})"),
        }),
        Tls::NoCertificatesPresented => certificate(
            "showed no certificate, which this side asks for: give it cert= and key=".to_owned(),
        ),
        Tls::AlertReceived(AlertDescription::CertificateRequired) => certificate(
            "asks for a certificate of this side: give one as cert= and key=".to_owned(),
        ),
        Tls::AlertReceived(AlertDescription::CertificateExpired) => {
            certificate("refused this side's certificate: it has expired".to_owned())
        }
        Tls::AlertReceived(AlertDescription::UnknownCA) => certificate(
            "refused this side's certificate: it does not trust the authority that signed it"
                .to_owned(),
        ),
        Tls::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied),
        ) => certificate(format!("refused this side's certificate ({alert:?})")),
        Tls::InvalidMessage(_) => Failure::NotTls,
        other => Failure::Tls(other.to_string()),
    }
}
