//! Calling HTTP the way the configuration says: authentication, TLS, proxies, redirects, limits.
//!
//! [`HttpConfig`] is the section of the configuration, [`Inline`] puts its keys among those of an owner, [`Client`] is
//! what calls. Absent: what is fetched and why, retries with back-off, request signing of cloud providers, and unix
//! sockets.

mod body;
mod client;
mod config;
mod dial;
mod error;
mod gzip;
mod inline;
mod jwt;
mod oauth2;
mod prepare;
mod proxy;
mod secret;
#[cfg(test)]
mod tests;
mod texts;
mod tls;
mod url;

pub use body::Encoding;
pub use client::{Client, Options, Request, Response};
pub use config::{Authorization, BasicAuth, Header, HttpConfig, OAuth2, ProxyHeader, ProxyUrl, TlsConfig, TlsVersion};
pub use error::{BuildError, Cause, ConfigError, FetchError};
pub use inline::{Inline, Section, beside};
pub use proxy::ProxyEnvironment;
pub use secret::Secret;
