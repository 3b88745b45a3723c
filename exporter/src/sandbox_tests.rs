//! What a restricted process can and cannot do, tried by a process that is one.

use super::*;
use crate::testing::Tree;
use std::fs::File;
use std::io::ErrorKind;
use std::process::Command;

/// Set for the process that restricts itself; it holds the folder with what it tries.
const CHILD: &str = "NARTHEX_SANDBOX_CHILD";

fn plan(folder: &Path) -> Plan {
    Plan { read: vec!["/proc".into(), "/sys".into(), folder.join("open")], list: vec!["/".into()], ..Plan::default() }
}

fn refused<T>(what: &str, result: std::io::Result<T>) {
    let error = result.map(drop).expect_err(what);
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{what}: {error}");
}

/// Runs this test again in a process of its own, where it restricts itself and tries.
fn again(test: &str, folder: &Path) -> String {
    let out = Command::new(std::env::current_exe().expect("a program"))
        .args(["--exact", &format!("sandbox::tests::{test}"), "--nocapture"])
        .env(CHILD, folder)
        .output()
        .expect("runs");
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{text}");
    text
}

fn is_missing(error: &SandboxError) -> bool {
    matches!(error, SandboxError::Incomplete | SandboxError::Landlock(_))
}

#[test]
fn what_is_not_allowed_fails() {
    let Some(folder) = std::env::var_os(CHILD).map(PathBuf::from) else {
        let tree = Tree::new().file("open/file", "text").file("closed/file", "text");
        let text = again("what_is_not_allowed_fails", &tree.path(""));
        assert!(text.contains("tried"), "{text}");
        return;
    };
    let files = match plan(&folder).restrict(true) {
        Ok(()) => true,
        // A kernel without landlock still takes the calls.
        Err(error) if is_missing(&error) => false,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(std::fs::read_to_string(folder.join("open/file")).expect("allowed"), "text");
    assert!(std::fs::read_to_string("/proc/loadavg").is_ok() && std::fs::read_dir("/").is_ok());
    refused("a new file", File::create(folder.join("open/new")));
    refused("a file to write to", File::options().write(true).open(folder.join("open/file")));
    refused("a folder", std::fs::create_dir(folder.join("open/folder")));
    refused("a removal", std::fs::remove_file(folder.join("open/file")));
    refused("a program", Command::new("true").status());
    refused("a listener", std::net::TcpListener::bind("127.0.0.1:0"));
    // Landlock knows nothing of modes.
    let file = File::open(folder.join("open/file")).expect("allowed");
    refused("a mode", file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777)));
    if files {
        refused("a file outside", File::open(folder.join("closed/file")));
        refused("a connection", std::net::TcpStream::connect("127.0.0.1:1"));
    }
    // Threads that begin now are not free either.
    let path = folder.join("open/other");
    std::thread::spawn(move || refused("a file of a thread", File::create(path))).join().expect("refused");
    println!("tried");
}

#[test]
fn a_process_with_threads_is_not_restricted_by_half() {
    let plan = plan(Path::new("/nowhere"));
    // The test itself runs on a thread beside the first one.
    assert!(matches!(plan.apply("strict"), Err(SandboxError::Threads(threads)) if threads > 1));
    assert!(plan.apply("on").is_ok() && plan.apply("off").is_ok());
    assert!(std::fs::read_to_string("/etc/passwd").is_ok());
}

#[test]
fn the_plan_is_what_the_flags_ask_for() {
    let tree = Tree::new().file("flags.yml", "");
    let config = tree.path("flags.yml").display().to_string();
    let flags = ["--collector.textfile.directory=/var/*/x", &format!("--config.file={config}"), "--path.rootfs=/host"];
    let parsed = tree.parse(&flags);
    let none = Plan::new(&parsed, &[], &[]);
    for path in ["/proc", "/var", "/host/etc/os-release"] {
        assert!(none.read.contains(&path.into()), "{path}: {none:?}");
    }
    assert!(none.read.contains(&tree.path("")) || none.read.contains(&folder(&tree.path("flags.yml"))));
    assert_eq!((none.list.as_slice(), none.connect), (&[PathBuf::from("/host")][..], false));
    let some = Plan::new(&parsed, &["web.yml".into()], &["/run/x/web.sock".into()]);
    assert!(some.connect && some.read.contains(&"/etc/hosts".into()) && some.read.contains(&".".into()));
    assert_eq!(some.clear, [PathBuf::from("/run/x")]);
}

#[test]
fn patterns_are_open_from_their_fixed_part() {
    for (pattern, expected) in
        [("", None), ("/a/b", Some("/a/b")), ("/a/*/c", Some("/a")), ("*", Some(".")), ("a/b?", Some("a"))]
    {
        assert_eq!(fixed_part(pattern), expected.map(PathBuf::from), "{pattern}");
    }
}
