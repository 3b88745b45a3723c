//! Relabelling: every action of upstream's `relabel_config`, checked when compiled.

use crate::{Builder, Labels, is_legacy_label_name};
use md5::{Digest, Md5};

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
    sources: Vec<String>,
    separator: String,
    target: String,
    regex: re2::Regex,
    modulus: u64,
    replacement: String,
    action: Action,
}

/// Rules are equal when they were written the same.
impl PartialEq for Relabel {
    fn eq(&self, other: &Self) -> bool {
        let texts = |rule: &Self| (rule.regex.as_str().to_owned(), rule.separator.clone(), rule.replacement.clone());
        (&self.sources, &self.target, self.modulus, self.action)
            == (&other.sources, &other.target, other.modulus, other.action)
            && texts(self) == texts(other)
    }
}

impl Relabel {
    /// Checks and compiles a rule.
    ///
    /// # Errors
    /// [`RelabelError`].
    pub fn compile(rule: &RelabelRule) -> Result<Self, RelabelError> {
        check(rule).map_err(RelabelError::Rule)?;
        Ok(Self {
            sources: rule.source_labels.clone(),
            separator: rule.separator.clone().unwrap_or_else(|| ";".into()),
            target: rule.target_label.clone().unwrap_or_default(),
            regex: re2::Regex::anchored(rule.regex.as_deref().unwrap_or("(.*)"))?,
            modulus: rule.modulus.unwrap_or_default(),
            replacement: rule.replacement.clone().unwrap_or_else(|| "$1".into()),
            action: rule.action,
        })
    }

    /// Applies rules in order; false means that the item is dropped. O(rules × labels).
    pub fn apply(rules: &[Self], labels: &mut Builder) -> bool {
        rules.iter().all(|rule| rule.step(labels))
    }

    fn step(&self, labels: &mut Builder) -> bool {
        let joined = self.sources.iter().map(|name| labels.get(name)).collect::<Vec<_>>().join(&self.separator);
        match self.action {
            Action::Keep => return self.regex.is_match(&joined),
            Action::Drop => return !self.regex.is_match(&joined),
            Action::KeepEqual => return labels.get(&self.target) == joined,
            Action::DropEqual => return labels.get(&self.target) != joined,
            Action::Replace => self.replace(&joined, labels),
            Action::Lowercase => _ = labels.set(&self.target, &joined.to_lowercase()),
            Action::Uppercase => _ = labels.set(&self.target, &joined.to_uppercase()),
            Action::HashMod => _ = labels.set(&self.target, &(hash(&joined) % self.modulus).to_string()),
            Action::LabelDrop => _ = labels.retain(|name, _| !self.regex.is_match(name)),
            Action::LabelKeep => _ = labels.retain(|name, _| self.regex.is_match(name)),
            Action::LabelMap => self.map(labels),
        }
        true
    }

    fn replace(&self, joined: &str, labels: &mut Builder) {
        let Some(captures) = self.regex.captures(joined) else { return };
        let (mut target, mut value) = (String::new(), String::new());
        captures.expand(&self.target, &mut target);
        captures.expand(&self.replacement, &mut value);
        // A template that expands to no label name leaves everything as it is, as upstream.
        if !target.is_empty() {
            labels.set(&target, &value);
        }
    }

    /// Names are read as they were before the rule.
    fn map(&self, labels: &mut Builder) {
        let before: Labels = labels.clone().build();
        for (name, value) in before.iter() {
            if let Some(captures) = self.regex.captures(name) {
                let mut target = String::new();
                captures.expand(&self.replacement, &mut target);
                labels.set(&target, value);
            }
        }
    }
}

/// The last eight bytes of the MD5 sum, big endian: upstream's quirk, which sharded scrapers rely on.
fn hash(text: &str) -> u64 {
    let sum = Md5::digest(text.as_bytes());
    sum[8..16].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn check(rule: &RelabelRule) -> Result<(), String> {
    use Action::{DropEqual, HashMod, KeepEqual, LabelDrop, LabelKeep, LabelMap, Lowercase, Replace, Uppercase};
    let action = rule.action.as_str();
    let target = rule.target_label.as_deref().unwrap_or_default();
    if rule.action == HashMod && rule.modulus.unwrap_or_default() == 0 {
        return Err("relabel configuration for hashmod requires non-zero modulus".into());
    }
    if matches!(rule.action, Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual) && target.is_empty() {
        return Err(format!("relabel configuration for {action} action requires 'target_label' value"));
    }
    let template = rule.action == Replace && target.contains('$');
    if !target.is_empty()
        && !template
        && matches!(rule.action, Replace | HashMod | Lowercase | Uppercase)
        && target.contains('$')
    {
        return Err(format!("{target:?} is invalid 'target_label' for {action} action"));
    }
    if matches!(rule.action, Lowercase | Uppercase) && rule.replacement.is_some() {
        return Err(format!("'replacement' can not be set for {action} action"));
    }
    if rule.action == LabelMap {
        let bare = rule.replacement.as_deref().unwrap_or("$1").replace(['$', '{', '}'], "_");
        if !is_legacy_label_name(&bare) {
            return Err(format!(
                "{:?} is invalid 'replacement' for {action} action",
                rule.replacement.as_deref().unwrap_or("$1")
            ));
        }
    }
    let only_regex = rule.source_labels.is_empty()
        && rule.target_label.is_none()
        && rule.modulus.is_none()
        && rule.separator.is_none()
        && rule.replacement.is_none();
    if matches!(rule.action, LabelDrop | LabelKeep) && !only_regex {
        return Err(format!("{action} action requires only 'regex', and no other fields"));
    }
    let equal_only =
        rule.regex.is_none() && rule.modulus.is_none() && rule.separator.is_none() && rule.replacement.is_none();
    if matches!(rule.action, KeepEqual | DropEqual) && !equal_only {
        return Err(format!("{action} action requires only 'source_labels' and 'target_label', and no other fields"));
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
    fn what_is_refused() {
        let refused = |rule: RelabelRule| Relabel::compile(&rule).expect_err("must be refused").to_string();
        assert!(refused(rule(Action::HashMod, &["a"])).contains("non-zero modulus"));
        assert!(refused(rule(Action::Replace, &["a"])).contains("requires 'target_label'"));
        assert!(refused(rule(Action::LabelDrop, &["a"])).contains("requires only 'regex'"));
        let bad = RelabelRule { regex: Some("(".into()), ..rule(Action::Keep, &["a"]) };
        assert!(refused(bad).contains("error parsing regexp"));
    }
}
