//! Every developer task: `cargo xtask check`, `conformance`, `peers`, `bench`, `new`, `tidy`. Imports none of ours, so that it builds
//! in a moment.

mod bench;
mod chromium;
mod conformance;
mod new;
mod page;
mod peers;
mod processes;
mod tidy;

use anyhow::{Context, Result, bail};
use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

const USAGE: &str = "\
usage: cargo xtask TASK

  check                            tests, format, clippy, tidy: what CI runs
  check-lints                      the same without the tests
  tidy                             the import table, file and lint rules
  conformance [SUITE…] [--data D]  run the suites under ../shared/conformance or D
  peers [PART] [--bin DIR]         scrape upstream's programs and ours crosswise and compare; or compare one part with
                                   upstream's: clients (of the gateway), exporter, promql, push, remote
  bench [NAME…] [--bin DIR]        time ours against upstream's in the same run; there are disk, exporter, push
  page [--browser PROGRAM]         use the gateway's page in Chromium with 10,000 groups
  faults push                      kill the gateway 200 times under parallel pushes and look for what it acknowledged
  new collector|function|discovery|receiver NAME
                                   the file of a new thing and its line";

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    match args.first().map(String::as_str) {
        Some("check") => check(),
        Some("check-lints") => lints(),
        Some("tidy") => tidy::tidy(&root()),
        Some("conformance") => conformance::run(&args[1..]),
        Some("peers") => peers::run(&args[1..]),
        Some("bench") => bench::run(&args[1..]),
        Some("page") => page::run(&args[1..]),
        Some("faults") => faults(&args[1..]),
        Some("new") => new::run(&args[1..]),
        _ => bail!("{USAGE}"),
    }
}

/// The real program under faults, for longer than tests take.
fn faults(args: &[String]) -> Result<()> {
    match args {
        [one] if one == "push" => sh(Command::new("cargo")
            .args(["test", "--package", "pushgateway", "--test", "kill"])
            .env("NARTHEX_KILLS", "200")
            .current_dir(root())),
        _ => bail!("usage: cargo xtask faults push"),
    }
}

fn check() -> Result<()> {
    cargo(&["test"])?;
    lints()
}

fn lints() -> Result<()> {
    format_check()?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    tidy::tidy(&root())
}

/// `cargo fmt` does not follow modules that a macro declares, so every tracked file is named.
fn format_check() -> Result<()> {
    let files = tidy::tracked(&root(), ".rs")?;
    let checked =
        Command::new("rustfmt").args(["--edition", "2024", "--check"]).args(files).current_dir(root()).status();
    if !checked.context("starting rustfmt")?.success() {
        bail!("the files above are not formatted; run rustfmt --edition 2024 on them");
    }
    Ok(())
}

/// The checkout that cargo was called in; a build folder may be shared by several.
fn root() -> PathBuf {
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&package).parent().expect("xtask lives in the workspace").to_owned()
}

fn cargo(args: &[&str]) -> Result<()> {
    sh(Command::new("cargo").args(args).current_dir(root()))
}

fn sh(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed with {status}");
    }
    Ok(())
}
