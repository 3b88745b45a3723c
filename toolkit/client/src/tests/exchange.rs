//! Plain exchanges: reuse, redirects, limits, deadlines, and how failures read.

use super::{
    AMPLE, BODY_MAX, ask, client, failure, get,
    server::{head, http, plain, raw, saying, with},
    text,
};
use crate::{Cause, Encoding, FetchError, Request};
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Method};
use std::{io::Write, time::Duration};
use tokio::io::AsyncWriteExt;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

#[tokio::test]
async fn connections_are_used_again_and_headers_are_upstreams() {
    let server = http(|seen| plain(format!("answer to {}", seen.uri))).await;
    let client = client("{http_headers: {x-tenant: {values: [a, b], secrets: [c]}}}");
    for path in ["/a", "/b?c=d", "/e"] {
        assert_eq!(text(&client, &server.url(path)).await, format!("answer to {path}"));
    }
    let seen = server.seen();
    assert!(seen.iter().all(|one| one.connection == 0), "one connection for all");
    for (name, expected) in [
        ("host", server.address.to_string().as_str()),
        ("user-agent", "tester/1"),
        ("accept-encoding", "gzip"),
        ("x-tenant", "a,b,c"),
        ("authorization", ""),
    ] {
        assert_eq!(seen[2].header(name), expected, "{name}");
    }
}

#[tokio::test]
async fn bodies_are_decompressed_into_the_callers_memory() {
    let server = http(|seen| match seen.uri.as_str() {
        "/gzip" => with(200, "content-encoding", "gzip", gzip(b"packed")),
        "/zstd" => with(200, "content-encoding", "zstd", zstd::encode_all(&b"zipped"[..], 1).expect("in memory")),
        _ => plain("bare"),
    })
    .await;
    let client = client("{}");
    let mut body = Vec::with_capacity(4096);
    let place = body.as_ptr();
    for (path, expected) in [("/", "bare"), ("/gzip", "packed"), ("/zstd", "zipped")] {
        let url = server.url(path);
        let request = Request { accept: &[Encoding::Zstd, Encoding::Gzip], ..Request::get(&url, AMPLE, 4096) };
        client.fetch(&request, &mut body).await.expect(path);
        assert_eq!(body, expected.as_bytes());
        assert_eq!(server.last().header("accept-encoding"), "zstd, gzip");
    }
    assert!(body.as_ptr() == place || body.capacity() > 4096, "a plain body moves nothing");
    let url = server.url("/");
    ask(&client, &Request { accept: &[], ..Request::get(&url, AMPLE, 99) }).await.expect("answers");
    assert_eq!(server.last().header("accept-encoding"), "identity");
}

#[tokio::test]
async fn a_bomb_and_an_endless_body_stop_at_the_limit() {
    let bomb = gzip(&vec![0; 8 << 20]);
    let server = http(move |_| with(200, "content-encoding", "gzip", bomb.clone())).await;
    let client = client("{}");
    let mut body = Vec::new();
    let url = server.url("/");
    let error = client.fetch(&Request::get(&url, AMPLE, BODY_MAX), &mut body).await.expect_err("a bomb");
    assert_eq!(error.to_string(), "body size limit exceeded");
    assert!(body.capacity() < 4 << 20, "{}", body.capacity());

    let endless = raw(|mut socket, _| async move {
        head(&mut socket).await;
        let mut sent = socket.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        while sent.is_ok() {
            sent = socket.write_all(b"8\r\n12345678\r\n").await;
        }
    })
    .await;
    let url = format!("http://{endless}/");
    let error = client.fetch(&Request::get(&url, AMPLE, 1000), &mut body).await.expect_err("endless");
    assert_eq!(error, FetchError::BodyLimit);
}

