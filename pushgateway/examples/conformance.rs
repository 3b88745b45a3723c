//! Plays the recorded requests against this gateway: `conformance DATA_DIR/pushgateway`.
//!
//! Every case gets a fresh gateway on a real socket, in this process. Status, listed headers, body, the scrape that
//! follows, its series in order, types and help are compared with what upstream answered. In the cases of
//! [`HEALTHY`] upstream's scrape fails after a push it refused; ours must answer the same 400 and go on being scraped.

use anyhow::{Context, bail};
use serde::Deserialize;
use std::{collections::BTreeMap, net::SocketAddr, process::ExitCode};
use wire::{Answer, PATIENCE, Running};

mod wire;

/// Listed faults of the original, in the README of the data.
const HEALTHY: [&str; 2] = ["invalid-utf8-label-value", "b64-invalid-utf8"];
/// Families that say something of the gateway itself.
const OWN: [&str; 5] = ["go_", "process_", "promhttp_", "pushgateway_", "narthex_"];
const DETAILS_MAX: usize = 20;

#[derive(Deserialize)]
struct Suite {
    profiles: BTreeMap<String, Vec<String>>,
    scrape_path: BTreeMap<String, String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    profile: Option<String>,
    #[serde(default)]
    setup: Vec<Request>,
    request: Request,
    expect: Expect,
}

#[derive(Deserialize)]
struct Request {
    method: String,
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    body_base64: Option<String>,
}

#[derive(Deserialize)]
struct Expect {
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    body_prefix: Option<String>,
    scrape_status: Option<u16>,
    series: Option<Vec<String>>,
    #[serde(default)]
    types: BTreeMap<String, String>,
    #[serde(default)]
    help: BTreeMap<String, String>,
    #[serde(default)]
    server_exits: bool,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<bool> {
    let folder = std::env::args().nth(1).context("usage: conformance DATA_DIR/pushgateway")?;
    let file = std::path::Path::new(&folder).join("cases.yaml");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let suite: Suite = serde_saphyr::from_str(&text).context("cases.yaml")?;
    let (mut passed, mut failures) = (0, Vec::new());
    for case in &suite.cases {
        match play(&suite, case) {
            Ok(()) => passed += 1,
            Err(error) => failures.push(format!("{}: {error:#}", case.id)),
        }
    }
    println!("cases.yaml: {passed} passed, {} failed", failures.len());
    println!("  of these, {} with a scrape that stays healthy where upstream's fails", HEALTHY.len());
    for failure in failures.iter().take(DETAILS_MAX) {
        println!("  {failure}");
    }
    Ok(failures.is_empty() && passed > 0)
}

fn play(suite: &Suite, case: &Case) -> anyhow::Result<()> {
    let profile = case.profile.as_deref().unwrap_or("default");
    let flags = suite.profiles.get(profile).with_context(|| format!("no profile {profile}"))?;
    let running = Running::start(flags)?;
    for request in &case.setup {
        let answer = ask(running.address, request)?;
        if !matches!(answer.status, 200 | 202) {
            bail!("setup answered {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
    }
    let answer = ask(running.address, &case.request)?;
    compare(&case.expect, &answer)?;
    if case.expect.server_exits {
        return running.ended.recv_timeout(PATIENCE).context("the gateway did not end");
    }
    let Some(status) = case.expect.scrape_status else { return running.stop() };
    let path = suite.scrape_path.get(profile).map_or("/metrics", String::as_str).to_owned();
    let request = Request { method: "GET".into(), path, headers: BTreeMap::new(), body: None, body_base64: None };
    let scrape = ask(running.address, &request)?;
    let healthy = HEALTHY.contains(&case.id.as_str());
    let status = if healthy { 200 } else { status };
    if scrape.status != status {
        bail!("scrape status: want {status}, got {}", scrape.status);
    }
    let text = String::from_utf8(scrape.body)?;
    let series = if healthy { Some(Vec::new()) } else { case.expect.series.clone() };
    if let Some(series) = series {
        compare_series(&series, &text)?;
    }
    for (word, want) in [("TYPE", &case.expect.types), ("HELP", &case.expect.help)] {
        compare_heads(word, want, &text)?;
    }
    running.stop()
}

fn compare(expect: &Expect, answer: &Answer) -> anyhow::Result<()> {
    let body = String::from_utf8_lossy(&answer.body);
    if answer.status != expect.status {
        bail!("status: want {}, got {}: {body}", expect.status, answer.status);
    }
    for (name, want) in &expect.headers {
        let have = answer.headers.get(&name.to_ascii_lowercase());
        if have != Some(want) {
            bail!("header {name}: want {want:?}, got {have:?}");
        }
    }
    if let Some(want) = expect.body.as_deref().filter(|want| *want != body) {
        bail!("body: want {want:?}, got {body:?}");
    }
    if let Some(want) = expect.body_prefix.as_deref().filter(|want| !body.starts_with(*want)) {
        bail!("body: want it to start with {want:?}, got {body:?}");
    }
    Ok(())
}

fn compare_series(want: &[String], text: &str) -> anyhow::Result<()> {
    let own = |line: &&str| OWN.iter().any(|prefix| line.starts_with(prefix));
    let have: Vec<&str> = text.lines().filter(|line| !line.starts_with('#') && !own(line)).collect();
    let fits = |want: &String, have: &&str| match want.strip_suffix("<now>") {
        Some(start) => have.strip_prefix(start).is_some_and(|value| value != "0" && value.parse::<f64>().is_ok()),
        None => want == have,
    };
    if want.len() != have.len() || !want.iter().zip(&have).all(|(want, have)| fits(want, have)) {
        bail!("series: want {want:#?}, got {have:#?}");
    }
    Ok(())
}

fn compare_heads(word: &str, want: &BTreeMap<String, String>, text: &str) -> anyhow::Result<()> {
    for (name, want) in want {
        let start = format!("# {word} {name} ");
        let have = text.lines().find_map(|line| line.strip_prefix(&start));
        if have != Some(want) {
            bail!("{word} of {name}: want {want:?}, got {have:?}");
        }
    }
    Ok(())
}

fn ask(address: SocketAddr, request: &Request) -> anyhow::Result<Answer> {
    let body = match (&request.body, &request.body_base64) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(coded)) => base64::Engine::decode(&base64::engine::general_purpose::STANDARD, coded)?,
        (None, None) => Vec::new(),
    };
    wire::ask(address, &request.method, &request.path, &request.headers, &body)
}
