//! Functions that write labels.

use super::{CallSite, Function, Kernel};
use crate::{
    QueryError,
    eval::Run,
    expr::{
        Node, Text,
        Type::{String as Str, Vector},
    },
    table::{Done, Row, Table, merged},
};
use model::{Builder, METRIC_NAME};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "label_replace",
        &[Vector, Str, Str, Str, Str],
        Vector,
        "Writes a label from the parts of another that an anchored expression captures.",
        Kernel::Call(replace),
    ),
    Function::new(
        "label_join",
        &[Vector, Str, Str, Str],
        Vector,
        "Writes a label from the values of others with a separator between them.",
        Kernel::Call(join),
    )
    .between(3, usize::MAX),
];

fn text<'a>(site: &CallSite<'a>, place: usize) -> &'a Text {
    const NONE: &Text = &Text { value: String::new(), invalid: None };
    match &site.args[place].bare().node {
        Node::Text(text) => text,
        _ => NONE,
    }
}

fn label<'a>(site: &CallSite<'a>, place: usize, what: &str) -> Done<&'a str> {
    let name = text(site, place);
    if name.invalid.is_none() && !name.value.is_empty() {
        return Ok(&name.value);
    }
    let function = site.function.name;
    Err(QueryError::Execution(format!("invalid {what} label name in {function}(): {}", name.value)))
}

/// Writes a label of a row; a name written stays.
fn write(row: &mut Row, label: &str, value: &str) {
    let mut labels = Builder::from(&row.labels);
    row.labels = labels.set(label, value).build();
    if label == METRIC_NAME {
        row.unnamed = false;
    }
}

fn replace(run: &mut Run<'_>, site: &CallSite<'_>) -> Done<Table> {
    let (replacement, source, pattern) = (text(site, 2), text(site, 3), text(site, 4));
    let regex = re2::Regex::anchored(&pattern.value).map_err(|_| {
        QueryError::Execution(format!("invalid regular expression in label_replace(): {}", pattern.value))
    })?;
    let target = label(site, 1, "destination")?;
    let mut rows = run.rows(&site.args[0])?;
    let mut value = String::new();
    for row in &mut rows {
        let source = row.labels.get(&source.value).unwrap_or_default();
        let Some(captures) = regex.captures(source) else { continue };
        value.clear();
        captures.expand(&replacement.value, &mut value);
        write(row, target, &value);
    }
    merged(rows).map(Table::Rows)
}

fn join(run: &mut Run<'_>, site: &CallSite<'_>) -> Done<Table> {
    let sources = (3..site.args.len()).map(|place| label(site, place, "source")).collect::<Done<Vec<_>>>()?;
    let target = label(site, 1, "destination")?;
    let separator = &text(site, 2).value;
    let mut rows = run.rows(&site.args[0])?;
    for row in &mut rows {
        let values: Vec<&str> = sources.iter().map(|name| row.labels.get(name).unwrap_or_default()).collect();
        let value = values.join(separator);
        write(row, target, &value);
    }
    merged(rows).map(Table::Rows)
}
