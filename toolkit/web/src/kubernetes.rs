//! Requests checked by the API server of a Kubernetes cluster: who sent them, and whether they may.
//!
//! The truth is the API, `TokenReview` of `authentication.k8s.io/v1` and `SubjectAccessReview` of
//! `authorization.k8s.io/v1`, and, for what is asked and how refusals read, kube-rbac-proxy, whose place this takes.
//! One thing is otherwise: an API server that does not answer is 503 here, so that a scraper does not take its token
//! for a wrong one. Left out: OIDC without the API server, rewrites of attributes by the request, identity headers.

mod cache;
mod review;
mod settings;

use crate::meters::Refused;
use axum::http::{HeaderMap, Method, header};
use cache::{Cache, Key, Keys};
use metrics::{CounterVec, Registry};
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use review::{Api, Failure, User};
use runtime::{Clock, Tasks};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

pub(crate) use settings::{File, Settings};

/// Questions that may wait for an answer; more requests are turned away at once.
const WAITING_MAX: usize = 64;
/// Questions asked at once. Those of one place wait for each other, so that what many ask is asked once.
const LANES: usize = 16;
/// Bytes of a token. A service account's have about one thousand.
const TOKEN_MAX: usize = 16 << 10;

/// Why a request does not get to its handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 401.
    Unauthorized(Refused),
    /// 403 with its text.
    Forbidden(String),
    /// 404, for a path that is not let through for anybody.
    Hidden,
    /// 503: the API server does not answer, or too many wait for it.
    Unknown(Refused),
}

/// Everything that was learned under one version of the settings.
struct Learned {
    settings: Arc<Settings>,
    api: Api,
    known: Cache<Arc<User>>,
    strangers: Cache<()>,
    allowed: Cache<()>,
    denied: Cache<()>,
    lanes: [tokio::sync::Mutex<()>; LANES],
}

/// Asks, remembers, counts.
pub(crate) struct Kubernetes {
    clock: Clock,
    tasks: Tasks,
    registry: Registry,
    keys: Keys,
    learned: Mutex<Option<Arc<Learned>>>,
    meters: Mutex<Option<Meters>>,
    waiting: AtomicUsize,
    failing: AtomicBool,
}

/// What is counted, from the first request on that is checked.
#[derive(Clone)]
struct Meters {
    reviews: CounterVec,
    remembered: CounterVec,
}

impl Meters {
    fn new(registry: &Registry) -> Self {
        let reviews = registry.counter_vec(
            "narthex_kubernetes_auth_reviews_total",
            "Questions to the Kubernetes API server about tokens and about access, by what came of them.",
            &["review", "outcome"],
        );
        let remembered = registry.counter_vec(
            "narthex_kubernetes_auth_remembered_total",
            "Answers that were remembered, so that the Kubernetes API server was not asked.",
            &["review"],
        );
        for review in [TOKEN, ACCESS] {
            remembered.with(&[review]);
            for outcome in [YES, NO, FAILED] {
                reviews.with(&[review, outcome]);
            }
        }
        Self { reviews, remembered }
    }
}

const TOKEN: &str = "token";
const ACCESS: &str = "access";
const YES: &str = "allowed";
const NO: &str = "denied";
const FAILED: &str = "failed";

impl Kubernetes {
    /// None when the system has no random numbers to give.
    pub(crate) fn new(clock: &Clock, tasks: &Tasks, registry: &Registry) -> Option<Self> {
        Some(Self {
            clock: clock.clone(),
            tasks: tasks.clone(),
            registry: registry.clone(),
            keys: Keys::new()?,
            learned: Mutex::default(),
            meters: Mutex::default(),
            waiting: AtomicUsize::new(0),
            failing: AtomicBool::new(false),
        })
    }

