//! Several groups in one request: `POST /api/v1/groups`, there only with `--push.enable-batch`.
//!
//! The body is text in parts, each opened by a line `# GROUP PUT /metrics/job/NAME/...` or `# GROUP POST ...` or
//! `# GROUP DELETE ...` and closed by the next. Every part is a push of its own: one that is refused stops no other,
//! and the answer lists them. Nothing is taken when a line that opens a part makes no sense.

use crate::{
    Key,
    body::Body as PushBody,
    gateway::{How, PushError},
    http::{Service, error, unavailable},
    route::{self, Resolved, Route},
};
use serde_json::json;
use web::{
    body::Body,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};

/// What opens a part.
const OPEN: &[u8] = b"# GROUP ";
/// Parts of one request at most.
const PARTS_MAX: usize = 10_000;

struct Part<'a> {
    method: &'a str,
    path: &'a str,
    body: &'a [u8],
}

/// Takes all parts in order.
pub(crate) async fn answer(service: &Service, headers: &HeaderMap, body: Body) -> Response {
    let body = match service.read(headers, body).await {
        Ok(body) => body,
        Err(refused) => return refused.into_response(),
    };
    let parts = match parts(&body.bytes).and_then(|parts| keyed(service, parts)) {
        Ok(parts) => parts,
        Err(why) => return error(StatusCode::BAD_REQUEST, &why),
    };
    let (mut taken, mut refused) = (0, Vec::new());
    for (key, part) in parts {
        if let Err(denied) = service.allow(headers, key.get("job")) {
            refused.push(json!({ "path": part.path, "error": denied.to_string() }));
            continue;
        }
        let done = match part.method {
            "DELETE" => service.gateway.delete(&key).await.map_err(PushError::Journal),
            method => match PushBody::read(&HeaderMap::new(), part.body, service.gateway.policy.utf8) {
                Ok(body) => {
                    let how = How { replace: method == "PUT", ..How::default() };
                    service.gateway.push(key, body, how).await
                }
                Err(why) => {
                    refused.push(json!({ "path": part.path, "error": why.to_string() }));
                    continue;
                }
            },
        };
        match done {
            Ok(()) => taken += 1,
            Err(PushError::Journal(why)) => return unavailable(&why),
            Err(why) => refused.push(json!({ "path": part.path, "error": why.to_string() })),
        }
    }
    let status = if refused.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    let body = json!({ "taken": taken, "refused": refused }).to_string();
    (status, [("content-type", "application/json")], body).into_response()
}

fn parts(body: &[u8]) -> Result<Vec<Part<'_>>, String> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    let (mut start, mut at) = (0, 0);
    for (number, line) in body.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let (begin, end) = (at, at + line.len());
        at = end;
        let Some(last) = line.strip_prefix(OPEN) else {
            if parts.is_empty() && !line.trim_ascii().is_empty() {
                return Err(format!("line {}: expected \"# GROUP METHOD /metrics/job/...\"", number + 1));
            }
            continue;
        };
        if let Some(part) = parts.last_mut() {
            part.body = &body[start..begin];
        }
        let text = std::str::from_utf8(last).unwrap_or_default().trim();
        match text.split_once(' ') {
            Some((method @ ("PUT" | "POST" | "DELETE"), path)) if parts.len() < PARTS_MAX => {
                parts.push(Part { method, path: path.trim(), body: b"" });
            }
            Some(("PUT" | "POST" | "DELETE", _)) => return Err(format!("more than {PARTS_MAX} groups in one request")),
            _ => return Err(format!("line {}: expected PUT, POST or DELETE and a path", number + 1)),
        }
        start = end;
    }
    if let Some(part) = parts.last_mut() {
        part.body = &body[start..];
    }
    Ok(parts)
}

fn keyed<'a>(service: &Service, parts: Vec<Part<'a>>) -> Result<Vec<(Key, Part<'a>)>, String> {
    let key = |part: &Part<'_>| {
        let path = route::decode(part.path).ok_or_else(|| format!("{:?} is no path", part.path))?;
        let full = [service.routes.prefix.as_bytes(), &path].concat();
        match service.routes.resolve(part.method, &full) {
            Resolved::Serve(Route::Group { job, base64, labels }) => {
                Key::from_path(&job, base64, &labels, service.gateway.policy.utf8).map_err(|why| why.to_string())
            }
            _ => Err(format!("{:?} is no path of a group", part.path)),
        }
    };
    parts.into_iter().map(|part| Ok((key(&part)?, part))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_divided_at_their_lines() {
        let text = b"\n# GROUP PUT /metrics/job/a\nx 1\n# HELP x y\n# GROUP DELETE /metrics/job/b\n";
        let found: Vec<(&str, &str, &[u8])> =
            parts(text).expect("valid").into_iter().map(|part| (part.method, part.path, part.body)).collect();
        assert_eq!(found, [("PUT", "/metrics/job/a", &b"x 1\n# HELP x y\n"[..]), ("DELETE", "/metrics/job/b", b"")]);
        assert!(parts(b"x 1\n").is_err() && parts(b"# GROUP GET /x\n").is_err());
    }
}
