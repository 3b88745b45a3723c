//! Real clients of a gateway, unchanged: Python's library, curl as upstream's README has it, upstream's server that
//! scrapes. Both gateways get the same and must hold the same afterwards.

use super::series;
use crate::processes::{self, Running, free_port, http, start, wait, write_file};
use anyhow::{Context, Result, bail, ensure};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

/// The version that the notes on the gateway describe.
const LIBRARY: &str = "prometheus_client==0.25.0";
/// The password `secret`, hashed as cheaply as the format allows.
const HASH: &str = "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
/// What a user may type, after upstream's README: a value, metrics of all types, and deletions.
const SHELL: &str = r#"
set -e
echo "some_metric 3.14" | curl -sSf --data-binary @- $URL/metrics/job/some_job
cat <<EOF | curl -sSf --data-binary @- $URL/metrics/job/some_job/instance/some_instance
# TYPE some_counter counter
some_counter{label="val1"} 42
# TYPE another_metric gauge
# HELP another_metric Just an example.
another_metric 2398.283
EOF
cat <<EOF | curl -sSf -X PUT -H 'Content-Type: text/plain' --data-binary @- $URL/metrics/job/put/path@base64/L3Zhci90bXA
# TYPE h histogram
h_bucket{le="1"} 1
h_bucket{le="+Inf"} 2
h_sum 3
h_count 2
EOF
echo "gone 1" | curl -sSf --data-binary @- $URL/metrics/job/deleted/instance/some_instance
curl -sSf -X DELETE $URL/metrics/job/deleted/instance/some_instance
curl -sSf -X DELETE $URL/metrics/job/deleted
echo "zipped 1" | gzip | curl -sSf -H 'Content-Encoding: gzip' --data-binary @- $URL/metrics/job/zipped
printf 'no_newline 1' | curl -s -o /dev/null -w '%{http_code}' --data-binary @- $URL/metrics/job/bad | grep -q 400
printf 'crlf 1\r\n' | curl -s -o /dev/null -w '%{http_code}' --data-binary @- $URL/metrics/job/bad | grep -q 400
seq -f 'large{n="%.0f"} 1' 100000 | curl -sSf --data-binary @- $URL/metrics/job/large
curl -sSf -X DELETE $URL/metrics/job/large
"#;

/// Three gateways of one make: plain, behind a password over TLS, and behind certificates of clients.
struct Gateways {
    ports: [u16; 3],
    _running: Vec<Running>,
}

impl Gateways {
    fn start(program: &Path, work: &Path) -> Result<Self> {
        let (mut ports, mut running) = ([0; 3], Vec::new());
        for (port, file) in ports.iter_mut().zip(["", "password.yml", "mutual.yml"]) {
            *port = free_port()?;
            let listen = format!("--web.listen-address=127.0.0.1:{port}");
            let web = if file.is_empty() { PathBuf::new() } else { work.join(file) };
            let web = format!("--web.config.file={}", web.display());
            let flags = [listen.as_str(), &web, "--persistence.file="];
            running.push(start(program, &flags)?);
            wait(|| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok())?;
        }
        Ok(Self { ports, _running: running })
    }

    fn urls(&self) -> [String; 3] {
        let [plain, password, mutual] = self.ports;
        [
            format!("http://localhost:{plain}"),
            format!("https://localhost:{password}"),
            format!("https://localhost:{mutual}"),
        ]
    }

    /// The series of all three and what is said of their families, without those of the gateway itself.
    fn held(&self, work: &Path) -> Result<BTreeSet<String>> {
        let mut all = BTreeSet::new();
        for (what, url) in ["plain", "password", "mutual"].into_iter().zip(self.urls()) {
            let file = |name: &str| work.join(name).display().to_string();
            let output = Command::new("curl")
                .args(["-sSf", "-u", "user:secret", "--cacert", &file("cert.pem")])
                .args(["--cert", &file("cert.pem"), "--key", &file("key.pem")])
                .arg(format!("{url}/metrics"))
                .output()
                .context("starting curl, which these comparisons need")?;
            ensure!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
            let text = String::from_utf8(output.stdout)?;
            all.extend(text.lines().filter_map(shown).map(|line| format!("{what}: {line}")));
        }
        Ok(all)
    }
}

/// A line that both gateways must have; times only tell whether there was one.
fn shown(line: &str) -> Option<String> {
    let name = line.strip_prefix("# TYPE ").or_else(|| line.strip_prefix("# HELP ")).unwrap_or(line);
    if ["go_", "process_", "promhttp_", "pushgateway_", "narthex_"].iter().any(|own| name.starts_with(own)) {
        return None;
    }
    match line.rsplit_once(' ') {
        Some((series, value)) if series.starts_with("push_") && value != "0" => Some(format!("{series} <now>")),
        // When the library made its counters.
        Some((series, _)) if series.contains("_created{") => Some(format!("{series} <now>")),
        _ => Some(line.to_owned()),
    }
}

pub(super) fn run(bin: &Path) -> Result<()> {
    let work = crate::root().join("target/peers-clients");
    std::fs::create_dir_all(&work)?;
    let python = python(&work)?;
    secrets(&work)?;
    let program = processes::pushgateway()?;
    flags(&program, bin)?;
    let ours = Gateways::start(&program, &work)?;
    let theirs = Gateways::start(&bin.join("prometheus-pushgateway"), &work)?;
    for side in [&ours, &theirs] {
        let script = crate::root().join("xtask/src/peers/clients.py");
        let [plain, password, mutual] = side.urls();
        let certificate = work.join("cert.pem");
        crate::sh(
            Command::new(&python)
                .arg(script)
                .args([&plain, &password, &mutual])
                .args([&certificate, &work.join("key.pem")])
                .args(["user", "secret"])
                .env("SSL_CERT_FILE", &certificate),
        )
        .context("Python's client library")?;
        crate::sh(Command::new("sh").args(["-c", SHELL]).env("URL", &plain)).context("curl")?;
    }
    let broken = super::compare("python and curl", &ours.held(&work)?, &theirs.held(&work)?);
    ensure!(broken == 0, "{broken} differences");
    scraped(bin, &work, ours.ports[0], theirs.ports[0])
}

