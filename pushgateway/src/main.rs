//! The push gateway as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    pushgateway::main(std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect())
}
