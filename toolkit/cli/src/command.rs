//! Reading a command line by the rules that existing start scripts rely on.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, Written};
use crate::duration::parse_signed;
use crate::flag::{Flag, Kind, Value};
use crate::text::quote;
use crate::{help, version_text};

/// Bytes read from all `@file` arguments together.
const FILE_BYTES: u64 = 1 << 20;
/// How deep an `@file` may name an `@file`.
const FILE_DEPTH: u32 = 8;
/// Arguments accepted, those from files included.
const ARGUMENTS: usize = 1 << 16;

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// To run.
    Run(Parsed),
    /// To print this on standard output and exit with 0.
    Print(String),
    /// Nothing that makes sense.
    Refuse {
        /// For standard error, without a line end.
        message: String,
        /// Exit code.
        code: i32,
    },
}

impl Outcome {
    /// The command line of a run. Anything else is said where it belongs, and the code to exit with is the error.
    ///
    /// # Errors
    /// The exit code, once the text is printed.
    pub fn run_or_say(self) -> Result<Parsed, ExitCode> {
        match self {
            Self::Run(parsed) => Ok(parsed),
            Self::Print(text) => {
                println!("{}", text.trim_end());
                Err(ExitCode::SUCCESS)
            }
            Self::Refuse { message, code } => {
                eprintln!("{}", message.trim_end());
                Err(ExitCode::from(u8::try_from(code).unwrap_or(1)))
            }
        }
    }
}

/// A program and its flags.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    pub(crate) program: String,
    pub(crate) help: String,
    pub(crate) flags: Vec<Flag>,
    /// The flag that names a file of flags.
    pub(crate) config: Option<String>,
}

impl Command {
    /// A program with no flags but `--help` and `--version`.
    pub fn new(program: impl Into<String>, help: impl Into<String>) -> Command {
        let about = "Show this help (also --help-long and --help-man).";
        let flags = vec![
            Flag::boolean("help", false, about).short('h'),
            Flag::boolean("help-long", false, about).hidden(),
            Flag::boolean("help-man", false, about).hidden(),
            Flag::boolean("version", false, "Show the version of this program."),
        ];
        Command { program: program.into(), help: help.into(), flags, config: None }
    }

    /// Adds a flag. Two of one name are a mistake in the program, and panic.
    pub fn flag(mut self, flag: Flag) -> Command {
        assert!(!self.flags.iter().any(|other| other.name == flag.name), "flag {} is defined twice", flag.name);
        // The version flag stays the last one in the help.
        self.flags.insert(self.flags.len() - 1, flag);
        self
    }

    /// Adds the flags of every program that listens.
    pub fn web_flags(self, default_listen: &str) -> Command {
        let listen = "Address to listen on, such as :9100, [::1]:9100, unix:/path or vsock://:9100; may be given more than \
                      once.";
        let systemd = "Use the sockets that systemd opened (socket activation) and no address.";
        let config = "File that sets up TLS and passwords for the pages served here.";
        self.flag(Flag::list("web.listen-address", &[default_listen], listen))
            .flag(Flag::boolean("web.systemd-socket", false, systemd))
            .flag(Flag::string("web.config.file", "", config))
    }

    /// Adds a flag that names a YAML file of flags, which hold where the command line does not give them; see
    /// [`Parsed::again`]. Ours: upstream's programs have none.
    pub fn config_flag(mut self, name: &str) -> Command {
        let help = "YAML file of these flags by their names, nested or with dots; the command line wins over it. It is \
                    read again on SIGHUP.";
        self.config = Some(name.to_owned());
        self.flag(Flag::string(name, "", help))
    }

    /// Adds the flags of every program that logs.
    pub fn log_flags(self) -> Command {
        let level = "Least severe messages to log. One of: [debug, info, warn, error]";
        let format = "How to write log messages. One of: [logfmt, json]";
        self.flag(Flag::choice("log.level", "info", &["debug", "info", "warn", "error"], level)).flag(Flag::choice(
            "log.format",
            "logfmt",
            &["logfmt", "json"],
            format,
        ))
    }

    /// Name of the program.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// All flags in the order of the help, for references.
    pub fn flags(&self) -> impl Iterator<Item = &Flag> {
        self.flags.iter()
    }

    /// What `--help` prints.
    pub fn help_text(&self) -> String {
        help::text(self)
    }

