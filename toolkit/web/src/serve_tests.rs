//! Connections over real sockets, and over pipes where time has to pass.

use super::*;
use crate::{
    Listeners,
    testing::{GET, LAST_GET, Served, ask, hello, one, rest, send, soon},
};
use axum::{
    body::{Body, Bytes},
    extract::Request,
    routing::{get, post},
};
use http_body_util::BodyExt;
use std::task::Poll;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};

#[tokio::test]
async fn sizes_are_limited_and_shutdown_ends() {
    let mut served = Served::new();
    served.limits = Limits { body_bytes: 100, header_bytes: 8 << 10, ..Limits::default() };
    let router = hello().route("/echo", post(|body: Bytes| async move { body }));
    served
        .with(router, async |address| {
            assert!(ask(address, b"GET / HTTP/1.0\r\n\r\n").await.contains("hello"));
            let long = format!(
                "POST /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 200\r\n\r\n{}",
                "a".repeat(200)
            );
            assert!(ask(address, long.as_bytes()).await.starts_with("HTTP/1.1 413"));
            let head = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "a".repeat(20_000));
            assert!(ask(address, head.as_bytes()).await.starts_with("HTTP/1.1 431"));
        })
        .await;
    assert_eq!(served.value("narthex_http_requests_refused_total{reason=\"body_size\"}"), 1.0);
    assert_eq!(served.value("narthex_http_connections_accepted_total"), 3.0);
}

/// A handler that takes the body as a stream gets no more of it than one that wants it whole.
#[tokio::test]
async fn the_limit_of_bodies_binds_streams() {
    let mut served = Served::new();
    served.limits.body_bytes = 100;
    let count = |request: Request| async move {
        let mut body = request.into_body();
        let mut bytes = 0;
        loop {
            match body.frame().await {
                Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) => return format!("broken after {bytes}"),
                None => return format!("whole: {bytes}"),
            }
        }
    };
    let chunked = |bytes: usize| {
        let (head, body) = (
            "POST /count HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
            "a".repeat(bytes),
        );
        format!("{head}32\r\n{}\r\n{:x}\r\n{body}\r\n0\r\n\r\n", "b".repeat(50), bytes)
    };
    served
        .with(Router::new().route("/count", post(count)), async |address| {
            assert!(ask(address, chunked(50).as_bytes()).await.contains("whole: 100"));
            assert!(ask(address, chunked(51).as_bytes()).await.contains("broken after 50"));
        })
        .await;
}

