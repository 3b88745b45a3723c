//! Pushes and scrapes of the gateway beside upstream's.

use super::{Connection, median, megabytes, timed};
use crate::processes::{free_port, http, start, wait};
use anyhow::Result;
use std::path::Path;

/// Pushes into a gateway that already holds groups, in turn; then scrapes of it.
pub(super) fn run(ours: &Path, bin: &Path) -> Result<()> {
    let (port, their_port) = (free_port()?, free_port()?);
    let mine = start(ours, &["pushgateway", &format!("--web.listen-address=127.0.0.1:{port}")])?;
    let theirs =
        start(&bin.join("prometheus-pushgateway"), &[&format!("--web.listen-address=127.0.0.1:{their_port}")])?;
    for port in [port, their_port] {
        wait(|| http(port, "GET", "/-/ready", "").is_ok())?;
    }
    let (mut a, mut b) = (Connection::open(port)?, Connection::open(their_port)?);
    println!("idle memory: ours {:.1} MB, upstream {:.1} MB", megabytes(&mine)?, megabytes(&theirs)?);
    let mut held = 0;
    for groups in [1, 100, 1000] {
        while held < groups {
            let path = format!("/metrics/job/batch/instance/{held}");
            a.ask("PUT", &path, "", BODY)?;
            b.ask("PUT", &path, "", BODY)?;
            held += 1;
        }
        let (mut times_a, mut times_b) = (Vec::new(), Vec::new());
        for i in 0..40 {
            let path = format!("/metrics/job/batch/instance/{}", i % groups);
            times_a.push(timed(|| a.ask("PUT", &path, "", BODY).map(drop))?);
            times_b.push(timed(|| b.ask("PUT", &path, "", BODY).map(drop))?);
        }
        let (x, y) = (median(times_a), median(times_b));
        println!("a push into {groups} groups: ours {:.3} ms, upstream {:.3} ms, ratio {:.1}", x * 1e3, y * 1e3, y / x);
    }
    let (mut times_a, mut times_b) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        times_a.push(timed(|| a.ask("GET", "/metrics", "", "").map(drop))?);
        times_b.push(timed(|| b.ask("GET", "/metrics", "", "").map(drop))?);
    }
    let (x, y) = (median(times_a), median(times_b));
    println!("a scrape of 1000 groups: ours {:.2} ms, upstream {:.2} ms, ratio {:.1}", x * 1e3, y * 1e3, y / x);
    println!("memory after: ours {:.1} MB, upstream {:.1} MB", megabytes(&mine)?, megabytes(&theirs)?);
    Ok(())
}

/// What a batch job pushes.
const BODY: &str = "# TYPE job_duration_seconds gauge\njob_duration_seconds 12.5\n# TYPE job_records_total counter\n\
                    job_records_total{kind=\"read\"} 100\njob_records_total{kind=\"written\"} 90\n# TYPE \
                    job_last_success_unixtime gauge\njob_last_success_unixtime 1.7e9\n";