    /// Reads arguments, which do not include the name of the program.
    pub fn parse(&self, args: impl IntoIterator<Item = String>) -> Outcome {
        self.parse_with(args, &|variable| std::env::var(variable).ok())
    }

    /// Like [`Command::parse`], with another environment.
    pub fn parse_with(&self, args: impl IntoIterator<Item = String>, env: &dyn Fn(&str) -> Option<String>) -> Outcome {
        let (given, broken) = self.matches(Tokens::new(args));
        for (index, _) in &given {
            match self.flags[*index].name.as_str() {
                "help" | "help-long" | "help-man" => return Outcome::Print(self.help_text()),
                "version" => return Outcome::Print(version_text(&self.program)),
                _ => {}
            }
        }
        let parsed = match broken {
            Some(error) => Err(error),
            None => self.layered(given, env),
        };
        match parsed {
            Ok(parsed) => Outcome::Run(parsed),
            Err(error) => self.refuse(&error),
        }
    }

    /// An answer in the form of every complaint about the command line.
    pub fn refuse(&self, error: &str) -> Outcome {
        Outcome::Refuse { message: format!("{}: error: {error}, try --help", self.program), code: 1 }
    }

    /// Reads the command line of this process; prints and exits unless it is one to run.
    pub fn parse_or_exit(&self) -> Parsed {
        // Bytes that are no text cannot name a flag; as a value they are refused where the file they name is not found.
        let args = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
        match self.parse(args) {
            Outcome::Run(parsed) => parsed,
            Outcome::Print(text) => {
                use std::io::Write;
                // Nobody reading the help is no failure.
                let _ = std::io::stdout().write_all(text.as_bytes());
                std::process::exit(0)
            }
            Outcome::Refuse { message, code } => {
                eprintln!("{message}");
                std::process::exit(code)
            }
        }
    }

    /// The flags in the order given, and what stopped the reading.
    fn matches(&self, mut tokens: Tokens) -> (Vec<(usize, String)>, Option<String>) {
        let mut given = Vec::new();
        loop {
            match tokens.next(&self.flags) {
                Ok(Token::End) => return (given, None),
                Ok(Token::Plain(text)) => return (given, Some(format!("unexpected {text}"))),
                Ok(token) => match self.one(&token, &mut tokens) {
                    Ok(found) => given.push(found),
                    Err(error) => return (given, Some(error)),
                },
                Err(error) => return (given, Some(error)),
            }
        }
    }

    fn one(&self, token: &Token, tokens: &mut Tokens) -> Result<(usize, String), String> {
        let (kind, shown) = match token {
            Token::Long(name) => ("long", format!("--{name}")),
            Token::Short(name) => ("short", format!("-{name}")),
            Token::Plain(_) | Token::End => return Err("expected a flag".to_owned()),
        };
        let unknown = || format!("unknown {kind} flag '{shown}'");
        let (index, inverted) = self.find(token).ok_or_else(unknown)?;
        if self.flags[index].kind == Kind::Boolean {
            return Ok((index, (!inverted).to_string()));
        }
        if inverted {
            return Err(unknown());
        }
        match tokens.next(&self.flags)? {
            Token::Plain(text) => Ok((index, text)),
            _ => Err(format!("expected argument for flag '{shown}'")),
        }
    }

    fn find(&self, token: &Token) -> Option<(usize, bool)> {
        let long = |name: &str| self.flags.iter().position(|flag| flag.name == name);
        match token {
            Token::Long(name) => match long(name) {
                Some(index) => Some((index, false)),
                None => name.strip_prefix("no-").and_then(long).map(|index| (index, true)),
            },
            Token::Short(name) => find_short(&self.flags, name).map(|index| (index, false)),
            Token::Plain(_) | Token::End => None,
        }
    }

    /// The command line over its file, and the way to read the file again.
    fn layered(&self, given: Vec<(usize, String)>, env: &dyn Fn(&str) -> Option<String>) -> Result<Parsed, String> {
        let variables = self.flags.iter().filter_map(|flag| flag.env.as_deref());
        let env = variables.filter_map(|name| Some((name.to_owned(), env(name)?))).collect();
        let mut origin = Origin { command: self.clone(), given, env, path: String::new() };
        if let Some(name) = &self.config {
            let first = self.values(&origin, BTreeMap::new())?;
            first.str(name).clone_into(&mut origin.path);
        }
        origin.read()
    }

