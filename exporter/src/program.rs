//! The exporter as a program: command line, log, runtime, exit code.

use crate::{Environment, StartError, command, run};
use cli::{Outcome, Parsed};
use runtime::{Clock, Shutdown, Tasks};
use std::process::ExitCode;

/// Code for a setting that no collector can start with.
const CANNOT_START: u8 = 2;
const WORKERS_MAX: usize = 64;

/// Runs the exporter with the arguments after the program's name.
pub fn main(args: Vec<String>) -> ExitCode {
    let parsed = match command().parse(args) {
        Outcome::Run(parsed) => parsed,
        Outcome::Print(text) => {
            println!("{}", text.trim_end());
            return ExitCode::SUCCESS;
        }
        Outcome::Refuse { message, code } => {
            eprintln!("{}", message.trim_end());
            return ExitCode::from(u8::try_from(code).unwrap_or(1));
        }
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
    let workers = usize::try_from(parsed.int("runtime.gomaxprocs")).unwrap_or(1).clamp(1, WORKERS_MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let result = runtime.block_on(async {
        let (clock, shutdown) = (Clock::system(), Shutdown::new());
        let tasks = Tasks::new(clock.clone());
        runtime::signals(&clock, &shutdown, &tasks)?;
        run(parsed, Environment { clock, shutdown, tasks }).await
    });
    // A mount that hangs must not keep the program from ending.
    runtime.shutdown_background();
    result
}
