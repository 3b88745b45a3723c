//! Keeps `docs/configuration.md` true: its tables are made here, and their keys compared with those that are read.
//! `UPDATE_GOLDEN=1` writes the page anew.

use super::Config;
use std::{fmt::Write as _, io::Write as _, path::Path};

/// A section: its name, where an unknown key is put to have its keys listed, and its keys with default and meaning.
struct Section {
    name: &'static str,
    probe: &'static str,
    keys: &'static [(&'static str, &'static str, &'static str)],
}

/// Not built yet: refused unless empty.
const LATER: &str = "not built yet: refused unless empty";

const SECTIONS: &[Section] = &[
    Section {
        name: "The file",
        probe: "no_such_key: 1",
        keys: &[
            ("global", "defaults", "What jobs inherit, below."),
            ("scrape_configs", "none", "Jobs, below."),
            (
                "scrape_config_files",
                "none",
                "Files that hold only `scrape_configs`; the last part of a path may hold one `*`.",
            ),
            ("storage", "defaults", "What the store keeps; see the page of the store."),
            ("alerting", "none", "Checked; an Alertmanager with targets is not built yet and refused."),
            ("runtime", "", "Accepted: `gogc` has nothing to set here."),
            ("rule_files", "none", LATER),
            ("remote_write", "none", LATER),
            ("remote_read", "none", LATER),
            ("tracing", "none", LATER),
            ("otlp", "none", LATER),
        ],
    },
    Section {
        name: "global",
        probe: "global: {no_such_key: 1}",
        keys: &[
            ("scrape_interval", "1m", "Time between scrapes."),
            (
                "scrape_timeout",
                "10s, or the interval if that is shorter",
                "Time a scrape may take; never more than the interval.",
            ),
            (
                "scrape_protocols",
                "OpenMetrics 1.0.0, 0.0.1, text 1.0.0, 0.0.4; with native histograms protobuf first",
                "Formats that are asked for, the best first.",
            ),
            ("evaluation_interval", "1m", "Interval of rules and default step of subqueries."),
            (
                "external_labels",
                "none",
                "Labels of everything that leaves this server; `$NAME` and `${NAME}` are variables of the environment, `$$` a dollar.",
            ),
            ("scrape_failure_log_file", "none", "File that gets a JSON object a line for every failed scrape."),
            ("body_size_limit", "0, which is off", "Bytes of a body, uncompressed, with a unit."),
            ("sample_limit", "0", "Samples of a scrape after relabelling."),
            ("label_limit", "0", "Labels of a series."),
            ("label_name_length_limit", "0", "Bytes of a label's name."),
            ("label_value_length_limit", "0", "Bytes of a label's value."),
            ("target_limit", "0", "Targets of a job; with more, all of them fail."),
            ("keep_dropped_targets", "0, which keeps all", "Dropped targets kept for display."),
            ("metric_name_validation_scheme", "utf8", "`utf8` or `legacy`: which names are allowed."),
            (
                "metric_name_escaping_scheme",
                "allow-utf-8; underscores when legacy",
                "`allow-utf-8`, `underscores`, `dots` or `values`: how targets write other names.",
            ),
            ("scrape_native_histograms", "false", "Whether native histograms are stored as such."),
            (
                "convert_classic_histograms_to_nhcb",
                "false",
                "Whether classic histograms become native ones with custom buckets.",
            ),
            (
                "always_scrape_classic_histograms",
                "false",
                "Whether the classic series of a native histogram are stored as well.",
            ),
            ("extra_scrape_metrics", "false", "Whether timeout, sample limit and body size are reported as series."),
            ("rule_query_offset", "0s", LATER),
            ("query_log_file", "none", LATER),
        ],
    },
    Section {
        name: "scrape_configs",
        probe: "scrape_configs: [{job_name: j, no_such_key: 1}]",
        keys: &[
            ("job_name", "required", "Name of the job, once in all files."),
            ("scrape_interval", "global", "Time between scrapes."),
            ("scrape_timeout", "global, or the interval if that is shorter", "Time a scrape may take."),
            ("metrics_path", "/metrics", "Path that is asked for."),
            ("scheme", "http", "`http` or `https`."),
            ("params", "none", "Parameters of the URL, each a list."),
            (
                "honor_labels",
                "false",
                "Whether exposed labels win over those of the target; else they become `exported_NAME`.",
            ),
            ("honor_timestamps", "true", "Whether exposed times are kept."),
            ("track_timestamps_staleness", "false", "Whether series with exposed times end with a marker too."),
            ("enable_compression", "true", "Whether gzip is asked for."),
            ("scrape_protocols", "global", "Formats that are asked for."),
            ("fallback_scrape_protocol", "none", "Format of a body that does not say what it is."),
            ("scrape_failure_log_file", "global", "As there."),
            ("body_size_limit", "global", "As there; so are the other limits when they are 0."),
            ("sample_limit", "global", ""),
            ("label_limit", "global", ""),
            ("label_name_length_limit", "global", ""),
            ("label_value_length_limit", "global", ""),
            ("target_limit", "global", ""),
            ("keep_dropped_targets", "global", ""),
            ("metric_name_validation_scheme", "global", ""),
            ("metric_name_escaping_scheme", "global", ""),
            (
                "native_histogram_bucket_limit",
                "0, which is off",
                "Buckets of a native histogram; one with more is made coarser, and fails the scrape if that does not help.",
            ),
            (
                "native_histogram_min_bucket_factor",
                "0, which is off",
                "Growth from a bucket to the next, at least; finer histograms are made coarser.",
            ),
            ("scrape_native_histograms", "global", ""),
            ("convert_classic_histograms_to_nhcb", "global", ""),
            ("always_scrape_classic_histograms", "global", ""),
            ("extra_scrape_metrics", "global", ""),
            ("relabel_configs", "none", "Rules for targets, below."),
            ("metric_relabel_configs", "none", "Rules for samples, below."),
        ],
    },
    Section {
        name: "Relabelling rules",
        probe: "scrape_configs: [{job_name: j, relabel_configs: [{no_such_key: 1}]}]",
        keys: &[
            (
                "action",
                "replace",
                "`replace`, `keep`, `drop`, `keepequal`, `dropequal`, `hashmod`, `labelmap`, `labeldrop`, `labelkeep`, `lowercase`, `uppercase`.",
            ),
            ("source_labels", "none", "Labels whose values are joined."),
            ("separator", "`;`", "What stands between them."),
            ("regex", "`(.*)`", "What they must match, as a whole; RE2."),
            ("target_label", "", "The label that is written; needed by most actions."),
            ("replacement", "`$1`", "What is written; `$1`, `${name}` are groups of the expression."),
            ("modulus", "0", "Divisor of `hashmod`."),
        ],
    },
];

