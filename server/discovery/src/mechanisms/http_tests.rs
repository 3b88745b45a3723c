//! Answers, refusals, and an endpoint that changes its mind.

use super::*;
use crate::testing::{Bench, configs, refusal};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

#[test]
fn what_is_no_url_is_refused_in_upstreams_words() {
    for (yaml, want) in [
        ("{}", "URL is missing"),
        ("{url: 'ftp://x'}", "URL scheme must be 'http' or 'https'"),
        ("{url: localhost}", "URL scheme must be 'http' or 'https'"),
        ("{url: 'http://'}", ""),
        ("{url: 'http://x', bearer_token: a, bearer_token_file: b}", "at most one of bearer_token"),
        ("{urls: x}", "unknown field `urls`"),
    ] {
        let refusal = refusal(&format!("http_sd_configs: [{yaml}]"));
        assert!(refusal.contains(want), "{yaml}: {refusal}");
    }
}

#[test]
fn the_content_type_must_be_json_in_utf8() {
    for (kind, want) in [
        ("application/json", true),
        ("Application/JSON", true),
        ("application/json;charset=utf-8", true),
        ("application/json; charset=\"UTF-8\"", true),
        ("application/json; charset=latin1", false),
        ("application/json; version=1", false),
        ("text/json", false),
        ("", false),
    ] {
        assert_eq!(is_json(kind), want, "{kind}");
    }
}

#[test]
fn bodies_are_lists_of_groups() {
    let good = groups(br#"[{"labels":{"k":"v"},"targets":["a","b"]},{"targets":[]}]"#, "u").expect("valid");
    assert_eq!((good[0].source.as_str(), good[0].targets.len(), good.len()), ("u:0", 2, 2));
    assert!(groups(b"null", "u").expect("as upstream").is_empty());
    for bad in ["", "{}", "[null]", r#"[{"target":[]}]"#, r#"[{"targets":[1]}]"#, r#"[{"labels":{"a":1}}]"#] {
        assert!(groups(bad.as_bytes(), "u").is_err(), "{bad}");
    }
}

/// An endpoint that gives every caller what `answer` holds, and remembers the heads of requests.
async fn endpoint(answer: Arc<Mutex<String>>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/sd", listener.local_addr().expect("bound"));
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = heads.clone();
    runtime::Tasks::new(Clock::system()).spawn_once("endpoint", async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = socket.read_u8().await else { break };
                head.push(byte);
            }
            seen.lock().push(String::from_utf8_lossy(&head).into_owned());
            let text = answer.lock().clone();
            let _ = socket.write_all(text.as_bytes()).await;
        }
    });
    (url, heads)
}

fn json(body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nConnection: close\r\nContent-Length: \
         {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn targets_follow_the_answers_and_failures_keep_them() {
    let answer = Arc::new(Mutex::new(json(r#"[{"targets":["a"]},{"targets":["b"],"labels":{"k":"v"}}]"#)));
    let (url, heads) = endpoint(answer.clone()).await;
    let bench = Bench::quick();
    let yaml =
        format!("http_sd_configs: [{{url: '{url}', refresh_interval: 20ms, authorization: {{credentials: s}}}}]");
    bench.apply(&[("j", configs(&yaml, Path::new("")))]);
    let first = bench.until(|targets| targets.len() == 2).await;
    bench.told();
    assert_eq!(
        first,
        [
            format!("{{__address__=\"a\", __meta_url=\"{url}\"}}"),
            format!("{{__address__=\"b\", __meta_url=\"{url}\", k=\"v\"}}"),
        ]
    );
    let head = heads.lock()[0].to_ascii_lowercase();
    for line in [
        "accept: application/json\r\n",
        "x-prometheus-refresh-interval-seconds: 0.02\r\n",
        "authorization: bearer s\r\n",
    ] {
        assert!(head.contains(line), "{line}{head}");
    }
    *answer.lock() = "HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".into();
    while bench.metric("prometheus_sd_http_failures_total", "{}") < 2.0 {
        bench.clock.sleep(Duration::from_millis(5)).await;
    }
    assert!(bench.metric("prometheus_sd_refresh_failures_total", "{mechanism=\"http\"}") >= 2.0);
    assert_eq!(bench.told(), [], "failures tell nothing");
}
