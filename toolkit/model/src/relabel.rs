//! Relabelling: every action of upstream's `relabel_config`, checked when compiled.

use crate::{Builder, Labels, accept::Accept, case};
use md5::{Digest, Md5};
use re2::{Expression, Regex, Template};
use std::{borrow::Cow, sync::Arc};

const SEPARATOR: &str = ";";
const REGEX: &str = "(.*)";
const REPLACEMENT: &str = "$1";

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are upstream's words")]
pub enum Action {
    #[default]
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

const ACTIONS: [(&str, Action); 11] = [
    ("replace", Action::Replace),
    ("keep", Action::Keep),
    ("drop", Action::Drop),
    ("keepequal", Action::KeepEqual),
    ("dropequal", Action::DropEqual),
    ("hashmod", Action::HashMod),
    ("labelmap", Action::LabelMap),
    ("labeldrop", Action::LabelDrop),
    ("labelkeep", Action::LabelKeep),
    ("lowercase", Action::Lowercase),
    ("uppercase", Action::Uppercase),
];

impl Action {
    /// The action of a word, in any case.
    pub fn parse(word: &str) -> Option<Self> {
        ACTIONS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, action)| *action)
    }

    /// The action's word.
    pub fn as_str(self) -> &'static str {
        ACTIONS.iter().find(|(_, action)| *action == self).map_or("", |(name, _)| name)
    }
}

/// A rule as written; `None` is "not given", which several actions demand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelabelRule {
    /// Labels whose values are joined.
    pub source_labels: Vec<String>,
    /// Between the joined values; `;` unless given.
    pub separator: Option<String>,
    /// The label written.
    pub target_label: Option<String>,
    /// Anchored expression; `(.*)` unless given.
    pub regex: Option<String>,
    /// Divisor of `hashmod`.
    pub modulus: Option<u64>,
    /// What is written; `$1` unless given.
    pub replacement: Option<String>,
    /// What is done.
    pub action: Action,
}

/// Why a rule was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelabelError {
    /// The expression is not Go's dialect.
    #[error(transparent)]
    Regex(#[from] re2::Error),
    /// The action lacks something, or something is given that it does not take.
    #[error("{0}")]
    Rule(String),
}

/// A compiled rule.
#[derive(Clone, Debug)]
pub struct Relabel {
    /// As written, defaults filled in.
    rule: RelabelRule,
    separator: String,
    step: Step,
}

/// What a rule does, with all that it needs for it.
#[derive(Clone, Debug)]
enum Step {
    Replace {
        regex: Regex,
        target: Template,
        replacement: Template,
    },
    /// Keeps what the expression accepts, or, when not `wanted`, what it does not.
    Filter {
        accept: Arc<Accept>,
        wanted: bool,
    },
    /// Keeps what equals the target, or, when not `wanted`, what does not.
    Equal {
        target: String,
        wanted: bool,
    },
    HashMod {
        target: String,
        modulus: u64,
    },
    Case {
        target: String,
        map: fn(&str) -> String,
    },
    /// Keeps the labels whose names the expression accepts, or, when not `wanted`, the others.
    Names {
        accept: Arc<Accept>,
        wanted: bool,
    },
    Map {
        regex: Regex,
        replacement: Template,
    },
}

/// Rules are equal when they were written the same, defaults counting as written.
impl PartialEq for Relabel {
    fn eq(&self, other: &Self) -> bool {
        self.rule == other.rule
    }
}

impl Relabel {
    /// Checks and compiles a rule.
    ///
    /// # Errors
    /// [`RelabelError`], with upstream's texts.
    pub fn compile(rule: &RelabelRule) -> Result<Self, RelabelError> {
        check(rule).map_err(RelabelError::Rule)?;
        let given = |field: &Option<String>, default: &str| field.clone().unwrap_or_else(|| default.to_owned());
        let (separator, target) = (given(&rule.separator, SEPARATOR), given(&rule.target_label, ""));
        let (regex, replacement) = (given(&rule.regex, REGEX), given(&rule.replacement, REPLACEMENT));
        let step = Step::compile(rule, &Expression::anchored(&regex)?, &target, Template::new(&replacement))?;
        let rule = RelabelRule {
            source_labels: rule.source_labels.clone(),
            separator: Some(separator.clone()),
            target_label: Some(target),
            regex: Some(regex),
            modulus: rule.modulus.or(Some(0)),
            replacement: Some(replacement),
            action: rule.action,
        };
        Ok(Self { rule, separator, step })
    }

