//! The series of a text line: its name and labels as pieces of the body.

use super::{
    ParseError,
    lexer::{Cursor, Kind, Piece},
};
use crate::{
    float::{parse_float, write_openmetrics_float},
    text::{quote, unescape},
};
use model::{Builder, METRIC_NAME, MetricType};
use std::borrow::Cow;

/// One label. Names and values are without their quotes, escapes unresolved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label {
    name: Piece,
    name_quoted: bool,
    value: Piece,
}

/// The pieces of the series read last; the space is kept between lines.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    pub(super) name: Option<Piece>,
    name_quoted: bool,
    labels: Vec<Label>,
}

impl Series {
    pub(super) fn clear(&mut self) {
        self.name = None;
        self.name_quoted = false;
        self.labels.clear();
    }

    /// Reads labels up to the closing brace; the opening one is taken. The labels of an exemplar have no name.
    pub(super) fn read_labels(&mut self, cursor: &mut Cursor<'_>, exemplar: bool) -> Result<(), ParseError> {
        let mut token = cursor.label_token(false);
        loop {
            let name = match token.kind {
                Kind::BraceClose => return Ok(()),
                Kind::LabelName | Kind::Quoted => token,
                _ => return Err(cursor.unexpected("expected label name", token)),
            };
            let name_quoted = name.kind == Kind::Quoted;
            let piece = if name_quoted { name.piece.inner() } else { name.piece };
            token = cursor.label_token(false);
            if matches!(token.kind, Kind::Comma | Kind::BraceClose) {
                if exemplar {
                    return Err(cursor.unexpected("expected label name", token));
                }
                if self.name.is_some() {
                    return Err(cursor.parsing("metric name already set"));
                }
                (self.name, self.name_quoted) = (Some(piece), name_quoted);
                if token.kind == Kind::BraceClose {
                    return Ok(());
                }
                token = cursor.label_token(false);
                continue;
            }
            if token.kind != Kind::Equal {
                return Err(cursor.unexpected("expected equal", token));
            }
            let value = cursor.label_token(true);
            if value.kind != Kind::Quoted {
                return Err(cursor.unexpected("expected label value", value));
            }
            if std::str::from_utf8(value.piece.of(cursor.body)).is_err() {
                return Err(cursor.error(format!("invalid UTF-8 label value: {}", quote(value.piece.of(cursor.body)))));
            }
            self.labels.push(Label { name: piece, name_quoted, value: value.piece.inner() });
            token = cursor.label_token(false);
            if token.kind == Kind::Comma {
                token = cursor.label_token(false);
            } else if cursor.strict && token.kind != Kind::BraceClose {
                return Err(cursor.unexpected("expected comma or brace close", token));
            }
        }
    }

    /// Refuses what upstream refuses when it stores the series: no name, a name twice, names that are not UTF-8.
    /// O(labels) when they come in order.
    pub(super) fn check(&self, cursor: &Cursor<'_>) -> Result<(), ParseError> {
        let body = cursor.body;
        let reserved = |label: &&Label| label.name.of(body) == METRIC_NAME.as_bytes();
        // A label without value takes away what has its name.
        let taken = self.labels.iter().filter(reserved).any(|label| label.value.is_empty());
        if taken || self.name.is_none_or(Piece::is_empty) {
            return Err(cursor.error("missing metric name (__name__ label)".into()));
        }
        let quoted = self.labels.iter().filter(|label| label.name_quoted).map(|label| label.name);
        let bad = |name: Piece| name.is_empty() || std::str::from_utf8(name.of(body)).is_err();
        if quoted.chain(self.name.filter(|_| self.name_quoted)).any(bad) {
            return Err(cursor.error(format!("invalid metric name or label names: {}", self.describe(body))));
        }
        let ordered = self.labels.windows(2).all(|pair| pair[0].name.of(body) < pair[1].name.of(body));
        let twice = match self.labels.iter().find(reserved) {
            None if ordered => return Ok(()),
            None => self.repeated(body),
            found => found,
        };
        let Some(label) = twice else { return Ok(()) };
        let name = unescape_piece(label.name, body);
        Err(cursor.error(format!("label name \"{name}\" is not unique: invalid sample")))
    }

