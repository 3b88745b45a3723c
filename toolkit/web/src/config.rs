//! The web configuration file: TLS, headers, users, rate limit, and our own section about Kubernetes.
//!
//! Keys, defaults and the texts of refusals are those of the Prometheus exporter toolkit. Some mistakes upstream finds
//! only at the start and lives with later (a hash or a header that is wrong): so it is here, see `WebConfig::mistakes`.

use crate::{
    kubernetes,
    names::{AuthType, Cipher, Curve, Version},
};
use axum::http::{HeaderName, HeaderValue};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Bytes of the file, of a certificate's, of a key's: far above any that is meant.
pub(crate) const FILE_BYTES_MAX: u64 = 4 << 20;

/// Why a web configuration file is refused. Texts that upstream has are upstream's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("open {path}: {}", crate::listen::plain_text(cause))]
    Read {
        /// Which.
        path: String,
        /// What the system said.
        cause: io::Error,
    },
    /// A certificate or key cannot be read.
    #[error("failed to read {key} ({path}): {cause}")]
    Part {
        /// The key that names the file.
        key: &'static str,
        /// The file.
        path: String,
        /// Why.
        cause: Box<ConfigError>,
    },
    /// Not YAML, or not of this form.
    #[error("{path}: {message}")]
    Syntax {
        /// The file.
        path: String,
        /// What is wrong, and where.
        message: String,
    },
    /// A cipher suite Go does not know either.
    #[error("unknown cipher: {0}")]
    Cipher(String),
    /// A curve that Go does not know either.
    #[error("unknown curve: {0}")]
    Curve(String),
    /// A version that is none.
    #[error("unknown TLS version: {0}")]
    Version(String),
    /// Not a way of asking for client certificates.
    #[error("invalid ClientAuth: {0}")]
    AuthType(String),
    /// TLS without a certificate.
    #[error("missing one of cert or cert_file")]
    NoCertificate,
    /// TLS without a key.
    #[error("missing one of key or key_file")]
    NoKey,
    /// A certificate authority that nobody is checked against.
    #[error("client CA's have been configured without a Client Auth Policy")]
    NoAuthType,
    /// Certificate and key are no pair, or not what they should be.
    #[error("failed to load X509KeyPair: {0}")]
    KeyPair(String),
    /// HTTP/2 over TLS 1.2 without the suite that RFC 9113 demands.
    #[error(
        "http2: cipher_suites is missing an HTTP/2-required AES_128_GCM_SHA256 cipher (need at least one of \
         TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), or set http2: false"
    )]
    Http2Cipher,
    /// Valid upstream, and not possible here.
    #[error("tls_server_config: {0}")]
    NotOffered(String),
    /// A header that may not be set here.
    #[error("HTTP header {0:?} can not be configured")]
    Header(String),
    /// A header's value that browsers would not understand.
    #[error("invalid value for {name}. Expected one of: {allowed:?}, but got: {value:?}")]
    HeaderValue {
        /// The header.
        name: String,
        /// What it may be.
        allowed: &'static [&'static str],
        /// What it is.
        value: String,
    },
    /// A password that is not hashed as it must be.
    #[error("basic_auth_users: the hash of {user:?} is not bcrypt's: {reason}; make one by htpasswd -nBC 10 \"\"")]
    Hash {
        /// Whose.
        user: String,
        /// Why.
        reason: String,
    },
    /// Our own section.
    #[error("kubernetes_auth: {0}")]
    Kubernetes(String),
    /// TLS was on at the start and is gone from the file.
    #[error("the file sets up no TLS any more; restart to serve without")]
    TlsGone,
}

/// A path that is relative to the folder of the configuration file.
fn beside(folder: &Path, path: Option<String>) -> Option<PathBuf> {
    path.filter(|path| !path.is_empty()).map(|path| folder.join(path))
}

/// Reads a file whole, up to a limit.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let fail = |cause| ConfigError::Read { path: path.display().to_string(), cause };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(fail)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(fail(io::Error::other(format!("more than {FILE_BYTES_MAX} bytes"))));
    }
    Ok(bytes)
}

/// PEM text in the file itself or in one beside it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pem {
    pub(crate) inline: Option<String>,
    pub(crate) file: Option<PathBuf>,
}

impl Pem {
    fn new(folder: &Path, inline: Option<String>, file: Option<String>) -> Self {
        Self { inline: inline.filter(|text| !text.is_empty()), file: beside(folder, file) }
    }

