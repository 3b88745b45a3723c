//! The whole stack in one program: `narthex` runs exporter, pushgateway and server together, `narthex SERVICE` one of
//! them, and a symlink with an upstream name behaves as that program.

mod stack;

use std::{path::Path, process::ExitCode};

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let called =
        args.first().map(|path| Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned());
    if !args.is_empty() {
        args.remove(0);
    }
    match called.as_deref() {
        Some("node_exporter" | "narthex-exporter") => return service("exporter", args),
        Some("pushgateway" | "narthex-pushgateway") => return service("pushgateway", args),
        Some("prometheus" | "narthex-server") => return service("server", args),
        Some("promtool") => return tools::main(args),
        _ => {}
    }
    match args.first().map(String::as_str) {
        Some(name @ ("exporter" | "pushgateway" | "server")) => {
            let name = name.to_owned();
            service(&name, args.split_off(1))
        }
        Some("push") => pushgateway::push::main(args.split_off(1)),
        Some(word) if tools::knows(word) => tools::main(args),
        Some("up") => stack::main(args.split_off(1)),
        Some(word) if !word.starts_with('-') && !word.starts_with('@') => {
            eprintln!(
                "narthex: error: unknown command {word:?}; there are exporter, pushgateway, push, server, up, and \
                 promtool's check, promql, query and tsdb"
            );
            ExitCode::from(1)
        }
        _ => stack::main(args),
    }
}

fn service(name: &str, args: Vec<String>) -> ExitCode {
    match name {
        "exporter" => exporter::main(args),
        "pushgateway" => pushgateway::main(args),
        _ => server::main(args),
    }
}
