//! The accept loops, the life of a connection, and the orderly end.

use crate::{
    handshake,
    kubernetes::Kubernetes,
    listen::{Limits, Options},
    live::{Live, WebFile},
    meters::{Meters, Open},
    pace::{Activity, Paced},
    passwords::Passwords,
    rate::Bucket,
    site::{Gate, Site},
    socket::{Accepting, Stream},
};
use axum::{Router, extract::DefaultBodyLimit};
use hyper::rt::Executor;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use runtime::{Clock, Shutdown, Tasks};
use std::{future::Future, io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// The rest after a failed accept, which is out of descriptors more often than not.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How long connections that were told to end at once may take for that.
const CUT: Duration = Duration::from_secs(1);

/// What the connections of all listeners share.
#[derive(Clone)]
struct Shared {
    site: Arc<Site>,
    /// Where sessions come from, if connections are to be such.
    tls: Option<Arc<Live>>,
    limits: Limits,
    clock: Clock,
    tasks: Tasks,
    meters: Meters,
    shutdown: Shutdown,
    /// Ends what the drain has left.
    cut: Shutdown,
}

/// Everything but the sockets.
pub(crate) struct Server {
    shared: Shared,
    places: Arc<Semaphore>,
    places_max: usize,
    graceful: GracefulShutdown,
}

impl Server {
    /// # Errors
    /// When the system has no random numbers for what guards passwords.
    pub(crate) fn new(router: Router, web: Option<WebFile>, options: Options<'_>) -> io::Result<Self> {
        let Options { limits, clock, shutdown, tasks, registry } = options;
        let meters = Meters::new(registry);
        // Bodies are limited by the site, for every way of reading them.
        let router = router.layer(DefaultBodyLimit::disable());
        let (mut gate, mut tls) = (None, None);
        if let Some(web) = web {
            let limit = web.at_start().rate_limit;
            let has_tls = web.has_tls();
            let live = Arc::new(web.watch(&clock, &tasks, registry));
            let passwords =
                Passwords::new(&tasks).ok_or_else(|| io::Error::other("the system has no random numbers"))?;
            tls = has_tls.then(|| live.clone());
            let kubernetes = Kubernetes::new(&clock, &tasks, registry)
                .ok_or_else(|| io::Error::other("the system has no random numbers"))?;
            let (bucket, passwords) = (Bucket::new(limit, &clock), Arc::new(passwords));
            gate = Some(Gate { live, bucket, passwords, kubernetes });
        }
        let site = Arc::new(Site::new(router, gate, limits, &clock, &meters));
        // The limit of the semaphore's bulk operations.
        let places_max = limits.connections.clamp(1, u32::MAX as usize >> 4);
        Ok(Self {
            shared: Shared { site, tls, limits, clock, tasks, meters, shutdown, cut: Shutdown::new() },
            places: Arc::new(Semaphore::new(places_max)),
            places_max,
            graceful: GracefulShutdown::new(),
        })
    }

    /// Accepts until shutdown, then drains, then cuts.
    pub(crate) async fn run(self, listeners: Vec<Accepting>) {
        notify(sd_notify::NotifyState::Ready);
        let loops = listeners.into_iter().map(|listener| self.accept(listener));
        futures_util::future::join_all(loops).await;
        notify(sd_notify::NotifyState::Stopping);
        let Self { shared, places, places_max, graceful } = self;
        if shared.clock.timeout(shared.limits.drain, graceful.shutdown()).await.is_err() {
            let left = places_max.saturating_sub(places.available_permits());
            tracing::warn!(connections = left, "connections were cut off because they outlasted the drain");
        }
        shared.cut.begin();
        let all = u32::try_from(places_max).unwrap_or(u32::MAX);
        // Whoever does not end now is stuck in its handler, and ends with the process.
        let _ = shared.clock.timeout(CUT, places.acquire_many(all)).await;
    }

    async fn accept(&self, listener: Accepting) {
        let shared = &self.shared;
        let mut failing = false;
        loop {
            // The place comes second: a listener that nobody calls must not keep one from the others.
            let next = async {
                match listener.accept().await {
                    Ok(stream) => self.place().await.map(|place| Ok((stream, place))),
                    Err(error) => Some(Err(error)),
                }
            };
            let next = tokio::select! {
                biased;
                () = shared.shutdown.wait() => return,
                next = next => next,
            };
            let Some(accepted) = next else { return };
            match accepted {
                Ok((stream, place)) => {
                    failing = false;
                    shared.meters.accepted.inc();
                    let open = Open::new(&shared.meters.open);
                    let connection = connection(shared.clone(), stream, self.graceful.watcher(), (place, open));
                    shared.tasks.spawn_once("http connection", connection);
                }
                // The client left before it was welcomed.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    shared.meters.accept_failures.inc();
                    // Once for a row of failures, which may be long.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "accepting connections fails; trying again until it works");
                    }
                    tokio::select! {
                        biased;
                        () = shared.shutdown.wait() => return,
                        () = shared.clock.sleep(ACCEPT_REST) => {}
                    }
                }
            }
        }
    }

    /// A place for one more connection; waits while all are taken.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Some(place);
        }
        self.shared.meters.held.inc();
        self.places.clone().acquire_owned().await.ok()
    }
}

/// Tells the service manager, where there is one.
fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(false, &[state]) {
        tracing::warn!(%error, "the service manager could not be notified");
    }
}

/// Serves one connection to its end; `held` is given back then, also after a panic.
async fn connection(shared: Shared, stream: Stream, watcher: Watcher, held: (OwnedSemaphorePermit, Open)) {
    let _held = held;
    let served = async {
        let Some(live) = &shared.tls else { return serve_stream(&shared, stream, false, watcher).await };
        let session = tokio::select! {
            biased;
            // Who has not said a word yet has nothing to lose.
            () = shared.shutdown.wait() => return,
            session = handshake::accept(stream, live, &shared.clock, shared.limits.handshake_timeout) => session,
        };
        match session {
            Ok(session) => {
                let http2 = session.get_ref().1.alpn_protocol() == Some(b"h2");
                serve_stream(&shared, session, http2, watcher).await;
            }
            Err(reason) => shared.meters.tls.inc(reason),
        }
    };
    tokio::select! {
        biased;
        () = shared.cut.wait() => {}
        () = served => {}
    }
}

/// HTTP/2 requests of one connection at once.
const STREAMS_MAX: u32 = 100;

async fn serve_stream<T>(shared: &Shared, stream: T, http2: bool, watcher: Watcher)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = shared.limits;
    let activity = Arc::new(Activity::default());
    let stream = Paced::new(stream, activity.clone(), &shared.clock, limits, &shared.meters, http2);
    let builder = auto::Builder::new(Spawner(shared.tasks.clone()));
    let mut builder = if http2 { builder.http2_only() } else { builder.http1_only() };
    builder
        .http1()
        .timer(TokioTimer::new())
        // A backstop; the deadlines that matter are those of the stream.
        .header_read_timeout(limits.idle_timeout + limits.header_timeout)
        .max_buf_size(limits.header_bytes.max(8 << 10))
        .half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        // Peers that vanished are found by pings; TCP's own would take longer.
        .keep_alive_interval(limits.body_timeout)
        .keep_alive_timeout(limits.body_timeout);
    let service = shared.site.clone().service(activity);
    let served = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    // A client that breaks the protocol hurts only itself.
    let _ = watcher.watch(served).await;
}

/// Runs the parts of a connection as tasks that are seen.
#[derive(Clone)]
struct Spawner(Tasks);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Spawner {
    fn execute(&self, work: F) {
        self.0.spawn_once("http stream", work);
    }
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
