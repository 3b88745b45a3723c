//! A scrape: what is stored was rendered when it was pushed, so an answer is a list of pieces that are already there.
//!
//! The store is locked only to note the pieces. Names in another escaping and protobuf are made on the way, apart from
//! the event loop.

use crate::{
    gateway::Gateway,
    gzip::{Piece, Stream},
    http::{Service, error},
    line,
    lines::Chunk,
    store::TIMES,
};
use bytes::Bytes;
use exposition::{Escaping, Family, Format, Metric, MetricType, escape_name};
use model::{Builder, is_legacy_metric_name};
use std::sync::Arc;
use web::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};

/// A family as a scrape shows it.
struct Shown {
    name: Arc<str>,
    kind: MetricType,
    help: String,
    /// The gateway's own series of that name.
    own: Vec<u8>,
    chunks: Vec<Arc<Chunk>>,
}

/// Answers a scrape.
pub(crate) async fn answer(service: &Service, headers: &HeaderMap) -> Response {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    let (format, escaping) = exposition::negotiate(Some(text(header::ACCEPT)).filter(|text| !text.is_empty()), false);
    let gzip = accepts_gzip(text(header::ACCEPT_ENCODING));
    let shown = match snapshot(&service.gateway) {
        Ok(shown) => shown,
        Err(why) => {
            tracing::error!(error = %why, "error gathering metrics");
            let text = format!("An error has occurred while serving metrics:\n\n{why}");
            return error(StatusCode::INTERNAL_SERVER_ERROR, &text);
        }
    };
    let gateway = service.gateway.clone();
    let work = move || match format {
        Format::Text004 | Format::Text100 if gzip => gzipped(&shown, escaping),
        Format::Text004 | Format::Text100 => plain(&shown, escaping),
        format => {
            let mut out = Vec::new();
            exposition::write(&structured(&gateway), format, escaping, &mut out);
            vec![if gzip { zipped(&[out.into()]) } else { out.into() }]
        }
    };
    let frames = match service.tasks.blocking("scrape", work).await {
        Ok(frames) => frames,
        Err(why) => return error(StatusCode::INTERNAL_SERVER_ERROR, &why.to_string()),
    };
    let frames = futures_util::stream::iter(frames.into_iter().map(Ok::<_, std::convert::Infallible>));
    let mut response = Response::new(Body::from_stream(frames));
    if let Ok(kind) = HeaderValue::from_str(&exposition::content_type(format, escaping)) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    if gzip {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn accepts_gzip(given: &str) -> bool {
    given.split(',').any(|part| {
        let (name, weight) = part.split_once(";q=").unwrap_or((part, "1"));
        name.trim() == "gzip" && weight.trim().parse::<f64>().is_ok_and(|weight| weight > 0.0)
    })
}

/// Notes what is to be shown, own families in their places. O(chunks).
fn snapshot(gateway: &Gateway) -> Result<Vec<Shown>, String> {
    let own = gateway.registry.gather();
    let mut own = own.into_iter().peekable();
    let mut all = Vec::new();
    let state = gateway.state.lock();
    if let Some(conflict) = state.store.conflict() {
        return Err(conflict.0.clone());
    }
    for (name, indexed) in state.store.index() {
        while let Some(family) = own.next_if(|family| family.name.as_str() < &**name) {
            all.push(shown_own(&family));
        }
        let mut shown = match own.next_if(|family| family.name == **name) {
            Some(family) => shown_own(&family),
            None => Shown {
                name: name.clone(),
                kind: indexed.kind,
                help: indexed.help().to_owned(),
                own: Vec::new(),
                chunks: Vec::new(),
            },
        };
        shown.chunks = indexed.lines.chunks().to_vec();
        all.push(shown);
    }
    drop(state);
    all.extend(own.map(|family| shown_own(&family)));
    Ok(all)
}

fn shown_own(family: &Family) -> Shown {
    let entries = family.metrics.iter().map(|metric| {
        let labels: Vec<(&str, &str)> = metric.labels.iter().collect();
        line::entry(family, metric, &labels)
    });
    Shown {
        name: family.name.as_str().into(),
        kind: family.kind,
        help: family.help.clone(),
        own: entries.flatten().collect(),
        chunks: Vec::new(),
    }
}

/// HELP and TYPE, and the own series.
fn head(shown: &Shown, escaping: Escaping) -> Vec<u8> {
    let family = Family::new(&escape_name(&shown.name, escaping), &shown.help, shown.kind);
    let mut out = Vec::new();
    exposition::write(&[family], Format::Text004, escaping, &mut out);
    out.extend_from_slice(&shown.own);
    out
}

/// A chunk in an escaping, when that changes it.
fn renamed(shown: &Shown, chunk: &Chunk, escaping: Escaping) -> Option<Vec<u8>> {
    let text = chunk.as_ref();
    // Only quoted names differ, and the line of a quoted name has a quote behind a brace or a comma.
    let quoted = !is_legacy_metric_name(&shown.name) || memchr::memmem::find(text, b"\"=\"").is_some();
    if escaping == Escaping::AllowUtf8 || !quoted {
        return None;
    }
    let mut out = Vec::with_capacity(text.len());
    line::rename(text, escaping, &mut out);
    Some(out)
}

fn plain(all: &[Shown], escaping: Escaping) -> Vec<Bytes> {
    let mut frames = Vec::new();
    // Heads and small chunks share a frame.
    let mut small = Vec::new();
    for shown in all {
        small.extend_from_slice(&head(shown, escaping));
        for chunk in &shown.chunks {
            let text: &[u8] = (**chunk).as_ref();
            match renamed(shown, chunk, escaping) {
                Some(text) => small.extend_from_slice(&text),
                None if text.len() < 4096 => small.extend_from_slice(text),
                None => {
                    frames.push(std::mem::take(&mut small).into());
                    frames.push(Bytes::from_owner(Text(chunk.clone())));
                }
            }
        }
    }
    frames.push(small.into());
    frames.retain(|frame: &Bytes| !frame.is_empty());
    frames
}

/// A chunk as the owner of bytes.
struct Text(Arc<Chunk>);

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

/// Chunks below this size are deflated together with what is around them.
const PIECE_MIN: usize = 2048;

fn gzipped(all: &[Shown], escaping: Escaping) -> Vec<Bytes> {
    let (mut stream, mut small) = (Stream::default(), Vec::new());
    for shown in all {
        small.extend_from_slice(&head(shown, escaping));
        for chunk in &shown.chunks {
            let text: &[u8] = (**chunk).as_ref();
            match renamed(shown, chunk, escaping) {
                Some(text) => small.extend_from_slice(&text),
                None if text.len() < PIECE_MIN => small.extend_from_slice(text),
                None => {
                    if !small.is_empty() {
                        stream.push(&Piece::new(&std::mem::take(&mut small)));
                    }
                    stream.push(chunk.deflated.get_or_init(|| Piece::new(text)));
                }
            }
        }
    }
    stream.push(&Piece::new(&small));
    stream.finish()
}

fn zipped(frames: &[Bytes]) -> Bytes {
    let mut stream = Stream::default();
    frames.iter().for_each(|frame| stream.push(&Piece::new(frame)));
    stream.finish().concat().into()
}

/// All families as values, for the formats that are not text. O(everything).
pub(crate) fn structured(gateway: &Gateway) -> Vec<Family> {
    let groups = gateway.state.lock().store.groups().clone();
    let mut all: std::collections::BTreeMap<String, Family> = std::collections::BTreeMap::new();
    let mut builder = Builder::default();
    let mut add = |key: &crate::Key, family: Family| {
        let metrics = family.metrics.iter().map(|metric| {
            builder.clear();
            for (name, value) in line::exposed(metric.labels.iter(), key) {
                builder.set(name, value);
            }
            Metric { labels: builder.build_with_empty(), ..metric.clone() }
        });
        let metrics: Vec<Metric> = metrics.collect();
        let place = all.entry(family.name.clone()).or_insert_with(|| Family { metrics: Vec::new(), ..family });
        place.metrics.extend(metrics);
    };
    for (key, group) in &groups {
        for ((name, help), value) in TIMES.into_iter().zip([group.failed, group.pushed]) {
            add(key, Family::gauge(name, help, value as f64 / 1000.0));
        }
        group.families().for_each(|(_, family)| add(key, family));
    }
    for family in gateway.registry.gather() {
        match all.get_mut(&family.name) {
            Some(place) => {
                place.help = family.help;
                place.metrics.extend(family.metrics);
            }
            None => drop(all.insert(family.name.clone(), family)),
        }
    }
    let mut families: Vec<Family> = all.into_values().collect();
    for family in &mut families {
        family.metrics.sort_by(|left, right| {
            left.labels
                .len()
                .cmp(&right.labels.len())
                .then_with(|| left.labels.iter().map(|pair| pair.1).cmp(right.labels.iter().map(|pair| pair.1)))
        });
    }
    families
}
