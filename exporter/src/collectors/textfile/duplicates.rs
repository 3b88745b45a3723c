//! Series that textfiles define twice: which files, and which lines of them.
//!
//! Sought only when asked for, and lines only once there is a duplicate: most answers have none. What built-in
//! collectors define as well is not among them, those win without a word here.

use super::Merged;
use exposition::Family;
use model::Labels;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

/// Duplicates that are looked up and told; more are only counted.
const TOLD_MAX: usize = 16;
/// Bytes of a line that are understood.
const LINE_MAX: u64 = 64 << 10;
/// What stands behind the name of a family in the lines of a histogram or summary.
const SUFFIXES: [&str; 4] = ["", "_bucket", "_sum", "_count"];

/// How many series are defined more than once; which, and where, goes to the log.
pub(super) fn report(merged: &BTreeMap<String, Merged>) -> usize {
    let mut count = 0;
    for merged in merged.values() {
        let mut first: HashMap<Labels, usize> = HashMap::new();
        let mut files = merged.counts.iter().enumerate().flat_map(|(file, count)| std::iter::repeat_n(file, *count));
        for metric in &merged.family.metrics {
            let file = files.next().unwrap_or_default();
            let labels = Labels::from_pairs(metric.labels.iter().filter(|(_, value)| !value.is_empty()));
            match first.get(&labels) {
                None => drop(first.insert(labels, file)),
                Some(earlier) => {
                    count += 1;
                    if count <= TOLD_MAX {
                        tell(merged, &labels, *earlier, file);
                    }
                }
            }
        }
    }
    count
}

fn tell(merged: &Merged, labels: &Labels, first: usize, second: usize) {
    let path = |file: usize| merged.files.get(file).map_or("", String::as_str);
    let (one, two) = (lines(path(first), &merged.family, labels), lines(path(second), &merged.family, labels));
    // Within one file the second place is the next one.
    let later = if first == second { two.get(1) } else { two.first() };
    let show = |path: &str, line: Option<&usize>| line.map_or_else(|| path.to_owned(), |line| format!("{path}:{line}"));
    tracing::error!(
        series = format!("{}{labels}", merged.family.name),
        first = show(path(first), one.first()),
        second = show(path(second), later),
        "textfiles define a series twice, the first one is shown"
    );
}

/// The numbers of the lines that begin a series. Of one that takes several lines only the first kind of them counts.
fn lines(path: &str, family: &Family, labels: &Labels) -> Vec<usize> {
    let Ok(file) = File::open(path) else { return Vec::new() };
    let mut reader = BufReader::new(file);
    let mut found: HashMap<String, Vec<usize>> = HashMap::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        match (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        if !line.starts_with(family.name.as_bytes()) {
            continue;
        }
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        let Ok(parsed) = exposition::families::parse_text(&line) else { continue };
        for one in &parsed {
            let suffix = one.name.strip_prefix(&family.name).filter(|suffix| SUFFIXES.contains(suffix));
            let same = |of: &Labels| {
                let bare = |(name, value): &(&str, &str)| !value.is_empty() && !["le", "quantile"].contains(name);
                Labels::from_pairs(of.iter().filter(bare)) == *labels
            };
            if let (Some(suffix), true) = (suffix, one.metrics.iter().any(|metric| same(&metric.labels))) {
                found.entry(suffix.to_owned()).or_default().push(number);
            }
        }
    }
    // A sum stands once in each series, whatever its buckets.
    ["_sum", "", "_count", "_bucket"].iter().find_map(|suffix| found.remove(*suffix)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;

    #[test]
    fn lines_of_a_series() {
        let text = "# HELP a A.\na{x=\"1\"} 1\na{y=\"\",x=\"1\"} 2\nab{x=\"1\"} 3\na{x=\"2\"} 4\n\
                    a_bucket{x=\"1\",le=\"1\"} 1\na_sum{x=\"3\"} 1\na_bucket{x=\"3\",le=\"1\"} 1\na_bucket{x=\"3\",le=\"2\"} 1\n";
        let tree = Tree::new().file("text/a.prom", text);
        let path = tree.path("text/a.prom").display().to_string();
        let family = Family::new("a", "", model::MetricType::Gauge);
        let check = |labels: &[(&str, &str)], expected: &[usize]| {
            assert_eq!(lines(&path, &family, &Labels::from_pairs(labels.iter().copied())), expected, "{labels:?}");
        };
        check(&[("x", "1")], &[2, 3]);
        check(&[("x", "2")], &[5]);
        check(&[("x", "3")], &[7]);
        check(&[], &[]);
        assert!(lines("/does/not/exist", &family, &Labels::empty()).is_empty());
    }
}