    /// Applies rules in order; false means that the item is dropped. O(rules × labels).
    pub fn apply(rules: &[Self], labels: &mut Builder) -> bool {
        rules.iter().all(|rule| rule.step(labels))
    }

    fn step(&self, labels: &mut Builder) -> bool {
        match &self.step {
            Step::Filter { accept, wanted } => return accept.accepts(&self.joined(labels)) == *wanted,
            Step::Equal { target, wanted } => return (labels.get(target) == self.joined(labels)) == *wanted,
            Step::Replace { regex, target, replacement } => {
                let pair = replaced(regex, target, replacement, &self.joined(labels));
                // A template that expands to no label name leaves everything as it is, as upstream.
                if let Some((name, value)) = pair.filter(|(name, _)| !name.is_empty()) {
                    labels.set(&name, &value);
                }
            }
            Step::HashMod { target, modulus } => {
                let shard = hash(&self.joined(labels)) % modulus;
                labels.set(target, &shard.to_string());
            }
            Step::Case { target, map } => {
                let value = map(&self.joined(labels));
                labels.set(target, &value);
            }
            Step::Names { accept, wanted } => _ = labels.retain(|name, _| accept.accepts(name) == *wanted),
            Step::Map { regex, replacement } => map_names(regex, replacement, labels),
        }
        true
    }

    /// The values of the sources with the separator in between; absent labels are empty.
    fn joined<'l>(&self, labels: &'l Builder) -> Cow<'l, str> {
        match self.rule.source_labels.as_slice() {
            [] => Cow::Borrowed(""),
            [one] => Cow::Borrowed(labels.get(one)),
            [first, rest @ ..] => {
                let mut joined = labels.get(first).to_owned();
                for name in rest {
                    joined.push_str(&self.separator);
                    joined.push_str(labels.get(name));
                }
                Cow::Owned(joined)
            }
        }
    }
}

impl Step {
    fn compile(
        rule: &RelabelRule,
        expression: &Expression,
        target: &str,
        replacement: Template,
    ) -> Result<Self, re2::Error> {
        let accept = || Accept::new(expression).map(Arc::new);
        let target = target.to_owned();
        Ok(match rule.action {
            Action::Replace => {
                Self::Replace { regex: expression.compile()?, target: Template::new(&target), replacement }
            }
            Action::Keep | Action::Drop => Self::Filter { accept: accept()?, wanted: rule.action == Action::Keep },
            Action::KeepEqual | Action::DropEqual => Self::Equal { target, wanted: rule.action == Action::KeepEqual },
            Action::HashMod => Self::HashMod { target, modulus: rule.modulus.unwrap_or(1).max(1) },
            Action::Lowercase => Self::Case { target, map: case::lower },
            Action::Uppercase => Self::Case { target, map: case::upper },
            Action::LabelKeep | Action::LabelDrop => {
                Self::Names { accept: accept()?, wanted: rule.action == Action::LabelKeep }
            }
            Action::LabelMap => Self::Map { regex: expression.compile()?, replacement },
        })
    }
}

fn replaced(regex: &Regex, target: &Template, replacement: &Template, joined: &str) -> Option<(String, String)> {
    let captures = regex.captures(joined)?;
    let (mut name, mut value) = (String::new(), String::new());
    target.expand(&captures, &mut name);
    replacement.expand(&captures, &mut value);
    Some((name, value))
}

/// Names and values are read as they were before the rule.
fn map_names(regex: &Regex, replacement: &Template, labels: &mut Builder) {
    let before: Labels = labels.clone().build();
    for (name, value) in before.iter() {
        if let Some(captures) = regex.captures(name) {
            let mut target = String::new();
            replacement.expand(&captures, &mut target);
            labels.set(&target, value);
        }
    }
}

