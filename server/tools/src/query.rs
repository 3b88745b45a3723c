//! `promtool query`: a running server is asked over its API.

use crate::{Said, args::Args, text};
use anyhow::{Context, bail};
use client::{Client, HttpConfig, Options, Request};
use model::Timestamp;
use runtime::{Clock, Tasks};
use serde_json::Value;
use std::{path::Path, time::Duration};
use web::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

/// How long a server may take: upstream's client waits for ever, this one for its longest query.
const PATIENCE: Duration = Duration::from_secs(150);
/// Bytes of an answer at most.
const ANSWER_MAX: u64 = 1 << 30;

/// The client section in a file; that of no file changes nothing.
fn section(file: Option<&str>) -> anyhow::Result<HttpConfig> {
    let Some(file) = file else { return Ok(HttpConfig::default()) };
    let text = std::fs::read_to_string(file).with_context(|| file.to_owned())?;
    let mut config: HttpConfig = serde_saphyr::from_str(&text).with_context(|| file.to_owned())?;
    config.set_directory(Path::new(file).parent().unwrap_or(Path::new(".")));
    Ok(config)
}

/// One exchange; the status and the body.
pub(crate) fn fetch(args: &Args, method: Method, url: &str, form: &str) -> anyhow::Result<(u16, String, Vec<u8>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let clock = Clock::system();
        let tasks = Tasks::new(clock.clone());
        let agent = format!("promtool/{}", cli::BuildInfo::current().version);
        let client = Client::new(section(args.get("http.config.file"))?, Options::new(clock, tasks, agent))?;
        let mut headers = HeaderMap::new();
        if method == Method::POST {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        }
        for pair in args.all("header") {
            let (name, value) = pair.split_once('=').with_context(|| format!("--header {pair:?} is not name=value"))?;
            headers.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        let body = form.to_owned().into();
        let request = Request { method, url, headers, body, accept: &[], deadline: PATIENCE, body_limit: ANSWER_MAX };
        let mut answer = Vec::new();
        let response = client.fetch(&request, &mut answer).await?;
        Ok((response.status.as_u16(), response.status_line, answer))
    })
}

/// The `data` member of an answer.
fn ask(args: &Args, method: Method, path: &str, form: &[(&str, String)]) -> anyhow::Result<Value> {
    let server = args.argument(0);
    let server = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    pairs.extend_pairs(form.iter().map(|(name, value)| (*name, value.as_str())));
    let pairs = pairs.finish();
    let url = format!("{}{path}", server.trim_end_matches('/'));
    let (_, line, body) = if method == Method::GET && !pairs.is_empty() {
        fetch(args, method, &format!("{url}?{pairs}"), "")?
    } else {
        fetch(args, method, &url, &pairs)?
    };
    let Ok(mut answer) = serde_json::from_slice::<Value>(&body) else {
        bail!("server_error: server error: {line}");
    };
    if answer["status"] == "error" {
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        bail!("{}: {}", text("errorType"), text("error"));
    }
    Ok(answer["data"].take())
}

/// What is printed of an answer.
fn printed(args: &Args, answer: anyhow::Result<Value>, show: impl FnOnce(&Value) -> Option<String>) -> Said {
    let data = match answer {
        Ok(data) => data,
        Err(error) => return Said::fail(format!("query error: {error:#}\n")),
    };
    match args.get("format") {
        None | Some("promql") => match show(&data) {
            Some(text) => Said::out(text),
            None => Said::fail("query error: a value of this type is not printed\n"),
        },
        Some("json") => {
            let value = data.get("result").unwrap_or(&data);
            Said::out(format!("{value}\n"))
        }
        Some(other) => crate::args::refuse(&format!("enum value must be one of promql,json, got '{other}'")),
    }
}

fn shown(data: &Value) -> Option<String> {
    text::result(data["resultType"].as_str().unwrap_or_default(), &data["result"])
}

/// A time given by a flag, in milliseconds.
fn time(args: &Args, flag: &str, what: &str) -> Result<Option<Timestamp>, Said> {
    let Some(given) = args.get(flag) else { return Ok(None) };
    let parsed = Timestamp::parse(given);
    let refused = || Said::fail(format!("error parsing {what}: cannot parse {given:?} to a valid timestamp\n"));
    parsed.map(Some).ok_or_else(refused)
}

fn seconds(at: Timestamp) -> String {
    format!("{:.3}", at.0 as f64 / 1000.0)
}

fn now() -> Timestamp {
    Timestamp(Clock::system().unix_ms())
}

/// `query instant`.
pub(crate) fn instant(args: &Args) -> Said {
    let at = match time(args, "time", "evaluation time") {
        Ok(at) => at.unwrap_or_else(now),
        Err(said) => return said,
    };
    let form = [("query", args.argument(1).to_owned()), ("time", seconds(at))];
    printed(args, ask(args, Method::POST, "/api/v1/query", &form), shown)
}

/// `query range`.
pub(crate) fn range(args: &Args) -> Said {
    match range_form(args) {
        Ok(form) => printed(args, ask(args, Method::POST, "/api/v1/query_range", &form), shown),
        Err(said) => said,
    }
}

/// The last five minutes in at most 250 steps, unless more is said.
fn range_form(args: &Args) -> Result<Vec<(&'static str, String)>, Said> {
    const FIVE_MINUTES: i64 = 300_000;
    let end = time(args, "end", "end time")?.unwrap_or_else(now);
    let start = time(args, "start", "start time")?.unwrap_or(Timestamp(end.0.saturating_sub(FIVE_MINUTES)));
    if end <= start {
        return Err(Said::fail("start time is not before end time\n"));
    }
    let step = match args.get("step") {
        Some(step) => {
            let span = model::Duration::parse(step);
            let span = span.map_err(|_| crate::args::refuse(&format!("time: invalid duration {step:?}")))?;
            span.as_millis() as f64 / 1000.0
        }
        None => ((end.0 - start.0) / 250_000).max(1) as f64,
    };
    let (start, end) = (seconds(start), seconds(end));
    Ok(vec![("query", args.argument(1).to_owned()), ("start", start), ("end", end), ("step", step.to_string())])
}

/// `match[]`, `start` and `end` of a question about series.
fn selection(args: &Args) -> Result<Vec<(&'static str, String)>, Said> {
    let mut form: Vec<_> = args.all("match").iter().map(|text| ("match[]", text.clone())).collect();
    for (name, what) in [("start", "start time"), ("end", "end time")] {
        form.extend(time(args, name, what)?.map(|at| (name, seconds(at))));
    }
    Ok(form)
}

/// `query series`.
pub(crate) fn series(args: &Args) -> Said {
    if args.all("match").is_empty() {
        return crate::args::refuse("required flag(s) '--match' not provided");
    }
    match selection(args) {
        Err(said) => said,
        Ok(form) => printed(args, ask(args, Method::POST, "/api/v1/series", &form), |data| {
            let mut lines: Vec<String> = data.as_array()?.iter().map(|one| text::label_set(one) + "\n").collect();
            lines.sort();
            Some(lines.concat())
        }),
    }
}

/// `query labels`.
pub(crate) fn labels(args: &Args) -> Said {
    match selection(args) {
        Err(said) => said,
        Ok(form) => {
            let path = format!("/api/v1/label/{}/values", args.argument(1));
            printed(args, ask(args, Method::GET, &path, &form), |data| {
                Some(data.as_array()?.iter().map(|one| format!("{}\n", one.as_str().unwrap_or_default())).collect())
            })
        }
    }
}
