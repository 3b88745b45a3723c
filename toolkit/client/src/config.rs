//! The HTTP client section: upstream's keys, upstream's rules.
//!
//! Source of truth: `config/http_config.go` of prometheus/common and the configuration page of the documentation. The
//! structs hold what was written and nothing more; an empty text counts as absent, as upstream. Keys that name an entry
//! of a secret manager (`*_ref`) are unknown here, because the server has none.

use crate::{ConfigError, Secret};
use serde::{Deserialize, Deserializer, de};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The HTTP client section of a configuration. [`crate::Inline`] puts its keys among those of an owner.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// User and password.
    pub basic_auth: Option<BasicAuth>,
    /// Another kind of `Authorization` header.
    pub authorization: Option<Authorization>,
    /// Tokens from an OAuth2 server.
    pub oauth2: Option<OAuth2>,
    /// Old spelling of `authorization.credentials`.
    pub bearer_token: Option<Secret>,
    /// Old spelling of `authorization.credentials_file`.
    pub bearer_token_file: Option<PathBuf>,
    /// How to speak TLS.
    pub tls_config: Option<TlsConfig>,
    /// Whether to follow redirects; yes when absent.
    pub follow_redirects: Option<bool>,
    /// Whether HTTP/2 is offered over TLS; yes when absent, unless the owner says otherwise (remote write does).
    pub enable_http2: Option<bool>,
    /// Proxy for all requests: `http`, `https` or `socks5`.
    pub proxy_url: Option<ProxyUrl>,
    /// Hosts that are called directly, comma separated.
    pub no_proxy: Option<String>,
    /// Whether `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` choose the proxy.
    pub proxy_from_environment: Option<bool>,
    /// Headers of `CONNECT` requests.
    pub proxy_connect_header: Option<ProxyHeader>,
    /// Headers of every request, by name.
    pub http_headers: Option<BTreeMap<String, Header>>,
}

/// Headers sent to a proxy, by name.
pub type ProxyHeader = BTreeMap<String, Vec<Secret>>;

/// The address of a proxy, which may hold a password: shown without it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ProxyUrl(String);

impl ProxyUrl {
    /// An address as written.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The address with its password.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::url::redacted(&self.0))
    }
}

/// User and password, written down or in files that are read for every request.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the names are the configuration's keys")]
pub struct BasicAuth {
    pub username: Option<String>,
    pub username_file: Option<PathBuf>,
    pub password: Option<Secret>,
    pub password_file: Option<PathBuf>,
}

/// An `Authorization` header `TYPE CREDENTIALS`; the type is `Bearer` when absent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the names are the configuration's keys")]
pub struct Authorization {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub credentials: Option<Secret>,
    pub credentials_file: Option<PathBuf>,
}

/// How tokens are obtained.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the names are the configuration's keys")]
pub struct OAuth2 {
    pub client_id: Option<String>,
    pub client_secret: Option<Secret>,
    pub client_secret_file: Option<PathBuf>,
    pub grant_type: Option<String>,
    pub client_certificate_key: Option<Secret>,
    pub client_certificate_key_file: Option<PathBuf>,
    pub client_certificate_key_id: Option<String>,
    pub signature_algorithm: Option<String>,
    pub iss: Option<String>,
    pub audience: Option<String>,
    pub claims: Option<BTreeMap<String, serde_json::Value>>,
    pub scopes: Option<Vec<String>>,
    pub token_url: Option<String>,
    pub endpoint_params: Option<BTreeMap<String, String>>,
    pub tls_config: Option<TlsConfig>,
    pub proxy_url: Option<ProxyUrl>,
    pub no_proxy: Option<String>,
    pub proxy_from_environment: Option<bool>,
    pub proxy_connect_header: Option<ProxyHeader>,
}

/// How TLS is spoken. Files are read for every request; new content means new connections.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Certificates (PEM) trusted instead of the system's.
    pub ca: Option<String>,
    /// The client's certificate chain (PEM).
    pub cert: Option<String>,
    /// The client's private key (PEM).
    pub key: Option<Secret>,
    /// `ca` in a file.
    pub ca_file: Option<PathBuf>,
    /// `cert` in a file.
    pub cert_file: Option<PathBuf>,
    /// `key` in a file.
    pub key_file: Option<PathBuf>,
    /// The name that the server's certificate must carry, when it is not the host of the address.
    pub server_name: Option<String>,
    /// Whether any certificate will do.
    pub insecure_skip_verify: Option<bool>,
    /// Oldest version; below TLS 1.2 means 1.2, because nothing older is spoken.
    pub min_version: Option<TlsVersion>,
    /// Newest version.
    pub max_version: Option<TlsVersion>,
}

