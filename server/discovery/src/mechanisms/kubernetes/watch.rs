//! Keeping up with one kind of object: a list first, then the stream of changes, and a new list when the server has
//! forgotten where the stream was.
//!
//! Source of truth: "Efficient detection of changes" in the API concepts of Kubernetes. [`Events`] is without I/O.

use super::{Shared, store::Kind};
use client::Request;
use http::{HeaderValue, StatusCode, header::ACCEPT};
use serde::Deserialize;
use serde_json::Value;
use std::{ops::ControlFlow, sync::Arc, time::Duration};

/// Objects in one answer of a list.
const PAGE: usize = 500;

/// Bytes of one answer of a list.
const PAGE_MAX: u64 = 128 << 20;

/// Bytes of one line of the stream. An object has at most some megabytes.
const LINE_MAX: usize = 16 << 20;

/// How long the server is asked to keep a stream, in seconds; and how long one may be silent. Bookmarks come every
/// minute.
const STREAM_SECONDS: u64 = 300;

/// How long an answer's head may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pause after a failure: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What is watched.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) kind: Kind,
    /// Empty for all.
    pub(super) namespace: String,
    pub(super) labels: String,
    pub(super) fields: String,
}

impl Subject {
    /// The address, with what selects and more parameters.
    fn url(&self, server: &str, more: &[(&str, &str)]) -> String {
        let (group, plural) = self.kind.path();
        let namespace =
            if self.namespace.is_empty() { String::new() } else { format!("/namespaces/{}", self.namespace) };
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in [("labelSelector", &self.labels), ("fieldSelector", &self.fields)] {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        more.iter().for_each(|(name, value)| _ = query.append_pair(name, value));
        format!("{}{group}{namespace}/{plural}?{}", server.trim_end_matches('/'), query.finish())
    }
}

/// An answer to a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct List {
    metadata: ListMeta,
    items: Option<Vec<Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    next: String,
}

/// One line of the stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    object: Value,
}

/// Something that the stream tells.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    /// An object is there, or has changed.
    Put(Value),
    /// An object is gone.
    Gone(Value),
    /// The server has forgotten where the stream was: all must be listed anew.
    Expired,
    /// The server refuses to go on.
    Failed(String),
}

/// Cuts the stream into lines and follows how far it got.
#[derive(Debug, Default)]
pub(super) struct Events {
    rest: Vec<u8>,
    /// Where the stream goes on.
    pub(super) version: String,
}

impl Events {
    pub(super) fn new(version: String) -> Self {
        Self { rest: Vec::new(), version }
    }

