//! Answers compressed and formatted as the client asks.
//!
//! What takes long, which is much to format or to compress, is done on a thread made for that while the answer's body is
//! being waited for, so that one large scrape does not hold up the event loop.

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use exposition::Family;
use flate2::{Compression, write::GzEncoder};
use std::io::{self, Write};

/// Bodies below this size are not worth compressing.
const COMPRESS_MIN: usize = 512;

/// Bodies above this size are compressed away from the event loop: gzip takes about a millisecond for it.
const INLINE_MAX: usize = 64 << 10;

/// More metrics than this are formatted away from the event loop: they are about [`INLINE_MAX`] bytes.
const INLINE_METRICS_MAX: usize = 600;

/// zstd's level: faster than gzip's fastest, and denser.
const ZSTD_LEVEL: i32 = 1;

/// How a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// What the client likes best; of equals the one that costs both sides least. What it does not name it does not
    /// get, save by `*`.
    fn negotiate(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
        let (mut identity, mut gzip, mut zstd, mut others) = (None, None, None, None);
        for part in lines.flat_map(|line| line.split(',')) {
            let mut words = part.split(';').map(str::trim);
            let name = words.next().unwrap_or_default().to_ascii_lowercase();
            let slot = match name.as_str() {
                "identity" => &mut identity,
                "gzip" | "x-gzip" => &mut gzip,
                "zstd" => &mut zstd,
                "*" => &mut others,
                _ => continue,
            };
            *slot = Some(weight(words));
        }
        let of = |given: Option<u16>| given.or(others).unwrap_or(0);
        // Plain is always allowed, and liked least unless the client says otherwise.
        let candidates = [(Self::Zstd, of(zstd)), (Self::Gzip, of(gzip)), (Self::Identity, identity.unwrap_or(0))];
        let best = candidates.into_iter().rev().max_by_key(|(_, weight)| *weight);
        best.filter(|(_, weight)| *weight > 0).map_or(Self::Identity, |(encoding, _)| encoding)
    }

    fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }

    fn pack(self, body: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::Identity => Ok(body),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
                encoder.write_all(&body)?;
                encoder.finish()
            }
            Self::Zstd => zstd::stream::encode_all(body.as_slice(), ZSTD_LEVEL),
        }
    }
}

/// Thousandths of the quality given; what is no number counts as refused.
fn weight<'a>(parameters: impl Iterator<Item = &'a str>) -> u16 {
    for parameter in parameters {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        if name.trim().eq_ignore_ascii_case("q") {
            let quality = value.trim().parse::<f64>().unwrap_or(0.0);
            // A NaN becomes zero.
            return (quality.clamp(0.0, 1.0) * 1000.0) as u16;
        }
    }
    1000
}

/// A body with its type, compressed when the client takes that.
pub fn respond_body(body: Vec<u8>, content_type: &str, headers: &HeaderMap) -> Response {
    let encoding = if body.len() < COMPRESS_MIN { Encoding::Identity } else { Encoding::negotiate(headers) };
    let small = body.len() <= INLINE_MAX || encoding == Encoding::Identity;
    respond(content_type, encoding, "Accept-Encoding", small, move || body)
}

/// Families in the format the client likes best.
pub fn metrics_response(families: Vec<Family>, headers: &HeaderMap, openmetrics: bool) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let (format, escaping) = exposition::negotiate(accept, openmetrics);
    let kind = exposition::content_type(format, escaping);
    let metrics = families.iter().map(|family| family.metrics.len()).sum::<usize>();
    let write = move || {
        let mut body = Vec::new();
        exposition::write(&families, format, escaping, &mut body);
        body
    };
    if metrics > INLINE_METRICS_MAX {
        return respond(&kind, Encoding::negotiate(headers), VARY_METRICS, false, write);
    }
    let body = write();
    let encoding = if body.len() < COMPRESS_MIN { Encoding::Identity } else { Encoding::negotiate(headers) };
    respond(&kind, encoding, VARY_METRICS, true, move || body)
}

/// Both what is said and how it is packed depend on the client.
const VARY_METRICS: &str = "Accept, Accept-Encoding";

fn respond(
    content_type: &str,
    encoding: Encoding,
    vary: &'static str,
    small: bool,
    make: impl FnOnce() -> Vec<u8> + Send + 'static,
) -> Response {
    let work = move || encoding.pack(make());
    let body = if small { packed(work()) } else { later(work) };
    let mut response = Response::new(body);
    let kind = HeaderValue::from_str(content_type).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::VARY, HeaderValue::from_static(vary));
    if let Some(name) = encoding.name() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    response
}

