//! Connections: names to sockets, through proxies, into TLS.
//!
//! Addresses of one family are tried in turn; the other family starts 300 ms later, or when the first has failed. All of
//! it has to be done within [`DIAL_MAX`], also when nobody waits any more.

use crate::{
    Cause,
    config::ProxyHeader,
    proxy::{self, Kind, Rules, Server},
    texts,
    tls::Tls,
    url::{self, User},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderMap, HeaderValue, Uri};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, proxy::SocksV5},
    rt::TokioIo,
};
use runtime::Clock;
use std::{
    future::{Future, Ready, ready},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower_service::Service;

/// Time for a connection, from the name to the end of the handshake.
const DIAL_MAX: Duration = Duration::from_secs(30);

/// Time for a TLS handshake, as upstream.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Head start of the first family of addresses.
const FALLBACK_DELAY: Duration = Duration::from_millis(300);

/// Time for one of several addresses, so that a dead one does not use up a request's deadline; Go's least.
const ATTEMPT_MAX: Duration = Duration::from_secs(2);

/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 16;

/// Bytes of a proxy's answer to `CONNECT`.
const PROXY_HEAD_MAX: usize = 16 << 10;

/// What is known of a connection when it fails.
#[derive(Clone, Debug)]
pub(crate) struct Link(Arc<LinkState>);

#[derive(Debug)]
struct LinkState {
    used: AtomicBool,
    ends: String,
}

impl Link {
    fn new(socket: &TcpStream) -> Self {
        let ends = match (socket.local_addr(), socket.peer_addr()) {
            (Ok(local), Ok(peer)) => format!("{local}->{peer}"),
            _ => String::new(),
        };
        Self(Arc::new(LinkState { used: AtomicBool::new(false), ends }))
    }

    /// It has brought an answer.
    pub(crate) fn set_used(&self) {
        self.0.used.store(true, Ordering::Relaxed);
    }

    /// Whether it has brought an answer before.
    pub(crate) fn is_used(&self) -> bool {
        self.0.used.load(Ordering::Relaxed)
    }

    /// `LOCAL->PEER`.
    pub(crate) fn ends(&self) -> &str {
        &self.0.ends
    }
}

/// What carries a connection. Unix sockets would be one more.
enum Carrier {
    Tcp(TcpStream),
    Tls(Box<TlsStream<Stream>>),
}

/// A connection.
pub(crate) struct Stream {
    carrier: Carrier,
    /// Whether requests name the whole address, because a proxy reads them.
    proxied: bool,
    link: Link,
    /// The first bytes that came, to tell a server that does not speak TLS.
    first: [u8; 5],
    seen: usize,
}

impl Stream {
    fn tcp(socket: TcpStream) -> Self {
        let link = Link::new(&socket);
        Self { carrier: Carrier::Tcp(socket), proxied: false, link, first: [0; 5], seen: 0 }
    }

    fn tls(stream: TlsStream<Stream>) -> Self {
        let link = stream.get_ref().0.link.clone();
        Self { carrier: Carrier::Tls(Box::new(stream)), proxied: false, link, first: [0; 5], seen: 0 }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = match &mut this.carrier {
            Carrier::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Carrier::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        };
        for byte in buf.filled().iter().skip(before).take(this.first.len() - this.seen) {
            this.first[this.seen] = *byte;
            this.seen += 1;
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.carrier {
            Carrier::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Carrier::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.carrier {
            Carrier::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Carrier::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.carrier {
            Carrier::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Carrier::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.proxied).extra(self.link.clone());
        match &self.carrier {
            Carrier::Tls(tls) if tls.get_ref().1.alpn_protocol() == Some(b"h2") => connected.negotiated_h2(),
            _ => connected,
        }
    }
}

/// `Basic` credentials.
pub(crate) fn basic((name, password): &User) -> String {
    format!("Basic {}", BASE64.encode(format!("{name}:{password}")))
}

/// Headers for `CONNECT` from their section.
pub(crate) fn connect_headers(section: Option<&ProxyHeader>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in section.into_iter().flatten().flat_map(|(name, all)| all.iter().map(move |one| (name, one))) {
        let name = http::HeaderName::from_bytes(name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_str(value.expose()).ok()?);
    }
    Some(headers)
}

/// Makes connections for hyper's pool.
#[derive(Clone)]
pub(crate) struct Connector(pub(crate) Arc<Dialer>);

/// How connections are made.
pub(crate) struct Dialer {
    pub(crate) clock: Clock,
    pub(crate) rules: Arc<Rules>,
    pub(crate) connect_headers: HeaderMap,
    pub(crate) user_agent: String,
    pub(crate) tls: Tls,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = Cause;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Stream>, Cause>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = self.0.clone();
        Box::pin(async move {
            let late = |_| {
                let place = proxy::joined(url::bare_host(&uri), proxy::port(&uri));
                Err(Cause::Dial(format!("dial tcp {place}: i/o timeout")))
            };
            let dialed = dialer.clock.timeout(DIAL_MAX, dialer.dial(&uri)).await;
            dialed.unwrap_or_else(late).map(TokioIo::new)
        })
    }
}

impl Dialer {
    async fn dial(&self, uri: &Uri) -> Result<Stream, Cause> {
        let (host, port) = (url::bare_host(uri), proxy::port(uri));
        let secure = uri.scheme_str() == Some("https");
        let chosen = self.rules.choose(uri).map_err(|why| Cause::Dial(why.into()))?.cloned();
        let mut stream = match &chosen {
            None => Stream::tcp(tcp(&self.clock, host, port).await?),
            Some(server) => self.through(server, host, port, secure).await?,
        };
        if secure {
            stream = self.handshake(stream, host, true).await?;
        }
        Ok(stream)
    }

    /// A connection to a host by way of a proxy.
    async fn through(&self, server: &Server, host: &str, port: u16, secure: bool) -> Result<Stream, Cause> {
        let refused = |cause: Cause| Cause::Dial(format!("proxyconnect tcp: {cause}"));
        let socket = tcp(&self.clock, &server.host, server.port).await.map_err(refused)?;
        if server.kind == Kind::Socks5 {
            return socks(socket, server, &proxy::joined(host, port)).await;
        }
        let mut stream = Stream::tcp(socket);
        if server.kind == Kind::Https {
            stream = self.handshake(stream, &server.host, false).await.map_err(refused)?;
        }
        if secure {
            return self.tunnel(stream, server, &proxy::joined(host, port)).await;
        }
        Ok(Stream { proxied: true, ..stream })
    }

    /// Asks an HTTP proxy for a tunnel.
    async fn tunnel(&self, mut stream: Stream, server: &Server, target: &str) -> Result<Stream, Cause> {
        let mut head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {}\r\n", self.user_agent);
        if let Some(user) = &server.user {
            head.push_str(&format!("Proxy-Authorization: {}\r\n", basic(user)));
        }
        let mut head = head.into_bytes();
        for (name, value) in &self.connect_headers {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        let broken = |error: io::Error| Cause::Dial(texts::system(&error));
        stream.write_all(&head).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        let mut answer = Vec::new();
        // The server behind the tunnel speaks second, so nothing of it can be read by mistake.
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            if answer.len() > PROXY_HEAD_MAX {
                return Err(Cause::Dial("proxy answered CONNECT with a head above 16 KiB".into()));
            }
            if stream.read_buf(&mut answer).await.map_err(broken)? == 0 {
                return Err(Cause::Dial("unexpected EOF".into()));
            }
        }
        match status(&answer) {
            Some(("200", _)) => Ok(stream),
            Some((_, text)) => Err(Cause::Dial(text.to_owned())),
            None => {
                let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
                Err(Cause::Dial(format!("malformed HTTP response {:?}", String::from_utf8_lossy(line))))
            }
        }
    }

    /// Puts TLS over a connection: to the `target` itself, with its protocols and expected name, or to a proxy.
    async fn handshake(&self, stream: Stream, host: &str, target: bool) -> Result<Stream, Cause> {
        let mut config = self.tls.config().await?;
        if !target {
            let mut plain = (*config).clone();
            plain.alpn_protocols.clear();
            config = Arc::new(plain);
        }
        let name = self.tls.name(host)?;
        let work = TlsConnector::from(config).connect(name, stream).into_fallible();
        match self.clock.timeout(HANDSHAKE_MAX, work).await {
            Ok(Ok(stream)) => Ok(Stream::tls(stream)),
            Ok(Err((_, stream))) if stream.first == *b"HTTP/" => {
                Err(Cause::Dial("http: server gave HTTP response to HTTPS client".into()))
            }
            Ok(Err((error, stream))) => Err(Cause::Dial(texts::handshake(&error, stream.link.ends()))),
            Err(_) => Err(Cause::Dial("net/http: TLS handshake timeout".into())),
        }
    }
}

/// Asks a SOCKS proxy to connect to `target`.
async fn socks(socket: TcpStream, server: &Server, target: &str) -> Result<Stream, Cause> {
    let refused = |why: &str| Cause::Dial(format!("socks connect tcp {}->{target}: {why}", server.place()));
    let uri = |place: &str| format!("http://{place}").parse::<Uri>().map_err(|error| refused(&error.to_string()));
    let mut socks = SocksV5::new(uri(&server.place())?, Opened(Some(TokioIo::new(socket))));
    if let Some((name, password)) = server.user.clone() {
        socks = socks.with_auth(name, password);
    }
    let connected = socks.call(uri(target)?).await;
    connected.map(|io| Stream::tcp(io.into_inner())).map_err(|error| {
        let text = error.to_string();
        refused(text.strip_prefix("SOCKS error: ").unwrap_or(&text))
    })
}

/// Number and text of an answer's first line.
fn status(answer: &[u8]) -> Option<(&str, &str)> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let (version, rest) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    version.starts_with("HTTP/1.").then(|| rest.split_once(' ').unwrap_or((rest, rest)))
}

/// A socket that is open already: what hyper-util's proxy protocol is spoken over, whose own errors would hide why a
/// socket did not open.
struct Opened(Option<TokioIo<TcpStream>>);

impl Service<Uri> for Opened {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<TokioIo<TcpStream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}

/// A socket to a host.
async fn tcp(clock: &Clock, host: &str, port: u16) -> Result<TcpStream, Cause> {
    let found = tokio::net::lookup_host((host, port)).await;
    let found = found.map_err(|error| Cause::Dial(format!("dial tcp: {}", texts::lookup(host, &error))))?;
    let mut addresses: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
    let Some(first) = addresses.first().copied() else {
        return Err(Cause::Dial(format!("dial tcp: lookup {host}: no such host")));
    };
    addresses.sort_by_key(|address| address.is_ipv4() != first.is_ipv4());
    let (near, far) = addresses.split_at(addresses.partition_point(|address| address.is_ipv4() == first.is_ipv4()));
    let socket = if far.is_empty() { in_turn(clock, near).await } else { race(clock, near, far).await }?;
    // A request is one write; waiting for more to send would only delay it.
    socket.set_nodelay(true).map_err(|error| Cause::Dial(format!("dial tcp: {}", texts::system(&error))))?;
    Ok(socket)
}

/// The first socket that opens; the first error when none does.
async fn in_turn(clock: &Clock, addresses: &[SocketAddr]) -> Result<TcpStream, Cause> {
    let mut failed = None;
    for (place, address) in addresses.iter().enumerate() {
        let limit = if place + 1 < addresses.len() { ATTEMPT_MAX } else { DIAL_MAX };
        let why = match clock.timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) => format!("connect: {}", texts::system(&error)),
            Err(_) => "i/o timeout".into(),
        };
        failed.get_or_insert_with(|| format!("dial tcp {address}: {why}"));
    }
    Err(Cause::Dial(failed.unwrap_or_default()))
}

/// Both families of addresses, the first with a head start; its error counts.
async fn race(clock: &Clock, near: &[SocketAddr], far: &[SocketAddr]) -> Result<TcpStream, Cause> {
    let mut first = pin!(in_turn(clock, near));
    let mut second = pin!(async {
        clock.sleep(FALLBACK_DELAY).await;
        in_turn(clock, far).await
    });
    tokio::select! {
        biased;
        done = &mut first => match done {
            Ok(socket) => Ok(socket),
            Err(error) => in_turn(clock, far).await.map_err(|_| error),
        },
        done = &mut second => match done {
            Ok(socket) => Ok(socket),
            Err(_) => first.await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_an_answer() {
        for (answer, expected) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", Some(("200", "Connection established"))),
            ("HTTP/1.0 407\r\n\r\n", Some(("407", "407"))),
            ("SSH-2.0-x y\r\n\r\n", None),
            ("", None),
        ] {
            assert_eq!(status(answer.as_bytes()), expected, "{answer}");
        }
    }
}
