//! The certificate and key of a listener, and their replacement while it runs.
//! Knows nothing of sockets or of what is spoken inside.

use crate::config::TlsFiles;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate chain with its key, read from files and read again on demand.
#[derive(Debug)]
pub struct Tls(RwLock<Arc<rustls::ServerConfig>>);

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn load(files: &TlsFiles) -> io::Result<Tls> {
        Ok(Tls(RwLock::new(read(files)?)))
    }

    /// Reads files again: connections made from now on are shown what they hold.
    ///
    /// # Errors
    /// As [`Tls::load`]; all stays as it was then.
    pub fn reload(&self, files: &TlsFiles) -> io::Result<()> {
        let config = read(files)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// What shakes hands with the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let config = self.0.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&config))
    }
}

fn read(files: &TlsFiles) -> io::Result<Arc<rustls::ServerConfig>> {
    let TlsFiles { certificate_file, key_file } = files;
    let refuse = |file: &PathBuf, cause: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {cause}", file.display()))
    };
    let chain = CertificateDer::pem_file_iter(certificate_file)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
        .map_err(|cause| refuse(certificate_file, &cause))?;
    if chain.is_empty() {
        return Err(refuse(certificate_file, &"holds no certificate in PEM form"));
    }
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|cause| refuse(key_file, &cause))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|cause| refuse(certificate_file, &cause))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
