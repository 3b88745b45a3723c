//! Serving HTTP: listeners, TLS, passwords, limits, compression, pages' shell. The only crate that knows axum; services use what is
//! re-exported here.

mod address;
mod answer;
mod clients;
mod config;
mod curves;
#[cfg(test)]
mod gate_tests;
mod handshake;
mod kubernetes;
mod listen;
mod live;
mod meters;
mod names;
mod pace;
pub mod page;
mod passwords;
mod rate;
mod serve;
mod site;
mod socket;
#[cfg(test)]
mod testing;
mod tls;
#[cfg(test)]
mod tls_tests;

pub use answer::{metrics_response, respond_body};
pub use axum::{Router, body, extract, http, middleware, response, routing};
pub use config::ConfigError;
pub use curves::p521;
pub use listen::{BindError, Limits, ListenConfig, Listeners, Options, check_config};
