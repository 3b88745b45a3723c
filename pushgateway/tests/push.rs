//! `narthex push` around a command: signals reach it, and its end is the program's.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::{Child, Command, ExitCode, Stdio},
    thread,
};

/// The program under test is this test itself, started again with this variable set.
const INNER: &str = "NARTHEX_PUSH_TEST";

fn main() -> ExitCode {
    if std::env::var_os(INNER).is_some() {
        return pushgateway::push::main(std::env::args().skip(1).collect());
    }
    signals_are_passed_on_and_the_code_is_the_commands();
    println!("test signals_are_passed_on_and_the_code_is_the_commands ... ok");
    ExitCode::SUCCESS
}

/// A gateway of one answer; returns what was pushed.
fn gateway() -> (u16, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let heard = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
        let (mut length, mut line) = (0, String::new());
        while reader.read_line(&mut line).expect("a line") > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").expect("answered");
        String::from_utf8_lossy(&body).into_owned()
    });
    (port, heard)
}

fn start(port: u16, script: &str) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args([&format!("--url=http://127.0.0.1:{port}"), "--job=a", "--", "sh", "-c", script])
        .env(INNER, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts")
}

fn signals_are_passed_on_and_the_code_is_the_commands() {
    for (signal, script, code) in [
        ("TERM", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done", 7),
        ("INT", "trap 'exit 8' INT; echo ready; while :; do sleep 0.05; done", 8),
        // Not caught: the code is the one a shell would tell.
        ("TERM", "echo ready; exec sleep 1000", 143),
    ] {
        let (port, heard) = gateway();
        let mut push = start(port, script);
        let mut line = String::new();
        BufReader::new(push.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n");
        let kill = format!("kill -{signal} {}", push.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
        assert_eq!(push.wait().expect("ends").code(), Some(code), "{signal} {script}");
        let body = heard.join().expect("heard");
        assert!(body.contains(&format!("batch_job_exit_code {code}\n")), "{body}");
        assert!(body.contains("batch_job_success 0\n"), "{body}");
    }
}
