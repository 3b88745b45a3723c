//! Runs upstream's PromQL scripts against this engine over the in-memory store.
//!
//! The argument is the folder of the scripts; the language and the variants each evaluation is repeated in are told in
//! its README. Prints one line per file and exits with 1 when anything failed.

mod compare;
mod load;
mod series;

use anyhow::{Context, Result, bail, ensure};
use model::{Labels, Timestamp};
use promql::{
    Answer, Engine, EngineOptions, Features, QueryError, QueryValue,
    expr::{Expr, Node},
};
use runtime::Clock;
use series::{Item, items, labels, quoted};
use std::{path::Path, process::ExitCode, time::Duration};
use storage::{Limits, Memory};

/// Failures shown in full per file.
const SHOWN: usize = 12;

fn main() -> ExitCode {
    let Some(folder) = std::env::args().nth(1) else {
        eprintln!("usage: conformance FOLDER [FILE]");
        return ExitCode::FAILURE;
    };
    let only = std::env::args().nth(2);
    let mut scripts: Vec<_> = std::fs::read_dir(&folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    scripts.retain(|path: &std::path::PathBuf| path.extension().is_some_and(|kind| kind == "test"));
    scripts.sort();
    if scripts.is_empty() {
        eprintln!("{folder}: no scripts");
        return ExitCode::FAILURE;
    }
    let (mut passed, mut failed, mut variants) = (0, 0, 0);
    for path in &scripts {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let mut script = Script::new();
        if let Err(why) = script.file(path) {
            script.failures.push(format!("{why:#}"));
        }
        println!("{name}: {} passed, {} failed", script.passed, script.failures.len());
        let shown = if only.is_some() { usize::MAX } else { SHOWN };
        script.failures.iter().take(shown).for_each(|why| println!("    {why}"));
        passed += script.passed;
        failed += script.failures.len();
        variants += script.variants;
    }
    println!("{passed} passed, {failed} failed, {variants} derived evaluations");
    if failed > 0 || passed == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

struct Script {
    memory: Memory,
    engine: Engine,
    passed: usize,
    variants: usize,
    failures: Vec<String>,
}

fn store() -> Memory {
    Memory::new(Limits { retention: None, ..Limits::default() })
}

/// One evaluation and what is expected of it.
#[derive(Default)]
struct Expected {
    fail: Option<Vec<Text>>,
    warnings: Vec<Text>,
    infos: Vec<Text>,
    no_warning: bool,
    no_info: bool,
    ordered: bool,
    range: Option<(i64, i64, i64)>,
    string: Option<String>,
    scalar: Option<f64>,
    series: Vec<(Labels, Vec<Item>)>,
}

/// A text or a part of one.
#[derive(Debug)]
enum Text {
    Any,
    Equal(String),
    Matches(re2::Regex),
}

impl Text {
    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Equal(want) => want == text,
            Self::Matches(regex) => regex.is_match(text),
        }
    }
}

fn time(text: &str) -> Result<i64> {
    let ms = model::Duration::parse(text.trim()).with_context(|| format!("no time: {text:?}"))?.as_millis();
    Ok(i64::try_from(ms)?)
}

impl Script {
    fn new() -> Self {
        let options = EngineOptions {
            max_samples: 10_000,
            timeout: Duration::from_millis(100_000),
            features: Features { type_and_unit_labels: false, ..Features::all() },
            ..EngineOptions::default()
        };
        let engine = Engine::new(options, Clock::system());
        Self { memory: store(), engine, passed: 0, variants: 0, failures: Vec::new() }
    }

