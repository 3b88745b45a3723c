//! Bytes on disk of the same samples in our store, in VictoriaMetrics and in Prometheus, all compacted, index and all.
//!
//! `target/bench-disk/captures` holds what the programs of this machine said for five minutes; it is made when it is
//! missing and used again afterwards. `NARTHEX_CAPTURES` names another folder: the longer the captures, the closer to a
//! real day.

mod data;

use crate::processes::{free_port, http, start, wait};
use anyhow::{Context, Result, bail};
use std::{
    io::{BufRead, BufReader, BufWriter, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

/// Captures of a fresh folder, a second apart.
const SCRAPES: usize = 300;
/// Targets derived from each captured exporter and server.
const DERIVED: u64 = 3;
/// Bytes of one import request.
const REQUEST: usize = 8 << 20;
/// Two days back, so that the newest block of any program is a past one.
const AGE_MS: i64 = 48 * 3_600_000;

pub(super) fn run(ours: &Path, bin: &Path) -> Result<()> {
    let work = crate::root().join("target/bench-disk");
    let captures = match std::env::var_os("NARTHEX_CAPTURES") {
        Some(folder) => PathBuf::from(folder),
        None => work.join("captures"),
    };
    if !captures.is_dir() {
        capture(ours, bin, &work, &captures)?;
    }
    for part in ["ours", "upstream", "victoria"] {
        let _ = std::fs::remove_dir_all(work.join(part));
    }
    std::fs::create_dir_all(&work)?;
    let file = work.join("samples.om");
    let (series, samples, victoria) = with_victoria(bin, &work, &captures, &file)?;
    let upstream = with_prometheus(bin, &work, &file)?;
    let store = work.join("ours");
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (from, to) = (text(&file), text(&store));
    crate::cargo(&["run", "--release", "--quiet", "--package", "tsdb", "--example", "load", "--", &from, &to])?;
    // The head and its log hold nothing after the merge.
    let ours = bytes(&store, &["lock", "wal", "head-", "seg"])?;
    println!("{series} series, {samples} samples");
    let each = |bytes: u64| bytes as f64 / samples as f64;
    for (name, bytes) in [("ours", ours), ("VictoriaMetrics", victoria), ("Prometheus", upstream)] {
        println!(
            "{name}: {bytes} bytes, {:.3} bytes per sample, ours is {:.3} of it",
            each(bytes),
            ours as f64 / bytes as f64
        );
    }
    Ok(())
}

/// Runs exporters and servers that scrape each other, and keeps what they say of themselves.
fn capture(ours: &Path, bin: &Path, work: &Path, captures: &Path) -> Result<()> {
    let names = ["node", "prometheus", "victoria", "ours-node", "ours-server"];
    let mut ports = Vec::new();
    for name in names {
        ports.push((name, free_port()?));
    }
    let folder = work.join("programs");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let mut config = String::from("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n");
    for (name, port) in &ports {
        config.push_str(&format!("- {{job_name: {name}, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n"));
    }
    let file = folder.join("prometheus.yml");
    std::fs::File::create(&file)?.write_all(config.as_bytes())?;
    let file = file.display();
    let listen = |place: usize| format!("--web.listen-address=127.0.0.1:{}", ports[place].1);
    let data = |name: &str| format!("--storage.tsdb.path={}", folder.join(name).display());
    let _a = start(&bin.join("prometheus-node-exporter"), &[&listen(0), "--no-collector.systemd"])?;
    let _b = start(&bin.join("prometheus"), &[&listen(1), &format!("--config.file={file}"), &data("upstream")])?;
    let _c = start(
        &bin.join("victoria-metrics"),
        &[
            &format!("-httpListenAddr=127.0.0.1:{}", ports[2].1),
            &format!("-storageDataPath={}", folder.join("victoria").display()),
            &format!("-promscrape.config={file}"),
        ],
    )?;
    let _d = start(ours, &["exporter", &listen(3)])?;
    let _e = start(ours, &["server", &format!("--config.file={file}"), &listen(4), &data("ours")])?;
    for (name, port) in &ports {
        wait(|| http(*port, "GET", "/metrics", "").is_ok()).with_context(|| (*name).to_owned())?;
    }
    println!("capturing for {} minutes", SCRAPES / 60);
    data::capture(captures, &ports, SCRAPES)
}

/// Writes the samples to the file and into VictoriaMetrics; its bytes are those of data and index after its parts were
/// merged into one.
fn with_victoria(bin: &Path, work: &Path, captures: &Path, file: &Path) -> Result<(u64, u64, u64)> {
    let (port, store) = (free_port()?, work.join("victoria"));
    let victoria = start(
        &bin.join("victoria-metrics"),
        &[
            &format!("-httpListenAddr=127.0.0.1:{port}"),
            &format!("-storageDataPath={}", store.display()),
            "-retentionPeriod=1y",
        ],
    )?;
    wait(|| http(port, "GET", "/health", "").is_ok())?;
    #[allow(clippy::disallowed_methods, reason = "VictoriaMetrics keeps only what is younger than its retention")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() as i64;
    let targets = data::targets(captures, DERIVED, now - AGE_MS)?;
    let mut import = Import { port, body: Vec::new() };
    let mut open = BufWriter::new(std::fs::File::create(file)?);
    let (series, samples) = data::write(&targets, &mut open, &mut import)?;
    open.flush()?;
    import.flush()?;
    http(port, "GET", "/internal/force_flush", "")?;
    http(port, "GET", "/internal/force_merge", "")?;
    settle(&store)?;
    drop(victoria);
    Ok((series, samples, bytes(&store, &["cache", "tmp", "flock.lock", "metadata", "snapshots"])?))
}

/// A sink of text lines that sends them on in large requests.
struct Import {
    port: u16,
    body: Vec<u8>,
}

impl Write for Import {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.body.extend_from_slice(bytes);
        if self.body.len() >= REQUEST && self.body.ends_with(b"\n") {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        let length = self.body.len();
        write!(
            stream,
            "POST /api/v1/import/prometheus HTTP/1.0\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
        )?;
        stream.write_all(&self.body)?;
        self.body.clear();
        let (mut line, mut reader) = (String::new(), BufReader::new(stream));
        reader.read_line(&mut line)?;
        reader.read_to_end(&mut Vec::new())?;
        if line.contains(" 204") { Ok(()) } else { Err(std::io::Error::other(line)) }
    }
}

/// Waits until a folder has kept its size for ten seconds, five minutes at most.
fn settle(folder: &Path) -> Result<()> {
    let (mut last, mut calm) = (0, 0);
    for _ in 0..300 {
        std::thread::sleep(std::time::Duration::from_secs(1));
        let now = bytes(folder, &[]).unwrap_or_default();
        calm = if now == last { calm + 1 } else { 0 };
        last = now;
        if calm >= 10 {
            return Ok(());
        }
    }
    bail!("{} does not come to rest", folder.display())
}

/// Blocks of a day each, made by upstream's own tool, so that nothing is left to compact.
fn with_prometheus(bin: &Path, work: &Path, file: &Path) -> Result<u64> {
    let store = work.join("upstream");
    std::fs::create_dir_all(&store)?;
    crate::sh(
        Command::new(bin.join("promtool"))
            .args(["tsdb", "create-blocks-from", "--max-block-duration=24h", "openmetrics", "--quiet"])
            .args([file, &store]),
    )?;
    bytes(&store, &[])
}

/// Bytes of the files below a folder, without entries in it whose names begin so.
fn bytes(folder: &Path, without: &[&str]) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name();
        if without.iter().any(|begin| name.to_string_lossy().starts_with(begin)) {
            continue;
        }
        let about = entry.metadata()?;
        sum += if about.is_dir() { bytes(&entry.path(), &[])? } else { about.len() };
    }
    Ok(sum)
}
