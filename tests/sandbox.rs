//! An exporter that has given up its rights shows what one shows that has not.

use crate::stack::{Program, get};

/// Which collectors succeed.
fn successes(flags: &[&str], folder: &std::path::Path) -> Vec<String> {
    let args = [&["exporter", "--web.listen-address=127.0.0.1:0"], flags].concat();
    let mut program = Program::start(&args, folder);
    let (status, text) = get(program.address("address=127"), "/metrics");
    assert_eq!(status, 200, "{text}");
    assert_eq!(program.stop("-TERM"), Some(0), "{flags:?}");
    let lines = text.lines().filter(|line| line.starts_with("node_scrape_collector_success{"));
    lines.map(str::to_owned).collect()
}

#[test]
fn collectors_work_within_their_rights() {
    let folder = tempfile::tempdir().expect("a folder");
    let more = ["--collector.processes", "--collector.interrupts", "--collector.buddyinfo", "--collector.zoneinfo"];
    let free = successes(&more, folder.path());
    let socket = "--web.listen-address=unix:web.sock";
    let bound = successes(&[&more[..], &[socket, "--security.sandbox=on"]].concat(), folder.path());
    assert!(free.len() > 40, "{free:?}");
    assert_eq!(free, bound);
    assert!(!folder.path().join("web.sock").exists(), "the right to remove the socket's file stays");
}
