//! What `packaging/` starts: every command line there is one that the program takes.

use crate::{
    seed::write,
    stack::{Program, get},
};
use std::path::{Path, PathBuf};

fn packaging(folder: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(folder);
    let files = std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    files.map(|file| (file.clone(), std::fs::read_to_string(file).expect("a text"))).collect()
}

/// Starts a command line with its folders moved below `folder`, on a free port, and asks it for its metrics.
fn check(from: &Path, words: &[String], folder: &Path) {
    let mut args: Vec<String> = words.to_vec();
    for (name, real) in [("proc", "/proc"), ("sys", "/sys"), ("root", "/")] {
        let link = folder.join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(real, link).expect("a link");
        }
    }
    write(&folder.join("prometheus.yml"), "scrape_configs: []\n");
    for place in ["/host/", "/data/", "/etc/narthex/", "/var/lib/narthex-pushgateway/", "/var/lib/"] {
        args.iter_mut().for_each(|arg| *arg = arg.replace(&format!("={place}"), &format!("={}/", folder.display())));
    }
    args.push("--web.listen-address=127.0.0.1:0".into());
    let mut program = Program::start(&args.iter().map(String::as_str).collect::<Vec<_>>(), folder);
    let (status, text) = get(program.address("address="), "/metrics");
    assert_eq!(status, 200, "{}: {args:?}", from.display());
    assert!(text.contains("_build_info"), "{}: {text}", from.display());
    assert_eq!(program.stop("-TERM"), Some(0), "{}", from.display());
}

#[test]
fn units_of_systemd_start_with_their_arguments() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut seen = 0;
    for (file, text) in packaging("systemd") {
        for line in text.lines().filter_map(|line| line.strip_prefix("ExecStart=/usr/bin/narthex-")) {
            let words: Vec<String> = line.split(' ').filter(|word| *word != "$ARGS").map(str::to_owned).collect();
            check(&file, &words, folder.path());
            seen += 1;
        }
    }
    assert_eq!(seen, 3);
}

#[test]
fn containers_of_kubernetes_start_with_their_arguments() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut seen = 0;
    for (file, text) in packaging("kubernetes") {
        let mut lines = text.lines().skip_while(|line| line.trim() != "args:").skip(1);
        let words: Vec<String> = std::iter::from_fn(|| lines.next()?.trim().strip_prefix("- ").map(str::to_owned))
            .take_while(|word| !word.starts_with("name:"))
            .collect();
        assert!(!words.is_empty(), "{} has no arguments", file.display());
        check(&file, &words, folder.path());
        seen += 1;
    }
    assert_eq!(seen, packaging("kubernetes").len());
}

#[test]
fn the_configuration_of_the_server_in_kubernetes_is_one() {
    let all = packaging("kubernetes");
    let (_, text) = all.iter().find(|(file, _)| file.ends_with("server.yaml")).expect("the server's file");
    let after = text.split_once("  prometheus.yml: |\n").expect("a configuration").1;
    let block: String =
        after.split_inclusive('\n').take_while(|line| line.starts_with("    ")).map(|line| &line[4..]).collect();
    let config = server::Config::parse(&block, Path::new("prometheus.yml")).expect("a configuration");
    let jobs: Vec<&str> = config.scrape.iter().map(|job| job.job_name.as_str()).collect();
    assert_eq!(jobs, ["node-exporter", "pushgateway", "annotated-pods"]);
}
