//! From exposed labels to stored ones: the target's labels, clashes, relabelling, limits.

use crate::{Failure, NameValidation, ScrapeConfig};
use model::{Builder, Labels, Relabel, is_legacy_label_name, is_legacy_metric_name};

/// The labels under which an exposed series is stored; none when relabelling drops it. `exposed` is used up.
pub(crate) fn stored(config: &ScrapeConfig, target: &Labels, exposed: &mut Builder) -> Result<Option<Labels>, Failure> {
    let labels = exposed.build();
    let mut clashes: Vec<(&str, &str)> = Vec::new();
    for (name, value) in target.iter() {
        match labels.get(name) {
            Some(_) if config.honor_labels => continue,
            Some(old) => clashes.push((name, old)),
            None => {}
        }
        exposed.set(name, value);
    }
    // Shorter names first, so that the outcome does not depend on the order of labels.
    clashes.sort_by_key(|(name, _)| name.len());
    for (name, value) in clashes {
        let mut renamed = format!("exported_{name}");
        while !exposed.get(&renamed).is_empty() {
            renamed.insert_str(0, "exported_");
        }
        exposed.set(&renamed, value);
    }
    if !Relabel::apply(&config.metric_relabel, exposed) {
        return Ok(None);
    }
    let labels = exposed.build();
    if labels.metric_name().is_empty() {
        return Err(Failure::new("missing metric name (__name__ label)"));
    }
    if !valid(config.validation, &labels) {
        return Err(Failure::new(format!("invalid metric name or label names: {labels}")));
    }
    limits(config, &labels)?;
    Ok(Some(labels))
}

/// Whether all names are allowed. UTF-8 they are.
fn valid(validation: NameValidation, labels: &Labels) -> bool {
    match validation {
        NameValidation::Utf8 => labels.iter().all(|(name, _)| !name.is_empty()),
        NameValidation::Legacy => {
            is_legacy_metric_name(labels.metric_name()) && labels.iter().all(|(name, _)| is_legacy_label_name(name))
        }
    }
}

fn limits(config: &ScrapeConfig, labels: &Labels) -> Result<(), Failure> {
    let over = |limit: u64, have: usize| limit > 0 && have as u64 > limit;
    let metric = cut(labels.metric_name());
    let (limit, count) = (config.label_limit, labels.len());
    if over(limit, count) {
        return Err(Failure::label_limit(format!(
            "label_limit exceeded (metric: {metric}, number of labels: {count}, limit: {limit})"
        )));
    }
    for (name, value) in labels.iter() {
        let (limit, length) = (config.label_name_length_limit, name.len());
        if over(limit, length) {
            let name = cut(name);
            return Err(Failure::label_limit(format!(
                "label_name_length_limit exceeded (metric: {metric}, label name: {name}, length: {length}, limit: {limit})"
            )));
        }
        let (limit, length) = (config.label_value_length_limit, value.len());
        if over(limit, length) {
            let (name, value) = (cut(name), cut(value));
            return Err(Failure::label_limit(format!(
                "label_value_length_limit exceeded (metric: {metric}, label name: {name}, value: {value:?}, length: \
                 {length}, limit: {limit})"
            )));
        }
    }
    Ok(())
}

/// The first 50 characters, as messages show them.
fn cut(text: &str) -> &str {
    text.char_indices().nth(50).map_or(text, |(at, _)| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::tests::config;

    fn check(honor: bool, target: &[(&str, &str)], exposed: &[(&str, &str)], want: &str) {
        let config = ScrapeConfig { honor_labels: honor, ..config(&[]) };
        let mut builder = Builder::from(&Labels::from_pairs(exposed.iter().copied()));
        let labels = stored(&config, &Labels::from_pairs(target.iter().copied()), &mut builder).expect("allowed");
        assert_eq!(labels.expect("kept").to_string(), want);
    }

    #[test]
    fn clashing_labels_are_renamed_or_honoured() {
        let target = [("job", "j")];
        check(false, &target, &[("__name__", "a"), ("job", "own")], "a{exported_job=\"own\", job=\"j\"}");
        check(true, &target, &[("__name__", "a"), ("job", "own")], "a{job=\"own\"}");
        check(
            false,
            &target,
            &[("__name__", "a"), ("job", "own"), ("exported_job", "x")],
            "a{exported_exported_job=\"own\", exported_job=\"x\", job=\"j\"}",
        );
        let both = [("exported_job", "e"), ("job", "j")];
        check(
            false,
            &both,
            &[("__name__", "a"), ("job", "own"), ("exported_job", "x")],
            "a{exported_exported_exported_job=\"x\", exported_exported_job=\"own\", exported_job=\"e\", job=\"j\"}",
        );
    }

    #[test]
    fn names_beyond_ascii_are_refused_when_the_job_wants_old_ones() {
        let legacy = ScrapeConfig { validation: NameValidation::Legacy, ..config(&[]) };
        for (name, label, fits) in [("a:b", "l", true), ("a.b", "l", false), ("a", "l.m", false), ("é", "l", false)] {
            for (config, want) in [(&legacy, fits), (&config(&[]), true)] {
                let mut builder = Builder::from(&Labels::from_pairs([("__name__", name), (label, "v")]));
                let stored = stored(config, &Labels::empty(), &mut builder);
                assert_eq!(stored.is_ok(), want, "{name} {label}");
            }
        }
    }

    #[test]
    fn limits_name_what_was_too_much() {
        let long = "x".repeat(60);
        for (config, want) in [
            (
                ScrapeConfig { label_limit: 1, ..config(&[]) },
                "label_limit exceeded (metric: m, number of labels: 2, limit: 1)",
            ),
            (
                ScrapeConfig { label_name_length_limit: 7, ..config(&[]) },
                "label_name_length_limit exceeded (metric: m, label name: __name__, length: 8, limit: 7)",
            ),
            (
                ScrapeConfig { label_value_length_limit: 59, ..config(&[]) },
                &format!(
                    "label_value_length_limit exceeded (metric: m, label name: l, value: {:?}, length: 60, limit: 59)",
                    &long[..50]
                ),
            ),
        ] {
            let mut builder = Builder::from(&Labels::from_pairs([("__name__", "m"), ("l", &long)]));
            let error = stored(&config, &Labels::empty(), &mut builder).expect_err("over the limit");
            assert_eq!(error.to_string(), want);
        }
    }
}
