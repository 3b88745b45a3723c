//! Hundreds of requests to upstream's server and to ours over the same data: statuses, types and bodies must be equal.
//!
//! The list is `api.txt`. Values that move between two moments or two processes are masked, results whose order means
//! nothing are sorted, and what is known to differ is named with its reason: [`EXPLAINED`] by request.

use crate::{
    peers::wire,
    processes::{self, Answer, ask, free_port, http, now_seconds, start, wait, write_file},
};
use anyhow::{Result, bail};
use serde_json::Value;
use std::{io::Write, net::TcpListener, path::Path, thread};

const REQUESTS: &str = include_str!("api.txt");

/// Beginnings of requests that are answered otherwise on purpose, and why.
const EXPLAINED: &[(&str, &str)] = &[
    ("GET /api/v1/query?query=rate(x[5m", "which of two open brackets is named"),
    ("GET /api/v1/query?query=x+offset", "3.14 takes more after offset and says so"),
    ("GET /api/v1/query?query=http_requests_total+/+on(job)", "the order of series in the head chooses the example"),
    ("GET /api/v1/query?query=1&time=NaN", "a time that is no number wraps there"),
    ("GET /api/v1/query?query=1&time=Inf", "a time that is no number wraps there"),
    ("GET /api/v1/query?query=1&time=-Inf", "a time that is no number wraps there"),
    ("GET /api/v1/query?query=1&time=1e300", "a time beyond all times wraps there"),
    ("GET /api/v1/query?query=1&time=1e18", "a time beyond all times wraps there"),
    ("GET /api/v1/query?query=1&time=-1e18", "a time beyond all times wraps there"),
    ("GET /api/v1/query?query=1&time=-292273086", "the earliest time wraps there"),
    ("GET /api/v1/query?query=1&time=292277025", "the latest time wraps there"),
    ("GET /api/v1/query_range?query=1&start=0&end=1&step=0.0001", "a step below a millisecond divides by zero there"),
    ("GET /api/v1/series?match[]=x+@+5", "the name of the token is a number there"),
    ("GET /api/v1/label//values", "the empty name is refused here, the path cleaned there"),
    ("GET /api/v1/query/", "the redirect loses the prefix there"),
    ("GET /api/v1/targets/metadata?limit=1", "3.14 counts entries, 3.5 targets"),
    ("GET /api/v1/status/tsdb", "equals are ordered by name here, by chance there"),
    ("GET /api/v1/query_exemplars?query=http_requests_total", "the store keeps no exemplars yet"),
    ("GET /api/v1/query_exemplars?query=sum(rate(http", "the store keeps no exemplars yet"),
    ("POST /api/v1/query_exemplars", "the store keeps no exemplars yet"),
    ("POST /api/v1/otlp/v1/metrics", "built without it there"),
    ("GET /api/v1", "the bare prefix leads nowhere"),
    ("HEAD /-/", "a HEAD says of which type the GET would be"),
    ("GET /api/v1/status/flags", "programs have flags of their own"),
    ("GET /api/v1/status/config", "3.14 has more keys"),
    ("GET /api/v1/features", "new in 3.14"),
    ("GET /api/v1/openapi.yaml", "new in 3.14"),
    ("GET /federate?match[]={job", "external labels come in the order of names"),
    ("GET /federate?match[]=odd", "external labels come in the order of names"),
    ("GET /federate?match[]=http_requests_total&match[]=special", "the order of series in the head"),
    ("GET /consoles/", "there are no console templates here"),
    ("GET /debug/pprof", "there is no Go runtime here"),
];

/// Requests whose answer depends on a race inside upstream's engine.
const RACES: &[&str] = &["timeout=0", "timeout=-1", "timeout=NaN"];

/// Members of a parsed expression that 3.14 added.
const ADDED: &[&str] = &["anchored", "smoothed", "offsetExpr", "rangeExpr", "stepExpr", "fillValues"];

/// Members of objects that are compared by their presence alone.
const MOVING: &[&str] = &[
    "lastScrape",
    "lastScrapeDuration",
    "lastError",
    "serverTime",
    "startTime",
    "lastConfigTime",
    "goroutineCount",
    "GOMAXPROCS",
    "GOMEMLIMIT",
    "GOGC",
    "headStats",
    "memoryInBytesByLabelName",
    "version",
    "revision",
    "branch",
    "buildUser",
    "buildDate",
    "goVersion",
    "timings",
    "stats",
];

/// What both servers scrape.
const EXPOSED: &str = "# HELP app_info About <the> & app.\n# TYPE app_info gauge\napp_info{version=\"1\"} 1\n\
                       # HELP app_requests_total Requests.\n# TYPE app_requests_total counter\napp_requests_total 5\n\
                       # HELP app_s Seconds \"quoted\".\n# TYPE app_s summary\napp_s_sum 1\napp_s_count 2\nuntyped_thing 3\n";