    fn file(&mut self, path: &Path) -> Result<()> {
        let text = std::fs::read_to_string(path)?;
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let empty = |line: &str| line.is_empty() || line.starts_with('#');
        let mut next = 0;
        while next < lines.len() {
            let (number, line) = (next + 1, lines[next]);
            next += 1;
            if empty(line) {
                continue;
            }
            let mut block = Vec::new();
            let word = line.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
            if word != "clear" {
                while next < lines.len() && !lines[next].is_empty() {
                    if !lines[next].starts_with('#') {
                        block.push(lines[next]);
                    } else {
                        // A comment counts as an empty line, which ends a block.
                        break;
                    }
                    next += 1;
                }
            }
            let done = match word.as_str() {
                "clear" => {
                    self.memory = store();
                    Ok(())
                }
                word if word.starts_with("load") => {
                    let step = line[word.len()..].trim();
                    time(step).and_then(|step| load::load(&self.memory, step, &block, word == "load_with_nhcb"))
                }
                word if word.starts_with("eval") => self.eval(line, &block).map(|()| self.passed += 1),
                _ => bail!("line {number}: no command: {line:?}"),
            };
            if let Err(why) = done {
                self.failures.push(format!("line {number}: {line}\n        {why:#}"));
            }
        }
        Ok(())
    }

    fn eval(&mut self, line: &str, block: &[&str]) -> Result<()> {
        let (command, rest) = line.split_once(char::is_whitespace).context("no query")?;
        let (kind, rest) = rest.trim_start().split_once(char::is_whitespace).context("no query")?;
        let mut expected = Expected::default();
        match command.strip_prefix("eval_") {
            Some("fail") => expected.fail = Some(Vec::new()),
            Some("warn") => expected.warnings.push(Text::Any),
            Some("info") => expected.infos.push(Text::Any),
            Some("ordered") => expected.ordered = true,
            _ => {}
        }
        block.iter().try_for_each(|line| expected.line(line).with_context(|| format!("{line:?}")))?;
        match kind {
            "instant" => {
                let (at, query) = match rest.trim_start().strip_prefix("at ") {
                    Some(rest) => {
                        let (at, query) = rest.trim_start().split_once(char::is_whitespace).context("no query")?;
                        (time(at)?, query.trim())
                    }
                    None => (0, rest.trim()),
                };
                self.instant(query, at, &expected)
            }
            "range" => {
                let words: Vec<&str> = rest.split_whitespace().take(6).collect();
                let [_, start, _, end, _, step] = words[..] else { bail!("no range") };
                let step_at = rest.find(" step ").context("no step")? + 6;
                let query = rest[step_at..].trim_start().strip_prefix(step).context("no query")?.trim();
                self.range(query, (time(start)?, time(end)?, time(step)?), &expected)
            }
            other => bail!("no kind of evaluation: {other:?}"),
        }
    }

    fn instant(&mut self, query: &str, at: i64, expected: &Expected) -> Result<()> {
        let answer = self.engine.instant(&self.memory, query, Timestamp(at));
        expected.instant(answer, at, true)?;
        let Ok(expr) = promql::parse_with(query, &Features::all()) else { return Ok(()) };
        if expected.fail.is_some() {
            return Ok(());
        }
        if let Some(pinned) = pinned(query, &expr, at) {
            let times = if at == 0 { vec![-1000, 0, 1000] } else { vec![-10 * at, 0, at / 5, at, 10 * at] };
            for time in times {
                self.variants += 1;
                let answer = self.engine.instant(&self.memory, &pinned, Timestamp(time));
                expected.instant(answer, time, false).with_context(|| format!("{pinned} at {time} ms"))?;
            }
        }
        let varies = ["range()", "step()", "start()", "end()"].iter().any(|call| query.to_lowercase().contains(call));
        if varies || expected.ordered || expected.range.is_some() || expected.string.is_some() {
            return Ok(());
        }
        self.variants += 1;
        let (start, end) = (Timestamp(at - 60_000), Timestamp(at + 60_000));
        let answer = self.engine.range(&self.memory, query, start, end, 60_000).context("as a range")?;
        let QueryValue::Matrix(rows) = answer.value else { bail!("as a range: no matrix") };
        for pair in rows.windows(2) {
            ensure!(pair[0].labels < pair[1].labels, "as a range: out of order");
        }
        let elements = compare::at(&rows, at);
        match expected.scalar {
            Some(want) => match elements.first() {
                Some((_, model::Value::Float(got))) => compare::scalar(want, *got),
                _ => bail!("as a range: no scalar"),
            },
            None => compare::vector(&expected.series, &elements, false).context("as a range"),
        }
    }

