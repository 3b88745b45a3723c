//! Upstream's server writes what it scrapes to ours, by both versions of the protocol; the same samples must be there.

use crate::processes::{self, free_port, http, now_seconds, start, wait, write_file};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{collections::BTreeSet, path::Path, time::Duration};

/// How long samples are gathered.
const GATHER: Duration = Duration::from_secs(60);
/// How far behind now is compared, so that what is under way has arrived.
const BEHIND_SECONDS: u64 = 15;

/// One upstream server that writes to ours.
const WRITERS: [(&str, &str); 2] = [("v1", "prometheus.WriteRequest"), ("v2", "io.prometheus.write.v2.Request")];

pub(super) fn run(bin: &Path) -> Result<()> {
    let ours = processes::ours()?;
    let work = crate::root().join("target/peers-remote");
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work)?;
    let (port, exporter) = (free_port()?, free_port()?);
    let listen = |port: u16| format!("--web.listen-address=127.0.0.1:{port}");
    let folder = |name: &str| format!("--storage.tsdb.path={}", work.join(name).display());
    let empty = work.join("ours.yml");
    write_file(&empty, "global: {}\n")?;
    let config = format!("--config.file={}", empty.display());
    let receive = "--web.enable-remote-write-receiver";
    let _ours = start(&ours, &["server", &config, &listen(port), &folder("ours"), receive])?;
    let _exporter = start(&ours, &["exporter", &listen(exporter)])?;
    wait(|| http(port, "GET", "/-/ready", "").is_ok())?;

    let mut running = Vec::new();
    for (name, message) in WRITERS {
        let theirs = free_port()?;
        let text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, external_labels: {{writer: {name}}}}}\n\
             scrape_configs:\n- {{job_name: self, static_configs: [{{targets: ['127.0.0.1:{theirs}']}}]}}\n\
             - {{job_name: exporter, static_configs: [{{targets: ['127.0.0.1:{exporter}']}}]}}\n\
             remote_write:\n- {{url: 'http://127.0.0.1:{port}/api/v1/write', protobuf_message: {message}, \
             send_native_histograms: true, send_exemplars: true, queue_config: {{batch_send_deadline: 1s}}}}\n"
        );
        let file = work.join(format!("{name}.yml"));
        write_file(&file, &text)?;
        let config = format!("--config.file={}", file.display());
        let features = "--enable-feature=native-histograms,exemplar-storage,metadata-wal-records";
        let program = start(&bin.join("prometheus"), &[&config, &listen(theirs), &folder(name), features])?;
        running.push((name, theirs, program));
    }
    std::thread::sleep(GATHER);
    let at = now_seconds()? - BEHIND_SECONDS;
    let mut broken = 0;
    for (name, theirs, _) in &running {
        let left = samples(port, &format!("{{writer={name:?}}}[30s]"), at)?;
        let right = samples(*theirs, "{__name__=~\".+\"}[30s]", at)?;
        broken += super::compare(&format!("{name}: ours and what upstream scraped"), &left, &right);
        if right.len() < 500 {
            bail!("{name}: {} series are too few to say anything", right.len());
        }
    }
    if broken > 0 {
        bail!("{broken} differences");
    }
    Ok(())
}

/// Series and samples of a range, without the label that says who wrote. The bounds of native histograms are computed
/// by whoever shows them: what was sent are the counts.
fn samples(port: u16, query: &str, at: u64) -> Result<BTreeSet<String>> {
    let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let body = http(port, "GET", &format!("/api/v1/query?query={escaped}&time={at}"), "")?;
    let answer: Value = serde_json::from_str(&body).context("the API's JSON")?;
    let rows = answer["data"]["result"].as_array().with_context(|| body.clone())?;
    let shown = |row: &Value| {
        let mut metric = row["metric"].clone();
        if let Some(labels) = metric.as_object_mut() {
            labels.remove("writer");
        }
        let mut histograms = row["histograms"].clone();
        for histogram in histograms.as_array_mut().into_iter().flatten() {
            for bucket in histogram[1]["buckets"].as_array_mut().into_iter().flatten() {
                (bucket[1], bucket[2]) = (Value::Null, Value::Null);
            }
        }
        format!("{metric} {} {histograms}", row["values"])
    };
    Ok(rows.iter().map(shown).collect())
}
