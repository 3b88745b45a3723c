//! Passwords, headers, rate limit, and the file that is read again, over real sockets.

use crate::testing::{Folder, ask, hello};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::net::SocketAddr;

/// Hash of `fish`.
fn hash() -> String {
    bcrypt::hash("fish", 4).expect("a hash")
}

async fn call(address: SocketAddr, credentials: &str) -> String {
    let authorization = match credentials {
        "" => String::new(),
        given => format!("Authorization: Basic {}\r\n", STANDARD.encode(given)),
    };
    ask(address, format!("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{authorization}\r\n").as_bytes()).await
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or_default()
}

/// The lines of an answer without its date, sorted but for the first, and the body.
fn shape(answer: &str) -> (Vec<String>, String) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let mut lines: Vec<String> =
        head.lines().map(str::to_lowercase).filter(|line| !line.starts_with("date: ")).collect();
    lines[1..].sort();
    (lines, body.to_owned())
}

/// What pushgateway 1.11.2 answers to the same.
#[tokio::test]
async fn refusals_look_as_those_of_upstream() {
    let text = format!(
        "basic_auth_users: {{joe: '{}'}}\nhttp_server_config: {{headers: {{X-Frame-Options: deny}}}}\n\
         rate_limit: {{interval: 1h, burst: 2}}",
        hash()
    );
    let folder = Folder::new(&text);
    let served = folder.served();
    let plain = |first: &str, more: &[&str], body: &str| {
        let length = format!("content-length: {}", body.len());
        let fixed = [
            "connection: close",
            &length,
            "content-type: text/plain; charset=utf-8",
            "x-content-type-options: nosniff",
        ];
        let mut lines: Vec<String> = fixed.iter().chain(more).map(|line| (*line).to_owned()).collect();
        lines.sort();
        lines.insert(0, first.to_owned());
        (lines, body.to_owned())
    };
    served
        .with(hello(), async |address| {
            let unauthorized = ["www-authenticate: basic", "x-frame-options: deny"];
            let expected = plain("http/1.1 401 unauthorized", &unauthorized, "Unauthorized\n");
            assert_eq!(shape(&call(address, "").await), expected);
            let passed = call(address, "joe:fish").await;
            assert!(passed.starts_with("HTTP/1.1 200") && passed.contains("x-frame-options: deny\r\n"), "{passed}");
            let expected = plain("http/1.1 429 too many requests", &[], "Too Many Requests\n");
            assert_eq!(shape(&call(address, "joe:fish").await), expected);
            folder.put("web.yml", "junk: 1");
            let expected = plain("http/1.1 500 internal server error", &[], "Internal Server Error\n");
            assert_eq!(shape(&call(address, "joe:fish").await), expected);
        })
        .await;
    for (reason, count) in [("no_password", 1.0), ("wrong_password", 0.0), ("rate_limit", 1.0), ("config", 1.0)] {
        let series = format!("narthex_http_requests_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(served.value(&series), count, "{reason}");
    }
    assert_eq!(served.value("narthex_web_config_last_reload_successful"), 0.0);
}

#[tokio::test]
async fn users_come_and_go_without_a_signal() {
    let folder = Folder::new("");
    let served = folder.served();
    served
        .with(hello(), async |address| {
            let statuses = async || {
                let mut all = Vec::new();
                for credentials in ["", "ann:fish", "ben:fish", "ann:wrong"] {
                    all.push(status(&call(address, credentials).await).to_owned());
                }
                all
            };
            assert_eq!(statuses().await, ["200"; 4]);
            folder.put("web.yml", &format!("basic_auth_users: {{ann: '{}'}}", hash()));
            assert_eq!(statuses().await, ["401", "200", "401", "401"]);
            assert_eq!(statuses().await, ["401", "200", "401", "401"], "remembered");
            // A wrong hash keeps its user out and nobody else.
            folder.put("web.yml", &format!("basic_auth_users: {{ann: doe, ben: '{}'}}", hash()));
            assert_eq!(statuses().await, ["401", "401", "200", "401"]);
            folder.put("web.yml", "[");
            assert_eq!(statuses().await, ["500"; 4]);
            folder.disk.remove("web.yml").expect("removed");
            assert_eq!(statuses().await, ["500"; 4]);
            folder.put("web.yml", "");
            assert_eq!(statuses().await, ["200"; 4]);
        })
        .await;
    assert_eq!(served.value("narthex_web_config_last_reload_successful"), 1.0);
}

/// A change in place that keeps name, size and file.
#[tokio::test]
async fn a_file_rewritten_in_place_is_seen() {
    let folder = Folder::new("http_server_config: {headers: {X-XSS-Protection: a}}");
    folder
        .served()
        .with(hello(), async |address| {
            for value in ["b", "c", "d", "e", "f"] {
                let file = folder.disk.open_file("web.yml", runtime::Open::Write).expect("opens");
                let at = file.len().expect("a length") - 3;
                file.write_at(at, value.as_bytes()).expect("written");
                assert!(call(address, "").await.contains(&format!("x-xss-protection: {value}\r\n")), "{value}");
            }
        })
        .await;
}

#[tokio::test]
async fn a_handler_may_set_the_header_itself() {
    let folder = Folder::new("http_server_config: {headers: {X-Frame-Options: deny}}");
    let own = axum::routing::get(|| async { ([("x-frame-options", "sameorigin")], "own") });
    folder
        .served()
        .with(axum::Router::new().route("/", own), async |address| {
            let answer = call(address, "").await;
            assert!(answer.contains("x-frame-options: sameorigin") && !answer.contains("deny"), "{answer}");
        })
        .await;
}

#[test]
fn a_wrong_hash_or_header_stops_the_start() {
    for text in ["basic_auth_users: {a: doe}", "http_server_config: {headers: {X-Frame-Options: foo}}"] {
        let folder = Folder::new(text);
        assert!(crate::Listeners::bind(&folder.served().config).is_err(), "{text}");
    }
}
