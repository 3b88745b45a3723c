//! The web configuration as it is now: read again when its files change, so that rotation needs no signal.
//!
//! Upstream reads the file for every request and every handshake. Here every request looks at the file's status, which
//! costs a microsecond, and what has changed is read once, away from the event loop. The status is that of the file a
//! path leads to, so that a swapped link (Kubernetes' secrets) is a change. A file that changed within the last two
//! seconds may change again without a trace in its status, and so is read again each time until it has settled.

use crate::{
    config::{self, ConfigError, WebConfig},
    tls::{self, Material},
};
use arc_swap::ArcSwap;
use metrics::{Gauge, Registry};
use runtime::{Clock, Tasks};
use rustls::ServerConfig;
use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// File systems stamp times more coarsely than they change.
const SETTLE_MS: i64 = 2000;

/// What tells a file from what it was: place, size, times.
type Status = (u64, u64, u64, (i64, i64), (i64, i64));

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    status: Option<Status>,
}

impl Watched {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), status: status(path) }
    }

    fn is_unchanged(&self) -> bool {
        status(&self.path) == self.status
    }

    /// Whether what changes from now on will show. A file that is not there shows by appearing.
    fn is_settled(&self, now_ms: i64) -> bool {
        self.status.is_none_or(|(.., (seconds, nanos))| {
            seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000) < now_ms.saturating_sub(SETTLE_MS)
        })
    }
}

fn status(path: &Path) -> Option<Status> {
    let meta = std::fs::metadata(path).ok()?;
    let (modified, changed) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
    Some((meta.dev(), meta.ino(), meta.size(), modified, changed))
}

/// The file as it was read last.
struct Page {
    watched: Watched,
    settled: bool,
    text: Vec<u8>,
    config: Result<Arc<WebConfig>, Arc<ConfigError>>,
}

impl Page {
    fn read(path: &Path, before: Option<&Page>, now_ms: Option<i64>) -> Self {
        let watched = Watched::new(path);
        let settled = now_ms.is_some_and(|now| watched.is_settled(now));
        match config::read(path) {
            Ok(text) => {
                let same = before.filter(|before| before.text == text && before.config.is_ok());
                let config = match same {
                    Some(before) => before.config.clone(),
                    None => WebConfig::parse(&text, path).map(Arc::new).map_err(Arc::new),
                };
                Self { watched, settled, text, config }
            }
            Err(error) => Self { watched, settled, text: Vec::new(), config: Err(Arc::new(error)) },
        }
    }

    fn is_current(&self) -> bool {
        self.settled && self.watched.is_unchanged()
    }
}

/// What sessions are made from, as it was read last.
struct Session {
    of: Arc<WebConfig>,
    watched: Vec<Watched>,
    settled: bool,
    material: Option<Material>,
    config: Result<Arc<ServerConfig>, Arc<ConfigError>>,
}

impl Session {
    fn read(of: Arc<WebConfig>, http2: bool, before: Option<&Session>, now_ms: Option<i64>) -> Self {
        let watched: Vec<Watched> = tls::files(&of.tls).iter().map(|path| Watched::new(path)).collect();
        let settled = now_ms.is_some_and(|now| watched.iter().all(|file| file.is_settled(now)));
        let material = Material::read(&of.tls);
        let same = before.filter(|before| {
            Arc::ptr_eq(&before.of, &of) && before.material.as_ref() == material.as_ref().ok() && before.config.is_ok()
        });
        // Sessions can be resumed as long as their configuration is the same one.
        let config = match (same, &material) {
            (Some(before), Ok(_)) => before.config.clone(),
            (_, Ok(material)) => tls::build(&of.tls, http2, material).map(Arc::new).map_err(Arc::new),
            (_, Err(_)) => Err(Arc::new(ConfigError::TlsGone)),
        };
        match material {
            Ok(material) => Self { of, watched, settled, material: Some(material), config },
            Err(error) => Self { of, watched, settled, material: None, config: Err(Arc::new(error)) },
        }
    }

    fn is_current(&self, of: &Arc<WebConfig>) -> bool {
        Arc::ptr_eq(&self.of, of) && self.settled && self.watched.iter().all(Watched::is_unchanged)
    }
}

