//! Starts a listener by every web configuration sample of a folder and compares with what the sample's name says.
//!
//! The samples are upstream's (`alertmanager/web-config` of the conformance data); their certificates are not among
//! them, so they are made here, under the names that the samples use. `.good.` has to start and `.bad.` must not. Two
//! that are called bad start upstream and fail at the handshake, which is asked for here as well; the rest have no
//! verdict in their names and are listed below by what promtool and pushgateway do with them.

use axum::{Router, routing::get};
use metrics::Registry;
use rcgen::{CertificateParams, KeyPair};
use runtime::{Clock, Disk, Shutdown, Tasks};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

/// What a sample has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Refused,
    /// Starts and answers requests. The client shows `client2_selfsigned` where a certificate is required.
    Serves,
    /// Starts, and the client gets no session.
    NoSession,
    /// Starts, and every request is answered with this status.
    Status(&'static str),
}

/// Samples whose names say nothing, or not all.
const SPECIAL: &[(&str, Expected)] = &[
    ("tls_config_noAuth.requireandverifyclientcert.good.yml", Expected::NoSession),
    ("web_config_auth_clientCAs_missing.bad.yml", Expected::NoSession),
    ("web_config_auth_client_san.bad.yaml", Expected::NoSession),
    ("web_config_empty.yml", Expected::Serves),
    ("web_config_junk.yml", Expected::Refused),
    ("web_config_junk_key.yml", Expected::Refused),
    // The certificate the client shows is not verified by the authorities of any system.
    ("web_config_noAuth.good.blocking.yml", Expected::NoSession),
    ("web_config_rate_limiter_nonblocking.yaml", Expected::Serves),
    ("web_config_rate_limiter_one_second.yaml", Expected::Status("429")),
    ("web_config_users.good.yml", Expected::Status("401")),
    ("web_config_users_noTLS.good.yml", Expected::Status("401")),
];

fn expected(name: &str) -> Option<Expected> {
    let special = SPECIAL.iter().find(|(known, _)| *known == name).map(|(_, expected)| *expected);
    special.or_else(|| match name {
        name if name.contains(".good.") => Some(Expected::Serves),
        name if name.contains(".bad.") => Some(Expected::Refused),
        _ => None,
    })
}

/// A certificate of its own making, with its key.
struct Identity {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

/// The server's key: the samples name suites of RSA, whose keys cannot be made here. It guards nothing.
const RSA_KEY: &str = include_str!("../testdata/rsa.key");

impl Identity {
    fn make(disk: &Disk, name: &str, names: &[&str]) -> anyhow::Result<Self> {
        let key = if name == "server.crt" { KeyPair::from_pem(RSA_KEY)? } else { KeyPair::generate()? };
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names)?.self_signed(&key)?;
        disk.publish(name, certificate.pem().as_bytes())?;
        disk.publish("server.key", key.serialize_pem().as_bytes())?;
        Ok(Self { certificate: certificate.der().clone(), key })
    }
}

/// The samples' surroundings and the two sides of a session.
struct Bench {
    folder: PathBuf,
    disk: Disk,
    server: Identity,
    client: Identity,
}

impl Bench {
    fn new(folder: &Path) -> anyhow::Result<Self> {
        let disk = Disk::open(folder)?;
        Identity::make(&disk, "client_selfsigned.pem", &["test1"])?;
        let client = Identity::make(&disk, "client2_selfsigned.pem", &["test2", "test3"])?;
        // Last, so that its key is the one that stays.
        let server = Identity::make(&disk, "server.crt", &["localhost"])?;
        Ok(Self { folder: folder.to_owned(), disk, server, client })
    }

