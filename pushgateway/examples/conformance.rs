//! Plays the recorded requests against this gateway: `conformance DATA_DIR/pushgateway`.
//!
//! Every case gets a fresh gateway on a real socket, in this process. Status, listed headers, body, the scrape that
//! follows, its series in order, types and help are compared with what upstream answered. In the cases of
//! [`HEALTHY`] upstream's scrape fails after a push it refused; ours must answer the same 400 and go on being scraped.

use anyhow::{Context, bail};
use cli::Outcome;
use pushgateway::Environment;
use runtime::{Clock, Shutdown, Tasks};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

/// Listed faults of the original, in the README of the data.
const HEALTHY: [&str; 2] = ["invalid-utf8-label-value", "b64-invalid-utf8"];
/// Families that say something of the gateway itself.
const OWN: [&str; 5] = ["go_", "process_", "promhttp_", "pushgateway_", "narthex_"];
const PATIENCE: Duration = Duration::from_secs(20);
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

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
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

/// A gateway in a thread of its own.
struct Running {
    address: SocketAddr,
    shutdown: Shutdown,
    ended: mpsc::Receiver<()>,
}

impl Running {
    fn start(flags: &[String]) -> anyhow::Result<Self> {
        let mut args = vec!["--web.listen-address=127.0.0.1:0".to_owned()];
        args.extend(flags.iter().cloned());
        let Outcome::Run(parsed) = pushgateway::command().parse(args) else { bail!("flags {flags:?} are not taken") };
        let (started, address) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        thread::spawn(move || -> anyhow::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let clock = Clock::system();
                let env = Environment { clock: clock.clone(), shutdown: stop, tasks: Tasks::new(clock) };
                let bound = pushgateway::bind(parsed, env).await;
                started.send(bound.as_ref().map(|bound| bound.addresses()[0]).map_err(|error| format!("{error:#}")))?;
                bound?.serve().await
            })?;
            end.send(())?;
            Ok(())
        });
        let address = address.recv_timeout(PATIENCE).context("the gateway did not start")?;
        Ok(Self { address: address.map_err(anyhow::Error::msg)?, shutdown, ended })
    }

    fn stop(self) -> anyhow::Result<()> {
        self.shutdown.begin();
        self.ended.recv_timeout(PATIENCE).context("the gateway did not stop")
    }
}

/// Sends a request as it stands, its path untouched.
fn ask(address: SocketAddr, request: &Request) -> anyhow::Result<Answer> {
    let body = match (&request.body, &request.body_base64) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(coded)) => base64::Engine::decode(&base64::engine::general_purpose::STANDARD, coded)?,
        (None, None) => Vec::new(),
    };
    let mut head = format!("{} {} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n", request.method, request.path);
    for (name, value) in &request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || matches!(request.method.as_str(), "PUT" | "POST" | "PATCH") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer)
}

fn parse(mut answer: &[u8]) -> anyhow::Result<Answer> {
    loop {
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("an answer without a head")?;
        let head = String::from_utf8(answer[..end].to_vec())?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?.parse()?;
        answer = &answer[end + 4..];
        if status == 100 {
            continue;
        }
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let chunked = headers.get("transfer-encoding").is_some_and(|value| value == "chunked");
        let body = if chunked { dechunk(answer)? } else { answer.to_vec() };
        return Ok(Answer { status, headers, body });
    }
}

fn dechunk(mut rest: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").context("a cut chunk")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end])?, 16)?;
        let (chunk, after) = rest[end + 2..].split_at_checked(size).context("a cut chunk")?;
        if size == 0 {
            return Ok(out);
        }
        out.extend_from_slice(chunk);
        rest = after.strip_prefix(b"\r\n").context("a chunk too long")?;
    }
}