#[tokio::test]
async fn a_panic_costs_one_answer_and_the_gauge_returns() {
    let served = Served::new();
    let broken = || async {
        let frame = std::future::poll_fn(|_| -> Poll<Result<Bytes, std::io::Error>> { panic!("in the body") });
        Body::from_stream(futures_util::stream::once(frame))
    };
    let handler = || async { std::future::poll_fn(|_| -> Poll<&'static str> { panic!("in the handler") }).await };
    let router = hello().route("/handler", get(handler)).route("/body", get(broken));
    served
        .with(router, async |address| {
            let mut stream = send(address, b"GET /handler HTTP/1.1\r\nHost: h\r\n\r\n").await;
            assert!(one(&mut stream).await.starts_with("HTTP/1.1 500"));
            stream.write_all(LAST_GET).await.expect("the connection goes on");
            assert!(rest(&mut stream).await.contains("hello"));
            ask(address, b"GET /body HTTP/1.1\r\nHost: h\r\n\r\n").await;
            served.until("narthex_http_connections", 0.0).await;
        })
        .await;
    assert_eq!(served.value("narthex_http_handler_panics_total"), 1.0);
    assert_eq!(served.tasks.panics(), 1, "the one in the body ends its connection");
}

#[tokio::test]
async fn connections_beyond_the_cap_wait() {
    let mut served = Served::new();
    served.limits.connections = 1;
    served
        .with(hello(), async |address| {
            let mut first = send(address, GET).await;
            assert!(one(&mut first).await.contains("hello"));
            let mut second = send(address, LAST_GET).await;
            served.until("narthex_http_connections_held_total", 1.0).await;
            let mut byte = [0; 1];
            let early = Clock::system().timeout(Duration::from_millis(50), second.read(&mut byte)).await;
            assert!(early.is_err(), "the second is not served beside the first");
            assert_eq!(served.value("narthex_http_connections"), 1.0);
            drop(first);
            assert!(rest(&mut second).await.contains("hello"));
        })
        .await;
}

/// A listener that nobody calls keeps no place from the others.
#[tokio::test]
async fn the_cap_is_shared_by_all_listeners() {
    let mut served = Served::new();
    served.limits.connections = 1;
    served.config.addresses = vec!["127.0.0.1:0".into(); 3];
    let (listeners, _) = served.listen();
    let addresses = listeners.local_addrs();
    let client = async {
        for address in addresses.into_iter().rev() {
            assert!(ask(address, LAST_GET).await.contains("hello"));
        }
        served.shutdown.begin();
    };
    let (result, ()) = soon(async { tokio::join!(listeners.serve(hello(), served.options()), client) }).await;
    result.expect("an orderly end");
}

#[tokio::test]
async fn a_busy_connection_finishes_before_the_end_and_an_idle_one_does_not_hold_it() {
    let served = Served::new();
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = {
        let (entered, go) = (entered.clone(), go.clone());
        move || async move {
            entered.notify_one();
            go.notified().await;
            "at last"
        }
    };
    let (listeners, address) = served.listen();
    let address = address.expect("a port");
    let client = async {
        let mut idle = send(address, GET).await;
        one(&mut idle).await;
        let mut busy = send(address, b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").await;
        entered.notified().await;
        served.shutdown.begin();
        assert_eq!(rest(&mut idle).await, "", "the idle one is closed at once");
        go.notify_one();
        assert!(rest(&mut busy).await.contains("at last"));
        assert!(TcpStream::connect(address).await.is_err(), "nobody accepts any more");
    };
    let router = hello().route("/slow", get(slow));
    let (result, ()) = tokio::join!(listeners.serve(router, served.options()), client);
    result.expect("an orderly end");
    assert!(served.tasks.running().is_empty());
}

#[tokio::test]
async fn what_outlasts_the_drain_is_cut() {
    let mut served = Served::new();
    served.limits.drain = Duration::from_millis(20);
    let (listeners, address) = served.listen();
    let entered = Arc::new(Notify::new());
    let stuck = {
        let entered = entered.clone();
        move || async move {
            entered.notify_one();
            std::future::pending::<()>().await;
        }
    };
    let client = async {
        let mut stream = send(address.expect("a port"), GET).await;
        entered.notified().await;
        served.shutdown.begin();
        assert_eq!(rest(&mut stream).await, "");
    };
    let router = Router::new().route("/", get(stuck));
    let (result, ()) = soon(async { tokio::join!(listeners.serve(router, served.options()), client) }).await;
    result.expect("an end");
    assert_eq!(served.value("narthex_http_connections"), 0.0);
}

/// One connection over a pipe, with a clock that only the deadlines move.
struct Piped {
    served: Served,
    client: tokio::io::DuplexStream,
    clock: Clock,
}

impl Piped {
    fn new(limits: Limits, router: Router) -> Self {
        Self::speaking(limits, router, false)
    }

    fn speaking(limits: Limits, router: Router, http2: bool) -> Self {
        let served = Served::new();
        let clock = Clock::simulated(0);
        let options = Options { limits, clock: clock.clone(), ..served.options() };
        let Server { shared, graceful, .. } = Server::new(router, None, options).expect("a server");
        let (client, server) = tokio::io::duplex(64);
        served.tasks.spawn_once("connection", async move {
            serve_stream(&shared, server, http2, graceful.watcher()).await;
        });
        Self { served, client, clock }
    }

    fn slow(&self, reason: &str) -> f64 {
        self.served.value(&format!("narthex_http_slow_clients_total{{reason=\"{reason}\"}}"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_is_cut_at_its_deadline() {
    let mut piped = Piped::new(Limits::default(), hello());
    let began = piped.clock.now();
    while piped.client.write_all(b"G").await.is_ok() {
        piped.clock.sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(rest(&mut piped.client).await, "");
    assert_eq!((piped.clock.now() - began).as_secs(), 11);
    assert_eq!(piped.slow("head"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn silence_between_requests_may_last_longer_than_a_head() {
    let mut piped = Piped::new(Limits::default(), hello());
    for _ in 0..3 {
        piped.client.write_all(GET).await.expect("still open");
        assert!(one(&mut piped.client).await.contains("hello"));
        piped.clock.sleep(Duration::from_secs(299)).await;
    }
    let began = piped.clock.now();
    assert_eq!(rest(&mut piped.client).await, "");
    assert_eq!((piped.clock.now() - began).as_secs(), 1);
    assert_eq!(piped.slow("idle"), 1.0);
    // The head that comes after silence has its own deadline again.
    let mut piped = Piped::new(Limits::default(), hello());
    piped.client.write_all(GET).await.expect("open");
    one(&mut piped.client).await;
    piped.clock.sleep(Duration::from_secs(100)).await;
    piped.client.write_all(b"GET").await.expect("open");
    let began = piped.clock.now();
    assert_eq!(rest(&mut piped.client).await, "");
    assert_eq!((piped.clock.now() - began).as_secs(), 10);
    assert_eq!(piped.slow("head"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_is_not_a_slow_client() {
    let clock = Clock::system();
    let slow = move || async move {
        clock.sleep(Duration::from_secs(3000)).await;
        "hello"
    };
    let mut piped = Piped::new(Limits::default(), Router::new().route("/", get(slow)));
    piped.client.write_all(GET).await.expect("open");
    assert!(one(&mut piped.client).await.contains("hello"));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_and_an_answer_that_nobody_reads_are_given_up() {
    let router = || {
        let large = get(|| async { "a".repeat(1 << 20) });
        Router::new().route("/echo", post(|body: Bytes| async move { body })).route("/large", large)
    };
    let mut piped = Piped::new(Limits::default(), router());
    piped.client.write_all(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc").await.expect("open");
    let began = piped.clock.now();
    assert!(rest(&mut piped.client).await.starts_with("HTTP/1.1 400"));
    assert_eq!((piped.clock.now() - began).as_secs(), 30);
    assert_eq!(piped.slow("body"), 1.0);

    let mut piped = Piped::new(Limits::default(), router());
    piped.client.write_all(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("open");
    piped.clock.sleep(Duration::from_secs(61)).await;
    assert!(rest(&mut piped.client).await.len() < 1 << 20);
    assert_eq!(piped.slow("write"), 1.0);
}

/// Pings go on while nothing is asked, and do not count as asking.
#[tokio::test(start_paused = true)]
async fn a_silent_http2_connection_ends_as_well() {
    let piped = Piped::speaking(Limits::default(), hello(), true);
    let Piped { served, client, clock } = piped;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(Spawner(served.tasks.clone()), TokioIo::new(client)).await.expect("h2");
    let ended = {
        let clock = clock.clone();
        async move {
            let _ = connection.await;
            clock.now()
        }
    };
    let asking = async {
        let mut ask = async || {
            let request = hyper::Request::get("http://h/").body(http_body_util::Empty::<Bytes>::new());
            let response = sender.send_request(request.expect("a request")).await.expect("an answer");
            response.into_body().collect().await.expect("a body").to_bytes()
        };
        assert_eq!(ask().await, "hello");
        clock.sleep(Duration::from_secs(290)).await;
        assert_eq!(ask().await, "hello");
        let last = clock.now();
        // The sender must live on, or the client would end the connection itself.
        clock.sleep(Duration::from_secs(1000)).await;
        last
    };
    let (ended, last) = tokio::join!(ended, asking);
    assert_eq!((ended - last).as_secs(), 300);
}

/// A socket that does not listen cannot be accepted on: each time is a failure.
#[tokio::test(start_paused = true)]
async fn the_end_does_not_wait_for_the_rest_after_a_failure() {
    let served = Served::new();
    let server = Server::new(hello(), None, served.options()).expect("a server");
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let broken = crate::socket::Bound::Tcp(socket.into()).register().expect("registers");
    let clock = Clock::simulated(0);
    let client = async {
        served.until("narthex_http_accept_failures_total", 1.0).await;
        served.shutdown.begin();
        clock.now()
    };
    let ((), began) = tokio::join!(server.run(vec![broken]), client);
    assert_eq!(clock.now() - began, Duration::ZERO);
}

#[tokio::test]
async fn unix_sockets_are_served_and_cleared_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("web.sock");
    let mut served = Served::new();
    served.config.addresses = vec![format!("unix:{}", path.display())];
    let (listeners, _) = served.listen();
    let client = async {
        let mut stream = tokio::net::UnixStream::connect(&path).await.expect("connects");
        stream.write_all(LAST_GET).await.expect("sends");
        assert!(rest(&mut stream).await.contains("hello"));
        served.shutdown.begin();
    };
    let (result, ()) = tokio::join!(listeners.serve(hello(), served.options()), client);
    result.expect("an orderly end");
    assert!(!path.exists());
}

/// Where the kernel has no vsock the refusal must say so; where it has, the machine reaches itself.
#[tokio::test]
async fn vsock_is_served_where_the_kernel_has_it() {
    const LOCAL: u32 = 1;
    let mut served = Served::new();
    served.config.addresses = vec!["vsock://:4294967295".into()];
    let listeners = match Listeners::bind(&served.config) {
        Ok(listeners) => listeners,
        Err(error) => return assert!(error.to_string().starts_with("listen vsock :4294967295: bind: "), "{error}"),
    };
    let described = listeners.describe().remove(0);
    let port: u32 = described.strip_prefix("vsock://:").expect("vsock").parse().expect("a port");
    let client = async {
        let connect = move || {
            let socket = socket2::Socket::new(socket2::Domain::VSOCK, socket2::Type::STREAM, None)?;
            socket.connect(&socket2::SockAddr::vsock(LOCAL, port))?;
            Ok::<_, std::io::Error>(socket)
        };
        let connected = served.tasks.blocking("connect", connect).await.expect("no panic");
        // Without a loopback device nobody inside the machine can ask.
        if let Ok(socket) = connected {
            let stream = std::os::unix::net::UnixStream::from(std::os::fd::OwnedFd::from(socket));
            stream.set_nonblocking(true).expect("a socket");
            let mut stream = tokio::net::UnixStream::from_std(stream).expect("a socket");
            stream.write_all(LAST_GET).await.expect("sends");
            assert!(rest(&mut stream).await.contains("hello"));
        }
        served.shutdown.begin();
    };
    let (result, ()) = tokio::join!(listeners.serve(hello(), served.options()), client);
    result.expect("an orderly end");
}
