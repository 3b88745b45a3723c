//! End to end: the real program on real sockets, port 0 everywhere.

mod bad_input;
mod packaging;
mod sandbox;
mod seed;
mod stack;
mod web;
