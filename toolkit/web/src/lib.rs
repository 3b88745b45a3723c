//! Serving HTTP: listeners, limits, compression, pages' shell. The only crate that knows axum; services use what is
//! re-exported here.
//!
//! Not built yet: TLS, passwords and headers of `--web.config.file`, systemd sockets and vsock. Asking for one of them
//! is an error, never ignored.

mod answer;
mod listen;
pub mod page;

pub use answer::{metrics_response, respond_body};
pub use axum::{Router, body, extract, http, response, routing};
pub use listen::{BindError, Limits, ListenConfig, Listeners, Options};
