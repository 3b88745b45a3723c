//! `info`: labels of info series joined to the series of the same instance and job.

use super::{CallSite, Function, Kernel};
use crate::{
    QueryError,
    eval::Run,
    expr::{At, Expr, Extension, Length, Node, Selector, Type::Vector, When},
    select::Want,
    table::{Done, Row, Table, Value, merged},
};
use model::{Builder, Labels, METRIC_NAME, MatchOp, Matcher};
use std::collections::{BTreeMap, HashMap};

pub(super) const FUNCTIONS: &[Function] = &[Function::new(
    "info",
    &[Vector, Vector],
    Vector,
    "The vector with the labels of info series that describe the same instance and job.",
    Kernel::Call(info),
)
.between(1, 2)
.experimental()];

/// The labels that tell which series an info series describes.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// Which info series are asked for.
struct Wanted {
    names: Vec<Matcher>,
    data: Vec<Matcher>,
}

impl Wanted {
    fn of(selector: Option<&Selector>) -> Done<Self> {
        let failed = |why: model::MatcherError| QueryError::Execution(why.to_string());
        let all = selector.map_or(&[][..], |selector| &selector.matchers).iter().cloned();
        let (mut names, data): (Vec<Matcher>, Vec<Matcher>) = all.partition(|one| one.name() == METRIC_NAME);
        if names.is_empty() {
            names.push(Matcher::new(MatchOp::Equal, METRIC_NAME, "target_info").map_err(failed)?);
        } else if names.iter().all(|one| matches!(one.op(), MatchOp::NotEqual | MatchOp::NotRegex)) {
            names.push(Matcher::new(MatchOp::Regex, METRIC_NAME, ".+_info").map_err(failed)?);
        }
        Ok(Self { names, data })
    }

    /// Whether a series is itself one of the info series.
    fn takes(&self, labels: &Labels) -> bool {
        self.names.iter().all(|matcher| matcher.matches(labels.metric_name()))
    }

    fn label(&self, name: &str) -> bool {
        name != METRIC_NAME && (self.data.is_empty() || self.data.iter().any(|matcher| matcher.name() == name))
    }
}

/// An info series: when it was sampled, by step.
struct Info {
    name: String,
    times: Row,
}

fn info(run: &mut Run<'_>, site: &CallSite<'_>) -> Done<Table> {
    let before = run.mark();
    let base = run.rows(&site.args[0])?;
    let selector = site.args.get(1).and_then(|arg| match &arg.bare().node {
        Node::Select(selector) => Some(selector),
        _ => None,
    });
    let wanted = Wanted::of(selector)?;
    let infos = infos(run, &wanted, &base, when(&site.args[0]))?;
    let mut out = Vec::with_capacity(base.len());
    for row in base {
        run.alive()?;
        if wanted.takes(&row.labels) {
            out.push(row);
        } else {
            enriched(&row, &wanted, infos.get(&identity(&row.labels)), &mut out)?;
        }
    }
    let out = merged(out)?;
    run.replaced(before, &out)?;
    Ok(Table::Rows(out))
}

fn identity(labels: &Labels) -> Labels {
    let mut builder = Builder::from(labels);
    builder.retain(|name, _| IDENTIFYING.contains(&name)).build()
}

/// When the samples of the first selector in an expression are read, which is when its info series are.
fn when(expr: &Expr) -> When {
    fn first<'a>(expr: &'a Expr, path: &mut Vec<&'a When>) -> bool {
        match &expr.node {
            Node::Number(..) | Node::Text(_) => false,
            Node::Paren(inner) => first(inner, path),
            Node::Unary { body, .. } | Node::Aggregate { body, .. } => first(body, path),
            Node::Select(selector) => {
                path.push(&selector.when);
                true
            }
            Node::Subquery { body, when, .. } => {
                path.push(when);
                first(body, path)
            }
            Node::Binary { left, right, .. } => first(left, path) || first(right, path),
            Node::Call { args, .. } => args.iter().any(|arg| first(arg, path)),
        }
    }
    let mut path = Vec::new();
    first(expr, &mut path);
    let (mut at, mut offset): (Option<At>, i64) = (None, 0);
    for when in path {
        if when.at.is_some() {
            (at, offset) = (when.at, 0);
        }
        offset = offset.saturating_add(when.offset.ms());
    }
    When { offset: Length::Fixed(offset), at }
}

