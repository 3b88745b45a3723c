//! Who may push to which job: `--push.tokens-file`, read again when it changes.
//!
//! The file is a YAML map of job to token or list of tokens; the job `*` stands for any, and for what touches all groups
//! at once. A token is given as it is or as `sha256:` and 64 hexadecimal digits. A request brings it as a bearer, as the
//! password of basic authentication, or in `X-Narthex-Token` where a proxy or the web configuration needs the usual
//! header for itself. Only hashes are kept, and all that may fit are compared whole, so that the time of an answer tells
//! nothing. What this leaves out: who may read, which is for the web configuration.

use base64::Engine as _;
use metrics::{CounterVec, Gauge, Registry};
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use runtime::Clock;
use std::{
    collections::BTreeMap,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use web::http::{HeaderMap, HeaderValue, header};

/// Bytes of the file at most.
const FILE_MAX: u64 = 1 << 20;
/// File systems stamp times more coarsely than they change: until then a file is read again each time.
const SETTLE_MS: i64 = 2000;
/// Job of the tokens that fit everywhere.
const ANY: &str = "*";

type Hash = [u8; 32];
type Jobs = BTreeMap<String, Vec<Hash>>;
/// What tells a file from what it was: place, size, time.
type Status = (u64, u64, u64, (i64, i64));

/// Why a file of tokens cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TokensError {
    #[error("{path}: {cause}")]
    Read { path: String, cause: std::io::Error },
    #[error("{path} is over {FILE_MAX} bytes; it is to be a map of jobs to tokens")]
    Size { path: String },
    #[error("{path} is no map of jobs to tokens: {why}")]
    Form { path: String, why: String },
    #[error("{path}: a token of job {job:?} is empty or no 64 hexadecimal digits behind sha256:")]
    Token { path: String, job: String },
}

/// Why a request may not do what it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error("a token is needed: as a bearer, as the password of basic authentication, or in X-Narthex-Token")]
    Missing,
    #[error("the token is not one for this job")]
    Wrong,
}

/// The tokens in force.
#[derive(Debug)]
pub(crate) struct Tokens {
    path: PathBuf,
    clock: Clock,
    read: Mutex<Seen>,
    ok: Gauge,
    denied: CounterVec,
}

#[derive(Debug)]
struct Seen {
    status: Option<Status>,
    jobs: Arc<Jobs>,
}

impl Tokens {
    /// Reads the file.
    ///
    /// # Errors
    /// [`TokensError`].
    pub(crate) fn open(path: &Path, clock: &Clock, registry: &Registry) -> Result<Self, TokensError> {
        let jobs = read(path)?;
        let ok = registry.gauge(
            "narthex_pushgateway_tokens_last_reload_successful",
            "Whether the file of tokens could be read when it had changed last; else the tokens before it hold.",
        );
        ok.set(1.0);
        let denied = registry.counter_vec(
            "narthex_pushgateway_refused_tokens_total",
            "Requests refused because of their token.",
            &["reason"],
        );
        let read = Mutex::new(Seen { status: None, jobs: Arc::new(jobs) });
        Ok(Self { path: path.to_owned(), clock: clock.clone(), read, ok, denied })
    }

    /// Whether a request with these headers may change groups of a job; `None` is every job.
    ///
    /// # Errors
    /// [`Denied`].
    pub(crate) fn allow(&self, headers: &HeaderMap, job: Option<&str>) -> Result<(), Denied> {
        let jobs = self.now();
        let verdict = match given(headers) {
            None => Err(Denied::Missing),
            Some(token) => {
                let hash = hash(token.as_bytes());
                let fitting = [Some(ANY), job].into_iter().flatten().filter_map(|job| jobs.get(job)).flatten();
                // Every one is compared, whichever fits.
                if fitting.fold(0, |found, have| found | same(have, &hash)) == 1 { Ok(()) } else { Err(Denied::Wrong) }
            }
        };
        if let Err(denied) = verdict {
            let reason = if denied == Denied::Missing { "missing" } else { "wrong" };
            self.denied.with(&[reason]).inc();
        }
        verdict
    }

    /// The tokens of the file as it is now; those before it while it cannot be read.
    fn now(&self) -> Arc<Jobs> {
        let mut seen = self.read.lock();
        let status = status(&self.path);
        let settled = status.is_some_and(|(.., (seconds, nanos))| {
            let at = seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000);
            at < self.clock.unix_ms().saturating_sub(SETTLE_MS)
        });
        if status.is_some() && status == seen.status {
            return seen.jobs.clone();
        }
        match read(&self.path) {
            Ok(jobs) => {
                seen.jobs = Arc::new(jobs);
                self.ok.set(1.0);
            }
            Err(error) => {
                // Once for each state of the file.
                if seen.status != status || self.ok.get() != 0.0 {
                    tracing::error!(%error, "The tokens stay as they were");
                }
                self.ok.set(0.0);
            }
        }
        seen.status = status.filter(|_| settled);
        seen.jobs.clone()
    }
}

