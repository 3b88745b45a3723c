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
        ("scrape_configs:\n- job_name: a\n  scrape_intervall: 5s\n", "prometheus.yml"),
        ("global:\n  scrape_intervall: 15s\n", "prometheus.yml:2:"),
        ("remote_write:\n- url: http://x\n", "not built"),
        ("scrape_configs:\n- job_name: k\n  kubernetes_sd_configs:\n  - role: node\n", "not built"),
    ] {
        write(text);
        let (code, output) = run(&["server", "--web.listen-address=127.0.0.1:0"], folder.path());
        assert_eq!(code, Some(2), "{output}");
        assert!(output.contains(want), "{output:?} lacks {want:?}");
    }
}

#[test]
fn a_port_in_use_and_an_unknown_flag_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = format!("--web.listen-address={}", taken.local_addr().expect("an address"));
    for service in ["exporter", "pushgateway"] {
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
