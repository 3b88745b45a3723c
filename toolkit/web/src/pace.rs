//! The least pace a client must keep: deadlines on heads, bodies, silence and answers.
//!
//! hyper has one deadline for the silence before a request and for the request's head, which would either end the
//! connections of scrapers between two scrapes or give a slow head minutes. So the two are told apart here, by what
//! arrives on the wire and by how many requests are being answered.

use crate::{
    listen::Limits,
    meters::{Meters, Slow},
};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use runtime::Clock;
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A deadline that is set when waiting begins and dropped when it ends.
#[derive(Default)]
struct Deadline(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Deadline {
    fn clear(&mut self) {
        self.0 = None;
    }

    /// Sets the deadline unless it is set; true once it is past.
    fn is_past(&mut self, clock: &Clock, limit: Duration, cx: &mut Context<'_>) -> bool {
        let timer = self.0.get_or_insert_with(|| {
            let clock = clock.clone();
            Box::pin(async move { clock.sleep(limit).await })
        });
        timer.as_mut().poll(cx).is_ready()
    }
}

/// What one connection is busy with, shared by its stream and its requests.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    begun: AtomicUsize,
    ended: AtomicUsize,
}

impl Activity {
    /// Notes a request; it lasts until the guard is dropped, which is with the end of its answer.
    pub(crate) fn begin(self: &Arc<Self>) -> Active {
        self.begun.fetch_add(1, Ordering::Relaxed);
        Active(self.clone())
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    fn is_idle(&self) -> bool {
        self.begun() == self.ended.load(Ordering::Relaxed)
    }
}

/// A request being answered.
#[derive(Debug)]
pub(crate) struct Active(Arc<Activity>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// A connection's stream that fails when its client is too slow.
pub(crate) struct Paced<T> {
    inner: T,
    activity: Arc<Activity>,
    clock: Clock,
    limits: Limits,
    meters: Meters,
    /// HTTP/2 sends frames of its own between requests: bytes neither begin a head nor end a silence.
    multiplexed: bool,
    /// Whether a head has begun to arrive; a fresh connection owes one.
    in_head: bool,
    requests_seen: usize,
    reading: Deadline,
    writing: Deadline,
}

impl<T> Paced<T> {
    pub(crate) fn new(
        inner: T,
        activity: Arc<Activity>,
        clock: &Clock,
        limits: Limits,
        meters: &Meters,
        multiplexed: bool,
    ) -> Self {
        Self {
            inner,
            activity,
            clock: clock.clone(),
            limits,
            meters: meters.clone(),
            multiplexed,
            in_head: true,
            requests_seen: 0,
            reading: Deadline::default(),
            writing: Deadline::default(),
        }
    }

    /// Forgets the head that has become a request.
    fn notice_requests(&mut self) {
        let begun = self.activity.begun();
        if begun != self.requests_seen {
            self.requests_seen = begun;
            self.in_head = false;
            self.reading.clear();
        }
    }

    fn arrived(&mut self) {
        self.notice_requests();
        let in_head = !self.multiplexed && (self.in_head || self.activity.is_idle());
        if in_head != self.in_head {
            self.in_head = in_head;
            self.reading.clear();
        }
    }

    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.notice_requests();
        if !self.activity.is_idle() {
            self.reading.clear();
            return Poll::Pending;
        }
        let (limit, reason) = match self.in_head {
            true => (self.limits.header_timeout, Slow::Head),
            false => (self.limits.idle_timeout, Slow::Idle),
        };
        if self.reading.is_past(&self.clock, limit, cx) {
            self.meters.slow.inc(reason);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }

    fn written<R>(&mut self, done: Poll<io::Result<R>>, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        if done.is_ready() {
            self.writing.clear();
        } else if self.writing.is_past(&self.clock, self.limits.write_timeout, cx) {
            self.meters.slow.inc(Slow::Write);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        done
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Paced<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Pending => this.poll_read_deadline(cx),
            done => {
                if buf.filled().len() > before {
                    this.arrived();
                }
                done
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Paced<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.written(done, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.inner).poll_flush(cx);
        this.written(done, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.inner).poll_shutdown(cx);
        this.written(done, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        this.written(done, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// A request's body that fails when nothing of it arrives for too long.
pub(crate) struct PacedBody<B> {
    inner: B,
    clock: Clock,
    limit: Duration,
    meters: Meters,
    waiting: Deadline,
}

impl<B> PacedBody<B> {
    pub(crate) fn new(inner: B, clock: &Clock, limit: Duration, meters: &Meters) -> Self {
        Self { inner, clock: clock.clone(), limit, meters: meters.clone(), waiting: Deadline::default() }
    }
}

/// The client stopped in the middle of its request.
#[derive(Debug, thiserror::Error)]
#[error("nothing of the request's body arrived for {0:?}")]
struct Stalled(Duration);

impl<B> Body for PacedBody<B>
where
    B: Body<Data = Bytes, Error = BoxError> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Pending if this.waiting.is_past(&this.clock, this.limit, cx) => {
                this.meters.slow.inc(Slow::Body);
                Poll::Ready(Some(Err(Box::new(Stalled(this.limit)))))
            }
            Poll::Pending => Poll::Pending,
            done => {
                this.waiting.clear();
                Poll::Ready(ready!(done))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body that keeps its request counted until it is sent or dropped.
pub(crate) struct Answering {
    inner: axum::body::Body,
    _active: Active,
}

impl Answering {
    pub(crate) fn new(inner: axum::body::Body, active: Active) -> Self {
        Self { inner, _active: active }
    }
}

impl Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