/// A Python that has the client library: the one of the system, or one of our own that pip fills once.
fn python(work: &Path) -> Result<PathBuf> {
    let has = |python: &Path| {
        let output = Command::new(python).args(["-c", "import prometheus_client"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let own = work.join("venv/bin/python");
    if let Some(found) = [PathBuf::from("python3"), own.clone()].into_iter().find(|python| has(python)) {
        return Ok(found);
    }
    let made = crate::sh(Command::new("python3").args(["-m", "venv"]).arg(work.join("venv")))
        .and_then(|()| crate::sh(Command::new(&own).args(["-m", "pip", "install", "--quiet", LIBRARY])));
    made.with_context(|| {
        format!("no Python has the client library: install {LIBRARY} by pip, or the package python3-prometheus-client")
    })?;
    Ok(own)
}

/// A certificate that is its own authority, and web configurations with it.
fn secrets(work: &Path) -> Result<()> {
    let (key, certificate) = (work.join("key.pem"), work.join("cert.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "extendedKeyUsage=serverAuth,clientAuth"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .context("starting openssl, which makes the certificate of these comparisons")?;
    ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    let tls = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n";
    write_file(&work.join("password.yml"), &format!("{tls}basic_auth_users: {{user: '{HASH}'}}\n"))?;
    let mutual = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: cert.pem\n";
    write_file(&work.join("mutual.yml"), &format!("{tls}{mutual}"))
}

/// Every flag of upstream's must be one of ours, with the same default.
fn flags(ours: &Path, bin: &Path) -> Result<()> {
    let theirs = Command::new(bin.join("prometheus-pushgateway")).arg("--help").output()?;
    let ours = Command::new(ours).arg("--help").output()?;
    let read = |output: &std::process::Output| {
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        defaults(&String::from_utf8_lossy(&text))
    };
    let (ours, mut theirs) = (read(&ours), read(&theirs));
    // Debian's own, and a default that Debian changes.
    theirs.remove("web.local-assets");
    theirs.insert("persistence.file".to_owned(), String::new());
    let wrong: Vec<_> = theirs.iter().filter(|(name, default)| ours.get(*name) != Some(*default)).collect();
    println!("flags: {} of upstream's {} are ours", theirs.len() - wrong.len(), theirs.len());
    ensure!(theirs.len() > 9 && wrong.is_empty(), "flags of upstream's with another default or none here: {wrong:?}");
    Ok(())
}

/// Flags and their defaults in a help text.
fn defaults(help: &str) -> BTreeMap<String, String> {
    let words = help.lines().filter_map(|line| line.split_whitespace().next().filter(|word| word.starts_with("--")));
    let flags = words.map(|word| {
        let word = word.trim_start_matches("--").trim_start_matches("[no-]");
        let (name, default) = word.split_once('=').unwrap_or((word, ""));
        (name.to_owned(), default.trim_matches('"').to_owned())
    });
    flags.filter(|(name, _)| name.contains('.')).collect()
}

/// Upstream's server must see the same in both, with the labels that were pushed.
fn scraped(bin: &Path, work: &Path, ours: u16, theirs: u16) -> Result<()> {
    let mut config = "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n".to_owned();
    for (job, port) in [("ours", ours), ("theirs", theirs)] {
        config.push_str(&format!(
            "- {{job_name: {job}, honor_labels: true, static_configs: [{{targets: ['127.0.0.1:{port}'], labels: \
             {{gateway: {job}}}}}]}}\n"
        ));
    }
    let (file, port) = (work.join("prometheus.yml"), free_port()?);
    write_file(&file, &config)?;
    let data = work.join("data");
    let _ = std::fs::remove_dir_all(&data);
    let flags = [
        format!("--config.file={}", file.display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        format!("--storage.tsdb.path={}", data.display()),
    ];
    let _server = start(&bin.join("prometheus"), &flags.each_ref().map(String::as_str))?;
    wait(|| http(port, "GET", "/-/ready", "").is_ok())?;
    wait(|| series(port, "up == 1").is_ok_and(|up| up.len() == 2))?;
    let of = |gateway: &str| -> Result<BTreeSet<String>> {
        let own = "(go|process|promhttp|pushgateway|narthex|scrape)_.*|up";
        let query = format!("{{gateway=\"{gateway}\", __name__!~\"{own}\"}}");
        let found = series(port, &query)?;
        Ok(found.into_iter().map(|labels| labels.replace(&format!("\"gateway\":\"{gateway}\""), "")).collect())
    };
    // A label of an empty value is none, and then the target's takes its place.
    let some = "some_metric{job=\"some_job\"}";
    if series(port, some)?.len() != 2 {
        bail!("upstream's server does not find {some} of both gateways");
    }
    let strip = |found: BTreeSet<String>, port: u16| -> BTreeSet<String> {
        found.into_iter().map(|labels| labels.replace(&format!("127.0.0.1:{port}"), "gateway")).collect()
    };
    let (ours, theirs) = (strip(of("ours")?, ours), strip(of("theirs")?, theirs));
    let broken = super::compare("scraped by upstream's server", &ours, &theirs);
    ensure!(broken == 0, "{broken} differences");
    Ok(())
}
