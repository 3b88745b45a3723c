//! Joins of two vectors: matching by labels, groups, fills.
//!
//! Signatures become dense numbers once; at each step every row finds its partner by number, and result labels are
//! made once per pair of rows. A step on which one side is empty joins nothing and fails for nothing, unless missing
//! partners are filled in.

use super::{Ordinals, Outcome, Side, combine, element, signature};
use crate::{
    QueryError,
    eval::Run,
    expr::{Matching, Op},
    table::{Done, Row, Value, merged, nameless},
};
use model::{Builder, Labels};
use std::collections::{HashMap, HashSet};

/// No row: the partner is filled in, or there is none.
const NONE: usize = usize::MAX;

pub(super) struct Join<'r, 's, 'm> {
    run: &'r mut Run<'s>,
    op: Op,
    bool: bool,
    matching: &'m Matching,
    at: usize,
    many_left: bool,
    ordinals: Ordinals,
    out: Vec<Row>,
    /// The result row of a pair of rows (many, one); a filled side goes by its number instead.
    pairs: HashMap<(usize, usize, usize), usize>,
    /// Numbers of equal result labels, by result row.
    identities: Vec<usize>,
    known: HashMap<Labels, usize>,
}

/// The state of one step.
struct Step {
    one: Vec<usize>,
    matched: Vec<bool>,
    results: HashSet<usize>,
}

impl<'r, 's, 'm> Join<'r, 's, 'm> {
    pub(super) fn new(
        run: &'r mut Run<'s>,
        op: Op,
        bool: bool,
        matching: &'m Matching,
        at: usize,
        left: &[Row],
        right: &[Row],
    ) -> Self {
        let many_left = matching.group.as_ref().is_none_or(|(left, _)| *left);
        let ordinals = Ordinals::new(left, right, matching);
        let (pairs, known) = (HashMap::new(), HashMap::new());
        Self { run, op, bool, matching, at, many_left, ordinals, out: Vec::new(), pairs, identities: Vec::new(), known }
    }

    /// O((left + right) × steps).
    pub(super) fn run(mut self, left: &[Row], right: &[Row]) -> Done<Vec<Row>> {
        if self.simple(left, right) {
            return merged(self.out);
        }
        let (many, one) = if self.many_left { (left, right) } else { (right, left) };
        // With group_right too, as upstream: the left fill is for the many side.
        let (fill_many, fill_one) = (self.matching.fill_left, self.matching.fill_right);
        let count = self.ordinals.count;
        let mut state = Step { one: vec![NONE; count], matched: vec![false; count], results: HashSet::new() };
        let fills = fill_many.is_some() || fill_one.is_some();
        for step in 0..self.run.grid.steps {
            self.run.alive()?;
            let any = |rows: &[Row]| rows.iter().any(|row| row.holds(step));
            let joins = fills || any(left) && any(right);
            if !joins {
                continue;
            }
            self.place(&mut state, one, step)?;
            for (index, row) in many.iter().enumerate() {
                let Some(cell) = row.get(step) else { continue };
                let ordinal = self.many_ordinals()[index];
                let partner = state.one[ordinal];
                let other = match (one.get(partner).and_then(|row| row.get(step)), fill_one) {
                    (Some(cell), _) => Side::from(cell),
                    (None, Some(fill)) => Side::Float(fill),
                    (None, None) => continue,
                };
                let pair = Pair { many: Some((index, row)), one: one.get(partner).map(|row| (partner, row)), ordinal };
                self.join(&mut state, pair, Side::from(cell), other, step)?;
            }
            let Some(fill) = fill_many else { continue };
            for (index, row) in one.iter().enumerate() {
                let Some(cell) = row.get(step) else { continue };
                let ordinal = self.one_ordinals()[index];
                if !state.matched[ordinal] {
                    let pair = Pair { many: None, one: Some((index, row)), ordinal };
                    self.join(&mut state, pair, Side::Float(fill), Side::from(cell), step)?;
                }
            }
        }
        merged(self.out)
    }

    /// Joins row by row when no step can be ambiguous: one row at each number of the one side and no two results of
    /// the same labels, floats alone, nothing filled in. False when that is not so; nothing is joined then.
    fn simple(&mut self, left: &[Row], right: &[Row]) -> bool {
        let (many, one) = if self.many_left { (left, right) } else { (right, left) };
        let floats = left.iter().chain(right).all(|row| row.histograms.is_none());
        let filled = self.matching.fill_left.is_some() || self.matching.fill_right.is_some();
        if filled || !floats || !(self.op.compares() || self.op.drops_name()) {
            return false;
        }
        let mut places = vec![NONE; self.ordinals.count];
        for (index, ordinal) in self.one_ordinals().iter().enumerate() {
            if std::mem::replace(&mut places[*ordinal], index) != NONE {
                return false;
            }
        }
        let mut taken = vec![false; self.ordinals.count];
        let mut results = Vec::with_capacity(many.len());
        for (index, row) in many.iter().enumerate() {
            let ordinal = self.many_ordinals()[index];
            let Some(partner) = one.get(places[ordinal]) else { continue };
            if std::mem::replace(&mut taken[ordinal], true) && self.matching.group.is_none() {
                return self.forget();
            }
            let pair = Pair { many: Some((index, row)), one: Some((places[ordinal], partner)), ordinal };
            let place = self.result(&pair);
            // A result that is not the first of its labels.
            if self.known.len() != self.out.len() {
                return self.forget();
            }
            results.push((place, row, partner));
        }
        results.into_iter().all(|(place, row, partner)| {
            let sides = if self.many_left { (row, partner) } else { (partner, row) };
            element::joined(self.op, self.bool, sides.0, sides.1, &mut self.out[place])
        })
    }

