//! The server as a program of its own.
fn main() -> std::process::ExitCode {
    server::main(std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect())
}
