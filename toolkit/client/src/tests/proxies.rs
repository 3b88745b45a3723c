//! Ways through proxies: absolute addresses, tunnels, SOCKS.

use super::{
    failure, options, section,
    server::{head, http, plain, raw, relay, saying},
    text,
};
use crate::{Client, ProxyEnvironment};
use parking_lot::Mutex;
use std::{net::SocketAddr, sync::Arc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn client(yaml: &str) -> Client {
    super::client(yaml)
}

/// A proxy that opens tunnels to one place, whatever is asked for, and what it was asked.
async fn tunnels_to(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let into = heads.clone();
    let address = raw(move |mut socket, _| {
        let into = into.clone();
        async move {
            let asked = head(&mut socket).await;
            into.lock().push(asked);
            if socket.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_ok() {
                relay(socket, to).await;
            }
        }
    })
    .await;
    (address, heads)
}

#[tokio::test]
async fn plain_requests_name_the_whole_address_to_a_proxy() {
    let proxy = http(|seen| plain(format!("{} {}", seen.uri, seen.header("proxy-authorization")))).await;
    let client =
        client(&format!("{{proxy_url: 'http://me:p%20w@{}', proxy_connect_header: {{x: [y]}}}}", proxy.address));
    let url = "http://metrics.invalid:9100/m?a=b";
    assert_eq!(text(&client, url).await, format!("{url} Basic bWU6cCB3"));
    assert_eq!(proxy.last().header("host"), "metrics.invalid:9100");
    assert_eq!(proxy.last().header("x"), "");
    text(&client, "http://metrics.invalid:80/m").await;
    assert_eq!(proxy.last().header("host"), "metrics.invalid:80", "as written");
    text(&client, url).await;
    assert_eq!((proxy.seen().len(), proxy.last().connection), (3, 0), "a connection to each host");
}

#[tokio::test]
async fn tls_goes_through_a_tunnel() {
    let server = super::secure::unverified().await;
    let (proxy, heads) = tunnels_to(server.address).await;
    let client = client(&format!(
        "{{proxy_url: 'http://me:pw@{proxy}', proxy_connect_header: {{x-zone: [a, b]}}, \
         tls_config: {{insecure_skip_verify: true}}}}"
    ));
    assert_eq!(text(&client, "https://metrics.invalid/m").await, "/m HTTP/1.1");
    let asked = heads.lock().clone();
    assert_eq!(
        asked,
        ["CONNECT metrics.invalid:443 HTTP/1.1\r\nHost: metrics.invalid:443\r\nUser-Agent: tester/1\r\n\
          Proxy-Authorization: Basic bWU6cHc=\r\nx-zone: a\r\nx-zone: b\r\n\r\n"]
    );
    assert_eq!(server.last().header("proxy-authorization"), "");
}

#[tokio::test]
async fn a_proxy_may_itself_be_behind_tls() {
    let proxy = super::secure::unverified().await;
    let client =
        client(&format!("{{proxy_url: 'https://{}', tls_config: {{insecure_skip_verify: true}}}}", proxy.address));
    assert_eq!(text(&client, "http://metrics.invalid/m").await, "http://metrics.invalid/m HTTP/1.1");
}

#[tokio::test]
async fn proxies_that_refuse_say_why() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("bound")
    };
    let foreign = saying(b"SSH-2.0\r\n\r\n").await;
    let mute = saying(b"").await;
    let forbids = saying(b"HTTP/1.1 403 Not For You\r\n\r\n").await;
    for (proxy, url, expected) in [
        (format!("http://{forbids}"), "https://a.invalid/", "Not For You".to_owned()),
        (format!("http://{foreign}"), "https://a.invalid/", "malformed HTTP response \"SSH-2.0\"".to_owned()),
        (format!("http://{mute}"), "https://a.invalid/", "unexpected EOF".to_owned()),
        (
            format!("http://{closed}"),
            "http://a.invalid/",
            format!("proxyconnect tcp: dial tcp {closed}: connect: connection refused"),
        ),
        (
            format!("socks5://{closed}"),
            "http://a.invalid/",
            format!("proxyconnect tcp: dial tcp {closed}: connect: connection refused"),
        ),
    ] {
        let told = failure(&client(&format!("{{proxy_url: '{proxy}'}}")), url).await;
        assert_eq!(told, format!("Get {url:?}: {expected}"));
    }
}

/// A SOCKS5 proxy that connects to one place, and the user and address it was given.
async fn socks_to(to: SocketAddr, with_user: bool) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = seen.clone();
    let address = raw(move |mut socket, _| {
        let into = into.clone();
        async move {
            let mut told = Vec::new();
            let mut exchange = async || -> std::io::Result<()> {
                let mut methods = [0; 3];
                socket.read_exact(&mut methods).await?;
                socket.write_all(&[5, methods[2]]).await?;
                if with_user {
                    // Version, lengths and texts of "me" and "pw".
                    let mut user = [0; 7];
                    socket.read_exact(&mut user).await?;
                    told.extend_from_slice(&user);
                    socket.write_all(&[1, 0]).await?;
                }
                let mut start = [0; 5];
                socket.read_exact(&mut start).await?;
                let mut rest = vec![0; usize::from(start[4]) + 2];
                socket.read_exact(&mut rest).await?;
                told.extend_from_slice(&start);
                told.extend_from_slice(&rest);
                socket.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await
            };
            let done = exchange().await;
            *into.lock() = told;
            if done.is_ok() {
                relay(socket, to).await;
            }
        }
    })
    .await;
    (address, seen)
}

#[tokio::test]
async fn socks_proxies_are_given_names_and_users() {
    let server = http(|seen| plain(seen.uri.clone())).await;
    let (proxy, seen) = socks_to(server.address, false).await;
    let plain = client(&format!("{{proxy_url: 'socks5://{proxy}'}}"));
    assert_eq!(text(&plain, "http://a.invalid:81/m").await, "/m");
    assert_eq!(*seen.lock(), b"\x05\x01\x00\x03\x09a.invalid\x00\x51");

    let secure = super::secure::unverified().await;
    let (proxy, seen) = socks_to(secure.address, true).await;
    let with_user =
        client(&format!("{{proxy_url: 'socks5://me:pw@{proxy}', tls_config: {{insecure_skip_verify: true}}}}"));
    assert_eq!(text(&with_user, "https://a.invalid/m").await, "/m HTTP/1.1");
    assert_eq!(*seen.lock(), b"\x01\x02me\x02pw\x05\x01\x00\x03\x09a.invalid\x01\xbb");
}

#[tokio::test]
async fn the_environment_is_what_was_handed_in() {
    let proxy = http(|_| plain("proxied")).await;
    let server = http(|_| plain("direct")).await;
    let environment = ProxyEnvironment { http: proxy.address.to_string(), ..ProxyEnvironment::default() };
    let with = |yaml: &str| {
        let options = crate::Options { environment: environment.clone(), ..options() };
        Client::new(section(yaml), options).expect("the client builds")
    };
    let asks = with("{proxy_from_environment: true}");
    assert_eq!(text(&asks, "http://a.invalid/").await, "proxied");
    assert_eq!(text(&asks, &server.url("/")).await, "direct", "loopback is never proxied by the environment");
    assert_eq!(text(&with("{}"), &server.url("/")).await, "direct");
    let some = with(&format!("{{proxy_url: 'http://{}', no_proxy: 'b.invalid'}}", proxy.address));
    assert_eq!(text(&some, "http://a.invalid/").await, "proxied");
    assert!(failure(&some, "http://b.invalid/").await.contains("lookup b.invalid: "));
}
