//! Credentials for daemons, and trust in them: tokens, client certificates, authorities.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pktvisor_common::tls::mismatch;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use ureq::Agent;
use ureq::http::HeaderValue;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use crate::address::Address;
use crate::cli::Options;
use crate::client;

/// Authorities that the system trusts, at the path of Debian and most other systems.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Reason why credentials cannot be used.
#[derive(Debug, Error)]
pub(crate) enum CredentialsError {
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{}: {problem}", path.display())]
    Unusable { path: PathBuf, problem: String },
    #[error("{option} requires TLS, but {address} is plain HTTP: use https://")]
    Plain { option: &'static str, address: Address },
}

/// Checks that the TLS options fit the addresses. Warns about a token that is sent unencrypted to
/// another host.
pub(crate) fn check(options: &Options, addresses: &[Address]) -> Result<(), CredentialsError> {
    let option = match options {
        Options { ca: Some(_), .. } => Some("--ca"),
        Options { cert: Some(_), .. } => Some("--cert"),
        _ => None,
    };
    for address in addresses.iter().filter(|address| !address.is_encrypted()) {
        if let Some(option) = option {
            return Err(CredentialsError::Plain { option, address: address.clone() });
        }
        if options.token_file.is_some() && !address.is_loopback() {
            eprintln!(
                "pktvisor: warning: sending the token to {address} unencrypted; use https://"
            );
        }
    }
    Ok(())
}

/// HTTP agent with its TLS configuration, and the token to send.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) agent: Agent,
    pub(crate) authorization: Option<HeaderValue>,
}

impl Credentials {
    /// Reads the files that the options name.
    pub(crate) fn read(options: &Options) -> Result<Self, CredentialsError> {
        let authorization = options.token_file.as_deref().map(authorization).transpose()?;
        let authorities = match &options.ca {
            Some(path) => certificates(path)?,
            // Without authorities, only plain HTTP works. A failed handshake reports the reason.
            None => certificates(Path::new(SYSTEM_AUTHORITIES)).unwrap_or_default(),
        };
        let own = match (&options.cert, &options.key) {
            (Some(certificate), Some(key)) => {
                let problem = |error: ureq::Error| unusable(key, error.to_string());
                let pem = read(key)?;
                let private = PrivateKey::from_pem(&pem).map_err(problem)?;
                let chain = certificates(certificate)?;
                check_pair(&chain, &pem, key).map_err(|problem| unusable(certificate, problem))?;
                Some(ClientCert::new_with_certs(&chain, private))
            }
            _ => None,
        };
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&authorities))
            .client_cert(own)
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
            .build();
        Ok(Self { agent: client::agent(tls), authorization })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    fs::read(path).map_err(|source| CredentialsError::Unreadable { path: path.to_owned(), source })
}

fn unusable(path: &Path, problem: String) -> CredentialsError {
    CredentialsError::Unusable { path: path.to_owned(), problem }
}

/// Checks that a certificate chain and a key, in PEM, belong together. ureq does not check this.
fn check_pair(chain: &[Certificate<'_>], pem: &[u8], key: &Path) -> Result<(), String> {
    let private = PrivateKeyDer::from_pem_slice(pem).map_err(|error| error.to_string())?;
    let chain = chain.iter().map(|one| CertificateDer::from(one.der().to_vec())).collect();
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(RootCertStore::empty()))
        .and_then(|builder| builder.with_client_auth_cert(chain, private))
        .map(drop)
        .map_err(|error| mismatch(&error, key))
}

/// Reads the first token of a file.
fn authorization(path: &Path) -> Result<HeaderValue, CredentialsError> {
    let text = read(path)?;
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().map(str::trim);
    let token = lines.into_iter().find(|line| !line.is_empty() && !line.starts_with('#'));
    let token = token.ok_or_else(|| unusable(path, "the file has no token".to_owned()))?;
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| unusable(path, "the first line is not a token".to_owned()))?;
    // Keep the token out of debug output.
    value.set_sensitive(true);
    Ok(value)
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, CredentialsError> {
    let pem = read(path)?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    match certificates.is_empty() {
        true => Err(unusable(path, "the file has no certificate in PEM".to_owned())),
        false => Ok(certificates),
    }
}
