//! The client against real sockets: servers, proxies and authorities of its own, on ports the system picks.

mod auth;
mod exchange;
mod proxies;
mod secure;
mod server;

use crate::{Client, FetchError, HttpConfig, Options, Request, Response};
use runtime::{Clock, Tasks};
use std::time::Duration;

/// Far beyond what a test needs.
const AMPLE: Duration = Duration::from_secs(60);

const BODY_MAX: u64 = 1 << 20;

fn options() -> Options {
    let clock = Clock::system();
    Options::new(clock.clone(), Tasks::new(clock), "tester/1")
}

fn section(yaml: &str) -> HttpConfig {
    serde_saphyr::from_str(yaml).expect("the section parses")
}

fn client(yaml: &str) -> Client {
    Client::new(section(yaml), options()).expect("the client builds")
}

/// The answer and its body, or how the error reads.
async fn get(client: &Client, url: &str) -> Result<(Response, String), String> {
    ask(client, &Request::get(url, AMPLE, BODY_MAX)).await.map_err(|error| error.to_string())
}

async fn ask(client: &Client, request: &Request<'_>) -> Result<(Response, String), FetchError> {
    let mut body = Vec::new();
    let response = client.fetch(request, &mut body).await?;
    Ok((response, String::from_utf8_lossy(&body).into_owned()))
}

/// The body of an answer that must come.
async fn text(client: &Client, url: &str) -> String {
    get(client, url).await.map_or_else(|error| panic!("{url}: {error}"), |(_, body)| body)
}

/// How the failure of a request that must fail reads.
async fn failure(client: &Client, url: &str) -> String {
    get(client, url).await.expect_err("must fail")
}
