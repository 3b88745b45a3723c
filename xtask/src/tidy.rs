//! The house rules that no compiler checks: the tables of `docs/architecture.md` against the manifests.

use anyhow::{Context, Result, bail};
use std::{collections::BTreeMap, path::Path, process::Command};

/// Fails on the first broken rule.
pub(crate) fn tidy(root: &Path) -> Result<()> {
    let page = std::fs::read_to_string(root.join("docs/architecture.md")).context("docs/architecture.md")?;
    let table = import_table(&page)?;
    let broken = violations(&table, &edges(root)?);
    if !broken.is_empty() {
        bail!("the import table of docs/architecture.md does not allow:\n{}", broken.join("\n"));
    }
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).context("Cargo.toml")?;
    let unexplained = unexplained(&page, &manifest);
    if !unexplained.is_empty() {
        bail!("docs/architecture.md does not say why these libraries were taken:\n{}", unexplained.join("\n"));
    }
    for file in tracked(root, ".rs")? {
        let text = std::fs::read_to_string(root.join(&file))?;
        if !text.starts_with("//!") {
            bail!("{file} does not open with a //! line that says what it is");
        }
    }
    Ok(())
}

/// The files git tracks whose names end so.
pub(crate) fn tracked(root: &Path, end: &str) -> Result<Vec<String>> {
    let out = Command::new("git").args(["ls-files"]).current_dir(root).output().context("git ls-files")?;
    let all = String::from_utf8(out.stdout)?;
    Ok(all.lines().filter(|name| name.ends_with(end)).map(str::to_owned).collect())
}

/// Rows `| crate | may import |` under the heading "Who may import whom".
fn import_table(page: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let section = page.split("## Who may import whom").nth(1).context("no import table")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let cells = |line: &str| -> Vec<Vec<String>> {
        let words =
            |cell: &str| cell.split([',', ' ']).filter(|w| !w.is_empty() && *w != "–").map(str::to_owned).collect();
        line.trim_matches('|').split('|').map(words).collect()
    };
    let mut table = BTreeMap::new();
    for line in section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| crate")) {
        if let [name, imports] = cells(line).as_slice() {
            table.insert(name.join(""), imports.clone());
        }
    }
    Ok(table)
}

/// Libraries of the workspace that no row of the page's first columns names.
fn unexplained(page: &str, manifest: &str) -> Vec<String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split('|').next());
    let named: Vec<&str> = rows.flat_map(|cell| cell.split([',', ' '])).collect();
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    let theirs = section.lines().filter(|line| line.contains(" = ") && !line.contains("path ="));
    theirs
        .filter_map(|line| line.split(" = ").next())
        .filter(|name| !named.contains(name))
        .map(|name| format!("  {name}: no row under Libraries"))
        .collect()
}

/// Every edge between our crates: (from, to, whether only tests need it).
fn edges(root: &Path) -> Result<BTreeMap<String, Vec<(String, bool)>>> {
    let out = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let ours = |dependency: &serde_json::Value| -> Option<(String, bool)> {
        let local = !dependency["path"].is_null();
        local.then(|| (dependency["name"].as_str().unwrap_or_default().to_owned(), dependency["kind"] == "dev"))
    };
    Ok(packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().into_iter().flatten().filter_map(ours).collect();
            (package["name"].as_str().unwrap_or_default().to_owned(), dependencies)
        })
        .collect())
}

fn violations(table: &BTreeMap<String, Vec<String>>, edges: &BTreeMap<String, Vec<(String, bool)>>) -> Vec<String> {
    let mut broken = Vec::new();
    for (from, dependencies) in edges {
        let Some(allowed) = table.get(from) else {
            broken.push(format!("  {from}: not in the table"));
            continue;
        };
        for (to, test_only) in dependencies {
            if !(allowed.contains(to) || *test_only && to == "testkit") {
                broken.push(format!("  {from} -> {to}"));
            }
        }
    }
    broken
        .extend(table.keys().filter(|name| !edges.contains_key(*name)).map(|name| format!("  {name}: no such crate")));
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_import_table_is_kept() {
        if let Err(error) = tidy(&crate::root()) {
            panic!("{error:#}");
        }
    }

    #[test]
    fn a_library_without_a_row_is_named() {
        let manifest =
            "[workspace.dependencies]\nours = { path = \"x\" }\na = \"1\"\nb = \"1\"\n[package]\nc = \"1\"\n";
        assert_eq!(unexplained("| a, x | for | why |", manifest), ["  b: no row under Libraries"]);
    }

    #[test]
    fn an_edge_outside_the_table_is_named() {
        let table =
            import_table("## Who may import whom\n| crate | may import |\n|---|---|\n| a | b |\n| b | – |\n").unwrap();
        let edge = |to: &str| vec![(to.to_owned(), false)];
        let edges = BTreeMap::from([("a".into(), edge("b")), ("b".into(), edge("a")), ("c".into(), vec![])]);
        assert_eq!(violations(&table, &edges), ["  b -> a", "  c: not in the table"]);
    }
}