/// The last eight bytes of the MD5 sum, big endian: upstream's quirk, which sharded scrapers rely on.
fn hash(text: &str) -> u64 {
    let sum = Md5::digest(text.as_bytes());
    sum[8..16].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Upstream's checks in upstream's order. A value equal to the default counts as not given, but for `regex`.
fn check(rule: &RelabelRule) -> Result<(), String> {
    use Action::{DropEqual, HashMod, KeepEqual, LabelDrop, LabelKeep, LabelMap, Lowercase, Replace, Uppercase};
    let action = rule.action.as_str();
    let given = |field: &Option<String>, default: &str| field.as_deref().is_some_and(|value| value != default);
    let target = given(&rule.target_label, "");
    let replacement = given(&rule.replacement, REPLACEMENT);
    let modulus = rule.modulus.unwrap_or_default() != 0;
    if rule.source_labels.iter().any(String::is_empty) {
        return Err("\"\" is not a valid label name".into());
    }
    if rule.action == HashMod && !modulus {
        return Err("relabel configuration for hashmod requires non-zero modulus".into());
    }
    if matches!(rule.action, Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual) && !target {
        return Err(format!("relabel configuration for {action} action requires 'target_label' value"));
    }
    if matches!(rule.action, Lowercase | Uppercase | KeepEqual | DropEqual) && replacement {
        return Err(format!("'replacement' can not be set for {action} action"));
    }
    if rule.action == LabelMap && rule.replacement.as_deref() == Some("") {
        return Err(format!("\"\" is invalid 'replacement' for {action} action"));
    }
    let others = modulus || replacement || given(&rule.separator, SEPARATOR);
    if matches!(rule.action, KeepEqual | DropEqual) && (others || rule.regex.is_some()) {
        return Err(format!("{action} action requires only 'source_labels' and `target_label`, and no other fields"));
    }
    if matches!(rule.action, LabelDrop | LabelKeep) && (others || target || !rule.source_labels.is_empty()) {
        return Err(format!("{action} action requires only 'regex', and no other fields"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(action: Action, sources: &[&str]) -> RelabelRule {
        RelabelRule {
            action,
            source_labels: sources.iter().map(|s| (*s).to_owned()).collect(),
            ..RelabelRule::default()
        }
    }

    fn check(rule: &RelabelRule, before: &[(&str, &str)], after: Option<&[(&str, &str)]>) {
        let rule = Relabel::compile(rule).expect("valid rule");
        let mut labels = Builder::default();
        for (name, value) in before {
            labels.set(name, value);
        }
        let kept = Relabel::apply(&[rule], &mut labels);
        let want = after.map(|pairs| Labels::from_pairs(pairs.iter().copied()));
        assert_eq!(kept.then(|| labels.build()), want);
    }

    #[test]
    fn every_action() {
        let to = |rule: RelabelRule, target: &str| RelabelRule { target_label: Some(target.into()), ..rule };
        let with = |rule: RelabelRule, regex: &str| RelabelRule { regex: Some(regex.into()), ..rule };
        let swap = RelabelRule {
            replacement: Some("${2}-$1".into()),
            ..with(to(rule(Action::Replace, &["a", "b"]), "c"), "(.*);(.*)")
        };
        check(&swap, &[("a", "x"), ("b", "y")], Some(&[("a", "x"), ("b", "y"), ("c", "y-x")]));
        check(&with(to(rule(Action::Replace, &["a"]), "c"), "no"), &[("a", "x")], Some(&[("a", "x")]));
        let delete = RelabelRule { replacement: Some(String::new()), ..to(rule(Action::Replace, &["a"]), "a") };
        check(&delete, &[("a", "x"), ("b", "y")], Some(&[("b", "y")]));
        check(&with(rule(Action::Keep, &["a"]), "x|y"), &[("a", "x")], Some(&[("a", "x")]));
        check(&with(rule(Action::Keep, &["a"]), "x"), &[("a", "xx")], None);
        check(&with(rule(Action::Drop, &["a"]), "x"), &[("a", "x")], None);
        check(&to(rule(Action::KeepEqual, &["a"]), "b"), &[("a", "x"), ("b", "x")], Some(&[("a", "x"), ("b", "x")]));
        check(&to(rule(Action::KeepEqual, &["a"]), "b"), &[("a", "x")], None);
        check(&to(rule(Action::DropEqual, &["a"]), "b"), &[("a", "x"), ("b", "x")], None);
        check(&with(rule(Action::LabelMap, &[]), "m_(.+)"), &[("m_a", "1")], Some(&[("m_a", "1"), ("a", "1")]));
        check(&with(rule(Action::LabelDrop, &[]), "m_.+"), &[("m_a", "1"), ("b", "2")], Some(&[("b", "2")]));
        check(&with(rule(Action::LabelKeep, &[]), "b"), &[("m_a", "1"), ("b", "2")], Some(&[("b", "2")]));
        check(&to(rule(Action::Lowercase, &["a"]), "b"), &[("a", "XÉ")], Some(&[("a", "XÉ"), ("b", "xé")]));
        check(&to(rule(Action::Uppercase, &["a"]), "a"), &[("a", "xé")], Some(&[("a", "XÉ")]));
    }

    #[test]
    fn hashmod_is_the_last_half_of_md5() {
        // md5("foo") = acbd18db4cc2f85cedef654fccc4a4d8
        assert_eq!(hash("foo"), 0xedef_654f_ccc4_a4d8);
        let rule = RelabelRule { modulus: Some(1000), target_label: Some("d".into()), ..rule(Action::HashMod, &["c"]) };
        check(&rule, &[("c", "baz")], Some(&[("c", "baz"), ("d", "976")]));
    }

    #[test]
    fn texts_of_refusals_are_upstreams() {
        let some = |text: &str| Some(text.to_owned());
        let refused = |rule: RelabelRule, text: &str| {
            assert_eq!(Relabel::compile(&rule).map(drop).map_err(|error| error.to_string()), Err(text.to_owned()));
        };
        let on = |action| RelabelRule { target_label: some("a"), ..rule(action, &[]) };
        refused(rule(Action::HashMod, &[]), "relabel configuration for hashmod requires non-zero modulus");
        for action in [Action::Replace, Action::Lowercase, Action::Uppercase, Action::KeepEqual, Action::DropEqual] {
            let text = format!("relabel configuration for {} action requires 'target_label' value", action.as_str());
            refused(rule(action, &[]), &text);
        }
        refused(
            RelabelRule { modulus: Some(2), ..rule(Action::HashMod, &[]) },
            "relabel configuration for hashmod action requires 'target_label' value",
        );
        refused(
            RelabelRule { replacement: some("x"), ..on(Action::Lowercase) },
            "'replacement' can not be set for lowercase action",
        );
        refused(
            RelabelRule { replacement: some("x"), ..on(Action::DropEqual) },
            "'replacement' can not be set for dropequal action",
        );
        refused(
            RelabelRule { replacement: some(""), ..rule(Action::LabelMap, &[]) },
            "\"\" is invalid 'replacement' for labelmap action",
        );
        let equal = "keepequal action requires only 'source_labels' and `target_label`, and no other fields";
        refused(RelabelRule { regex: some("(.*)"), ..on(Action::KeepEqual) }, equal);
        refused(RelabelRule { separator: some(","), ..on(Action::KeepEqual) }, equal);
        refused(RelabelRule { modulus: Some(1), ..on(Action::KeepEqual) }, equal);
        let names = "labeldrop action requires only 'regex', and no other fields";
        refused(rule(Action::LabelDrop, &["a"]), names);
        refused(on(Action::LabelDrop), names);
        refused(RelabelRule { separator: some(","), ..rule(Action::LabelDrop, &[]) }, names);
        refused(rule(Action::Drop, &[""]), "\"\" is not a valid label name");
        for (regex, text) in [
            ("(", "missing closing ): `^(?s:()$`"),
            ("a)", "unexpected ): `^(?s:a))$`"),
            ("*", "missing argument to repetition operator: `*`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("\\", "missing closing ): `^(?s:\\)$`"),
            ("a**", "invalid nested repetition operator: `**`"),
        ] {
            let rule = RelabelRule { regex: some(regex), ..rule(Action::Keep, &["a"]) };
            refused(rule, &format!("error parsing regexp: {text}"));
        }
    }

    #[test]
    fn defaults_written_out_are_not_given() {
        let some = |text: &str| Some(text.to_owned());
        let valid = |rule: RelabelRule| Relabel::compile(&rule).map(drop).expect("valid");
        let on = |action| RelabelRule { target_label: some("a"), ..rule(action, &[]) };
        valid(RelabelRule { replacement: some("$1"), ..on(Action::Lowercase) });
        valid(RelabelRule { replacement: some("$1"), separator: some(";"), modulus: Some(0), ..on(Action::DropEqual) });
        valid(RelabelRule { target_label: some(""), separator: some(";"), ..rule(Action::LabelDrop, &[]) });
        valid(RelabelRule { target_label: some("a b"), ..rule(Action::Replace, &[]) });
        valid(RelabelRule { target_label: some("$a"), ..rule(Action::Uppercase, &[]) });
        valid(RelabelRule { replacement: some("a b$$"), ..rule(Action::LabelMap, &[]) });
    }
}
