//! Calling HTTP the way the configuration says: authentication, TLS, proxies, redirects, limits.
mod config;
mod error;
mod inline;
mod proxy;
mod secret;
mod url;

pub use config::{Authorization, BasicAuth, Header, HttpConfig, OAuth2, ProxyHeader, ProxyUrl, TlsConfig, TlsVersion};
pub use error::{BuildError, Cause, ConfigError, FetchError};
pub use inline::Inline;
pub use proxy::ProxyEnvironment;
pub use secret::Secret;
