//! Content types: which format an answer is in, which one a reader asks for, which one it gets.
//!
//! Source of truth: upstream's `expfmt` negotiation for serving, its scrape manager for asking.

use crate::Escaping;

/// An exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// text/plain 0.0.4
    Text004,
    /// text/plain 1.0.0
    Text100,
    /// application/openmetrics-text 0.0.1
    OpenMetrics001,
    /// application/openmetrics-text 1.0.0
    OpenMetrics100,
    /// Length-delimited `io.prometheus.client.MetricFamily` messages.
    Protobuf,
    /// The same messages in the multi-line protobuf text notation; for people, never scraped.
    ProtobufText,
    /// The same messages in the protobuf text notation, one a line; for people, never scraped.
    ProtobufCompactText,
}

impl Format {
    /// Whether it is OpenMetrics.
    pub fn is_openmetrics(self) -> bool {
        matches!(self, Self::OpenMetrics001 | Self::OpenMetrics100)
    }

    /// Whether it is one of the protobuf encodings.
    pub fn is_protobuf(self) -> bool {
        matches!(self, Self::Protobuf | Self::ProtobufText | Self::ProtobufCompactText)
    }
}

/// A format as `scrape_protocols` and `fallback_scrape_protocol` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// PrometheusProto
    PrometheusProto,
    /// PrometheusText0.0.4
    PrometheusText004,
    /// PrometheusText1.0.0
    PrometheusText100,
    /// OpenMetricsText0.0.1
    OpenMetricsText001,
    /// OpenMetricsText1.0.0
    OpenMetricsText100,
}

impl Protocol {
    /// All, in the order of upstream's documentation.
    pub const ALL: [Self; 5] = [
        Self::PrometheusProto,
        Self::PrometheusText004,
        Self::PrometheusText100,
        Self::OpenMetricsText001,
        Self::OpenMetricsText100,
    ];

    /// What a server asks for when its configuration does not say.
    pub const DEFAULT: [Self; 4] =
        [Self::OpenMetricsText100, Self::OpenMetricsText001, Self::PrometheusText100, Self::PrometheusText004];

    /// What it asks for when it wants native histograms and its configuration does not say.
    pub const DEFAULT_NATIVE: [Self; 5] = [
        Self::PrometheusProto,
        Self::OpenMetricsText100,
        Self::OpenMetricsText001,
        Self::PrometheusText100,
        Self::PrometheusText004,
    ];

    /// The configuration's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::PrometheusProto => "PrometheusProto",
            Self::PrometheusText004 => "PrometheusText0.0.4",
            Self::PrometheusText100 => "PrometheusText1.0.0",
            Self::OpenMetricsText001 => "OpenMetricsText0.0.1",
            Self::OpenMetricsText100 => "OpenMetricsText1.0.0",
        }
    }

    /// The protocol of a configuration's word.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.name() == name)
    }

    /// The format behind it.
    pub fn format(self) -> Format {
        match self {
            Self::PrometheusProto => Format::Protobuf,
            Self::PrometheusText004 => Format::Text004,
            Self::PrometheusText100 => Format::Text100,
            Self::OpenMetricsText001 => Format::OpenMetrics001,
            Self::OpenMetricsText100 => Format::OpenMetrics100,
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
            Self::PrometheusText004 => "text/plain;version=0.0.4",
            Self::PrometheusText100 => "text/plain;version=1.0.0",
            Self::OpenMetricsText001 => "application/openmetrics-text;version=0.0.1",
            Self::OpenMetricsText100 => "application/openmetrics-text;version=1.0.0",
        }
    }
}

/// The Accept header of a scrape: weights fall from 0.6 by a tenth in the order of `protocols`, anything else comes
/// last. Only the 1.0.0 formats know escaping.
pub fn accept_header(protocols: &[Protocol], escaping: Escaping) -> String {
    let mut out = String::with_capacity(64 * (protocols.len() + 1));
    let mut weight = Protocol::ALL.len() + 1;
    for protocol in protocols {
        out.push_str(protocol.media_type());
        if matches!(protocol, Protocol::PrometheusText100 | Protocol::OpenMetricsText100) {
            out.push_str(";escaping=");
            out.push_str(escaping.word());
        }
        out.push_str(&format!(";q=0.{weight},"));
        weight = weight.saturating_sub(1);
    }
    out.push_str(&format!("*/*;q=0.{weight}"));
    out
}

/// The format of a Content-Type; version and parameters are ignored, as upstream's server does.
pub fn format_of_content_type(text: &str) -> Option<Format> {
    match text.split(';').next()?.trim().to_ascii_lowercase().as_str() {
        "text/plain" => Some(Format::Text004),
        "application/openmetrics-text" => Some(Format::OpenMetrics100),
        "application/vnd.google.protobuf" => Some(Format::Protobuf),
        _ => None,
    }
}

const PROTO: &str = "io.prometheus.client.MetricFamily";

/// Whether a Content-Type announces delimited `MetricFamily` messages, with all its parameters: what a push must say.
pub fn is_delimited_families(content_type: &str) -> bool {
    let Some(range) = Range::parse(content_type) else { return false };
    range.kind == "application/vnd.google.protobuf" && range.proto == PROTO && range.encoding == "delimited"
}