/// A version of TLS, by upstream's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the configuration's words")]
pub enum TlsVersion {
    Tls10,
    Tls11,
    Tls12,
    Tls13,
}

impl<'de> Deserialize<'de> for TlsVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "TLS10" => Ok(Self::Tls10),
            "TLS11" => Ok(Self::Tls11),
            "TLS12" => Ok(Self::Tls12),
            "TLS13" => Ok(Self::Tls13),
            other => Err(de::Error::custom(format!("unknown TLS version: {other}"))),
        }
    }
}

/// Values of one header; all of them are sent. Files are read for every request.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the names are the configuration's keys")]
pub struct Header {
    pub values: Option<Vec<String>>,
    pub secrets: Option<Vec<Secret>>,
    pub files: Option<Vec<PathBuf>>,
}

/// The OAuth2 grant that signs an assertion instead of sending a secret.
pub(crate) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Headers that the client, a scrape or a signature sets, in canonical spelling.
const RESERVED: [&str; 18] = [
    "Authorization",
    "Host",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "User-Agent",
    "Connection",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Www-Authenticate",
    "Accept-Encoding",
    "X-Prometheus-Remote-Write-Version",
    "X-Prometheus-Remote-Read-Version",
    "X-Prometheus-Scrape-Timeout-Seconds",
    "X-Amz-Date",
    "X-Amz-Security-Token",
    "X-Amz-Content-Sha256",
];

/// The text, unless it is absent or empty.
pub(crate) fn text(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|text| !text.is_empty())
}

/// The secret, unless it is absent or empty.
pub(crate) fn secret(value: &Option<Secret>) -> Option<&str> {
    value.as_ref().map(Secret::expose).filter(|text| !text.is_empty())
}

/// The path, unless it is absent or empty.
pub(crate) fn path(value: &Option<PathBuf>) -> Option<&Path> {
    value.as_deref().filter(|path| !path.as_os_str().is_empty())
}

fn refuse_both(one: bool, other: bool, names: &'static str) -> Result<(), ConfigError> {
    if one && other { Err(ConfigError::AtMostOne(names)) } else { Ok(()) }
}

fn in_directory(base: &Path, file: &mut Option<PathBuf>) {
    if let Some(file) = file.as_mut().filter(|file| !file.as_os_str().is_empty() && file.is_relative()) {
        *file = base.join(&file);
    }
}

impl HttpConfig {
    /// Checks what single values cannot show. Reads no file.
    ///
    /// # Errors
    /// [`ConfigError`] in upstream's words and upstream's order.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_bearer()?;
        if let Some(basic) = &self.basic_auth {
            basic.validate()?;
        }
        if let Some(authorization) = &self.authorization {
            authorization.validate()?;
            let other = self.basic_auth.is_some() || self.oauth2.is_some();
            refuse_both(true, other, "basic_auth, oauth2 & authorization")?;
        }
        if let Some(oauth2) = &self.oauth2 {
            refuse_both(true, self.basic_auth.is_some(), "basic_auth, oauth2 & authorization")?;
            oauth2.validate()?;
        }
        self.proxy().validate()?;
        if let Some(tls) = &self.tls_config {
            tls.validate()?;
        }
        let names = self.http_headers.iter().flat_map(BTreeMap::keys);
        match names.map(|name| canonical(name)).find(|name| RESERVED.contains(&name.as_str())) {
            Some(name) => Err(ConfigError::Reserved(name)),
            None => Ok(()),
        }
    }

    fn validate_bearer(&self) -> Result<(), ConfigError> {
        let (inline, file) = (secret(&self.bearer_token).is_some(), path(&self.bearer_token_file).is_some());
        refuse_both(inline, file, "bearer_token & bearer_token_file")?;
        let basic_or_oauth2 = self.basic_auth.is_some() || self.oauth2.is_some();
        let names = "basic_auth, oauth2, bearer_token & bearer_token_file";
        refuse_both(basic_or_oauth2, inline || file, names)?;
        if self.authorization.is_some() && (inline || file) {
            return Err(ConfigError::Conflict("authorization is not compatible with bearer_token & bearer_token_file"));
        }
        Ok(())
    }

    /// Makes relative file names start at `base`, the folder of the file that holds the section.
    pub fn set_directory(&mut self, base: &Path) {
        in_directory(base, &mut self.bearer_token_file);
        if let Some(basic) = &mut self.basic_auth {
            in_directory(base, &mut basic.username_file);
            in_directory(base, &mut basic.password_file);
        }
        if let Some(authorization) = &mut self.authorization {
            in_directory(base, &mut authorization.credentials_file);
        }
        if let Some(oauth2) = &mut self.oauth2 {
            in_directory(base, &mut oauth2.client_secret_file);
            in_directory(base, &mut oauth2.client_certificate_key_file);
            if let Some(tls) = &mut oauth2.tls_config {
                tls.set_directory(base);
            }
        }
        if let Some(tls) = &mut self.tls_config {
            tls.set_directory(base);
        }
        for header in self.http_headers.iter_mut().flat_map(BTreeMap::values_mut) {
            for file in header.files.iter_mut().flatten().filter(|file| file.is_relative()) {
                *file = base.join(&file);
            }
        }
    }

    pub(crate) fn proxy(&self) -> Proxy<'_> {
        Proxy {
            url: self.proxy_url.as_ref().map(ProxyUrl::expose),
            no_proxy: text(&self.no_proxy),
            from_environment: self.proxy_from_environment == Some(true),
            connect_header: self.proxy_connect_header.as_ref(),
        }
    }
}

