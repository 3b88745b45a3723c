//! The gateway behind TLS and passwords, as the web configuration sets them up; and what its files let others see.

use crate::{
    key::key,
    push::{Target, config, send},
    served::{Answer, Served, exchange, soon},
};
use runtime::{Clock, Tasks};
use std::{io::Write, os::unix::fs::PermissionsExt, path::Path, time::Duration};
use web::http::Method;

fn write(path: &Path, text: &str) {
    std::fs::File::create(path).and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
}

/// A folder with a certificate for `localhost`, a web configuration and client sections with a right and a wrong
/// password.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("made");
    let at = |name: &str| folder.path().join(name);
    write(&at("cert.pem"), &made.cert.pem());
    write(&at("key.pem"), &made.signing_key.serialize_pem());
    let hash = bcrypt::hash("right", 4).expect("a hash");
    let users = format!("basic_auth_users: {{alice: '{hash}'}}\n");
    write(&at("web.yml"), &format!("tls_server_config: {{cert_file: cert.pem, key_file: key.pem}}\n{users}"));
    for (name, password) in [("right.yml", "right"), ("wrong.yml", "wrong")] {
        let text =
            format!("basic_auth: {{username: alice, password: {password}}}\ntls_config: {{ca_file: cert.pem}}\n");
        write(&at(name), &text);
    }
    folder
}

#[tokio::test]
async fn pushes_go_through_tls_and_passwords() {
    let folder = folder();
    let file = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let served = Served::start(&[&format!("--web.config.file={}", file("web.yml"))]).await;
    let url = format!("https://{}", served.address);
    let (clock, key) = (Clock::system(), key(&[("job", "a/b"), ("instance", "i")]));
    let push = async |section: &str, method: Method, body: &str| {
        let options = client::Options::new(clock.clone(), Tasks::new(clock.clone()), "test");
        let client = client::Client::new(config(&file(section)).expect("a section"), options).expect("a client");
        let target = Target { url: url.clone(), key: key.clone(), timeout: Duration::from_secs(30) };
        let sent = send(&client, &target, method, body.into()).await;
        let mut body = Vec::new();
        let scraped = format!("{url}/metrics");
        let scrape = client::Request::get(&scraped, Duration::from_secs(30), 1 << 20);
        let status = client.fetch(&scrape, &mut body).await.expect("an answer").status;
        (sent.map_err(|error| format!("{error:#}")), status.as_u16(), String::from_utf8_lossy(&body).into_owned())
    };
    let (sent, status, text) = push("right.yml", Method::PUT, "m 1\n").await;
    assert_eq!((sent, status), (Ok(()), 200));
    assert!(text.contains("m{instance=\"i\",job=\"a/b\"} 1\n"), "{text}");
    let (sent, status, text) = push("wrong.yml", Method::DELETE, "").await;
    assert!(sent.is_err_and(|why| why.contains("401")) && status == 401 && !text.contains("job="), "{text}");
    let (sent, _, text) = push("right.yml", Method::DELETE, "").await;
    assert!(sent.is_ok() && !text.contains("job=\"a/b\""), "{text}");
    let plain: Answer = served.ask("PUT", "/metrics/job/a", &[], "m 1\n").await;
    assert_ne!(plain.status, 200, "nothing goes in without TLS: {plain:?}");
    served.stop().await;
}

#[tokio::test]
async fn a_password_without_tls_is_asked_for_too() {
    let folder = folder();
    let path = folder.path().join("plain.yml");
    let text = std::fs::read_to_string(folder.path().join("web.yml")).expect("there");
    write(&path, text.split_once('\n').expect("two lines").1);
    let served = Served::start(&[&format!("--web.config.file={}", path.display())]).await;
    let check = async |credentials: Option<&str>, want: u16| {
        let stream = soon(tokio::net::TcpStream::connect(served.address)).await.expect("connects");
        let headers: Vec<(&str, &str)> = credentials.iter().map(|text| ("Authorization", *text)).collect();
        let answer = soon(exchange(stream, "PUT", "/metrics/job/a", &headers, b"m 1\n")).await;
        assert_eq!(answer.status, want, "{credentials:?}");
    };
    check(None, 401).await;
    check(Some("Basic YWxpY2U6d3Jvbmc="), 401).await;
    check(Some("Basic YWxpY2U6cmlnaHQ="), 200).await;
    served.stop().await;
}

#[tokio::test]
async fn files_are_for_the_gateway_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(&[&format!("--persistence.file={}", folder.path().join("data").display())]).await;
    assert_eq!(served.push("PUT", "/metrics/job/a", "m 1\n").await, 200);
    let check = |least: usize| {
        let all: Vec<_> =
            std::fs::read_dir(folder.path()).expect("a folder").map(|file| file.expect("a file")).collect();
        assert!(all.len() >= least, "{all:?}");
        for file in all {
            assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o600, "{file:?}");
        }
    };
    check(2);
    served.stop().await;
    check(2);
}
