//! The dashboard program with a server that uses TLS, client certificates and tokens.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use pktvisord::cli::Cli;
use pktvisord::serve::Options;
use pktvisord::serve::access::Access;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use crate::support::{self, Server, serve_with};

/// A certificate authority that stores its certificates in a folder.
struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Signs a certificate for `localhost` or for a client. Returns the paths of the certificate
    /// and its key.
    fn sign(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (pem, key_pem) = (format!("{name}.pem"), format!("{name}.key"));
        std::fs::write(self.folder.path().join(&pem), certificate.pem()).unwrap();
        std::fs::write(self.folder.path().join(&key_pem), key.serialize_pem()).unwrap();
        (self.file(&pem), self.file(&key_pem))
    }
}

/// Starts a server with these options. Returns it with its URL.
fn serve(options: &[&str]) -> (Server, String) {
    let cli = Cli::parse_from([&["pktvisord", "any"], options].concat());
    let access = Access::open(&cli.model.serve.access).unwrap();
    let server = serve_with(([127, 0, 0, 1], 0).into(), Options { access, ..Options::default() });
    let url = format!("https://localhost:{}", server.address.port());
    (server, url)
}

fn pktvisor(arguments: &[&str]) -> Output {
    Command::new(support::program()).arg("--json").args(arguments).output().unwrap()
}

#[track_caller]
fn succeeds(arguments: &[&str]) {
    let output = pktvisor(arguments);
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.starts_with(b"{\"3m\":"), "{output:?}");
}

#[track_caller]
fn fails(arguments: &[&str], code: i32, message: &str) {
    let output = pktvisor(arguments);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(message), "{said}");
}

#[test]
fn trusts_servers_of_the_given_authority() {
    let authority = Authority::new();
    let (cert, key) = authority.sign("server", ExtendedKeyUsagePurpose::ServerAuth);
    let (_server, url) = serve(&["--tls-cert", &cert, "--tls-key", &key]);
    let ca = authority.file("ca.pem");
    succeeds(&[&url, "--ca", &ca]);
    fails(&[&url], 3, "UnknownIssuer; name its certificate authority with --ca");
    fails(&[&url, "--ca", &Authority::new().file("ca.pem")], 3, "cannot reach");
    // A name that is not in the certificate.
    fails(&[&url.replace("localhost", "127.0.0.1"), "--ca", &ca], 3, "cannot reach");
    // A TLS server does not answer plain HTTP.
    fails(&[&url.replace("https://", "http://")], 3, "if it uses TLS, use https://");
    fails(&[&url.replace("https://", "http://"), "--ca", &ca], 2, "--ca requires TLS");
    fails(&[&url, "--ca", "/no/such/file"], 2, "cannot read /no/such/file");
    fails(&[&url, "--ca", &key], 2, "the file has no certificate in PEM");
}

#[test]
fn serves_clients_of_the_given_authority() {
    let authority = Authority::new();
    let (cert, key) = authority.sign("server", ExtendedKeyUsagePurpose::ServerAuth);
    let clients = Authority::new();
    let (own, own_key) = clients.sign("client", ExtendedKeyUsagePurpose::ClientAuth);
    let (ca, client_ca) = (authority.file("ca.pem"), clients.file("ca.pem"));
    let options = ["--tls-cert", &cert, "--tls-key", &key, "--client-ca", &client_ca];
    let (_server, url) = serve(&options);
    succeeds(&[&url, "--ca", &ca, "--cert", &own, "--key", &own_key]);
    fails(&[&url, "--ca", &ca], 3, "cannot reach");
    let strangers = Authority::new();
    let (strange, strange_key) = strangers.sign("client", ExtendedKeyUsagePurpose::ClientAuth);
    fails(&[&url, "--ca", &ca, "--cert", &strange, "--key", &strange_key], 3, "cannot reach");
    fails(&[&url, "--ca", &ca, "--cert", &own], 2, "--key");
    let other = format!("{strange_key} is not its private key");
    fails(&[&url, "--ca", &ca, "--cert", &own, "--key", &strange_key], 2, &other);
}

/// Sends a request over an open connection. Returns the start of the answer, or nothing if the
/// connection was closed.
fn ask(stream: &mut (impl Read + Write)) -> String {
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut answer = [0; 4_096];
    let read = stream.write_all(request.as_bytes()).and_then(|()| stream.read(&mut answer));
    String::from_utf8_lossy(&answer[..read.unwrap_or(0)]).into_owned()
}

#[test]
fn closes_connections_whose_authority_was_removed() {
    let authority = Authority::new();
    let (cert, key) = authority.sign("server", ExtendedKeyUsagePurpose::ServerAuth);
    let [old, new] = [Authority::new(), Authority::new()];
    let client_ca = authority.file("clients.pem");
    let trust = |authorities: &[&Authority]| {
        let pem: String = authorities.iter().map(|one| one.issuer.pem()).collect();
        std::fs::write(&client_ca, pem).unwrap();
        let options = ["--tls-cert", &cert, "--tls-key", &key, "--client-ca", &client_ca];
        let cli = Cli::parse_from([&["pktvisord", "any"], &options[..]].concat());
        Access::open(&cli.model.serve.access).unwrap()
    };
    let access = trust(&[&old, &new]);
    let options = Options { access, ..Options::default() };
    let server = serve_with(([127, 0, 0, 1], 0).into(), options.clone());
    let connect = |clients: &Authority| {
        let (own, own_key) = clients.sign("client", ExtendedKeyUsagePurpose::ClientAuth);
        let mut roots = RootCertStore::empty();
        roots.add(authority.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(own).unwrap()],
                PrivateKeyDer::from_pem_file(own_key).unwrap(),
            );
        let name = "localhost".try_into().unwrap();
        let connection = ClientConnection::new(Arc::new(config.unwrap()), name).unwrap();
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        StreamOwned::new(connection, stream)
    };
    let (mut of_old, mut of_new) = (connect(&old), connect(&new));
    for stream in [&mut of_old, &mut of_new] {
        assert!(ask(stream).starts_with("HTTP/1.1 200"));
    }
    options.replace_access(&trust(&[&new]));
    assert_eq!(ask(&mut of_old), "");
    assert!(ask(&mut of_new).starts_with("HTTP/1.1 200"));
    assert_eq!(ask(&mut connect(&old)), "");
}

#[test]
fn sends_token_over_tls_and_never_prints_it() {
    let authority = Authority::new();
    let (cert, key) = authority.sign("server", ExtendedKeyUsagePurpose::ServerAuth);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let right = file("right", "# of this year\nright-right-right-right\n");
    let wrong = file("wrong", "wrong-wrong-wrong-wrong\n");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let options = ["--tls-cert", &cert, "--tls-key", &key, "--token-file", &text(&right)];
    let (_server, url) = serve(&options);
    let ca = authority.file("ca.pem");
    succeeds(&[&url, "--ca", &ca, "--token-file", &text(&right)]);
    fails(&[&url, "--ca", &ca], 4, "answered 401: missing token");
    let output = pktvisor(&[&url, "--ca", &ca, "--token-file", &text(&wrong)]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("wrong-") && said.contains("invalid token"), "{said}");
    let empty = text(&file("empty", "# nothing\n"));
    fails(&[&url, "--ca", &ca, "--token-file", &empty], 2, "the file has no token");
}
