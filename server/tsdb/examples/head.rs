//! The head alone: bytes a series, time a sample, bytes of the log, and how long a start takes after a kill.
//!
//! `head FOLDER [TARGETS [SERIES [SCRAPES]]]`; the folder is used up. A scrape is what `xtask bench ingest` serves: of
//! the series 62 % stay, 22 % count, 14 % are decimals, 2 % full doubles.

use model::{Labels, Timestamp};
use runtime::{Clock, Disk};
use storage::{SeriesId, Storage};
use tsdb::{Options, Tsdb};

fn status(key: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap_or_default() * 1024.0
}

/// Processor time of the process in seconds, to a hundredth.
fn processor() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap_or_default().1.split_whitespace().collect();
    fields.get(11..13).unwrap_or_default().iter().filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

struct Load {
    values: Vec<f64>,
    random: u64,
}

impl Load {
    /// The next value of a series.
    fn next(&mut self, series: usize) -> f64 {
        let kind = series * 37 % 100;
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let value = &mut self.values[series];
        if kind >= 62 && !self.random.is_multiple_of(3) {
            *value += match kind {
                0..84 => (self.random >> 8 & 511) as f64,
                84..98 => (self.random >> 8 & 511) as f64 / 100.0,
                _ => (self.random >> 8) as f64 * 1e-9,
            };
        }
        *value
    }
}

fn labels(target: usize, series: usize) -> Labels {
    let (family, cpu, mode) = (series / 10, series / 5 % 2, ["idle", "user", "system", "iowait", "irq"][series % 5]);
    Labels::from_pairs([
        ("__name__", format!("app_metric_{family:03}_seconds_total")),
        ("instance", format!("node-{target:04}.example:9100")),
        ("job", "load".to_owned()),
        ("cpu", cpu.to_string()),
        ("mode", mode.to_owned()),
    ])
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let folder = args.first().ok_or("a folder")?;
    let number = |place: usize, default: usize| args.get(place).map_or(Ok(default), |text| text.parse());
    let (targets, series, scrapes) = (number(1, 100)?, number(2, 1000)?, number(3, 240)?);
    let (disk, clock) = (Disk::open(folder)?, Clock::system());
    let store = Tsdb::open(disk.clone(), Options::default())?;
    let all = (targets * series) as f64;
    let before = status("RssAnon:");
    let began = processor();
    let mut ids: Vec<SeriesId> = Vec::with_capacity(targets * series);
    for target in 0..targets {
        let mut appender = store.appender();
        for one in 0..series {
            ids.push(appender.series(&labels(target, one))?);
        }
    }
    let held = ids.capacity() as f64 * 8.0;
    println!(
        "register: {:.2} us and {:.0} bytes a series",
        (processor() - began) / all * 1e6,
        (status("RssAnon:") - before - held) / all
    );
    let values: Vec<f64> = (0..targets * series).map(|i| (i * 7919 % 100_000) as f64).collect();
    let held = held + values.capacity() as f64 * 8.0;
    let mut load = Load { values, random: 88_172_645_463_325_252 };
    let start = 1_700_000_000_000_i64;
    let (mut generator, mut began) = (0.0, processor());
    for round in 0..scrapes {
        if round % 40 == 1 {
            let idle = processor();
            let sum: f64 = (0..load.values.len()).map(|one| load.next(one)).sum();
            generator += (processor() - idle) * 40.0;
            began += processor() - idle;
            std::hint::black_box(sum);
        }
        for target in 0..targets {
            let at = Timestamp(start + round as i64 * 15_000 + target as i64 * 15_000 / targets as i64);
            let mut appender = store.appender();
            for (one, id) in ids.iter().enumerate().skip(target * series).take(series) {
                appender.float(*id, at, load.next(one))?;
            }
            appender.commit()?;
        }
        if round % 4 == 3 {
            store.sync()?;
        }
        if round % 2 == 1 {
            store.maintain()?;
        }
        if (round + 1) % 60 == 0 {
            let metrics = store.metrics();
            println!(
                "after {:4} scrapes: {:.0} bytes a series, most {:.0}; sealed {:.0} in files, log {:.2} MB",
                round + 1,
                (status("RssAnon:") - before - held) / all,
                (status("VmHWM:") - before - held) / all,
                metrics.sealed_file_bytes as f64 / all,
                metrics.log_bytes as f64 / 1e6
            );
        }
    }
    let samples = all * scrapes as f64;
    println!("append: {:.0} ns a sample, maintenance included", (processor() - began - generator) / samples * 1e9);
    let memory = status("RssAnon:") - held;
    println!("before the end: {:.1} MB, log {:.1} MB", memory / 1e6, store.metrics().log_bytes as f64 / 1e6);
    drop(store);
    let (began, cpu) = (clock.now(), processor());
    let store = Tsdb::open(disk, Options::default())?;
    println!(
        "start: {:.2} s, {:.2} s of processor, {} records, {} series, {:.1} MB more",
        (clock.now() - began).as_secs_f64(),
        processor() - cpu,
        store.recovery().records,
        store.stats().series,
        (status("RssAnon:") - held) / 1e6,
    );
    Ok(())
}
