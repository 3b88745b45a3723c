//! The flags that every service shares: several addresses, a web configuration, sockets of systemd.

use crate::{
    seed::write,
    stack::{Program, get, send},
};
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    process::Command,
    time::Duration,
};

const SERVICES: [&str; 3] = ["exporter", "pushgateway", "server"];

/// `U*U`, a known hash of it.
const USERS: &str = "basic_auth_users:\n  joe: $2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n";

fn ask(address: std::net::SocketAddr, authorization: &str) -> u16 {
    send(address, format!("GET /metrics HTTP/1.0\r\nHost: h\r\n{authorization}\r\n").as_bytes()).0
}

#[test]
fn every_service_asks_for_passwords_when_told_and_forgets_them_when_told() {
    for service in SERVICES {
        let folder = tempfile::tempdir().expect("a folder");
        write(&folder.path().join("prometheus.yml"), "");
        write(&folder.path().join("web.yml"), USERS);
        let args = [service, "--web.listen-address=127.0.0.1:0", "--web.config.file=web.yml"];
        let mut program = Program::start(&args, folder.path());
        let address = program.address("address=");
        assert_eq!(ask(address, ""), 401, "{service}");
        assert_eq!(ask(address, "Authorization: Basic am9lOlUqVg==\r\n"), 401, "{service}");
        assert_eq!(ask(address, "Authorization: Basic am9lOlUqVQ==\r\n"), 200, "{service}");
        write(&folder.path().join("web.yml"), "");
        assert_eq!(ask(address, ""), 200, "{service}");
        assert_eq!(program.stop("-TERM"), Some(0), "{service}");
    }
}

#[test]
fn what_cannot_be_served_by_ends_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("prometheus.yml"), "");
    write(&folder.path().join("web.yml"), "tls_server_config: {cert_file: none.crt, key_file: none.key}\n");
    let cases = [
        ("--web.config.file=web.yml", "failed to read cert_file (none.crt): open none.crt: no such file or directory"),
        ("--web.config.file=none.yml", "open none.yml: no such file or directory"),
        ("--web.systemd-socket", "no socket activation file descriptors found"),
        ("--web.listen-address=::1:0", "listen tcp: address ::1:0: too many colons in address"),
    ];
    for service in SERVICES {
        for (flag, expected) in cases {
            let args = [service, "--web.listen-address=127.0.0.1:0", flag];
            let out = Command::new(env!("CARGO_BIN_EXE_narthex")).args(args).current_dir(folder.path()).output();
            let out = out.expect("runs");
            let text = String::from_utf8_lossy(&out.stderr);
            assert_eq!(out.status.code(), Some(1), "{service} {flag}: {text}");
            assert!(text.contains(expected), "{service} {flag}: {text}");
        }
    }
}

#[test]
fn a_service_listens_wherever_it_is_told() {
    for service in SERVICES {
        let folder = tempfile::tempdir().expect("a folder");
        write(&folder.path().join("prometheus.yml"), "");
        let (listen, local) = ("--web.listen-address=127.0.0.1:0", "--web.listen-address=unix:web.sock");
        let mut program = Program::start(&[service, listen, listen, local], folder.path());
        let (one, two) = (program.address("address=127"), program.address("address=127"));
        assert_ne!(one, two);
        assert_eq!((get(one, "/metrics").0, get(two, "/metrics").0), (200, 200), "{service}");
        let mut stream = UnixStream::connect(folder.path().join("web.sock")).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: h\r\n\r\n").expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        assert!(answer.starts_with(b"HTTP/1.0 200"), "{service}");
        assert_eq!(program.stop("-TERM"), Some(0), "{service}");
        assert!(!folder.path().join("web.sock").exists(), "{service}");
    }
}
