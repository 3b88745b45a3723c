//! Content types, negotiation by weight, and the escaping of names for readers that know only the legacy alphabet.

/// An exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// text/plain 0.0.4
    Text004,
    /// text/plain 1.0.0
    Text100,
    /// application/openmetrics-text 0.0.1
    OpenMetrics001,
    /// application/openmetrics-text 1.0.0
    OpenMetrics100,
}

impl Format {
    /// Whether it is OpenMetrics.
    pub fn is_openmetrics(self) -> bool {
        matches!(self, Self::OpenMetrics001 | Self::OpenMetrics100)
    }
}

/// How names outside the legacy alphabet are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escaping {
    /// As they are, quoted.
    AllowUtf8,
    /// Each bad character as `_`.
    #[default]
    Underscores,
    /// `.` as `_dot_`, `_` as `__`.
    Dots,
    /// `U__` in front, bad characters as `_HEX_`.
    Values,
}

impl Escaping {
    fn word(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::AllowUtf8, Self::Underscores, Self::Dots, Self::Values].into_iter().find(|e| e.word() == word)
    }
}

/// The format of a Content-Type; version and parameters are ignored, as upstream's server does.
pub fn format_of_content_type(text: &str) -> Option<Format> {
    match text.split(';').next()?.trim().to_ascii_lowercase().as_str() {
        "text/plain" => Some(Format::Text004),
        "application/openmetrics-text" => Some(Format::OpenMetrics100),
        _ => None,
    }
}

/// The Content-Type of an answer.
pub fn content_type(format: Format, escaping: Escaping) -> String {
    let base = match format {
        Format::Text004 => "text/plain; version=0.0.4",
        Format::Text100 => "text/plain; version=1.0.0",
        Format::OpenMetrics001 => "application/openmetrics-text; version=0.0.1",
        Format::OpenMetrics100 => "application/openmetrics-text; version=1.0.0",
    };
    format!("{base}; charset=utf-8; escaping={}", escaping.word())
}

/// Picks the format a reader likes best of those it may have; text 0.0.4 when it likes none.
pub fn negotiate(accept: Option<&str>, openmetrics: bool) -> (Format, Escaping) {
    let mut best = (0.0, Format::Text004, Escaping::default());
    for range in accept.unwrap_or_default().split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let (mut weight, mut version, mut escaping) = (1.0, "", Escaping::default());
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim() {
                "q" => weight = value.trim().parse().unwrap_or(0.0),
                "version" => version = value.trim(),
                "escaping" => escaping = Escaping::parse(value.trim()).unwrap_or_default(),
                _ => {}
            }
        }
        let format = match (media, version) {
            ("application/openmetrics-text", "" | "0.0.1") if openmetrics => Format::OpenMetrics001,
            ("application/openmetrics-text", "1.0.0") if openmetrics => Format::OpenMetrics100,
            ("text/plain", "" | "0.0.4") => Format::Text004,
            ("text/plain", "1.0.0") => Format::Text100,
            _ => continue,
        };
        if weight > best.0 {
            best = (weight, format, escaping);
        }
    }
    (best.1, best.2)
}

/// A name as `escaping` writes it.
pub fn escape_name(name: &str, escaping: Escaping) -> String {
    let good = |i: usize, c: char| c == ':' || c == '_' || c.is_ascii_alphabetic() || i > 0 && c.is_ascii_digit();
    if escaping == Escaping::AllowUtf8 || name.is_empty() {
        return name.to_owned();
    }
    let legacy = name.chars().enumerate().all(|(i, c)| good(i, c));
    let mut out = String::with_capacity(name.len() + 8);
    match escaping {
        Escaping::Underscores => out.extend(name.chars().enumerate().map(|(i, c)| if good(i, c) { c } else { '_' })),
        Escaping::Dots => {
            for (i, c) in name.chars().enumerate() {
                match c {
                    '_' => out.push_str("__"),
                    '.' => out.push_str("_dot_"),
                    c if good(i, c) => out.push(c),
                    _ => out.push_str("__"),
                }
            }
        }
        _ if legacy => out.push_str(name),
        _ => {
            out.push_str("U__");
            for (i, c) in name.chars().enumerate() {
                match c {
                    '_' => out.push_str("__"),
                    c if good(i, c) => out.push(c),
                    c => out.push_str(&format!("_{:x}_", u32::from(c))),
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_and_a_browser_get_what_they_ask_for() {
        let server = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(negotiate(Some(server), true), (Format::OpenMetrics100, Escaping::AllowUtf8));
        assert_eq!(negotiate(Some(server), false), (Format::Text004, Escaping::Underscores));
        assert_eq!(negotiate(Some("text/html,*/*;q=0.8"), true), (Format::Text004, Escaping::Underscores));
        assert_eq!(negotiate(None, true), (Format::Text004, Escaping::Underscores));
    }

    #[test]
    fn names_are_escaped_by_scheme() {
        let check = |escaping, want: &str| assert_eq!(escape_name("a.b_c é", escaping), want);
        check(Escaping::AllowUtf8, "a.b_c é");
        check(Escaping::Underscores, "a_b_c__");
        check(Escaping::Dots, "a_dot_b__c____");
        check(Escaping::Values, "U__a_2e_b__c_20__e9_");
    }
}
