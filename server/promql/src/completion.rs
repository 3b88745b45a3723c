//! What an editor offers while a query is written: functions, aggregators and words, each with its signature and what it
//! does. It derives from what the type checker and the engine go by, so that nothing can be offered that does not exist.

use crate::{
    Features,
    expr::{Aggregator, Type},
    functions::{self, Function},
};

/// One offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// What is written.
    pub name: &'static str,
    /// What it is: `function`, `aggregation` or `keyword`.
    pub kind: &'static str,
    /// How it is called: `clamp(instant vector, scalar, scalar) instant vector`; empty for a keyword.
    pub signature: String,
    /// What it does, in a sentence.
    pub doc: &'static str,
}

/// Words of the language that are neither functions nor aggregations.
const KEYWORDS: [(&str, &str); 16] = [
    ("and", "Elements of the left side that have a partner on the right."),
    ("or", "Elements of the left side, and those of the right that have no partner there."),
    ("unless", "Elements of the left side that have no partner on the right."),
    ("atan2", "The arc tangent of left over right, in the right quadrant."),
    ("by", "Groups by the labels named."),
    ("without", "Groups by all labels but those named."),
    ("on", "Matches by the labels named."),
    ("ignoring", "Matches by all labels but those named."),
    ("group_left", "Several elements of the left side match one of the right."),
    ("group_right", "Several elements of the right side match one of the left."),
    ("bool", "A comparison gives 0 or 1 instead of filtering."),
    ("offset", "Looks back by so much time."),
    ("start", "The first moment of the query, behind @."),
    ("end", "The last moment of the query, behind @."),
    ("anchored", "A window takes the sample before it as the one at its begin."),
    ("smoothed", "A window takes interpolated values at both ends."),
];

impl Function {
    /// How it is called: `round(instant vector[, scalar]) instant vector`; `…` when the last argument may come again.
    pub fn signature(&self) -> String {
        let mut text = format!("{}(", self.name);
        for (place, kind) in self.args.iter().enumerate() {
            let optional = place >= self.required;
            text.push_str(if optional { "[" } else { "" });
            text.push_str(if place > 0 { ", " } else { "" });
            text.push_str(kind.as_str());
            text.push_str(if place + 1 == self.args.len() && self.max > self.args.len() { "…" } else { "" });
            text.push_str(if optional { "]" } else { "" });
        }
        text.push_str(") ");
        text.push_str(self.gives.as_str());
        text
    }
}

impl Aggregator {
    /// What it does, in a sentence.
    pub fn doc(self) -> &'static str {
        match self {
            Self::Sum => "The sum of a group.",
            Self::Avg => "The mean of a group.",
            Self::Count => "The number of elements of a group.",
            Self::Min => "The least element of a group.",
            Self::Max => "The greatest element of a group.",
            Self::Group => "1 for every group.",
            Self::Stddev => "The standard deviation of a group.",
            Self::Stdvar => "The variance of a group.",
            Self::Topk => "The greatest elements of each group.",
            Self::Bottomk => "The least elements of each group.",
            Self::CountValues => "How many elements of a group have each value, which becomes a label.",
            Self::Quantile => "The quantile of a group.",
            Self::Limitk => "The first elements of each group.",
            Self::LimitRatio => "A share of the elements, the same ones each time.",
        }
    }

    /// How it is called: `topk(scalar, instant vector) instant vector`.
    pub fn signature(self) -> String {
        let vector = Type::Vector.as_str();
        let parameter = self.parameter().map_or(String::new(), |kind| format!("{}, ", kind.as_str()));
        format!("{}({parameter}{vector}) {vector}", self.as_str())
    }
}

/// Everything that may be offered with these features on, functions first, each kind in its own order.
pub fn completions(features: &Features) -> Vec<Completion> {
    let functions =
        functions::all().filter(|function| features.experimental_functions || !function.experimental).map(|function| {
            Completion { name: function.name, kind: "function", signature: function.signature(), doc: function.doc }
        });
    let aggregations = Aggregator::ALL.iter().filter(|(_, one)| features.experimental_functions || !one.experimental());
    let aggregations = aggregations.map(|(name, one)| Completion {
        name,
        kind: "aggregation",
        signature: one.signature(),
        doc: one.doc(),
    });
    let words =
        KEYWORDS.iter().filter(|(name, _)| features.extended_ranges || !matches!(*name, "anchored" | "smoothed"));
    let words = words.map(|(name, doc)| Completion { name, kind: "keyword", signature: String::new(), doc });
    functions.chain(aggregations).chain(words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_derive_from_the_types() {
        for (name, want) in [
            ("rate", "rate(range vector) instant vector"),
            ("round", "round(instant vector[, scalar]) instant vector"),
            ("pi", "pi() scalar"),
            ("label_join", "label_join(instant vector, string, string[, string…]) instant vector"),
            ("quantile_over_time", "quantile_over_time(scalar, range vector) instant vector"),
        ] {
            assert_eq!(functions::find(name).map(Function::signature).as_deref(), Some(want));
        }
        assert_eq!(Aggregator::Topk.signature(), "topk(scalar, instant vector) instant vector");
        assert_eq!(Aggregator::Sum.signature(), "sum(instant vector) instant vector");
    }

    #[test]
    fn what_is_off_is_not_offered() {
        let count = |features: Features, kind: &str| {
            completions(&features).iter().filter(|completion| completion.kind == kind).count()
        };
        assert_eq!((count(Features::all(), "function"), count(Features::default(), "function")), (90, 73));
        assert_eq!((count(Features::all(), "aggregation"), count(Features::default(), "aggregation")), (14, 12));
        assert_eq!((count(Features::all(), "keyword"), count(Features::default(), "keyword")), (16, 14));
        assert!(completions(&Features::all()).iter().all(|completion| completion.doc.ends_with('.')));
    }
}
