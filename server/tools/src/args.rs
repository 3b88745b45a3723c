//! Command lines: words that choose a command, flags anywhere, arguments in their order.

use crate::{FAILURE, Said};
use std::collections::BTreeMap;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Nothing: `--x` or `--no-x`.
    Bool,
    /// A text, behind `=` or as the next word.
    Text,
}

/// A command.
pub(crate) struct Sub {
    pub(crate) words: &'static [&'static str],
    /// `<a> <b>`; `...` behind the last one takes one or more.
    pub(crate) arguments: &'static str,
    pub(crate) about: &'static str,
    pub(crate) flags: &'static [(&'static str, Value)],
    pub(crate) run: fn(&Args) -> Said,
}

/// Flags that every command takes.
const GLOBAL: &[(&str, Value)] = &[
    ("help", Value::Bool),
    ("version", Value::Bool),
    ("experimental", Value::Bool),
    ("enable-feature", Value::Text),
    ("query.lookback-delta", Value::Text),
    ("extended", Value::Bool),
];

/// Short names.
const SHORT: &[(char, &str)] = &[('h', "help"), ('o', "format"), ('t', "type")];

/// What was given.
#[derive(Debug, Default)]
pub(crate) struct Args {
    flags: BTreeMap<&'static str, Vec<String>>,
    pub(crate) arguments: Vec<String>,
}

impl Args {
    /// The last value of a flag, unless it is empty.
    pub(crate) fn get(&self, flag: &str) -> Option<&str> {
        self.flags.get(flag)?.last().map(String::as_str).filter(|text| !text.is_empty())
    }

    pub(crate) fn all(&self, flag: &str) -> &[String] {
        self.flags.get(flag).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn on(&self, flag: &str) -> bool {
        self.get(flag) == Some("true")
    }

    /// An argument that [`parse`] made sure of.
    pub(crate) fn argument(&self, place: usize) -> &str {
        self.arguments.get(place).map_or("", String::as_str)
    }
}

pub(crate) fn refuse(why: &str) -> Said {
    Said { err: format!("promtool: error: {why}, try --help\n"), code: FAILURE, ..Said::default() }
}

/// Chooses a command and reads its flags. The error is what to say instead.
pub(crate) fn parse<'a>(subs: &'a [Sub], words: &[String]) -> Result<(&'a Sub, Args), Said> {
    let mut args = Args::default();
    let (mut chosen, mut path, mut plain): (Option<&Sub>, Vec<&str>, bool) = (None, Vec::new(), false);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if !plain && word == "--" {
            plain = true;
        } else if !plain && word.starts_with('-') && word.len() > 1 {
            let (flag, value) = flag(word, chosen, &mut words)?;
            args.flags.entry(flag).or_default().push(value);
        } else if chosen.is_some() {
            args.arguments.push(word.clone());
        } else {
            path.push(word);
            let fits = |sub: &&Sub| sub.words.len() >= path.len() && sub.words[..path.len()] == path[..];
            let Some(sub) = subs.iter().find(fits) else {
                return Err(refuse(&format!("expected command but got {word:?}")));
            };
            chosen = Some(sub).filter(|sub| sub.words.len() == path.len());
        }
    }
    if args.on("version") {
        return Err(Said::out(cli::version_text("promtool")));
    }
    if args.on("help") || path.is_empty() {
        return Err(Said::out(help(subs, chosen)));
    }
    let Some(sub) = chosen else { return Err(refuse(&format!("must select a subcommand of '{}'", path.join(" ")))) };
    let names: Vec<&str> = sub.arguments.split_whitespace().collect();
    let many = names.last().is_some_and(|last| last.ends_with("..."));
    if let Some(missing) = names.get(args.arguments.len()) {
        let name = missing.trim_end_matches("...").trim_matches(['<', '>']);
        return Err(refuse(&format!("required argument '{name}' not provided")));
    }
    match args.arguments.get(names.len()) {
        Some(extra) if !many => Err(refuse(&format!("unexpected {extra}"))),
        _ => Ok((sub, args)),
    }
}

/// A flag's name and value.
fn flag<'a>(
    word: &str,
    sub: Option<&Sub>,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<(&'static str, String), Said> {
    let own = sub.map_or(&[][..], |sub| sub.flags);
    let find = |name: &str| GLOBAL.iter().chain(own).find(|(have, _)| *have == name).copied();
    let (name, given) = match word.strip_prefix("--") {
        Some(long) => match long.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (long.to_owned(), None),
        },
        None => {
            let mut letters = word[1..].chars();
            let letter = letters.next().unwrap_or_default();
            let name = SHORT.iter().find(|(have, _)| *have == letter).map(|(_, name)| (*name).to_owned());
            let name = name.ok_or_else(|| refuse(&format!("unknown short flag '-{letter}'")))?;
            let rest = letters.as_str().trim_start_matches('=');
            (name, (!rest.is_empty()).then(|| rest.to_owned()))
        }
    };
    let unknown = || refuse(&format!("unknown long flag '--{name}'"));
    if let Some((found, kind)) = find(&name) {
        let value = match (kind, given) {
            (Value::Bool, _) => "true".to_owned(),
            (Value::Text, Some(value)) => value,
            (Value::Text, None) => {
                rest.next().cloned().ok_or_else(|| refuse(&format!("expected argument for flag '--{name}'")))?
            }
        };
        return Ok((found, value));
    }
    match name.strip_prefix("no-").and_then(find) {
        Some((found, Value::Bool)) => Ok((found, "false".to_owned())),
        _ => Err(unknown()),
    }
}

fn help(subs: &[Sub], chosen: Option<&Sub>) -> String {
    let line = |sub: &Sub| {
        let flags = if sub.flags.is_empty() { "" } else { " [<flags>]" };
        format!("{}{flags} {}", sub.words.join(" "), sub.arguments).trim_end().to_owned()
    };
    if let Some(sub) = chosen {
        let mut text = format!("usage: promtool {}\n\n{}\n\n\nFlags:\n", line(sub), sub.about);
        for (name, kind) in GLOBAL.iter().chain(sub.flags) {
            let (no, value) = if *kind == Value::Bool { ("[no-]", "") } else { ("", "=VALUE") };
            text.push_str(&format!("      --{no}{name}{value}\n"));
        }
        return text + "\n";
    }
    let mut text =
        "usage: promtool [<flags>] <command> [<args> ...]\n\nTooling for the Prometheus monitoring system.\n\n\n\
                    Commands:\n"
            .to_owned();
    for sub in subs {
        text.push_str(&format!("{}\n    {}\n\n", line(sub), sub.about));
    }
    text
}