    /// Takes the next bytes of the stream and tells events in their order, until one is no reason to go on.
    pub(super) fn push(&mut self, bytes: &[u8], mut tell: impl FnMut(Event)) -> ControlFlow<()> {
        self.rest.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(length) = self.rest[from..].iter().position(|byte| *byte == b'\n') {
            let event = parse(&self.rest[from..from + length], &mut self.version);
            from += length + 1;
            let ends = matches!(event, Some(Event::Expired | Event::Failed(_)));
            event.into_iter().for_each(&mut tell);
            if ends {
                return ControlFlow::Break(());
            }
        }
        self.rest.drain(..from);
        if self.rest.len() > LINE_MAX {
            tell(Event::Failed(format!("a line of more than {LINE_MAX} bytes")));
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

/// The event of a line, and where the stream is after it.
fn parse(line: &[u8], version: &mut String) -> Option<Event> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return None;
    }
    let line: Line = match serde_json::from_slice(line) {
        Ok(line) => line,
        Err(error) => return Some(Event::Failed(error.to_string())),
    };
    if line.kind == "ERROR" {
        let code = line.object.get("code").and_then(Value::as_u64);
        let text = || line.object.get("message").and_then(Value::as_str).unwrap_or("no reason").to_owned();
        return Some(if code == Some(410) { Event::Expired } else { Event::Failed(text()) });
    }
    if let Some(now) = line.object.pointer("/metadata/resourceVersion").and_then(Value::as_str) {
        now.clone_into(version);
    }
    match line.kind.as_str() {
        "ADDED" | "MODIFIED" => Some(Event::Put(line.object)),
        "DELETED" => Some(Event::Gone(line.object)),
        // BOOKMARK says only how far the stream is.
        _ => None,
    }
}

/// Keeps up with a subject for ever.
pub(super) async fn follow(shared: Arc<Shared>, subject: Subject) {
    let mut version: Option<String> = None;
    let mut first = true;
    let mut pause = PAUSES.0;
    loop {
        let result = match version.clone() {
            None => list(&shared, &subject).await.map(|(items, version)| {
                shared.listed(&subject, items, std::mem::take(&mut first));
                Some(version)
            }),
            Some(version) => watch(&shared, &subject, version).await,
        };
        match result {
            Ok(next) => {
                pause = PAUSES.0;
                version = next;
            }
            Err(error) => {
                shared.metrics.failures.inc();
                tracing::error!(kind = subject.kind.path().1, error, "Watching Kubernetes objects failed");
                shared.clock.sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

/// All objects, and where the stream of changes goes on.
async fn list(shared: &Shared, subject: &Subject) -> Result<(Vec<Value>, String), String> {
    let (mut items, mut next) = (Vec::new(), String::new());
    loop {
        let page = PAGE.to_string();
        let mut more = vec![("limit", page.as_str())];
        if !next.is_empty() {
            more.push(("continue", &next));
        }
        let url = subject.url(&shared.server, &more);
        let mut request = Request::get(&url, PATIENCE, PAGE_MAX);
        request.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let mut body = Vec::new();
        let answer = shared.client.fetch(&request, &mut body).await.map_err(|error| error.to_string())?;
        if answer.status == StatusCode::GONE && !next.is_empty() {
            // The list is older than the server remembers: from the start.
            (items, next) = (Vec::new(), String::new());
            continue;
        }
        if answer.status != StatusCode::OK {
            return Err(format!("{url}: server returned HTTP status {}", answer.status_line));
        }
        let list: List = serde_json::from_slice(&body).map_err(|error| format!("{url}: {error}"))?;
        items.extend(list.items.into_iter().flatten());
        next = list.metadata.next;
        if next.is_empty() {
            return Ok((items, list.metadata.resource_version));
        }
    }
}

/// Follows the stream until it ends; where the next one goes on, or none when all must be listed anew.
async fn watch(shared: &Shared, subject: &Subject, version: String) -> Result<Option<String>, String> {
    let seconds = STREAM_SECONDS.to_string();
    let more = [
        ("watch", "true"),
        ("allowWatchBookmarks", "true"),
        ("resourceVersion", &version),
        ("timeoutSeconds", &seconds),
    ];
    let url = subject.url(&shared.server, &more);
    let mut request = Request::get(&url, PATIENCE, PAGE_MAX);
    request.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let (mut events, mut end) = (Events::new(version), None);
    let mut take = |bytes: &[u8]| {
        let mut some = Vec::new();
        let flow = events.push(bytes, |event| match event {
            event @ (Event::Expired | Event::Failed(_)) => end = Some(event),
            event => some.push(event),
        });
        shared.changed(subject, some);
        flow
    };
    let patience = Duration::from_secs(STREAM_SECONDS) + PATIENCE;
    let answer = shared.client.follow(&request, patience, &mut take).await;
    if let Some(Event::Failed(why)) = end {
        return Err(format!("{url}: {why}"));
    }
    let expired = end.is_some();
    match answer {
        Ok(answer) if answer.status == StatusCode::GONE || expired => Ok(None),
        Ok(answer) if answer.status == StatusCode::OK => Ok(Some(events.version)),
        Ok(answer) => Err(format!("{url}: server returned HTTP status {}", answer.status_line)),
        Err(error) => {
            // What came before the stream broke is known: the next one goes on there, after a pause.
            let place = events.version;
            shared.metrics.failures.inc();
            tracing::warn!(kind = subject.kind.path().1, %error, "The stream of Kubernetes objects broke");
            shared.clock.sleep(PAUSES.0).await;
            Ok(Some(place))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_become_events_wherever_they_are_cut() {
        let stream = concat!(
            "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"5\"}}}\n",
            "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"9\"}}}\n\n",
            "{\"type\":\"DELETED\",\"object\":{\"metadata\":{\"name\":\"a\"}}}\n",
            "{\"type\":\"ERROR\",\"object\":{\"code\":410}}\n{\"type\":\"ADDED\",\"object\":{}}\n",
        );
        for size in [1, 7, 50, stream.len()] {
            let (mut events, mut told, mut ended) = (Events::new("1".into()), Vec::new(), false);
            for piece in stream.as_bytes().chunks(size) {
                if events.push(piece, |event| told.push(event)).is_break() {
                    ended = true;
                    break;
                }
            }
            let meta = json!({"metadata": {"name": "a", "resourceVersion": "5"}});
            let gone = json!({"metadata": {"name": "a"}});
            assert_eq!(told, [Event::Put(meta), Event::Gone(gone), Event::Expired], "pieces of {size}");
            assert!(ended && events.version == "9");
        }
    }

    #[test]
    fn what_is_no_stream_fails() {
        for (bytes, want) in [
            ("nonsense\n", "expected ident"),
            ("{\"type\":\"ERROR\",\"object\":{\"code\":500,\"message\":\"etcd\"}}\n", "etcd"),
        ] {
            let mut told = Vec::new();
            assert!(Events::default().push(bytes.as_bytes(), |event| told.push(event)).is_break());
            assert!(matches!(&told[..], [Event::Failed(why)] if why.contains(want)), "{told:?}");
        }
        let mut told = 0;
        let long = vec![b'x'; LINE_MAX + 1];
        assert!(Events::default().push(&long, |_| told += 1).is_break() && told == 1);
    }

    #[test]
    fn addresses_select() {
        let subject = |kind, namespace: &str| Subject {
            kind,
            namespace: namespace.into(),
            labels: "a in (b,c)".into(),
            fields: String::new(),
        };
        assert_eq!(
            subject(Kind::Pod, "n").url("https://h:1/", &[("limit", "5")]),
            "https://h:1/api/v1/namespaces/n/pods?labelSelector=a+in+%28b%2Cc%29&limit=5"
        );
        assert!(
            subject(Kind::EndpointSlice, "").url("http://h", &[]).contains("/apis/discovery.k8s.io/v1/endpointslices?")
        );
    }
}
