//! The page: groups with their labels, the age of their last push and their values; search; a page at a time.
//!
//! The server writes whole HTML, so that the page opens at once whatever is stored and works without script, but for
//! deletion, which HTML cannot send. What this module leaves out: series of a group beyond [`SERIES_MAX`], which the API has.

use crate::{Group, Key, http::Service, line, lines::Lines, store::TIMES};
use exposition::Family;
use std::fmt::Write as _;
use web::{
    http::{HeaderMap, HeaderValue, header},
    page::{escape, shell},
    response::Response,
};

/// Groups on one page.
const GROUPS_MAX: usize = 50;
/// Lines of one group that are shown.
const SERIES_MAX: usize = 200;
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What the query asks for.
#[derive(Debug, Default, PartialEq)]
struct Asked {
    search: String,
    failed: bool,
    page: usize,
}

impl Asked {
    fn read(query: &str) -> Self {
        let mut asked = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "q" => asked.search = value.trim().to_owned(),
                "failed" => asked.failed = true,
                "page" => asked.page = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        asked
    }

    fn link(&self, page: usize) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("q", &self.search).append_pair("page", &page.to_string());
        if self.failed {
            query.append_pair("failed", "1");
        }
        format!("?{}", query.finish())
    }

    /// Every word must be in the labels of the group or in the name of one of its families.
    fn wants(&self, key: &Key, group: &Group) -> bool {
        if self.failed && !group.last_failed {
            return false;
        }
        self.search.split_whitespace().all(|word| {
            let label = |(name, value): (&str, &str)| {
                value.contains(word) || name.contains(word) || word == format!("{name}={value}")
            };
            key.iter().any(label) || crate::packed::stored(&group.families).any(|family| family.name.contains(word))
        })
    }
}

/// The page of groups. O(groups) to search, O(a page) to write.
pub(crate) fn answer(service: &Service, query: &str, headers: &HeaderMap) -> Response {
    let asked = Asked::read(query);
    let now = service.gateway.clock.unix_ms();
    let (mut shown, mut found, mut failed) = (Vec::new(), 0usize, 0usize);
    let all = {
        let state = service.gateway.state.lock();
        for (key, group) in state.store.groups() {
            failed += usize::from(group.last_failed);
            if asked.wants(key, group) {
                if found / GROUPS_MAX == asked.page {
                    shown.push((key.clone(), group.clone()));
                }
                found += 1;
            }
        }
        state.store.groups().len()
    };
    let mut body = format!("<style>{STYLE}</style>");
    form(&mut body, &asked, all, found, failed);
    for (key, group) in &shown {
        card(&mut body, service, key, group, now);
    }
    if shown.is_empty() {
        empty(&mut body, service, all);
    }
    pager(&mut body, &asked, found);
    if service.routes.admin && all > 0 {
        let _ = write!(
            body,
            "<p><button class=danger data-method=PUT data-path=\"{}/api/v1/admin/wipe\" data-ask=\"Delete all {all} \
             groups?\">Delete all groups</button></p>",
            escape(&service.link_prefix)
        );
    }
    let _ = write!(body, "<script>{SCRIPT}</script>");
    page(service, &body, headers)
}