#[tokio::test]
async fn what_a_refusal_says_is_kept_and_cut() {
    let server = http(|seen| match seen.uri.as_str() {
        "/long" => with(500, "x-y", "z", vec![b'a'; 200_000]),
        "/odd" => with(404, "content-encoding", "gzip", "?"),
        _ => with(503, "x-y", "z", "try later"),
    })
    .await;
    let client = client("{}");
    let (response, body) = get(&client, &server.url("/")).await.expect("an answer");
    assert_eq!((response.status_line.as_str(), body.as_str()), ("503 Service Unavailable", "try later"));
    assert_eq!(response.headers["x-y"], "z");
    assert_eq!(get(&client, &server.url("/long")).await.expect("an answer").1.len(), 64 << 10);
    assert_eq!(get(&client, &server.url("/odd")).await.expect("an answer").1, "");
    let own = saying(b"HTTP/1.1 429 Slow Down\r\nContent-Length: 0\r\n\r\n").await;
    let (response, _) = get(&client, &format!("http://{own}/")).await.expect("an answer");
    assert_eq!(response.status_line, "429 Slow Down");
    let wordless = saying(b"HTTP/1.1 599\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(get(&client, &format!("http://{wordless}/")).await.expect("an answer").0.status_line, "599");
}

#[tokio::test]
async fn slow_servers_stop_at_the_deadline() {
    let silent = raw(|mut socket, _| async move {
        head(&mut socket).await;
        std::future::pending::<()>().await;
    })
    .await;
    let dripping = raw(|mut socket, _| async move {
        head(&mut socket).await;
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab").await;
        std::future::pending::<()>().await;
    })
    .await;
    let client = client("{}");
    let short = Duration::from_millis(200);
    let url = format!("http://{silent}/");
    let error = ask(&client, &Request::get(&url, short, 9)).await.expect_err("silent");
    assert_eq!(error.to_string(), format!("Get \"{url}\": context deadline exceeded"));
    assert!(error.is_deadline());
    let url = format!("http://{dripping}/");
    let error = ask(&client, &Request::get(&url, short, 99)).await.expect_err("dripping");
    assert_eq!(error, FetchError::Body(Cause::Deadline));
}

#[tokio::test]
async fn failures_read_as_gos() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("bound")
    };
    let client = client("{}");
    let mute = raw(|mut socket, _| async move {
        head(&mut socket).await;
    })
    .await;
    let cut = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab").await;
    let foreign = saying(b"SSH-2.0-OpenSSH\r\n").await;
    let unchunked = saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").await;
    for (url, expected) in [
        (
            format!("http://user:pw@{closed}/x"),
            format!("Get \"http://user:***@{closed}/x\": dial tcp {closed}: connect: connection refused"),
        ),
        (format!("http://{mute}/"), format!("Get \"http://{mute}/\": EOF")),
        (format!("http://{cut}/"), "unexpected EOF".to_owned()),
        (format!("http://{unchunked}/"), "invalid byte in chunk length".to_owned()),
        (
            format!("http://{foreign}/"),
            format!(
                "Get \"http://{foreign}/\": net/http: HTTP/1.x transport connection broken: malformed HTTP response"
            ),
        ),
        ("ftp://x/".to_owned(), "Get \"ftp://x/\": unsupported protocol scheme \"ftp\"".to_owned()),
    ] {
        assert_eq!(failure(&client, &url).await, expected, "{url}");
    }
}

#[tokio::test]
async fn a_connection_that_the_server_gave_up_costs_nothing() {
    let one_each = raw(|mut socket, number| async move {
        head(&mut socket).await;
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na").await;
        // The first connection takes one more request and ends without an answer.
        if number == 0 {
            head(&mut socket).await;
        } else {
            std::future::pending::<()>().await;
        }
    })
    .await;
    let client = client("{}");
    let url = format!("http://{one_each}/");
    assert_eq!(text(&client, &url).await, "a");
    assert_eq!(text(&client, &url).await, "a");
}

