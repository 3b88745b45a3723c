//! One flag: its name, kind, default and help.

use std::time::Duration;

use crate::duration::parse_signed;
use crate::text::quote;

/// What a flag takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    String,
    Boolean,
    DurationGo,
    DurationProm,
    Int,
    Choice(Vec<String>),
    List,
}

/// A parsed value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    String(String),
    Boolean(bool),
    Duration(Duration, String),
    Int(i64),
    List(Vec<String>),
}

impl Value {
    pub(crate) fn text(&self) -> String {
        match self {
            Value::String(text) | Value::Duration(_, text) => text.clone(),
            Value::Boolean(on) => on.to_string(),
            Value::Int(number) => number.to_string(),
            Value::List(list) => list.join(","),
        }
    }
}

/// A flag of a [`Command`](crate::Command).
#[derive(Clone, Debug, PartialEq)]
pub struct Flag {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// `None` shows a placeholder instead.
    pub(crate) defaults: Option<Vec<String>>,
    pub(crate) help: String,
    pub(crate) hidden: bool,
    pub(crate) env: Option<String>,
    pub(crate) short: Option<char>,
    pub(crate) placeholder: Option<String>,
}

impl Flag {
    fn new(name: impl Into<String>, kind: Kind, defaults: Vec<String>, help: impl Into<String>) -> Flag {
        Flag {
            name: name.into(),
            kind,
            defaults: Some(defaults),
            help: help.into(),
            hidden: false,
            env: None,
            short: None,
            placeholder: None,
        }
    }

    /// Takes any text.
    pub fn string(name: impl Into<String>, default: &str, help: impl Into<String>) -> Flag {
        Flag::new(name, Kind::String, vec![default.to_owned()], help)
    }

    /// `--x` or `--no-x`.
    pub fn boolean(name: impl Into<String>, default: bool, help: impl Into<String>) -> Flag {
        Flag::new(name, Kind::Boolean, vec![default.to_string()], help)
    }

    /// Takes a duration in Go's spelling: `1m30s`, `1.5h`. One below zero is accepted, as upstream's parser does, and
    /// counts as zero; [`Parsed::is_negative`](crate::Parsed::is_negative) tells it.
    pub fn duration_go(name: impl Into<String>, default: &str, help: impl Into<String>) -> Flag {
        Flag::new(name, Kind::DurationGo, vec![default.to_owned()], help)
    }

    /// Takes a duration in Prometheus's spelling: `15d`, `1h30m`.
    pub fn duration_prom(name: impl Into<String>, default: &str, help: impl Into<String>) -> Flag {
        Flag::new(name, Kind::DurationProm, vec![default.to_owned()], help)
    }

    /// Takes a whole number.
    pub fn int(name: impl Into<String>, default: i64, help: impl Into<String>) -> Flag {
        Flag::new(name, Kind::Int, vec![default.to_string()], help)
    }

    /// Takes one of a few words.
    pub fn choice(name: impl Into<String>, default: &str, of: &[&str], help: impl Into<String>) -> Flag {
        let of = of.iter().map(|word| (*word).to_owned()).collect();
        Flag::new(name, Kind::Choice(of), vec![default.to_owned()], help)
    }

    /// May be given many times.
    pub fn list(name: impl Into<String>, defaults: &[&str], help: impl Into<String>) -> Flag {
        let defaults: Vec<String> = defaults.iter().map(|text| (*text).to_owned()).collect();
        let mut flag = Flag::new(name, Kind::List, defaults, help);
        if flag.defaults.as_ref().is_some_and(Vec::is_empty) {
            flag.defaults = None;
        }
        flag
    }

    /// Leaves the flag out of the help.
    pub fn hidden(mut self) -> Flag {
        self.hidden = true;
        self
    }

    /// Takes the default from an environment variable when that is set and not empty.
    pub fn env(mut self, variable: impl Into<String>) -> Flag {
        self.env = Some(variable.into());
        self
    }

    /// Gives a one-letter form.
    pub fn short(mut self, letter: char) -> Flag {
        self.short = Some(letter);
        self
    }

    /// Shows `text` in the help where the default would stand.
    pub fn placeholder(mut self, text: impl Into<String>) -> Flag {
        self.placeholder = Some(text.into());
        self
    }

    /// Shows the flag's name in capitals in the help where the default would stand; its value is still the default
    /// it was made with.
    pub fn without_default(self) -> Flag {
        let name = self.name.to_uppercase();
        self.placeholder(name)
    }

    /// The flag's name, without dashes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the flag is for, one line.
    pub fn help(&self) -> &str {
        &self.help
    }

    /// Whether the help leaves the flag out.
    pub fn is_hidden(&self) -> bool {
        self.hidden
    }

    /// The default as the help shows it: text in quotes, or the flag's name in capitals when there is none.
    pub fn shown_default(&self) -> String {
        if let Some(text) = &self.placeholder {
            return text.clone();
        }
        match self.defaults.as_deref() {
            None | Some([]) => self.name.to_uppercase(),
            Some([one]) if self.kind == Kind::String => quote(one),
            Some([one]) => one.clone(),
            Some([first, ..]) => format!("{first}..."),
        }
    }

    /// Reads the texts given for this flag; the error is the text that comes after `error: `.
    pub(crate) fn value_of(&self, texts: &[String]) -> Result<Value, String> {
        let text = texts.last().map_or("", String::as_str);
        Ok(match &self.kind {
            Kind::List => Value::List(texts.to_vec()),
            Kind::String => Value::String(text.to_owned()),
            Kind::Boolean => match text {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Value::Boolean(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Value::Boolean(false),
                _ => return Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quote(text))),
            },
            Kind::DurationGo => match parse_signed(text)? {
                (true, _) => Value::Duration(Duration::ZERO, text.to_owned()),
                (false, span) => Value::Duration(span, text.to_owned()),
            },
            Kind::DurationProm => {
                let span = model::Duration::parse(text).map_err(|error| error.to_string())?;
                Value::Duration(Duration::from_millis(span.as_millis()), text.to_owned())
            }
            Kind::Int => Value::Int(int(text)?),
            Kind::Choice(of) if of.iter().any(|word| word == text) => Value::String(text.to_owned()),
            Kind::Choice(of) => return Err(format!("enum value must be one of {}, got '{text}'", of.join(","))),
        })
    }
}

/// Upstream's parser reads whole numbers as floats, so that `1e3` is one.
fn int(text: &str) -> Result<i64, String> {
    if let Ok(number) = text.parse::<i64>() {
        return Ok(number);
    }
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    match text.parse::<f64>() {
        Ok(number) if numeric && number.is_finite() => Ok(number as i64),
        Ok(_) if numeric => Err(format!("strconv.ParseFloat: parsing {}: value out of range", quote(text))),
        _ => Err(format!("strconv.ParseFloat: parsing {}: invalid syntax", quote(text))),
    }
}