impl BasicAuth {
    fn validate(&self) -> Result<(), ConfigError> {
        let user = (text(&self.username).is_some(), path(&self.username_file).is_some());
        refuse_both(user.0, user.1, "basic_auth username, username_file & username_ref")?;
        let password = (secret(&self.password).is_some(), path(&self.password_file).is_some());
        refuse_both(password.0, password.1, "basic_auth password, password_file & password_ref")
    }
}

impl Authorization {
    /// The word before the credentials.
    pub(crate) fn kind(&self) -> &str {
        self.kind.as_deref().map(str::trim).filter(|kind| !kind.is_empty()).unwrap_or("Bearer")
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let both = (secret(&self.credentials).is_some(), path(&self.credentials_file).is_some());
        refuse_both(both.0, both.1, "authorization credentials & credentials_file")?;
        if self.kind().eq_ignore_ascii_case("basic") {
            let why = "authorization type cannot be set to \"basic\", use \"basic_auth\" instead";
            return Err(ConfigError::Conflict(why));
        }
        Ok(())
    }
}

impl OAuth2 {
    /// Whether tokens are asked for with a signed assertion.
    pub(crate) fn signs(&self) -> bool {
        text(&self.grant_type) == Some(JWT_BEARER)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        if text(&self.client_id).is_none() {
            return Err(ConfigError::Missing("oauth2 client_id must be configured"));
        }
        if text(&self.token_url).is_none() {
            return Err(ConfigError::Missing("oauth2 token_url must be configured"));
        }
        match text(&self.grant_type) {
            None | Some("client_credentials") => {
                let both = (secret(&self.client_secret).is_some(), path(&self.client_secret_file).is_some());
                refuse_both(both.0, both.1, "oauth2 client_secret, client_secret_file & client_secret_ref")?;
            }
            Some(JWT_BEARER) => self.validate_assertion()?,
            Some(other) => {
                let why = format!("oauth2 grant_type {other:?} is neither client_credentials nor {JWT_BEARER}");
                return Err(ConfigError::Value(why));
            }
        }
        if let Some(tls) = &self.tls_config {
            tls.validate()?;
        }
        self.proxy().validate()
    }

    fn validate_assertion(&self) -> Result<(), ConfigError> {
        let both = (secret(&self.client_certificate_key).is_some(), path(&self.client_certificate_key_file).is_some());
        let names = "oauth2 client_certificate_key, client_certificate_key_file & client_certificate_key_ref";
        refuse_both(both.0, both.1, names)?;
        match text(&self.signature_algorithm) {
            None | Some("RS256" | "RS384" | "RS512") => Ok(()),
            Some(_) => Err(ConfigError::Value("valid signature algorithms are RS256, RS384 and RS512".into())),
        }
    }

    pub(crate) fn proxy(&self) -> Proxy<'_> {
        Proxy {
            url: self.proxy_url.as_ref().map(ProxyUrl::expose),
            no_proxy: text(&self.no_proxy),
            from_environment: self.proxy_from_environment == Some(true),
            connect_header: self.proxy_connect_header.as_ref(),
        }
    }
}

