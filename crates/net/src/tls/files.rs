//! Certificates and keys from PEM files.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsFiles;
use crate::Error;

/// The certificate chain, its key, and the file of the certificate.
pub(super) type Identity = (
    Vec<CertificateDer<'static>>,
    PrivateKeyDer<'static>,
    PathBuf,
);

/// This end's certificate and its key, if it has them.
pub(super) fn identity(files: &TlsFiles) -> Result<Option<Identity>, Error> {
    let (cert, key) = match (&files.cert, &files.key) {
        (None, None) => return Ok(None),
        (Some(cert), Some(key)) => (cert, key),
        (Some(cert), None) => (cert, cert),
        (None, Some(_)) => {
            return Err(Error::Tls(
                "a private key without its certificate: give cert= as well".to_owned(),
            ));
        }
    };
    let chain = certificates(cert)?;
    let key =
        PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, "private key", &error))?;
    Ok(Some((chain, key, cert.clone())))
}

/// Adds the certificates in a file to those that are trusted.
pub(super) fn authorities(path: &Path, roots: &mut RootCertStore) -> Result<(), Error> {
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| unusable(path, &error))?;
    }
    Ok(())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| wrong(path, "certificate", &error))?
        .collect();
    let found = found.map_err(|error| wrong(path, "certificate", &error))?;
    if found.is_empty() {
        return Err(wrong(path, "certificate", &pem::Error::NoItemsFound));
    }
    Ok(found)
}

fn wrong(path: &Path, what: &str, error: &pem::Error) -> Error {
    let path = path.display();
    Error::Tls(match error {
        pem::Error::Io(error) => format!("cannot read {path}: {error}"),
        pem::Error::NoItemsFound => format!("{path} holds no {what} in PEM form"),
        other => format!("{path} is no PEM file of a {what}: {other}"),
    })
}

pub(super) fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Tls(format!("{} cannot be used: {error}", path.display()))
}
