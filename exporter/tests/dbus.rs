//! The systemd and logind collectors on a real message bus, with a service behind it that answers as both.
//!
//! A program of its own that `cargo test` does not run, because not every machine has the bus, `dbus-daemon`; `.ci/run`
//! installs it and names the program: `cargo test -p exporter --test dbus`.

use futures_util::StreamExt;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};
use zbus::{Connection, MessageStream, OwnedObjectPath, OwnedVariant, Variant, connection::Builder, message::Message};

/// Ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A bus at a socket in a folder, ready to be connected to.
fn bus(folder: &Path) -> Running {
    let config = folder.join("bus.conf");
    let text = format!(
        "<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context=\"default\">\
         <allow user=\"*\"/><allow own=\"*\"/><allow send_destination=\"*\"/><allow receive_sender=\"*\"/></policy>\
         </busconfig>",
        folder.join("bus").display()
    );
    std::fs::File::create(&config).and_then(|mut file| file.write_all(text.as_bytes())).expect("a configuration");
    let mut daemon = Command::new("dbus-daemon");
    daemon.arg(format!("--config-file={}", config.display())).args(["--nofork", "--print-address"]);
    let mut running = Running(daemon.stdout(Stdio::piped()).spawn().expect("apt-get install dbus-daemon"));
    let mut address = String::new();
    BufReader::new(running.0.stdout.take().expect("piped")).read_line(&mut address).expect("an address");
    assert!(address.starts_with("unix:path="), "{address}");
    running
}

fn path(text: &str) -> OwnedObjectPath {
    OwnedObjectPath::try_from(text).expect("a path")
}

async fn respond(bus: &Connection, message: &Message) {
    let header = message.header();
    let method = header.member().map(|member| member.to_string()).unwrap_or_default();
    let owned = |text: &str| text.to_owned();
    let sent = match method.as_str() {
        "ListUnits" => {
            let row = |name: &str, state: &str, at: &str| {
                let (state, empty) = (owned(state), String::new);
                (owned(name), empty(), owned("loaded"), state, owned("x"), empty(), path(at), 0u32, empty(), path("/"))
            };
            let rows = vec![
                row("a.service", "active", "/org/freedesktop/systemd1/unit/a_2eservice"),
                row("s.socket", "failed", "/org/freedesktop/systemd1/unit/s_2esocket"),
            ];
            bus.reply(&header, &rows).await
        }
        "ListSeats" => bus.reply(&header, &vec![(owned("seat0"), path("/seat/0"))]).await,
        "ListSessions" => {
            let row = |id: &str, seat: &str, at: &str| (owned(id), 1000u32, owned("ann"), owned(seat), path(at));
            bus.reply(&header, &vec![row("1", "seat0", "/session/1"), row("2", "", "/session/2")]).await
        }
        _ => {
            let (_, property): (String, String) = message.body().deserialize().unwrap_or_default();
            let at = header.path().map(|path| path.to_string()).unwrap_or_default();
            let value: Variant<'_> = match (at.as_str(), property.as_str()) {
                (_, "Version") => "252.4-1".into(),
                (_, "Virtualization") => "kvm".into(),
                (_, "SystemState") => "running".into(),
                ("/org/freedesktop/systemd1/unit/a_2eservice", "Type") => "notify".into(),
                ("/org/freedesktop/systemd1/unit/s_2esocket", "NAccepted") => 7u32.into(),
                ("/org/freedesktop/systemd1/unit/s_2esocket", "NConnections") => 1u32.into(),
                ("/session/1", "Remote") => false.into(),
                ("/session/2", "Remote") => true.into(),
                ("/session/1", "Type") => "wayland".into(),
                (_, "Type") => "tty".into(),
                (_, "Class") => "user".into(),
                _ => return drop(bus.reply_error(&header, "org.example.Unknown", &"no such property").await),
            };
            bus.reply(&header, &OwnedVariant::try_from(value).expect("a value")).await
        }
    };
    sent.expect("answered");
}

/// A service that has both names, until its bus goes.
fn service(folder: &Path) -> std::thread::JoinHandle<()> {
    let address = format!("unix:path={}", folder.join("bus").display());
    let (ready, wait) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let bus = Builder::address(address.as_str()).build().await.expect("the bus");
            let mut messages = MessageStream::from(&bus);
            for name in ["org.freedesktop.systemd1", "org.freedesktop.login1"] {
                bus.request_name(name).await.expect("the name");
            }
            ready.send(()).expect("somebody waits");
            while let Some(Ok(message)) = messages.next().await {
                if message.message_type() == zbus::message::Type::MethodCall {
                    respond(&bus, &message).await;
                }
            }
        });
    });
    wait.recv().expect("the service is there");
    thread
}

fn exporter(folder: &Path) -> (Running, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_narthex-exporter"));
    command.args(["--web.listen-address=127.0.0.1:0", "--collector.disable-defaults"]);
    command.args(["--collector.systemd", "--collector.logind", "--web.disable-exporter-metrics"]);
    command.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", folder.join("bus").display()));
    let mut running = Running(command.stderr(Stdio::piped()).spawn().expect("runs"));
    let lines = BufReader::new(running.0.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let mut lines = lines.skip_while(|line| !line.contains("Listening on"));
    let line = lines.next().expect("it listens");
    // What is not read would fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    (running, line.split("address=").nth(1).expect("an address").trim().to_owned())
}

fn scrape(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: h\r\n\r\n").expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn collectors_ask_over_a_bus_and_find_it_again_when_it_was_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let daemon = bus(folder.path());
    let first = service(folder.path());
    let (_exporter, address) = exporter(folder.path());
    for _ in 0..2 {
        let answer = scrape(&address);
        for line in [
            "node_systemd_version{version=\"252.4-1\"} 252.4\n",
            "node_systemd_virtualization_info{virtualization_type=\"kvm\"} 1\n",
            "node_systemd_system_running 1\n",
            "node_systemd_units{state=\"active\"} 1\n",
            "node_systemd_unit_state{name=\"a.service\",state=\"active\",type=\"notify\"} 1\n",
            "node_systemd_unit_state{name=\"s.socket\",state=\"failed\",type=\"\"} 1\n",
            "node_systemd_socket_accepted_connections_total{name=\"s.socket\"} 7\n",
            "node_logind_sessions{class=\"user\",remote=\"false\",seat=\"seat0\",type=\"wayland\"} 1\n",
            "node_logind_sessions{class=\"user\",remote=\"true\",seat=\"\",type=\"tty\"} 1\n",
            "node_scrape_collector_success{collector=\"logind\"} 1\n",
            "node_scrape_collector_success{collector=\"systemd\"} 1\n",
        ] {
            assert!(answer.contains(line), "{line} in {answer}");
        }
    }
    drop(daemon);
    first.join().expect("it ends with its bus");
    let answer = scrape(&address);
    assert!(answer.contains("success{collector=\"logind\"} 0\n") && !answer.contains("node_systemd_"), "{answer}");
    let daemon = bus(folder.path());
    let second = service(folder.path());
    let answer = scrape(&address);
    assert!(answer.contains("success{collector=\"logind\"} 1\n") && answer.contains("node_systemd_"), "{answer}");
    drop(daemon);
    second.join().expect("it ends with its bus");
}
