//! Aggregation operators that fold a group into one element. Those that choose elements are in `choice`.

mod choice;
mod fold;

use crate::{
    QueryError,
    eval::Run,
    expr::{Aggregator, Expr, Node, Text},
    kernel::quantile,
    keys::{Keys, Subset},
    notes::Note,
    table::{Done, Row, Table},
};
use fold::Fold;

/// The groups of rows in the order they were met.
struct Groups {
    /// The group of each row.
    of: Vec<usize>,
    heads: Vec<Row>,
}

impl Groups {
    fn new(rows: &[Row], grouping: Subset<'_>, steps: usize) -> Self {
        let mut keys = Keys::new(grouping);
        let mut heads: Vec<Row> = Vec::new();
        let mut of = Vec::with_capacity(rows.len());
        for row in rows {
            let (place, new) = keys.number(&row.labels);
            if new {
                heads.push(Row::empty(keys.heads()[place].clone(), steps));
            }
            heads[place].unnamed |= row.unnamed;
            of.push(place);
        }
        Self { of, heads }
    }
}

/// The parameter of an aggregation.
enum Parameter<'a> {
    None,
    /// The value at each step, and where it stands.
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
        let grouping = Subset { without, names };
        let place = body.span.start;
        if param.is_none() {
            let mut fold = Fold::new(op, grouping, self.grid.steps);
            self.stream(body, &mut |run, row| {
                let bytes = fold.push(&row);
                run.claim(bytes)
            })?;
            let out = fold.finish(self, place);
            self.replaced(before, &out)?;
            return Ok(out);
        }
        let rows = self.rows(body)?;
        let out = match (op, parameter) {
            (Aggregator::CountValues, Parameter::Label(label)) => self.count_values(&rows, grouping, label)?,
            (Aggregator::Quantile, Parameter::Number(q, at)) => self.quantiles(&rows, grouping, &q, at, place)?,
            (_, Parameter::Number(cells, at)) => self.chosen(op, rows, grouping, &cells, (at, place))?,
            _ => return Err(QueryError::Execution(format!("{} takes another parameter", op.as_str()))),
        };
        self.replaced(before, &out)?;
        Ok(out)
    }

    fn quantiles(&mut self, rows: &[Row], grouping: Subset<'_>, q: &[f64], at: usize, place: usize) -> Done<Vec<Row>> {
        let Groups { of, mut heads } = Groups::new(rows, grouping, self.grid.steps);
        if rows.iter().any(|row| row.histograms.is_some()) {
            self.notes.add(place, &Note::IgnoredHistogram(Aggregator::Quantile.as_str()));
        }
        let mut members: Vec<Vec<f64>> = vec![Vec::new(); heads.len()];
        for (step, q) in q.iter().enumerate() {
            self.alive()?;
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
        Ok(heads)
    }
}
