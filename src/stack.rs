//! The whole stack in one process: exporter, pushgateway and server with a built-in configuration.

use cli::{Command, Flag, Parsed};
use server::Environment;
use std::process::ExitCode;

/// Prefixes by which a flag of one service is given to the stack: `--server.web.listen-address=:9090`.
const SERVICES: [&str; 3] = ["exporter", "pushgateway", "server"];

/// Runs the stack until a signal.
pub(crate) fn main(args: Vec<String>) -> ExitCode {
    let (own, mut passed) = split(args);
    let parsed = match command().parse(own).run_or_say() {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    // A file is the server's to read, now and at every reload.
    let file = parsed.str("config.file");
    if !file.is_empty() {
        passed[2].push(format!("--config.file={file}"));
    }
    let mut parts = Vec::new();
    for (command, args) in [exporter::command(), pushgateway::command(), server::command()].into_iter().zip(passed) {
        match command.parse(args).run_or_say() {
            Ok(parsed) => parts.push(parsed),
            Err(code) => return code,
        }
    }
    if let Err(error) = cli::log::init(parsed.str("log.level"), parsed.str("log.format"), cli::log::Style::Slog) {
        eprintln!("narthex: error: {error}");
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("narthex: error: starting the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    server::exit_code(runtime.block_on(run(&parsed, parts)))
}

fn command() -> Command {
    Command::new(
        "narthex",
        "The whole Prometheus stack: exporter on :9100, pushgateway on :9091, server and pages on :9090. A flag of one \
         service is given with its name in front, such as --server.web.listen-address=:9090. Commands: exporter, \
         pushgateway and server run one service; see their --help.",
    )
    .log_flags()
    .flag(Flag::string("config.file", "", "Configuration file of the server instead of the built-in one."))
}

/// Sorts arguments: the stack's own, and those of each service without their prefix.
fn split(args: Vec<String>) -> (Vec<String>, [Vec<String>; 3]) {
    let (mut own, mut passed) = (Vec::new(), <[Vec<String>; 3]>::default());
    for arg in args {
        let target = SERVICES.iter().zip(&mut passed).find_map(|(service, list)| {
            let flag = arg.strip_prefix("--")?;
            let (no, flag) = flag.strip_prefix("no-").map_or(("", flag), |rest| ("no-", rest));
            let rest = flag.strip_prefix(service)?.strip_prefix('.')?;
            Some((list, format!("--{no}{rest}")))
        });
        match target {
            Some((list, arg)) => list.push(arg),
            None => own.push(arg),
        }
    }
    (own, passed)
}

async fn run(parsed: &Parsed, parts: Vec<Parsed>) -> anyhow::Result<()> {
    let env = Environment::system()?;
    let [exporter, pushgateway, server]: [Parsed; 3] =
        parts.try_into().map_err(|_| anyhow::anyhow!("a service has no command line"))?;
    let addresses = [&exporter, &pushgateway, &server].map(local);
    let built_in = parsed.str("config.file").is_empty().then(|| built_in(&addresses));
    println!(
        "narthex runs on this host; stop it with Ctrl-C\n  http://{2}/         query and look\n  http://{0}/metrics  this \
         host\n  http://{1}/         pushed by jobs",
        addresses[0], addresses[1], addresses[2]
    );
    let part = |env: &Environment| (env.clock.clone(), env.shutdown.clone(), env.tasks.clone());
    let stop = env.shutdown.clone();
    // Whichever ends first takes the others with it, each in its own orderly way.
    let ended = |result: anyhow::Result<()>| {
        stop.begin();
        result
    };
    let (clock, shutdown, tasks) = part(&env);
    let one = async { ended(exporter::run(exporter, exporter::Environment { clock, shutdown, tasks }).await) };
    let (clock, shutdown, tasks) = part(&env);
    let two = async { ended(pushgateway::run(pushgateway, pushgateway::Environment { clock, shutdown, tasks }).await) };
    let three = async { ended(server::run(server, env.clone(), built_in.as_deref()).await) };
    let (one, two, three) = tokio::join!(biased; one, two, three);
    one.and(two).and(three)
}

/// Where a local client finds a service.
fn local(parsed: &Parsed) -> String {
    let address = parsed.list("web.listen-address").first().map_or("", String::as_str);
    let (host, port) = address.rsplit_once(':').unwrap_or(("", address));
    if matches!(host, "" | "0.0.0.0" | "[::]") { format!("localhost:{port}") } else { address.to_owned() }
}

/// The configuration that makes the stack useful at once.
fn built_in([exporter, pushgateway, server]: &[String; 3]) -> String {
    format!(
        "global:\n  scrape_interval: 15s\n  scrape_timeout: 10s\nscrape_configs:\n- job_name: node\n  static_configs:\n  \
         - targets: ['{exporter}']\n- job_name: pushgateway\n  honor_labels: true\n  static_configs:\n  - targets: \
         ['{pushgateway}']\n- job_name: prometheus\n  static_configs:\n  - targets: ['{server}']\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_go_to_their_service() {
        let args =
            ["--log.level=debug", "--exporter.no-x", "--no-exporter.collector.cpu", "--server.web.listen-address=:1"];
        let (own, passed) = split(args.into_iter().map(str::to_owned).collect());
        assert_eq!(own, ["--log.level=debug"]);
        assert_eq!(passed[0], ["--no-x", "--no-collector.cpu"]);
        assert_eq!(passed[2], ["--web.listen-address=:1"]);
    }
}
