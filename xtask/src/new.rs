//! `cargo xtask new KIND NAME`: the file of a new collector, function, discovery or receiver, and its line in the list.

use anyhow::{Context, Result, bail};
use std::{io::Write, path::Path};

/// A kind of thing that is one file and one line.
struct Kind {
    name: &'static str,
    /// The file whose macro lists them, and how the list begins.
    list: &'static str,
    opening: &'static str,
    /// The folder of their files.
    folder: &'static str,
    template: &'static str,
}

const KINDS: &[Kind] = &[
    Kind {
        name: "collector",
        list: "exporter/src/collectors.rs",
        opening: "\ncollectors! {\n",
        folder: "exporter/src/collectors",
        template: include_str!("../templates/collector.rs.in"),
    },
    Kind {
        name: "discovery",
        list: "server/discovery/src/mechanisms.rs",
        opening: "\nmechanisms! {\n",
        folder: "server/discovery/src/mechanisms",
        template: include_str!("../templates/discovery.rs.in"),
    },
    Kind {
        name: "function",
        list: "server/promql/src/functions.rs",
        opening: "\nfamilies! {\n",
        folder: "server/promql/src/functions",
        template: "//! NAME: say what it computes, and cite upstream's page.\n",
    },
    Kind {
        name: "receiver",
        list: "alertmanager/src/receivers.rs",
        opening: "\nreceivers! {\n",
        folder: "alertmanager/src/receivers",
        template: "//! NAME: say who is told, and where its API is documented.\n",
    },
];

/// Writes file and line.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let [kind, name] = args else { bail!("usage: cargo xtask new collector|function|discovery|receiver NAME") };
    let kind = KINDS.iter().find(|have| have.name == kind).with_context(|| format!("no kind {kind:?}"))?;
    let fits = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !fits {
        bail!("{name:?} is not a module name: small letters, digits and _");
    }
    add(&crate::root(), kind, name)
}

fn add(root: &Path, kind: &Kind, name: &str) -> Result<()> {
    let (list, file) = (root.join(kind.list), root.join(kind.folder).join(format!("{name}.rs")));
    let text = std::fs::read_to_string(&list).with_context(|| format!("{}: not built yet", kind.list))?;
    let lines = with_line(&text, kind.opening, name).with_context(|| format!("{}: no list to add to", kind.list))?;
    let mut made = std::fs::File::create_new(&file).with_context(|| file.display().to_string())?;
    made.write_all(kind.template.replace("NAME", name).as_bytes())?;
    std::fs::File::create(&list)?.write_all(lines.as_bytes())?;
    println!("{} and a line in {}", file.strip_prefix(root).unwrap_or(&file).display(), kind.list);
    Ok(())
}

/// The list with one name more, in alphabetical order.
fn with_line(text: &str, opening: &str, name: &str) -> Option<String> {
    let begin = text.find(opening)? + opening.len();
    let end = begin + text[begin..].find("\n}")? + 1;
    let mut lines: Vec<&str> = text[begin..end].lines().collect();
    let line = format!("    {name},");
    let place = lines.iter().position(|have| have.trim_start() > line.trim_start()).unwrap_or(lines.len());
    lines.insert(place, &line);
    Some(format!("{}{}\n{}", &text[..begin], lines.join("\n"), &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_to_its_place_in_the_list() {
        let text = "x\ncollectors! {\n    arp,\n    cpu,\n}\ny\n";
        let want = "x\ncollectors! {\n    arp,\n    bcache,\n    cpu,\n}\ny\n";
        assert_eq!(with_line(text, "\ncollectors! {\n", "bcache").as_deref(), Some(want));
        assert_eq!(with_line("", "\ncollectors! {\n", "bcache"), None);
    }

    #[test]
    fn every_list_that_exists_is_found() {
        for kind in KINDS.iter().filter(|kind| crate::root().join(kind.folder).is_dir()) {
            let text = std::fs::read_to_string(crate::root().join(kind.list)).expect("readable");
            assert!(with_line(&text, kind.opening, "zzz").is_some(), "{}", kind.list);
        }
    }
}
