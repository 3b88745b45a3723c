//! What the collectors write: finished text lines in one buffer, with one small index entry a series.
//!
//! Nothing is allocated for a sample except the growth of the buffers, which are used again. The order of the answer
//! (families by name, series by label values) is made at the end by sorting the index; it is remembered, and used again
//! as long as the next answer has the same families and label values in the same order. For the same reason the family
//! of a sample is first guessed: it is the one the sample at this place had the last time. The first arrival of a series
//! wins; a later one is counted as dropped, and so is a sample whose type differs from the type its family already has,
//! or whose name the text format does not allow.

use exposition::{Family, MetricValue};
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::fmt::{Arguments, Write};

/// The types a collector may give to a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Goes up only.
    Counter,
    /// Goes up and down.
    Gauge,
    /// No promise.
    Untyped,
    /// Only through textfiles and the exporter's own registry.
    Summary,
    /// Only through textfiles and the exporter's own registry.
    Histogram,
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Untyped => "untyped",
            Kind::Summary => "summary",
            Kind::Histogram => "histogram",
        }
    }
}

#[derive(Debug)]
struct Head {
    name: String,
    help: String,
    kind: Kind,
    /// The two lines above the samples.
    lines: Vec<u8>,
    /// Has been written to since the last reset.
    met: bool,
}

impl Head {
    fn new(name: &str, help: String, kind: Kind) -> Head {
        let mut head = Head { name: name.to_owned(), help, kind, lines: Vec::new(), met: true };
        head.write();
        head
    }

    fn write(&mut self) {
        self.lines.clear();
        write_head(&self.name, &self.help, self.kind, &mut self.lines);
    }

    /// The first sample since the last reset decides what the family is.
    fn meet(&mut self, kind: Kind, help: &Help<'_>) {
        self.met = true;
        let other_help = match help {
            Help::Text(help) => self.help != *help,
            Help::Made(_) => false,
        };
        if self.kind != kind || other_help {
            self.kind = kind;
            if let Help::Text(help) = help {
                (*help).clone_into(&mut self.help);
            }
            self.write();
        }
    }
}