/// The info series of the instances and jobs of the base, by those.
fn infos(run: &mut Run<'_>, wanted: &Wanted, base: &[Row], when: When) -> Done<HashMap<Labels, Vec<Info>>> {
    let mut found: HashMap<Labels, Vec<Info>> = HashMap::new();
    let named = |row: &&Row| !wanted.takes(&row.labels) && !identity(&row.labels).is_empty();
    if !base.iter().any(|row| named(&row)) {
        return Ok(found);
    }
    let matchers = wanted.names.iter().chain(&wanted.data).cloned().collect();
    let selector =
        Selector { matchers, when, range: None, extension: Extension::None, statistics: false, named: false };
    if run.instant(&selector, 0, Want::Value)?.iter().any(|row| row.histograms.is_some()) {
        return Err(QueryError::Execution("info sample should be float".to_owned()));
    }
    for row in run.instant(&selector, 0, Want::Time)? {
        let name = row.labels.metric_name().to_owned();
        found.entry(identity(&row.labels)).or_default().push(Info { name, times: row });
    }
    Ok(found)
}

/// The newest info series of each name at a step.
fn newest(infos: &[Info], step: usize) -> Done<BTreeMap<&str, &Row>> {
    let mut best: BTreeMap<&str, &Row> = BTreeMap::new();
    for info in infos.iter().filter(|info| info.times.present[step]) {
        let have = best.get(info.name.as_str()).copied();
        let (time, known) = (info.times.cells[step], have.map(|row| row.cells[step]));
        if let (Some(have), Some(known)) = (have, known.filter(|known| *known == time)) {
            let ms = |seconds: f64| (seconds * 1000.0) as i64;
            return Err(QueryError::Execution(format!(
                "found duplicate series for info metric: existing {} @ {}, new {} @ {}",
                have.labels,
                ms(known),
                info.times.labels,
                ms(time)
            )));
        }
        if known.is_none_or(|known| known < time) {
            best.insert(&info.name, &info.times);
        }
    }
    Ok(best)
}

fn enriched(row: &Row, wanted: &Wanted, infos: Option<&Vec<Info>>, out: &mut Vec<Row>) -> Done<()> {
    let optional = wanted.data.iter().all(Matcher::matches_empty);
    // Steps with the same info series share a row.
    let mut made: HashMap<Labels, usize> = HashMap::new();
    for step in 0..row.cells.len() {
        let Some(cell) = row.get(step) else { continue };
        let best = newest(infos.map_or(&[][..], Vec::as_slice), step)?;
        if best.is_empty() && !optional {
            continue;
        }
        let labels = joined(row, wanted, best.values().copied())?;
        let place = *made.entry(labels.clone()).or_insert_with(|| {
            out.push(Row { labels, ..row.like() });
            out.len() - 1
        });
        out[place].set(step, Value::from(cell));
    }
    Ok(())
}

fn joined<'a>(row: &Row, wanted: &Wanted, infos: impl Iterator<Item = &'a Row>) -> Done<Labels> {
    let mut data = Builder::default();
    for info in infos {
        for (name, value) in info.labels.iter().filter(|(name, _)| wanted.label(name)) {
            let have = data.get(name);
            if !have.is_empty() && have != value {
                return Err(QueryError::Execution(format!("conflicting label: {name}")));
            }
            if row.labels.get(name).is_none() {
                data.set(name, value);
            }
        }
    }
    let mut labels = Builder::from(&row.labels);
    for (name, value) in data.pairs() {
        labels.set(name, value);
    }
    Ok(labels.build())
}
