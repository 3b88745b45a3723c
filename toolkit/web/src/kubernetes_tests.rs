//! A site behind a stub API server that speaks the real protocol over TLS.

use crate::testing::{Folder, Identity, ask, hello};
use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
    routing::post,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{net::SocketAddr, sync::Arc};

/// What the stub was asked, with the token it was asked by.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// The service account's own token decides whether anything is answered; `good-NAME` is the token of NAME, and `prom`
/// may get `/metrics`.
fn stub(asked: &Asked) -> Router {
    let note = |asked: &Asked, headers: &HeaderMap, body: &[u8]| {
        let by = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let body: Value = serde_json::from_slice(body).expect("JSON");
        asked.lock().push((by.clone(), body.clone()));
        (by.starts_with("Bearer own"), body)
    };
    let tokens = asked.clone();
    let tokens = post(async move |headers: HeaderMap, body: Bytes| {
        let (known, body) = note(&tokens, &headers, &body);
        if !known {
            return (StatusCode::FORBIDDEN, "tokenreviews is forbidden").into_response();
        }
        let status = match body["spec"]["token"].as_str().and_then(|token| token.strip_prefix("good-")) {
            None => json!({ "authenticated": false, "error": "[invalid bearer token]" }),
            Some(name) => json!({
                "authenticated": true,
                "user": { "username": name, "uid": "7", "groups": ["g"], "extra": { "x/pod": ["p"] } },
                "audiences": ["exporter"],
            }),
        };
        (StatusCode::CREATED, json!({ "kind": "TokenReview", "status": status }).to_string()).into_response()
    });
    let access = asked.clone();
    let access = post(async move |headers: HeaderMap, body: Bytes| {
        let (_, body) = note(&access, &headers, &body);
        let spec = &body["spec"];
        let path = &spec["nonResourceAttributes"];
        let right = path["path"] == "/metrics" && path["verb"] == "get" || spec["resourceAttributes"]["verb"] == "get";
        let allowed = spec["user"] == "prom" && right;
        (StatusCode::CREATED, json!({ "status": { "allowed": allowed } }).to_string())
    });
    Router::new()
        .route("/apis/authentication.k8s.io/v1/tokenreviews", tokens)
        .route("/apis/authorization.k8s.io/v1/subjectaccessreviews", access)
}

/// A stub over TLS, a site that asks it, and a client. `more` are further keys of the section.
async fn with<F: Future<Output = ()>>(
    more: &str,
    client: impl FnOnce(SocketAddr, Asked, Arc<Folder>) -> F,
) -> crate::testing::Served {
    let asked = Asked::default();
    let cluster = Folder::new("tls_server_config: {cert_file: api.crt, key_file: api.key}");
    cluster.put_identity("api", &Identity::own(&["localhost"]));
    let folder = Arc::new(Folder::new(""));
    folder.put("token", "own-1\n");
    let served = folder.served();
    let api = cluster.served();
    api.with(stub(&asked), async |api| {
        let ca = cluster.path("api.crt").display().to_string();
        folder.put(
            "web.yml",
            &format!(
                "kubernetes_auth:\n  api_server: https://localhost:{}\n  ca_file: {ca}\n  token_file: token\n{more}",
                api.port()
            ),
        );
        let site = hello().route("/metrics", axum::routing::any(|| async { "samples" }));
        served.with(site, |address| client(address, asked.clone(), folder.clone())).await;
    })
    .await;
    served
}

async fn call(address: SocketAddr, method: &str, path: &str, authorization: &str) -> String {
    let authorization = match authorization {
        "" => String::new(),
        given => format!("Authorization: {given}\r\n"),
    };
    ask(address, format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{authorization}\r\n").as_bytes())
        .await
}

fn shape(answer: &str) -> (u16, &str) {
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (answer.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0), body)
}