    /// A label whose name an earlier one has; empty values count as absent.
    fn repeated(&self, body: &[u8]) -> Option<&Label> {
        let present = || self.labels.iter().filter(|label| !label.value.is_empty());
        if self.labels.len() <= 32 {
            let mut seen = present().enumerate();
            return seen
                .find(|(i, label)| present().take(*i).any(|other| other.name.of(body) == label.name.of(body)))
                .map(|(_, label)| label);
        }
        let mut sorted: Vec<&Label> = present().collect();
        sorted.sort_by_key(|label| label.name.of(body));
        sorted.windows(2).find(|pair| pair[0].name.of(body) == pair[1].name.of(body)).map(|pair| pair[1])
    }

    fn describe(&self, body: &[u8]) -> String {
        let name = self.name.into_iter().map(|name| (Piece::default(), name));
        let mut pairs: Vec<_> = name.chain(self.labels.iter().map(|label| (label.name, label.value))).collect();
        let shown = |piece: Piece| if piece == Piece::default() { METRIC_NAME.as_bytes() } else { piece.of(body) };
        pairs.sort_by_key(|(name, _)| shown(*name));
        let pair = |(name, value): &(Piece, Piece)| {
            let bytes = shown(*name);
            let bare = std::str::from_utf8(bytes).ok().filter(|name| model::is_legacy_label_name(name));
            format!("{}={}", bare.map_or_else(|| quote(bytes), str::to_owned), quote(value.of(body)))
        };
        format!("{{{}}}", pairs.iter().map(pair).collect::<Vec<_>>().join(", "))
    }

    /// Shows each name and value, escapes resolved, the metric name as `__name__`, bounds in canonical form.
    pub(super) fn build(&self, body: &[u8], kind: MetricType, labels: &mut Builder) {
        let canonical = match kind {
            MetricType::Histogram => "le",
            MetricType::Summary => "quantile",
            _ => "",
        };
        if let Some(name) = self.name {
            labels.push(METRIC_NAME, &unescape_piece(name, body));
        }
        for label in self.labels.iter().filter(|label| !label.value.is_empty()) {
            let (name, value) = (unescape_piece(label.name, body), unescape_piece(label.value, body));
            let bound = Some(&value).filter(|_| name == canonical).and_then(|value| canonical_bound(value));
            labels.push(&name, bound.as_deref().unwrap_or(&value));
        }
        // An empty value takes the label away, even one given beside it.
        for label in self.labels.iter().filter(|label| label.value.is_empty()) {
            labels.del(&unescape_piece(label.name, body));
        }
    }

    /// A label's value as exposed, escapes unresolved.
    pub(super) fn exposed<'a>(&self, body: &'a [u8], name: &str) -> Option<&'a str> {
        let label = self.labels.iter().find(|label| label.name.of(body) == name.as_bytes())?;
        std::str::from_utf8(label.value.of(body)).ok()
    }

    /// A number that is the same for all series of one metric: the labels without bounds, in any order.
    pub(super) fn signature(&self, body: &[u8]) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let labels = self.labels.iter().map(|label| (label.name.of(body), label.value.of(body)));
        let kept = labels.filter(|(name, value)| *name != b"le" && *name != b"quantile" && !value.is_empty());
        kept.fold(0, |sum, pair| {
            let mut hasher = DefaultHasher::new();
            pair.hash(&mut hasher);
            sum.wrapping_add(hasher.finish())
        })
    }
}

/// Text of the body with its escapes resolved; what was read is UTF-8.
pub(super) fn unescape_piece(piece: Piece, body: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(piece.of(body)) {
        Ok(text) => unescape(text, true),
        Err(_) => String::from_utf8_lossy(piece.of(body)),
    }
}

/// A bucket's bound or a quantile in the one form that is stored; None for what is no number.
fn canonical_bound(value: &str) -> Option<String> {
    let bound = parse_float(value.as_bytes()).ok()?;
    let mut out = Vec::new();
    write_openmetrics_float(bound, &mut out);
    String::from_utf8(out).ok()
}
