//! What a program is told to listen on, and the sockets that come of it.

use crate::{
    address::Address,
    config::ConfigError,
    live::WebFile,
    serve::Server,
    socket::{Accepting, Bound},
};
use axum::Router;
use metrics::Registry;
use runtime::{Clock, Shutdown, Tasks};
use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

/// What a program is told to listen on.
#[derive(Clone, Debug, Default)]
pub struct ListenConfig {
    /// `host:port`, `:port`, `[v6]:port`, `vsock://:port` or `unix:/path`.
    pub addresses: Vec<String>,
    /// `--web.systemd-socket`: the sockets that systemd opened, and none of `addresses`. They belong to the first
    /// service of a process that asks for them.
    pub systemd_socket: bool,
    /// `--web.config.file`.
    pub config_file: Option<PathBuf>,
}

/// Why listening failed. Texts that upstream has are upstream's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The web configuration file is refused.
    #[error("{0}")]
    Config(std::sync::Arc<ConfigError>),
    /// Nothing to listen on.
    #[error("no web listen address or systemd socket flag specified")]
    NoListeners,
    /// Not an address, or a host or port that nobody knows.
    #[error("{0}")]
    Form(String),
    /// The address cannot be had.
    #[error("listen {address}: bind: {}", plain_text(cause))]
    Address {
        /// Network and address.
        address: String,
        /// What the system said.
        cause: io::Error,
    },
    /// `--web.systemd-socket` outside of a socket unit.
    #[error("no socket activation file descriptors found")]
    NoInherited,
    /// systemd passed something that cannot be accepted on.
    #[error("socket passed by systemd: {0}")]
    Inherited(io::Error),
}

impl BindError {
    pub(crate) fn bind(address: String, cause: io::Error) -> Self {
        Self::Address { address, cause }
    }
}

/// The system's text as C programs print it: no number, no capital.
pub(crate) fn plain_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// What one client may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request's head; at least 8 KiB.
    pub header_bytes: usize,
    /// Bytes of a request's body, however it is read.
    pub body_bytes: usize,
    /// Connections at once over all listeners; more wait, one a listener accepted and the rest in the kernel.
    pub connections: usize,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long a head may take, from its first byte or from the start of the connection.
    pub header_timeout: Duration,
    /// How long nothing of a body that is being read may arrive.
    pub body_timeout: Duration,
    /// How long a client may take nothing of its answer.
    pub write_timeout: Duration,
    /// How long a connection may be silent between requests.
    pub idle_timeout: Duration,
    /// How long connections may go on after shutdown began.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 64 << 10,
            body_bytes: 64 << 20,
            connections: 512,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(300),
            drain: Duration::from_secs(5),
        }
    }
}

/// What serving needs from the process.
#[derive(Debug)]
pub struct Options<'a> {
    /// Limits of clients.
    pub limits: Limits,
    /// For deadlines.
    pub clock: Clock,
    /// When to stop.
    pub shutdown: Shutdown,
    /// Where connections run.
    pub tasks: Tasks,
    /// Where connections are counted.
    pub registry: &'a Registry,
}

/// Reads a web configuration file and all that it names, as a start does.
///
/// # Errors
/// What a start would be refused for.
pub fn check_config(path: &std::path::Path) -> Result<(), std::sync::Arc<ConfigError>> {
    WebFile::open(path).map(drop)
}

/// Bound sockets.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<Bound>,
    web: Option<WebFile>,
}

impl Listeners {
    /// Binds all addresses or none.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(config: &ListenConfig) -> Result<Self, BindError> {
        let sockets = if config.systemd_socket {
            Bound::inherited()?
        } else {
            let bind = |text: &String| Bound::bind(&Address::parse(text).map_err(BindError::Form)?);
            config.addresses.iter().map(bind).collect::<Result<_, _>>()?
        };
        if sockets.is_empty() {
            return Err(BindError::NoListeners);
        }
        let web = config.config_file.as_deref().map(WebFile::open).transpose().map_err(BindError::Config)?;
        Ok(Self { sockets, web })
    }

    /// Where clients find the program by TCP.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(Bound::tcp_address).collect()
    }

    /// Every address as logs show it: `127.0.0.1:9100`, `unix:/path`, `vsock://:port`.
    pub fn describe(&self) -> Vec<String> {
        self.sockets.iter().map(Bound::describe).collect()
    }

    /// Every file that serving reads again: the web configuration file and what it named at the start. For programs that
    /// give up the right to read others.
    pub fn files(&self) -> Vec<PathBuf> {
        self.web.as_ref().map(WebFile::files).unwrap_or_default()
    }

    /// Socket files that are removed at the end.
    pub fn socket_files(&self) -> Vec<PathBuf> {
        self.sockets.iter().filter_map(Bound::file).collect()
    }

    /// Serves until shutdown, then lets connections finish for a while.
    ///
    /// # Errors
    /// When a socket cannot be given to the event loop.
    pub async fn serve(self, router: Router, options: Options<'_>) -> io::Result<()> {
        let tls = self.web.as_ref().is_some_and(WebFile::has_tls);
        let http2 = tls && self.web.as_ref().is_some_and(|web| web.at_start().http2);
        let server = Server::new(router, self.web, options)?;
        let listeners = self.sockets.into_iter().map(|socket| {
            let address = socket.describe();
            tracing::info!(%address, "Listening on");
            let state = if tls { "TLS is enabled." } else { "TLS is disabled." };
            tracing::info!(http2, %address, "{state}");
            socket.register()
        });
        let listeners: Vec<Accepting> = listeners.collect::<Result<_, _>>()?;
        server.run(listeners).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(config: ListenConfig) -> String {
        Listeners::bind(&config).expect_err("must be refused").to_string()
    }

    #[test]
    fn a_taken_port_is_refused_in_the_words_of_upstream() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("an address").to_string();
        let config = ListenConfig { addresses: vec![address.clone()], ..ListenConfig::default() };
        assert_eq!(refused(config), format!("listen tcp {address}: bind: address already in use"));
        let config = ListenConfig { addresses: vec!["192.0.2.1:0".into()], ..ListenConfig::default() };
        assert_eq!(refused(config), "listen tcp 192.0.2.1:0: bind: cannot assign requested address");
        let config = ListenConfig { addresses: vec!["::1:0".into()], ..ListenConfig::default() };
        assert_eq!(refused(config), "listen tcp: address ::1:0: too many colons in address");
    }

    #[test]
    fn nothing_to_listen_on_is_an_error() {
        assert_eq!(refused(ListenConfig::default()), "no web listen address or systemd socket flag specified");
        // The test runs outside of a socket unit.
        assert_eq!(
            refused(ListenConfig { systemd_socket: true, ..ListenConfig::default() }),
            "no socket activation file descriptors found"
        );
    }

    #[test]
    fn a_stale_socket_file_makes_room_and_a_live_one_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("web.sock");
        let config = ListenConfig { addresses: vec![format!("unix:{}", path.display())], ..ListenConfig::default() };
        drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
        let listeners = Listeners::bind(&config).expect("nobody listens there");
        assert_eq!(refused(config.clone()), format!("listen unix {}: bind: address already in use", path.display()));
        drop(listeners);
        assert!(!path.exists(), "the file goes with the socket");
        std::fs::File::create(&path).expect("a file that is no socket");
        assert!(refused(config).contains("address already in use"));
        assert!(path.exists(), "what is not a socket is never removed");
    }
}
