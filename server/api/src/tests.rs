//! Requests against a router over the in-memory store; the expected answers were seen on upstream's server.

use crate::{Backend, Running, router};
use model::{Labels, Timestamp};
use std::sync::Arc;
use storage::{Memory, Storage};
use tower_service::Service;
use web::{
    body::{Body, Bytes},
    http::{HeaderMap, header},
};

fn backend() -> Arc<Backend> {
    let store = Memory::new(storage::Limits::default());
    let mut appender = store.appender();
    for name in ["a", "b"] {
        let labels = Labels::from_pairs([("__name__", "m"), ("x", name)]);
        let series = appender.series(&labels).expect("a series");
        appender.float(series, Timestamp(1000), 1.0).expect("in order");
    }
    appender.commit().expect("stored");
    let clock = runtime::Clock::system();
    let ready = crate::Readiness::default();
    ready.set(true);
    Arc::new(Backend {
        storage: Arc::new(store),
        engine: promql::Engine::new(promql::EngineOptions::default(), clock.clone()),
        targets: Box::new(crate::Targets::default),
        families: Box::new(Vec::new),
        external_labels: Box::new(Labels::empty),
        reloaded: Box::new(|| crate::Reloaded { worked: true, tried_ms: 0, at_ms: 0 }),
        corruptions: Box::new(|| 0),
        started_ms: 0,
        retention: "15d".into(),
        config: Box::new(String::new),
        pool_config: Box::new(|name| (name == "p").then(|| "job_name: p\n".to_owned())),
        flags: Vec::new(),
        registry: metrics::Registry::new(),
        clock,
        ready,
        queries: Arc::new(tokio::sync::Semaphore::new(1)),
        running: Running::default(),
        admin: false,
        replay: Box::new(|| (0, 0, 0)),
        listeners: Arc::new(tokio::sync::Semaphore::new(1)),
        remote: Arc::new(Echo),
        receives: false,
        lifecycle: None,
    })
}

async fn ask(method: &str, path: &str) -> (u16, String, HeaderMap) {
    let request = web::http::Request::builder().method(method).uri(path).header("Origin", "http://x");
    let request = request.body(Body::empty()).expect("a request");
    let response = router(backend()).call(request).await.expect("an answer");
    let (head, body) = response.into_parts();
    let body = web::body::to_bytes(body, 1 << 20).await.expect("a body");
    (head.status.as_u16(), String::from_utf8_lossy(&body).into_owned(), head.headers)
}

