//! The page at `/`: a live view of this host, drawn in the browser from the exporter's own answer.
//!
//! The script is a file of its own and not part of the page, so that a strict content policy can allow it. Left out:
//! everything that would need more than what `/metrics` shows, except the reasons why collectors fail.

use crate::collection::Report;
use web::page::{escape, shell};

/// Where the script is served.
pub(crate) const SCRIPT_PATH: &str = "/-/live.js";
/// Where the collectors' last errors are served.
pub(crate) const COLLECTORS_PATH: &str = "/-/collectors";
/// The script.
pub(crate) const SCRIPT: &str = include_str!("page/live.js");

const STYLE: &str = include_str!("page/page.css");

/// The page for metrics at `path`.
pub(crate) fn landing(path: &str, version: &str) -> String {
    let body = format!(
        "<style>{STYLE}</style><p id=\"state\">Version {}. The live view needs JavaScript; the figures are at \
         <a href=\"{path}\">{path}</a>.</p><div id=\"live\" data-metrics=\"{path}\" \
         data-collectors=\"{COLLECTORS_PATH}\"></div><script src=\"{SCRIPT_PATH}\" defer></script>",
        escape(version),
        path = escape(path),
    );
    shell("Node Exporter", &[("Metrics", path)], &body)
}

/// The collectors as JSON: name, seconds, and the error of those that failed.
pub(crate) fn collectors(reports: &[Report]) -> String {
    let row = |report: &Report| serde_json::json!({ "name": report.collector, "seconds": report.seconds, "error": report.error });
    serde_json::Value::from_iter(reports.iter().map(row)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_its_parts() {
        let page = landing("/a\"b", "1.2");
        for part in ["<title>Node Exporter</title>", "Version 1.2", "src=\"/-/live.js\"", "data-metrics=\"/a&quot;b\""]
        {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!SCRIPT.contains("innerHTML"), "label values must never become markup");
    }

    #[test]
    fn errors_as_json() {
        let report = Report { collector: "cpu", seconds: 0.5, error: Some("a \"b\"".to_owned()) };
        assert_eq!(collectors(&[report]), r#"[{"error":"a \"b\"","name":"cpu","seconds":0.5}]"#);
        assert_eq!(collectors(&[]), "[]");
    }
}