    pub(crate) fn is_given(&self) -> bool {
        self.inline.is_some() || self.file.is_some()
    }
}

/// `tls_server_config`.
#[derive(Clone, Debug)]
pub(crate) struct TlsSettings {
    pub(crate) certificate: Pem,
    pub(crate) key: Pem,
    pub(crate) client_ca: Pem,
    pub(crate) auth_type: Option<String>,
    pub(crate) allowed_sans: Option<Vec<String>>,
    pub(crate) versions: (Version, Version),
    pub(crate) ciphers: Vec<Cipher>,
    pub(crate) curves: Vec<Curve>,
}

impl TlsSettings {
    /// Whether anything asks for TLS at all.
    pub(crate) fn is_on(&self) -> bool {
        let auth_type = self.auth_type.as_deref().is_some_and(|kind| !kind.is_empty());
        self.certificate.is_given() || self.key.is_given() || self.client_ca.is_given() || auth_type
    }

    pub(crate) fn client_auth(&self) -> Result<AuthType, ConfigError> {
        AuthType::parse(self.auth_type.as_deref().unwrap_or_default())
    }
}

/// `rate_limit`: one token each interval, at most `burst` saved up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RateLimit {
    pub(crate) interval: Duration,
    pub(crate) burst: u32,
}

/// Names and bcrypt hashes, and the hash that a name nobody has is compared with.
#[derive(Debug, Default)]
pub(crate) struct Users {
    pub(crate) hashes: HashMap<String, String>,
    pub(crate) nobody: String,
}

/// The file, understood.
#[derive(Debug)]
pub(crate) struct WebConfig {
    pub(crate) tls: TlsSettings,
    pub(crate) http2: bool,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) users: Users,
    pub(crate) rate_limit: RateLimit,
    pub(crate) kubernetes: Option<Arc<kubernetes::Settings>>,
    /// Headers and users that are wrong and left out: they stop a start, and are only logged later on.
    pub(crate) mistakes: Vec<Arc<ConfigError>>,
}

impl WebConfig {
    /// Understands the text of the file at `path`.
    pub(crate) fn parse(text: &[u8], path: &Path) -> Result<Self, ConfigError> {
        let syntax = |message| ConfigError::Syntax { path: path.display().to_string(), message };
        let text = std::str::from_utf8(text).map_err(|error| syntax(error.to_string()))?;
        let file: Option<File> = serde_saphyr::from_str(text).map_err(|error| syntax(place(&error)))?;
        let file = file.unwrap_or_default();
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut mistakes = Vec::new();
        let http = file.http_server_config.unwrap_or_default();
        let env = |name: &str| std::env::var(name).ok();
        let kubernetes = file.kubernetes_auth.map(|file| kubernetes::Settings::new(file, folder, &env)).transpose()?;
        Ok(Self {
            tls: tls(file.tls_server_config.unwrap_or_default(), folder)?,
            http2: http.http2.unwrap_or(true),
            headers: headers(http.headers.unwrap_or_default(), &mut mistakes),
            users: users(file.basic_auth_users.unwrap_or_default(), &mut mistakes),
            rate_limit: rate_limit(file.rate_limit.unwrap_or_default()).map_err(syntax)?,
            kubernetes: kubernetes.map(Arc::new),
            mistakes: mistakes.into_iter().map(Arc::new).collect(),
        })
    }
}

/// What is wrong and where, without the lines around it: they may hold a key or a hash.
fn place(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    text.strip_prefix("error: ").unwrap_or(&text).to_owned()
}