const HEAD: &str = "# Configuration of the server

Made by a test; change that and run `UPDATE_GOLDEN=1 cargo test -p server reference`.

The file is YAML with upstream's keys, read strictly: an unknown key is an error that names its line. Durations are
written as `1h30m`, sizes as `15MB`. Relative paths start at the folder of the file that holds them. SIGHUP, or
`POST /-/reload` with `--web.enable-lifecycle`, reads the file again; a broken one changes nothing, and jobs and
mechanisms that did not change go on undisturbed.
";

const JOBS: &str = "
Beside these a job takes the keys of the HTTP client section (`basic_auth`, `authorization`, `oauth2`, `tls_config`,
`proxy_url`, `follow_redirects`, `enable_http2`, `http_headers` and the others), and the lists of
[target discovery](discovery.md): `static_configs`, `file_sd_configs` and so on.
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    for section in SECTIONS {
        let _ = writeln!(page, "\n## {}\n\n| Key | Default | |\n|---|---|---|", section.name);
        for (name, default, text) in section.keys {
            let _ = writeln!(page, "| `{name}` | {default} | {text} |");
        }
        if section.name == "scrape_configs" {
            page.push_str(JOBS);
        }
    }
    page
}

#[test]
fn the_reference_page_is_true() {
    let (path, page) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md"), page());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::File::create(&path).and_then(|mut file| file.write_all(page.as_bytes())).expect("page");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differing = written.lines().zip(page.lines()).find(|(old, new)| old != new);
    assert!(written == page, "docs/configuration.md is out of date, first at {differing:?}; run with UPDATE_GOLDEN=1");
}

#[test]
fn every_key_is_described_and_every_described_key_is_read() {
    for section in SECTIONS {
        let refusal = Config::parse(section.probe, Path::new("p.yml")).expect_err(section.probe).to_string();
        let (_, listed) = refusal.split_once("expected one of ").unwrap_or_else(|| panic!("{refusal}"));
        let mut have: Vec<&str> = listed.split(", ").map(|name| name.trim_matches('`')).collect();
        let mut described: Vec<&str> = section.keys.iter().map(|(name, _, _)| *name).collect();
        have.sort_unstable();
        described.sort_unstable();
        assert_eq!(have, described, "{}", section.name);
    }
}
