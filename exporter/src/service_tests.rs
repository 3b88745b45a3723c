//! Requests against a service on a small machine, without a network.

use super::*;
use crate::testing::Tree;
use web::http::HeaderValue;
use web::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};

/// A service and the files it reads.
fn service(flags: &[&str]) -> (Tree, Arc<Service>) {
    let tree = Tree::new().file("proc/loadavg", "0.1 0.2 0.3 1/2 3\n");
    let clock = Clock::system();
    let environment = Environment { clock: clock.clone(), shutdown: Shutdown::new(), tasks: Tasks::new(clock) };
    let mut all = vec!["--collector.disable-defaults", "--collector.loadavg"];
    all.extend(flags);
    let service = Service::new(tree.parse(&all), &environment).expect("service");
    (tree, Arc::new(service))
}

async fn body(response: Response) -> Vec<u8> {
    web::body::to_bytes(response.into_body(), 1 << 24).await.expect("body").to_vec()
}

async fn text(service: &Arc<Service>, query: &str) -> (StatusCode, String) {
    let response = scrape(service, query, &HeaderMap::new()).await;
    (response.status(), String::from_utf8(body(response).await).expect("utf-8"))
}

#[tokio::test]
async fn an_answer_has_collectors_and_own_figures() {
    let (_tree, service) = service(&[]);
    let (code, text) = text(&service, "").await;
    assert_eq!(code, StatusCode::OK);
    for line in
        ["node_load1 0.1\n", "node_exporter_build_info{", "node_scrape_collector_success{collector=\"loadavg\"} 1\n"]
    {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(text.contains("promhttp_metric_handler_requests_total{code=\"200\"} 0\n"), "{text}");
    assert!(text.contains("process_start_time_seconds "), "{text}");
}

#[tokio::test]
async fn own_figures_can_be_left_out() {
    let (_tree, service) = service(&["--web.disable-exporter-metrics"]);
    let (_, text) = text(&service, "collect[]=loadavg").await;
    assert!(!text.contains("process_") && !text.contains("promhttp_"), "{text}");
    assert!(text.contains("node_exporter_build_info{"), "{text}");
}

#[tokio::test]
async fn filters_and_refusals() {
    let (_tree, service) = service(&[]);
    let (code, answer) = text(&service, "collect%5B%5D=nope").await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    assert!(answer.ends_with("missing collector: nope"), "{answer}");
    let (code, answer) = text(&service, "collect[]=loadavg&exclude[]=x").await;
    assert_eq!(
        (code, answer.as_str()),
        (StatusCode::BAD_REQUEST, "Combined collect and exclude queries are not allowed.")
    );
    let (code, answer) = text(&service, "exclude[]=loadavg").await;
    assert!(code == StatusCode::OK && !answer.contains("node_load1"), "{answer}");
    assert!(text(&service, "collect=x").await.1.contains("node_load1"));
}

#[tokio::test]
async fn a_full_house_is_503() {
    let (_tree, service) = service(&["--web.max-requests=1"]);
    let present = service.present.load_full();
    let place = present.places.as_ref().expect("limited").acquire().await.expect("place");
    let (code, answer) = text(&service, "").await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.trim_end(), "Limit of concurrent requests reached (1), try again later.");
    drop(place);
    assert_eq!(text(&service, "").await.0, StatusCode::OK);
}

#[tokio::test]
async fn gzip_and_open_metrics_when_asked() {
    let (_tree, service) = service(&[]);
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("br, gzip;q=0.5"));
    let response = scrape(&service, "", &headers).await;
    assert_eq!(response.headers().get(CONTENT_ENCODING).map(HeaderValue::as_bytes), Some(&b"gzip"[..]));
    assert!(body(response).await.starts_with(&[0x1f, 0x8b]));
    headers.clear();
    headers.insert(ACCEPT, HeaderValue::from_static("application/openmetrics-text;version=1.0.0"));
    let response = scrape(&service, "", &headers).await;
    assert!(body(response).await.ends_with(b"# EOF\n"));
}

#[test]
fn a_scraper_gets_its_answer_in_time() {
    let check = |header: &'static str, expected: Option<f64>| {
        let mut headers = HeaderMap::new();
        headers.insert(SCRAPE_TIMEOUT, HeaderValue::from_static(header));
        assert_eq!(patience(&headers).map(|patience| patience.as_secs_f64()), expected, "{header}");
    };
    check("10", Some(9.5));
    check("1.0", Some(0.75));
    check("0.2", Some(0.1));
    check("0", None);
    check("-3", None);
    check("NaN", None);
    check("soon", None);
    assert_eq!(patience(&HeaderMap::new()), None);
}

#[tokio::test]
async fn stuck_threads_and_errors_are_shown() {
    let (tree, service) = service(&["--collector.stat"]);
    let _tree = tree.file("proc/stat", "intr x\n");
    let (_, text) = text(&service, "").await;
    assert!(text.contains("narthex_exporter_stuck_threads 0\n"), "{text}");
    let answer = body(collectors_page(State(service)).await).await;
    let answer = String::from_utf8(answer).expect("utf-8");
    assert!(answer.contains("\"name\":\"stat\"") && answer.contains("cannot understand"), "{answer}");
}

/// What upstream starts with: any text at all but none.
#[tokio::test]
async fn any_path_can_be_that_of_the_metrics() {
    for (given, asked, code) in [
        ("/metrics", "/metrics", 200),
        ("metrics", "/metrics", 200),
        ("/a b/{x}", "/a%20b/%7Bx%7D", 200),
        ("/{x}", "/y", 404),
        ("/+", "/+", 200),
        ("/", "/", 200),
        ("/m", "/m/", 404),
        ("/-/live.js", "/-/live.js", 200),
    ] {
        let (_tree, service) = service(&[]);
        let mut router = router(service, &telemetry_path(given).expect("a path"), None);
        let request = web::http::Request::post(asked).body(Body::empty()).expect("request");
        let response = tower_service::Service::call(&mut router, request).await.expect("answer");
        assert_eq!(response.status().as_u16(), code, "{given} {asked}");
    }
    assert!(telemetry_path("").is_err());
}

/// Restricting the whole of a process is for a program of its own.
#[tokio::test]
async fn a_part_of_a_process_is_not_restricted() {
    let environment =
        Environment { clock: Clock::system(), shutdown: Shutdown::new(), tasks: Tasks::new(Clock::system()) };
    let error = run(Tree::new().parse(&["--security.sandbox=strict"]), environment).await.expect_err("refused");
    assert!(error.to_string().contains("other services share this process"), "{error}");
}

#[test]
fn small_parsers() {
    assert_eq!(decode("a%5Bb+c%zz%"), "a[b c%zz%");
}

#[test]
fn a_file_of_old_flags_is_accepted() {
    let tree = Tree::new().file(
        "flags",
        "--collector.filesystem.ignored-mount-points=^/(dev|proc)($|/)\n--collector.filesystem.ignored-fs-types=^(autofs)$\n",
    );
    let file = format!("@{}", tree.path("flags").display());
    let collection = tree.start(&[&file]).expect("start");
    assert!(collection.names().any(|name| name == "filesystem"));
}