#[tokio::test]
async fn tokens_are_reviewed_and_rights_asked_for_once() {
    let served = with("  audiences: [exporter]\n  ignore_paths: [/open]\n", async |address, asked, _| {
        for (path, authorization, expected) in [
            ("/metrics", "", (401, "Unauthorized\n")),
            ("/metrics", "Bearer", (401, "Unauthorized\n")),
            ("/metrics", "Basic Zm9vOmJhcg==", (401, "Unauthorized\n")),
            ("/metrics", "Bearer bad", (401, "Unauthorized\n")),
            ("/metrics", "bearer good-prom", (200, "samples")),
            ("/metrics?a=b", "Bearer good-prom", (200, "samples")),
            ("/", "Bearer good-prom", (403, "Forbidden (user=prom, verb=get, resource=, subresource=)\n")),
            ("/metrics", "Bearer good-eve", (403, "Forbidden (user=eve, verb=get, resource=, subresource=)\n")),
            ("/%6detrics", "Bearer good-eve", (403, "Forbidden (user=eve, verb=get, resource=, subresource=)\n")),
            ("/open", "", (404, "")),
        ] {
            assert_eq!(shape(&call(address, "GET", path, authorization).await), expected, "{path} {authorization}");
        }
        let answer = call(address, "GET", "/metrics", "").await;
        assert!(answer.contains("www-authenticate: Bearer\r\n"), "{answer}");
        let (code, _) = shape(&call(address, "POST", "/metrics", "Bearer good-prom").await).to_owned();
        assert_eq!(code, 403, "the verb is create");
        let asked = asked.lock();
        let reviews: Vec<&Value> = asked.iter().map(|(_, body)| &body["kind"]).collect();
        let (tokens, access): (Vec<_>, Vec<_>) = reviews.into_iter().partition(|kind| **kind == "TokenReview");
        assert_eq!((tokens.len(), access.len()), (3, 4), "bad, prom, eve; prom thrice, eve once");
        assert!(asked.iter().all(|(by, _)| by == "Bearer own-1"));
        assert_eq!(
            asked[0].1,
            json!({
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "spec": { "token": "bad", "audiences": ["exporter"] },
            })
        );
        assert_eq!(
            asked[2].1,
            json!({
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": "prom",
                    "uid": "7",
                    "groups": ["g"],
                    "extra": { "x/pod": ["p"] },
                    "nonResourceAttributes": { "path": "/metrics", "verb": "get" },
                },
            })
        );
    })
    .await;
    for (series, count) in [
        ("narthex_kubernetes_auth_reviews_total{outcome=\"allowed\",review=\"token\"}", 2.0),
        ("narthex_kubernetes_auth_reviews_total{outcome=\"denied\",review=\"token\"}", 1.0),
        ("narthex_kubernetes_auth_reviews_total{outcome=\"allowed\",review=\"access\"}", 1.0),
        ("narthex_kubernetes_auth_reviews_total{outcome=\"denied\",review=\"access\"}", 3.0),
        ("narthex_kubernetes_auth_reviews_total{outcome=\"failed\",review=\"access\"}", 0.0),
        ("narthex_http_requests_refused_total{reason=\"no_token\"}", 4.0),
        ("narthex_http_requests_refused_total{reason=\"wrong_token\"}", 1.0),
        ("narthex_http_requests_refused_total{reason=\"forbidden\"}", 4.0),
    ] {
        assert_eq!(served.value(series), count, "{series}");
    }
}

#[tokio::test]
async fn a_token_for_others_is_none() {
    with("  audiences: [someone-else]\n", async |address, _, _| {
        assert_eq!(shape(&call(address, "GET", "/metrics", "Bearer good-prom").await).0, 401);
    })
    .await;
}