/// The keys of the file; one that is there without a value counts as not there.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    tls_server_config: Option<TlsFile>,
    http_server_config: Option<HttpFile>,
    basic_auth_users: Option<BTreeMap<String, String>>,
    rate_limit: Option<RateFile>,
    /// Ours.
    kubernetes_auth: Option<kubernetes::File>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TlsFile {
    cert: Option<String>,
    cert_file: Option<String>,
    key: Option<String>,
    key_file: Option<String>,
    client_ca: Option<String>,
    client_ca_file: Option<String>,
    client_auth_type: Option<String>,
    client_allowed_sans: Option<Vec<String>>,
    min_version: Option<String>,
    max_version: Option<String>,
    cipher_suites: Option<Vec<String>>,
    /// Without effect, as in Go since 1.17.
    #[serde(rename = "prefer_server_cipher_suites")]
    _prefer_server_cipher_suites: Option<bool>,
    curve_preferences: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HttpFile {
    http2: Option<bool>,
    headers: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RateFile {
    interval: Option<Interval>,
    burst: Option<i64>,
}

/// A Go duration, or a number of nanoseconds.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Interval {
    Nanoseconds(i64),
    Text(String),
}

fn tls(file: TlsFile, folder: &Path) -> Result<TlsSettings, ConfigError> {
    let version = |given: Option<String>, default| given.map_or(Ok(default), |text| Version::parse(&text));
    Ok(TlsSettings {
        certificate: Pem::new(folder, file.cert, file.cert_file),
        key: Pem::new(folder, file.key, file.key_file),
        client_ca: Pem::new(folder, file.client_ca, file.client_ca_file),
        auth_type: file.client_auth_type,
        allowed_sans: file.client_allowed_sans,
        versions: (version(file.min_version, Version::Tls12)?, version(file.max_version, Version::Tls13)?),
        ciphers: parse_all(file.cipher_suites, Cipher::parse)?,
        curves: parse_all(file.curve_preferences, Curve::parse)?,
    })
}

fn parse_all<T>(
    names: Option<Vec<String>>,
    parse: impl Fn(&str) -> Result<T, ConfigError>,
) -> Result<Vec<T>, ConfigError> {
    names.unwrap_or_default().iter().map(|name| parse(name)).collect()
}

fn rate_limit(file: RateFile) -> Result<RateLimit, String> {
    let interval = match file.interval {
        None => Duration::ZERO,
        Some(Interval::Nanoseconds(count)) => Duration::from_nanos(u64::try_from(count).unwrap_or(0)),
        Some(Interval::Text(text)) => {
            cli::parse_go(&text).map_err(|error| format!("rate_limit: interval {text:?}: {error}"))?
        }
    };
    // Fewer than none is none.
    let burst = u32::try_from(file.burst.unwrap_or(0).max(0)).unwrap_or(u32::MAX);
    Ok(RateLimit { interval, burst })
}

/// The headers that may be set, and the values of those that know only a few.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

fn headers(given: BTreeMap<String, String>, mistakes: &mut Vec<ConfigError>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for (name, value) in given {
        match header(&name, &value) {
            Ok(header) => headers.push(header),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    headers
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), ConfigError> {
    let unknown = || ConfigError::Header(name.to_owned());
    let (_, allowed) = HEADERS.into_iter().find(|(known, _)| *known == name).ok_or_else(unknown)?;
    let wrong = || ConfigError::HeaderValue { name: name.to_owned(), allowed, value: value.to_owned() };
    if !allowed.is_empty() && !allowed.contains(&value) {
        return Err(wrong());
    }
    Ok((name.parse().map_err(|_| unknown())?, HeaderValue::from_str(value).map_err(|_| wrong())?))
}

/// Salt and digest of nobody: the digest is all zeros, which no password hashes to.
const NOBODY: &str = "abcdefghijklmnopqrstuu...............................";

/// What a comparison costs where nobody says otherwise.
const COST: u32 = 10;

fn users(given: BTreeMap<String, String>, mistakes: &mut Vec<ConfigError>) -> Users {
    let mut hashes = HashMap::new();
    let mut costs = BTreeMap::<u32, usize>::new();
    for (user, hash) in given {
        match cost(&hash) {
            Ok(cost) => *costs.entry(cost).or_default() += 1,
            Err(reason) => mistakes.push(ConfigError::Hash { user: user.clone(), reason }),
        }
        // A user whose hash is wrong stays a user, whom no password lets in.
        hashes.insert(user, hash);
    }
    // A stranger costs what most users cost, so that time tells nothing about names.
    let cost = costs.into_iter().max_by_key(|(_, count)| *count).map_or(COST, |(cost, _)| cost);
    Users { hashes, nobody: format!("$2b${cost:02}${NOBODY}") }
}

fn cost(hash: &str) -> Result<u32, String> {
    let parts: bcrypt::HashParts = hash.parse().map_err(|error: bcrypt::BcryptError| error.to_string())?;
    match parts.get_cost() {
        cost @ 4..=31 => Ok(cost),
        cost => Err(format!("cost {cost} is outside allowed inclusive range 4..31")),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
