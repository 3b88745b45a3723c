//! Upstream's programs and ours scrape each other; the same series with the same labels must come out on both sides.

mod api;
mod clients;
mod remote;
mod wire;

use crate::processes::{self, free_port, http, start, wait};
use anyhow::{Context, Result, bail};
use std::{collections::BTreeSet, io::Write, path::Path};

type Part = fn(&Path) -> Result<()>;

/// Parts that are compared here.
const OWN: &[(&str, Part)] =
    &[("api", api::run), ("clients", clients::run), ("compliance", compliance), ("remote", remote::run)];

/// Comparisons of one part: its name, its crate, the example that compares, and the program that it is given; none is
/// the folder of all programs.
const PARTS: &[(&str, &str, &str, Option<&str>)] = &[
    ("blocks", "tools", "peer", None),
    ("exporter", "exporter", "peer", Some("prometheus-node-exporter")),
    ("promql", "promql", "differential", None),
    ("push", "pushgateway", "differential", Some("prometheus-pushgateway")),
];

/// The query list of the compliance suite, in the folder of conformance data.
const COMPLIANCE: &str = "compliance/promql/promql-test-queries.yml";

/// Runs the crosswise comparison, or that of one part; needs the binaries of `../shared/tools/get-peers`.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let (bin, rest) = processes::peers(args)?;
    match rest.as_slice() {
        [] => crosswise(&bin),
        [one] if OWN.iter().any(|(name, _)| name == one) => {
            OWN.iter().filter(|(name, _)| name == one).try_for_each(|(_, run)| run(&bin))
        }
        [one] => {
            let known = || {
                PARTS
                    .iter()
                    .map(|(name, ..)| *name)
                    .chain(OWN.iter().map(|(name, _)| *name))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let (_, package, example, program) = PARTS
                .iter()
                .find(|(name, ..)| name == one)
                .with_context(|| format!("no comparison {one}; there are {}", known()))?;
            let program = program.map_or_else(|| bin.clone(), |program| bin.join(program));
            let program = program.to_string_lossy();
            crate::cargo(&["run", "--release", "--quiet", "--package", package, "--example", example, "--", &program])
        }
        _ => bail!("usage: cargo xtask peers [PART] [--bin DIR]"),
    }
}

fn crosswise(bin: &Path) -> Result<()> {
    let ours = processes::ours()?;
    let work = crate::root().join("target/peers");
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work)?;
    let [exporter, gateway, server] = [free_port()?, free_port()?, free_port()?];
    let [their_exporter, their_gateway, their_server] = [free_port()?, free_port()?, free_port()?];

    let listen = |port: u16| format!("--web.listen-address=127.0.0.1:{port}");
    let _a = start(&ours, &["exporter", &listen(exporter)])?;
    let _b = start(&ours, &["pushgateway", &listen(gateway)])?;
    let _c = start(
        &bin.join("prometheus-node-exporter"),
        &[&listen(their_exporter), "--no-collector.systemd", "--collector.textfile.directory="],
    )?;
    let _d = start(&bin.join("prometheus-pushgateway"), &[&listen(their_gateway), "--persistence.file="])?;
    for port in [exporter, gateway, their_exporter, their_gateway] {
        wait(|| http(port, "GET", "/metrics", "").is_ok())?;
    }
    for port in [gateway, their_gateway] {
        http(
            port,
            "PUT",
            "/metrics/job/backup/instance/db",
            "# TYPE backup_seconds gauge\nbackup_seconds{disk=\"a\"} 12.5\n",
        )?;
    }
    let mut config = String::from("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n");
    for (job, port) in [("our-exporter", exporter), ("their-exporter", their_exporter)] {
        config.push_str(&format!("- {{job_name: {job}, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n"));
    }
    for (job, port) in [("our-gateway", gateway), ("their-gateway", their_gateway)] {
        config.push_str(&format!(
            "- {{job_name: {job}, honor_labels: true, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n"
        ));
    }
    let file = work.join("prometheus.yml");
    std::fs::File::create(&file)?.write_all(config.as_bytes())?;
    let config = format!("--config.file={}", file.display());
    let data = |name: &str| format!("--storage.tsdb.path={}", work.join(name).display());
    let _e = start(&ours, &["server", &config, &listen(server), &data("ours")])?;
    let _f = start(&bin.join("prometheus"), &[&config, &listen(their_server), &data("theirs")])?;
    let up = |port: u16| series(port, "up == 1").map(|found| found.len());
    for port in [server, their_server] {
        wait(|| up(port).is_ok_and(|n| n >= 4))
            .with_context(|| format!("server on port {port} sees its four targets"))?;
    }
    let mut broken = 0;
    for job in ["our-exporter", "their-exporter", "our-gateway", "their-gateway"] {
        let query = format!("{{job={job:?}}} or {{exported_job=\"backup\"}} or backup_seconds or push_time_seconds");
        let (mine, theirs) = (series(server, &query)?, series(their_server, &query)?);
        broken += compare(&format!("{job}: our server and upstream's"), &mine, &theirs);
    }
    if broken > 0 {
        bail!("{broken} differences");
    }
    Ok(())
}

/// Prints what only one side has; returns how many.
fn compare(what: &str, left: &BTreeSet<String>, right: &BTreeSet<String>) -> usize {
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
    let (mine, theirs) = (only(left, right), only(right, left));
    println!(
        "{what}: {} series agree, {} only ours, {} only upstream's",
        left.intersection(right).count(),
        mine.len(),
        theirs.len()
    );
    for line in mine.iter().map(|l| format!("  < {l}")).chain(theirs.iter().map(|l| format!("  > {l}"))).take(40) {
        println!("{line}");
    }
    if left.is_empty() {
        println!("  nothing to compare");
    }
    mine.len() + theirs.len() + usize::from(left.is_empty())
}

/// The label sets a query answers, as text.
fn series(port: u16, query: &str) -> Result<BTreeSet<String>> {
    let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let body = http(port, "GET", &format!("/api/v1/query?query={escaped}"), "")?;
    let answer: serde_json::Value = serde_json::from_str(&body).context("the API's JSON")?;
    let rows = answer["data"]["result"].as_array().with_context(|| body.clone())?;
    Ok(rows.iter().map(|row| row["metric"].to_string()).collect())
}

/// The queries of the compliance suite, asked of both engines.
fn compliance(bin: &Path) -> Result<()> {
    let list = crate::root().join("../shared/conformance").join(COMPLIANCE);
    let (bin, list) = (bin.to_string_lossy(), list.to_string_lossy());
    let example = ["run", "--release", "--quiet", "--package", "promql", "--example", "differential", "--"];
    crate::cargo(&[&example[..], &[&bin, "compliance", &list]].concat())
}
