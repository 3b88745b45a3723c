//! What users opt into, over HTTP: sums of pushes, tokens, several groups, limits; and that without the flags nothing of
//! it is there.

use crate::served::Served;

#[tokio::test]
async fn sums_are_made_only_where_they_are_enabled() {
    let plain = Served::start(&[]).await;
    let sums = Served::start(&["--push.enable-aggregation"]).await;
    let series = "c{instance=\"\",job=\"a\"}";
    for _ in 0..3 {
        for served in [&plain, &sums] {
            let status = served.push("POST", "/metrics/job/a?aggregate=sum", "# TYPE c counter\nc 2\n").await;
            assert_eq!(status, 200);
        }
    }
    assert_eq!((plain.value(series).await, sums.value(series).await), (Some(2.0), Some(6.0)));
    let check = async |method: &str, query: &str, headers: &[(&str, &str)], body: &str, status: u16, text: &str| {
        let answer = sums.ask(method, &format!("/metrics/job/a{query}"), headers, body).await;
        assert_eq!(answer.status, status, "{query}: {}", answer.body);
        assert!(answer.body.contains(text), "{query}: {}", answer.body);
    };
    check("PUT", "?aggregate=sum", &[], "c 1\n", 400, "use POST").await;
    check("POST", "?aggregate=mean", &[], "c 1\n", 400, "there is only sum").await;
    check("POST", "?aggregate=sum&gauges=x", &[], "c 1\n", 400, "last, sum, min, max").await;
    check("POST", "?aggregate=sum", &[], "# TYPE c gauge\nc 1\n", 400, "the group has a COUNTER").await;
    assert!(sums.value("push_failure_time_seconds{instance=\"\",job=\"a\"}").await.is_some_and(|at| at > 0.0));
    check("POST", "?aggregate=sum", &[], "# TYPE d counter\nd 1 1000\n", 400, "timestamps").await;
    check("POST", "?aggregate=sum", &[], "# TYPE d counter\nd 1\nd 2\n", 400, "collected before").await;
    let headers = [("X-Narthex-Aggregate", "sum"), ("X-Narthex-Gauges", "max")];
    check("POST", "", &headers, "# TYPE c counter\nc 1\n# TYPE g gauge\ng 4\n", 200, "").await;
    check("POST", "", &headers, "# TYPE g gauge\ng 3\n", 200, "").await;
    assert_eq!(sums.value(series).await, Some(7.0));
    assert_eq!(sums.value("g{instance=\"\",job=\"a\"}").await, Some(4.0));
    plain.stop().await;
    sums.stop().await;
}

#[tokio::test]
async fn sums_survive_a_start_without_being_added_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = format!("--persistence.file={}", folder.path().join("data").display());
    let flags = [file.as_str(), "--push.enable-aggregation"];
    for round in 1..=3 {
        let served = Served::start(&flags).await;
        let status = served.push("POST", "/metrics/job/a?aggregate=sum", "# TYPE c counter\nc 1\n").await;
        assert_eq!((status, served.value("c{instance=\"\",job=\"a\"}").await), (200, Some(f64::from(round))));
        served.stop().await;
    }
}

#[tokio::test]
async fn a_push_needs_a_token_of_its_job_where_there_are_tokens() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tokens.yml");
    let file = std::fs::File::create(&path).expect("a file");
    std::io::Write::write_all(&mut &file, b"a: one\n'*': all\n").expect("written");
    let flag = format!("--push.tokens-file={}", path.display());
    let served = Served::start(&[&flag, "--push.enable-batch", "--web.enable-admin-api"]).await;
    let check = async |method: &str, path: &str, token: &str, want: u16| {
        let value = format!("Bearer {token}");
        let headers: &[(&str, &str)] = if token.is_empty() { &[] } else { &[("Authorization", &value)] };
        let answer = served.ask(method, path, headers, "m 1\n").await;
        assert_eq!(answer.status, want, "{method} {path} {token}: {}", answer.body);
        assert_eq!(answer.head.to_lowercase().contains("www-authenticate: basic"), want == 401, "{}", answer.head);
    };
    check("PUT", "/metrics/job/a", "", 401).await;
    check("PUT", "/metrics/job/a", "two", 403).await;
    check("PUT", "/metrics/job/b", "one", 403).await;
    check("PUT", "/metrics/job@base64/YQ/x/y", "one", 200).await;
    check("DELETE", "/metrics/job/a/x/y", "", 401).await;
    check("DELETE", "/metrics/job/a/x/y", "one", 202).await;
    check("PUT", "/metrics/job/b", "all", 200).await;
    check("PUT", "/api/v1/admin/wipe", "one", 403).await;
    check("PUT", "/api/v1/admin/wipe", "all", 202).await;
    check("GET", "/metrics", "", 200).await;
    let parts = "# GROUP PUT /metrics/job/a\nm 1\n# GROUP PUT /metrics/job/b\nm 1\n";
    let answer = served.ask("POST", "/api/v1/groups", &[("X-Narthex-Token", "one")], parts).await;
    assert!(answer.status == 400 && answer.body.contains("\"taken\":1"), "{}", answer.body);
    assert!(answer.body.contains("/metrics/job/b") && answer.body.contains("not one for this job"), "{}", answer.body);
    let refused = served.value("narthex_pushgateway_refused_tokens_total{reason=\"wrong\"}").await;
    assert_eq!(refused, Some(4.0));
    served.stop().await;
}

