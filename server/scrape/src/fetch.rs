//! Fetching a body: one request with a deadline, a limit on the bytes, and gzip undone on the way.

use crate::{Failure, ScrapeConfig};
use exposition::Format;
use flate2::write::GzDecoder;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request,
    body::Bytes,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use std::io::Write;

/// Keeps connections to targets open between scrapes; clones share them.
pub(crate) type Http = Client<HttpConnector, Empty<Bytes>>;

/// A new set of connections.
pub(crate) fn client() -> Http {
    Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build_http()
}

/// What is asked for: upstream's list without the formats that are not built.
const FORMATS: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,\
                       text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

/// Bytes of a body when the configuration sets no limit.
const BODY_MAX: u64 = 1 << 30;

/// Collects a body, inflated, and fails at the limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: u64,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() as u64 + bytes.len() as u64 >= self.limit {
            return Err(std::io::Error::other(Failure::body_limit()));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

enum Sink {
    Plain(Bounded),
    Gzip(Box<GzDecoder<Bounded>>),
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Plain(bounded) => bounded.write_all(bytes),
            Self::Gzip(decoder) => decoder.write_all(bytes),
        }
    }

    fn finish(self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Plain(bounded) => Ok(bounded.bytes),
            Self::Gzip(decoder) => decoder.finish().map(|bounded| bounded.bytes),
        }
    }
}

/// One GET. The caller sets the deadline.
pub(crate) async fn fetch(
    http: &Http,
    url: &str,
    config: &ScrapeConfig,
    timeout: f64,
) -> Result<(Vec<u8>, Format), Failure> {
    let request = Request::get(url)
        .header(ACCEPT, FORMATS)
        .header(ACCEPT_ENCODING, if config.compression { "gzip" } else { "identity" })
        .header(USER_AGENT, concat!("Prometheus/", env!("CARGO_PKG_VERSION")))
        .header("X-Prometheus-Scrape-Timeout-Seconds", timeout.to_string())
        .body(Empty::new())
        .map_err(|error| Failure::new(format!("{url:?} is no address: {error}")))?;
    let response = http.request(request).await.map_err(|error| Failure::new(chain(url, &error)))?;
    let status = response.status();
    if status != hyper::StatusCode::OK {
        return Err(Failure::new(format!("server returned HTTP status {status}")));
    }
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (kind, gzip) = (header(CONTENT_TYPE).to_owned(), header(CONTENT_ENCODING) == "gzip");
    let limit = if config.body_size_limit > 0 { config.body_size_limit } else { BODY_MAX };
    let bounded = Bounded { bytes: Vec::new(), limit };
    let mut sink = if gzip { Sink::Gzip(Box::new(GzDecoder::new(bounded))) } else { Sink::Plain(bounded) };
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::new(chain(url, &error)))?;
        if let Some(bytes) = frame.data_ref() {
            sink.write(bytes).map_err(failure)?;
        }
    }
    let body = sink.finish().map_err(failure)?;
    Ok((body, format(&kind, config)?))
}

/// What stopped the inflating: our own refusal, or what the decoder says.
fn failure(error: std::io::Error) -> Failure {
    error.downcast::<Failure>().unwrap_or_else(|error| Failure::new(error.to_string()))
}

/// The content type picks the format; without a known one only the configured fallback helps.
fn format(kind: &str, config: &ScrapeConfig) -> Result<Format, Failure> {
    exposition::format_of_content_type(kind).or(config.fallback).ok_or_else(|| {
        Failure::new(format!(
            "received unsupported Content-Type {kind:?} and no fallback_scrape_protocol specified for target"
        ))
    })
}

fn chain(url: &str, error: &dyn std::error::Error) -> String {
    let mut text = format!("Get {url:?}: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}
