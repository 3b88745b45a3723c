//! Fetching a body: what a scrape asks for, and what it takes for an answer. How targets are called is the client's.

use crate::{Failure, ScrapeConfig, runner::Shared};
use client::{Client, Encoding, FetchError, Options, Request};
use exposition::Format;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};
use parking_lot::Mutex;
use std::time::Duration;

/// How long the target may take, in seconds.
const TIMEOUT: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

/// Bytes of a body when the configuration sets no limit.
const BODY_MAX: u64 = 1 << 30;

/// Memory of bodies that is kept: for about as many scrapes as are under way at one time.
const BODIES_MAX: usize = 8;

/// Bytes of the largest body whose memory is kept.
const BODY_KEPT_MAX: usize = 4 << 20;

/// Memory of bodies between scrapes, shared by all targets.
#[derive(Debug, Default)]
pub(crate) struct Bodies(Mutex<Vec<Vec<u8>>>);

impl Bodies {
    pub(crate) fn take(&self) -> Vec<u8> {
        self.0.lock().pop().unwrap_or_default()
    }

    pub(crate) fn give(&self, mut body: Vec<u8>) {
        body.clear();
        let mut kept = self.0.lock();
        if kept.len() < BODIES_MAX && body.capacity() <= BODY_KEPT_MAX {
            kept.push(body);
        }
    }
}

/// Calls the targets of a job, with connections of its own; or says why it cannot. Clones share the connections.
#[derive(Clone, Debug)]
pub(crate) struct Http(Result<Client, String>);

impl Http {
    pub(crate) fn new(config: &ScrapeConfig, shared: &Shared) -> Self {
        let agent = concat!("Prometheus/", env!("CARGO_PKG_VERSION"));
        let options = Options {
            environment: shared.proxies.clone(),
            idle_per_host: 1,
            ..Options::new(shared.clock.clone(), shared.tasks.clone(), agent)
        };
        let client = Client::new(config.http.clone(), options);
        Self(client.map_err(|error| {
            tracing::error!(scrape_pool = config.job_name, %error, "Creating the HTTP client failed");
            format!("error creating HTTP client: {error}")
        }))
    }

    /// Whether there is a client.
    pub(crate) fn works(&self) -> bool {
        self.0.is_ok()
    }

    /// One GET into `body`.
    pub(crate) async fn fetch(
        &self,
        url: &str,
        config: &ScrapeConfig,
        timeout: Duration,
        body: &mut Vec<u8>,
    ) -> Result<Format, Failure> {
        let client = self.0.as_ref().map_err(|why| Failure::new(why.clone()))?;
        let limit = if config.body_size_limit > 0 { config.body_size_limit } else { BODY_MAX };
        let request = Request {
            headers: headers(timeout, config),
            accept: if compressed(url, config) { &[Encoding::Gzip] } else { &[] },
            ..Request::get(url, timeout, limit)
        };
        let response = client.fetch(&request, body).await.map_err(|error| match error {
            FetchError::BodyLimit => Failure::body_limit(),
            error => Failure::new(error.to_string()),
        })?;
        if response.status != StatusCode::OK {
            return Err(Failure::new(format!("server returned HTTP status {}", response.status_line)));
        }
        let kind = response.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        format(kind, config)
    }
}

/// Whether a compressed body is worth its inflating.
fn compressed(url: &str, config: &ScrapeConfig) -> bool {
    config.compression && !(config.features.plain_on_loopback && is_loopback(url))
}

/// Whether the target is on this machine. Names are not looked up, but `localhost` is known.
fn is_loopback(url: &str) -> bool {
    let Some(host) = url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)) else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    address.parse::<std::net::IpAddr>().map_or(host.eq_ignore_ascii_case("localhost"), |ip| ip.is_loopback())
}

fn headers(timeout: Duration, config: &ScrapeConfig) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let accept = exposition::accept_header(&config.protocols, config.escaping);
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(ACCEPT, accept);
    }
    if let Ok(seconds) = timeout.as_secs_f64().to_string().try_into() {
        headers.insert(TIMEOUT, seconds);
    }
    headers
}

