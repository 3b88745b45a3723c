//! What loads, with which meaning, and what is refused in which words.

use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("p.yml")).map_err(|error| error.to_string())
}

#[test]
fn the_sample_configuration_loads_with_its_null_keys() {
    let text = "global:\n  scrape_interval:     15s\n  scrape_timeout:      10s\n\nalerting:\n  alertmanagers:\n  - static_configs:\n    \
                - targets:\n      # - alertmanager:9093\n\nrule_files:\n  # - \"first_rules.yml\"\n\nscrape_configs:\n  - job_name: \
                'prometheus'\n    static_configs:\n    - targets: ['localhost:9090']\n";
    let config = parse(text).expect("must load");
    assert_eq!(config.scrape[0].job_name, "prometheus");
    assert_eq!(config.scrape[0].interval.as_millis(), 15_000);
    assert_eq!(config.scrape[0].groups[0].targets[0].get("__address__"), Some("localhost:9090"));
    assert!(parse("").expect("empty is fine").scrape.is_empty());
}

#[test]
fn client_keys_of_a_job_reach_its_client_and_files_start_at_the_folder() {
    let text = "scrape_configs:\n- job_name: a\n  scheme: https\n  basic_auth: {username: u, password_file: pw}\n  \
                follow_redirects: false\n";
    let config = Config::parse(text, Path::new("/etc/p/p.yml")).expect("must load");
    let job = &config.scrape[0];
    let basic = job.http.basic_auth.as_ref().expect("given");
    assert_eq!(basic.password_file.as_deref(), Some(Path::new("/etc/p/pw")));
    assert_eq!((job.scheme.as_str(), job.http.follow_redirects), ("https", Some(false)));
}

#[test]
fn what_is_refused_says_where_and_why() {
    for (text, want) in [
        ("global:\n  scrape_intervall: 15s\n", "p.yml:2:3: unknown field `scrape_intervall`, expected one of"),
        ("remote_write:\n- url: http://x\n", "not built"),
        ("scrape_configs:\n- job_name: k\n  consul_sd_configs:\n  - server: x\n", "not built"),
        ("scrape_configs:\n- job_name: k\n  scheme: gopher\n", "neither http nor https"),
        ("scrape_configs:\n- job_name: k\n  basic_auth:\n    user: x\n", "p.yml:4:"),
        ("scrape_configs:\n- job_name: k\n  bearer_token: a\n  bearer_token_file: b\n", "at most one of bearer_token"),
        ("scrape_configs:\n- job_name: a\n- job_name: a\n", "multiple scrape configs"),
        ("scrape_configs:\n- job_name: a\n  scrape_interval: 5x\n", "p.yml:3:"),
        ("scrape_configs:\n- job_name: a\n  scrape_interval: 5s\n  scrape_timeout: 9s\n", "greater than"),
        ("scrape_configs:\n- job_name: a\n  relabel_configs: [{action: hashmod, target_label: x}]\n", "modulus"),
        ("scrape_configs:\n- {job_name: a, scrape_protocols: [PrometheusText9]}\n", "unknown scrape protocol"),
        ("scrape_configs:\n- {job_name: a, scrape_protocols: []}\n", "cannot be empty"),
        ("rule_files: [a.yml]\n", "not built"),
        ("alerting: {alertmanagers: [{static_configs: [{targets: ['x:1']}]}]}\n", "not built"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.contains(want), "{text}: {error}");
        assert!(!error.contains('\n'), "{text}: {error}");
    }
}

