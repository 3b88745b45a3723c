//! `promtool`: queries to a server, checks of files, and work on expressions, with its flags, texts and exit codes.
//!
//! Truth: the command line page of the Prometheus documentation and the output of a running 3.5. What is not here:
//! `test rules`, `check rules`, `check service-discovery`, `query analyze`, `push`, `debug`.

mod args;
mod check;
mod lint;
mod promql;
mod query;
mod stored;
mod text;

use args::{Sub, Value};
use std::process::ExitCode;

/// The exit code of a failure.
const FAILURE: u8 = 1;
/// The exit code of a lint that found something.
const LINT: u8 = 3;

/// The command whose commands are in [`stored`].
const STORED: &str = "tsdb";

/// Every other command.
const SUBS: &[Sub] = &[
    Sub {
        words: &["check", "config"],
        arguments: "<config-files>...",
        about: "Check if the config files are valid or not.",
        flags: &[
            ("syntax-only", Value::Bool),
            ("lint", Value::Text),
            ("lint-fatal", Value::Bool),
            ("agent", Value::Bool),
        ],
        run: check::config,
    },
    Sub {
        words: &["check", "web-config"],
        arguments: "<web-config-files>...",
        about: "Check if the web config files are valid or not.",
        flags: &[],
        run: check::web_config,
    },
    Sub {
        words: &["check", "healthy"],
        arguments: "",
        about: "Check if the Prometheus server is healthy.",
        flags: &[("http.config.file", Value::Text), ("url", Value::Text)],
        run: |args| check::status(args, "/-/healthy"),
    },
    Sub {
        words: &["check", "ready"],
        arguments: "",
        about: "Check if the Prometheus server is ready.",
        flags: &[("http.config.file", Value::Text), ("url", Value::Text)],
        run: |args| check::status(args, "/-/ready"),
    },
    Sub {
        words: &["check", "metrics"],
        arguments: "",
        about: "Pass Prometheus metrics over stdin to lint them for consistency and correctness.",
        flags: &[],
        run: check::metrics,
    },
    Sub {
        words: &["check", "promql"],
        arguments: "<query>",
        about: "Check if an expression is valid or not.",
        flags: &[],
        run: promql::check,
    },
    Sub {
        words: &["query", "instant"],
        arguments: "<server> <expr>",
        about: "Run instant query.",
        flags: &[("format", Value::Text), ("http.config.file", Value::Text), ("time", Value::Text)],
        run: query::instant,
    },
    Sub {
        words: &["query", "range"],
        arguments: "<server> <expr>",
        about: "Run range query.",
        flags: &[
            ("format", Value::Text),
            ("http.config.file", Value::Text),
            ("header", Value::Text),
            ("start", Value::Text),
            ("end", Value::Text),
            ("step", Value::Text),
        ],
        run: query::range,
    },
    Sub {
        words: &["query", "series"],
        arguments: "<server>",
        about: "Run series query.",
        flags: &[
            ("format", Value::Text),
            ("http.config.file", Value::Text),
            ("match", Value::Text),
            ("start", Value::Text),
            ("end", Value::Text),
        ],
        run: query::series,
    },
    Sub {
        words: &["query", "labels"],
        arguments: "<server> <name>",
        about: "Run labels query.",
        flags: &[
            ("format", Value::Text),
            ("http.config.file", Value::Text),
            ("match", Value::Text),
            ("start", Value::Text),
            ("end", Value::Text),
        ],
        run: query::labels,
    },
    Sub {
        words: &["promql", "format"],
        arguments: "<query>",
        about: "Format PromQL query to pretty printed form.",
        flags: &[],
        run: promql::format,
    },
    Sub {
        words: &["promql", "label-matchers", "set"],
        arguments: "<query> <name> <value>",
        about: "Set a label matcher in the query.",
        flags: &[("type", Value::Text)],
        run: promql::set,
    },
    Sub {
        words: &["promql", "label-matchers", "delete"],
        arguments: "<query> <name>",
        about: "Delete a label from the query.",
        flags: &[],
        run: promql::delete,
    },
];

/// What a command says, where, and the code it ends with.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    out: String,
    err: String,
    code: u8,
}

impl Said {
    fn out(text: impl Into<String>) -> Self {
        Self { out: text.into(), ..Self::default() }
    }

    fn fail(text: impl Into<String>) -> Self {
        Self { err: text.into(), code: FAILURE, ..Self::default() }
    }
}

/// The whole of a `promtool` process: `args` without the program's name.
pub fn main(mut args: Vec<String>) -> ExitCode {
    if args.first().is_some_and(|word| word == STORED) {
        return stored::main(args.split_off(1));
    }
    let said = run(&args);
    print!("{}", said.out);
    eprint!("{}", said.err);
    ExitCode::from(said.code)
}

fn run(args: &[String]) -> Said {
    match args::parse(SUBS, args) {
        Err(said) => said,
        Ok((sub, args)) => (sub.run)(&args),
    }
}

/// Whether the words of a command line begin one of these commands.
pub fn knows(word: &str) -> bool {
    word == STORED || SUBS.iter().any(|sub| sub.words[0] == word)
}

#[cfg(test)]
mod tests;