/// What a family is about: a text, or one that is only made when the family is new.
enum Help<'a> {
    Text(&'a str),
    Made(Arguments<'a>),
}

/// Heads that are kept although they were not met.
const HEADS_KEPT: usize = 64;
/// Labels that are sorted without asking the allocator.
const LABELS_USUAL: usize = 16;

/// Where one series lies: its lines, the part of them that names it, and its sort key.
#[derive(Debug)]
struct Series {
    family: u32,
    lines: (usize, usize),
    named_until: usize,
    key: (usize, usize),
}

/// One answer in the making.
#[derive(Debug, Default)]
pub struct Families {
    heads: Vec<Head>,
    by_name: HashMap<String, u32>,
    text: Vec<u8>,
    keys: Vec<u8>,
    series: Vec<Series>,
    dropped: u64,
    /// A family's name while it is put together.
    name: String,
    /// Families of another answer as they are numbered here.
    map: Vec<Option<u32>>,
    last: Last,
}

/// What is remembered of answers before this one.
#[derive(Debug, Default)]
struct Last {
    /// The family of each sample of the last answer.
    guesses: Vec<u32>,
    /// Families and keys of the series of the answer that was sorted last, and their order.
    families: Vec<u32>,
    keys: Vec<u8>,
    key_ends: Vec<usize>,
    order: Vec<u32>,
}

impl Families {
    /// Nothing yet.
    pub fn new() -> Families {
        Families::default()
    }

    /// Series so far, those included that will turn out to be there twice.
    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// Empties it and keeps the buffers. The heads stay too, so that a name met again costs no allocation; they are
    /// forgotten when most of them were not met.
    pub fn reset(&mut self) {
        self.last.guesses.clear();
        self.last.guesses.extend(self.series.iter().map(|series| series.family));
        let met = self.heads.iter().filter(|head| head.met).count();
        if self.heads.len() > 2 * met + HEADS_KEPT {
            self.heads.clear();
            self.by_name.clear();
            self.last = Last::default();
        }
        for head in &mut self.heads {
            head.met = false;
        }
        self.text.clear();
        self.keys.clear();
        self.series.clear();
        self.dropped = 0;
    }

    /// Takes over what another answer holds; copies bytes, and looks up a name once a family.
    pub(crate) fn append(&mut self, other: &Families) {
        let (text, keys, dropped) = (self.text.len(), self.keys.len(), self.dropped);
        let mut map = std::mem::take(&mut self.map);
        map.clear();
        map.extend(
            other
                .heads
                .iter()
                .map(|head| head.met.then(|| self.family(head.kind, &head.name, Help::Text(&head.help))).flatten()),
        );
        self.text.extend_from_slice(&other.text);
        self.keys.extend_from_slice(&other.keys);
        self.dropped = dropped + other.dropped;
        for series in &other.series {
            let Some(family) = map.get(series.family as usize).copied().flatten() else {
                self.dropped += 1;
                continue;
            };
            self.series.push(Series {
                family,
                lines: (series.lines.0 + text, series.lines.1 + text),
                named_until: series.named_until + text,
                key: (series.key.0 + keys, series.key.1 + keys),
            });
        }
        self.map = map;
    }

    /// A gauge without labels.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.sample(Kind::Gauge, name, help, &[], value);
    }

    /// A counter without labels.
    pub(crate) fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.sample(Kind::Counter, name, help, &[], value);
    }

    /// One sample with labels in any order.
    pub(crate) fn sample(&mut self, kind: Kind, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.write(kind, name, Help::Text(help), labels, value);
    }

    /// One sample of a family whose name is put together. The help is asked for when the family is new, and must
    /// follow from the name.
    pub(crate) fn put(
        &mut self,
        kind: Kind,
        name: Arguments<'_>,
        help: Arguments<'_>,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let mut whole = std::mem::take(&mut self.name);
        whole.clear();
        // Writing to memory does not fail.
        let _ = whole.write_fmt(name);
        self.write(kind, &whole, Help::Made(help), labels, value);
        self.name = whole;
    }

    fn write(&mut self, kind: Kind, name: &str, help: Help<'_>, labels: &[(&str, &str)], value: f64) {
        let Some(family) = self.family(kind, name, help) else { return };
        let mut usual = [("", ""); LABELS_USUAL];
        let mut unusual;
        let sorted = match usual.get_mut(..labels.len()) {
            Some(usual) => {
                usual.copy_from_slice(labels);
                usual
            }
            None => {
                unusual = labels.to_vec();
                &mut unusual[..]
            }
        };
        sorted.sort_unstable_by_key(|(name, _)| *name);
        let start = self.text.len();
        let key = self.push_key(sorted);
        let named_until = self.line(name, "", sorted, value);
        self.series.push(Series { family, lines: (start, self.text.len()), named_until, key });
    }

    /// Everything of a family that was built elsewhere: a textfile, the exporter's own registry.
    pub(crate) fn add(&mut self, family: &Family) {
        // All series of a family show the same label names; those a metric lacks are empty.
        let names: BTreeSet<&str> =
            family.metrics.iter().flat_map(|metric| metric.labels.iter().map(|(name, _)| name)).collect();
        for metric in &family.metrics {
            let mut labels: Vec<(&str, &str)> = metric.labels.iter().collect();
            if labels.len() < names.len() {
                let value =
                    |wanted: &str| labels.iter().find(|(name, _)| *name == wanted).map_or("", |(_, value)| value);
                labels = names.iter().map(|name| (*name, value(name))).collect();
            }
            match &metric.value {
                MetricValue::Counter { value, .. } => {
                    self.sample(Kind::Counter, &family.name, &family.help, &labels, *value);
                }
                MetricValue::Gauge(value) => self.sample(Kind::Gauge, &family.name, &family.help, &labels, *value),
                MetricValue::Untyped(value) => self.sample(Kind::Untyped, &family.name, &family.help, &labels, *value),
                MetricValue::Summary { .. } => self.block(Kind::Summary, family, &metric.value, &labels),
                MetricValue::Histogram(_) => self.block(Kind::Histogram, family, &metric.value, &labels),
            }
        }
    }

    /// A metric of several lines: one for each bound, then sum and count.
    fn block(&mut self, kind: Kind, family: &Family, value: &MetricValue, labels: &[(&str, &str)]) {
        let (suffix, bound_name, mut bounds, sum, count) = match value {
            MetricValue::Summary { count, sum, quantiles, .. } => ("", "quantile", quantiles.clone(), *sum, *count),
            MetricValue::Histogram(whole) => ("_bucket", "le", whole.buckets.clone(), whole.sum, whole.count),
            _ => return,
        };
        let Some(index) = self.family(kind, &family.name, Help::Text(&family.help)) else { return };
        if kind == Kind::Histogram && bounds.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
            bounds.push((f64::INFINITY, count));
        }
        let sorted = sorted_labels(labels);
        let key = self.push_key(&sorted);
        let start = self.text.len();
        for (suffix, value) in [("_sum", sum), ("_count", count)] {
            self.line(&family.name, suffix, &sorted, value);
        }
        let tail = self.text.split_off(start);
        for (bound, value) in bounds {
            let mut text = Vec::new();
            exposition::write_float(bound, &mut text);
            let text = String::from_utf8_lossy(&text).into_owned();
            let mut bounded = sorted.clone();
            bounded.push((bound_name, &text));
            self.line(&family.name, suffix, &bounded, value);
        }
        self.text.extend_from_slice(&tail);
        self.series.push(Series { family: index, lines: (start, self.text.len()), named_until: start, key });
    }

    /// One line; the answer is where its name and labels end.
    fn line(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: f64) -> usize {
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(suffix.as_bytes());
        write_labels(labels, &mut self.text);
        let named_until = self.text.len();
        self.text.push(b' ');
        exposition::write_float(value, &mut self.text);
        self.text.push(b'\n');
        named_until
    }

    fn family(&mut self, kind: Kind, name: &str, help: Help<'_>) -> Option<u32> {
        let guess = self.last.guesses.get(self.series.len()).copied();
        let guess = guess.filter(|index| self.heads.get(*index as usize).is_some_and(|head| head.name == name));
        if let Some(index) = guess.or_else(|| self.by_name.get(name).copied()) {
            let head = &mut self.heads[index as usize];
            if !head.met {
                head.meet(kind, &help);
            }
            if head.kind == kind {
                return Some(index);
            }
            self.dropped += 1;
            return None;
        }
        // Some names are made of what a file says, and a file may hold anything.
        if !is_name(name) {
            self.dropped += 1;
            return None;
        }
        let index = u32::try_from(self.heads.len()).ok()?;
        let help = match help {
            Help::Text(help) => help.to_owned(),
            Help::Made(help) => help.to_string(),
        };
        self.by_name.insert(name.to_owned(), index);
        self.heads.push(Head::new(name, help, kind));
        Some(index)
    }

    /// Series with fewer labels come first, then label values decide; the separator is smaller than any character.
    fn push_key(&mut self, labels: &[(&str, &str)]) -> (usize, usize) {
        let start = self.keys.len();
        self.keys.push(u8::try_from(labels.len()).unwrap_or(u8::MAX));
        for (_, value) in labels {
            self.keys.extend_from_slice(value.as_bytes());
            self.keys.push(0);
        }
        (start, self.keys.len())
    }

    /// The answer in text format 0.0.4 and the number of samples that were refused.
    pub fn finish(mut self) -> (Vec<u8>, u64) {
        let mut out = Vec::with_capacity(self.size_hint());
        let dropped = self.render(&mut out);
        (out, dropped)
    }

    /// Bytes of the rendered answer, about.
    pub(crate) fn size_hint(&self) -> usize {
        self.text.len() + self.heads.iter().filter(|head| head.met).map(|head| head.lines.len()).sum::<usize>()
    }

    /// Appends the answer in text format 0.0.4; returns the number of samples that were refused.
    pub fn render(&mut self, out: &mut Vec<u8>) -> u64 {
        if !self.is_like_last() {
            self.sort();
        }
        let mut dropped = self.dropped;
        let mut last: Option<&Series> = None;
        for position in &self.last.order {
            let series = &self.series[*position as usize];
            let same_family = last.is_some_and(|last| last.family == series.family);
            if !same_family {
                out.extend_from_slice(&self.heads[series.family as usize].lines);
            } else if last.is_some_and(|last| self.same(last, series)) {
                dropped += 1;
                continue;
            }
            out.extend_from_slice(&self.text[series.lines.0..series.lines.1]);
            last = Some(series);
        }
        dropped
    }

    /// Whether the series have the same families and label values as those that were sorted the last time.
    fn is_like_last(&self) -> bool {
        self.last.order.len() == self.series.len()
            && self.last.key_ends.len() == self.series.len()
            && self.last.families.len() == self.series.len()
            && self.last.keys == self.keys
            && self.series.iter().zip(&self.last.families).all(|(series, family)| series.family == *family)
            && self.series.iter().zip(&self.last.key_ends).all(|(series, end)| series.key.1 == *end)
    }

    fn sort(&mut self) {
        let mut rank: Vec<u32> = (0..self.heads.len() as u32).collect();
        rank.sort_by(|a, b| self.heads[*a as usize].name.cmp(&self.heads[*b as usize].name));
        let mut place = vec![0u32; rank.len()];
        for (position, index) in rank.iter().enumerate() {
            place[*index as usize] = position as u32;
        }
        let (keys, all) = (&self.keys, &self.series);
        let last = &mut self.last;
        last.order.clear();
        last.order.extend(0..all.len() as u32);
        last.order.sort_by(|a, b| {
            let (a, b) = (&all[*a as usize], &all[*b as usize]);
            place[a.family as usize]
                .cmp(&place[b.family as usize])
                .then_with(|| keys[a.key.0..a.key.1].cmp(&keys[b.key.0..b.key.1]))
        });
        last.keys.clone_from(keys);
        last.key_ends.clear();
        last.key_ends.extend(all.iter().map(|series| series.key.1));
        last.families.clear();
        last.families.extend(all.iter().map(|series| series.family));
    }

    fn same(&self, a: &Series, b: &Series) -> bool {
        self.keys[a.key.0..a.key.1] == self.keys[b.key.0..b.key.1]
            && self.text[a.lines.0..a.named_until] == self.text[b.lines.0..b.named_until]
    }
}

