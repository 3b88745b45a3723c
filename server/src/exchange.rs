//! The protocols between servers, for the API: what `remote` says, as statuses and headers.

use api::{Chosen, Remote, Reply, Request};
use metrics::Counter;
use model::{Labels, Timestamp};
use remote::{Import, ImportError, Imported, Kind, Limits, Read, ReadFailure};
use storage::Storage;

/// Errors as text.
const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// The receiver of series.
pub(crate) struct Exchange {
    limits: Limits,
    invalid: Counter,
}

impl Exchange {
    pub(crate) fn new(registry: &metrics::Registry) -> Self {
        let invalid = registry.counter(
            "prometheus_api_remote_write_invalid_labels_samples_total",
            "The total number of received remote write samples and histogram samples which were rejected due to invalid \
             labels.",
        );
        Self { limits: Limits::default(), invalid }
    }
}

fn refused(status: u16, text: &str) -> Reply {
    let headers = vec![("x-content-type-options", "nosniff".to_owned())];
    Reply { status, content_type: Some(PLAIN), body: format!("{text}\n"), headers }
}

impl Remote for Exchange {
    fn write(&self, storage: &dyn Storage, now: Timestamp, request: Request<'_>) -> Reply {
        let message = match remote::accept(request.content_type, request.encoding) {
            Ok(message) => message,
            Err(text) => return refused(415, &text),
        };
        let outcome = remote::receive(storage, now, message, request.body, &self.limits);
        self.invalid.add(outcome.invalid_series as f64);
        let mut reply = match outcome.status {
            204 => Reply { status: 204, ..Reply::default() },
            status => {
                tracing::warn!(error = %outcome.text, "a remote write was refused, whole or in part");
                refused(status, &outcome.text)
            }
        };
        if message == remote::Message::V2 {
            for (name, count) in [
                ("x-prometheus-remote-write-samples-written", outcome.written.samples),
                ("x-prometheus-remote-write-histograms-written", outcome.written.histograms),
                ("x-prometheus-remote-write-exemplars-written", outcome.written.exemplars),
            ] {
                reply.headers.push((name, count.to_string()));
            }
        }
        reply
    }

    fn import(
        &self,
        storage: &dyn Storage,
        now: Timestamp,
        content_type: Option<&str>,
        pieces: &mut dyn FnMut() -> Option<Result<web::body::Bytes, String>>,
    ) -> Reply {
        let format = exposition::format_of_content_type(content_type.unwrap_or("text/plain"));
        let Some(format) = format.filter(|format| !format.is_protobuf()) else {
            let kind = content_type.unwrap_or_default();
            return refused(
                415,
                &format!("{kind} cannot be imported; send text/plain or application/openmetrics-text"),
            );
        };
        let mut import = Import::new(storage, now, format);
        loop {
            match pieces() {
                None => break,
                Some(Ok(piece)) => {
                    if let Err(error) = import.push(&piece) {
                        return told(import.so_far(), Err(error));
                    }
                }
                // Half a line is no line: what arrived whole was stored.
                Some(Err(why)) => return json(400, &format!("the body broke off: {why}"), import.so_far()),
            }
        }
        let (imported, result) = import.finish();
        told(imported, result)
    }

    fn choose(&self, body: &[u8]) -> Result<Box<dyn Chosen>, Reply> {
        match Read::parse(body) {
            Ok(read) => Ok(Box::new(Reading(read))),
            Err(failure) => Err(unread(&failure)),
        }
    }
}

/// A remote read that is understood.
struct Reading(Read);

fn unread(failure: &ReadFailure) -> Reply {
    refused(if matches!(failure, ReadFailure::Storage(_)) { 500 } else { 400 }, &failure.to_string())
}

impl Chosen for Reading {
    fn headers(&self) -> (&'static str, Option<&'static str>) {
        match self.0.kind {
            Kind::Samples => ("application/x-protobuf", Some("snappy")),
            Kind::Chunks => ("application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse", None),
        }
    }

    fn answer(
        &mut self,
        storage: &dyn Storage,
        external: &Labels,
        take: &mut dyn FnMut(Vec<u8>) -> bool,
    ) -> Result<(), Reply> {
        self.0.answer(storage, external, take).map_err(|failure| unread(&failure))
    }
}

fn told(imported: Imported, result: Result<(), ImportError>) -> Reply {
    match result {
        Ok(()) => json(200, "", imported),
        Err(error @ ImportError::Storage { .. }) => json(500, &error.to_string(), imported),
        Err(error) => json(400, &error.to_string(), imported),
    }
}

/// The API's envelope, with what was stored in any case.
fn json(status: u16, error: &str, imported: Imported) -> Reply {
    let Imported { samples, exemplars, out_of_order, duplicates, out_of_bounds, nameless } = imported;
    let data = format!(
        "{{\"samples\":{samples},\"exemplars\":{exemplars},\"outOfOrder\":{out_of_order},\"duplicates\":{duplicates},\
         \"outOfBounds\":{out_of_bounds},\"nameless\":{nameless}}}"
    );
    let body = if status == 200 {
        format!("{{\"status\":\"success\",\"data\":{data}}}")
    } else {
        let kind = if status == 400 { "bad_data" } else { "internal" };
        let error = api::json_string(error);
        format!("{{\"status\":\"error\",\"errorType\":\"{kind}\",\"error\":{error},\"data\":{data}}}")
    };
    Reply { status, content_type: Some(JSON), body, headers: Vec::new() }
}