    /// What the sample does, in words when it is not what was expected.
    async fn run(&self, name: &str, text: &[u8], expected: Expected) -> Result<(), String> {
        self.disk.publish(name, text).map_err(|error| error.to_string())?;
        let config = web::ListenConfig {
            addresses: vec!["127.0.0.1:0".to_owned()],
            config_file: Some(self.folder.join(name)),
            ..web::ListenConfig::default()
        };
        let listeners = match web::Listeners::bind(&config) {
            Ok(_) if expected == Expected::Refused => return Err("starts, and must be refused".to_owned()),
            Ok(listeners) => listeners,
            Err(_) if expected == Expected::Refused => return Ok(()),
            Err(error) => return Err(format!("is refused: {error}")),
        };
        let text = String::from_utf8_lossy(text);
        let session = text.contains("tls_server_config").then(|| self.connector(text.contains("Require")));
        let got = self.ask(listeners, session.transpose().map_err(|error| error.to_string())?).await;
        let wanted = match expected {
            Expected::NoSession => "",
            Expected::Status(status) => status,
            _ => "200",
        };
        if got == wanted { Ok(()) } else { Err(format!("answers {got:?} instead of {wanted:?}")) }
    }

    /// The status of one answer; empty when there is none.
    async fn ask(&self, listeners: web::Listeners, tls: Option<TlsConnector>) -> String {
        let clock = Clock::system();
        let (shutdown, tasks, registry) = (Shutdown::new(), Tasks::new(clock.clone()), Registry::new());
        let address = listeners.local_addrs()[0];
        let options = web::Options {
            limits: web::Limits::default(),
            clock: clock.clone(),
            shutdown: shutdown.clone(),
            tasks,
            registry: &registry,
        };
        let router = Router::new().route("/", get(|| async { "served" }));
        let client = async {
            let asked = clock.timeout(Duration::from_secs(20), request(address, tls)).await;
            shutdown.begin();
            asked.ok().and_then(Result::ok).unwrap_or_default()
        };
        let (_, status) = tokio::join!(listeners.serve(router, options), client);
        status
    }

    fn connector(&self, shows: bool) -> anyhow::Result<TlsConnector> {
        let mut provider = rustls::crypto::ring::default_provider();
        // Servers of P-521 alone need a client who has it.
        provider.kx_groups.push(web::p521());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.server.certificate.clone())?;
        let key = PrivateKeyDer::try_from(self.client.key.serialize_der()).map_err(anyhow::Error::msg)?;
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match shows {
            true => config.with_client_auth_cert(vec![self.client.certificate.clone()], key)?,
            false => config.with_no_client_auth(),
        };
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

async fn request(address: std::net::SocketAddr, tls: Option<TlsConnector>) -> anyhow::Result<String> {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let mut answer = Vec::new();
    match tls {
        Some(connector) => {
            let mut session = connector.connect("localhost".try_into()?, stream).await?;
            session.write_all(REQUEST).await?;
            session.read_to_end(&mut answer).await?;
        }
        None => {
            stream.write_all(REQUEST).await?;
            stream.read_to_end(&mut answer).await?;
        }
    }
    Ok(String::from_utf8_lossy(&answer).get(9..12).unwrap_or_default().to_owned())
}

async fn check(data: &Path) -> anyhow::Result<bool> {
    let folder = tempfile::tempdir()?;
    let bench = Bench::new(folder.path())?;
    let mut samples: Vec<PathBuf> =
        std::fs::read_dir(data)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    samples.sort();
    let (mut passed, mut failed) = (0, 0);
    for path in &samples {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let done = match expected(&name) {
            Some(expected) => bench.run(&name, &std::fs::read(path)?, expected).await,
            None => Err("nothing is known about what this sample has to do".to_owned()),
        };
        println!("{name}: {} passed, {} failed", i32::from(done.is_ok()), i32::from(done.is_err()));
        match done {
            Ok(()) => passed += 1,
            Err(text) => {
                failed += 1;
                println!("  {text}");
            }
        }
    }
    println!("web-config: {passed} passed, {failed} failed");
    Ok(failed == 0 && passed > 0)
}

fn main() -> ExitCode {
    let Some(data) = std::env::args_os().nth(1) else {
        eprintln!("usage: conformance FOLDER");
        return ExitCode::FAILURE;
    };
    let data = PathBuf::from(data);
    let data = if data.join("web-config").is_dir() { data.join("web-config") } else { data };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(check(&data)));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{}: {error:#}", data.display());
            ExitCode::FAILURE
        }
    }
}
