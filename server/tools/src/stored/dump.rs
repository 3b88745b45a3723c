//! Samples as text: `dump` and `dump-openmetrics`.

use super::{DATA, arguments::Arguments, folder};
use anyhow::Context;
use cli::{Command, Flag};
use exposition::write_float;
use model::{FloatHistogram, Labels, Matcher};
use std::io::Write;

/// The selector of every series, upstream's default. PromQL would refuse it, since it selects everything.
const EVERYTHING: &str = "{__name__=~'(?s:.*)'}";

/// The command line.
pub(crate) fn command(name: &str) -> Command {
    let help = if name == "dump" { "Dump samples from a TSDB." } else { "Dump samples into OpenMetrics text format." };
    let sandbox = "Accepted and not used: nothing is written for a dump.";
    ranged(Arguments::command(name, help)).flag(Flag::string("sandbox-dir-root", "", sandbox))
}

/// Adds the flags that say which samples are meant.
pub(crate) fn ranged(command: Command) -> Command {
    let min = "Minimum timestamp to dump, in milliseconds since the Unix epoch.";
    let max = "Maximum timestamp to dump, in milliseconds since the Unix epoch.";
    command
        .flag(Flag::string("min-time", &i64::MIN.to_string(), min))
        .flag(Flag::string("max-time", &i64::MAX.to_string(), max))
        .flag(Flag::list("match", &[EVERYTHING], "Series selector. Can be specified multiple times."))
}

/// First and last time that are meant.
pub(crate) fn range(args: &Arguments) -> anyhow::Result<(i64, i64)> {
    let time = |name: &str| {
        let text = args.flags.str(name);
        text.parse::<i64>().with_context(|| format!("--{name}={text} is no time in milliseconds"))
    };
    Ok((time("min-time")?, time("max-time")?))
}

/// The selectors that are meant.
pub(crate) fn selectors(args: &Arguments) -> anyhow::Result<Vec<Vec<Matcher>>> {
    let selectors = args.flags.list("match").iter();
    let parse = |text: &String| match text.as_str() {
        EVERYTHING => Ok(Vec::new()),
        text => promql::parse_selector(text).map_err(|error| anyhow::anyhow!("{error}")),
    };
    selectors.map(parse).collect()
}

/// Writes every sample on a line.
pub(crate) fn run(args: &Arguments, openmetrics: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let path = args.place(0).unwrap_or(DATA);
    folder::each(path, range(args)?, &selectors(args)?, |labels, samples| {
        let name = if openmetrics { series(labels, true) } else { series(labels, false) };
        let mut histograms = samples.histograms.iter().peekable();
        for (at, value) in &samples.floats {
            while let Some((at, value)) = histograms.next_if(|(next, _)| next < at) {
                put_histogram(&name, *at, value, openmetrics, out)?;
            }
            let mut number = Vec::new();
            write_float(*value, &mut number);
            let number = String::from_utf8_lossy(&number);
            if openmetrics {
                writeln!(out, "{name} {number} {:.3}", *at as f64 / 1000.0)?;
            } else {
                writeln!(out, "{name} {number} {at}")?;
            }
        }
        for (at, value) in histograms {
            put_histogram(&name, *at, value, openmetrics, out)?;
        }
        Ok(())
    })?;
    if openmetrics {
        writeln!(out, "# EOF")?;
    }
    Ok(())
}

fn put_histogram(
    name: &str,
    at: i64,
    value: &FloatHistogram,
    openmetrics: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    if !openmetrics {
        writeln!(out, "{name} {} {at}", promql::histogram::Histogram::from(value))?;
    }
    Ok(())
}

/// A series as upstream prints label sets: the name among the labels, or before them.
fn series(labels: &Labels, name_first: bool) -> String {
    let mut text = String::new();
    if name_first {
        text.push_str(labels.metric_name());
    }
    text.push('{');
    let pairs = labels.iter().filter(|(name, _)| !name_first || *name != "__name__");
    for (place, (name, value)) in pairs.enumerate() {
        if place > 0 {
            text.push_str(if name_first { "," } else { ", " });
        }
        if model::is_legacy_label_name(name) {
            text.push_str(name)
        } else {
            model::quote_into(name, &mut text)
        }
        text.push('=');
        model::quote_into(value, &mut text);
    }
    text.push('}');
    text
}
