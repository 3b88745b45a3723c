//! Why a configuration or a request failed. Texts are upstream's and Go's where users see them as `lastError`.

/// Why an HTTP client section was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Keys that exclude each other.
    #[error("at most one of {0} must be configured")]
    AtMostOne(&'static str),
    /// A key that is missing, or missing beside another.
    #[error("{0}")]
    Missing(&'static str),
    /// A key that may not stand beside another.
    #[error("{0}")]
    Conflict(&'static str),
    /// A header that is set by the client itself.
    #[error("setting header {0:?} is not allowed")]
    Reserved(String),
    /// A value that is none of those allowed.
    #[error("{0}")]
    Value(String),
}

/// Why a client could not be made from a valid section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The section itself is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A proxy address is not one.
    #[error("invalid proxy address {url:?}: {why}")]
    Proxy {
        /// As configured, without a password.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Certificates, keys or headers written into the section cannot be used.
    #[error("{0}")]
    Inline(String),
    /// A header that HTTP cannot carry.
    #[error("{0} holds a name or value that no header can have")]
    Header(String),
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No answer came.
    #[error("{op} {url:?}: {cause}")]
    Request {
        /// The method, written as Go does (`Get`).
        op: String,
        /// What was asked last, after redirects, without a password.
        url: String,
        /// What happened.
        cause: Cause,
    },
    /// The answer broke off.
    #[error("{0}")]
    Body(Cause),
    /// The body, uncompressed, reached its limit.
    #[error("body size limit exceeded")]
    BodyLimit,
}

impl FetchError {
    /// Whether time ran out.
    pub fn is_deadline(&self) -> bool {
        matches!(self, Self::Request { cause: Cause::Deadline, .. } | Self::Body(Cause::Deadline))
    }
}

/// What went wrong on the way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The deadline passed.
    #[error("context deadline exceeded")]
    Deadline,
    /// The address is not one that can be called.
    #[error("{0}")]
    Address(String),
    /// No connection: names, sockets, proxies, TLS.
    #[error("{0}")]
    Dial(String),
    /// The connection broke, or the peer does not speak HTTP.
    #[error("{0}")]
    Protocol(String),
    /// More redirects than a client follows.
    #[error("stopped after 10 redirects")]
    Redirects,
    /// Credentials, headers or certificates could not be read or used.
    #[error("{0}")]
    Credentials(String),
    /// No token came from the OAuth2 server.
    #[error("{0}")]
    Token(String),
    /// The body cannot be decompressed.
    #[error("{0}")]
    Encoding(String),
}
