//! The same random requests to this gateway and to upstream's: `differential PEER [OPERATIONS] [SEED]`.
//!
//! Every answer's status is compared, and its text where upstream's is always the same; after every hundred operations
//! the scrape, line by line and in order, and the JSON of all groups. Push times count as "never" or "some time". PEER
//! is the path of an upstream binary, which is started on a free port and ended with this program.

use anyhow::{Context, bail};
use exposition::{Escaping, Format};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};
use testkit::Rng;
use wire::{Answer, Running, ask};

mod wire;

/// Families that say something of the gateway itself.
const OWN: [&str; 5] = ["go_", "process_", "promhttp_", "pushgateway_", "narthex_"];
/// Upstream's texts vary behind this.
const REFUSED: &str = "pushed metrics are invalid or inconsistent with existing metrics: ";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A started program that ends with this value.
struct Peer(Child, SocketAddr);

impl Drop for Peer {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Peer {
    fn start(path: &str) -> anyhow::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = Command::new(path)
            .args([&format!("--web.listen-address={address}"), "--persistence.file=", "--push.enable-utf8-names"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| path.to_owned())?;
        let peer = Self(child, address);
        for _ in 0..200 {
            if TcpStream::connect(address).is_ok() {
                return Ok(peer);
            }
            thread::sleep(Duration::from_millis(25));
        }
        bail!("{path} does not listen")
    }
}

fn run() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().context("usage: differential PEER [OPERATIONS] [SEED]")?;
    let operations: usize = args.next().map_or(Ok(20_000), |text| text.parse())?;
    let seed: u64 = args.next().map_or(Ok(1), |text| text.parse())?;
    let peer = Peer::start(&path)?;
    let ours = Running::start(&["--push.enable-utf8-names".to_owned()])?;
    let (mut rng, mut statuses, mut compared) = (Rng::new(seed), BTreeMap::<u16, u32>::new(), 0);
    for step in 1..=operations {
        let request = Request::random(&mut rng);
        let send = |address| ask(address, request.method, &request.path, &request.headers, &request.body);
        let left = send(ours.address).with_context(|| format!("ours, operation {step}: {request:?}"))?;
        let right = send(peer.1).with_context(|| format!("theirs, operation {step}: {request:?}"))?;
        *statuses.entry(right.status).or_default() += 1;
        same_answer(&left, &right).with_context(|| format!("operation {step}: {request:?}"))?;
        if step % 100 == 0 || step == operations {
            same_state(ours.address, peer.1).with_context(|| format!("after operation {step}"))?;
            compared += 1;
        }
    }
    println!(
        "seed {seed}: {operations} operations answered alike {statuses:?}; {compared} scrapes and JSON answers equal"
    );
    ours.stop()
}

fn same_answer(ours: &Answer, theirs: &Answer) -> anyhow::Result<()> {
    let text = |answer: &Answer| {
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if text.starts_with(REFUSED) { REFUSED.to_owned() } else { text }
    };
    let location = |answer: &Answer| answer.headers.get("location").cloned();
    let (left, right) = (text(ours), text(theirs));
    if ours.status != theirs.status || left != right || location(ours) != location(theirs) {
        let (left, right) = (String::from_utf8_lossy(&ours.body), String::from_utf8_lossy(&theirs.body));
        bail!("ours {} {left:?}\ntheirs {} {right:?}", ours.status, theirs.status);
    }
    Ok(())
}

