//! A Prometheus with the same data, and what it answers.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A running Prometheus; it ends with this value.
pub(crate) struct Peer {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    /// Writes blocks of the data and starts a server on them.
    pub(crate) fn start(bin: &Path, data: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (file, blocks, config) =
            (folder.path().join("data.om"), folder.path().join("blocks"), folder.path().join("prometheus.yml"));
        std::fs::File::create(&file)?.write_all(data.as_bytes())?;
        std::fs::File::create(&config)?.write_all(b"global: {}\n")?;
        let made = Command::new(bin.join("promtool"))
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([&file, &blocks])
            .stdout(Stdio::null())
            .status()
            .context("promtool")?;
        ensure!(made.success(), "promtool could not make blocks of the data");
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new(bin.join("prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", blocks.display()))
            .args(["--storage.tsdb.retention.time=100y", "--log.level=error"])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("prometheus")?;
        let peer = Self { child, port, _folder: folder };
        for _ in 0..200 {
            if peer.get("/-/ready").is_ok_and(|text| text.contains("Ready")) {
                return Ok(peer);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        anyhow::bail!("prometheus did not become ready")
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (_, body) = text.split_once("\r\n\r\n").context("no end of the head")?;
        Ok(body.to_owned())
    }

    /// What the API answers to an instant query, or to a range query when there is a step.
    pub(crate) fn ask(&self, query: &str, start: i64, end: i64, step: i64) -> Result<Value> {
        let query: String = query
            .bytes()
            .map(
                |byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") },
            )
            .collect();
        let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
        let path = if step == 0 {
            format!("/api/v1/query?query={query}&time={}", seconds(start))
        } else {
            let (start, end, step) = (seconds(start), seconds(end), seconds(step));
            format!("/api/v1/query_range?query={query}&start={start}&end={end}&step={step}")
        };
        Ok(serde_json::from_str(&self.get(&path)?)?)
    }
}