impl TlsConfig {
    /// Checks the section alone. Reads no file.
    ///
    /// # Errors
    /// [`ConfigError`] in upstream's words.
    pub fn validate(&self) -> Result<(), ConfigError> {
        refuse_both(text(&self.ca).is_some(), path(&self.ca_file).is_some(), "ca, ca_file & ca_ref")?;
        let cert = (text(&self.cert).is_some(), path(&self.cert_file).is_some());
        refuse_both(cert.0, cert.1, "cert, cert_file & cert_ref")?;
        let key = (secret(&self.key).is_some(), path(&self.key_file).is_some());
        refuse_both(key.0, key.1, "key and key_file")?;
        let (cert, key) = (cert.0 || cert.1, key.0 || key.1);
        if cert && !key {
            let why = "exactly one of key or key_file must be configured when a client certificate is configured";
            return Err(ConfigError::Missing(why));
        }
        if key && !cert {
            let why = "exactly one of cert or cert_file must be configured when a client key is configured";
            return Err(ConfigError::Missing(why));
        }
        Ok(())
    }

    /// Makes relative file names start at `base`.
    pub fn set_directory(&mut self, base: &Path) {
        in_directory(base, &mut self.ca_file);
        in_directory(base, &mut self.cert_file);
        in_directory(base, &mut self.key_file);
    }
}

/// The proxy keys of a section.
pub(crate) struct Proxy<'a> {
    pub(crate) url: Option<&'a str>,
    pub(crate) no_proxy: Option<&'a str>,
    pub(crate) from_environment: bool,
    pub(crate) connect_header: Option<&'a ProxyHeader>,
}

impl Proxy<'_> {
    fn validate(&self) -> Result<(), ConfigError> {
        let url = self.url.is_some_and(|url| !url.is_empty());
        let header = self.connect_header.is_some_and(|header| !header.is_empty());
        if header && !self.from_environment && !url {
            return Err(ConfigError::Missing(
                "if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured",
            ));
        }
        if self.from_environment && url {
            let why = "if proxy_from_environment is configured, proxy_url must not be configured";
            return Err(ConfigError::Conflict(why));
        }
        if self.from_environment && self.no_proxy.is_some() {
            let why = "if proxy_from_environment is configured, no_proxy must not be configured";
            return Err(ConfigError::Conflict(why));
        }
        if self.url.is_none() && self.no_proxy.is_some() {
            return Err(ConfigError::Missing("if no_proxy is configured, proxy_url must also be configured"));
        }
        Ok(())
    }
}

