//! The real program against clients that mean it harm: what they send is refused, others are served meanwhile, and the
//! memory of the process stays within what the limit of a body explains.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

const BODY_MAX: usize = 4 << 20;

struct Gateway {
    child: Child,
    address: SocketAddr,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Gateway {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_narthex-pushgateway"))
            .args(["--web.listen-address=127.0.0.1:0", &format!("--push.max-body-bytes={BODY_MAX}")])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = child.stderr.take().expect("a pipe");
        let mut lines = BufReader::new(log).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("Listening on")).expect("it listens");
        let (_, address) = line.split_once("address=").expect("its address");
        let address = address.split_whitespace().next().expect("its address").trim_matches('"');
        let address = address.parse().expect("an address");
        // The pipe must not fill up.
        thread::spawn(move || lines.count());
        Self { child, address }
    }

    /// The most memory the process ever had, in bytes.
    fn peak(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a timeout");
        stream
    }

    /// Sends a request, whole or until the other side has had enough, and answers the status.
    fn send(&self, head: &str, body: impl Iterator<Item = Vec<u8>>) -> u16 {
        let mut stream = self.connect();
        let head = format!("{head}\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut going = stream.write_all(head.as_bytes()).is_ok();
        for piece in body {
            going = going && stream.write_all(&piece).is_ok();
            if !going {
                break;
            }
        }
        status(&mut stream)
    }

    fn push(&self, job: &str, extra: &str, body: &[u8]) -> u16 {
        let head = format!("PUT /metrics/job/{job} HTTP/1.1\r\n{extra}Content-Length: {}", body.len());
        self.send(&head, body.chunks(1 << 20).map(<[u8]>::to_vec))
    }
}

/// The status of an answer; 0 when the connection was cut instead.
fn status(stream: &mut TcpStream) -> u16 {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn gzip(bytes: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for piece in bytes {
        encoder.write_all(&piece).expect("memory");
    }
    encoder.finish().expect("memory")
}

/// A body of so many pieces.
fn series(start: &str, count: usize, one: impl Fn(usize) -> String, end: &str) -> Vec<u8> {
    let body = start.to_owned() + &(0..count).map(one).collect::<String>() + end;
    assert!(body.len() <= BODY_MAX);
    body.into_bytes()
}

#[test]
fn hostile_pushes_are_refused_in_bounded_memory() {
    let gateway = Gateway::start();
    assert_eq!(gateway.push("good", "", b"m 1\n"), 200);
    let idle = gateway.peak();
    let check = |what: &str, got: u16, want: &[u16]| {
        assert!(want.contains(&got), "{what}: {got}");
        assert_eq!(gateway.push("good", "", b"m 1\n"), 200, "others are served after {what}");
        let grown = gateway.peak() - idle;
        // Bodies at once, and what is made of one.
        assert!(grown < BODY_MAX * 40, "{what}: {} MiB", grown >> 20);
        println!("{what}: {got}, {} MiB", grown >> 20);
    };
    let got = gateway.send("PUT /metrics/job/a HTTP/1.1\r\nContent-Length: 99999999999", std::iter::empty());
    check("a huge length", got, &[413]);
    let chunk = [b"100000\r\n".to_vec(), vec![b'a'; 1 << 20], b"\r\n".to_vec()].concat();
    // Cut while it still sends, the client may lose the answer.
    let got =
        gateway.send("PUT /metrics/job/a HTTP/1.1\r\nTransfer-Encoding: chunked", std::iter::repeat_n(chunk, 4096));
    check("endless chunks", got, &[413, 0]);
    let tiny = [b"1\r\na\r\n".repeat(20_000), b"0\r\n\r\n".to_vec()].concat();
    let got = gateway.send("PUT /metrics/job/a HTTP/1.1\r\nTransfer-Encoding: chunked", std::iter::once(tiny));
    check("tiny chunks", got, &[400]);
    let bomb = gzip(std::iter::repeat_n(vec![b'a'; 1 << 20], 12));
    assert!(bomb.len() < BODY_MAX / 8);
    check("a gzip bomb", gateway.push("a", "Content-Encoding: gzip\r\n", &bomb), &[413]);
    let empty = gzip(std::iter::once(Vec::new())).repeat(10_000);
    check("many empty gzip members", gateway.push("a", "Content-Encoding: gzip\r\n", &empty), &[200]);
    check(
        "fifty thousand labels",
        gateway.push("a", "", &series("m{", 50_000, |n| format!("l{n}=\"\","), "} 1\n")),
        &[200, 400, 413],
    );
    check("many series", gateway.push("a", "", &series("", 2000, |n| format!("m{{l=\"{n}\"}} 1\n"), "")), &[200]);
    check("many families", gateway.push("a", "", &series("", 2000, |n| format!("m{n} 1\n"), "")), &[200]);
    check("one long line", gateway.push("a", "", &[b'a'; BODY_MAX]), &[400]);
    let path = format!("a/{}", "x/y/".repeat(12_000));
    check("a path of many labels", gateway.push(&path, "", b"m 1\n"), &[200, 400, 431, 414]);
}

#[test]
fn slow_clients_hold_up_nobody() {
    let gateway = Gateway::start();
    let idle = gateway.peak();
    let slow: Vec<TcpStream> = (0..300)
        .map(|n| {
            let mut stream = gateway.connect();
            let head = format!("PUT /metrics/job/s{n} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nm 1\n");
            stream.write_all(head.as_bytes()).expect("sent");
            stream
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(gateway.push("good", "", b"m 1\n"), 200);
    }
    let grown = gateway.peak() - idle;
    assert!(grown < 40 << 20, "{} MiB", grown >> 20);
    drop(slow);
    assert_eq!(gateway.push("good", "", b"m 1\n"), 200);
}

#[test]
fn many_large_bodies_at_once_are_bounded_together() {
    let gateway = Gateway::start();
    let idle = gateway.peak();
    // Nearly whole, so that each is held until the last byte.
    let held: Vec<TcpStream> = (0..40)
        .map(|n| {
            let mut stream = gateway.connect();
            let head = format!("PUT /metrics/job/s{n} HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY_MAX}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&vec![b'\n'; BODY_MAX - 1]));
            stream
        })
        .collect();
    assert_eq!(gateway.push("good", "", b"m 1\n"), 200, "small ones go on");
    let grown = gateway.peak() - idle;
    assert!(grown < BODY_MAX * 8, "{} MiB", grown >> 20);
    let mut refused = 0;
    for mut stream in held {
        let _ = stream.write_all(b"\n");
        let _ = stream.shutdown(std::net::Shutdown::Write);
        refused += usize::from(status(&mut stream) != 200);
    }
    assert!(refused > 30, "{refused}");
}
