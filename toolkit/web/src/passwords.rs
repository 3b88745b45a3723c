//! Basic authentication: bcrypt away from the event loop, few at a time, and remembered.
//!
//! What is remembered is keyed by a hash, with a secret of this process, over user, stored hash and password, each with
//! its length: so no password stays in memory, and no two of them can be mistaken for each other (CVE-2022-46146 was
//! that). Right and wrong results have rooms of their own, so that guessing cannot push out those who know.

use crate::config::Users;
use axum::http::{HeaderMap, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use parking_lot::Mutex;
use ring::{hmac, rand::SystemRandom};
use runtime::Tasks;
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::Semaphore;

/// Results remembered of each kind; a tenth of them, at random, makes room for the next.
const REMEMBERED_MAX: usize = 100;

/// Requests that may wait for a comparison; more are turned away at once.
const WAITING_MAX: usize = 64;

/// What became of the credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    Wrong,
    Missing,
    Busy,
}

type Key = [u8; 32];

/// Remembers comparisons and bounds how many run.
pub(crate) struct Passwords {
    secret: hmac::Key,
    right: Mutex<HashSet<Key>>,
    wrong: Mutex<HashSet<Key>>,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    tasks: Tasks,
}

impl Passwords {
    /// None when the system has no random numbers to give.
    pub(crate) fn new(tasks: &Tasks) -> Option<Self> {
        // Half of the processors, so that guessing leaves the other half to work.
        let places = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1));
        Some(Self {
            secret: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok()?,
            right: Mutex::default(),
            wrong: Mutex::default(),
            places: Arc::new(Semaphore::new(places)),
            waiting: AtomicUsize::new(0),
            tasks: tasks.clone(),
        })
    }

    /// Whether the request comes from one of the users. A name nobody has is compared as well, with a hash of nobody.
    pub(crate) async fn check(self: &Arc<Self>, users: &Users, headers: &HeaderMap) -> Verdict {
        let Some((user, password)) = credentials(headers) else { return Verdict::Missing };
        let name = std::str::from_utf8(&user).ok();
        let found = name.and_then(|name| users.hashes.get(name));
        let known = found.is_some();
        let hash = found.unwrap_or(&users.nobody);
        let key = self.key(&user, hash, &password);
        if let Some(verdict) = self.remembered(&key) {
            return verdict;
        }
        let Some(_waiting) = Waiting::enter(&self.waiting) else { return Verdict::Busy };
        let Ok(place) = self.places.clone().acquire_owned().await else { return Verdict::Busy };
        // The one before may have asked the same.
        if let Some(verdict) = self.remembered(&key) {
            return verdict;
        }
        let (this, hash) = (self.clone(), hash.clone());
        let compare = move || {
            // Held and remembered by the comparison itself: a client that has left does not make it free.
            let _place = place;
            let right = bcrypt::verify(&password, &hash).unwrap_or(false) && known;
            this.remember(key, right);
            right
        };
        match self.tasks.blocking("password check", compare).await {
            Ok(true) => Verdict::Right,
            _ => Verdict::Wrong,
        }
    }

    fn key(&self, user: &[u8], hash: &str, password: &[u8]) -> Key {
        let mut context = hmac::Context::with_key(&self.secret);
        for part in [user, hash.as_bytes(), password] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut key = Key::default();
        key.copy_from_slice(context.sign().as_ref());
        key
    }

    fn remembered(&self, key: &Key) -> Option<Verdict> {
        if self.right.lock().contains(key) {
            return Some(Verdict::Right);
        }
        self.wrong.lock().contains(key).then_some(Verdict::Wrong)
    }

    fn remember(&self, key: Key, right: bool) {
        let mut room = if right { self.right.lock() } else { self.wrong.lock() };
        if room.len() >= REMEMBERED_MAX {
            // The order of the keys is random, as they are hashes with a secret.
            let out: Vec<Key> = room.iter().take(REMEMBERED_MAX / 10).copied().collect();
            for key in out {
                room.remove(&key);
            }
        }
        room.insert(key);
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

/// User and password of `Authorization: Basic`, which are bytes.
fn credentials(headers: &HeaderMap) -> Option<(Vec<u8>, Vec<u8>)> {
    let given = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, encoded) = given.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let plain = STANDARD.decode(encoded).ok()?;
    let colon = plain.iter().position(|byte| *byte == b':')?;
    Some((plain[..colon].to_vec(), plain[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use runtime::Clock;

    /// Hash of `fish` at the least cost.
    fn users() -> Users {
        let hash = bcrypt::hash("fish", 4).expect("a hash");
        let text = format!("basic_auth_users: {{alice: '{hash}', bob: '{hash}'}}");
        crate::config::WebConfig::parse(text.as_bytes(), std::path::Path::new("x")).expect("parses").users
    }

    fn basic(plain: &str) -> HeaderMap {
        let value = format!("Basic {}", STANDARD.encode(plain));
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(&value).expect("a value"))])
    }

    fn passwords() -> Arc<Passwords> {
        Arc::new(Passwords::new(&Tasks::new(Clock::system())).expect("random numbers"))
    }

    #[tokio::test]
    async fn only_users_with_their_password_pass_once_and_again() {
        let (passwords, users) = (passwords(), users());
        for round in 0..2 {
            let cases = [
                ("alice:fish", Verdict::Right),
                ("bob:fish", Verdict::Right),
                ("alice:fishy", Verdict::Wrong),
                ("alice:", Verdict::Wrong),
                (":fish", Verdict::Wrong),
                ("carol:fish", Verdict::Wrong),
                ("alice", Verdict::Missing),
            ];
            for (plain, expected) in cases {
                assert_eq!(passwords.check(&users, &basic(plain)).await, expected, "{plain} in round {round}");
            }
        }
        assert_eq!(passwords.check(&users, &HeaderMap::new()).await, Verdict::Missing);
        assert_eq!((passwords.right.lock().len(), passwords.wrong.lock().len()), (2, 4));
    }

    #[test]
    fn the_scheme_has_no_case_and_other_schemes_are_none() {
        let read = |text: &'static str| {
            credentials(&HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(text))]))
        };
        assert_eq!(read("bAsIc YTpiOmM="), Some((b"a".to_vec(), b"b:c".to_vec())));
        for other in ["Bearer YTpi", "Basic", "Basic !", "Basic YWI=", ""] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    /// CVE-2022-46146: what is remembered for one pair must not be found for another that reads the same when joined.
    #[test]
    fn parts_of_a_key_do_not_run_into_each_other() {
        let passwords = passwords();
        let keys = [
            passwords.key(b"ab", "c", b"d"),
            passwords.key(b"a", "bc", b"d"),
            passwords.key(b"a", "b", b"cd"),
            passwords.key(b"", "abcd", b""),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(key));
        }
    }

    /// A stranger whose password is the text of the hash of nobody, or empty, stays a stranger.
    #[tokio::test]
    async fn nobody_is_not_a_user() {
        let (passwords, mut users) = (passwords(), users());
        users.nobody = bcrypt::hash("open", 4).expect("a hash");
        assert_eq!(passwords.check(&users, &basic("stranger:open")).await, Verdict::Wrong);
        assert_eq!(passwords.check(&users, &basic("stranger:open")).await, Verdict::Wrong);
    }

    #[test]
    fn guessing_forgets_guesses_alone() {
        let passwords = passwords();
        passwords.remember([0; 32], true);
        for i in 1..=250u8 {
            passwords.remember([i; 32], false);
            assert!(passwords.wrong.lock().len() <= REMEMBERED_MAX);
        }
        assert_eq!(passwords.remembered(&[0; 32]), Some(Verdict::Right));
        assert_eq!(passwords.remembered(&[250; 32]), Some(Verdict::Wrong));
    }

    #[tokio::test]
    async fn a_crowd_is_turned_away_and_a_changed_hash_counts_at_once() {
        let (passwords, mut users) = (passwords(), users());
        let all = passwords.places.available_permits();
        let held = passwords.places.clone().acquire_many_owned(all as u32).await.expect("free");
        passwords.waiting.store(WAITING_MAX, Ordering::Relaxed);
        assert_eq!(passwords.check(&users, &basic("alice:fish")).await, Verdict::Busy);
        passwords.waiting.store(0, Ordering::Relaxed);
        drop(held);
        assert_eq!(passwords.check(&users, &basic("alice:fish")).await, Verdict::Right);
        assert_eq!(passwords.waiting.load(Ordering::Relaxed), 0);
        users.hashes.insert("alice".into(), bcrypt::hash("other", 4).expect("a hash"));
        assert_eq!(passwords.check(&users, &basic("alice:fish")).await, Verdict::Wrong);
    }
}
