//! The whole stack in one program; so far the host exporter.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    exporter::main(args.skip_while(|arg| arg == "exporter").collect())
}