    /// Where a flag is given twice, the command line wins over the file, and that over the environment.
    fn values(&self, origin: &Origin, mut file: BTreeMap<usize, Written>) -> Result<Parsed, String> {
        let mut texts: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (index, text) in &origin.given {
            let flag = &self.flags[*index];
            let all = texts.entry(*index).or_default();
            if !all.is_empty() && flag.kind != Kind::List {
                return Err(format!("flag '{}' cannot be repeated", flag.name));
            }
            all.push(text.clone());
        }
        let mut parsed = Parsed { values: Vec::new(), index: BTreeMap::new(), origin: None };
        for (index, flag) in self.flags.iter().enumerate() {
            let from_env = || {
                let text = origin.env.get(flag.env.as_deref()?).filter(|text| !text.is_empty())?;
                Some(if flag.kind == Kind::List {
                    text.lines().map(str::to_owned).collect()
                } else {
                    vec![text.clone()]
                })
            };
            let (given, value) = match (texts.remove(&index), file.remove(&index)) {
                (Some(all), _) => (true, flag.value_of(&all)?),
                (None, Some(written)) => {
                    let value = flag.value_of(&written.texts);
                    (true, value.map_err(|error| format!("{}: {}: {error}", written.place, flag.name))?)
                }
                (None, None) => {
                    let all = from_env().unwrap_or_else(|| flag.defaults.clone().unwrap_or_default());
                    (false, flag.value_of(&all)?)
                }
            };
            parsed.index.insert(flag.name.clone(), parsed.values.len());
            parsed.values.push(Entry { name: flag.name.clone(), value, given });
        }
        Ok(parsed)
    }
}

/// What values were made from, kept to read the file again.
#[derive(Clone, Debug, PartialEq)]
struct Origin {
    command: Command,
    given: Vec<(usize, String)>,
    env: BTreeMap<String, String>,
    /// The file; empty is none.
    path: String,
}

impl Origin {
    fn read(self) -> Result<Parsed, String> {
        let file = match self.path.as_str() {
            "" => BTreeMap::new(),
            path => config::read(path, &self.command)?,
        };
        let mut parsed = self.command.values(&self, file)?;
        parsed.origin = Some(Arc::new(self));
        Ok(parsed)
    }
}

fn find_short(flags: &[Flag], name: &str) -> Option<usize> {
    let mut letters = name.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) => flags.iter().position(|flag| flag.short == Some(letter)),
        _ => None,
    }
}

#[derive(Debug, PartialEq)]
enum Token {
    Long(String),
    Short(String),
    Plain(String),
    End,
}

/// Splits arguments into tokens, replacing `@file` by the lines of the file.
struct Tokens {
    /// Arguments to come, with the depth of the file they are from.
    args: VecDeque<(String, u32)>,
    pushed: Option<Token>,
    only_plain: bool,
    bytes_left: u64,
}

impl Tokens {
    fn new(args: impl IntoIterator<Item = String>) -> Tokens {
        let args = args.into_iter().take(ARGUMENTS).map(|arg| (arg, 0)).collect();
        Tokens { args, pushed: None, only_plain: false, bytes_left: FILE_BYTES }
    }

    fn next(&mut self, flags: &[Flag]) -> Result<Token, String> {
        if let Some(token) = self.pushed.take() {
            return Ok(token);
        }
        loop {
            let Some((arg, depth)) = self.args.pop_front() else { return Ok(Token::End) };
            if self.only_plain {
                return Ok(Token::Plain(arg));
            }
            if arg == "--" {
                self.only_plain = true;
            } else if let Some(rest) = arg.strip_prefix("--") {
                return Ok(self.long(rest));
            } else if let Some(rest) = arg.strip_prefix('-') {
                return Ok(self.short(rest, depth, flags));
            } else if let Some(path) = arg.strip_prefix('@') {
                self.expand(path, depth)?;
            } else {
                return Ok(Token::Plain(arg));
            }
        }
    }

    fn long(&mut self, rest: &str) -> Token {
        match rest.split_once('=') {
            Some((name, value)) => {
                self.pushed = Some(Token::Plain(value.to_owned()));
                Token::Long(name.to_owned())
            }
            None => Token::Long(rest.to_owned()),
        }
    }