#[tokio::test]
async fn refusals_are_upstreams() {
    let error = |text: &str| format!("\"error\":\"{}\"}}", text.replace('"', "\\\""));
    for (method, path, status, want) in [
        (
            "GET",
            "/api/v1/query?query=1&time=x",
            400,
            error("invalid parameter \"time\": invalid time value for 'time': cannot parse \"x\" to a valid timestamp"),
        ),
        (
            "GET",
            "/api/v1/query?query=1&timeout=x",
            400,
            error("invalid parameter \"timeout\": cannot parse \"x\" to a valid duration"),
        ),
        (
            "GET",
            "/api/v1/query?query=1&limit=-1",
            400,
            error("invalid parameter \"limit\": limit must be non-negative"),
        ),
        (
            "GET",
            "/api/v1/query?query=1&limit=x",
            400,
            error("invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax"),
        ),
        (
            "GET",
            "/api/v1/query_range?query=1&start=x&end=1&step=1",
            400,
            error("invalid parameter \"start\": cannot parse \"x\" to a valid timestamp"),
        ),
        (
            "GET",
            "/api/v1/query_range?query=m[5m]&start=0&end=1&step=1",
            400,
            error(
                "invalid parameter \"query\": invalid expression type \"range vector\" for range query, must be Scalar or instant Vector",
            ),
        ),
        (
            "GET",
            "/api/v1/series?match[]=%7B%7D",
            400,
            error("invalid parameter \"match[]\": match[] must contain at least one non-empty matcher"),
        ),
        ("GET", "/api/v1/labels?match[]=%7B%7D", 400, error("match[] must contain at least one non-empty matcher")),
        ("GET", "/api/v1/labels?match[]=x(", 400, "\"error\":\"1:2: parse error: unexpected \\\"(\\\"\"}".into()),
        ("GET", "/api/v1/labels?match[]=", 400, error("unknown position: parse error: unexpected end of input")),
        (
            "GET",
            "/api/v1/query",
            400,
            error("invalid parameter \"query\": unknown position: parse error: no expression found in input"),
        ),
        ("GET", "/api/v1/query?query=1&timeout=-1", 422, error("context deadline exceeded")),
        (
            "GET",
            "/api/v1/query?query=1&time=x&limit=x",
            400,
            error("invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax"),
        ),
        ("GET", "/api/v1/query_exemplars?query=1", 204, String::new()),
        (
            "GET",
            "/api/v1/query_exemplars?query=m&start=2&end=1",
            400,
            error("end timestamp must not be before start timestamp"),
        ),
        (
            "GET",
            "/api/v1/rules?group_limit=0",
            400,
            error("invalid parameter \"group_limit\": group_limit needs to be greater than 0"),
        ),
        ("GET", "/api/v1/rules?match[]=%7B%7D", 400, error("match[] must contain at least one non-empty matcher")),
        ("GET", "/api/v1/status/walreplay", 200, "\"data\":{\"min\":0,\"max\":0,\"current\":0}}".into()),
        (
            "GET",
            "/api/v1/targets?state=x",
            200,
            "{\"activeTargets\":[],\"droppedTargets\":[],\"droppedTargetCounts\":null}}".into(),
        ),
        ("HEAD", "/api/v1/query?query=1", 405, String::new()),
        ("OPTIONS", "/metrics", 200, String::new()),
        ("GET", "/metrics/", 301, "<a href=\"/metrics\">Moved Permanently</a>.\n\n".into()),
        ("DELETE", "/api/v1/series", 500, error("not implemented")),
        ("GET", "/api/v1/scrape_pools/config?scrapePool=p", 200, "\"data\":{\"yaml\":\"job_name: p\\n\"}}".into()),
        ("GET", "/api/v1/scrape_pools/config?scrapePool=q", 404, error("scrape pool 'q' not found")),
        ("GET", "/api/v1/scrape_pools/config", 400, error("no scrapePool parameter provided")),
        ("GET", "/api/v1/rules?type=x", 400, error("invalid parameter \"type\": not supported value \"x\"")),
        ("POST", "/api/v1/admin/tsdb/snapshot", 500, error("admin APIs disabled")),
        ("GET", "/api/v1/nope", 404, "404 page not found\n".into()),
        ("GET", "/nope", 404, "404 page not found\n".into()),
        ("DELETE", "/api/v1/query", 405, "Method Not Allowed\n".into()),
        ("GET", "/-/reload", 405, "Only POST or PUT requests allowed".into()),
        ("POST", "/-/reload", 403, "Lifecycle API is not enabled.".into()),
        ("OPTIONS", "/api/v1/anything", 204, String::new()),
    ] {
        let (found, body, _) = ask(method, path).await;
        assert_eq!(found, status, "{method} {path}: {body}");
        assert!(body.ends_with(&want), "{method} {path}: {body}");
    }
}

#[tokio::test]
async fn answers_and_their_limits() {
    let (status, body, headers) = ask("GET", "/api/v1/query?query=m&time=2&limit=1").await;
    assert_eq!(status, 200);
    assert_eq!(
        body,
        "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[{\"metric\":{\"__name__\":\"m\",\"x\":\"a\"},\
         \"value\":[2,\"1\"]}]},\"warnings\":[\"results truncated due to limit\"]}"
    );
    assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    assert!(headers.get_all(header::VARY).iter().any(|value| value == "Origin"));
    let (_, body, _) = ask("GET", "/api/v1/query?query=m&time=2&lookback_delta=0.5").await;
    assert!(body.contains("\"result\":[]"), "{body}");
    let (_, body, _) = ask("GET", "/api/v1/format_query?query=sum(m)by(x)").await;
    assert_eq!(body, "{\"status\":\"success\",\"data\":\"sum by (x) (m)\"}");
    let (_, body, _) = ask("GET", "/api/v1/parse_query?query=-m").await;
    let want = "\"name\":\"m\",\"offset\":0,\"offsetExpr\":null,\"smoothed\":false,\"startOrEnd\":null,\"timestamp\":null,\"type\":\"vectorSelector\"},\"op\":\"-\",\"type\":\"unaryExpr\"}}";
    assert!(body.ends_with(want), "{body}");
    let (_, body, _) = ask("GET", "/api/v1/status/tsdb?limit=1").await;
    let want = "\"headStats\":{\"numSeries\":2,\"numLabelPairs\":3,\"chunkCount\":2,\"minTime\":1000,\"maxTime\":1000},\
                \"seriesCountByMetricName\":[{\"name\":\"m\",\"value\":2}],\"labelValueCountByLabelName\":[{\"name\":\"x\",\"value\":2}]";
    assert!(body.contains(want), "{body}");
    assert_eq!(ask("GET", "/api/v1/status/tsdb?limit=0").await.0, 400);
    let (_, body, _) = ask("GET", "/federate?match[]=m").await;
    assert_eq!(body, "", "the samples are older than the look back");
}