pub(super) fn run(bin: &Path) -> Result<()> {
    let ours = processes::ours()?;
    let work = crate::root().join("target/peers-api");
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work)?;
    let target = serve()?;
    let config = format!(
        "global: {{scrape_interval: 2s, scrape_timeout: 1s, external_labels: {{region: eu}}}}\nscrape_configs:\n\
         - job_name: app\n  static_configs: [{{targets: ['127.0.0.1:{target}'], labels: {{zone: a}}}}]\n\
         - job_name: down\n  static_configs: [{{targets: ['127.0.0.1:1']}}]\n\
         - job_name: dropped\n  relabel_configs: [{{source_labels: [__address__], regex: 'x:1', action: drop}}]\n  \
         static_configs: [{{targets: ['x:1']}}]\n"
    );
    let file = work.join("prometheus.yml");
    write_file(&file, &config)?;
    let config = format!("--config.file={}", file.display());
    let ports = [free_port()?, free_port()?];
    let listen = ports.map(|port| format!("--web.listen-address=127.0.0.1:{port}"));
    let data = ["ours", "theirs"].map(|name| format!("--storage.tsdb.path={}", work.join(name).display()));
    let receive = "--web.enable-remote-write-receiver";
    let features = "--enable-feature=native-histograms,exemplar-storage";
    let _ours = start(&ours, &["server", &config, &listen[0], &data[0], receive])?;
    let _theirs = start(&bin.join("prometheus"), &[&config, &listen[1], &data[1], receive, features])?;
    for port in ports {
        wait(|| http(port, "GET", "/-/ready", "").is_ok())?;
    }
    let now = now_seconds()?;
    for port in ports {
        wire::load(port, now)?;
        wait(|| http(port, "GET", "/api/v1/query?query=app_info", "").is_ok_and(|body| body.contains("app_info")))?;
    }
    compare_all(ports, now)
}

fn compare_all(ports: [u16; 2], now: u64) -> Result<()> {
    let (mut same, mut explained, mut differ) = (0, 0, 0);
    for line in REQUESTS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let concrete = line.replace("%T", &now.to_string()).replace("%S", &(now - 600).to_string());
        let mut words = concrete.splitn(3, ' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let body = words.next();
        let [mine, theirs] = ports.map(|port| ask(port, method, &escaped(path), body));
        let (mine, theirs) = (shown(&mine?, &ports), shown(&theirs?, &ports));
        if mine == theirs {
            same += 1;
        } else if explanation(line).is_some() || RACES.iter().any(|part| line.contains(part)) {
            explained += 1;
        } else {
            differ += 1;
            println!("{line}\n  < {mine}\n  > {theirs}");
        }
    }
    println!("{same} equal, {explained} explained, {differ} different");
    if differ > 0 || same < 300 {
        bail!("{differ} differences");
    }
    Ok(())
}

/// Why a request may be answered otherwise; what ends in a whole path is meant alone.
fn explanation(line: &str) -> Option<&'static str> {
    let fits = |begins: &str| if begins == "GET /api/v1" { line == begins } else { line.starts_with(begins) };
    EXPLAINED.iter().find(|(begins, _)| fits(begins)).map(|(_, why)| *why)
}

/// A path as it may stand in a request line.
fn escaped(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"{}<>".contains(&byte);
    path.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// An answer with what moves masked, as one text.
fn shown(answer: &Answer, ports: &[u16; 2]) -> String {
    let Answer { status, content_type, location, body } = answer;
    let mut body = ports.iter().fold(body.clone(), |body, port| body.replace(&port.to_string(), "PORT"));
    if let Ok(mut value) = serde_json::from_str::<Value>(&body) {
        mask(&mut value);
        // The escapes are part of the answer.
        let escapes = body.matches("\\u00").count();
        body = format!("{value} {escapes}");
    }
    format!("{status} {content_type} {location} {body}")
}

/// Masks moving members, and times of now; sorts lists whose order means nothing.
fn mask(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|name, _| !ADDED.contains(&name.as_str()));
            for (name, member) in members {
                if MOVING.contains(&name.as_str()) { *member = Value::Null } else { mask(member) }
            }
        }
        Value::Array(items) => {
            items.iter_mut().for_each(mask);
            if items.iter().any(Value::is_object) {
                items.sort_by_key(Value::to_string);
            }
        }
        // Queries without a time are asked of now, which has milliseconds.
        Value::Number(number) if number.as_f64().is_some_and(|n| n > 1e9 && n.fract() != 0.0 && n.fract() != 0.5) => {
            *value = Value::Null;
        }
        _ => {}
    }
}

/// A target that always says the same; ends with the process.
fn serve() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let _ = std::io::Read::read(&mut stream, &mut head);
            let (kind, length) = ("text/plain; version=0.0.4", EXPOSED.len());
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{EXPOSED}"
            );
        }
    });
    Ok(port)
}
