//! `list`: the blocks of a folder, or the parts of a store, as a table.

use super::{DATA, arguments::Arguments, folder};
use anyhow::Context;
use blocks::Meta;
use cli::{Command, Flag};
use model::Timestamp;
use std::io::Write;

/// The command line.
pub(crate) fn command() -> Command {
    let help = "Print human readable values.";
    Arguments::command("list", "List tsdb blocks.").flag(Flag::boolean("human-readable", false, help).short('r'))
}

/// Writes the table.
pub(crate) fn run(args: &Arguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let path = args.place(0).unwrap_or(DATA);
    let disk = folder::disk(path)?;
    let human = args.flags.bool("human-readable");
    if folder::is_ours(&disk)? {
        drop(disk);
        let mut rows = vec![
            ["PART", "MIN TIME", "MAX TIME", "DURATION", "NUM SAMPLES", "NUM SERIES", "SIZE"]
                .map(str::to_owned)
                .to_vec(),
        ];
        for part in folder::store(path, false)?.part_list() {
            let (min, max) = (part.min.0, part.max.0.saturating_add(1));
            let mut row = vec![part.name, time(min, human), time(max, human), duration(max.saturating_sub(min))];
            row.extend([part.samples.to_string(), part.series.to_string(), size(part.bytes, human)]);
            rows.push(row);
        }
        return table(&rows, out);
    }
    let all = blocks::blocks(&disk).with_context(|| format!("reading {path}"))?;
    let all: Vec<(Meta, Option<u64>)> =
        all.into_iter().map(|block| (block.meta.clone(), Some(block.bytes()))).collect();
    blocks(&all, human, out)
}

/// The table of blocks with their bytes, as upstream's tool prints it.
pub(crate) fn blocks(all: &[(Meta, Option<u64>)], human: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let head = ["BLOCK ULID", "MIN TIME", "MAX TIME", "DURATION", "NUM SAMPLES", "NUM CHUNKS", "NUM SERIES", "SIZE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (meta, bytes) in all {
        let mut row = vec![meta.ulid.clone(), time(meta.min_time, human), time(meta.max_time, human)];
        row.push(duration(meta.max_time.saturating_sub(meta.min_time)));
        let stats = [meta.stats.num_samples, meta.stats.num_chunks, meta.stats.num_series];
        row.extend(stats.map(|number| number.to_string()));
        row.push(bytes.map_or_else(|| "-".to_owned(), |bytes| size(bytes, human)));
        rows.push(row);
    }
    table(&rows, out)
}

/// Cells as wide as the widest of their column and two spaces, thirteen at least; the last one as it is.
fn table(rows: &[Vec<String>], out: &mut dyn Write) -> anyhow::Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(|column| (width(column) + 2).max(13)).collect();
    for row in rows {
        for (place, cell) in row.iter().enumerate() {
            if place + 1 == row.len() { writeln!(out, "{cell}")? } else { write!(out, "{cell:<0$}", widths[place])? }
        }
    }
    Ok(())
}

fn time(ms: i64, human: bool) -> String {
    if !human {
        return ms.to_string();
    }
    let text = Timestamp(ms.div_euclid(1000).saturating_mul(1000)).to_rfc3339();
    format!("{} +0000 UTC", text.trim_end_matches('Z').replace('T', " "))
}

/// A length of time as Go prints it.
pub(crate) fn duration(ms: i64) -> String {
    let seconds = |ms: i64| {
        let text = format!("{}.{:03}", ms / 1000, ms % 1000);
        format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match ms {
        0 => "0s".to_owned(),
        1..1000 => format!("{ms}ms"),
        _ if ms < 60_000 => seconds(ms),
        _ if ms < 3_600_000 => format!("{}m{}", ms / 60_000, seconds(ms % 60_000)),
        _ => format!("{}h{}m{}", ms / 3_600_000, ms / 60_000 % 60, seconds(ms % 60_000)),
    }
}

/// Bytes, or as many of each unit of 1,024 of the one before as there are.
fn size(bytes: u64, human: bool) -> String {
    if !human {
        return bytes.to_string();
    }
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let parts = UNITS.iter().enumerate().rev().map(|(power, unit)| (bytes >> (10 * power) & 1023, unit));
    let text: String = parts.filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if text.is_empty() { "0B".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_look_as_upstreams() {
        assert_eq!(
            [1, 15_001, 60_000, 7_200_000, 3_600_500].map(duration),
            ["1ms", "15.001s", "1m0s", "2h0m0s", "1h0m0.5s"]
        );
        assert_eq!([0, 987, 1234, 3 << 20].map(|bytes| size(bytes, true)), ["0B", "987B", "1KiB210B", "3MiB"]);
        assert_eq!(time(1_700_000_015_001, true), "2023-11-14 22:13:35 +0000 UTC");
    }
}
