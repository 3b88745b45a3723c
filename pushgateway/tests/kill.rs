//! The real program, killed again and again under parallel pushes: nothing it acknowledged is missing afterwards.
//! `NARTHEX_KILLS=200` makes it the long run.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

const WRITERS: usize = 4;

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
    fn start(file: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_narthex-pushgateway"))
            .args(["--web.listen-address=127.0.0.1:0", &format!("--persistence.file={file}")])
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
}

fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer))
}

/// Pushes rising numbers into own groups until the program is gone; notes what was acknowledged.
fn write(writer: usize, address: SocketAddr, ledger: &Mutex<BTreeMap<String, u64>>, acknowledged: &AtomicU64) {
    for step in 0.. {
        let job = format!("w{writer}_{}", step % 5);
        let value = ledger.lock().expect("a ledger").get(&job).copied().unwrap_or(0) + 1;
        match ask(address, "PUT", &format!("/metrics/job/{job}"), &format!("m {value}\n")) {
            Some((200, _)) => drop(ledger.lock().expect("a ledger").insert(job, value)),
            Some((status, answer)) => panic!("{status}: {answer}"),
            None => return,
        }
        acknowledged.fetch_add(1, Ordering::AcqRel);
    }
}

#[test]
fn killed_under_load_nothing_acknowledged_is_lost() {
    let kills = std::env::var("NARTHEX_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("data").to_string_lossy().into_owned();
    let ledger = Arc::new(Mutex::new(BTreeMap::new()));
    for kill in 0..kills {
        let gateway = Gateway::start(&file);
        let (_, scrape) = ask(gateway.address, "GET", "/metrics", "").expect("an answer");
        for (job, value) in &*ledger.lock().expect("a ledger") {
            let start = format!("m{{instance=\"\",job=\"{job}\"}} ");
            let found = scrape.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or("nothing");
            let number: u64 = found.parse().unwrap_or(0);
            // One that was under way when the program was killed may have been taken.
            assert!(
                number == *value || number == value + 1,
                "{job}: acknowledged {value}, found {found} (kill {kill})"
            );
        }
        let acknowledged = Arc::new(AtomicU64::new(0));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (ledger, acknowledged, address) = (ledger.clone(), acknowledged.clone(), gateway.address);
                thread::spawn(move || write(writer, address, &ledger, &acknowledged))
            })
            .collect();
        // A different amount of work each time, and no clock.
        while acknowledged.load(Ordering::Acquire) < 5 + kill * 7 % 40 {
            thread::yield_now();
        }
        drop(gateway);
        writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
    }
    assert!(ledger.lock().expect("a ledger").len() == WRITERS * 5);
}
