//! Keeps `docs/exporter.md` true: the page is made of the collectors themselves.
//!
//! Description: the `//!` text of a collector's file. Default and flags: its [`Collector`]. Families, types and labels:
//! `testdata/families.tsv`, which the golden check compares with what the collectors write (`examples/conformance`).
//! `UPDATE_GOLDEN=1` writes the page anew. A build without some collectors would have another page, so that the test is
//! of the full build alone.

use crate::collectors::{ALL, Collector};
use cli::Flag;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What stands before the collectors, except the general flags.
const HEAD: &str = include_str!("testdata/reference.md");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The text at the top of a collector's file.
fn description(collector: &Collector) -> String {
    let path = root().join(format!("src/collectors/{}.rs", collector.name));
    let source = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn flags(collector: &Collector, page: &mut String) {
    let flags = (collector.flags)();
    if flags.is_empty() && collector.deprecated.is_empty() {
        return;
    }
    page.push_str(FLAGS_HEAD);
    flag_rows(&flags, page);
    for (old, new) in collector.deprecated {
        let _ = writeln!(page, "| `--{old}` | | deprecated, use `--{new}` |");
    }
}

const FLAGS_HEAD: &str = "\n| Flag | Default | |\n|---|---|---|\n";

fn flag_rows<'a>(flags: impl IntoIterator<Item = &'a Flag>, page: &mut String) {
    for flag in flags {
        let hidden = if flag.is_hidden() { " (hidden)" } else { "" };
        let default = flag.shown_default();
        let none = default == flag.name().to_uppercase();
        let default = if none { String::new() } else { format!("`{}`", cell(&default)) };
        let help = cell(flag.help());
        let _ = writeln!(page, "| `--{}` | {default} | {help}{hidden} |", flag.name());
    }
}

/// The flags that belong to no collector.
fn general_flags(page: &mut String) {
    let of_collectors = |flag: &&Flag| {
        ALL.iter().any(|collector| {
            flag.name() == crate::flags::switch(collector.name)
                || (collector.flags)().iter().any(|own| own.name() == flag.name())
                || collector.deprecated.iter().any(|(old, _)| *old == flag.name())
        })
    };
    let command = crate::command();
    page.push_str(FLAGS_HEAD);
    flag_rows(command.flags().filter(|flag| !flag.name().starts_with("help") && !of_collectors(flag)), page);
}

fn families(collector: &Collector, table: &str, page: &mut String) {
    let rows = table.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let mut rows = rows.filter(|row| row.first() == Some(&collector.name)).peekable();
    if rows.peek().is_none() {
        page.push_str("\nThe families are not listed: the golden check has no machine that shows them.\n");
        return;
    }
    page.push_str("\n| Family | Type | Labels |\n|---|---|---|\n");
    for row in rows {
        let [_, family, kind, labels] = row.as_slice() else { panic!("families.tsv: {row:?}") };
        let _ = writeln!(page, "| `{family}` | {kind} | {} |", labels.replace('|', "or"));
    }
}

fn page() -> String {
    let table = std::fs::read_to_string(root().join("src/testdata/families.tsv")).expect("families.tsv");
    let mut collectors: Vec<&Collector> = ALL.to_vec();
    collectors.sort_by_key(|collector| collector.name);
    let on = collectors.iter().filter(|collector| collector.enabled).count();
    let mut page = HEAD.to_owned();
    page.push_str("\n## General flags\n");
    general_flags(&mut page);
    let _ = writeln!(page, "\n## Collectors\n\n{} collectors, {on} on by default.", collectors.len());
    for collector in collectors {
        let default = if collector.enabled { "On" } else { "Off" };
        let _ = writeln!(page, "\n### {}\n\n{default} by default.\n\n{}", collector.name, description(collector));
        flags(collector, &mut page);
        families(collector, &table, &mut page);
    }
    page
}

#[test]
fn the_reference_page_is_true() {
    let (path, page) = (root().join("../docs/exporter.md"), page());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::File::create(&path).and_then(|mut file| file.write_all(page.as_bytes())).expect("page");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differing = written.lines().zip(page.lines()).find(|(old, new)| old != new);
    assert!(written == page, "docs/exporter.md is out of date, first at {differing:?}; run with UPDATE_GOLDEN=1");
}
