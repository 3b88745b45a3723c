//! `create-blocks-from openmetrics`: text with timestamps becomes blocks. Memory: the file and its samples.

use super::{arguments::Arguments, list};
use anyhow::{Context, bail};
use blocks::{BLOCK_MS, BlockWriter, Samples};
use cli::{Command, Flag};
use exposition::{
    Format,
    scrape::{Entry, Parser},
};
use model::{Builder, Labels};
use runtime::Disk;
use std::{collections::BTreeMap, io::Write};

/// The command line.
pub(crate) fn command() -> Command {
    Arguments::command(
        "create-blocks-from openmetrics",
        "Import samples from OpenMetrics input and produce TSDB blocks.",
    )
    .flag(Flag::boolean("human-readable", false, "Print human readable values.").short('r'))
    .flag(Flag::boolean("quiet", false, "Do not print created blocks.").short('q'))
    .flag(Flag::list("label", &[], "Label to attach to metrics, as name=value. Can be specified multiple times."))
    .flag(Flag::duration_prom("max-block-duration", "2h", "Maximum duration created blocks may span.").hidden())
}

/// Writes the blocks and their table.
pub(crate) fn run(args: &Arguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let file = args.place(0).context("required argument 'input file' not provided")?;
    let folder = args.place(1).unwrap_or(super::DATA);
    let text = std::fs::read(file).with_context(|| format!("reading {file}"))?;
    let all = parse(&text, args.flags.list("label")).with_context(|| format!("parsing {file}"))?;
    let disk = Disk::open(folder).with_context(|| format!("opening {folder}"))?;
    let longest = i64::try_from(args.flags.duration("max-block-duration").as_millis()).unwrap_or(i64::MAX);
    let length = block_length(longest);
    let times = || all.values().flat_map(|samples| samples.floats.iter().map(|(at, _)| *at));
    let (Some(min), Some(max)) = (times().min(), times().max()) else { return Ok(()) };
    let mut written = Vec::new();
    for number in min.div_euclid(length)..=max.div_euclid(length) {
        let (from, to) = (number * length, (number + 1) * length);
        let mut writer = BlockWriter::create(&disk)?;
        for (labels, samples) in &all {
            let range = samples.floats.partition_point(|(at, _)| *at < from)
                ..samples.floats.partition_point(|(at, _)| *at < to);
            writer.add(labels, &Samples { floats: samples.floats[range].to_vec(), ..Samples::default() })?;
        }
        written.extend(writer.finish()?);
    }
    if args.flags.bool("quiet") {
        return Ok(());
    }
    let mut rows = Vec::new();
    for meta in written {
        let bytes = blocks::Block::open(&disk, &meta.ulid)?.bytes();
        rows.push((meta, Some(bytes)));
    }
    list::blocks(&rows, args.flags.bool("human-readable"), out)
}

/// The longest of upstream's ranges, each three times the one before, that is not longer.
fn block_length(longest: i64) -> i64 {
    let mut length = BLOCK_MS;
    while length * 3 <= longest {
        length *= 3;
    }
    length
}

fn parse(text: &[u8], labels: &[String]) -> anyhow::Result<BTreeMap<Labels, Samples>> {
    let mut extra = Vec::new();
    for label in labels {
        extra.push(label.split_once('=').with_context(|| format!("--label={label} is not name=value"))?);
    }
    let mut parser = Parser::new(text, Format::OpenMetrics100);
    let (mut builder, mut all) = (Builder::default(), BTreeMap::<Labels, Samples>::new());
    while let Some(entry) = parser.next().map_err(|error| anyhow::anyhow!("{error}"))? {
        let Entry::Series { raw, value, at } = entry else { continue };
        let Some(at) = at else {
            bail!("expected timestamp for series {:?}, got none", String::from_utf8_lossy(&raw));
        };
        parser.labels(&mut builder);
        for (name, value) in &extra {
            builder.set(name, value);
        }
        all.entry(builder.build()).or_default().floats.push((at, value));
    }
    for samples in all.values_mut() {
        samples.floats.sort_by_key(|(at, _)| *at);
        samples.floats.dedup_by_key(|(at, _)| *at);
    }
    Ok(all)
}
