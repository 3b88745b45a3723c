//! Serving HTTP: listeners, limits, compression, pages' shell. The only crate that knows axum; services use what is
//! re-exported here.

mod address;
mod answer;
mod listen;
mod meters;
mod pace;
pub mod page;
mod serve;
mod site;
mod socket;

pub use answer::{metrics_response, respond_body};
pub use axum::{Router, body, extract, http, response, routing};
pub use listen::{BindError, Limits, ListenConfig, Listeners, Options};
