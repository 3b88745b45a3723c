//! What the tests of serving share: a site on a free port, clients, certificates.

use crate::{Limits, ListenConfig, Listeners, Options};
use axum::{Router, routing::get};
use metrics::Registry;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use runtime::{Clock, Disk, Shutdown, Tasks};
use std::{future::Future, net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A site that is served on a free port while a client asks.
pub(crate) struct Served {
    pub(crate) config: ListenConfig,
    pub(crate) limits: Limits,
    pub(crate) registry: Registry,
    pub(crate) shutdown: Shutdown,
    pub(crate) tasks: Tasks,
}

impl Served {
    pub(crate) fn new() -> Self {
        Self {
            config: ListenConfig { addresses: vec!["127.0.0.1:0".into()], ..ListenConfig::default() },
            limits: Limits::default(),
            registry: Registry::new(),
            shutdown: Shutdown::new(),
            tasks: Tasks::new(Clock::system()),
        }
    }

    pub(crate) fn listen(&self) -> (Listeners, Option<SocketAddr>) {
        let listeners = Listeners::bind(&self.config).expect("binds");
        let address = listeners.local_addrs().first().copied();
        (listeners, address)
    }

    pub(crate) fn options(&self) -> Options<'_> {
        Options {
            limits: self.limits,
            clock: Clock::system(),
            shutdown: self.shutdown.clone(),
            tasks: self.tasks.clone(),
            registry: &self.registry,
        }
    }

    /// Serves `router` until the client is done.
    pub(crate) async fn with<F: Future<Output = ()>>(&self, router: Router, client: impl FnOnce(SocketAddr) -> F) {
        let (listeners, address) = self.listen();
        let client = async {
            client(address.expect("a port")).await;
            self.shutdown.begin();
        };
        let (served, ()) = soon(async { tokio::join!(listeners.serve(router, self.options()), client) }).await;
        served.expect("an orderly end");
    }

    /// The value of a series, such as `name` or `name{reason="x"}`.
    pub(crate) fn value(&self, series: &str) -> f64 {
        let mut text = Vec::new();
        let (format, escaping) = exposition::negotiate(None, false);
        exposition::write(&self.registry.gather(), format, escaping, &mut text);
        let text = String::from_utf8(text).expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().expect("a number")
    }

    /// Waits until a series has a value.
    pub(crate) async fn until(&self, series: &str, value: f64) {
        let reached = async {
            while self.value(series) != value {
                tokio::task::yield_now().await;
            }
        };
        soon(reached).await;
    }
}

/// Makes of what would hang a failure.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    Clock::system().timeout(std::time::Duration::from_secs(60), work).await.expect("done within a minute")
}

pub(crate) async fn send(address: SocketAddr, request: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    // The other side may refuse before it has read everything.
    let _ = stream.write_all(request).await;
    stream
}

pub(crate) async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) async fn ask(address: SocketAddr, request: &[u8]) -> String {
    rest(&mut send(address, request).await).await
}

/// Reads one answer with a body of a known length, and leaves the connection open.
pub(crate) async fn one(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        let mut piece = [0; 1024];
        match stream.read(&mut piece).await {
            Ok(read @ 1..) => answer.extend_from_slice(&piece[..read]),
            _ => return text,
        }
    }
}

pub(crate) const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
pub(crate) const LAST_GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

pub(crate) fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

/// A certificate with its key, and what made it.
pub(crate) struct Identity {
    params: CertificateParams,
    key: KeyPair,
    certificate: rcgen::Certificate,
}

impl Identity {
    pub(crate) fn new(names: &[&str], issuer: Option<&Identity>, change: impl Fn(&mut CertificateParams)) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = match issuer {
            Some(issuer) => params.signed_by(&key, &Issuer::from_params(&issuer.params, &issuer.key)),
            None => params.self_signed(&key),
        };
        Self { params, key, certificate: certificate.expect("a certificate") }
    }

    /// Signed by itself, as most are that only have to be known.
    pub(crate) fn own(names: &[&str]) -> Self {
        Self::new(names, None, |_| {})
    }

    pub(crate) fn authority() -> Self {
        Self::new(&[], None, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))
    }

    pub(crate) fn client(names: &[&str], issuer: Option<&Identity>) -> Self {
        Self::new(names, issuer, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    pub(crate) fn der(&self) -> rustls::pki_types::CertificateDer<'static> {
        self.certificate.der().clone()
    }

    fn key_der(&self) -> rustls::pki_types::PrivateKeyDer<'static> {
        rustls::pki_types::PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key")
    }
}

/// A folder with a web configuration and what it names.
pub(crate) struct Folder {
    folder: tempfile::TempDir,
    pub(crate) disk: Disk,
}

impl Folder {
    pub(crate) fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Disk::open(folder.path()).expect("a folder");
        let this = Self { folder, disk };
        this.put("web.yml", config);
        this
    }

    pub(crate) fn put(&self, name: &str, text: &str) {
        self.disk.publish(name, text.as_bytes()).expect("written");
    }

    pub(crate) fn put_identity(&self, name: &str, identity: &Identity) {
        self.put(&format!("{name}.crt"), &identity.pem());
        self.put(&format!("{name}.key"), &identity.key_pem());
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// A site that takes its configuration from here.
    pub(crate) fn served(&self) -> Served {
        let mut served = Served::new();
        served.config.config_file = Some(self.path("web.yml"));
        served
    }
}

/// How a client of TLS comes.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) trusted: rustls::pki_types::CertificateDer<'static>,
    pub(crate) identity: Option<Arc<Identity>>,
    pub(crate) versions: &'static [&'static rustls::SupportedProtocolVersion],
    pub(crate) provider: rustls::crypto::CryptoProvider,
    pub(crate) protocols: &'static [&'static str],
}

impl Caller {
    pub(crate) fn of(server: &Identity) -> Self {
        Self {
            trusted: server.der(),
            identity: None,
            versions: rustls::ALL_VERSIONS,
            provider: rustls::crypto::ring::default_provider(),
            protocols: &[],
        }
    }

    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.trusted.clone()).expect("a root");
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(self.provider.clone()))
            .with_protocol_versions(self.versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            Some(identity) => config.with_client_auth_cert(vec![identity.der()], identity.key_der()).expect("a pair"),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = self.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = "localhost".try_into().expect("a name");
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
    }

    /// The answer to a request, or nothing when no session comes about.
    pub(crate) async fn ask(&self, address: SocketAddr) -> String {
        let Ok(mut stream) = self.connect(address).await else { return String::new() };
        let _ = stream.write_all(LAST_GET).await;
        rest(&mut stream).await
    }
}
