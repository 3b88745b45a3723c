//! Runs the conformance suites that have landed against the data folder beside the checkout.

use anyhow::{Result, bail};
use std::path::PathBuf;

/// One suite: its crate, its folder, and where the data come from.
struct Suite {
    name: &'static str,
    package: &'static str,
    folder: &'static str,
    origin: &'static str,
}

const SUITES: &[Suite] = &[
    Suite {
        name: "config",
        package: "server",
        folder: "config",
        origin: "prometheus/prometheus d15adb9 config/testdata",
    },
    Suite {
        name: "exporter",
        package: "exporter",
        folder: "exporter",
        origin: "prometheus/node_exporter a7dcc3a collector/fixtures",
    },
    Suite {
        name: "exposition",
        package: "exposition",
        folder: "exposition",
        origin: "prometheus/prometheus d15adb9 model/textparse/testdata; prometheus/OpenMetrics 3bb328a tests/testdata/parsers",
    },
    Suite {
        name: "web",
        package: "web",
        folder: "alertmanager/web-config",
        origin: "prometheus/exporter-toolkit 19a7c2d web/testdata",
    },
    Suite {
        name: "promql",
        package: "promql",
        folder: "promql",
        origin: "prometheus/prometheus d15adb9 promql/promqltest/testdata",
    },
    Suite {
        name: "pushgateway",
        package: "pushgateway",
        folder: "pushgateway",
        origin: "written for this project, answers of prometheus-pushgateway 1.11.2",
    },
];

/// Runs the named suites, or all of them. A missing folder is an error, not a pass.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let mut data = crate::root().join("../shared/conformance");
    let mut names = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--data" => match args.next() {
                Some(folder) => data = PathBuf::from(folder),
                None => bail!("--data needs a folder"),
            },
            name => names.push(name),
        }
    }
    if let Some(unknown) = names.iter().find(|name| SUITES.iter().all(|suite| suite.name != **name)) {
        bail!(
            "no suite {unknown}; there are: {}",
            SUITES.iter().map(|suite| suite.name).collect::<Vec<_>>().join(", ")
        );
    }
    let mut failed = Vec::new();
    for suite in SUITES.iter().filter(|suite| names.is_empty() || names.contains(&suite.name)) {
        let folder = data.join(suite.folder);
        if !folder.is_dir() {
            bail!("{} is missing; the {} data come from {}", folder.display(), suite.name, suite.origin);
        }
        println!("== {}", suite.name);
        let folder = folder.to_string_lossy();
        if crate::cargo(&["run", "--quiet", "--package", suite.package, "--example", "conformance", "--", &folder])
            .is_err()
        {
            failed.push(suite.name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}