/// Says what it was asked.
struct Echo;

impl crate::Remote for Echo {
    fn write(&self, _: &dyn Storage, _: Timestamp, request: crate::Request<'_>) -> crate::Reply {
        let body = format!("{:?} {:?} {}", request.content_type, request.encoding, request.body.len());
        let headers = vec![("x-prometheus-remote-write-samples-written", "7".to_owned())];
        crate::Reply { status: 400, content_type: Some("text/plain; charset=utf-8"), body, headers }
    }

    fn import(
        &self,
        _: &dyn Storage,
        _: Timestamp,
        kind: Option<&str>,
        pieces: &mut dyn FnMut() -> Option<Result<Bytes, String>>,
    ) -> crate::Reply {
        let mut size = 0;
        while let Some(piece) = pieces() {
            size += piece.map_or(0, |piece| piece.len());
        }
        crate::Reply { status: 200, body: format!("{kind:?} {size}"), ..crate::Reply::default() }
    }

    fn choose(&self, body: &[u8]) -> Result<Box<dyn crate::Chosen>, crate::Reply> {
        let refused = || crate::Reply { status: 400, body: "empty".into(), ..crate::Reply::default() };
        if body.is_empty() { Err(refused()) } else { Ok(Box::new(Pieces(body.len()))) }
    }
}

/// Answers with as many pieces as the request had bytes.
struct Pieces(usize);

impl crate::Chosen for Pieces {
    fn headers(&self) -> (&'static str, Option<&'static str>) {
        ("a/b", Some("c"))
    }

    fn answer(
        &mut self,
        _: &dyn Storage,
        _: &Labels,
        take: &mut dyn FnMut(Vec<u8>) -> bool,
    ) -> Result<(), crate::Reply> {
        let all = (0..self.0).all(|_| take(b"piece ".to_vec()));
        if all { Ok(()) } else { Err(crate::Reply::default()) }
    }
}

#[tokio::test]
async fn what_takes_series_is_off_by_default() {
    for path in ["/api/v1/write", "/api/v1/import"] {
        let (status, body, headers) = ask("POST", path).await;
        assert_eq!(status, 404, "{path}");
        assert_eq!(body, "remote write receiver needs to be enabled with --web.enable-remote-write-receiver\n");
        assert_eq!(headers["x-content-type-options"], "nosniff");
    }
    let mut backend = Arc::into_inner(backend()).expect("the only one");
    backend.receives = true;
    let mut router = router(Arc::new(backend));
    let mut post = async |path: &str, body: Body| {
        let request = web::http::Request::post(path).header("Content-Type", "a/b").header("Content-Encoding", "c");
        let response = router.call(request.body(body).expect("a request")).await.expect("an answer");
        let (head, body) = response.into_parts();
        let body = web::body::to_bytes(body, 1 << 20).await.expect("a body");
        (head.status.as_u16(), String::from_utf8_lossy(&body).into_owned(), head.headers)
    };
    let (status, body, headers) = post("/api/v1/write", Body::from("12345")).await;
    assert_eq!((status, body.as_str()), (400, "Some(\"a/b\") Some(\"c\") 5"));
    assert_eq!(headers["x-prometheus-remote-write-samples-written"], "7");
    let pieces = (0..100).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b"piece")));
    let (status, body, _) = post("/api/v1/import", Body::from_stream(futures_util::stream::iter(pieces))).await;
    assert_eq!((status, body.as_str()), (200, "Some(\"a/b\") 500"));
}

#[tokio::test]
async fn reads_are_streamed_or_refused() {
    let mut router = router(backend());
    let mut post = async |body: &'static str| {
        let request = web::http::Request::post("/api/v1/read").body(Body::from(body)).expect("a request");
        let (head, body) = router.call(request).await.expect("an answer").into_parts();
        let body = web::body::to_bytes(body, 1 << 20).await.expect("a body");
        (head.status.as_u16(), String::from_utf8_lossy(&body).into_owned(), head.headers)
    };
    assert_eq!(post("").await.0, 400);
    let (status, body, headers) = post("12345678").await;
    assert_eq!((status, body.len()), (200, 48));
    assert_eq!(
        (&headers[header::CONTENT_TYPE], &headers[header::CONTENT_ENCODING]),
        (&"a/b".parse().expect("a value"), &"c".parse().expect("a value"))
    );
}

