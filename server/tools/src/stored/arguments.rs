//! Flags and places of a command: what is no flag, in order.

use cli::{Command, Parsed};
use std::process::ExitCode;

/// A command line.
pub(crate) struct Arguments {
    pub(crate) flags: Parsed,
    places: Vec<String>,
}

impl Arguments {
    /// A command of `narthex tsdb`.
    pub(crate) fn command(name: &str, help: &str) -> Command {
        Command::new(format!("narthex tsdb {name}"), help)
    }

    /// Reads a command line with at most so many places. The code to exit with is the error, once the text is printed.
    pub(crate) fn parse(command: Command, args: Vec<String>, places_max: usize) -> Result<Self, ExitCode> {
        let (mut flags, mut places) = (Vec::new(), Vec::new());
        // A flag with a value behind it takes the next word with it.
        let valued = |name: &str| {
            command.flags().any(|flag| flag.name() == name && !flag.shown_default().is_empty())
                || ["match", "label", "max-block-duration"].contains(&name)
        };
        let mut rest = args.into_iter();
        while let Some(arg) = rest.next() {
            match arg.strip_prefix("--") {
                Some("") => places.extend(rest.by_ref()),
                Some(name) => {
                    let takes = !name.contains('=') && valued(name) && !is_switch(name);
                    flags.push(arg);
                    if takes {
                        flags.extend(rest.next());
                    }
                }
                None if arg.starts_with('-') && arg.len() > 1 => flags.push(arg),
                None => places.push(arg),
            }
        }
        if places.len() > places_max {
            eprintln!("{}: error: unexpected {}", command.program(), places[places_max]);
            return Err(ExitCode::FAILURE);
        }
        Ok(Self { flags: command.parse(flags).run_or_say()?, places })
    }

    /// The n-th argument that is no flag.
    pub(crate) fn place(&self, n: usize) -> Option<&str> {
        self.places.get(n).map(String::as_str)
    }
}

/// Flags that are set or not, and take no word with them.
fn is_switch(name: &str) -> bool {
    let name = name.strip_prefix("no-").unwrap_or(name);
    ["help", "help-long", "help-man", "version", "human-readable", "quiet", "extended"].contains(&name)
}
