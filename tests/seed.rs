//! The project's own starting point: the command line of a production DaemonSet and the sample configuration, letter
//! for letter.

use crate::stack::{Program, get};
use std::{io::Write, path::Path};

/// The arguments of the DaemonSet, without the listen address; the paths under /host are the container's.
const FLAGS: [&str; 5] = [
    "--path.procfs=/host/proc",
    "--path.sysfs=/host/sys",
    "--path.rootfs=/host/root",
    r"--collector.filesystem.ignored-mount-points=^/(dev|proc|sys|var/lib/docker/.+)($|/)",
    "--collector.filesystem.ignored-fs-types=^(autofs|binfmt_misc|cgroup|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|mqueue|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|sysfs|tracefs)$",
];

#[test]
fn the_command_line_of_the_daemon_set_works() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = folder.path().join("host");
    std::fs::create_dir(&host).expect("a folder");
    for (name, real) in [("proc", "/proc"), ("sys", "/sys"), ("root", "/")] {
        std::os::unix::fs::symlink(real, host.join(name)).expect("a link");
    }
    let here = format!("={}/", host.display());
    let flags: Vec<String> = FLAGS.iter().map(|flag| flag.replace("=/host/", &here)).collect();
    let mut args = vec!["exporter", "--web.listen-address=127.0.0.1:0"];
    args.extend(flags.iter().map(String::as_str));
    let mut exporter = Program::start(&args, folder.path());
    let (status, text) = get(exporter.address("address="), "/metrics");
    assert_eq!(status, 200);
    for want in ["node_load1 ", "node_memory_MemTotal_bytes ", "node_cpu_seconds_total{", "node_uname_info{"] {
        assert!(text.lines().any(|line| line.starts_with(want)), "no {want}");
    }
    let kept = |line: &&str| line.starts_with("node_filesystem_") && line.contains("fstype=\"proc\"");
    assert_eq!(text.lines().find(kept), None, "an ignored type of file system is shown");
    assert_eq!(exporter.stop("-TERM"), Some(0));
}

/// The sample configuration, comments and null keys included.
const SAMPLE: &str = "\
global:
  scrape_interval:     15s
  scrape_timeout:      10s

alerting:
  alertmanagers:
  - static_configs:
    - targets:
      # - alertmanager:9093

rule_files:
  # - \"first_rules.yml\"
  # - \"second_rules.yml\"

scrape_configs:
  - job_name: 'prometheus'
    static_configs:
    - targets: ['localhost:9090']
";

#[test]
fn the_sample_configuration_works() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("prometheus.yml"), SAMPLE);
    let mut server = Program::start(&["server", "--web.listen-address=127.0.0.1:0"], folder.path());
    let api = server.address("address=");
    server.ready();
    let (status, body) = get(api, "/api/v1/targets");
    assert_eq!(status, 200);
    assert!(body.contains("http://localhost:9090/metrics"), "{body}");
    assert_eq!(server.stop("-TERM"), Some(0));
}

pub(crate) fn write(path: &Path, text: &str) {
    std::fs::File::create(path).and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
}