fn page(service: &Service, body: &str, headers: &HeaderMap) -> Response {
    let link = |path: &str| format!("{}{path}", service.link_prefix);
    let telemetry = service.routes.telemetry.strip_prefix(&service.routes.prefix).unwrap_or("/metrics");
    let (groups, status, metrics, api) = (link("/"), link("/status"), link(telemetry), link("/api/v1/metrics"));
    let navigation =
        [("Groups", groups.as_str()), ("Status", &status), ("Metrics", &metrics), ("Groups as JSON", &api)];
    let html = shell("Pushgateway", &navigation, body);
    let mut response = web::respond_body(html.into_bytes(), "text/html; charset=utf-8", headers);
    let headers = response.headers_mut();
    headers.insert("x-robots-tag", HeaderValue::from_static("noindex,nofollow"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn form(body: &mut String, asked: &Asked, all: usize, found: usize, failed: usize) {
    let checked = if asked.failed { " checked" } else { "" };
    let _ = write!(
        body,
        "<form class=search role=search><input type=search name=q value=\"{}\" placeholder=\"label, value or metric\" \
         aria-label=\"Search groups\"><label><input type=checkbox name=failed value=1{checked}> last push failed \
         ({failed})</label><button>Search</button><span>{found} of {all} groups</span></form>",
        escape(&asked.search)
    );
}

fn card(body: &mut String, service: &Service, key: &Key, group: &Group, now: i64) {
    let labels: String = key
        .iter()
        .map(|(name, value)| format!("<span class=label>{}=<b>\"{}\"</b></span> ", escape(name), escape(value)))
        .collect();
    let age = match group.pushed {
        0 => "never pushed".to_owned(),
        at => format!("<time datetime=\"{}\">pushed {} ago</time>", cli::log::timestamp(at), span(now - at)),
    };
    let bad = if group.last_failed {
        format!("<span class=failed>last push failed {} ago</span>", span(now - group.failed))
    } else {
        String::new()
    };
    let ends = group.expires().map_or(String::new(), |at| format!("<span>kept for {}</span>", span(at - now)));
    let count = crate::packed::stored(&group.families).count();
    let path = format!("{}{}", service.link_prefix, key.to_path());
    let _ = write!(
        body,
        "<details class=group><summary>{labels}<span class=meta>{age} {bad} {ends} {count} metrics</span></summary>"
    );
    let mut room = SERIES_MAX;
    for ((name, help), at) in TIMES.into_iter().zip([group.failed, group.pushed]) {
        family(body, key, &Family::gauge(name, help, at as f64 / 1000.0), &mut room);
    }
    for (_, one) in group.families() {
        if room == 0 {
            body.push_str("<p>More series are at <code>/api/v1/metrics</code>.</p>");
            break;
        }
        family(body, key, &one, &mut room);
    }
    let ask = format!("Delete the group {key}?");
    let _ = write!(
        body,
        "<p class=push><code>{}</code> <button data-copy>Copy</button> <button class=danger data-method=DELETE \
         data-path=\"{}\" data-ask=\"{}\">Delete group</button></p></details>",
        escape(&command(&path)),
        escape(&path),
        escape(&ask)
    );
}

/// What pushes one value into a group; `__HOST__` is put in by the page, which knows how it was reached.
fn command(path: &str) -> String {
    format!("echo 'some_metric 1' | curl --data-binary @- __HOST__{path}")
}

fn family(body: &mut String, key: &Key, family: &Family, room: &mut usize) {
    let kind = match family.kind {
        exposition::MetricType::Unknown => "untyped",
        kind => kind.as_str(),
    };
    let _ = write!(
        body,
        "<h3>{} <small>{kind}</small></h3><p class=help>{}</p><table>",
        escape(&family.name),
        escape(&family.help)
    );
    let mut lines = Lines::default();
    for metric in &family.metrics {
        lines.set(&line::entry(family, metric, &line::exposed(metric.labels.iter(), key)));
    }
    for chunk in lines.chunks() {
        let text = String::from_utf8_lossy((**chunk).as_ref());
        for row in text.lines() {
            if *room == 0 {
                body.push_str("</table>");
                return;
            }
            *room -= 1;
            let (series, value) = row.rsplit_once(' ').unwrap_or((row, ""));
            let shown = match value.parse::<f64>() {
                Ok(seconds) if family.name.ends_with("_time_seconds") && seconds > 1e9 && seconds < 1e10 => {
                    format!("{value} ({})", cli::log::timestamp((seconds * 1000.0) as i64))
                }
                _ => value.to_owned(),
            };
            let _ = write!(body, "<tr><td>{}<td class=value>{}", escape(series), escape(&shown));
        }
    }
    body.push_str("</table>");
}

fn empty(body: &mut String, service: &Service, all: usize) {
    if all > 0 {
        body.push_str("<p>No group is like that.</p>");
        return;
    }
    let path = format!("{}/metrics/job/some_job", service.link_prefix);
    let _ = write!(
        body,
        "<p>Nothing was pushed yet. A first push:</p><p class=push><code>{}</code> <button data-copy>Copy</button></p>",
        escape(&command(&path))
    );
}

fn pager(body: &mut String, asked: &Asked, found: usize) {
    let pages = found.div_ceil(GROUPS_MAX);
    if pages < 2 {
        return;
    }
    body.push_str("<nav class=pager aria-label=Pages>");
    if asked.page > 0 {
        let _ = write!(body, "<a rel=prev href=\"{}\">Previous</a> ", escape(&asked.link(asked.page - 1)));
    }
    let _ = write!(body, "page {} of {pages}", asked.page + 1);
    if asked.page + 1 < pages {
        let _ = write!(body, " <a rel=next href=\"{}\">Next</a>", escape(&asked.link(asked.page + 1)));
    }
    body.push_str("</nav>");
}

/// A span for people: its largest unit and the next.
fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Start, build and flags.
pub(crate) fn status(service: &Service, headers: &HeaderMap) -> Response {
    let build = cli::BuildInfo::current();
    let (groups, bytes) = {
        let state = service.gateway.state.lock();
        (state.store.groups().len(), state.store.bytes())
    };
    let mut body = format!("<style>{STYLE}</style><h1>Status</h1><table>");
    let rows = [
        ("Started", cli::log::timestamp(service.started)),
        ("Groups", groups.to_string()),
        ("Bytes of pushed metrics", bytes.to_string()),
        ("Version", build.version.to_owned()),
        ("Revision", build.revision.to_owned()),
        ("Branch", build.branch.to_owned()),
        ("Compiler", build.compiler.to_owned()),
    ];
    for (name, value) in rows {
        let _ = write!(body, "<tr><th>{name}<td>{}", escape(&value));
    }
    body.push_str("</table><h1>Flags</h1><table>");
    for (name, value) in &service.flags {
        let _ = write!(body, "<tr><th>{}<td>{}", escape(name), escape(value));
    }
    body.push_str("</table>");
    page(service, &body, headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_and_linked() {
        let asked = Asked::read("q=job%3Da+x&failed=1&page=2");
        assert_eq!(asked, Asked { search: "job=a x".into(), failed: true, page: 2 });
        assert_eq!(Asked::read(&asked.link(2)[1..]), asked);
        let key = crate::key::key(&[("job", "a"), ("zone", "xy")]);
        let mut group = Group::new(0);
        assert!(!asked.wants(&key, &group));
        group.last_failed = true;
        assert!(asked.wants(&key, &group));
        assert!(!Asked::read("q=job%3Db").wants(&key, &group));
    }

    #[test]
    fn spans_are_short() {
        for (ms, text) in [(-5, "0s"), (59_999, "59s"), (61_000, "1m 1s"), (7_260_000, "2h 1m"), (90_000_000, "1d 1h")]
        {
            assert_eq!(span(ms), text);
        }
    }
}
