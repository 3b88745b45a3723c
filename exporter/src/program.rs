//! The exporter as a program: command line, log, runtime, exit code.

use crate::flags::SANDBOX;
use crate::service::Ready;
use crate::{Environment, StartError, command};
use anyhow::Context;
use cli::Parsed;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use runtime::{Clock, Shutdown, Tasks};
use std::process::ExitCode;

/// Code for a setting that no collector can start with.
const CANNOT_START: u8 = 2;
const WORKERS_MAX: usize = 64;

/// Runs the exporter with the arguments after the program's name.
pub fn main(args: Vec<String>) -> ExitCode {
    let parsed = match command().parse(args).run_or_say() {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    if let Err(error) = cli::log::init(parsed.str("log.level"), parsed.str("log.format"), cli::log::Style::Slog) {
        eprintln!("node_exporter: error: {error}");
        return ExitCode::FAILURE;
    }
    match serve(parsed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<StartError>() => {
            eprintln!("node_exporter: error: {error}");
            ExitCode::from(CANNOT_START)
        }
        Err(error) => {
            tracing::error!(err = format!("{error:#}"), "the exporter ends");
            ExitCode::FAILURE
        }
    }
}

fn serve(parsed: Parsed) -> anyhow::Result<()> {
    raise_file_limit();
    // One thread serves HTTP as a rule: the collectors have threads of their own, and each hand-over costs.
    // A process is restricted as long as it has one thread.
    let alone = parsed.str(SANDBOX) != "off";
    let mut runtime = match usize::try_from(parsed.int("runtime.gomaxprocs")).unwrap_or(1) {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ if alone => tokio::runtime::Builder::new_current_thread(),
        workers => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(workers.min(WORKERS_MAX));
            runtime
        }
    };
    let runtime = runtime.enable_all().build()?;
    let result = runtime.block_on(async {
        let (clock, shutdown) = (Clock::system(), Shutdown::new());
        let tasks = Tasks::new(clock.clone());
        runtime::signals(&clock, &shutdown, &tasks)?;
        let ready = Ready::new(parsed, Environment { clock, shutdown, tasks })?;
        ready.restrict().with_context(|| format!("--{SANDBOX}"))?;
        ready.serve().await
    });
    // A mount that hangs must not keep the program from ending.
    runtime.shutdown_background();
    result
}

/// Raises the limit of open files as far as the process may: files of the kernel stay open between scrapes.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) });
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}
