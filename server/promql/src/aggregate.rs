//! Aggregation operators that fold a group into one element. Those that choose elements are in `choice`.

mod choice;

use crate::{
    QueryError,
    eval::Run,
    expr::{Aggregator, Expr, Node, Text},
    histogram::Total,
    kernel::{Mean, add, quantile},
    notes::{Note, Operation},
    table::{Cell, Done, Row, Table, Value},
};
use model::{Builder, Labels, METRIC_NAME};
use std::collections::HashMap;

/// How elements are grouped.
#[derive(Clone, Copy)]
struct Grouping<'a> {
    without: bool,
    names: &'a [String],
}

impl Grouping<'_> {
    /// The labels a group goes by.
    fn labels(&self, labels: &Labels) -> Labels {
        if !self.without && self.names.is_empty() {
            return Labels::empty();
        }
        let mut builder = Builder::from(labels);
        builder.retain(|name, _| {
            let named = self.names.iter().any(|have| have == name);
            if self.without { !named && name != METRIC_NAME } else { named }
        });
        builder.build()
    }
}

/// The groups of rows in the order they were met.
struct Groups {
    /// The group of each row.
    of: Vec<usize>,
    heads: Vec<Row>,
}

impl Groups {
    fn new(rows: &[Row], grouping: Grouping<'_>, steps: usize) -> Self {
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut heads: Vec<Row> = Vec::new();
        let mut of = Vec::with_capacity(rows.len());
        for row in rows {
            let labels = grouping.labels(&row.labels);
            let place = *places.entry(labels).or_insert_with_key(|labels| {
                heads.push(Row::empty(labels.clone(), steps));
                heads.len() - 1
            });
            heads[place].unnamed |= row.unnamed;
            of.push(place);
        }
        Self { of, heads }
    }
}

/// The parameter of an aggregation.
enum Parameter<'a> {
    None,
    Number(Vec<f64>, usize),
    Label(&'a Text),
}

impl Run<'_> {
    pub(crate) fn aggregated(
        &mut self,
        op: Aggregator,
        param: Option<&Expr>,
        body: &Expr,
        without: bool,
        names: &[String],
    ) -> Done<Vec<Row>> {
        let before = self.mark();
        let parameter = match param {
            None => Parameter::None,
            Some(param) => match (&param.bare().node, self.eval(param)?) {
                (Node::Text(text), _) => Parameter::Label(text),
                (_, Table::Scalar(cells)) => Parameter::Number(cells, param.bare().span.start),
                _ => return Err(QueryError::Execution("expected a scalar or a string".to_owned())),
            },
        };
        let rows = self.rows(body)?;
        let grouping = Grouping { without, names };
        let place = body.span.start;
        let out = match (op, parameter) {
            (Aggregator::CountValues, Parameter::Label(label)) => self.count_values(&rows, grouping, label)?,
            (Aggregator::Quantile, Parameter::Number(q, at)) => self.quantiles(&rows, grouping, &q, at, place),
            (_, Parameter::Number(cells, at)) => self.chosen(op, rows, grouping, &cells, (at, place))?,
            _ => self.folded(op, &rows, grouping, place),
        };
        self.replaced(before, &out)?;
        Ok(out)
    }

    /// O(rows × steps), row by row in their order.
    fn folded(&mut self, op: Aggregator, rows: &[Row], grouping: Grouping<'_>, place: usize) -> Vec<Row> {
        let steps = self.grid.steps;
        let Groups { of, mut heads } = Groups::new(rows, grouping, steps);
        let mut states: Vec<Vec<State>> = vec![vec![State::default(); steps]; heads.len()];
        let mut ignored = false;
        for (row, group) in rows.iter().zip(&of) {
            for (step, state) in states[*group].iter_mut().enumerate() {
                match row.get(step) {
                    Some(Cell::Float(value)) => state.float(op, value),
                    Some(Cell::Histogram(histogram)) => ignored |= !state.histogram(op, histogram),
                    None => {}
                }
            }
        }
        if ignored {
            self.notes.add(place, &Note::IgnoredHistogram(op.as_str()));
        }
        let name = rows.first().map_or("", |row| row.labels.metric_name());
        for (head, states) in heads.iter_mut().zip(states) {
            for (step, state) in states.into_iter().enumerate() {
                if let Some(value) = self.settled(op, state, name, place) {
                    head.set(step, value);
                }
            }
        }
        heads
    }

    /// The value of a group at a step, and what is to be said about it.
    fn settled(&mut self, op: Aggregator, state: State, name: &str, place: usize) -> Option<Value> {
        if state.incompatible {
            self.notes.add(place, &Note::MixedSchemas(name));
            return None;
        }
        if let Some(total) = state.total {
            if state.n > 0.0 {
                self.notes.add(place, &Note::MixedAggregation);
                return None;
            }
            if total.met.hints {
                self.notes.add(place, &Note::ConflictingResets(Operation::Aggregation));
            }
            if total.met.bounds {
                self.notes.add(place, &Note::Rebounded(Operation::Aggregation));
            }
            let mut sum = total.finish();
            sum.compact();
            return Some(sum.into());
        }
        (state.n > 0.0).then(|| Value::Float(state.value(op)))
    }

    fn quantiles(&mut self, rows: &[Row], grouping: Grouping<'_>, q: &[f64], at: usize, place: usize) -> Vec<Row> {
        let Groups { of, mut heads } = Groups::new(rows, grouping, self.grid.steps);
        if rows.iter().any(|row| row.histograms.is_some()) {
            self.notes.add(place, &Note::IgnoredHistogram(Aggregator::Quantile.as_str()));
        }
        let mut members: Vec<Vec<f64>> = vec![Vec::new(); heads.len()];
        for (step, q) in q.iter().enumerate() {
            if !(0.0..=1.0).contains(q) {
                self.notes.add(at, &Note::BadQuantile(*q));
            }
            members.iter_mut().for_each(Vec::clear);
            for (row, group) in rows.iter().zip(&of).filter(|(row, _)| row.present[step]) {
                members[*group].push(row.cells[step]);
            }
            for (head, values) in heads.iter_mut().zip(&mut members).filter(|(_, values)| !values.is_empty()) {
                head.set(step, quantile(*q, values));
            }
        }
        heads
    }
}