/// The content type picks the format; without a known one only the configured fallback helps.
fn format(kind: &str, config: &ScrapeConfig) -> Result<Format, Failure> {
    exposition::format_of_content_type(kind).or(config.fallback).ok_or_else(|| {
        Failure::new(format!(
            "received unsupported Content-Type {kind:?} and no fallback_scrape_protocol specified for target"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::tests::config;
    use runtime::{Clock, Tasks};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    /// What a scrape makes of an answer, and the head of its request.
    async fn scrape(config: &ScrapeConfig, answer: &'static str) -> (Result<(Format, String), String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/m", listener.local_addr().expect("bound"));
        let clock = Clock::system();
        let options = Options::new(clock.clone(), Tasks::new(clock), "Prometheus/x");
        let http = Http(Client::new(config.http.clone(), options).map_err(|error| error.to_string()));
        let serve = async {
            let (mut socket, _) = listener.accept().await.expect("a caller");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(socket.read_u8().await.expect("a head"));
            }
            socket.write_all(answer.as_bytes()).await.expect("taken");
            String::from_utf8(head).expect("text")
        };
        let mut body = Vec::new();
        let (fetched, head) = tokio::join!(http.fetch(&url, config, Duration::from_secs(60), &mut body), serve);
        let text = String::from_utf8(body).expect("text");
        (fetched.map(|format| (format, text)).map_err(|error| error.to_string()), head)
    }

    #[tokio::test]
    async fn an_answer_is_a_body_with_a_format_or_a_failure_in_upstreams_words() {
        let plain = config(&[]);
        let compressed = ScrapeConfig { compression: false, fallback: Some(Format::Text100), ..config(&[]) };
        let limited = ScrapeConfig { body_size_limit: 4, ..config(&[]) };
        let text = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\na 1\n";
        let typeless = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n";
        for (config, answer, expected) in [
            (&plain, text, Ok((Format::Text004, "a 1\n"))),
            (&compressed, typeless, Ok((Format::Text100, "a 1\n"))),
            (&limited, text, Err("body size limit exceeded")),
            (
                &plain,
                typeless,
                Err("received unsupported Content-Type \"\" and no fallback_scrape_protocol specified for target"),
            ),
            (&plain, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", Err("server returned HTTP status 503 Busy")),
            (&plain, "HTTP/1.1 204 No Content\r\n\r\n", Err("server returned HTTP status 204 No Content")),
        ] {
            let (fetched, head) = scrape(config, answer).await;
            let fetched = fetched.as_ref().map(|(format, text)| (*format, text.as_str())).map_err(String::as_str);
            assert_eq!(fetched, expected, "{answer}");
            let encoding =
                if config.compression { "Accept-Encoding: gzip\r\n" } else { "Accept-Encoding: identity\r\n" };
            for line in [encoding, "X-Prometheus-Scrape-Timeout-Seconds: 60\r\n", "User-Agent: Prometheus/x\r\n"] {
                assert!(head.contains(line), "{line}{head}");
            }
        }
    }

    #[test]
    fn local_targets_are_asked_for_plain_bodies_when_that_is_wanted() {
        let mut one = config(&[]);
        for (url, local) in [
            ("http://127.0.0.1:9/m", true),
            ("http://[::1]/m", true),
            ("https://localhost:1/", true),
            ("http://10.0.0.1/m", false),
            ("http://localhost.example/m", false),
        ] {
            one.features.plain_on_loopback = false;
            assert!(compressed(url, &one), "{url}");
            one.features.plain_on_loopback = true;
            assert_eq!(compressed(url, &one), !local, "{url}");
        }
    }

    #[test]
    fn memory_of_bodies_is_kept_within_bounds() {
        let bodies = Bodies::default();
        bodies.give(Vec::with_capacity(BODY_KEPT_MAX + 1));
        assert_eq!(bodies.take().capacity(), 0);
        (0..2 * BODIES_MAX).for_each(|_| bodies.give(vec![0; 9]));
        assert_eq!(bodies.0.lock().len(), BODIES_MAX);
        let body = bodies.take();
        assert!(body.is_empty() && body.capacity() >= 9);
    }
}