/// A web configuration that may be served by.
pub(crate) struct WebFile {
    path: PathBuf,
    config: Arc<WebConfig>,
    page: Page,
    session: Option<Session>,
}

impl std::fmt::Debug for WebFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WebFile").field(&self.path).finish()
    }
}

impl WebFile {
    /// Reads the file and everything it names; here every mistake is a refusal.
    pub(crate) fn open(path: &Path) -> Result<Self, Arc<ConfigError>> {
        let page = Page::read(path, None, None);
        let config = page.config.clone()?;
        if let Some(mistake) = config.mistakes.first() {
            return Err(mistake.clone());
        }
        let session = config.tls.is_on().then(|| Session::read(config.clone(), config.http2, None, None));
        if let Some(session) = &session {
            session.config.clone()?;
        }
        Ok(Self { path: path.to_owned(), config, page, session })
    }

    /// As it was at the start, which rules what cannot change later.
    pub(crate) fn at_start(&self) -> &WebConfig {
        &self.config
    }

    /// The file and what it names.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.path.clone()];
        files.extend(tls::files(&self.config.tls));
        files.extend(self.config.kubernetes.iter().flat_map(|settings| settings.files()));
        files
    }

    /// Whether connections are to be TLS sessions.
    pub(crate) fn has_tls(&self) -> bool {
        self.session.is_some()
    }

    /// Begins to follow the files.
    pub(crate) fn watch(self, clock: &Clock, tasks: &Tasks, registry: &Registry) -> Live {
        let ok = registry.gauge(
            "narthex_web_config_last_reload_successful",
            "Whether the web configuration file could be read when it was looked at last.",
        );
        ok.set(1.0);
        Live {
            path: self.path,
            http2: self.config.http2,
            page: ArcSwap::from_pointee(self.page),
            session: self.session.map(ArcSwap::from_pointee),
            turn: tokio::sync::Mutex::new(()),
            clock: clock.clone(),
            tasks: tasks.clone(),
            ok,
        }
    }
}

/// The configuration while it is served by.
pub(crate) struct Live {
    path: PathBuf,
    http2: bool,
    page: ArcSwap<Page>,
    session: Option<ArcSwap<Session>>,
    /// One reads at a time; the others wait for what it finds.
    turn: tokio::sync::Mutex<()>,
    clock: Clock,
    tasks: Tasks,
    ok: Gauge,
}

impl Live {
    /// What holds for a request that comes now.
    pub(crate) async fn config(&self) -> Result<Arc<WebConfig>, Arc<ConfigError>> {
        let page = self.page.load();
        if page.is_current() {
            return page.config.clone();
        }
        drop(page);
        let _turn = self.turn.lock().await;
        let before = self.page.load_full();
        if before.is_current() {
            return before.config.clone();
        }
        let (path, now, old) = (self.path.clone(), self.clock.unix_ms(), before.clone());
        let read = self.tasks.blocking("web config", move || Page::read(&path, Some(&old), Some(now))).await;
        // A panic was told already, and leaves things as they were.
        let Ok(page) = read else { return before.config.clone() };
        self.tell(&before.config, &page.config);
        let config = page.config.clone();
        self.page.store(Arc::new(page));
        config
    }

    fn tell(&self, before: &Result<Arc<WebConfig>, Arc<ConfigError>>, now: &Result<Arc<WebConfig>, Arc<ConfigError>>) {
        match (before, now) {
            (Ok(before), Ok(now)) if Arc::ptr_eq(before, now) => {}
            (_, Ok(now)) => {
                self.ok.set(1.0);
                tracing::info!(file = %self.path.display(), "Web configuration was read again");
                for mistake in &now.mistakes {
                    tracing::warn!(%mistake, "Part of the web configuration is left out");
                }
            }
            (Err(before), Err(now)) if before.to_string() == now.to_string() => {}
            (_, Err(error)) => {
                self.ok.set(0.0);
                tracing::error!(err = %error, "Unable to parse configuration");
            }
        }
    }