#[tokio::test]
async fn a_right_on_a_resource_is_asked_for_when_configured() {
    let resource = "  authorization: {resourceAttributes: {namespace: n, apiVersion: v1, resource: services, \
                    subresource: proxy, name: m}}\n";
    with(resource, async |address, asked, _| {
        assert_eq!(shape(&call(address, "GET", "/", "Bearer good-prom").await), (200, "hello"));
        assert_eq!(shape(&call(address, "GET", "/metrics", "Bearer good-prom").await), (200, "samples"));
        let expected = "Forbidden (user=eve, verb=get, resource=services, subresource=proxy)\n";
        assert_eq!(shape(&call(address, "GET", "/", "Bearer good-eve").await), (403, expected));
        let asked = asked.lock();
        assert_eq!(asked.len(), 4, "one right whatever the path");
        let attributes = &asked[1].1["spec"]["resourceAttributes"];
        let expected = json!({
            "namespace": "n",
            "verb": "get",
            "version": "v1",
            "resource": "services",
            "subresource": "proxy",
            "name": "m",
        });
        assert_eq!(attributes, &expected);
    })
    .await;
}

#[tokio::test]
async fn rules_of_the_file_spare_the_question_and_other_paths_are_hidden() {
    let rules =
        "  allow_paths: [/metrics]\n  authorization: {static: [{user: {groups: [g]}, verb: get, path: /metrics}]}\n";
    with(rules, async |address, asked, _| {
        assert_eq!(shape(&call(address, "GET", "/metrics", "Bearer good-eve").await), (200, "samples"));
        assert_eq!(shape(&call(address, "GET", "/", "Bearer good-prom").await), (404, "Not Found\n"));
        assert_eq!(asked.lock().len(), 1);
    })
    .await;
}

/// The account's token is read again for each question; who may not ask, and who cannot be asked, is 503.
#[tokio::test]
async fn an_account_without_rights_fails_closed_and_a_new_token_mends_it() {
    let served = with("  deadline: 2s\n", async |address, _, folder| {
        folder.put("token", "stale");
        for _ in 0..2 {
            let answer = call(address, "GET", "/metrics", "Bearer good-prom").await;
            assert_eq!(shape(&answer), (503, "Service Unavailable\n"), "failures are not remembered");
            assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
        }
        folder.put("token", "own-2");
        assert_eq!(shape(&call(address, "GET", "/metrics", "Bearer good-prom").await).0, 200);
        // Nobody listens there.
        let web = "kubernetes_auth: {api_server: 'https://localhost:1', ca_file: '', token_file: token}";
        folder.put("web.yml", web);
        assert_eq!(
            shape(&call(address, "GET", "/metrics", "Bearer good-prom").await).0,
            503,
            "nothing is carried over"
        );
        folder.put("web.yml", "");
        assert_eq!(shape(&call(address, "GET", "/metrics", "").await).0, 200);
    })
    .await;
    assert_eq!(served.value("narthex_kubernetes_auth_reviews_total{outcome=\"failed\",review=\"token\"}"), 3.0);
    assert_eq!(served.value("narthex_http_requests_refused_total{reason=\"review_failed\"}"), 3.0);
}

#[tokio::test]
async fn users_with_passwords_may_stand_beside_a_cluster() {
    let hash = bcrypt::hash("fish", 4).expect("a hash");
    with(&format!("basic_auth_users: {{joe: '{hash}'}}\n"), async |address, _, _| {
        for (authorization, code) in [
            ("Basic am9lOmZpc2g=", 200),
            ("Basic am9lOm5v", 401),
            ("Bearer good-prom", 200),
            ("Bearer x", 401),
            ("", 401),
        ] {
            assert_eq!(shape(&call(address, "GET", "/metrics", authorization).await).0, code, "{authorization}");
        }
        let answer = call(address, "GET", "/metrics", "").await;
        assert!(answer.contains("www-authenticate: Bearer\r\nwww-authenticate: Basic\r\n"), "{answer}");
    })
    .await;
}

/// Many who come with the same token at once are one question.
#[tokio::test]
async fn a_crowd_asks_once() {
    with("", async |address, asked, _| {
        let all = futures_util::future::join_all((0..20).map(|_| call(address, "GET", "/metrics", "Bearer good-prom")));
        assert!(all.await.iter().all(|answer| shape(answer).0 == 200));
        assert_eq!(asked.lock().len(), 2);
    })
    .await;
}
