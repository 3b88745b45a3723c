//! Log lines on standard error, as logfmt or JSON.
//!
//! Code logs through the macros of `tracing`; a main calls [`init`] once.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use runtime::Clock;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

use crate::text::{printable, quote_into};

/// Which upstream logger the lines resemble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `time=… level=INFO source=file.rs:12 msg=…`
    Slog,
    /// `ts=… caller=file.rs:12 level=info msg=…`
    GoKit,
}

/// Why logging could not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The level is none.
    #[error("unrecognized log level {0}: use debug, info, warn or error")]
    Level(String),
    /// The format is none.
    #[error("unrecognized log format {0}: use logfmt or json")]
    Format(String),
    /// Logging was started before.
    #[error("logging was started twice")]
    Twice,
}

/// A line's fields up to this many bytes are written; the rest is cut, since input may end up in a message.
const MAX_LINE: usize = 64 << 10;
/// Libraries whose own debug messages nobody asked for.
const QUIET: [&str; 7] = ["h2", "hyper", "hyper_util", "rustls", "mio", "tokio", "want"];

/// Sends events of `level` (`debug`, `info`, `warn`, `error`) and worse to standard error in `format` (`logfmt`,
/// `json`).
pub fn init(level: &str, format: &str, style: Style) -> Result<(), LogError> {
    let lines = Lines::new(level, format, style, Clock::system(), |line| {
        // With standard error gone there is nowhere left to complain.
        let _ = std::io::stderr().write_all(line.as_bytes());
    })?;
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines)).map_err(|_| LogError::Twice)
}

struct Lines<W> {
    level: LevelFilter,
    json: bool,
    style: Style,
    clock: Clock,
    write: W,
}

impl<W: Fn(&str)> Lines<W> {
    fn new(level: &str, format: &str, style: Style, clock: Clock, write: W) -> Result<Lines<W>, LogError> {
        let filter = match level {
            "debug" => LevelFilter::DEBUG,
            "info" => LevelFilter::INFO,
            "warn" => LevelFilter::WARN,
            "error" => LevelFilter::ERROR,
            other => return Err(LogError::Level(other.to_owned())),
        };
        let json = match format {
            "logfmt" => false,
            "json" => true,
            other => return Err(LogError::Format(other.to_owned())),
        };
        Ok(Lines { level: filter, json, style, clock, write })
    }
}

impl<S: Subscriber, W: Fn(&str) + Send + Sync + 'static> Layer<S> for Lines<W> {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let library = metadata.target().split("::").next().unwrap_or_default();
        *metadata.level() <= self.level && (*metadata.level() <= Level::WARN || !QUIET.contains(&library))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let file = metadata.file().map_or("unknown", |path| path.rsplit('/').next().unwrap_or(path));
        let source = format!("{file}:{}", metadata.line().unwrap_or(0));
        let mut fields = Fields { json: self.json, message: String::new(), rest: String::new() };
        event.record(&mut fields);
        let level = metadata.level().as_str();
        let (time, level) = match self.style {
            Style::Slog => (timestamp(self.clock.unix_ms()), level.to_owned()),
            Style::GoKit => (timestamp(self.clock.unix_ms()), level.to_lowercase()),
        };
        let head = match self.style {
            Style::Slog => [("time", &time), ("level", &level), ("source", &source)],
            Style::GoKit => [("ts", &time), ("caller", &source), ("level", &level)],
        };
        let mut line = String::with_capacity(128 + fields.rest.len());
        line.push_str(if self.json { "{" } else { "" });
        for (key, value) in head {
            put(self.json, &mut line, key, value);
            line.push(if self.json { ',' } else { ' ' });
        }
        put(self.json, &mut line, "msg", &fields.message);
        line.push_str(&fields.rest);
        line.push_str(if self.json { "}\n" } else { "\n" });
        (self.write)(&line);
    }
}

/// Collects the fields of an event, the message apart.
struct Fields {
    json: bool,
    message: String,
    rest: String,
}

impl Fields {
    fn separate(&mut self) {
        self.rest.push(if self.json { ',' } else { ' ' });
    }

    fn text(&mut self, field: &Field, value: &str) {
        let value = cut(value, MAX_LINE.saturating_sub(self.rest.len()));
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.separate();
            put(self.json, &mut self.rest, name(field), value);
        }
    }

    fn bare(&mut self, field: &Field, value: impl fmt::Display) {
        self.separate();
        key(self.json, &mut self.rest, name(field));
        let _ = write!(self.rest, "{value}");
    }
}

fn name(field: &Field) -> &'static str {
    field.name().trim_start_matches("r#")
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field, &value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no word for what is no number.
        if value.is_finite() { self.bare(field, value) } else { self.text(field, &value.to_string()) }
    }
}

fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

