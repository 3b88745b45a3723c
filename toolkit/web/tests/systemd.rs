//! Sockets of systemd are served, and it is told. This program is both sides: without `LISTEN_FDS` it does what systemd
//! does for a service, sockets from descriptor 3 on and a socket to be told at, and starts itself as the service.

use std::{
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net as unix},
    process::{Command, Stdio},
    time::Duration,
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
const QUIT: &[u8] = b"GET /quit HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

fn main() {
    if std::env::var_os("LISTEN_FDS").is_some() {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(serve());
    } else {
        manage();
        println!("sockets of systemd are served and it is told: ok");
    }
}

fn manage() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, told) = (folder.path().join("web.sock"), folder.path().join("notify"));
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = tcp.local_addr().expect("an address");
    let local = unix::UnixListener::bind(&path).expect("a socket");
    let manager = unix::UnixDatagram::bind(&told).expect("a socket");
    manager.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
    let mut service = Command::new("sh")
        .args(["-c", r#"exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ LISTEN_FDS=2 exec "$0""#])
        .arg(std::env::current_exe().expect("this program"))
        .env("NOTIFY_SOCKET", &told)
        .stdin(Stdio::from(OwnedFd::from(tcp)))
        .stdout(Stdio::from(OwnedFd::from(local)))
        .spawn()
        .expect("starts");
    let hear = || {
        let mut message = [0; 100];
        let length = manager.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).trim().to_owned()
    };
    assert_eq!(hear(), "READY=1");
    let connect = || std::net::TcpStream::connect(address).expect("connects");
    assert!(ask(connect(), GET).ends_with("hello"));
    assert!(ask(unix::UnixStream::connect(&path).expect("connects"), GET).ends_with("hello"));
    ask(connect(), QUIT);
    assert_eq!(hear(), "STOPPING=1");
    assert!(service.wait().expect("ends").success());
    assert!(path.exists(), "the file is systemd's");
}

fn ask(mut stream: impl Read + Write, request: &[u8]) -> String {
    stream.write_all(request).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

async fn serve() {
    let config = web::ListenConfig { systemd_socket: true, ..Default::default() };
    let listeners = web::Listeners::bind(&config).expect("two sockets");
    assert_eq!(listeners.describe().len(), 2);
    assert!(web::Listeners::bind(&config).is_err(), "they can be taken once");
    let clock = runtime::Clock::system();
    let (shutdown, registry) = (runtime::Shutdown::new(), metrics::Registry::new());
    let quit = shutdown.clone();
    let router = web::Router::new()
        .route("/", web::routing::get(|| async { "hello" }))
        .route("/quit", web::routing::get(move || async move { quit.begin() }));
    let options = web::Options {
        limits: web::Limits::default(),
        tasks: runtime::Tasks::new(clock.clone()),
        clock,
        shutdown,
        registry: &registry,
    };
    listeners.serve(router, options).await.expect("an orderly end");
}
