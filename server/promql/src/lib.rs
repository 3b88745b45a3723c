//! The query language: parser, types, columnar evaluation.
//!
//! Text becomes a spanned, typed tree; every operator gives all steps of a query at once. Storage is known only through
//! its traits. Truth: `server-promql.md`, upstream's script tests and the engine of Prometheus 3.14.

mod aggregate;
mod answer;
mod binary;
mod completion;
mod engine;
mod eval;
pub mod expr;
pub mod functions;
pub mod histogram;
mod kernel;
mod keys;
mod notes;
mod parser;
mod pipeline;
mod plan;
mod print;
mod report;
mod select;
mod table;
mod token;
mod worker;

pub use answer::{Answer, MatrixRow, ParseError, QueryError, QueryValue, VectorRow};
pub use completion::{Completion, completions};
pub use engine::{Engine, EngineOptions, Features};
pub use parser::{parse, parse_selector, parse_with};
pub use print::pretty;
pub use report::{PlanNode, Report, Request, Stats};
pub use worker::Helpers;

#[cfg(test)]
mod hostile_tests;