    /// Whether a request may go on to its handler.
    pub(crate) async fn check(
        &self,
        settings: &Arc<Settings>,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<(), Refusal> {
        let path = percent_decode_str(path).decode_utf8_lossy();
        if !settings.lets_through(&path) {
            return Err(Refusal::Hidden);
        }
        if settings.ignores(&path) {
            return Ok(());
        }
        let token = bearer(headers).ok_or(Refusal::Unauthorized(Refused::NoToken))?;
        if token.len() > TOKEN_MAX {
            return Err(Refusal::Unauthorized(Refused::WrongToken));
        }
        let learned = self.learned(settings)?;
        let Some(user) = self.user(&learned, token).await? else {
            return Err(Refusal::Unauthorized(Refused::WrongToken));
        };
        let verb = verb(method);
        if settings.allows(&user, &verb, &path) || self.access(&learned, &user, &verb, &path).await? {
            return Ok(());
        }
        let (resource, subresource) = settings.resource();
        let name = &user.username;
        Err(Refusal::Forbidden(format!(
            "Forbidden (user={name}, verb={verb}, resource={resource}, subresource={subresource})"
        )))
    }

    /// What was learned under these settings; other settings mean to begin anew.
    fn learned(&self, settings: &Arc<Settings>) -> Result<Arc<Learned>, Refusal> {
        let mut learned = self.learned.lock();
        if let Some(learned) = &*learned
            && (Arc::ptr_eq(&learned.settings, settings) || *learned.settings == **settings)
        {
            return Ok(learned.clone());
        }
        let api = Api::new(settings, &self.clock, &self.tasks).map_err(|failure| self.failed(TOKEN, &failure))?;
        let new = Arc::new(Learned {
            settings: settings.clone(),
            api,
            known: Cache::new(),
            strangers: Cache::new(),
            allowed: Cache::new(),
            denied: Cache::new(),
            lanes: Default::default(),
        });
        *learned = Some(new.clone());
        Ok(new)
    }

    /// Whose token it is; none when it is nobody's.
    async fn user(&self, learned: &Learned, token: &str) -> Result<Option<Arc<User>>, Refusal> {
        let key = self.keys.of(&[TOKEN.as_bytes(), token.as_bytes()]);
        let remembered = |this: &Self| {
            let now = this.clock.now();
            let known = learned.known.get(&key, now).map(Some);
            known.or_else(|| learned.strangers.get(&key, now).map(|()| None))
        };
        if let Some(user) = remembered(self) {
            return Ok(self.remembered(TOKEN, user));
        }
        let (_waiting, _lane) = self.enter(learned, &key).await?;
        if let Some(user) = remembered(self) {
            return Ok(self.remembered(TOKEN, user));
        }
        let reviewed = learned.api.token(token).await.map_err(|failure| self.failed(TOKEN, &failure))?;
        self.answered(TOKEN, reviewed.is_some());
        let now = self.clock.now();
        let user = reviewed.map(Arc::new);
        match &user {
            Some(user) => learned.known.put(key, user.clone(), now, learned.settings.authenticated),
            None => learned.strangers.put(key, (), now, learned.settings.denied),
        }
        Ok(user)
    }

    async fn access(&self, learned: &Learned, user: &User, verb: &str, path: &str) -> Result<bool, Refusal> {
        let identity = user.identity();
        // A check of a resource is the same for every path.
        let path = if learned.settings.is_resource_check() { "" } else { path };
        let key = self.keys.of(&[ACCESS.as_bytes(), &identity, verb.as_bytes(), path.as_bytes()]);
        let remembered = |this: &Self| {
            let now = this.clock.now();
            let allowed = learned.allowed.get(&key, now).map(|()| true);
            allowed.or_else(|| learned.denied.get(&key, now).map(|()| false))
        };
        if let Some(allowed) = remembered(self) {
            return Ok(self.remembered(ACCESS, allowed));
        }
        let (_waiting, _lane) = self.enter(learned, &key).await?;
        if let Some(allowed) = remembered(self) {
            return Ok(self.remembered(ACCESS, allowed));
        }
        let allowed = learned.api.access(user, verb, path).await.map_err(|failure| self.failed(ACCESS, &failure))?;
        self.answered(ACCESS, allowed);
        let now = self.clock.now();
        if allowed {
            learned.allowed.put(key, (), now, learned.settings.allowed);
        } else {
            tracing::debug!(user = user.username, verb, path, "the cluster does not allow the request");
            learned.denied.put(key, (), now, learned.settings.denied);
        }
        Ok(allowed)
    }

    /// Waits for the turn to ask.
    async fn enter<'a>(
        &'a self,
        learned: &'a Learned,
        key: &Key,
    ) -> Result<(Waiting<'a>, tokio::sync::MutexGuard<'a, ()>), Refusal> {
        let waiting = Waiting::enter(&self.waiting).ok_or(Refusal::Unknown(Refused::ReviewsBusy))?;
        let lane = &learned.lanes[usize::from(key[0]) % LANES];
        Ok((waiting, lane.lock().await))
    }

    fn meters(&self) -> Meters {
        self.meters.lock().get_or_insert_with(|| Meters::new(&self.registry)).clone()
    }

    fn remembered<T>(&self, review: &str, answer: T) -> T {
        self.meters().remembered.with(&[review]).inc();
        answer
    }

    fn answered(&self, review: &str, yes: bool) {
        self.meters().reviews.with(&[review, if yes { YES } else { NO }]).inc();
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("the Kubernetes API server answers again");
        }
    }

    /// Told once for a row of failures, which may be long.
    fn failed(&self, review: &str, failure: &Failure) -> Refusal {
        self.meters().reviews.with(&[review, FAILED]).inc();
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(review, err = %failure, "the Kubernetes API server cannot be asked, requests are refused");
        }
        Refusal::Unknown(Refused::Review)
    }
}

/// One of those that wait.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Option<Self> {
        let step = |waiting: usize| (waiting < WAITING_MAX).then_some(waiting + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).ok().map(|_| Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The token of `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let mut words = given.split_ascii_whitespace();
    let scheme = words.next()?;
    words.next().filter(|_| scheme.eq_ignore_ascii_case("bearer"))
}

/// What Kubernetes calls a method.
fn verb(method: &Method) -> String {
    match method.as_str() {
        "POST" => "create".to_owned(),
        "PUT" => "update".to_owned(),
        other => other.to_ascii_lowercase(),
    }
}

/// How long an answer of the API server may take when nothing is said.
const DEADLINE: Duration = Duration::from_secs(5);

#[cfg(test)]
#[path = "kubernetes_tests.rs"]
mod tests;
