//! What is scraped and how that goes, as the server tells it: the API's own words for whoever scrapes.

use crate::{
    Failure, json,
    pages::{NAVIGATION, html},
    reply::{Data, Shared, envelope, params},
};
use model::{Duration, Labels, Metadata, Timestamp};
use web::{
    extract::{RawQuery, State},
    http::HeaderMap,
    response::Response,
};

/// A target that is scraped, and how that went.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its pool.
    pub pool: String,
    /// Labels before relabelling.
    pub discovered: Labels,
    /// Labels on its samples.
    pub labels: Labels,
    /// What is fetched.
    pub url: String,
    /// The same as others reach it: this host by its name.
    pub global_url: String,
    /// Time between scrapes.
    pub interval: Duration,
    /// Time a scrape may take.
    pub timeout: Duration,
    /// `up`, `down` or `unknown`.
    pub health: &'static str,
    /// Why the last scrape failed; empty when it did not.
    pub last_error: String,
    /// When it was.
    pub last_scrape: Option<Timestamp>,
    /// How long it took.
    pub last_duration_seconds: f64,
}

/// A target that relabelling dropped.
#[derive(Clone, Debug)]
pub struct DroppedTarget {
    /// Its pool.
    pub pool: String,
    /// Labels before relabelling.
    pub discovered: Labels,
}

/// All targets.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// Scraped ones.
    pub active: Vec<Target>,
    /// Dropped ones, as many as the configuration keeps.
    pub dropped: Vec<DroppedTarget>,
    /// How many were dropped, by pool, in the order of their names.
    pub dropped_counts: Vec<(String, u64)>,
}

/// What families of one target say of themselves.
#[derive(Clone, Debug)]
pub struct TargetFamilies {
    /// Labels of the target.
    pub labels: Labels,
    /// Families by name.
    pub families: Vec<(String, Metadata)>,
}

pub(crate) async fn list(State(backend): Shared, RawQuery(raw): RawQuery, headers: HeaderMap) -> Response {
    let params = params(raw, &headers, b"");
    let state = params.get("state").unwrap_or("any").to_lowercase();
    let dropped_too = matches!(state.as_str(), "any" | "dropped");
    let view = (backend.targets)();
    let wanted = |pool: &str| params.get("scrapePool").is_none_or(|name| name == pool);
    let mut data = String::from("{\"activeTargets\":");
    let active = view.active.iter().filter(|target| matches!(state.as_str(), "any" | "active") && wanted(&target.pool));
    json::list(active, &mut data, one);
    data.push_str(",\"droppedTargets\":");
    let dropped = view.dropped.iter().filter(|target| dropped_too && wanted(&target.pool));
    json::list(dropped, &mut data, |target, out| {
        out.push_str("{\"discoveredLabels\":");
        json::map(target.discovered.iter(), out);
        out.push_str(",\"scrapePool\":");
        json::string(&target.pool, out);
        out.push('}');
    });
    data.push_str(&format!(
        ",\"droppedTargetCounts\":{}}}",
        if dropped_too { dropped_counts(&view) } else { "null".into() }
    ));
    envelope(Ok(data.into()), &headers)
}

fn dropped_counts(view: &Targets) -> String {
    let mut out = String::from("{");
    for (i, (pool, count)) in view.dropped_counts.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        json::string(pool, &mut out);
        out.push_str(&format!(":{count}"));
    }
    out.push('}');
    out
}

fn one(target: &Target, out: &mut String) {
    out.push_str("{\"discoveredLabels\":");
    json::map(target.discovered.iter(), out);
    out.push_str(",\"labels\":");
    json::map(target.labels.iter(), out);
    let last = target.last_scrape.unwrap_or(ZERO_TIME).to_rfc3339();
    let texts = |members: &[(&str, &str)], out: &mut String| {
        for (name, value) in members {
            out.push_str(&format!(",\"{name}\":"));
            json::escaped(value, out);
        }
    };
    let head = [
        ("scrapePool", target.pool.as_str()),
        ("scrapeUrl", &target.url),
        ("globalUrl", &target.global_url),
        ("lastError", &target.last_error),
        ("lastScrape", &last),
    ];
    texts(&head, out);
    out.push_str(&format!(",\"lastScrapeDuration\":{}", target.last_duration_seconds));
    let (interval, timeout) = (target.interval.to_string(), target.timeout.to_string());
    texts(&[("health", target.health), ("scrapeInterval", &interval), ("scrapeTimeout", &timeout)], out);
    out.push('}');
}

/// Go's zero time, which upstream shows for "never".
const ZERO_TIME: Timestamp = Timestamp(-62_135_596_800_000);

pub(crate) async fn pools(State(backend): Shared, headers: HeaderMap) -> Response {
    let view = (backend.targets)();
    let mut data = String::from("{\"scrapePools\":");
    json::strings(view.dropped_counts.iter().map(|(pool, _)| pool), &mut data);
    data.push('}');
    envelope(Ok(data.into()), &headers)
}

/// `/scrape_pools/config`: the section of one.
pub(crate) async fn pool_config(State(backend): Shared, RawQuery(raw): RawQuery, headers: HeaderMap) -> Response {
    let params = params(raw, &headers, b"");
    let result = match params.get("scrapePool") {
        None => Err(Failure::bad("no scrapePool parameter provided")),
        Some(name) => match (backend.pool_config)(name) {
            None => Err(Failure::missing(format!("scrape pool '{name}' not found"))),
            Some(yaml) => {
                let mut data = String::from("{\"yaml\":");
                json::escaped(&yaml, &mut data);
                data.push('}');
                Ok(Data::from(data))
            }
        },
    };
    envelope(result, &headers)
}

/// The targets as a page.
pub(crate) async fn page(State(backend): Shared) -> Response {
    let mut rows = String::new();
    for target in &(backend.targets)().active {
        let cells = [target.pool.as_str(), &target.url, target.health, &target.labels.to_string(), &target.last_error];
        rows.push_str("<tr>");
        for cell in cells {
            rows.push_str(&format!("<td>{}</td>", web::page::escape(cell)));
        }
        rows.push_str("</tr>");
    }
    let body = format!(
        "<h1>Targets</h1><div style=\"overflow-x:auto\"><table><thead><tr><th>Pool</th><th>Address</th><th>State</th>\
         <th>Labels</th><th>Last error</th></tr></thead><tbody>{rows}</tbody></table></div>"
    );
    html(web::page::shell("Narthex — Targets", NAVIGATION, &body))
}
