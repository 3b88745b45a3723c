//! Answers compressed and formatted as the client asks.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use exposition::Family;
use flate2::{Compression, write::GzEncoder};
use std::io::Write;

/// Bodies below this size are not worth compressing.
const COMPRESS_MIN: usize = 512;

/// A body with its type, gzipped when the client takes that.
pub fn respond_body(body: Vec<u8>, content_type: &str, headers: &HeaderMap) -> Response {
    let gzip = body.len() >= COMPRESS_MIN && accepts_gzip(headers);
    let packed = if gzip { compress(&body) } else { None };
    let encoded = packed.is_some();
    let mut response = Response::new(Body::from(packed.unwrap_or(body)));
    let kind = HeaderValue::from_str(content_type).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    if encoded {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let given = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(',').any(|part| {
        let (name, weight) = part.split_once(";q=").unwrap_or((part, "1"));
        name.trim() == "gzip" && weight.trim().parse::<f64>().is_ok_and(|weight| weight > 0.0)
    })
}

fn compress(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

/// Families in the format the client likes best.
pub fn metrics_response(families: Vec<Family>, headers: &HeaderMap, openmetrics: bool) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let (format, escaping) = exposition::negotiate(accept, openmetrics);
    let mut body = Vec::new();
    exposition::write(&families, format, escaping, &mut body);
    respond_body(body, &exposition::content_type(format, escaping), headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_only_for_who_takes_it() {
        let ask = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            respond_body(vec![b'a'; 4096], "text/plain", &headers).headers().contains_key(header::CONTENT_ENCODING)
        };
        assert!(ask("deflate, gzip"));
        assert!(ask("gzip;q=0.5"));
        assert!(!ask("gzip;q=0"));
        assert!(!ask("identity"));
    }
}
