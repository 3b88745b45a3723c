//! Upstream's programs and ours scrape each other; the same series with the same labels must come out on both sides.

use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A started program that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Families whose presence depends on the language of the program or on its release, each named for its reason.
const OWN: &[&str] =
    &["go_", "process_", "promhttp_", "node_exporter_build_info", "pushgateway_", "narthex_", "scrape_"];

/// Runs the comparison, or that of the host exporter's collectors alone; needs the binaries of
/// `../shared/tools/get-peers`.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let (exporter_alone, args) = match args {
        [first, rest @ ..] if first == "exporter" => (true, rest),
        all => (false, all),
    };
    let bin = match args {
        [flag, folder] if flag == "--bin" => PathBuf::from(folder),
        [] => PathBuf::from(std::env::var("HOME")?).join(".cache/narthex-peers/root/usr/bin"),
        _ => bail!("usage: cargo xtask peers [exporter] [--bin DIR]"),
    };
    if !bin.join("prometheus").is_file() {
        bail!("{} has no prometheus; run ../shared/tools/get-peers first", bin.display());
    }
    if exporter_alone {
        let program = bin.join("prometheus-node-exporter");
        let program = program.to_string_lossy();
        return crate::cargo(&["run", "--quiet", "--package", "exporter", "--example", "peer", "--", &program]);
    }
    crate::cargo(&["build", "--release", "--quiet"])?;
    let ours = crate::root().join("target/release/narthex");
    let work = crate::root().join("target/peers");
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work)?;
    let [exporter, gateway, server] = [free_port()?, free_port()?, free_port()?];
    let [their_exporter, their_gateway, their_server] = [free_port()?, free_port()?, free_port()?];

    let listen = |port: u16| format!("--web.listen-address=127.0.0.1:{port}");
    let _a = start(&ours, &["exporter", &listen(exporter)])?;
    let _b = start(&ours, &["pushgateway", &listen(gateway)])?;
    let _c = start(
        &bin.join("prometheus-node-exporter"),
        &[&listen(their_exporter), "--no-collector.systemd", "--collector.textfile.directory="],
    )?;
    let _d = start(&bin.join("prometheus-pushgateway"), &[&listen(their_gateway), "--persistence.file="])?;
    for port in [exporter, gateway, their_exporter, their_gateway] {
        wait(|| http(port, "GET", "/metrics", "").is_ok())?;
    }
    for port in [gateway, their_gateway] {
        http(
            port,
            "PUT",
            "/metrics/job/backup/instance/db",
            "# TYPE backup_seconds gauge\nbackup_seconds{disk=\"a\"} 12.5\n",
        )?;
    }
    let mut config = String::from("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n");
    for (job, port) in [("our-exporter", exporter), ("their-exporter", their_exporter)] {
        config.push_str(&format!("- {{job_name: {job}, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n"));
    }
    for (job, port) in [("our-gateway", gateway), ("their-gateway", their_gateway)] {
        config.push_str(&format!(
            "- {{job_name: {job}, honor_labels: true, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n"
        ));
    }
    let file = work.join("prometheus.yml");
    std::fs::File::create(&file)?.write_all(config.as_bytes())?;
    let config = format!("--config.file={}", file.display());
    let data = |name: &str| format!("--storage.tsdb.path={}", work.join(name).display());
    let _e = start(&ours, &["server", &config, &listen(server), &data("ours")])?;
    let _f = start(&bin.join("prometheus"), &[&config, &listen(their_server), &data("theirs")])?;
    let up = |port: u16| series(port, "up == 1").map(|found| found.len());
    for port in [server, their_server] {
        wait(|| up(port).is_ok_and(|n| n >= 4))
            .with_context(|| format!("server on port {port} sees its four targets"))?;
    }
    let mut broken = 0;
    for job in ["our-exporter", "their-exporter", "our-gateway", "their-gateway"] {
        let query = format!("{{job={job:?}}} or {{exported_job=\"backup\"}} or backup_seconds or push_time_seconds");
        let (mine, theirs) = (series(server, &query)?, series(their_server, &query)?);
        broken += compare(&format!("{job}: our server and upstream's"), &mine, &theirs);
    }
    if broken > 0 {
        bail!("{broken} differences");
    }
    Ok(())
}

/// Prints what only one side has; returns how many.
fn compare(what: &str, left: &BTreeSet<String>, right: &BTreeSet<String>) -> usize {
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
    let (mine, theirs) = (only(left, right), only(right, left));
    println!(
        "{what}: {} series agree, {} only ours, {} only upstream's",
        left.intersection(right).count(),
        mine.len(),
        theirs.len()
    );
    for line in mine.iter().map(|l| format!("  < {l}")).chain(theirs.iter().map(|l| format!("  > {l}"))).take(40) {
        println!("{line}");
    }
    if left.is_empty() {
        println!("  nothing to compare");
    }
    mine.len() + theirs.len() + usize::from(left.is_empty())
}

/// The label sets a query answers, as text, without what depends on the program's language.
fn series(port: u16, query: &str) -> Result<BTreeSet<String>> {
    let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let body = http(port, "GET", &format!("/api/v1/query?query={escaped}"), "")?;
    let answer: serde_json::Value = serde_json::from_str(&body).context("the API's JSON")?;
    let rows = answer["data"]["result"].as_array().with_context(|| body.clone())?;
    let name = |row: &serde_json::Value| row["metric"]["__name__"].as_str().unwrap_or_default().to_owned();
    Ok(rows
        .iter()
        .filter(|row| !OWN.iter().any(|own| name(row).starts_with(own)))
        .map(|row| row["metric"].to_string())
        .collect())
}

fn start(program: &Path, args: &[&str]) -> Result<Running> {
    let child = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Ok(Running(child.with_context(|| program.display().to_string())?))
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn wait(mut ready: impl FnMut() -> bool) -> Result<()> {
    for _ in 0..300 {
        if ready() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("not ready after 30 s")
}

/// One HTTP/1.0 request; any status but 2xx is an error.
fn http(port: u16, method: &str, path: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    if head.split(' ').nth(1).is_none_or(|status| !status.starts_with('2')) {
        bail!("{method} {path}: {}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}
