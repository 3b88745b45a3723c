//! Files of flags, what they give and how they are refused.

use crate::{Command, Flag, Outcome, Parsed};
use std::io::Write;
use std::path::Path;

fn demo() -> Command {
    Command::new("demo", "Shows things.")
        .flag(Flag::string("name", "x", "A name."))
        .flag(Flag::boolean("collector.cpu", true, "A switch."))
        .flag(Flag::boolean("collector.cpu.guest", true, "A switch below a switch."))
        .flag(Flag::duration_go("wait", "5s", "A span."))
        .flag(Flag::int("count", 40, "A number.").env("COUNT"))
        .flag(Flag::list("dir", &[], "Folders."))
        .config_flag("config.file")
}

fn put(folder: &Path, text: &str) -> String {
    let path = folder.join("flags.yml");
    std::fs::File::create(&path).and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
    path.display().to_string()
}

fn parse(text: &str, more: &[&str]) -> Result<Parsed, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = put(folder.path(), text);
    let args = std::iter::once(format!("--config.file={path}")).chain(more.iter().map(|arg| (*arg).to_owned()));
    let env = |name: &str| (name == "COUNT").then(|| "3".to_owned());
    match demo().parse_with(args, &env) {
        Outcome::Run(parsed) => Ok(parsed),
        Outcome::Refuse { message, .. } => Err(message.replace(&path, "FILE")),
        Outcome::Print(text) => panic!("printed {text}"),
    }
}

#[test]
fn nested_and_dotted_names_are_the_same() {
    for text in [
        "collector: {cpu: {guest: false}, cpu: false}\n",
        "collector:\n  cpu: false\n  cpu.guest: false\n",
        "collector.cpu: false\ncollector.cpu.guest: false\n",
        "collector.cpu: false\ncollector:\n  cpu:\n    guest: false\n",
    ] {
        match parse(text, &[]) {
            Ok(parsed) => {
                assert!(!parsed.bool("collector.cpu") && !parsed.bool("collector.cpu.guest"), "{text}");
                assert!(parsed.given("collector.cpu") && !parsed.given("name"), "{text}");
            }
            // A map with a key twice is not YAML.
            Err(error) => assert!(text.starts_with("collector: {cpu: {") && error.contains("duplicate"), "{error}"),
        }
    }
}

#[test]
fn values_of_every_kind() {
    let parsed = parse("name: 7\nwait: 1m30s\ncount: 1e3\ndir: [a, 'b c', 3]\n", &[]).expect("flags");
    assert_eq!((parsed.str("name"), parsed.duration("wait").as_secs(), parsed.int("count")), ("7", 90, 1000));
    assert_eq!(parsed.list("dir"), ["a", "b c", "3"]);
    assert_eq!(parse("dir: a", &[]).expect("flags").list("dir"), ["a"]);
    for nothing in ["", "# nothing\n", "name:\n", "collector:\n", "---\n"] {
        let parsed = parse(nothing, &[]).unwrap_or_else(|error| panic!("{nothing:?}: {error}"));
        assert_eq!((parsed.str("name"), parsed.int("count"), parsed.given("name")), ("x", 3, false), "{nothing:?}");
    }
}

#[test]
fn the_command_line_wins_over_the_file_and_that_over_the_environment() {
    let parsed = parse("name: file\ncount: 5\ndir: [a]\ncollector.cpu: false\n", &["--name=line", "--dir=b"]);
    let parsed = parsed.expect("flags");
    assert_eq!((parsed.str("name"), parsed.int("count"), parsed.bool("collector.cpu")), ("line", 5, false));
    assert_eq!(parsed.list("dir"), ["b"]);
}

#[test]
fn refusals_name_the_place() {
    for (text, error) in [
        ("name: a\ncolector: {cpu: true}\n", "FILE:2:1: unknown key \"colector\", keys are names of flags"),
        (
            "collector:\n  cpu: {guests: true}\n",
            "FILE:2:9: unknown key \"collector.cpu.guests\", keys are names of flags",
        ),
        ("collector.cpu: {x: 1}", "FILE:1:17: unknown key \"collector.cpu.x\", keys are names of flags"),
        ("name: {x: 1}", "FILE:1:1: name takes a text or a number"),
        ("\nwait: 1x", "FILE:2:1: wait: time: unknown unit \"x\" in duration \"1x\""),
        ("collector.cpu: 1", "FILE:1:1: collector.cpu takes true or false"),
        (
            "collector: {cpu.guest: true, cpu: {guest: true}}",
            "FILE:1:36: collector.cpu.guest stands at FILE:1:13 already",
        ),
        ("config: {file: x}", "FILE:1:10: config.file belongs on the command line alone"),
        ("version: true", "FILE:1:1: version belongs on the command line alone"),
        ("[a]", "FILE:1:1: expected flags by their names"),
    ] {
        assert_eq!(parse(text, &[]), Err(format!("demo: error: {error}, try --help")), "{text}");
    }
    for (text, start) in [("a: [b", "demo: error: FILE:1:"), ("name: a\nname: b\n", "demo: error: FILE:2:")] {
        let error = parse(text, &[]).expect_err("no YAML");
        assert!(error.starts_with(start), "{error}");
    }
    let deep = "a: {".repeat(40) + &"}".repeat(40);
    assert!(parse(&deep, &[]).is_err());
    let missing = demo().parse(["--config.file=/does/not/exist".to_owned()]);
    assert!(matches!(missing, Outcome::Refuse { message, .. } if message.contains("/does/not/exist: ")));
}

#[test]
fn a_file_can_be_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = put(folder.path(), "name: one\ncount: 5\n");
    let args = [format!("--config.file={path}"), "--count=6".to_owned()];
    let Outcome::Run(first) = demo().parse_with(args, &|_| None) else { panic!("run expected") };
    put(folder.path(), "name: two\ncount: 7\ncollector.cpu: true\n");
    let second = first.again().expect("flags");
    assert_eq!((second.str("name"), second.int("count")), ("two", 6));
    assert_eq!(first.differing(&second).collect::<Vec<_>>(), ["name", "collector.cpu"]);
    put(folder.path(), "nam: three\n");
    assert!(second.again().expect_err("refused").contains(":1:1: unknown key \"nam\""));
    put(folder.path(), "name: one\ncount: 5\n");
    assert_eq!(second.again().expect("flags"), first);
}
