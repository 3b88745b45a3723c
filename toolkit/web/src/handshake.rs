//! From an accepted connection to a TLS session, within a deadline.

use crate::{live::Live, meters::Tls, socket::Stream};
use runtime::Clock;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A session.
pub(crate) type Session = TlsStream<Reread<Stream>>;

/// Makes a session of what the files say now.
pub(crate) async fn accept(stream: Stream, live: &Live, clock: &Clock, limit: Duration) -> Result<Session, Tls> {
    clock.timeout(limit, negotiate(stream, live)).await.unwrap_or(Err(Tls::Timeout))
}

/// Bytes that tell a request from a handshake.
const OPENING: usize = 5;

async fn negotiate(mut stream: Stream, live: &Live) -> Result<Session, Tls> {
    let mut opening = [0; OPENING];
    let mut read = 0;
    while read < OPENING {
        match stream.read(&mut opening[read..]).await {
            Ok(0) | Err(_) => return Err(Tls::Protocol),
            Ok(more) => read += more,
        }
    }
    if [b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO"].contains(&&opening) {
        refuse_plain(stream).await;
        return Err(Tls::PlainHttp);
    }
    let Some(Ok(config)) = live.session().await else { return Err(Tls::Config) };
    let stream = Reread { opening, at: 0, inner: stream };
    TlsAcceptor::from(config).accept(stream).await.map_err(|error| {
        tracing::debug!(%error, "TLS handshake error");
        reason(&error)
    })
}

/// The answer of Go's servers to those who forgot the `s`.
async fn refuse_plain(mut stream: Stream) {
    const ANSWER: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    /// A request that is longer than this may lose the answer.
    const REST_MAX: u64 = 64 << 10;
    if stream.write_all(ANSWER).await.is_ok() && stream.shutdown().await.is_ok() {
        // What stays unread would make the system reset the connection before the answer is read.
        let _ = tokio::io::copy(&mut stream.take(REST_MAX), &mut tokio::io::sink()).await;
    }
}

fn reason(error: &io::Error) -> Tls {
    use rustls::Error;
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(_) | Error::NoCertificatesPresented) => Tls::Client,
        _ => Tls::Protocol,
    }
}

/// A stream whose first bytes were read already and are read again.
pub(crate) struct Reread<T> {
    opening: [u8; OPENING],
    at: usize,
    inner: T,
}

impl<T: AsyncRead + Unpin> AsyncRead for Reread<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let left = &this.opening[this.at..];
        if left.is_empty() {
            return Pin::new(&mut this.inner).poll_read(cx, buf);
        }
        let now = left.len().min(buf.remaining());
        buf.put_slice(&left[..now]);
        this.at += now;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Reread<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
