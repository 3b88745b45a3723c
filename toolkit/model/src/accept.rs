//! The cheapest way to decide whether an anchored expression accepts a text.
//!
//! Most expressions of dashboards and rules need no engine: what they accept is a set of texts, or a few texts with
//! gaps in between. [`re2::Shape`] finds that out.

use re2::{AnyCase, Expression, Regex, Sequence, Shape};
use std::hash::{BuildHasher, RandomState};

/// A compiled test.
#[derive(Debug)]
pub(crate) enum Accept {
    Anything,
    NonEmpty,
    OneOf(Set),
    AnyCase(AnyCase),
    Sequences(Vec<Sequence>),
    Engine { required: Option<Sequence>, regex: Regex },
}

impl Accept {
    /// Compiles an expression, which has to be one for whole texts.
    pub(crate) fn new(expression: &Expression) -> Result<Self, re2::Error> {
        let engine = |required| Ok(Self::Engine { required, regex: expression.compile_without_groups()? });
        Ok(match expression.shape() {
            Shape::Anything => Self::Anything,
            Shape::NonEmpty => Self::NonEmpty,
            Shape::Literals(values) => Self::OneOf(Set::new(values)),
            Shape::AnyCase(text) => Self::AnyCase(text),
            Shape::Sequences(all) => Self::Sequences(all),
            Shape::Required(sequence) => return engine(Some(sequence)),
            Shape::Opaque => return engine(None),
        })
    }

    /// Whether it accepts a text. O(length of the text), times the size of the program where an engine is needed.
    pub(crate) fn accepts(&self, text: &str) -> bool {
        match self {
            Self::Anything => true,
            Self::NonEmpty => !text.is_empty(),
            Self::OneOf(set) => set.contains(text),
            Self::AnyCase(one) => one.matches(text),
            Self::Sequences(all) => all.iter().any(|one| one.matches(text)),
            Self::Engine { required, regex } => {
                required.as_ref().is_none_or(|required| required.matches(text)) && regex.is_match(text)
            }
        }
    }

    /// What everything accepted begins with.
    pub(crate) fn prefix(&self) -> &str {
        match self {
            Self::Sequences(all) => {
                let prefixes = all.iter().map(Sequence::prefix);
                prefixes.reduce(common).unwrap_or_default()
            }
            Self::Engine { required: Some(required), .. } => required.prefix(),
            _ => "",
        }
    }
}

fn common<'a>(left: &'a str, right: &str) -> &'a str {
    let differs = left.char_indices().zip(right.chars()).find(|((_, a), b)| a != b);
    &left[..differs.map_or(left.len().min(right.len()), |((at, _), _)| at)]
}

/// Sorted values, with a hash table over them once there are many.
#[derive(Debug)]
pub(crate) struct Set {
    values: Vec<String>,
    hasher: RandomState,
    /// Positions in `values` plus one, 0 where free; at most half full, and absent for few values.
    table: Vec<u32>,
}

/// From so many values on a table is quicker than comparing.
const TABLE_MIN: usize = 16;

impl Set {
    /// `values` are sorted, none twice.
    fn new(values: Vec<String>) -> Self {
        let few = values.len() < TABLE_MIN || u32::try_from(values.len()).is_err();
        let slots = if few { 0 } else { (2 * values.len()).next_power_of_two() };
        let mut set = Self { values, hasher: RandomState::new(), table: vec![0; slots] };
        if !few {
            for (number, value) in (1..).zip(&set.values) {
                let mut slot = set.slot(value);
                while set.table[slot] != 0 {
                    slot = (slot + 1) % slots;
                }
                set.table[slot] = number;
            }
        }
        set
    }

    pub(crate) fn values(&self) -> &[String] {
        &self.values
    }

    fn slot(&self, value: &str) -> usize {
        self.hasher.hash_one(value) as usize & (self.table.len() - 1)
    }

    fn contains(&self, value: &str) -> bool {
        if self.table.is_empty() {
            return self.values.iter().any(|one| one == value);
        }
        let mut slot = self.slot(value);
        while let Some(at) = self.table[slot].checked_sub(1) {
            if self.values[at as usize] == value {
                return true;
            }
            slot = (slot + 1) % self.table.len();
        }
        false
    }
}