#[tokio::test]
async fn the_server_describes_itself() {
    let (_, body, _) = ask("GET", "/api/v1/features").await;
    assert!(body.contains("\"abs\":true") && body.contains("\"remote_write_receiver\":false"), "{body}");
    let (_, body, headers) = ask("GET", "/api/v1/openapi.yaml?openapi_version=3.2").await;
    assert!(body.starts_with("openapi: 3.2.0\n") && body.contains("\n  /label/{name}/values:\n"), "{body}");
    assert_eq!(headers[header::CONTENT_TYPE], "application/yaml; charset=utf-8");
    assert_eq!(ask("GET", "/api/v1/openapi.yaml?openapi_version=2").await.0, 400);
    let (_, body, headers) = ask("POST", "/api/v1/search/label_values?label=x&search[]=a&include_score=true").await;
    assert_eq!(body, "{\"results\":[{\"value\":\"a\",\"score\":1}]}\n{\"status\":\"success\",\"has_more\":false}\n");
    assert_eq!(headers[header::CONTENT_TYPE], "application/x-ndjson");
    let (_, body, _) = ask("GET", "/api/v1/status/queries").await;
    assert_eq!(body, "{\"status\":\"success\",\"data\":{\"running\":[],\"slowest\":[]}}");
    assert_eq!(ask("POST", "/api/v1/admin/queries/cancel?id=1").await.0, 500, "the admin API is off");
    let (_, body, _) = ask("GET", "/api/v1/status/self_metrics?metric_name_pattern=a.*").await;
    assert_eq!(body, "{\"status\":\"success\",\"data\":[]}");
}

/// The page of endpoints has a row for each, and for no other.
#[test]
fn every_endpoint_is_documented() {
    let page = include_str!("../../../docs/api.md");
    let rows: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut routes = crate::routes::all();
    routes.retain(|path| !path.starts_with("/assets/"));
    for path in &routes {
        assert!(rows.contains(&path.as_str()), "{path} has no row in docs/api.md");
    }
    for row in rows {
        assert!(routes.iter().any(|path| path == row), "docs/api.md names {row}, which there is not");
    }
}

/// Members of the self-metrics are those of the protobuf messages.
#[tokio::test]
async fn own_metrics_come_as_json() {
    let backend = Arc::into_inner(backend()).expect("the only one");
    backend.registry.counter("c_total", "Counts <all>.").inc();
    backend.registry.histogram("h", "", &[1.0]).observe(0.5);
    let request = web::http::Request::get("/api/v1/status/self_metrics").body(Body::empty()).expect("a request");
    let response = router(Arc::new(backend)).call(request).await.expect("an answer");
    let body = web::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    let want = "{\"status\":\"success\",\"data\":[{\"name\":\"c_total\",\"help\":\"Counts \\u003call\\u003e.\",\"type\":\"COUNTER\",\
                \"metric\":[{\"counter\":{\"value\":1}}]},{\"name\":\"h\",\"help\":\"\",\"type\":\"HISTOGRAM\",\"metric\":[{\"histogram\":\
                {\"sampleCount\":\"1\",\"sampleSum\":0.5,\"bucket\":[{\"cumulativeCount\":\"1\",\"upperBound\":1}";
    assert!(body.starts_with(want.as_bytes()), "{}", String::from_utf8_lossy(&body));
}

#[tokio::test]
async fn queries_tell_what_they_took() {
    let (_, body, _) = ask("GET", "/api/v1/query_range?query=sum(m)&start=1&end=2&step=1&stats=all").await;
    let (_, stats) = body.split_once("]}],\"stats\":{\"timings\":{\"evalTotalTime\":").expect("statistics");
    for part in [
        ",\"execQueueTime\":",
        "\"samples\":{\"totalQueryableSamplesPerStep\":[[1,2],[2,2]],\"totalQueryableSamples\":4,\"peakSamples\":",
    ] {
        assert!(stats.contains(part), "{stats}");
    }
    let (_, body, _) = ask("GET", "/api/v1/query?query=m&time=2&stats=true").await;
    assert!(body.contains("\"stats\":") && !body.contains("PerStep"), "{body}");
    let (_, body, _) = ask("POST", "/api/v1/explain?query=sum(m)&time=2").await;
    let want = "{\"status\":\"success\",\"data\":{\"plan\":{\"text\":\"sum(m)\",\"kind\":\"aggregation\",";
    assert!(body.starts_with(want) && body.contains("\"operands\":[{\"text\":\"m\",\"kind\":\"selector\","), "{body}");
    assert!(ask("GET", "/api/v1/explain?query=m&start=1").await.1.contains("invalid parameter \\\"end\\\""));
}
