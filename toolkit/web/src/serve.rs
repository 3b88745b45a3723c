//! The accept loops, the life of a connection, and the orderly end.

use crate::{
    listen::{Limits, Options},
    meters::{Meters, Open},
    pace::{Activity, Paced},
    site::Site,
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
use std::{future::Future, sync::Arc, time::Duration};
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
    pub(crate) fn new(router: Router, options: Options<'_>) -> Self {
        let Options { limits, clock, shutdown, tasks, registry } = options;
        let meters = Meters::new(registry);
        // Bodies are limited below, for every way of reading them.
        let router = router.layer(DefaultBodyLimit::disable());
        let site = Arc::new(Site::new(router, limits, &clock, &meters));
        // The limit of the semaphore's bulk operations.
        let places_max = limits.connections.clamp(1, u32::MAX as usize >> 4);
        Self {
            shared: Shared { site, limits, clock, tasks, meters, shutdown, cut: Shutdown::new() },
            places: Arc::new(Semaphore::new(places_max)),
            places_max,
            graceful: GracefulShutdown::new(),
        }
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
        loop {
            let next = async {
                let place = self.place().await?;
                Some((place, listener.accept().await))
            };
            let next = tokio::select! {
                biased;
                () = shared.shutdown.wait() => return,
                next = next => next,
            };
            let Some((place, accepted)) = next else { return };
            match accepted {
                Ok(stream) => {
                    shared.meters.accepted.inc();
                    let open = Open::new(&shared.meters.open);
                    let connection = connection(shared.clone(), stream, self.graceful.watcher(), (place, open));
                    shared.tasks.spawn_once("http connection", connection);
                }
                // The client left before it was welcomed.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    drop(place);
                    shared.meters.accept_failures.inc();
                    tracing::warn!(%error, "accepting a connection failed");
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
    let served = serve_stream(&shared, stream, watcher);
    tokio::select! {
        biased;
        () = shared.cut.wait() => {}
        () = served => {}
    }
}

async fn serve_stream<T>(shared: &Shared, stream: T, watcher: Watcher)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = shared.limits;
    let activity = Arc::new(Activity::default());
    let stream = Paced::new(stream, activity.clone(), &shared.clock, limits, &shared.meters, false);
    let mut builder = auto::Builder::new(Spawner(shared.tasks.clone())).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        // A backstop; the deadlines that matter are those of the stream.
        .header_read_timeout(limits.idle_timeout + limits.header_timeout)
        .max_buf_size(limits.header_bytes.max(8 << 10))
        .half_close(true);
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