#[tokio::test]
async fn redirects_follow_gos_rules() {
    let server = http(|seen| match seen.uri.split('/').collect::<Vec<_>>()[..] {
        ["", status, "to", ..] => with(status.parse().expect("a status"), "location", "../end", "moved"),
        ["", "foreign"] => with(302, "location", "ftp://x/y", ""),
        ["", "nowhere"] => with(302, "x-y", "z", "stays"),
        ["", "loop"] => with(302, "location", "/loop", ""),
        _ => plain(format!("{} {} {}", seen.method, seen.uri, seen.body)),
    })
    .await;
    let client = client("{}");
    for (method, status, expected) in [
        (Method::GET, 301, "GET /301/end "),
        (Method::POST, 302, "GET /302/end "),
        (Method::PUT, 303, "GET /303/end "),
        (Method::POST, 307, "POST /307/end data"),
        (Method::PUT, 308, "PUT /308/end data"),
    ] {
        let url = server.url(&format!("/{status}/to/x"));
        let body = if method == Method::GET { "" } else { "data" };
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("text/x"));
        let request = Request { method, body: body.into(), headers, ..Request::get(&url, AMPLE, BODY_MAX) };
        let (response, text) = ask(&client, &request).await.expect("an answer");
        assert_eq!(text, expected);
        assert_eq!(response.url, server.url(&format!("/{status}/end")));
        let last = server.last();
        assert_eq!(last.header("referer"), url);
        assert_eq!(last.header("content-type").is_empty(), status < 307, "{status}");
    }
    assert_eq!(text(&client, &server.url("/nowhere")).await, "stays", "without a place to go it is the answer");
    let foreign = failure(&client, &server.url("/foreign")).await;
    assert_eq!(foreign, "Get \"ftp://x/y\": unsupported protocol scheme \"ftp\"");
    let before = server.seen().len();
    let looped = failure(&client, &server.url("/loop")).await;
    assert_eq!(looped, "Get \"/loop\": stopped after 10 redirects");
    assert_eq!(server.seen().len() - before, 10);
    assert!(server.seen().iter().all(|one| one.connection == 0), "redirects use their connection again");

    let stays = super::client("{follow_redirects: false}");
    let (response, body) = get(&stays, &server.url("/301/to/x")).await.expect("an answer");
    assert_eq!((response.status.as_u16(), body.as_str()), (301, "moved"));
}

#[tokio::test]
async fn credentials_and_headers_do_not_leave_their_host() {
    let other = http(|_| plain("other")).await;
    let place = format!("http://localhost:{}/", other.address.port());
    let server = http(move |_| with(302, "location", &place, "")).await;
    let client = client("{bearer_token: secret, http_headers: {x-key: {secrets: [k]}}}");
    let url = server.url("/");
    let mut headers = HeaderMap::new();
    headers.insert("cookie", HeaderValue::from_static("c=d"));
    headers.insert("accept", HeaderValue::from_static("text/plain"));
    ask(&client, &Request { headers, ..Request::get(&url, AMPLE, 99) }).await.expect("an answer");
    let (first, second) = (server.last(), other.last());
    let names = ["authorization", "x-key", "cookie", "accept"];
    assert_eq!(names.map(|name| first.header(name)), ["Bearer secret", "k", "c=d", "text/plain"]);
    assert_eq!(names.map(|name| second.header(name)), ["", "", "", "text/plain"]);
}

#[tokio::test]
async fn a_user_in_the_address_is_basic_authentication() {
    let server = http(|seen| plain(seen.header("authorization"))).await;
    let url = format!("http://u:p%40@{}/", server.address);
    assert_eq!(text(&client("{}"), &url).await, "Basic dTpwQA==");
    assert_eq!(text(&client("{bearer_token: t}"), &url).await, "Bearer t");
}

#[test]
fn sections_that_cannot_work_are_refused_when_a_client_is_made() {
    for (yaml, expected) in [
        ("{bearer_token: a, bearer_token_file: b}", "at most one of bearer_token"),
        ("{proxy_url: 'ftp://x'}", "invalid proxy address \"ftp://x\""),
        ("{proxy_url: 'http://x', proxy_connect_header: {a b: [c]}}", "proxy_connect_header holds"),
        ("{http_headers: {'a b': {values: [c]}}}", "net/http: invalid header field name \"a b\""),
        ("{http_headers: {a: {values: [\"c\\n\"]}}}", "net/http: invalid header field value for \"A\""),
        ("{tls_config: {ca: nonsense}}", "unable to use specified CA cert inline"),
        ("{tls_config: {min_version: TLS13, max_version: TLS12}}", "tls_config.max_version must be greater than"),
        ("{tls_config: {max_version: TLS11}}", "below TLS12 is valid upstream but not spoken"),
    ] {
        let refused = crate::Client::new(super::section(yaml), super::options()).expect_err(yaml).to_string();
        assert!(refused.contains(expected), "{yaml}: {refused}");
    }
}
