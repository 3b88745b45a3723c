//! Servers for tests. They end with the runtime of their test.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use parking_lot::Mutex;
use runtime::{Clock, Tasks};
use rustls::ServerConfig;
use std::{convert::Infallible, future::Future, net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// A request as a server saw it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) uri: String,
    pub(super) headers: HeaderMap,
    pub(super) version: Version,
    pub(super) body: String,
    /// Number of the connection, from 0.
    pub(super) connection: usize,
}

impl Seen {
    /// A header's values, joined.
    pub(super) fn header(&self, name: &str) -> String {
        let values = self.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        values.collect::<Vec<_>>().join(",")
    }
}

/// A server and what it saw.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Under the name that test certificates carry.
    pub(super) fn secure_url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    pub(super) fn last(&self) -> Seen {
        self.seen().pop().expect("a request came")
    }
}

pub(super) type Answer = Response<Full<Bytes>>;

/// An answer of text.
pub(super) fn plain(text: impl Into<String>) -> Answer {
    Response::new(Full::new(Bytes::from(text.into())))
}

/// An answer with a status and a header.
pub(super) fn with(status: u16, name: &str, value: &str, body: impl Into<Bytes>) -> Answer {
    let builder = Response::builder().status(status).header(name, value);
    builder.body(Full::new(body.into())).expect("an answer")
}

/// A task of the test's runtime.
pub(super) fn start(work: impl Future<Output = ()> + Send + 'static) {
    Tasks::new(Clock::system()).spawn_once("test server", work);
}

/// Hands every connection to `work`.
pub(super) async fn raw<F: Future<Output = ()> + Send + 'static>(
    work: impl Fn(TcpStream, usize) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    start(async move {
        for number in 0.. {
            let Ok((socket, _)) = listener.accept().await else { return };
            start(work(socket, number));
        }
    });
    address
}

pub(super) async fn http(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Server {
    serve(None, answer).await
}

pub(super) async fn https(config: ServerConfig, answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Server {
    serve(Some(TlsAcceptor::from(Arc::new(config))), answer).await
}

async fn serve(tls: Option<TlsAcceptor>, answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Server {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (answer, into) = (Arc::new(answer), seen.clone());
    let address = raw(move |socket, connection| {
        let (tls, answer, into) = (tls.clone(), answer.clone(), into.clone());
        async move {
            let respond = move |request| respond(request, connection, answer.clone(), into.clone());
            match tls {
                None => drive(socket, respond).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(socket).await {
                        drive(stream, respond).await;
                    }
                }
            }
        }
    })
    .await;
    Server { address, seen }
}

async fn drive<F: Future<Output = Result<Answer, Infallible>> + Send + 'static>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    respond: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
) {
    // A client that goes away is part of many tests.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service_fn(respond)).await;
}

async fn respond(
    request: Request<Incoming>,
    connection: usize,
    answer: Arc<impl Fn(&Seen) -> Answer>,
    into: Arc<Mutex<Vec<Seen>>>,
) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let seen = Seen {
        method: head.method,
        uri: head.uri.to_string(),
        headers: head.headers,
        version: head.version,
        body: String::from_utf8_lossy(&body).into_owned(),
        connection,
    };
    into.lock().push(seen.clone());
    Ok(answer(&seen))
}

/// Reads a head up to its empty line.
pub(super) async fn head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Passes bytes both ways until one side ends.
pub(super) async fn relay(mut one: TcpStream, to: SocketAddr) {
    if let Ok(mut other) = TcpStream::connect(to).await {
        let _ = tokio::io::copy_bidirectional(&mut one, &mut other).await;
    }
}

/// Sends bytes to whoever calls, after reading a head.
pub(super) async fn saying(bytes: &'static [u8]) -> SocketAddr {
    raw(move |mut socket, _| async move {
        head(&mut socket).await;
        let _ = socket.write_all(bytes).await;
    })
    .await
}