/// A body that is at hand. Writing to memory does not fail; if it did, the client would see its connection break.
fn packed(body: io::Result<Vec<u8>>) -> Body {
    match body {
        Ok(body) => Body::from(body),
        Err(error) => Body::from_stream(futures_util::stream::once(std::future::ready(Err::<Bytes, _>(error)))),
    }
}

/// A body whose making begins when it is first asked for.
fn later(work: impl FnOnce() -> io::Result<Vec<u8>> + Send + 'static) -> Body {
    Body::from_stream(futures_util::stream::once(async move {
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(io::Error::other)?.map(Bytes::from)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::io::Read;

    fn asking(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))])
    }

    #[test]
    fn encodings_are_chosen_by_weight() {
        let cases = [
            ("", None),
            ("identity", None),
            ("br, deflate", None),
            ("deflate, gzip", Some("gzip")),
            ("gzip;q=0.5", Some("gzip")),
            ("gzip; q=0.5", Some("gzip")),
            ("gzip ; Q = 0.5", Some("gzip")),
            ("GZIP", Some("gzip")),
            ("x-gzip", Some("gzip")),
            ("gzip;q=0", None),
            ("gzip; q=0.000", None),
            ("gzip;q=nonsense", None),
            ("gzip;q=NaN", None),
            ("gzip, zstd", Some("zstd")),
            ("gzip, zstd;q=0.9", Some("gzip")),
            ("gzip;q=0.2, zstd;q=0.4", Some("zstd")),
            ("*", Some("zstd")),
            ("*, zstd;q=0", Some("gzip")),
            ("*;q=0.1, gzip;q=0.2", Some("gzip")),
            ("*;q=0", None),
            ("identity;q=1, gzip;q=0.5", None),
            ("identity;q=0.5, gzip", Some("gzip")),
            ("identity, gzip", Some("gzip")),
        ];
        for (given, expected) in cases {
            assert_eq!(Encoding::negotiate(&asking(given)).name(), expected, "{given:?}");
        }
        let mut lines = asking("gzip;q=0.1");
        lines.append(header::ACCEPT_ENCODING, HeaderValue::from_static("zstd"));
        assert_eq!(Encoding::negotiate(&lines), Encoding::Zstd, "several lines count as one");
    }

    async fn unpacked(response: Response) -> Vec<u8> {
        let encoding = response.headers().get(header::CONTENT_ENCODING).cloned();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let mut plain = Vec::new();
        match encoding.as_ref().map(HeaderValue::as_bytes) {
            Some(b"gzip") => drop(flate2::read::GzDecoder::new(&*body).read_to_end(&mut plain).expect("gzip")),
            Some(b"zstd") => plain = zstd::stream::decode_all(&*body).expect("zstd"),
            _ => plain = body.to_vec(),
        }
        plain
    }

    #[tokio::test]
    async fn bodies_of_every_size_and_encoding_come_back_whole() {
        for size in [0, COMPRESS_MIN - 1, COMPRESS_MIN, INLINE_MAX, INLINE_MAX + 1, 3 << 20] {
            let body: Vec<u8> = (0..size).map(|i| (i / 7) as u8).collect();
            for accept in ["identity", "gzip", "zstd"] {
                let response = respond_body(body.clone(), "text/plain", &asking(accept));
                let encoded = response.headers().contains_key(header::CONTENT_ENCODING);
                assert_eq!(encoded, accept != "identity" && size >= COMPRESS_MIN, "{accept} {size}");
                assert_eq!(response.headers()[header::VARY], "Accept-Encoding");
                assert_eq!(unpacked(response).await, body, "{accept} {size}");
            }
        }
    }

    /// What is above the limit must not be packed by the thread that asks for it: the body is still to be made.
    #[tokio::test]
    async fn large_bodies_are_packed_elsewhere() {
        let size = |bytes| {
            use hyper::body::Body as _;
            respond_body(vec![b'a'; bytes], "text/plain", &asking("gzip")).body().size_hint().exact()
        };
        assert!(size(INLINE_MAX).is_some());
        assert_eq!(size(INLINE_MAX + 1), None);
    }

    #[tokio::test]
    async fn metrics_come_in_the_format_asked_for_whatever_their_number() {
        for count in [1, INLINE_METRICS_MAX + 1] {
            let registry = metrics::Registry::new();
            let family = registry.gauge_vec("g", "A gauge.", &["i"]);
            for i in 0..count {
                family.with(&[&i.to_string()]).set(1.0);
            }
            let response = metrics_response(registry.gather(), &asking("gzip"), false);
            assert_eq!(response.headers()[header::VARY], "Accept, Accept-Encoding");
            let text = String::from_utf8(unpacked(response).await).expect("text");
            assert_eq!(text.lines().filter(|line| line.starts_with("g{")).count(), count);
        }
    }
}
