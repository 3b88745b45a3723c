//! `promtool promql`: expressions are formatted, and their matchers changed.

use crate::{
    Said,
    args::{Args, refuse},
};
use model::{MatchOp, Matcher};
use promql::expr::{Expr, Node};

/// Parses with the features of `--enable-feature`.
fn parsed(args: &Args) -> Result<Expr, Said> {
    let mut features = promql::Features::default();
    for name in args.all("enable-feature").iter().flat_map(|list| list.split(',')) {
        match name {
            "promql-experimental-functions" => features.experimental_functions = true,
            "promql-delayed-name-removal" => features.delayed_name_removal = true,
            _ => {}
        }
    }
    promql::parse_with(args.argument(0), &features).map_err(|error| Said::fail(format!("{error}\n")))
}

fn experimental(args: &Args) -> Result<(), Said> {
    if args.on("experimental") {
        return Ok(());
    }
    Err(Said::fail("This command is experimental and requires the --experimental flag to be set.\n"))
}

fn printed(result: Result<Expr, Said>) -> Said {
    result.map_or_else(|said| said, |expr| Said::out(format!("{}\n", promql::pretty(&expr))))
}

/// `promql format`.
pub(crate) fn format(args: &Args) -> Said {
    printed(experimental(args).and_then(|()| parsed(args)))
}

/// `check promql`, which is ours: silent when there is nothing to say.
pub(crate) fn check(args: &Args) -> Said {
    parsed(args).map_or_else(|said| said, |_| Said::default())
}

/// `promql label-matchers set`.
pub(crate) fn set(args: &Args) -> Said {
    let op = match args.get("type").unwrap_or("=") {
        "=" => MatchOp::Equal,
        "!=" => MatchOp::NotEqual,
        "=~" => MatchOp::Regex,
        "!~" => MatchOp::NotRegex,
        other => return refuse(&format!("enum value must be one of =,!=,=~,!~, got '{other}'")),
    };
    printed(experimental(args).and_then(|()| {
        let mut expr = parsed(args)?;
        let name = args.argument(1);
        let matcher = Matcher::new(op, name, args.argument(2)).map_err(|error| Said::fail(format!("{error}\n")))?;
        selectors(&mut expr, &mut |matchers| {
            let mut found = false;
            for one in matchers.iter_mut().filter(|one| one.name() == name) {
                one.clone_from(&matcher);
                found = true;
            }
            if !found {
                matchers.push(matcher.clone());
            }
        });
        Ok(expr)
    }))
}

/// `promql label-matchers delete`.
pub(crate) fn delete(args: &Args) -> Said {
    printed(experimental(args).and_then(|()| {
        let mut expr = parsed(args)?;
        selectors(&mut expr, &mut |matchers| matchers.retain(|one| one.name() != args.argument(1)));
        Ok(expr)
    }))
}

/// Changes the matchers of every selector.
fn selectors(expr: &mut Expr, change: &mut dyn FnMut(&mut Vec<Matcher>)) {
    match &mut expr.node {
        Node::Number(..) | Node::Text(_) => {}
        Node::Select(selector) => change(&mut selector.matchers),
        Node::Paren(body) | Node::Unary { body, .. } | Node::Subquery { body, .. } => selectors(body, change),
        Node::Binary { left, right, .. } => {
            selectors(left, change);
            selectors(right, change);
        }
        Node::Aggregate { param, body, .. } => {
            if let Some(param) = param {
                selectors(param, change);
            }
            selectors(body, change);
        }
        Node::Call { args, .. } => args.iter_mut().for_each(|arg| selectors(arg, change)),
    }
}
