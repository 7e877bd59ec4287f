//! Access control: TLS, client certificates, bearer tokens.
//!
//! The files are read at the start and again on SIGHUP, so certificates and tokens can be replaced
//! while the daemon runs. Logs and errors never contain a token.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use pktvisor_common::tls::mismatch;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use subtle::{Choice, ConstantTimeEq};

use crate::aggregate::settings::Shared;
use crate::system::needs::Needs;
use crate::system::occasional::Occasional;
use crate::system::secret::{self, FileError};

/// Minimum length of a token in bytes: 16 hexadecimal digits are 64 random bits.
const SHORTEST: usize = 16;

/// Reason why access control cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// An option without another one that it needs.
    #[error("{0} requires {1}")]
    Incomplete(&'static str, &'static str),
    /// A file cannot be read or has the wrong content.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Accepted bearer tokens (RFC 6750).
pub struct Tokens(Vec<Box<[u8]>>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0.len())
    }
}

impl Tokens {
    /// Reads one token from each line. Skips empty lines and lines that start with `#`.
    fn read(path: &Path) -> Result<Self, FileError> {
        let unusable = |problem: &str| FileError::unusable(path, problem);
        let text = String::from_utf8(secret::read(path)?)
            .map_err(|_| unusable("not a text file: expected one token per line"))?;
        let lines = (1..).zip(text.lines().map(str::trim));
        let mut tokens = Vec::new();
        for (number, line) in lines.filter(|(_, l)| !l.is_empty() && !l.starts_with('#')) {
            // RFC 6750, section 2.1.
            let fits = |c: u8| c.is_ascii_alphanumeric() || b"-._~+/=".contains(&c);
            if line.len() < SHORTEST || !line.bytes().all(fits) {
                return Err(unusable(&format!(
                    "line {number} is not a token: expected at least {SHORTEST} letters, digits and \
                     -._~+/="
                )));
            }
            tokens.push(line.as_bytes().into());
        }
        if tokens.is_empty() {
            return Err(unusable("the file has no token: expected one per line"));
        }
        Ok(Self(tokens))
    }

    /// Returns true if `token` is one of these. The time taken does not depend on which one it is,
    /// nor on how much of it matches.
    pub fn contain(&self, token: &[u8]) -> bool {
        let any = self.0.iter().fold(Choice::from(0), |any, one| any | one.ct_eq(token));
        any.into()
    }
}

/// The access control of the HTTP interface.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Accepted tokens. `None` if requests need no token.
    pub tokens: Option<Arc<Shared<Tokens>>>,
    /// TLS configuration. `None` for plain HTTP.
    pub tls: Option<Arc<Shared<ServerConfig>>>,
    /// Verifier of client certificates. `None` if clients need no certificate.
    pub clients: Option<Arc<Shared<Clients>>>,
    /// Number of requests with a wrong token.
    pub wrong_tokens: Arc<Occasional>,
}

/// Verifier of client certificates.
#[derive(Debug)]
pub struct Clients(Arc<dyn ClientCertVerifier>);

impl Clients {
    /// Returns true if this chain, the client's own certificate first, is accepted now.
    pub fn accept(&self, shown: &[CertificateDer<'_>]) -> bool {
        let Some((own, between)) = shown.split_first() else { return false };
        self.0.verify_client_cert(own, between, UnixTime::now()).is_ok()
    }
}

/// The files that say who may ask.
#[derive(Clone, Debug, Default, Args)]
pub struct AccessFiles {
    /// Serve over TLS with this certificate chain (PEM)
    #[arg(long, value_name = "FILE", help_heading = "Serving")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "FILE", help_heading = "Serving")]
    pub tls_key: Option<PathBuf>,

    /// Serve only clients that have a certificate from one of these authorities (PEM)
    #[arg(long, value_name = "FILE", help_heading = "Serving")]
    pub client_ca: Option<PathBuf>,

