//! What tests share: a gateway on a free port, and requests to it as they stand on the wire.

use crate::{Environment, bind, command};
use runtime::{Clock, Shutdown, Tasks};
use std::{future::Future, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

/// Longer than anything in a test takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway that serves until it is stopped.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    env: Environment,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Makes of what would hang a failure.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    Clock::system().timeout(PATIENCE, work).await.expect("done within a minute")
}

/// A port that nobody listens on now, for gateways that must know each other's.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

impl Served {
    /// One with these flags on a port of its own.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        Self::start_on(0, flags).await
    }

    pub(crate) async fn start_on(port: u16, flags: &[&str]) -> Self {
        let clock = Clock::system();
        let env = Environment { clock: clock.clone(), shutdown: Shutdown::new(), tasks: Tasks::new(clock) };
        let listen = format!("--web.listen-address=127.0.0.1:{port}");
        let args = [listen.as_str()].iter().chain(flags).map(|flag| (*flag).to_owned()).collect::<Vec<_>>();
        let cli::Outcome::Run(parsed) = command().parse(args) else { panic!("flags {flags:?} are not taken") };
        let bound = bind(parsed, env.clone()).await.expect("binds");
        let address = bound.addresses()[0];
        env.tasks.spawn_once("gateway", async move { bound.serve().await.expect("an orderly end") });
        Self { address, env }
    }

    pub(crate) async fn stop(self) {
        self.env.shutdown.begin();
        assert_eq!(self.env.tasks.drain(PATIENCE).await, [""; 0], "all tasks end");
    }

    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Answer {
        let stream = soon(TcpStream::connect(self.address)).await.expect("connects");
        soon(exchange(stream, method, path, headers, body.as_ref())).await
    }

    /// Pushes and answers the status.
    pub(crate) async fn push(&self, method: &str, path: &str, body: &str) -> u16 {
        self.ask(method, path, &[], body).await.status
    }

    /// The value of a series in a scrape.
    pub(crate) async fn value(&self, series: &str) -> Option<f64> {
        let scrape = self.ask("GET", "/metrics", &[], "").await;
        assert_eq!(scrape.status, 200, "{}", scrape.body);
        scrape.body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits until a series has a value, or is not there.
    pub(crate) async fn until(&self, series: &str, want: Option<f64>) {
        let reached = async {
            while self.value(series).await != want {
                tokio::task::yield_now().await;
            }
        };
        let done = Clock::system().timeout(PATIENCE, reached).await;
        assert!(done.is_ok(), "{series} is {:?}", self.value(series).await);
    }
}

/// One request and its answer.
pub(crate) async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    // The other side may refuse before it has read everything.
    let _ = stream.write_all(&[head.as_bytes(), body].concat()).await;
    rest(stream).await
}

/// Reads an answer to its end.
pub(crate) async fn rest(mut stream: impl AsyncRead + Unpin) -> Answer {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = if head.contains("chunked") { dechunked(body) } else { body.to_owned() };
    Answer { status, head: head.to_owned(), body }
}

fn dechunked(mut rest: &str) -> String {
    let mut out = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        out.push_str(after.get(..size).unwrap_or_default());
        rest = after.get(size + 2..).unwrap_or_default();
    }
    out
}