    fn forget(&mut self) -> bool {
        self.out.clear();
        self.pairs.clear();
        self.identities.clear();
        self.known.clear();
        false
    }

    fn many_ordinals(&self) -> &[usize] {
        if self.many_left { &self.ordinals.left } else { &self.ordinals.right }
    }

    fn one_ordinals(&self) -> &[usize] {
        if self.many_left { &self.ordinals.right } else { &self.ordinals.left }
    }

    /// Puts the rows of the one side at their numbers; two at one number are ambiguous.
    fn place(&self, state: &mut Step, one: &[Row], step: usize) -> Done<()> {
        state.one.fill(NONE);
        state.matched.fill(false);
        state.results.clear();
        for (index, row) in one.iter().enumerate().filter(|(_, row)| row.holds(step)) {
            let place = &mut state.one[self.one_ordinals()[index]];
            if let Some(other) = one.get(*place) {
                let side = if self.many_left { "right" } else { "left" };
                return Err(QueryError::Execution(format!(
                    "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}];\
                     many-to-many matching not allowed: matching labels must be unique on one side",
                    braced(&signature(&row.labels, self.matching)),
                    braced(&other.labels),
                    braced(&row.labels)
                )));
            }
            *place = index;
        }
        Ok(())
    }

    fn join(&mut self, state: &mut Step, pair: Pair<'_>, many: Side<'_>, one: Side<'_>, step: usize) -> Done<()> {
        let ordinal = pair.ordinal;
        let place = self.result(&pair);
        let again = if self.matching.group.is_none() {
            state.matched[ordinal]
        } else {
            !state.results.insert(self.identities[place])
        };
        state.matched[ordinal] = true;
        if again {
            let text = if self.matching.group.is_none() {
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
            } else {
                "multiple matches for labels: grouping labels must ensure unique matches"
            };
            return Err(QueryError::Execution(text.to_owned()));
        }
        let (left, right) = if self.many_left { (many, one) } else { (one, many) };
        let value = match combine(self.op, left, right, self.at, &mut self.run.notes) {
            Outcome::Nothing => return Ok(()),
            Outcome::Value(value) => value,
            Outcome::Truth(truth) if self.bool => Value::Float(f64::from(u8::from(truth))),
            Outcome::Truth(true) => left.value(),
            Outcome::Truth(false) => return Ok(()),
        };
        self.out[place].set(step, value);
        Ok(())
    }

    /// The row that a pair's results go to.
    fn result(&mut self, pair: &Pair<'_>) -> usize {
        let index = |side: Option<(usize, &Row)>| side.map_or(NONE, |(index, _)| index);
        let filled = if pair.many.is_none() || pair.one.is_none() { pair.ordinal } else { NONE };
        let key = (index(pair.many), index(pair.one), filled);
        if let Some(place) = self.pairs.get(&key) {
            return *place;
        }
        let stand_in = |other: Option<(usize, &Row)>| {
            other.map_or_else(Labels::empty, |(_, row)| signature(&row.labels, self.matching))
        };
        let labels =
            |side: Option<(usize, &Row)>, other| side.map_or_else(|| stand_in(other), |(_, row)| row.labels.clone());
        let (many, one) = (labels(pair.many, pair.one), labels(pair.one, pair.many));
        let labels = self.result_labels(&many, &one);
        let mut row = Row::empty(labels.clone(), self.run.grid.steps);
        row.unnamed = pair.many.is_some_and(|(_, row)| row.unnamed);
        if self.bool {
            self.run.unname(&mut row);
        }
        let next = self.known.len();
        self.identities.push(*self.known.entry(labels).or_insert(next));
        self.out.push(row);
        self.pairs.insert(key, self.out.len() - 1);
        self.out.len() - 1
    }

    fn result_labels(&self, many: &Labels, one: &Labels) -> Labels {
        let mut builder = Builder::from(&if self.op.drops_name() { nameless(many) } else { many.clone() });
        match &self.matching.group {
            None => {
                let named = |name: &str| self.matching.labels.iter().any(|have| have == name);
                builder.retain(|name, _| named(name) == self.matching.on);
            }
            Some((_, include)) => {
                for name in include {
                    builder.set(name, one.get(name).unwrap_or_default());
                }
            }
        }
        builder.build()
    }
}

/// Two rows that meet; one of them may be filled in.
struct Pair<'a> {
    many: Option<(usize, &'a Row)>,
    one: Option<(usize, &'a Row)>,
    ordinal: usize,
}

/// Labels with the name among them: `{__name__="x", a="b"}`.
fn braced(labels: &Labels) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| {
            let bare = model::is_legacy_label_name(name);
            let name = if bare { name.to_owned() } else { model::quote(name) };
            format!("{name}={}", model::quote(value))
        })
        .collect();
    format!("{{{}}}", pairs.join(", "))
}
