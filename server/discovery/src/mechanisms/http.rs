//! Targets that an HTTP endpoint lists as JSON.
//!
//! Source of truth: `http_sd_configs` on upstream's configuration page, and its page on HTTP discovery.

use crate::{
    Context, Group, Span,
    context::Found,
    groups::{Written, listed},
    mechanism::{Key, Mechanism, MetaLabel, key, label},
};
use client::{Client, Inline, Request};
use http::{
    HeaderValue, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};
use metrics::{Counter, Registry};
use runtime::Clock;
use serde::Deserialize;
use std::{path::Path, time::Duration};

/// Bytes of an answer at most: a million targets fit.
const ANSWER_MAX: u64 = 256 << 20;

/// One entry of `http_sd_configs`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Config(Inline<Own>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Own {
    url: Option<String>,
    refresh_interval: Option<Span>,
}

impl Mechanism for Config {
    const KEY: &'static str = "http_sd_configs";
    const SUMMARY: &'static str = "Targets that an HTTP endpoint lists as JSON, asked again and again. A failure keeps \
                                   the last targets.";
    const KEYS: &'static [Key] = &[
        key("url", "required", "What is asked; `http` or `https`."),
        key("refresh_interval", "60s", "How often; also the time that an answer may take."),
    ];
    const LABELS: &'static [MetaLabel] = &[label("__meta_url", "The URL that was asked.")];
    const CLIENT: bool = true;
    type Metrics = Counter;

    fn metrics(registry: &Registry, _: &Clock) -> Counter {
        registry.counter("prometheus_sd_http_failures_total", "Number of HTTP service discovery refresh failures.")
    }

    fn check(&mut self, folder: &Path) -> Result<(), String> {
        let Inline { own, http } = &mut self.0;
        let url = own.url.as_deref().filter(|url| !url.is_empty()).ok_or("URL is missing")?;
        let uri: http::Uri = url.parse().map_err(|error| format!("parsing URL {url:?}: {error}"))?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
            // What stands for a host without a scheme is a path to Go.
            _ => return Err("URL scheme must be 'http' or 'https'".into()),
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err("host is missing in URL".into());
        }
        http.validate().map_err(|error| error.to_string())?;
        http.set_directory(folder);
        Ok(())
    }

    async fn run(self, context: Context, failures: Counter) {
        let Inline { own, http } = self.0;
        let (url, every) = (own.url.unwrap_or_default(), own.refresh_interval.unwrap_or(Span::seconds(60)).0.as_std());
        let client = context.client(&http).map_err(|error| error.to_string());
        let find = || async {
            let found = match &client {
                Ok(client) => ask(client, &url, every).await,
                Err(error) => Err(error.clone()),
            };
            found.map(Found::All).inspect_err(|_| failures.inc())
        };
        context.refresh(every, find).await;
    }
}

async fn ask(client: &Client, url: &str, every: Duration) -> Result<Vec<Group>, String> {
    let mut request = Request::get(url, every, ANSWER_MAX);
    request.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Ok(seconds) = HeaderValue::from_str(&every.as_secs_f64().to_string()) {
        request.headers.insert("x-prometheus-refresh-interval-seconds", seconds);
    }
    let mut body = Vec::new();
    let answer = client.fetch(&request, &mut body).await.map_err(|error| error.to_string())?;
    if answer.status != StatusCode::OK {
        return Err(format!("server returned HTTP status {}", answer.status_line));
    }
    let kind = answer.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !is_json(kind) {
        return Err(format!("unsupported content type {kind:?}"));
    }
    groups(&body, url)
}

/// Groups of an answer's body.
fn groups(body: &[u8], url: &str) -> Result<Vec<Group>, String> {
    let items: Option<Vec<Option<Written>>> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    listed(&items.unwrap_or_default(), url, &[("__meta_url", url)])
}

/// `application/json`, with the character set UTF-8 or none.
fn is_json(kind: &str) -> bool {
    let (media, charset) = kind.split_once(';').map_or((kind, None), |(media, rest)| (media, Some(rest)));
    let lower = charset.map(|charset| charset.trim_start().to_ascii_lowercase());
    media.eq_ignore_ascii_case("application/json")
        && lower.is_none_or(|charset| matches!(charset.as_str(), "charset=utf-8" | "charset=\"utf-8\""))
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
