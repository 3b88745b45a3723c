//! Command lines that scripts contain, and what they must give.

use std::io::Write;
use std::time::Duration;

use crate::{Command, Flag, Outcome, Parsed};

fn demo() -> Command {
    Command::new("demo", "Shows things.")
        .flag(Flag::string("name", "x", "A name."))
        .flag(Flag::boolean("collector.arp", true, "A switch."))
        .flag(Flag::boolean("no-color", false, "A name that begins as an inversion."))
        .flag(Flag::duration_go("wait", "5s", "A span."))
        .flag(Flag::duration_prom("keep", "15d", "A span."))
        .flag(Flag::int("count", 40, "A number.").env("COUNT"))
        .flag(Flag::list("dir", &[], "Folders.").short('d').env("DIRS"))
        .web_flags(":9100")
        .log_flags()
}

fn parse(args: &[&str]) -> Outcome {
    demo().parse_with(args.iter().map(|arg| (*arg).to_owned()), &|_| None)
}

fn run(args: &[&str]) -> Parsed {
    match parse(args) {
        Outcome::Run(parsed) => parsed,
        other => panic!("{args:?} gave {other:?}"),
    }
}

fn refusal(args: &[&str]) -> String {
    match parse(args) {
        Outcome::Refuse { message, code: 1 } => message,
        other => panic!("{args:?} gave {other:?}"),
    }
}

#[test]
fn defaults_hold_without_arguments() {
    let parsed = run(&[]);
    assert_eq!((parsed.str("name"), parsed.int("count"), parsed.bool("collector.arp")), ("x", 40, true));
    assert_eq!(parsed.duration("wait"), Duration::from_secs(5));
    assert_eq!(parsed.duration("keep"), Duration::from_secs(15 * 24 * 3600));
    assert_eq!(parsed.list("web.listen-address"), [":9100"]);
    assert!(parsed.list("dir").is_empty() && !parsed.given("name"));
    assert_eq!(parsed.str("log.level"), "info");
}

#[test]
fn both_forms_and_lists_and_short_flags() {
    let parsed = run(&["--name=a=b", "--count", "7", "--dir=a", "-db", "-d", "c", "--wait=1m30s", "--keep", "2h"]);
    assert_eq!((parsed.str("name"), parsed.int("count")), ("a=b", 7));
    assert_eq!(parsed.list("dir"), ["a", "b", "c"]);
    assert_eq!(parsed.duration("wait"), Duration::from_secs(90));
    assert!(parsed.given("name") && !parsed.given("log.level"));
    let all: Vec<(&str, String)> = parsed.all().collect();
    assert_eq!(all[0], ("name", "a=b".to_owned()));
    assert!(all.contains(&("dir", "a,b,c".to_owned())) && !all.iter().any(|(name, _)| *name == "help"));
}

/// Kingpin reads what Go reads; what a program does with less than no time is its own.
#[test]
fn durations_below_zero_count_as_none() {
    let parsed = run(&["--wait=-5s"]);
    assert_eq!((parsed.duration("wait"), parsed.is_negative("wait")), (Duration::ZERO, true));
    assert!(!run(&["--wait=-0s"]).is_negative("wait") && !run(&[]).is_negative("keep"));
}

#[test]
fn booleans_and_their_inversion() {
    assert!(!run(&["--no-collector.arp"]).bool("collector.arp"));
    assert!(run(&["--no-color"]).bool("no-color"));
    assert!(!run(&["--no-no-color"]).bool("no-color"));
    assert_eq!(refusal(&["--collector.arp=false"]), "demo: error: unexpected false, try --help");
}

#[test]
fn refusals_in_the_known_words() {
    for (args, error) in [
        (&["--nope"][..], "unknown long flag '--nope'"),
        (&["--no-name"], "unknown long flag '--no-name'"),
        (&["-name"], "unknown short flag '-n'"),
        (&["-"], "unknown short flag '-'"),
        (&["--name"], "expected argument for flag '--name'"),
        (&["--name", "--count=1"], "expected argument for flag '--name'"),
        (&["--name=a", "--name=b"], "flag 'name' cannot be repeated"),
        (&["--collector.arp", "--no-collector.arp"], "flag 'collector.arp' cannot be repeated"),
        (&["stray"], "unexpected stray"),
        (&["--", "--name=a"], "unexpected --name=a"),
        (&["--log.level=x"], "enum value must be one of debug,info,warn,error, got 'x'"),
        (&["--wait=1x"], "time: unknown unit \"x\" in duration \"1x\""),
        (&["--count=many"], "strconv.ParseFloat: parsing \"many\": invalid syntax"),
        (&["@"], "expected @ file to expand arguments from"),
    ] {
        assert_eq!(refusal(args), format!("demo: error: {error}, try --help"), "{args:?}");
    }
    assert!(refusal(&["--keep=1x"]).starts_with("demo: error: "));
    assert!(refusal(&["@/does/not/exist"]).contains("failed to open arguments file \"/does/not/exist\""));
}

#[test]
fn help_and_version_win_over_what_comes_later() {
    for args in [&["--help"][..], &["-h", "--nope"], &["--help-long"], &["--help-man"], &["--count=many", "--help"]] {
        assert!(matches!(parse(args), Outcome::Print(text) if text.starts_with("usage: demo [<flags>]")), "{args:?}");
    }
    assert!(matches!(parse(&["--version"]), Outcome::Print(text) if text.starts_with("demo, version ")));
    assert!(matches!(parse(&["--nope", "--help"]), Outcome::Refuse { .. }));
}

#[test]
fn the_environment_gives_defaults() {
    let env = |name: &str| match name {
        "COUNT" => Some("3".to_owned()),
        "DIRS" => Some("a\nb".to_owned()),
        _ => None,
    };
    let Outcome::Run(parsed) = demo().parse_with([], &env) else { panic!("run expected") };
    assert_eq!((parsed.int("count"), parsed.given("count")), (3, false));
    assert_eq!(parsed.list("dir"), ["a", "b"]);
    let Outcome::Run(parsed) = demo().parse_with(["--count=9".to_owned()], &env) else { panic!("run expected") };
    assert_eq!(parsed.int("count"), 9);
}

#[test]
fn files_of_arguments_within_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        format!("@{}", path.display())
    };
    let inner = put("inner", "--count=8\r\n");
    let outer = put("outer", &format!("# a remark\n--name\nfrom file\n{inner}\n"));
    let parsed = run(&[&outer, "--dir=z"]);
    assert_eq!((parsed.str("name"), parsed.int("count")), ("from file", 8));
    assert_eq!(run(&["--name=@x"]).str("name"), "@x");

    let circle = format!("@{}", dir.path().join("circle").display());
    put("circle", &circle);
    assert!(refusal(&[&circle]).contains("too many files"));
    assert!(refusal(&[&put("large", &"--dir=x\n".repeat(1 << 18))]).contains("longer than 1 MiB"));
}
