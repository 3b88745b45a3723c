//! The layout of `--help`.

use crate::command::Command;
use crate::flag::{Flag, Kind};

const WIDTH: usize = 80;
const INDENT: usize = 2;
const PADDING: usize = 2;
/// A flag as long as this stands on a line of its own.
const LONG: usize = 30;

pub(crate) fn text(command: &Command) -> String {
    let mut out = format!("usage: {} [<flags>]\n\n", command.program);
    for line in wrap(&command.help, WIDTH) {
        out.push_str(&line);
        out.push('\n');
    }
    out.push_str("\nFlags:\n");
    let flags: Vec<&Flag> = command.flags.iter().filter(|flag| !flag.hidden).collect();
    let any_short = flags.iter().any(|flag| flag.short.is_some());
    let rows: Vec<(String, String)> = flags.iter().map(|flag| (left(flag, any_short), right(flag))).collect();
    let column = rows.iter().map(|(name, _)| name.chars().count()).filter(|n| *n < LONG).max().unwrap_or(0);
    for (name, help) in &rows {
        row(&mut out, name, help, column);
    }
    out.push('\n');
    out
}

fn left(flag: &Flag, any_short: bool) -> String {
    let mut out = match flag.short {
        Some(letter) => format!("-{letter}, --"),
        None if any_short => "    --".to_owned(),
        None => "--".to_owned(),
    };
    if flag.kind == Kind::Boolean {
        out.push_str("[no-]");
    }
    out.push_str(&flag.name);
    if flag.kind != Kind::Boolean {
        out.push('=');
        out.push_str(&flag.shown_default());
    }
    if flag.kind == Kind::List {
        out.push_str(" ...");
    }
    out
}

fn right(flag: &Flag) -> String {
    match &flag.env {
        Some(variable) => format!("{} (${variable})", flag.help),
        None => flag.help.clone(),
    }
}

fn row(out: &mut String, name: &str, help: &str, column: usize) {
    let margin = " ".repeat(INDENT + column + PADDING);
    let mut lines = wrap(help, WIDTH.saturating_sub(column + PADDING + INDENT)).into_iter();
    out.push_str(&format!("{:INDENT$}{name:column$}{:PADDING$}", "", ""));
    if name.chars().count() >= LONG {
        out.push('\n');
        out.push_str(&margin);
    }
    out.push_str(&lines.next().unwrap_or_default());
    out.push('\n');
    for line in lines {
        out.push_str(&margin);
        out.push_str(&line);
        out.push('\n');
    }
}

/// Breaks a text into lines of at most `width` characters; a longer word stands alone.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let len = word.chars().count();
        if used > 0 && used + 1 + len > width {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        used += len;
    }
    if used > 0 {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use crate::{Command, Flag, Outcome};

    #[test]
    fn the_layout_is_the_one_people_know() {
        let command = Command::new("demo", "Shows things.")
            .flag(Flag::string("path.procfs", "/proc", "Where proc is mounted."))
            .flag(Flag::int(
                "web.max-requests",
                40,
                "How many scrapes may run beside each other before more are refused.",
            ))
            .flag(Flag::list("web.listen-address", &[":9100"], "Where to listen."))
            .flag(Flag::string("collector.arp.device-include", "", "Devices to show.").without_default())
            .flag(Flag::int("runtime.gomaxprocs", 1, "Threads").env("GOMAXPROCS"))
            .flag(Flag::string("secret", "", "Not shown").hidden());
        let Outcome::Print(help) = command.parse(["-h".to_owned()]) else { panic!("help expected") };
        let expected = "\
usage: demo [<flags>]

Shows things.

Flags:
  -h, --[no-]help             Show this help (also --help-long and --help-man).
      --path.procfs=\"/proc\"   Where proc is mounted.
      --web.max-requests=40   How many scrapes may run beside each other before
                              more are refused.
      --web.listen-address=:9100 ...  
                              Where to listen.
      --collector.arp.device-include=COLLECTOR.ARP.DEVICE-INCLUDE  
                              Devices to show.
      --runtime.gomaxprocs=1  Threads ($GOMAXPROCS)
      --[no-]version          Show the version of this program.

";
        assert_eq!(help, expected);
    }
}
