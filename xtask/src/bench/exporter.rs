//! Scrapes of the host exporter beside upstream's.

use super::{Connection, median, megabytes, timed};
use crate::processes::{free_port, http, start, wait};
use anyhow::Result;
use std::path::Path;

/// Collectors that both sides have and whose files every machine has.
const COLLECTORS: &[&str] = &[
    "cpu",
    "diskstats",
    "filefd",
    "filesystem",
    "loadavg",
    "meminfo",
    "netdev",
    "netstat",
    "sockstat",
    "softnet",
    "stat",
    "time",
    "uname",
    "vmstat",
];

/// Scrapes of the same collectors, in turn: time and processor time of one, memory after all.
pub(super) fn run(ours: &Path, bin: &Path) -> Result<()> {
    let (port, their_port) = (free_port()?, free_port()?);
    let collectors: Vec<String> = COLLECTORS.iter().map(|name| format!("--collector.{name}")).collect();
    let args = |port: u16| {
        let mut args = vec![format!("--web.listen-address=127.0.0.1:{port}"), "--collector.disable-defaults".into()];
        args.extend_from_slice(&collectors);
        args
    };
    let mut first = vec!["exporter".to_owned()];
    first.extend(args(port));
    let mine = start(ours, &first.iter().map(String::as_str).collect::<Vec<_>>())?;
    let theirs =
        start(&bin.join("prometheus-node-exporter"), &args(their_port).iter().map(String::as_str).collect::<Vec<_>>())?;
    for port in [port, their_port] {
        wait(|| http(port, "GET", "/metrics", "").is_ok())?;
    }
    println!("idle memory: ours {:.1} MB, upstream {:.1} MB", megabytes(&mine)?, megabytes(&theirs)?);
    let (mut a, mut b) = (Connection::open(port)?, Connection::open(their_port)?);
    let (cpu_a, cpu_b) = (mine.cpu_seconds()?, theirs.cpu_seconds()?);
    let (mut times_a, mut times_b) = (Vec::new(), Vec::new());
    const ROUNDS: usize = 300;
    for _ in 0..ROUNDS {
        times_a.push(timed(|| a.ask("GET", "/metrics", "", "").map(drop))?);
        times_b.push(timed(|| b.ask("GET", "/metrics", "", "").map(drop))?);
    }
    let (used_a, used_b) = (mine.cpu_seconds()? - cpu_a, theirs.cpu_seconds()? - cpu_b);
    let (a, b) = (median(times_a), median(times_b));
    println!("a scrape: ours {:.2} ms, upstream {:.2} ms, ratio {:.2}", a * 1e3, b * 1e3, b / a);
    println!(
        "processor time of {ROUNDS} scrapes: ours {used_a:.2} s, upstream {used_b:.2} s, ratio {:.2}",
        used_b / used_a
    );
    println!("memory after: ours {:.1} MB, upstream {:.1} MB", megabytes(&mine)?, megabytes(&theirs)?);
    Ok(())
}
