//! The query language: parser, types, columnar evaluation.
//!
//! Text becomes a spanned, typed tree; every operator gives all steps of a query at once. Storage is known only through
//! its traits. Not built yet, and refused by name: subqueries, native histograms, the functions listed as upstream's in
//! `functions`, annotations.

mod answer;
mod engine;
mod eval;
pub mod expr;
pub mod functions;
mod join;
mod parser;
mod token;

pub use answer::{Answer, MatrixRows, ParseError, QueryError, QueryValue, VectorRows};
pub use engine::{Engine, EngineOptions};
pub use parser::{parse, parse_selector};