fn key(json: bool, out: &mut String, key: &str) {
    if json {
        json_string(key, out);
        out.push(':');
    } else {
        out.push_str(key);
        out.push('=');
    }
}

fn put(json: bool, out: &mut String, name: &str, value: &str) {
    key(json, out, name);
    if json {
        json_string(value, out);
    } else if value.is_empty() || value.chars().any(|c| matches!(c, ' ' | '"' | '=' | '\\') || !printable(c)) {
        quote_into(value, out);
    } else {
        out.push_str(value);
    }
}

fn json_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 || matches!(c, '\u{2028}' | '\u{2029}') => drop(write!(out, "\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// `2026-11-25T07:00:00.000Z`, in UTC.
pub fn timestamp(unix_ms: i64) -> String {
    let (days, ms) = (unix_ms.div_euclid(86_400_000), unix_ms.rem_euclid(86_400_000));
    let (year, month, date) = model::date_of_day(days);
    let (h, m, s, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
    format!("{year:04}-{month:02}-{date:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn logged(level: &str, format: &str, style: Style, events: impl FnOnce()) -> String {
        let seen = Arc::new(Mutex::new(String::new()));
        let sink = seen.clone();
        let clock = Clock::system();
        let lines = Lines::new(level, format, style, clock, move |line| sink.lock().unwrap().push_str(line)).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), events);

        seen.lock().unwrap().clone()
    }

    /// Without the time, which the machine decides, and the line number, which every edit does.
    fn steady(line: &str) -> String {
        let mut out = String::new();
        let mut rest = line;
        for (start, end) in [("20", "Z"), ("log.rs:", "")] {
            let Some(at) = rest.find(start) else { continue };
            out.push_str(&rest[..at]);
            let tail = &rest[at + start.len()..];
            let skip =
                if end.is_empty() { tail.find(|c: char| !c.is_ascii_digit()) } else { tail.find(end).map(|n| n + 1) };
            out.push_str(if end.is_empty() { "log.rs:N" } else { "T" });
            rest = &tail[skip.unwrap_or(0)..];
        }
        out + rest
    }

    fn events() {
        tracing::debug!("too fine");
        let error = std::io::Error::other("no \"way\"\nout");
        tracing::info!(count = 3, name = "plain", empty = "", ok = true, part = 0.5, err = %error, "Made {} things", 3);
    }

    #[test]
    fn logfmt_lines() {
        let line = logged("info", "logfmt", Style::Slog, events);
        let fields = r#"count=3 name=plain empty="" ok=true part=0.5 err="no \"way\"\nout""#;
        assert_eq!(steady(&line), format!("time=T level=INFO source=log.rs:N msg=\"Made 3 things\" {fields}\n"));
        let line = logged("info", "logfmt", Style::GoKit, events);
        assert_eq!(steady(&line), format!("ts=T caller=log.rs:N level=info msg=\"Made 3 things\" {fields}\n"));
    }

    #[test]
    fn json_lines() {
        let line = logged("info", "json", Style::Slog, events);
        let head = r#"{"time":"T","level":"INFO","source":"log.rs:N","msg":"Made 3 things","#;
        let fields = r#""count":3,"name":"plain","empty":"","ok":true,"part":0.5,"err":"no \"way\"\nout"}"#;
        assert_eq!(steady(&line), format!("{head}{fields}\n"));
    }

    #[test]
    fn levels_and_chatty_libraries() {
        let chatter = || {
            tracing::info!(target: "hyper::proto", "chatter");
            tracing::warn!(target: "hyper::proto", "trouble");
            tracing::debug!("fine");
        };
        let text = logged("debug", "logfmt", Style::Slog, chatter);
        assert!(!text.contains("chatter") && text.contains("msg=trouble") && text.contains("msg=fine"), "{text}");
        assert_eq!(logged("error", "logfmt", Style::Slog, chatter), "");
    }

    #[test]
    fn input_in_a_message_cannot_make_a_second_line_or_a_huge_one() {
        let text = logged("info", "logfmt", Style::Slog, || tracing::info!(x = "a\n".repeat(1 << 20), "m\u{1b}[0m"));
        assert_eq!(text.lines().count(), 1);
        assert!(text.len() < 3 * MAX_LINE && text.contains(r#"msg="m\x1b[0m""#));
    }

    #[test]
    fn unknown_settings_are_refused() {
        let refused = |level, format| Lines::new(level, format, Style::Slog, Clock::system(), |_| {}).err();
        assert_eq!(refused("loud", "json"), Some(LogError::Level("loud".to_owned())));
        assert_eq!(refused("info", "xml"), Some(LogError::Format("xml".to_owned())));
    }

    #[test]
    fn timestamps_of_known_days() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_123, "2000-02-29T00:00:00.123Z"),
            (1_795_590_000_000, "2026-11-25T07:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
        ] {
            assert_eq!(timestamp(ms), text);
        }
    }
}
