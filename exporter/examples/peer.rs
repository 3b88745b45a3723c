//! Compares the collectors with upstream's program on the machine it runs on: `peer PATH_OF_NODE_EXPORTER`.
//!
//! Both sides get the same flags, first the default collectors and then all that both have. A round asks upstream, ours,
//! upstream again; where upstream said the same twice, ours must say it too. Types and label sets must agree always.
//! What differs in every round is a difference; those in [`EXPLAINED`] are counted and named with their reason. Leaves
//! with 1 when any other is left.

use anyhow::{Context, bail};
use cli::Outcome;
use exporter::{Collection, Families};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

const ROUNDS: usize = 6;

/// Start of a line, what else it holds, and why the two sides may differ in it.
const EXPLAINED: &[(&str, &str, &str)] = &[
    ("node_exporter_build_info", "", "names the program"),
    ("node_scrape_collector_duration_seconds", "", "is measured"),
    ("node_disk_info", "rotational", "1.11.1 shows 0 when any other file of the queue cannot be read, 1.12 does not"),
    ("node_ksmd_general_profit_bytes", "", "new in 1.12"),
    ("node_edac_channel_", "", "new in 1.12"),
    ("node_mountstats_nfs_mountpoint_info", "", "new in 1.12"),
    ("node_filesystem_readonly", "", "1.11.1 sees it only when no other option is set"),
    ("node_processes_", "", "each side sees itself while it reads"),
    ("node_procs_", "", "each side sees itself while it reads"),
    ("node_sockstat_", "", "the connections of this check"),
    ("node_netstat_Tcp_", "", "the connections of this check"),
    ("node_tcp_connection_states", "", "the connections of this check"),
    ("node_filefd_allocated", "", "the files of this check"),
];

/// The same on both sides, where a distribution's build has another default.
const FLAGS: [&str; 2] = [
    "--collector.filesystem.mount-points-exclude=^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)",
    "--collector.textfile.directory=/nonexistent",
];

/// The collector that a distribution's build turns on and upstream's does not.
const DISTRIBUTION: &str = "systemd";

/// Series and types, each with its value or type.
type Lines = BTreeMap<String, String>;

fn main() -> anyhow::Result<ExitCode> {
    let program = std::env::args().nth(1).context("usage: peer PATH_OF_NODE_EXPORTER")?;
    let theirs = their_collectors(&program)?;
    let ours: BTreeSet<String> = exporter::collector_names().map(str::to_owned).collect();
    let shared: Vec<&String> = ours.intersection(&theirs).collect();
    for (what, all) in [("default collectors", false), ("all collectors", true)] {
        let mut flags: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
        if all {
            flags.extend(shared.iter().map(|name| format!("--collector.{name}")));
        } else if shared.iter().any(|name| *name == DISTRIBUTION) {
            flags.push(format!("--no-collector.{DISTRIBUTION}"));
        }
        let without = |names: &BTreeSet<String>, other: &BTreeSet<String>| -> Vec<String> {
            let missing = names.difference(other).map(|name| format!("--no-collector.{name}"));
            flags.iter().cloned().chain(missing).collect()
        };
        let differences = compare(&program, &without(&theirs, &ours), &without(&ours, &theirs))?;
        println!("{what}: {differences} differences that nothing explains");
        if differences > 0 {
            return Ok(ExitCode::FAILURE);
        }
    }
    let alone: Vec<&str> = ours.difference(&theirs).chain(theirs.difference(&ours)).map(String::as_str).collect();
    println!("collectors that only one side has, not compared: {}", alone.join(" "));
    Ok(ExitCode::SUCCESS)
}

/// The collectors that upstream's help names.
fn their_collectors(program: &str) -> anyhow::Result<BTreeSet<String>> {
    let help = Command::new(program).arg("--help").output().with_context(|| program.to_owned())?;
    let text = String::from_utf8_lossy(&[help.stdout, help.stderr].concat()).into_owned();
    let flags = text.split_whitespace().filter_map(|word| word.split("collector.").nth(1));
    let names = flags.filter(|name| !name.is_empty() && !name.contains(['.', '=', '-']));
    Ok(names.map(|name| name.trim_end_matches(|letter: char| !letter.is_alphanumeric()).to_owned()).collect())
}

/// A started program that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn compare(program: &str, their_flags: &[String], our_flags: &[String]) -> anyhow::Result<usize> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new(program);
    command
        .args(their_flags)
        .arg("--web.disable-exporter-metrics")
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let _peer = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    let parsed = match exporter::command().parse(our_flags.iter().cloned()) {
        Outcome::Run(parsed) => parsed,
        Outcome::Print(text) | Outcome::Refuse { message: text, .. } => bail!("{text}"),
    };
    let collection = Collection::start(&parsed, runtime::Clock::system())?;
    let mut rounds = (0..100).map(|_| scrape(port)).inspect(|answer| {
        if answer.is_err() {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    rounds.find_map(Result::ok).context("upstream's program does not answer")?;
    let mut always: Option<BTreeSet<String>> = None;
    let mut series = 0;
    for _ in 0..ROUNDS {
        let before = lines(&scrape(port)?);
        let mut out = Families::new();
        collection.gather(&collection.select(&[], &[])?, &mut out);
        let ours = lines(&String::from_utf8(out.finish().0)?);
        let after = lines(&scrape(port)?);
        series = ours.len();
        let found = differences(&before, &ours, &after);
        always = Some(always.map_or(found.clone(), |always| always.intersection(&found).cloned().collect()));
    }
    let always = always.unwrap_or_default();
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    let mut left = 0;
    for difference in &always {
        let name = difference.split_once(' ').map_or("", |(_, rest)| rest);
        let explained = EXPLAINED.iter().find(|(start, part, _)| name.starts_with(start) && name.contains(part));
        match explained {
            Some((start, _, _)) => *reasons.entry(start).or_default() += 1,
            None => {
                left += 1;
                println!("  {difference}");
            }
        }
    }
    for (start, count) in reasons {
        let reason = EXPLAINED.iter().find(|(known, ..)| *known == start).map_or("", |(_, _, reason)| reason);
        println!("  {count} explained: {start} {reason}");
    }
    println!("  {series} lines of ours compared in {ROUNDS} rounds");
    Ok(left)
}

/// What only one side has, and series that stood still and have another value here.
fn differences(before: &Lines, ours: &Lines, after: &Lines) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (series, value) in before {
        match (ours.get(series), after.get(series)) {
            (None, Some(_)) => {
                found.insert(format!("missing {series}"));
            }
            (Some(mine), Some(again)) if value == again && mine != value => {
                found.insert(format!("value {series}"));
            }
            _ => {}
        }
    }
    let unexpected = ours.keys().filter(|series| !before.contains_key(*series) && !after.contains_key(*series));
    found.extend(unexpected.map(|series| format!("unexpected {series}")));
    found
}

/// Series with their values, and families with their types.
fn lines(text: &str) -> Lines {
    let pair = |line: &str| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let wanted = text.lines().map(|line| line.strip_prefix("# TYPE ").unwrap_or(line));
    // A type and a series without labels share a name: the type is kept under `NAME type`.
    let lines = wanted.filter(|line| !line.starts_with('#') && !line.is_empty()).filter_map(|line| {
        let (name, value) = pair(line)?;
        let is_type = matches!(value.as_str(), "gauge" | "counter" | "untyped" | "summary" | "histogram");
        Some((if is_type { format!("{name} type") } else { name }, value))
    });
    lines.collect()
}

/// The text of one answer.
fn scrape(port: u16) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    if head.split(' ').nth(1) != Some("200") {
        bail!("{}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}