fn same_state(ours: SocketAddr, theirs: SocketAddr) -> anyhow::Result<()> {
    for accept in ["text/plain", "text/plain;version=1.0.0;escaping=allow-utf-8", "text/plain;escaping=values"] {
        let headers = BTreeMap::from([("Accept".to_owned(), accept.to_owned())]);
        let lines = |address| -> anyhow::Result<Vec<String>> {
            let answer = ask(address, "GET", "/metrics", &headers, b"")?;
            if answer.status != 200 {
                bail!("scrape answered {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
            }
            Ok(String::from_utf8(answer.body)?.lines().filter_map(shown).collect())
        };
        let (left, right) = (lines(ours)?, lines(theirs)?);
        if let Some(at) = left.iter().zip(&right).position(|(left, right)| left != right) {
            let around = |lines: &[String]| lines[at.saturating_sub(3)..lines.len().min(at + 2)].join("\n  ");
            bail!("{accept}: ours\n  {}\ntheirs\n  {}", around(&left), around(&right));
        }
        if left.len() != right.len() {
            bail!("{accept}: {} lines, theirs {}", left.len(), right.len());
        }
    }
    let groups = |address| -> anyhow::Result<BTreeMap<String, Value>> {
        let answer = ask(address, "GET", "/api/v1/metrics", &BTreeMap::new(), b"")?;
        let mut value: Value = serde_json::from_slice(&answer.body)?;
        let Value::Array(all) = value["data"].take() else { bail!("data is no list") };
        Ok(all.into_iter().map(|group| (group["labels"].to_string(), timeless(group))).collect())
    };
    let (left, right) = (groups(ours)?, groups(theirs)?);
    if left != right {
        for (labels, group) in &left {
            if right.get(labels) != Some(group) {
                bail!("JSON of {labels}: ours {group}\ntheirs {:?}", right.get(labels).map(Value::to_string));
            }
        }
        bail!("JSON: {} groups, theirs {}", left.len(), right.len());
    }
    Ok(())
}

/// A line worth comparing, times made equal.
fn shown(line: &str) -> Option<String> {
    let name = line.strip_prefix("# TYPE ").or_else(|| line.strip_prefix("# HELP ")).unwrap_or(line);
    if OWN.iter().any(|own| name.starts_with(own)) {
        return None;
    }
    match line.rsplit_once(' ') {
        Some((series, value)) if series.starts_with("push_") && value != "0" => Some(format!("{series} <now>")),
        _ => Some(line.to_owned()),
    }
}

fn timeless(mut group: Value) -> Value {
    if let Value::Object(fields) = &mut group {
        for (name, family) in fields {
            if let Some(at) = family.get_mut("time_stamp") {
                *at = Value::Null;
            }
            if name.starts_with("push_") && family["metrics"][0]["value"] != "0" {
                family["metrics"][0]["value"] = Value::Null;
            }
        }
    }
    group
}

#[derive(Debug)]
struct Request {
    method: &'static str,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Request {
    fn random(rng: &mut Rng) -> Self {
        let last = if rng.chance(97) { 6 } else { 7 };
        let method = ["PUT", "PUT", "POST", "POST", "POST", "DELETE", "GET"][rng.below(last)];
        let (mut headers, mut body) = (BTreeMap::new(), text(rng).into_bytes());
        if rng.chance(15)
            && let Ok(families) = exposition::families::parse_text(&body)
        {
            body.clear();
            exposition::write(&families, Format::Protobuf, Escaping::AllowUtf8, &mut body);
            let kind = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
            headers.insert("Content-Type".to_owned(), kind.to_owned());
            if rng.chance(5) {
                body.truncate(body.len() / 2);
            }
        }
        if matches!(method, "GET" | "DELETE") {
            // Upstream resets the connection of a body it has not read.
            body.clear();
        }
        Self { method, path: path(rng), headers, body }
    }
}

fn path(rng: &mut Rng) -> String {
    let mut path = match rng.below(12) {
        0 => "/metrics/job@base64/YQ".to_owned(),
        1 => ["/metrics/job/a/x", "/metrics/job/", "/metrics/job//b", "/metrics/job/a/1x/y", "/metrics/job/a/../b"]
            [rng.below(5)]
        .to_owned(),
        n => format!("/metrics/job/{}", ["a", "b", "c%20d", "%C3%A9"][n % 4]),
    };
    for (name, values) in [
        ("instance", ["i", "j:90", "k"]),
        ("zone", ["x", "%22q%5C", "a%0Ab"]),
        ("path@base64", ["L3g", "L3Zhci90bXA=", "!"]),
        ("U__foo_2e_bar", ["1", "2", "3"]),
    ] {
        if rng.chance(30) {
            let last = if rng.chance(95) { 2 } else { 3 };
            path.push_str(&format!("/{name}/{}", values[rng.below(last)]));
        }
    }
    path
}

/// A body with a few families, and now and then a mistake.
fn text(rng: &mut Rng) -> String {
    let mut out = String::new();
    for name in ["a", "b_total", "c", "h", "s", "h_count", "s_sum", "go_goroutines", "{\"x.y\"", "push_time_seconds"] {
        if !rng.chance(if name.len() > 5 { 4 } else { 25 }) {
            continue;
        }
        // One HELP a name, since upstream shows any of several.
        let usual = match name {
            "a" => "gauge",
            "b_total" => "counter",
            "h" => "histogram",
            "s" => "summary",
            "go_goroutines" => "gauge",
            _ => "untyped",
        };
        let kind = if rng.chance(96) { usual } else { ["gauge", "counter", "untyped"][rng.below(3)] };
        if !name.starts_with('{') {
            out.push_str(&format!("# HELP {name} help of {name}\n# TYPE {name} {kind}\n"));
        }
        let mut seen = Vec::new();
        for _ in 0..1 + rng.below(4) {
            let labels = labels(rng);
            if seen.contains(&labels) && rng.chance(90) {
                continue;
            }
            series(&mut out, rng, name, kind, &labels);
            seen.push(labels);
        }
    }
    match rng.below(60) {
        0 => out.push_str("garbage {{{\n"),
        1 => out.push_str("t 1 1700000000000\n"),
        2 => out.push_str("no_newline 1"),
        3 => out.push_str("r{__r=\"1\"} 1\n"),
        4 => out.push_str("v{a=\"1\",a=\"2\"} 1\n"),
        _ => {}
    }
    out
}

fn labels(rng: &mut Rng) -> String {
    let mut pairs = Vec::new();
    for (name, values) in [
        ("l", ["1", "2", "three \\\\ \\\" \\n"]),
        ("instance", ["i", "", "body"]),
        ("job", ["other", "a", ""]),
        ("\"m.n\"", ["", "u", "é"]),
    ] {
        if rng.chance(if name == "l" { 70 } else { 12 }) {
            pairs.push(format!("{name}=\"{}\"", values[rng.below(3)]));
        }
    }
    pairs.join(",")
}

fn series(out: &mut String, rng: &mut Rng, name: &str, kind: &str, labels: &str) {
    let number = ["0", "1", "-2.5", "1e10", "NaN", "+Inf", "123456789", "0.000012", "1e-320"][rng.below(9)];
    let with = |extra: &str| match (labels.is_empty(), extra.is_empty()) {
        (true, true) => String::new(),
        (false, true) => format!("{{{labels}}}"),
        (true, false) => format!("{{{extra}}}"),
        (false, false) => format!("{{{labels},{extra}}}"),
    };
    if name.starts_with('{') {
        let comma = if labels.is_empty() { "" } else { "," };
        out.push_str(&format!("{name}{comma}{labels}}} {number}\n"));
        return;
    }
    let count = rng.below(9);
    match kind {
        "histogram" => {
            for bound in ["0.5", "1", "+Inf"].iter().take(1 + rng.below(3)) {
                out.push_str(&format!("{name}_bucket{} {count}\n", with(&format!("le=\"{bound}\""))));
            }
            out.push_str(&format!("{name}_sum{} {number}\n{name}_count{} {count}\n", with(""), with("")));
        }
        "summary" => {
            for quantile in ["0.5", "0.99"].iter().take(rng.below(3)) {
                out.push_str(&format!("{name}{} {number}\n", with(&format!("quantile=\"{quantile}\""))));
            }
            out.push_str(&format!("{name}_sum{} {number}\n{name}_count{} {count}\n", with(""), with("")));
        }
        _ => out.push_str(&format!("{name}{} {number}\n", with(""))),
    }
}