fn status(path: &Path) -> Option<Status> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.size(), (meta.mtime(), meta.mtime_nsec())))
}

/// One token or several.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Given {
    One(String),
    All(Vec<String>),
}

fn read(path: &Path) -> Result<Jobs, TokensError> {
    let shown = || path.display().to_string();
    let failed = |cause| TokensError::Read { path: shown(), cause };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_MAX {
        return Err(TokensError::Size { path: shown() });
    }
    let given: BTreeMap<String, Given> =
        serde_saphyr::from_str(&text).map_err(|why| TokensError::Form { path: shown(), why: why.to_string() })?;
    let mut jobs = Jobs::new();
    for (job, given) in given {
        let tokens = match given {
            Given::One(token) => vec![token],
            Given::All(tokens) => tokens,
        };
        let hashes: Option<Vec<Hash>> = tokens.iter().map(|token| hash_of(token)).collect();
        let hashes = hashes.ok_or_else(|| TokensError::Token { path: shown(), job: job.clone() })?;
        jobs.insert(job, hashes);
    }
    Ok(jobs)
}

fn hash(token: &[u8]) -> Hash {
    let mut out = Hash::default();
    out.copy_from_slice(digest(&SHA256, token).as_ref());
    out
}

/// The hash of a token as the file gives it.
fn hash_of(token: &str) -> Option<Hash> {
    let Some(digits) = token.strip_prefix("sha256:") else {
        return (!token.is_empty()).then(|| hash(token.as_bytes()));
    };
    let digits: Vec<u32> = digits.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect();
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

/// 1 when both are the same; takes as long when they are not.
fn same(left: &Hash, right: &Hash) -> u8 {
    let differing = left.iter().zip(right).fold(0u8, |all, (left, right)| std::hint::black_box(all | (left ^ right)));
    u8::from(differing == 0)
}

/// The token of a request.
fn given(headers: &HeaderMap) -> Option<String> {
    let own = headers.get("x-narthex-token").and_then(|value| value.to_str().ok());
    if let Some(token) = own {
        return Some(token.to_owned());
    }
    let given = headers.get(header::AUTHORIZATION).map(HeaderValue::to_str)?.ok()?;
    let (scheme, rest) = given.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(rest).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn headers(name: &str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let name = web::http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
        headers.insert(name, HeaderValue::from_str(value).expect("a value"));
        headers
    }

    fn write(path: &Path, text: &str) {
        std::fs::File::create(path).and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
    }

    #[test]
    fn a_token_opens_its_job_and_a_star_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens.yml");
        // The hash is that of "abc", from FIPS 180-2.
        let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        write(&path, &format!("backup: one\nother: [two, '{abc}']\n'*': all\n"));
        let tokens = Tokens::open(&path, &Clock::system(), &Registry::new()).expect("read");
        let check = |name: &str, value: &str, job: Option<&str>, want: Result<(), Denied>| {
            assert_eq!(tokens.allow(&headers(name, value), job), want, "{name} {value} {job:?}");
        };
        check("Authorization", "Bearer one", Some("backup"), Ok(()));
        check("Authorization", "bearer one", Some("other"), Err(Denied::Wrong));
        check("Authorization", "Bearer two", Some("other"), Ok(()));
        check("Authorization", "Basic YW55Ym9keTphYmM=", Some("other"), Ok(()));
        check("X-Narthex-Token", "all", Some("unheard of"), Ok(()));
        check("X-Narthex-Token", "all", None, Ok(()));
        check("X-Narthex-Token", "one", None, Err(Denied::Wrong));
        check("X-Narthex-Token", "", Some("backup"), Err(Denied::Wrong));
        check("Authorization", "Digest x", Some("backup"), Err(Denied::Missing));
        check("Accept", "x", Some("backup"), Err(Denied::Missing));
    }

    #[test]
    fn a_file_that_changes_is_read_again_and_a_bad_one_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens.yml");
        write(&path, "a: one\n");
        let registry = Registry::new();
        let tokens = Tokens::open(&path, &Clock::system(), &registry).expect("read");
        let allowed = |token: &str| tokens.allow(&headers("X-Narthex-Token", token), Some("a")).is_ok();
        assert!(allowed("one") && !allowed("two"));
        write(&path, "a: two\n");
        assert!(!allowed("one") && allowed("two"));
        for bad in ["a: [", "a: ''\n", "a: sha256:12\n", "- a\n"] {
            write(&path, bad);
            assert!(allowed("two") && tokens.ok.get() == 0.0, "{bad}");
            assert!(Tokens::open(&path, &Clock::system(), &Registry::new()).is_err(), "{bad}");
        }
        write(&path, "a: three\n");
        assert!(allowed("three") && tokens.ok.get() == 1.0);
    }
}