/// Whether a family can be called so in text format 0.0.4.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    !name.is_empty() && name.bytes().all(allowed) && !name.starts_with(|first: char| first.is_ascii_digit())
}

fn sorted_labels<'a>(labels: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut sorted = labels.to_vec();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    sorted
}

fn write_labels(labels: &[(&str, &str)], out: &mut Vec<u8>) {
    for (position, (name, value)) in labels.iter().enumerate() {
        out.push(if position == 0 { b'{' } else { b',' });
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        escape(value, true, out);
        out.push(b'"');
    }
    if !labels.is_empty() {
        out.push(b'}');
    }
}

fn escape(text: &str, quotes: bool, out: &mut Vec<u8>) {
    if !text.bytes().any(|byte| matches!(byte, b'\\' | b'\n' | b'"')) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' if quotes => out.extend_from_slice(b"\\\""),
            other => out.push(other),
        }
    }
}

fn write_head(name: &str, help: &str, kind: Kind, out: &mut Vec<u8>) {
    out.extend_from_slice(b"# HELP ");
    out.extend_from_slice(name.as_bytes());
    out.push(b' ');
    escape(help, false, out);
    out.extend_from_slice(b"\n# TYPE ");
    out.extend_from_slice(name.as_bytes());
    out.push(b' ');
    out.extend_from_slice(kind.text().as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(families: Families) -> String {
        String::from_utf8(families.finish().0).expect("text")
    }

    #[test]
    fn families_by_name_series_by_values() {
        let mut out = Families::new();
        out.sample(Kind::Counter, "b_total", "B.", &[("x", "a b")], 1e6);
        out.sample(Kind::Counter, "b_total", "B.", &[("x", "a")], 0.5);
        out.gauge("a", "A\\\n.", f64::INFINITY);
        assert_eq!(
            text(out),
            "# HELP a A\\\\\\n.\n# TYPE a gauge\na +Inf\n# HELP b_total B.\n# TYPE b_total counter\n\
             b_total{x=\"a\"} 0.5\nb_total{x=\"a b\"} 1e+06\n"
        );
    }

    #[test]
    fn the_first_of_two_equal_series_wins() {
        let mut out = Families::new();
        out.sample(Kind::Gauge, "a", "A.", &[("y", "2"), ("x", "1")], 1.0);
        out.sample(Kind::Gauge, "a", "A.", &[("x", "1"), ("y", "2")], 2.0);
        out.sample(Kind::Counter, "a", "A.", &[], 3.0);
        let (text, dropped) = out.finish();
        assert_eq!(String::from_utf8_lossy(&text), "# HELP a A.\n# TYPE a gauge\na{x=\"1\",y=\"2\"} 1\n");
        assert_eq!(dropped, 2);
    }

    #[test]
    fn names_the_format_does_not_allow_are_left_out() {
        let mut out = Families::new();
        for name in ["", "1a", "a-b", "a b", "é", "a:b_1"] {
            out.gauge(name, "", 1.0);
        }
        let (text, dropped) = out.finish();
        assert_eq!(String::from_utf8_lossy(&text), "# HELP a:b_1 \n# TYPE a:b_1 gauge\na:b_1 1\n");
        assert_eq!(dropped, 5);
    }

    #[test]
    fn label_values_are_escaped() {
        let mut out = Families::new();
        out.sample(Kind::Gauge, "a", "", &[("x", "q\"b\\n\n")], 1.0);
        assert!(text(out).contains("a{x=\"q\\\"b\\\\n\\n\"} 1\n"));
    }

    #[test]
    fn buffers_are_used_again() {
        let mut out = Families::new();
        out.sample(Kind::Gauge, "b", "Old.", &[], 1.0);
        out.gauge("a", "A.", 1.0);
        out.reset();
        out.sample(Kind::Counter, "b", "New.", &[], 2.0);
        assert_eq!(text(out), "# HELP b New.\n# TYPE b counter\nb 2\n");
        let mut out = Families::new();
        for round in 0..3 {
            for index in 0..100 {
                out.gauge(&format!("a{round}_{index}"), "A.", 1.0);
            }
            out.reset();
        }
        assert!(out.heads.len() <= 200, "names of old rounds are forgotten");
    }

    #[test]
    fn a_remembered_order_holds_for_the_same_series_only() {
        let mut out = Families::new();
        let mut render = |samples: &[(&str, &str, f64)]| {
            out.reset();
            for (name, value, figure) in samples {
                out.put(Kind::Gauge, format_args!("{name}"), format_args!("Of {name}."), &[("x", value)], *figure);
            }
            let mut text = Vec::new();
            let dropped = out.render(&mut text);
            (String::from_utf8(text).expect("text").replace("# TYPE", "#").replace("# HELP", "#"), dropped)
        };
        let first = "# a Of a.\n# a gauge\na{x=\"1\"} 3\n# b Of b.\n# b gauge\nb{x=\"1\"} 2\nb{x=\"2\"} 1\n";
        for _ in 0..3 {
            assert_eq!(render(&[("b", "2", 1.0), ("b", "1", 2.0), ("a", "1", 3.0)]), (first.to_owned(), 0));
        }
        // Other values in the same place, the same bytes of keys cut elsewhere, another family, one more, none.
        assert!(
            render(&[("b", "2", 1.0), ("b", "3", 2.0), ("a", "1", 3.0)]).0.ends_with("b{x=\"2\"} 1\nb{x=\"3\"} 2\n")
        );
        assert!(render(&[("b", "2", 1.0), ("a", "3", 2.0), ("a", "1", 3.0)]).0.ends_with("b{x=\"2\"} 1\n"));
        assert_eq!(render(&[("b", "2", 1.0), ("a", "3", 2.0), ("a", "3", 3.0), ("a", "1", 3.0)]).1, 1);
        assert_eq!(render(&[]), (String::new(), 0));
        assert_eq!(render(&[("b", "2", 1.0), ("b", "1", 2.0), ("a", "1", 3.0)]), (first.to_owned(), 0));
    }

    #[test]
    fn an_answer_takes_over_another() {
        let mut first = Families::new();
        first.sample(Kind::Gauge, "a", "A.", &[("x", "1")], 1.0);
        let mut second = Families::new();
        second.gauge("unused", "U.", 1.0);
        second.reset();
        second.sample(Kind::Gauge, "a", "Other.", &[("x", "0")], 2.0);
        second.sample(Kind::Gauge, "a", "Other.", &[("x", "1")], 3.0);
        second.sample(Kind::Counter, "b", "B.", &[], 4.0);
        first.append(&second);
        assert_eq!(
            String::from_utf8_lossy(&first.finish().0),
            "# HELP a A.\n# TYPE a gauge\na{x=\"0\"} 2\na{x=\"1\"} 1\n# HELP b B.\n# TYPE b counter\nb 4\n"
        );
    }
}