    /// What holds for a session that begins now; None where there is no TLS.
    pub(crate) async fn session(&self) -> Option<Result<Arc<ServerConfig>, Arc<ConfigError>>> {
        let current = self.session.as_ref()?;
        let config = match self.config().await {
            Ok(config) => config,
            Err(error) => return Some(Err(error)),
        };
        let session = current.load();
        if session.is_current(&config) {
            return Some(session.config.clone());
        }
        drop(session);
        let _turn = self.turn.lock().await;
        let before = current.load_full();
        if before.is_current(&config) {
            return Some(before.config.clone());
        }
        let (http2, now, old) = (self.http2, self.clock.unix_ms(), before.clone());
        let read = move || Session::read(config, http2, Some(&old), Some(now));
        let Ok(session) = self.tasks.blocking("tls config", read).await else { return Some(before.config.clone()) };
        if let (Err(error), true) = (&session.config, before.config.is_ok()) {
            tracing::error!(err = %error, "TLS sessions cannot be made until the web configuration is mended");
        }
        let found = session.config.clone();
        current.store(Arc::new(session));
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Folder, Identity};

    /// A day from now by any file system's clock.
    fn later() -> i64 {
        Clock::system().unix_ms() + 86_400_000
    }

    #[test]
    fn what_has_settled_is_not_read_again_and_what_has_not_is() {
        let folder = Folder::new("rate_limit: {burst: 1}");
        let path = folder.path("web.yml");
        let fresh = Page::read(&path, None, Some(Clock::system().unix_ms()));
        assert!(!fresh.is_current(), "written a moment ago");
        let page = Page::read(&path, Some(&fresh), Some(later()));
        assert!(page.is_current());
        let (old, new) = (fresh.config.expect("parses"), page.config.as_ref().expect("parses"));
        assert!(Arc::ptr_eq(&old, new), "the same text is the same configuration");
        folder.put("web.yml", "rate_limit: {burst: 2}");
        assert!(!page.is_current(), "another file of the same size");
        folder.disk.remove("web.yml").expect("removed");
        let gone = Page::read(&path, None, Some(later()));
        assert!(gone.is_current() && gone.config.is_err(), "nothing to read until it appears");
        folder.put("web.yml", "");
        assert!(!gone.is_current());
    }

    /// Kubernetes: `web.yml` leads to `..data/web.yml`, and `..data` to a folder that is swapped.
    #[test]
    fn a_settled_link_that_leads_elsewhere_is_a_change() {
        let folder = Folder::new("");
        let link = |to: &str, name: &str| {
            std::os::unix::fs::symlink(to, folder.path("next")).expect("a link");
            folder.disk.rename("next", name).expect("swapped");
        };
        for version in ["v1", "v2"] {
            folder.disk.create_dir(version).expect("a folder");
            folder.put(&format!("{version}/web.yml"), "");
        }
        link("v1", "..data");
        link("..data/web.yml", "web.yml");
        let page = Page::read(&folder.path("web.yml"), None, Some(later()));
        assert!(page.is_current());
        link("v2", "..data");
        assert!(!page.is_current());
    }

    /// Sessions are resumed within one configuration, so a touched file must not make another.
    #[test]
    fn a_touched_certificate_keeps_its_sessions_and_a_new_one_does_not() {
        let folder = Folder::new("tls_server_config: {cert_file: server.crt, key_file: server.key}");
        let identity = Identity::own(&["localhost"]);
        folder.put_identity("server", &identity);
        let of = Page::read(&folder.path("web.yml"), None, None).config.expect("parses");
        let read = |before: Option<&Session>| Session::read(of.clone(), true, before, Some(later()));
        let first = read(None);
        assert!(first.is_current(&of));
        folder.put_identity("server", &identity);
        assert!(!first.is_current(&of));
        let touched = read(Some(&first));
        let same = |a: &Session, b: &Session| {
            Arc::ptr_eq(a.config.as_ref().expect("sessions"), b.config.as_ref().expect("sessions"))
        };
        assert!(touched.is_current(&of) && same(&first, &touched));
        folder.put_identity("server", &Identity::own(&["localhost"]));
        assert!(!same(&touched, &read(Some(&touched))));
    }
}
