//! `promtool check`: files are read as a start would, and a running server is asked whether it is well.

use crate::{
    LINT, Said,
    args::{Args, refuse},
    lint, query,
};
use std::{io::Read, path::Path};
use web::http::Method;

/// Bytes of standard input at most.
const INPUT_MAX: u64 = 1 << 30;

/// The first file that is not there, as kingpin tells it.
fn missing(args: &Args) -> Option<Said> {
    let file = args.arguments.iter().find(|file| !Path::new(file).exists())?;
    Some(refuse(&format!("path '{file}' does not exist")))
}

/// `check config`.
pub(crate) fn config(args: &Args) -> Said {
    if let Some(said) = missing(args) {
        return said;
    }
    let mut said = Said::default();
    for file in &args.arguments {
        said.out.push_str(&format!("Checking {file}\n"));
        match server::Config::read(Path::new(file)) {
            Ok(_) => said.out.push_str(&format!(" SUCCESS: {file} is valid prometheus config file syntax\n\n")),
            Err(error) => {
                said.err.push_str(&format!("  FAILED: {error}\n\n"));
                said.code = crate::FAILURE;
            }
        }
    }
    said
}

/// `check web-config`.
pub(crate) fn web_config(args: &Args) -> Said {
    if let Some(said) = missing(args) {
        return said;
    }
    let mut said = Said::default();
    for file in &args.arguments {
        match web::check_config(Path::new(file)) {
            Ok(()) => said.out.push_str(&format!("{file} SUCCESS\n")),
            Err(error) => {
                said.err.push_str(&format!("{file} FAILED: {error}\n"));
                said.code = crate::FAILURE;
            }
        }
    }
    said
}

/// `check healthy` and `check ready`.
pub(crate) fn status(args: &Args, path: &str) -> Said {
    let url = args.get("url").unwrap_or("http://localhost:9090");
    let url = format!("{}{path}", url.trim_end_matches('/'));
    match query::fetch(args, Method::GET, &url, "") {
        Err(error) => Said::fail(format!("{error:#}\n")),
        Ok((200, _, body)) => {
            let text = format!("  SUCCESS:  {}\n", String::from_utf8_lossy(&body));
            Said { err: text, ..Said::default() }
        }
        Ok((status, ..)) => Said::fail(format!("check failed: URL={url}, status={status}\n")),
    }
}

/// `check metrics`: standard input is read as text and judged.
pub(crate) fn metrics(_: &Args) -> Said {
    let mut body = Vec::new();
    match std::io::stdin().lock().take(INPUT_MAX).read_to_end(&mut body) {
        Ok(_) => judged(&body),
        Err(error) => Said::fail(format!("error while reading standard input: {error}\n")),
    }
}

pub(crate) fn judged(body: &[u8]) -> Said {
    match exposition::families::parse_text(body) {
        Err(error) => Said::fail(format!("error while linting: {error}\n")),
        Ok(families) => {
            let problems = lint::problems(&families);
            let code = if problems.is_empty() { 0 } else { LINT };
            Said { err: problems.into_iter().map(|problem| problem + "\n").collect(), code, ..Said::default() }
        }
    }
}