    fn range(&mut self, query: &str, (start, end, step): (i64, i64, i64), expected: &Expected) -> Result<()> {
        let answer = self.engine.range(&self.memory, query, Timestamp(start), Timestamp(end), step.unsigned_abs());
        let Some(answer) = expected.outcome(answer, true)? else { return Ok(()) };
        let QueryValue::Matrix(rows) = answer.value else { bail!("no matrix: {:?}", answer.value) };
        compare::matrix(&expected.series, &rows, (start, end, step))
    }
}

/// The query with every selector and outermost subquery pinned to a time; none when an answer would still vary.
fn pinned(query: &str, expr: &Expr, at: i64) -> Option<String> {
    const TIMED: [&str; 15] = [
        "days_in_month",
        "day_of_month",
        "day_of_week",
        "day_of_year",
        "end",
        "hour",
        "minute",
        "month",
        "year",
        "predict_linear",
        "range",
        "start",
        "step",
        "time",
        "timestamp",
    ];
    fn walk(expr: &Expr, ends: &mut Vec<usize>) -> bool {
        match &expr.node {
            Node::Number(..) | Node::Text(_) => true,
            Node::Paren(inner) => walk(inner, ends),
            Node::Unary { body, .. } => walk(body, ends),
            Node::Select(selector) => {
                if selector.when.at.is_none() {
                    ends.push(expr.span.end);
                }
                true
            }
            Node::Subquery { body, when, .. } => {
                if when.at.is_none() {
                    ends.push(expr.span.end);
                }
                walk(body, &mut Vec::new())
            }
            Node::Binary { left, right, .. } => walk(left, ends) && walk(right, ends),
            Node::Aggregate { param, body, .. } => {
                param.as_ref().is_none_or(|param| walk(param, ends)) && walk(body, ends)
            }
            Node::Call { function, args } => !TIMED.contains(&function.name) && args.iter().all(|arg| walk(arg, ends)),
        }
    }
    let mut ends = Vec::new();
    if !walk(expr, &mut ends) {
        return None;
    }
    let mut text = query.to_owned();
    ends.sort_unstable();
    for end in ends.into_iter().rev() {
        text.insert_str(end, &format!(" @ {}", at as f64 / 1000.0));
    }
    Some(text)
}

/// The text without ` (line:column)` at its end.
fn placeless(text: &str) -> &str {
    match text.rfind(" (") {
        Some(at) if text.ends_with(')') && text[at + 2..].starts_with(|c: char| c.is_ascii_digit()) => &text[..at],
        _ => text,
    }
}

impl Expected {
    fn line(&mut self, line: &str) -> Result<()> {
        if let Some(rest) = line.strip_prefix("expect ") {
            return self.expect(rest.trim());
        }
        for (word, regex) in [("expected_fail_message ", false), ("expected_fail_regexp ", true)] {
            if let Some(rest) = line.strip_prefix(word) {
                let text = if regex { Text::Matches(re2::Regex::new(rest)?) } else { Text::Equal(rest.to_owned()) };
                self.fail.get_or_insert_default().push(text);
                return Ok(());
            }
        }
        if let [Item::Sample(model::Value::Float(value))] = items(line).unwrap_or_default()[..] {
            self.scalar = Some(value);
            return Ok(());
        }
        let (labels, _, rest) = labels(line)?;
        self.series.push((labels, items(rest)?));
        Ok(())
    }

