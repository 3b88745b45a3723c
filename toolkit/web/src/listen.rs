//! Sockets, the accept loop and its limits.

use axum::{Router, extract::DefaultBodyLimit};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use metrics::Registry;
use runtime::{Clock, Shutdown, Tasks};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Semaphore};

/// What a program is told to listen on.
#[derive(Clone, Debug, Default)]
pub struct ListenConfig {
    /// `host:port`, `:port` or `[v6]:port`.
    pub addresses: Vec<String>,
    /// `--web.systemd-socket`.
    pub systemd_socket: bool,
    /// `--web.config.file`.
    pub config_file: Option<PathBuf>,
}

/// Why listening failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The address cannot be had.
    #[error("listen {address}: {source}; choose another by --web.listen-address")]
    Address {
        /// As given.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not an address.
    #[error("listen {0:?}: not of the form host:port, give one by --web.listen-address")]
    Form(String),
    /// Valid upstream, and not here yet.
    #[error("{0} is not built in narthex yet; leave the flag out to start")]
    NotBuilt(&'static str),
}

/// What one client may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Connections at once over all listeners; more wait.
    pub connections: usize,
    /// How long a head may take.
    pub header_timeout: Duration,
    /// How long connections may go on after shutdown began.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 64 << 10,
            body_bytes: 64 << 20,
            connections: 512,
            header_timeout: Duration::from_secs(10),
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

/// Bound sockets.
#[derive(Debug)]
pub struct Listeners(Vec<std::net::TcpListener>);

impl Listeners {
    /// Binds all addresses or none.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(config: &ListenConfig) -> Result<Self, BindError> {
        if config.systemd_socket {
            return Err(BindError::NotBuilt("--web.systemd-socket"));
        }
        if config.config_file.is_some() {
            return Err(BindError::NotBuilt("--web.config.file"));
        }
        config.addresses.iter().map(|address| bind(address)).collect::<Result<_, _>>().map(Self)
    }

    /// Where clients find the program.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.0.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Serves until shutdown, then lets connections finish for a while.
    ///
    /// # Errors
    /// When a socket cannot be given to the event loop.
    pub async fn serve(self, router: Router, options: Options<'_>) -> std::io::Result<()> {
        let Options { limits, clock, shutdown, tasks, registry } = options;
        let open = registry.gauge("narthex_http_connections", "Connections being served.");
        let router = router.layer(DefaultBodyLimit::max(limits.body_bytes));
        let places = Arc::new(Semaphore::new(limits.connections.clamp(1, Semaphore::MAX_PERMITS)));
        let graceful = Arc::new(GracefulShutdown::new());
        let mut loops = Vec::new();
        for listener in self.0 {
            let address = listener.local_addr()?;
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            tracing::info!(%address, "Listening on");
            tracing::info!(http2 = false, %address, "TLS is disabled.");
            loops.push(Accept {
                listener,
                router: router.clone(),
                limits,
                clock: clock.clone(),
                tasks: tasks.clone(),
                places: places.clone(),
                open: open.clone(),
                graceful: graceful.clone(),
            });
        }
        let accepting = loops.into_iter().map(|accept| accept.run(shutdown.clone()));
        futures_util::future::join_all(accepting).await;
        if let Ok(graceful) = Arc::try_unwrap(graceful) {
            // Who is still busy then is cut off: that is what the limit is for.
            let _ = clock.timeout(limits.drain, graceful.shutdown()).await;
        }
        Ok(())
    }
}

fn bind(address: &str) -> Result<std::net::TcpListener, BindError> {
    let (host, port) = address.rsplit_once(':').ok_or_else(|| BindError::Form(address.to_owned()))?;
    let port: u16 = port.parse().map_err(|_| BindError::Form(address.to_owned()))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let bound = match host {
        // Both families, or the old one alone where the new one is switched off.
        "" => std::net::TcpListener::bind(("::", port)).or_else(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => Err(error),
            _ => std::net::TcpListener::bind(("0.0.0.0", port)),
        }),
        host => std::net::TcpListener::bind((host, port)),
    };
    bound.map_err(|source| BindError::Address { address: address.to_owned(), source })
}

struct Accept {
    listener: TcpListener,
    router: Router,
    limits: Limits,
    clock: Clock,
    tasks: Tasks,
    places: Arc<Semaphore>,
    open: metrics::Gauge,
    graceful: Arc<GracefulShutdown>,
}

/// The rest after a failed accept, which is out of descriptors more often than not.
const ACCEPT_REST: Duration = Duration::from_millis(100);

impl Accept {
    async fn run(self, shutdown: Shutdown) {
        loop {
            let next = async {
                let place = self.places.clone().acquire_owned().await;
                (place, self.listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                biased;
                () = shutdown.wait() => return,
                next = next => next,
            };
            let (Ok(place), Ok((stream, _))) = (place, accepted) else {
                self.clock.sleep(ACCEPT_REST).await;
                continue;
            };
            let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
            builder
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(self.limits.header_timeout)
                .max_buf_size(self.limits.header_bytes.max(8 << 10))
                .half_close(true);
            let service = TowerToHyperService::new(self.router.clone());
            let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
            let connection = self.graceful.watch(connection);
            let open = self.open.clone();
            open.inc();
            self.tasks.spawn_once("http connection", async move {
                // A client that breaks the protocol hurts only itself.
                let _ = connection.await;
                open.dec();
                drop(place);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("connects");
        // The other side may refuse before it has read everything.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn limits_hold_and_shutdown_ends() {
        let config = ListenConfig { addresses: vec!["127.0.0.1:0".into()], ..ListenConfig::default() };
        let listeners = Listeners::bind(&config).expect("binds");
        let address = listeners.local_addrs()[0];
        let clock = Clock::system();
        let (shutdown, tasks, registry) = (Shutdown::new(), Tasks::new(clock.clone()), Registry::new());
        let router = Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/echo", post(|body: axum::body::Bytes| async move { body }));
        let limits = Limits { body_bytes: 100, header_bytes: 8 << 10, ..Limits::default() };
        let options = Options { limits, clock, shutdown: shutdown.clone(), tasks, registry: &registry };
        let client = async {
            assert!(ask(address, b"GET / HTTP/1.0\r\n\r\n").await.contains("hello"));
            let long = format!(
                "POST /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 200\r\n\r\n{}",
                "a".repeat(200)
            );
            assert!(ask(address, long.as_bytes()).await.starts_with("HTTP/1.1 413"));
            let head = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "a".repeat(20_000));
            assert!(ask(address, head.as_bytes()).await.starts_with("HTTP/1.1 431"));
            shutdown.begin();
        };
        let (served, ()) = tokio::join!(listeners.serve(router, options), client);
        served.expect("an orderly end");
    }

    #[test]
    fn a_taken_port_and_what_is_not_built_are_refused() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let refuse = |config: ListenConfig| Listeners::bind(&config).expect_err("must be refused").to_string();
        let address = taken.local_addr().expect("an address").to_string();
        assert!(refuse(ListenConfig { addresses: vec![address], ..ListenConfig::default() }).contains("in use"));
        assert!(refuse(ListenConfig { addresses: vec!["x".into()], ..ListenConfig::default() }).contains("host:port"));
        assert!(refuse(ListenConfig { systemd_socket: true, ..ListenConfig::default() }).contains("not built"));
    }
}