    /// Serve only clients that send one of the tokens in this file, one per line
    #[arg(long, value_name = "FILE", help_heading = "Serving")]
    pub token_file: Option<PathBuf>,
}

impl AccessFiles {
    /// Returns the needs for reading these files again.
    pub fn needs(&self) -> Needs {
        let Self { tls_cert, tls_key, client_ca, token_file } = self;
        let reads = [tls_cert, tls_key, client_ca, token_file].into_iter().flatten().cloned();
        Needs { reads: reads.collect(), ..Needs::default() }
    }
}

impl Access {
    /// Reads the files.
    ///
    /// # Errors
    /// [`AccessError`] if a file is missing or has the wrong content, or if an option lacks another
    /// one.
    pub fn open(files: &AccessFiles) -> Result<Self, AccessError> {
        let tokens = files.token_file.as_deref().map(Tokens::read).transpose()?;
        let clients = files.client_ca.as_deref().map(verifier).transpose()?;
        let tls = match (&files.tls_cert, &files.tls_key) {
            (Some(certificates), Some(key)) => {
                Some(server_config(certificates, key, clients.clone())?)
            }
            (Some(_), None) => return Err(AccessError::Incomplete("--tls-cert", "--tls-key")),
            (None, Some(_)) => return Err(AccessError::Incomplete("--tls-key", "--tls-cert")),
            (None, None) if clients.is_some() => {
                return Err(AccessError::Incomplete("--client-ca", "--tls-cert and --tls-key"));
            }
            (None, None) => None,
        };
        Ok(Self {
            tokens: tokens.map(|tokens| Arc::new(tokens.into())),
            tls: tls.map(|tls| Arc::new(tls.into())),
            clients: clients.map(|clients| Arc::new(Clients(clients).into())),
            wrong_tokens: Arc::default(),
        })
    }

    /// Returns true if clients have to authenticate.
    pub fn is_guarded(&self) -> bool {
        self.tokens.is_some() || self.clients.is_some()
    }

    /// Takes over the tokens and certificates of `newer`, which was opened with the same options.
    pub fn replace(&self, newer: &Self) {
        if let (Some(mine), Some(newer)) = (&self.tokens, &newer.tokens) {
            mine.set_shared(newer.now());
        }
        if let (Some(mine), Some(newer)) = (&self.tls, &newer.tls) {
            mine.set_shared(newer.now());
        }
        if let (Some(mine), Some(newer)) = (&self.clients, &newer.clients) {
            mine.set_shared(newer.now());
        }
    }
}

fn server_config(
    certificates: &Path,
    key: &Path,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, FileError> {
    let provider = Arc::new(ring::default_provider());
    let chain = certificates_in(certificates)?;
    let private = PrivateKeyDer::from_pem_slice(&secret::read(key)?).map_err(|error| {
        FileError::unusable(key, format!("invalid private key in PEM: {error}"))
    })?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| FileError::unusable(certificates, error.to_string()))?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(clients),
    };
    let mut config = builder
        .with_single_cert(chain, private)
        .map_err(|error| FileError::unusable(certificates, mismatch(&error, key)))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Reason why client certificates cannot be verified.
#[derive(Debug, thiserror::Error)]
enum VerifierError {
    #[error("invalid authority for client certificates: {0}")]
    Roots(#[from] rustls::Error),
    #[error("invalid authority for client certificates: {0}")]
    Verifier(#[from] VerifierBuilderError),
}

/// Builds a verifier of client certificates from the authorities in this file.
fn verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, FileError> {
    let certificates = certificates_in(path)?;
    let verifier = || -> Result<_, VerifierError> {
        let mut roots = RootCertStore::empty();
        certificates.into_iter().try_for_each(|certificate| roots.add(certificate))?;
        let provider = Arc::new(ring::default_provider());
        Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?)
    };
    verifier().map_err(|error| FileError::unusable(path, error.to_string()))
}

/// Reads the certificates of a PEM file, at least one.
fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let text = std::fs::read(path).map_err(|source| FileError::unreadable(path, source))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let problem = match read {
        Ok(certificates) if !certificates.is_empty() => return Ok(certificates),
        Ok(_) => "the file has no certificate in PEM".to_owned(),
        Err(error) => format!("invalid certificate in PEM: {error}"),
    };
    Err(FileError::unusable(path, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Tokens, FileError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        std::fs::write(&path, text).unwrap();
        Tokens::read(&path)
    }

    #[test]
    fn accepts_each_token_of_the_file_and_no_other() {
        let read = tokens("# a\n\n  0123456789abcdef \nfedcba9876543210.~\n").unwrap();
        for (token, opens) in [
            ("0123456789abcdef", true),
            ("fedcba9876543210.~", true),
            ("0123456789abcdeg", false),
            ("0123456789abcde", false),
            ("# a", false),
            ("", false),
        ] {
            assert_eq!(read.contain(token.as_bytes()), opens, "{token}");
        }
        assert_eq!(format!("{read:?}"), "2 tokens");
    }

    #[test]
    fn reports_invalid_tokens_without_showing_them() {
        for (text, problem) in [
            ("", "the file has no token"),
            ("# only a comment\n", "the file has no token"),
            ("0123456789abcdef\nshort-secret\n", "line 2 is not a token"),
            ("0123456789abcdef secret\n", "line 1 is not a token"),
            ("0123456789abcdéf\n", "line 1 is not a token"),
        ] {
            let error = tokens(text).unwrap_err().to_string();
            assert!(error.contains(problem) && !error.contains("secret"), "{text:?}: {error}");
        }
    }
}