/// The Content-Type of an answer.
pub fn content_type(format: Format, escaping: Escaping) -> String {
    let base = match format {
        Format::Text004 => "text/plain; version=0.0.4; charset=utf-8",
        Format::Text100 => "text/plain; version=1.0.0; charset=utf-8",
        Format::OpenMetrics001 => "application/openmetrics-text; version=0.0.1; charset=utf-8",
        Format::OpenMetrics100 => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        Format::Protobuf => {
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
        }
        Format::ProtobufText => {
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=text"
        }
        Format::ProtobufCompactText => {
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=compact-text"
        }
    };
    format!("{base}; escaping={}", escaping.word())
}

/// One media range of an Accept header.
struct Range<'a> {
    kind: &'a str,
    weight: f64,
    version: &'a str,
    escaping: &'a str,
    proto: &'a str,
    encoding: &'a str,
}

impl<'a> Range<'a> {
    /// None for what is no media range.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let kind = parts.next().filter(|kind| kind.contains('/'))?;
        let mut range = Self { kind, weight: 1.0, version: "", escaping: "", proto: "", encoding: "" };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim();
            match name.trim() {
                "q" => range.weight = value.parse().ok().filter(|q: &f64| !q.is_nan()).unwrap_or(0.0),
                "version" => range.version = value,
                "escaping" => range.escaping = value,
                "proto" => range.proto = value,
                "encoding" => range.encoding = value,
                _ => {}
            }
        }
        Some(range)
    }

    fn wildcards(&self) -> usize {
        self.kind.split('/').filter(|half| *half == "*").count()
    }

    fn format(&self, openmetrics: bool) -> Option<Format> {
        Some(match (self.kind, self.version) {
            ("application/vnd.google.protobuf", _) if self.proto == PROTO => match self.encoding {
                "delimited" => Format::Protobuf,
                "text" => Format::ProtobufText,
                "compact-text" => Format::ProtobufCompactText,
                _ => return None,
            },
            ("application/openmetrics-text", "" | "0.0.1") if openmetrics => Format::OpenMetrics001,
            ("application/openmetrics-text", "1.0.0") if openmetrics => Format::OpenMetrics100,
            ("text/plain", "" | "0.0.4") => Format::Text004,
            _ => return None,
        })
    }
}

/// Media ranges looked at; a reader that likes more kinds gets what the first ones ask for.
const RANGES_MAX: usize = 64;

/// Picks the format a reader likes best of those it may have; text 0.0.4 when it likes none.
///
/// As upstream does, the escaping is that of the last range looked at, whether it was served or not: Prometheus tells
/// it beside OpenMetrics and means it for every answer. Text 1.0.0 is never served, only read.
pub fn negotiate(accept: Option<&str>, openmetrics: bool) -> (Format, Escaping) {
    let mut ranges: Vec<Range<'_>> =
        accept.unwrap_or_default().split(',').take(RANGES_MAX).filter_map(Range::parse).collect();
    ranges.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.wildcards().cmp(&b.wildcards())));
    let mut escaping = Escaping::default();
    for range in ranges {
        escaping = Escaping::parse(range.escaping).unwrap_or(escaping);
        if let Some(format) = range.format(openmetrics) {
            return (format, escaping);
        }
    }
    (Format::Text004, escaping)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_and_a_browser_get_what_they_ask_for() {
        let check =
            |accept: &str, openmetrics, want| assert_eq!(negotiate(Some(accept), openmetrics), want, "{accept}");
        let server = accept_header(&Protocol::DEFAULT, Escaping::AllowUtf8);
        check(&server, true, (Format::OpenMetrics100, Escaping::AllowUtf8));
        check(&server, false, (Format::Text004, Escaping::AllowUtf8));
        let native = accept_header(&Protocol::DEFAULT_NATIVE, Escaping::Values);
        check(&native, true, (Format::Protobuf, Escaping::Underscores));
        check("text/html,*/*;q=0.8", true, (Format::Text004, Escaping::Underscores));
        check("text/plain;version=1.0.0;escaping=dots", true, (Format::Text004, Escaping::Dots));
        check(
            "text/plain;q=0.2,application/openmetrics-text;q=0.3",
            true,
            (Format::OpenMetrics001, Escaping::Underscores),
        );
        let proto = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=";
        check(&format!("{proto}compact-text"), false, (Format::ProtobufCompactText, Escaping::Underscores));
        check(&format!("{proto}text"), false, (Format::ProtobufText, Escaping::Underscores));
        check(&format!("{proto}other"), false, (Format::Text004, Escaping::Underscores));
        assert_eq!(negotiate(None, true), (Format::Text004, Escaping::Underscores));
    }

    #[test]
    fn the_accept_header_is_upstreams() {
        assert_eq!(
            accept_header(&Protocol::DEFAULT, Escaping::AllowUtf8),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        );
        assert_eq!(
            accept_header(&[Protocol::PrometheusProto], Escaping::Underscores),
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,*/*;q=0.5"
        );
    }

    #[test]
    fn content_types_are_told_apart() {
        assert_eq!(format_of_content_type("Text/Plain; version=9"), Some(Format::Text004));
        assert_eq!(format_of_content_type("application/vnd.google.protobuf"), Some(Format::Protobuf));
        assert_eq!(format_of_content_type("text/html"), None);
        assert!(is_delimited_families(&content_type(Format::Protobuf, Escaping::Dots)));
        assert!(!is_delimited_families("application/vnd.google.protobuf; proto=x; encoding=delimited"));
        for protocol in Protocol::ALL {
            assert_eq!(Protocol::parse(protocol.name()), Some(protocol));
            assert_eq!(
                format_of_content_type(&content_type(protocol.format(), Escaping::Values)).map(Format::is_protobuf),
                Some(protocol == Protocol::PrometheusProto)
            );
        }
    }
}