    /// `-abc` is `-a -bc` when `a` takes no value, and `-a bc` when it does.
    fn short(&mut self, rest: &str, depth: u32, flags: &[Flag]) -> Token {
        let Some(letter) = rest.chars().next() else { return Token::Short(String::new()) };
        let (name, tail) = rest.split_at(letter.len_utf8());
        if !tail.is_empty() {
            match find_short(flags, name).map(|index| &flags[index].kind) {
                Some(kind) if *kind != Kind::Boolean => self.pushed = Some(Token::Plain(tail.to_owned())),
                _ => self.args.push_front((format!("-{tail}"), depth)),
            }
        }
        Token::Short(name.to_owned())
    }

    fn expand(&mut self, path: &str, depth: u32) -> Result<(), String> {
        if path.is_empty() {
            return Err("expected @ file to expand arguments from".to_owned());
        }
        if depth >= FILE_DEPTH {
            return Err(format!("arguments file {} is named by too many files in turn", quote(path)));
        }
        let failed = |error: &dyn std::fmt::Display| format!("failed to open arguments file {}: {error}", quote(path));
        let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
        let mut text = String::new();
        let read = file.take(self.bytes_left + 1).read_to_string(&mut text).map_err(|error| failed(&error))?;
        self.bytes_left = self.bytes_left.checked_sub(read as u64).ok_or_else(|| failed(&"longer than 1 MiB"))?;
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        if lines.len() + self.args.len() > ARGUMENTS {
            return Err(failed(&"too many arguments"));
        }
        for line in lines.into_iter().rev() {
            self.args.push_front((line.to_owned(), depth + 1));
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    name: String,
    value: Value,
    given: bool,
}

/// The values of all flags. Asking for a flag that was not defined, or as another kind, is a mistake in the program
/// and panics.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    values: Vec<Entry>,
    index: BTreeMap<String, usize>,
    origin: Option<Arc<Origin>>,
}

impl Parsed {
    fn entry(&self, name: &str) -> &Entry {
        match self.index.get(name) {
            Some(index) => &self.values[*index],
            None => panic!("flag {name} is not defined"),
        }
    }

    /// A text, or one of a few words.
    pub fn str(&self, name: &str) -> &str {
        match &self.entry(name).value {
            Value::String(text) => text,
            _ => panic!("flag {name} is no text"),
        }
    }

    /// A boolean.
    pub fn bool(&self, name: &str) -> bool {
        match &self.entry(name).value {
            Value::Boolean(on) => *on,
            _ => panic!("flag {name} is no boolean"),
        }
    }

    /// A duration of either spelling.
    pub fn duration(&self, name: &str) -> Duration {
        match &self.entry(name).value {
            Value::Duration(span, _) => *span,
            _ => panic!("flag {name} is no duration"),
        }
    }

    /// Whether a duration was given as one below zero, which [`Parsed::duration`] shows as zero.
    pub fn is_negative(&self, name: &str) -> bool {
        match &self.entry(name).value {
            Value::Duration(_, text) => parse_signed(text).is_ok_and(|(negative, _)| negative),
            _ => panic!("flag {name} is no duration"),
        }
    }

    /// A whole number.
    pub fn int(&self, name: &str) -> i64 {
        match &self.entry(name).value {
            Value::Int(number) => *number,
            _ => panic!("flag {name} is no number"),
        }
    }

    /// All values of a list.
    pub fn list(&self, name: &str) -> &[String] {
        match &self.entry(name).value {
            Value::List(list) => list,
            _ => panic!("flag {name} is no list"),
        }
    }

    /// Whether the flag stood on the command line.
    pub fn given(&self, name: &str) -> bool {
        self.entry(name).given
    }

    /// The same command line over its file as that is now; without a file the same once more. Blocks on the file.
    ///
    /// # Errors
    /// What is wrong with the file, and where in it.
    pub fn again(&self) -> Result<Parsed, String> {
        match &self.origin {
            Some(origin) => Origin::clone(origin).read(),
            None => Ok(self.clone()),
        }
    }

    /// The names of the flags whose values differ in another reading of the same command.
    pub fn differing<'a>(&'a self, other: &'a Parsed) -> impl Iterator<Item = &'a str> {
        let pairs = self.values.iter().zip(&other.values);
        pairs.filter(|(one, two)| (&one.value, one.given) != (&two.value, two.given)).map(|(one, _)| one.name.as_str())
    }

    /// All flags in the order of their definition, with their values as text; the help flags are left out.
    pub fn all(&self) -> impl Iterator<Item = (&str, String)> {
        let shown = self.values.iter().filter(|entry| !entry.name.starts_with("help") && entry.name != "version");
        shown.map(|entry| (entry.name.as_str(), entry.value.text()))
    }
}
