//! `narthex tsdb`: what upstream's `promtool tsdb` does, for its folders and ours, and the way between them.
//!
//! Flags and output of `analyze`, `list`, `dump`, `dump-openmetrics` and `create-blocks-from openmetrics` are upstream's
//! (3.5); `import`, `export` and `verify` are ours. A folder is ours when it has a manifest, else it is one of blocks.
//! Left out: upstream's log, so that what a server of upstream has not yet written into blocks is not seen; `bench` and
//! `create-blocks-from rules`.

mod analyze;
mod arguments;
mod create;
mod dump;
mod folder;
mod list;

use anyhow::{Context, bail};
use arguments::Arguments;
use cli::Flag;
use std::{io::Write, process::ExitCode};

/// What there is.
const USAGE: &str = "\
usage: narthex tsdb <command> [<flags>] [<args> ...]

Work on stored data. A folder is of narthex or of upstream.

Commands:
  analyze [<flags>] [<db path>] [<block id>]   Analyze churn, label pair cardinality and compaction efficiency.
  list [<flags>] [<db path>]                   List blocks or parts.
  dump [<flags>] [<db path>]                   Dump samples.
  dump-openmetrics [<flags>] [<db path>]       Dump samples into OpenMetrics text format, without native histograms.
  create-blocks-from openmetrics [<flags>] <input file> [<output directory>]
                                               Produce blocks from OpenMetrics text with timestamps.
  import [<flags>] <blocks> [<db path>]        Take the blocks of upstream's folder into a store of narthex.
  export [<flags>] <db path> [<output directory>]
                                               Write the samples of a store as blocks of upstream.
  verify [<db path>]                           Read everything and say what cannot be read.";

/// Where stored data is, if nothing else is said.
const DATA: &str = "data/";

/// The whole of a `narthex tsdb` process.
pub(crate) fn main(args: Vec<String>) -> ExitCode {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let done = run(args, &mut out).and_then(|code| Ok(out.flush().map(|()| code)?));
    match done {
        Ok(code) => code,
        // Whoever reads a part of it only has seen enough.
        Err(error) if is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_closed(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn run(mut args: Vec<String>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    if args.is_empty() || args[0] == "--help" || args[0] == "-h" {
        writeln!(out, "{USAGE}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let command = args.remove(0);
    let parsed = match command.as_str() {
        "analyze" => Arguments::parse(analyze::command(), args, 2),
        "list" => Arguments::parse(list::command(), args, 1),
        "dump" | "dump-openmetrics" => Arguments::parse(dump::command(&command), args, 1),
        "create-blocks-from" => {
            if args.first().map(String::as_str) != Some("openmetrics") {
                bail!("create-blocks-from: expected openmetrics");
            }
            args.remove(0);
            Arguments::parse(create::command(), args, 2)
        }
        "import" => Arguments::parse(Arguments::command("import", "Take blocks of upstream into a store."), args, 2),
        "export" => Arguments::parse(export_command(), args, 2),
        "verify" => Arguments::parse(Arguments::command("verify", "Read everything."), args, 1),
        _ => bail!("unknown command {command:?}\n{USAGE}"),
    };
    let args = match parsed {
        Ok(args) => args,
        Err(code) => return Ok(code),
    };
    match command.as_str() {
        "analyze" => analyze::run(&args, out)?,
        "list" => list::run(&args, out)?,
        "dump" => dump::run(&args, false, out)?,
        "dump-openmetrics" => dump::run(&args, true, out)?,
        "create-blocks-from" => create::run(&args, out)?,
        "import" => import(&args, out)?,
        "export" => export(&args, out)?,
        _ => verify(&args, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn import(args: &Arguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let from = args.place(0).context("import needs the folder of the blocks")?;
    let store = folder::store(args.place(1).unwrap_or(DATA), true)?;
    let found = blocks::import(&folder::disk(from)?, &store).with_context(|| format!("taking in {from}"))?;
    writeln!(out, "{} samples in {} series of {} blocks", found.samples, found.series, found.blocks)?;
    Ok(())
}

fn export_command() -> cli::Command {
    dump::ranged(Arguments::command("export", "Write the samples of a store as blocks of upstream."))
        .flag(Flag::duration_prom("block-duration", "2h", "Time range of a block."))
}

fn export(args: &Arguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let from = args.place(0).context("export needs the folder of the store")?;
    let to = args.place(1).unwrap_or(DATA);
    let store = folder::store(from, false)?;
    let disk = runtime::Disk::open(to).with_context(|| format!("opening {to}"))?;
    let selectors = dump::selectors(args)?;
    let [matchers] = selectors.as_slice() else { bail!("export takes one --match") };
    let length = i64::try_from(args.flags.duration("block-duration").as_millis()).unwrap_or(i64::MAX);
    let metas = blocks::export(&*store, &disk, dump::range(args)?, matchers, length.max(1))
        .with_context(|| format!("writing blocks into {to}"))?;
    list::blocks(&metas.into_iter().map(|meta| (meta, None)).collect::<Vec<_>>(), false, out)
}

fn verify(args: &Arguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let path = args.place(0).unwrap_or(DATA);
    let (mut series, mut samples) = (0_u64, 0_u64);
    folder::each(path, (i64::MIN, i64::MAX), &[Vec::new()], |_, found| {
        series += 1;
        samples += found.len() as u64;
        Ok(())
    })?;
    writeln!(out, "{samples} samples of {series} series can be read")?;
    Ok(())
}

#[cfg(test)]
mod tests;
