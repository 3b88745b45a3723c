//! Wrong flags, broken configurations and hostile bodies: a clear text, upstream's exit code, a living program.

use crate::stack::{Program, get, send};
use std::{io::Write, path::Path, process::Command};

fn run(args: &[&str], folder: &Path) -> (Option<i32>, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_narthex")).args(args).current_dir(folder).output().expect("runs");
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (out.status.code(), text)
}

#[test]
fn a_broken_configuration_names_file_line_and_column() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |text: &str| {
        std::fs::File::create(folder.path().join("prometheus.yml"))
            .expect("a file")
            .write_all(text.as_bytes())
            .expect("written");
    };
    for (text, want) in [
        ("scrape_configs:\n- job_name: a\n  scrape_intervall: 5s\n", "prometheus.yml:3:3: unknown field"),
        ("global:\n  scrape_intervall: 15s\n", "prometheus.yml:2:"),
        ("remote_write:\n- url: http://x\n", "not built"),
        ("scrape_configs:\n- job_name: k\n  consul_sd_configs:\n  - server: x\n", "not built"),
    ] {
        write(text);
        let (code, output) = run(&["server", "--web.listen-address=127.0.0.1:0"], folder.path());
        assert_eq!(code, Some(2), "{output}");
        assert!(output.contains(want), "{output:?} lacks {want:?}");
    }
}

#[test]
fn a_configuration_that_is_not_there_is_named_by_the_server_and_by_the_stack() {
    let folder = tempfile::tempdir().expect("a folder");
    let listen = ["exporter", "pushgateway", "server"].map(|name| format!("--{name}.web.listen-address=127.0.0.1:0"));
    let mut stack = vec!["--config.file=nope.yml"];
    stack.extend(listen.iter().map(String::as_str));
    let server = ["server", "--config.file=nope.yml", "--web.listen-address=127.0.0.1:0"];
    for args in [&stack[..], &server] {
        let (code, output) = run(args, folder.path());
        assert_eq!(code, Some(2), "{output}");
        assert!(output.contains("opening config file: nope.yml"), "{output}");
    }
}

#[test]
fn a_port_in_use_and_an_unknown_flag_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = format!("--web.listen-address={}", taken.local_addr().expect("an address"));
    crate::seed::write(&folder.path().join("prometheus.yml"), "");
    for service in ["exporter", "pushgateway", "server"] {
        let (code, output) = run(&[service, &listen], folder.path());
        assert_eq!(code, Some(1), "{output}");
        assert!(output.contains("in use"), "{output}");
        let (code, output) = run(&[service, "--no-such-flag"], folder.path());
        assert_eq!(code, Some(1), "{output}");
        assert!(output.contains("unknown long flag '--no-such-flag'"), "{output}");
    }
}

#[test]
fn hostile_bodies_are_refused_and_the_program_lives() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut gateway = Program::start(&["pushgateway", "--web.listen-address=127.0.0.1:0"], folder.path());
    let address = gateway.address("address=");
    let put = |extra: &str, body: &[u8]| {
        let head = format!(
            "PUT /metrics/job/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{extra}Content-Length: {}\r\n\r\n",
            body.len()
        );
        send(address, &[head.as_bytes(), body].concat()).0
    };
    assert_eq!(put("", &vec![b'a'; 10_000_000]), 400, "a line of 10 MB");
    assert_eq!(put("", b"a\0b 1\n"), 400, "NUL bytes");
    assert_eq!(put("Content-Encoding: gzip\r\n", b"not gzip"), 400);
    assert_eq!(get(address, "/-/healthy").0, 200);
    assert_eq!(get(address, "/metrics").0, 200);
}

/// Answers every connection with the same bytes, over and over until the other side hangs up when `endless`.
fn target(head: &'static str, body: Vec<u8>, endless: bool) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), body) = (stream, body.clone()) else { return };
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                drop(std::io::Read::read(&mut stream, &mut request));
                drop(stream.write_all(head.as_bytes()));
                while stream.write_all(&body).is_ok() && endless {}
            });
        }
    });
    address
}

#[test]
fn hostile_targets_fail_their_scrape_with_a_clear_error_and_a_metric() {
    let chunked = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
    let line = format!("{:x}\r\n{}\r\n", 15_000, "a_metric 1234.5\n".repeat(1000)[..15_000].to_owned());
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![b'#'; 50_000_000]).expect("compressed");
    let bomb = bomb.finish().expect("compressed");
    assert!(bomb.len() < 100_000);
    let gzip = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n";
    let plain = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n";
    let targets = [
        ("endless", target(chunked, line.into_bytes(), true), "body size limit exceeded"),
        ("bomb", target(gzip, bomb, false), "body size limit exceeded"),
        ("nul", target(plain, b"a\0b 1\n".to_vec(), false), "expected value after metric"),
        ("long", target(plain, vec![b'a'; 900_000], false), "expected value after metric"),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let mut config =
        String::from("global: {scrape_interval: 1s, scrape_timeout: 1s, body_size_limit: 1MB}\nscrape_configs:\n");
    for (job, address, _) in &targets {
        config.push_str(&format!("- {{job_name: {job}, static_configs: [{{targets: ['{address}']}}]}}\n"));
    }
    crate::seed::write(&folder.path().join("prometheus.yml"), &config);
    let mut server = Program::start(&["server", "--web.listen-address=127.0.0.1:0"], folder.path());
    let api = server.address("address=");
    server.ready();
    crate::stack::eventually(api, "count(up == 0) == 4");
    let answer: serde_json::Value = serde_json::from_str(&get(api, "/api/v1/targets").1).expect("JSON");
    for (job, _, want) in targets {
        let shown = answer["data"]["activeTargets"].as_array().expect("a list");
        let one = shown.iter().find(|one| one["scrapePool"] == job).expect("the target");
        assert!(one["lastError"].as_str().is_some_and(|text| text.contains(want)), "{job}: {}", one["lastError"]);
    }
    let (_, metrics) = get(api, "/metrics");
    let over = "prometheus_target_scrapes_exceeded_body_size_limit_total ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(over)).expect("the metric");
    assert!(line.parse::<f64>().expect("a number") >= 2.0, "{line}");
    assert_eq!(server.stop("-TERM"), Some(0));
}

#[test]
fn a_data_folder_that_cannot_be_written_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    crate::seed::write(&folder.path().join("prometheus.yml"), "");
    crate::seed::write(&folder.path().join("data"), "a file where the folder should be");
    let (code, output) = run(&["server", "--web.listen-address=127.0.0.1:0"], folder.path());
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("data/") && output.contains("--storage.tsdb.path"), "{output}");
}
