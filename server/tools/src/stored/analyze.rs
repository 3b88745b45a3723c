//! `analyze`: what the series of a block are made of.

use super::{DATA, arguments::Arguments, folder, list};
use anyhow::{Context, bail};
use blocks::Block;
use cli::{Command, Flag};
use model::Matcher;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
};

/// The command line.
pub(crate) fn command() -> Command {
    Arguments::command("analyze", "Analyze churn, label pair cardinality and compaction efficiency.")
        .flag(Flag::int("limit", 20, "How many items to show in each list."))
        .flag(Flag::boolean("extended", false, "Run extended analysis."))
        .flag(Flag::list("match", &[], "Series selector to analyze. Only 1 set of matchers is supported now."))
}

/// Counts of a block.
#[derive(Default)]
struct Counts {
    series: u64,
    matched: u64,
    entries: u64,
    /// Time that a series with the pair, or the label, was not there.
    pair_gaps: BTreeMap<(String, String), u64>,
    name_gaps: BTreeMap<String, u64>,
    pairs: BTreeMap<(String, String), u64>,
    values: BTreeMap<String, BTreeSet<String>>,
    /// Samples of chunks are not known apart; these are those of series.
    samples: Vec<u64>,
}

/// Writes the lists.
pub(crate) fn run(args: &Arguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let path = args.place(0).unwrap_or(DATA);
    let disk = folder::disk(path)?;
    if folder::is_ours(&disk)? {
        bail!("{path} is a store of narthex; write it out by `narthex tsdb export` and analyze its blocks");
    }
    let all = blocks::blocks(&disk).with_context(|| format!("reading {path}"))?;
    let block = match args.place(1) {
        Some(wanted) => all.iter().find(|block| block.meta.ulid == wanted).context("block not found")?,
        None => all.last().context("no blocks found")?,
    };
    let matchers = match args.flags.list("match") {
        [] => Vec::new(),
        [one] => promql::parse_selector(one).map_err(|error| anyhow::anyhow!("{error}"))?,
        _ => bail!("only 1 set of matchers is supported"),
    };
    let counts = count(block, &matchers)?;
    let range = block.meta.max_time.saturating_sub(block.meta.min_time);
    writeln!(out, "Block ID: {}", block.meta.ulid)?;
    writeln!(out, "Duration: {}", list::duration(range))?;
    writeln!(out, "Total Series: {}", counts.series)?;
    if let [matcher] = args.flags.list("match") {
        writeln!(out, "Matcher: {matcher}")?;
    }
    writeln!(out, "Label names: {}", counts.values.len())?;
    if !matchers.is_empty() {
        writeln!(out, "Matched series: {}", counts.matched)?;
    }
    writeln!(out, "Postings (unique label pairs): {}", counts.pairs.len())?;
    writeln!(out, "Postings entries (total label pairs): {}", counts.entries)?;
    write_lists(&counts, range, usize::try_from(args.flags.int("limit")).unwrap_or(0), out)?;
    if args.flags.bool("extended") {
        write_extended(block, &counts, out)?;
    }
    Ok(())
}

fn count(block: &Block, matchers: &[Matcher]) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    let range = block.meta.max_time.saturating_sub(block.meta.min_time);
    block.each(|labels, samples, _| {
        counts.series += 1;
        if !matchers.iter().all(|matcher| matcher.matches(labels.get(matcher.name()).unwrap_or_default())) {
            return Ok::<(), anyhow::Error>(());
        }
        counts.matched += 1;
        counts.samples.push(samples.len() as u64);
        let times = || samples.floats.iter().map(|(at, _)| *at).chain(samples.histograms.iter().map(|(at, _)| *at));
        let there = times().max().zip(times().min()).map_or(0, |(max, min)| max - min);
        let gap = (range - there).unsigned_abs();
        for (name, value) in labels.iter() {
            let pair = (name.to_owned(), value.to_owned());
            *counts.pairs.entry(pair.clone()).or_default() += 1;
            *counts.pair_gaps.entry(pair).or_default() += gap;
            *counts.name_gaps.entry(name.to_owned()).or_default() += gap;
            counts.values.entry(name.to_owned()).or_default().insert(value.to_owned());
            counts.entries += 1;
        }
        Ok(())
    })?;
    Ok(counts)
}

fn write_lists(counts: &Counts, range: i64, limit: usize, out: &mut dyn Write) -> anyhow::Result<()> {
    let share = |gap: &u64| (*gap as f64 / range as f64) as u64;
    let pair = |(name, value): &(String, String)| format!("{name}={value}");
    let gaps = counts.pair_gaps.iter().map(|(key, gap)| (share(gap), pair(key))).collect();
    write_list("Label pairs most involved in churning:", gaps, limit, out)?;
    let gaps = counts.name_gaps.iter().map(|(name, gap)| (share(gap), name.clone())).collect();
    write_list("Label names most involved in churning:", gaps, limit, out)?;
    let pairs = counts.pairs.iter().map(|(key, count)| (*count, pair(key))).collect();
    write_list("Most common label pairs:", pairs, limit, out)?;
    let length = |values: &BTreeSet<String>| values.iter().map(|value| value.len() as u64).sum();
    let lengths = counts.values.iter().map(|(name, values)| (length(values), name.clone())).collect();
    write_list("Label names with highest cumulative label value length:", lengths, limit, out)?;
    let values = counts.values.iter().map(|(name, values)| (values.len() as u64, name.clone())).collect();
    write_list("Highest cardinality labels:", values, limit, out)?;
    let names = counts.pairs.iter().filter(|((name, _), _)| name == "__name__");
    let names = names.map(|((_, value), count)| (*count, value.clone())).collect();
    write_list("Highest cardinality metric names:", names, limit, out)
}

/// The largest first; upstream leaves open who comes first among equals, here it is by name.
fn write_list(title: &str, mut rows: Vec<(u64, String)>, limit: usize, out: &mut dyn Write) -> anyhow::Result<()> {
    rows.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    writeln!(out, "\n{title}")?;
    for (count, name) in rows.iter().take(limit) {
        writeln!(out, "{count} {name}")?;
    }
    Ok(())
}

/// How full chunks are, all kinds together; upstream shows their distribution.
fn write_extended(block: &Block, counts: &Counts, out: &mut dyn Write) -> anyhow::Result<()> {
    let stats = block.meta.stats;
    let each = |total: u64, of: u64| if of == 0 { 0.0 } else { total as f64 / of as f64 };
    writeln!(out, "\nCompaction analysis:\n")?;
    writeln!(out, "samples per chunk (avg): {:.1}", each(stats.num_samples, stats.num_chunks))?;
    writeln!(out, "bytes per sample, index and all: {:.3}", each(block.bytes(), stats.num_samples))?;
    let (min, max) = (counts.samples.iter().min().copied(), counts.samples.iter().max().copied());
    writeln!(out, "samples per series (min/max): {}/{}", min.unwrap_or_default(), max.unwrap_or_default())?;
    Ok(())
}