#[tokio::test]
async fn what_is_over_a_limit_is_refused_and_counted() {
    let flags =
        ["--push.max-groups=2", "--push.max-bytes=600", "--push.max-series-per-push=3", "--push.max-body-bytes=1000"];
    let served = Served::start(&flags).await;
    let check = async |job: &str, body: &str, want: u16, limit: &str| {
        let answer = served.ask("PUT", &format!("/metrics/job/{job}"), &[], body).await;
        assert_eq!(answer.status, want, "{}", answer.body);
        if !limit.is_empty() {
            assert!(answer.body.contains("--push.max-"), "{}", answer.body);
            let series = format!("narthex_pushgateway_refused_over_limit_total{{limit=\"{limit}\"}}");
            assert_eq!(served.value(&series).await, Some(1.0), "{limit}");
        }
    };
    check("a", "m 1\n", 200, "").await;
    check("b", "m 1\n", 200, "").await;
    check("c", "m 1\n", 429, "groups").await;
    check("a", "m{x=\"1\"} 1\nm{x=\"2\"} 1\nm{x=\"3\"} 1\nm{x=\"4\"} 1\n", 413, "series per push").await;
    check("a", &format!("m{{x=\"{}\"}} 1\n", "y".repeat(700)), 429, "bytes").await;
    check("a", &format!("m{{x=\"{}\"}} 1\n", "y".repeat(50)), 200, "").await;
    check("b", "m 2\n", 200, "").await;
    // A length that is said is refused before any of it is read, by the web server and in its words.
    assert_eq!(served.push("PUT", "/metrics/job/a", &" ".repeat(1001)).await, 413);
    served.stop().await;
}

#[tokio::test]
async fn several_groups_come_in_one_request_where_that_is_enabled() {
    let parts = "# GROUP PUT /metrics/job/a\nm 1\n# GROUP POST /metrics/job/b\nm{x=\"1\"} 1\nm{x=\"1\"} 2\n# GROUP PUT \
                 /metrics/job/c/x/y\nm 3\n# GROUP DELETE /metrics/job/a\n";
    let plain = Served::start(&[]).await;
    assert_eq!(plain.push("POST", "/api/v1/groups", parts).await, 404);
    plain.stop().await;
    let served = Served::start(&["--push.enable-batch"]).await;
    let answer = served.ask("POST", "/api/v1/groups", &[], parts).await;
    assert!(answer.status == 400 && answer.body.contains("\"taken\":3"), "{}", answer.body);
    assert_eq!(served.value("m{instance=\"\",job=\"c\",x=\"y\"}").await, Some(3.0));
    assert_eq!(served.value("m{instance=\"\",job=\"a\"}").await, None);
    assert_eq!(served.push("POST", "/api/v1/groups", "# GROUP PUT /nowhere\n").await, 400);
    served.stop().await;
}

#[tokio::test]
async fn a_push_may_say_how_long_it_is_kept_where_that_is_enabled() {
    let served = Served::start(&["--push.enable-ttl"]).await;
    assert_eq!(served.push("PUT", "/metrics/job/a?ttl=1ms", "m 1\n").await, 200);
    assert_eq!(served.push("PUT", "/metrics/job/b?ttl=soon", "m 1\n").await, 400);
    assert_eq!(served.push("PUT", "/metrics/job/c?ttl=1h", "m 1\n").await, 200);
    served.until("m{instance=\"\",job=\"a\"}", None).await;
    assert_eq!(served.value("m{instance=\"\",job=\"c\"}").await, Some(1.0));
    assert_eq!(served.value("narthex_pushgateway_groups_expired_total").await, Some(1.0));
    served.stop().await;
}