#[test]
fn the_store_takes_its_settings_from_the_file() {
    let parse = |text: &str| Config::parse(text, Path::new("p.yml")).map_err(|error| error.to_string());
    let text = "storage:\n  tsdb: {out_of_order_time_window: 30m}\n  exemplars: {max_exemplars: 7}\n";
    let config = parse(text).expect("must load");
    assert_eq!((config.out_of_order_window.as_millis(), config.exemplars_max), (1_800_000, 7));
    let config = parse("storage:\n").expect("nothing is its defaults");
    assert_eq!((config.out_of_order_window.as_millis(), config.exemplars_max), (0, 100_000));
    assert_eq!(parse("storage: {exemplars: {max_exemplars: -1}}").expect("none").exemplars_max, 0);
    let text =
        "storage: {tsdb: {retention: {time: 30d, size: 1GB, percentage: 7.5, series: [{match: 'up', time: 1h}]}}}";
    let retention = parse(text).expect("must load").retention;
    assert_eq!((retention.bytes, retention.percentage), (Some(1 << 30), Some(7.5)));
    assert_eq!(retention.series.iter().map(|rule| rule.keep_ms).collect::<Vec<_>>(), [3_600_000]);
    assert!(parse("storage: {tsdb: {retention: {percentage: 101}}}").expect_err("too much").contains("percentage"));
    let text = "storage: {tsdb: {retention: {series: [{match: '{', time: 1h}]}}}";
    assert!(parse(text).expect_err("no selector").contains("retention.series"));
    assert!(parse("storage: {tsdb: {window: 1m}}").expect_err("no such key").contains("window"));
}

#[test]
fn mistakes_of_meaning_name_the_line_of_the_item() {
    for (text, want) in [
        ("scrape_configs:\n- job_name: k\n- job_name: j\n  scheme: x\n", "p.yml:3:3: scrape config \"j\": scheme"),
        (
            "scrape_configs:\n- job_name: k\n  relabel_configs:\n  - action: keep\n  - action: bad\n",
            "p.yml:5:5: scrape config \"k\": unknown relabel action \"bad\"",
        ),
        (
            "scrape_configs:\n- job_name: k\n  http_sd_configs:\n  - url: ftp://x\n",
            "p.yml:4:5: scrape config \"k\": http_sd_configs: URL scheme",
        ),
        ("scrape_config_files: [a/*/b.yml]\n", "p.yml:1:23: invalid scrape config file path"),
        ("scrape_configs:\n- job_name: k\n-\n", "empty or null scrape config section"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.starts_with(want) || error.ends_with(want), "{text}: {error}");
    }
}

#[test]
fn jobs_of_other_files_inherit_and_must_not_repeat_a_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("p.yml");
    let write = |name: &str, text: &str| {
        let mut file = std::fs::File::create(folder.path().join(name)).expect("made");
        std::io::Write::write_all(&mut file, text.as_bytes()).expect("written");
    };
    write("a.yml", "scrape_configs: [{job_name: a, file_sd_configs: [{files: [x.json]}]}]");
    write("b.yml", "scrape_configs: [{job_name: b, sample_limit: 9, metric_name_escaping_scheme: dots}]");
    let text = "global: {sample_limit: 7, scrape_interval: 5s, scrape_failure_log_file: f.log}\nscrape_config_files: \
                ['*.yml']\n";
    let config = Config::parse(text, &path).expect("valid");
    let jobs: Vec<_> = config.scrape.iter().map(|job| (job.job_name.as_str(), job.sample_limit)).collect();
    assert_eq!(jobs, [("a", 7), ("b", 9)]);
    assert_eq!(config.scrape[0].failure_log, Some(folder.path().join("f.log")));
    assert_eq!(config.scrape[0].timeout.as_millis(), 5_000);
    assert_eq!(config.scrape[1].escaping, exposition::Escaping::Dots);
    write("c.yml", "scrape_configs: [{job_name: a}]");
    let error = Config::parse(text, &path).expect_err("twice").to_string();
    assert!(error.contains("c.yml:1:") && error.contains("multiple scrape configs with job name \"a\""), "{error}");
    write("c.yml", "global: {}");
    assert!(Config::parse(text, &path).expect_err("jobs only").to_string().contains("unknown field `global`"));
}

#[test]
fn external_labels_take_variables_of_the_environment() {
    let variable = |name: &str| if name == "TEST" { "t".to_owned() } else { String::new() };
    for (written, want) in [
        ("${TEST}", "t"),
        ("a$TEST.b", "at.b"),
        ("$${TEST}", "${TEST}"),
        ("$NONE|", "|"),
        ("$", "$"),
        ("a$.b", "a$.b"),
        ("${x", "x"),
    ] {
        assert_eq!(super::expanded(written, &variable), want, "{written}");
    }
}