/// A header name as Go spells it: `x-foo` is `X-Foo`; one with foreign characters stays as it is.
pub(crate) fn canonical(name: &str) -> String {
    if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        return name.to_owned();
    }
    let mut start = true;
    let letter = |c: char| {
        let written = if start { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
        start = c == '-';
        written
    };
    name.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str, expected: &str) {
        let parsed: Result<HttpConfig, _> = serde_saphyr::from_str(yaml);
        let told = match parsed {
            Ok(config) => config.validate().map_or_else(|error| error.to_string(), |()| "ok".into()),
            Err(error) => error.to_string(),
        };
        assert!(told == expected || !expected.is_empty() && told.contains(expected), "{yaml}\n{told}");
    }

    #[test]
    fn what_excludes_each_other_is_refused_in_upstreams_words() {
        for (yaml, expected) in [
            (
                "{bearer_token: a, bearer_token_file: b}",
                "at most one of bearer_token & bearer_token_file must be configured",
            ),
            (
                "{bearer_token: a, basic_auth: {username: u}}",
                "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured",
            ),
            (
                "{basic_auth: {username: u, username_file: f}}",
                "at most one of basic_auth username, username_file & username_ref must be configured",
            ),
            (
                "{basic_auth: {password: u, password_file: f}}",
                "at most one of basic_auth password, password_file & password_ref must be configured",
            ),
            (
                "{authorization: {credentials: a}, bearer_token: b}",
                "authorization is not compatible with bearer_token & bearer_token_file",
            ),
            (
                "{authorization: {credentials: a, credentials_file: b}}",
                "at most one of authorization credentials & credentials_file must be configured",
            ),
            (
                "{authorization: {type: ' BASIC '}}",
                "authorization type cannot be set to \"basic\", use \"basic_auth\" instead",
            ),
            (
                "{authorization: {credentials: a}, basic_auth: {username: u}}",
                "at most one of basic_auth, oauth2 & authorization must be configured",
            ),
            (
                "{oauth2: {client_id: a, token_url: b}, basic_auth: {username: u}}",
                "at most one of basic_auth, oauth2 & authorization must be configured",
            ),
            ("{oauth2: {token_url: b}}", "oauth2 client_id must be configured"),
            ("{oauth2: {client_id: b}}", "oauth2 token_url must be configured"),
            (
                "{oauth2: {client_id: a, token_url: b, client_secret: c, client_secret_file: d}}",
                "at most one of oauth2 client_secret, client_secret_file & client_secret_ref must be configured",
            ),
            ("{oauth2: {client_id: a, token_url: b, grant_type: password}}", "neither client_credentials nor urn:"),
            ("{tls_config: {ca: a, ca_file: b}}", "at most one of ca, ca_file & ca_ref must be configured"),
            ("{tls_config: {key: a, key_file: b}}", "at most one of key and key_file must be configured"),
            ("{tls_config: {cert_file: b}}", "exactly one of key or key_file must be configured when a client"),
            ("{tls_config: {key_file: b}}", "exactly one of cert or cert_file must be configured when a client"),
            ("{tls_config: {min_version: TLS9}}", "unknown TLS version: TLS9"),
            ("{proxy_connect_header: {a: [b]}}", "proxy_url or proxy_from_environment must also be configured"),
            ("{proxy_from_environment: true, proxy_url: 'http://x'}", "proxy_url must not be configured"),
            ("{proxy_from_environment: true, no_proxy: x}", "no_proxy must not be configured"),
            ("{no_proxy: x}", "if no_proxy is configured, proxy_url must also be configured"),
            ("{http_headers: {x-amz-date: {values: [a]}}}", "setting header \"X-Amz-Date\" is not allowed"),
            ("{basic_auth: {user: x}}", "unknown"),
            ("{basic_atuh: {}}", "unknown"),
        ] {
            check(yaml, expected);
        }
    }

    #[test]
    fn whole_sections_and_null_ones_are_accepted() {
        let whole = "
basic_auth: {username: 12, password: true}
tls_config: {ca_file: a, cert: b, key_file: c, server_name: d, insecure_skip_verify: true, min_version: TLS10, max_version: TLS13}
follow_redirects: false
enable_http2: false
proxy_url: http://u:p@x:1
no_proxy: a,b
proxy_connect_header: {a: [b, c]}
http_headers: {foo: {values: [a], secrets: [b], files: [c]}}
";
        check(whole, "ok");
        check("{basic_auth: , tls_config: , follow_redirects: , bearer_token: , http_headers: }", "ok");
        check("{bearer_token: '', bearer_token_file: '', basic_auth: {username: u, username_file: ''}}", "ok");
        check(
            "{oauth2: {client_id: a, token_url: b, grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer', \
             signature_algorithm: RS384, iss: i, audience: x, claims: {a: 1, b: [c]}, client_certificate_key_id: k}}",
            "ok",
        );
        let config: HttpConfig = serde_saphyr::from_str(whole).expect("parses");
        let shown = format!("{config:?}");
        assert!(!shown.contains("u:p") && shown.contains("<secret>"), "{shown}");
    }

    #[test]
    fn relative_files_start_at_the_folder_of_the_configuration() {
        let yaml = "{bearer_token_file: a, tls_config: {ca_file: /b, key_file: c}, oauth2: {client_secret_file: '', \
                    tls_config: {ca_file: d}}, http_headers: {x: {files: [e, /f]}}, basic_auth: {password_file: g}}";
        let mut config: HttpConfig = serde_saphyr::from_str(yaml).expect("parses");
        config.set_directory(Path::new("/etc/p"));
        let tls = config.tls_config.expect("given");
        assert_eq!(config.bearer_token_file, Some("/etc/p/a".into()));
        assert_eq!((tls.ca_file, tls.key_file), (Some("/b".into()), Some("/etc/p/c".into())));
        let oauth2 = config.oauth2.expect("given");
        assert_eq!(oauth2.client_secret_file, Some("".into()));
        assert_eq!(oauth2.tls_config.expect("given").ca_file, Some("/etc/p/d".into()));
        assert_eq!(config.http_headers.expect("given")["x"].files, Some(vec!["/etc/p/e".into(), "/f".into()]));
        assert_eq!(config.basic_auth.expect("given").password_file, Some("/etc/p/g".into()));
    }
}