/// What is known of a group at a step.
#[derive(Clone, Debug, Default)]
struct State {
    n: f64,
    /// Sum, extreme or squared deviations, by operator.
    value: f64,
    /// What rounding took from the sum, or the mean of the squared deviations.
    rest: f64,
    mean: Option<Mean>,
    total: Option<Box<Total>>,
    incompatible: bool,
}

impl State {
    fn float(&mut self, op: Aggregator, value: f64) {
        let first = self.n == 0.0;
        self.n += 1.0;
        match op {
            Aggregator::Sum => (self.value, self.rest) = add(value, self.value, self.rest),
            Aggregator::Avg => match &mut self.mean {
                Some(mean) => mean.push(value),
                None => self.mean = Some(Mean::new(value)),
            },
            Aggregator::Min if first || value < self.value || self.value.is_nan() => self.value = value,
            Aggregator::Max if first || value > self.value || self.value.is_nan() => self.value = value,
            Aggregator::Stddev | Aggregator::Stdvar => self.deviate(value),
            _ => {}
        }
    }

    /// Welford's running variance, not compensated, as upstream.
    fn deviate(&mut self, value: f64) {
        if self.n == 1.0 {
            self.rest = value;
            self.value = if value.is_finite() { 0.0 } else { f64::NAN };
            return;
        }
        let delta = value - self.rest;
        self.rest += delta / self.n;
        self.value += delta * (value - self.rest);
    }

    /// Whether the operator knows histograms.
    fn histogram(&mut self, op: Aggregator, histogram: &crate::histogram::Histogram) -> bool {
        match op {
            Aggregator::Sum | Aggregator::Avg => match &mut self.total {
                Some(total) => self.incompatible |= total.push(histogram).is_err(),
                None => self.total = Some(Box::new(Total::new(histogram, op == Aggregator::Avg))),
            },
            Aggregator::Count | Aggregator::Group => self.n += 1.0,
            _ => return false,
        }
        true
    }

    fn value(&self, op: Aggregator) -> f64 {
        match op {
            Aggregator::Sum if self.value.is_infinite() => self.value,
            Aggregator::Sum => self.value + self.rest,
            Aggregator::Avg => self.mean.as_ref().map_or(f64::NAN, Mean::value),
            Aggregator::Count => self.n,
            Aggregator::Group => 1.0,
            Aggregator::Stddev => (self.value / self.n).sqrt(),
            Aggregator::Stdvar => self.value / self.n,
            _ => self.value,
        }
    }
}
