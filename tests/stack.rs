//! Starting the program, speaking to it, stopping it; and the main job from push to PromQL.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// A running program and the addresses it printed.
pub(crate) struct Program {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Program {
    pub(crate) fn start(args: &[&str], folder: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_narthex"))
            .args(args)
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (sender, lines) = mpsc::channel();
        let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        for stream in [Box::new(out) as Box<dyn Read + Send>, Box::new(err)] {
            let sender = sender.clone();
            thread::spawn(move || {
                BufReader::new(stream).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)))
            });
        }
        Self { child, lines, seen: Vec::new() }
    }

    /// The address in the next `Listening on … address=` line of a component.
    pub(crate) fn address(&mut self, component: &str) -> SocketAddr {
        loop {
            let line = self
                .lines
                .recv_timeout(Duration::from_secs(60))
                .unwrap_or_else(|_| panic!("no {component} in {:?}", self.seen));
            self.seen.push(line.clone());
            if line.contains("Listening on") && line.contains(component) {
                let address = line.split("address=").nth(1).expect("an address").split(' ').next().expect("a word");
                let mut address: SocketAddr = address.trim_matches('"').parse().expect("a socket address");
                if address.ip().is_unspecified() {
                    address.set_ip([127, 0, 0, 1].into());
                }
                return address;
            }
        }
    }

    /// Waits until the server answers queries: it listens before it has read its log.
    pub(crate) fn ready(&mut self) {
        let ready = |line: &String| line.contains("Server is ready to receive web requests");
        while !self.seen.iter().any(ready) {
            let line = self.lines.recv_timeout(Duration::from_secs(60));
            self.seen.push(line.unwrap_or_else(|_| panic!("never ready: {:?}", self.seen)));
        }
    }

    /// Sends a signal by number and waits for the end; returns the exit code.
    pub(crate) fn stop(mut self, signal: &str) -> Option<i32> {
        // The shell's own kill: the program of that name is in no minimal system.
        let script = format!("kill {signal} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &script]).status().expect("a shell");
        assert!(sent.success());
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One request of raw bytes; returns status and body.
pub(crate) fn send(address: SocketAddr, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("timeout");
    // The other side may refuse before it has read everything.
    drop(stream.write_all(request));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status =
        text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no answer: {text:?}"));
    (status, text.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

/// A GET on HTTP/1.0, so that the body comes unchunked.
pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, String) {
    send(address, format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())
}

/// The value of the only series a query answers.
pub(crate) fn query(address: SocketAddr, text: &str) -> serde_json::Value {
    let escaped: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let (status, body) = get(address, &format!("/api/v1/query?query={escaped}"));
    assert_eq!(status, 200, "{body}");
    let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    answer["data"]["result"].clone()
}

/// Asks until the answer is not empty.
pub(crate) fn eventually(address: SocketAddr, text: &str) -> serde_json::Value {
    for _ in 0..600 {
        let found = query(address, text);
        if found.as_array().is_some_and(|rows| !rows.is_empty()) {
            return found;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("no answer to {text}");
}

const CONFIG: &str = "\
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
- job_name: node
  static_configs: [{targets: ['NODE']}]
- job_name: pushgateway
  honor_labels: true
  static_configs: [{targets: ['PUSH']}]
";

#[test]
fn pushed_and_scraped_values_come_back_through_promql() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut exporter = Program::start(&["exporter", "--web.listen-address=127.0.0.1:0"], folder.path());
    let mut gateway = Program::start(&["pushgateway", "--web.listen-address=127.0.0.1:0"], folder.path());
    let (node, push) = (exporter.address("address="), gateway.address("address="));
    // The bytes that `echo 'some_metric 3.14' | curl --data-binary @- …` sends.
    let body = "some_metric 3.14\n";
    let request = format!(
        "POST /metrics/job/some_job HTTP/1.1\r\nHost: {push}\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\nConnection: close\r\n\
         Content-Length: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(send(push, request.as_bytes()).0, 200);

    let config = CONFIG.replace("NODE", &node.to_string()).replace("PUSH", &push.to_string());
    std::fs::File::create(folder.path().join("prometheus.yml"))
        .expect("a file")
        .write_all(config.as_bytes())
        .expect("written");
    let serve = ["server", "--web.listen-address=127.0.0.1:0"];
    let mut server = Program::start(&serve, folder.path());
    let api = server.address("address=");
    server.ready();
    let pushed = eventually(api, "some_metric");
    assert_eq!(pushed[0]["value"][1], "3.14");
    assert_eq!(pushed[0]["metric"]["job"], "some_job");
    eventually(api, "rate(node_cpu_seconds_total[10s])");
    let up = query(api, "sum(up)");
    assert_eq!(up[0]["value"][1], "2");

    // Killed, the server has no chance to save anything; with nothing left to scrape, what is answered was kept.
    assert_eq!(server.stop("-KILL"), None);
    assert_eq!(exporter.stop("-TERM"), Some(0));
    assert_eq!(gateway.stop("-INT"), Some(0));
    let mut again = Program::start(&serve, folder.path());
    let api = again.address("address=");
    again.ready();
    let kept = query(api, "last_over_time(some_metric[1h])");
    assert_eq!(kept[0]["value"][1], "3.14", "what was stored survives the end of the process");
    assert_eq!(again.stop("-INT"), Some(0));
}

#[test]
fn the_whole_stack_runs_in_one_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = || std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    let (node, push, api) = (port(), port(), port());
    let args = [
        format!("--exporter.web.listen-address={node}"),
        format!("--pushgateway.web.listen-address={push}"),
        format!("--server.web.listen-address={api}"),
        "--config.file=fast.yml".to_owned(),
    ];
    let config = CONFIG.replace("NODE", &node.to_string()).replace("PUSH", &push.to_string());
    std::fs::File::create(folder.path().join("fast.yml"))
        .expect("a file")
        .write_all(config.as_bytes())
        .expect("written");
    let mut stack = Program::start(&args.each_ref().map(String::as_str), folder.path());
    for _ in 0..3 {
        stack.address("address=");
    }
    stack.ready();
    assert_eq!(get(api, "/query").0, 200);
    eventually(api, "node_load1");
    eventually(api, "up{job=\"pushgateway\"} == 1");
    assert_eq!(stack.stop("-TERM"), Some(0));
}