    fn expect(&mut self, rest: &str) -> Result<()> {
        if let Some(rest) = rest.strip_prefix("range vector from ") {
            let words: Vec<&str> = rest.split_whitespace().collect();
            let [start, "to", end, "step", step] = words[..] else { bail!("no range") };
            self.range = Some((time(start)?, time(end)?, time(step)?));
            return Ok(());
        }
        if let Some(rest) = rest.strip_prefix("string ") {
            self.string = Some(quoted(rest.trim())?.0);
            return Ok(());
        }
        let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let unquoted = |text: &str| match text.trim() {
            text if text.starts_with(['"', '`']) => quoted(text).map_or(text.to_owned(), |(text, _)| text),
            text => text.to_owned(),
        };
        let text = match (rest.trim().strip_prefix("msg:"), rest.trim().strip_prefix("regex:")) {
            (Some(text), _) => Text::Equal(unquoted(text)),
            (_, Some(text)) => Text::Matches(re2::Regex::new(&unquoted(text))?),
            _ => Text::Any,
        };
        match word {
            "fail" => self.fail.get_or_insert_default().push(text),
            "warn" => self.warnings.push(text),
            "info" => self.infos.push(text),
            "no_warn" => self.no_warning = true,
            "no_info" => self.no_info = true,
            "ordered" => self.ordered = true,
            other => bail!("no expectation: {other:?}"),
        }
        Ok(())
    }

    /// The answer when there must be one; none when the query had to fail and did.
    fn outcome(&self, answer: Result<Answer, QueryError>, placed: bool) -> Result<Option<Answer>> {
        match (answer, &self.fail) {
            (Err(why), Some(texts)) => {
                let text = match &why {
                    QueryError::Parse(why) => why.message.clone(),
                    why => why.to_string(),
                };
                ensure!(texts.iter().all(|want| want.fits(&text)), "failed as {text:?}, expected {texts:?}");
                Ok(None)
            }
            (Err(why), None) => bail!("failed: {why}"),
            (Ok(answer), Some(_)) => bail!("did not fail, answered {:?}", answer.value),
            (Ok(answer), None) => {
                notes(&answer.warnings, &self.warnings, self.no_warning, placed).context("warnings")?;
                notes(&answer.infos, &self.infos, self.no_info, placed).context("infos")?;
                Ok(Some(answer))
            }
        }
    }

    fn instant(&self, answer: Result<Answer, QueryError>, at: i64, placed: bool) -> Result<()> {
        let Some(answer) = self.outcome(answer, placed)? else { return Ok(()) };
        if let Some(range) = self.range {
            let QueryValue::Matrix(rows) = &answer.value else { bail!("no matrix: {:?}", answer.value) };
            return compare::matrix(&self.series, rows, range);
        }
        match (&answer.value, &self.string, self.scalar) {
            (QueryValue::String(_, got), Some(want), _) => {
                ensure!(got == want, "expected {want:?}, got {got:?}");
                Ok(())
            }
            (QueryValue::Scalar(time, got), _, Some(want)) => {
                ensure!(*time == at, "a scalar of another time");
                compare::scalar(want, *got)
            }
            (value, None, None) => match compare::elements(value) {
                Some(elements) => compare::vector(&self.series, &elements, self.ordered),
                None => bail!("unexpected {value:?}"),
            },
            (value, ..) => bail!("unexpected {value:?}"),
        }
    }
}

/// Every annotation must be expected and every expectation met, if there is any.
fn notes(got: &[String], want: &[Text], none: bool, placed: bool) -> Result<()> {
    ensure!(!none || got.is_empty(), "unexpected {got:?}");
    if want.is_empty() {
        return Ok(());
    }
    let fits = |want: &Text, got: &String| match want {
        // A pinned query is longer, so that places differ.
        Text::Equal(want) if !placed => placeless(want) == placeless(got),
        Text::Matches(_) if !placed => true,
        want => want.fits(got),
    };
    for text in got {
        ensure!(want.iter().any(|want| fits(want, text)), "unexpected {text:?}, expected {want:?}");
    }
    for want in want {
        ensure!(got.iter().any(|text| fits(want, text)), "missing {want:?}, got {got:?}");
    }
    Ok(())
}
