//! The series: what a node exporter and a web service of each instance give, every 15 s, each instance at its own
//! moment. Counters restart now and then, as processes do.

use anyhow::{Context, Result};
use model::Labels;

/// First moment, a multiple of a day in milliseconds.
pub(crate) const START: i64 = 1_700_006_400_000;
/// Between samples, in milliseconds.
const EVERY: i64 = 15_000;
/// Samples of a series that are made at once.
const SLICE: i64 = 120;

/// One series and its samples of the slice.
pub(crate) struct Series {
    pub(crate) labels: Labels,
    pub(crate) times: Vec<i64>,
    pub(crate) values: Vec<f64>,
    kind: Kind,
    offset: i64,
    value: f64,
    seed: u64,
}

/// How a series moves.
#[derive(Clone, Copy)]
enum Kind {
    /// Seconds in hundredths, so many of them per sample at most.
    Seconds(f64),
    /// Whole numbers, so many more per sample at most.
    Count(f64),
    /// Bytes in pages around a level.
    Bytes(f64),
    /// A load: two digits.
    Load,
    Constant(f64),
}

/// All of it, slice by slice in the order of time.
pub(crate) struct Data {
    series: Vec<Series>,
    slice: i64,
    slices: i64,
}

impl Data {
    /// From the arguments INSTANCES HOURS and, for processor modes alone, `cpu`.
    pub(crate) fn of(args: &[&str]) -> Result<Self> {
        let [instances, hours, rest @ ..] = args else { anyhow::bail!("INSTANCES and HOURS are missing") };
        let instances: usize = instances.parse().context("INSTANCES")?;
        let hours: i64 = hours.parse().context("HOURS")?;
        let mut series = Vec::new();
        for instance in 0..instances {
            one(instance, rest.first() == Some(&"cpu"), &mut series);
        }
        Ok(Self { series, slice: 0, slices: hours * 3_600_000 / (EVERY * SLICE) })
    }

    /// The samples of the next half hour.
    pub(crate) fn next_slice(&mut self) -> Option<&[Series]> {
        if self.slice == self.slices {
            return None;
        }
        let first = START + self.slice * SLICE * EVERY;
        self.series.iter_mut().for_each(|series| series.fill(first));
        self.slice += 1;
        Some(&self.series)
    }
}

impl Series {
    fn random(&mut self) -> f64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn fill(&mut self, first: i64) {
        self.times.clear();
        self.values.clear();
        for place in 0..SLICE {
            let random = self.random();
            let hundredths = |value: f64| (value * 100.0).round() / 100.0;
            self.value = match self.kind {
                Kind::Seconds(_) | Kind::Count(_) if random < 0.000_02 => 0.0,
                Kind::Seconds(most) => hundredths(self.value + random * most),
                Kind::Count(most) => self.value + (random * most).floor(),
                Kind::Bytes(level) => ((level + (random - 0.5) * level * 0.01) / 4096.0).floor() * 4096.0,
                Kind::Load => hundredths((self.value + random - 0.5).abs()),
                Kind::Constant(value) => value,
            };
            self.times.push(first + place * EVERY + self.offset);
            self.values.push(self.value);
        }
    }
}

fn one(instance: usize, cpu_alone: bool, out: &mut Vec<Series>) {
    let host = format!("10.0.{}.{}:9100", instance / 250, instance % 250);
    let mut add = |name: &str, labels: &[(&str, &str)], kind: Kind| {
        let job = if name.starts_with("http") { "web" } else { "node" };
        let own = [("__name__", name), ("instance", host.as_str()), ("job", job)];
        out.push(Series {
            labels: Labels::from_pairs(own.iter().chain(labels).copied()),
            times: Vec::new(),
            values: Vec::new(),
            kind,
            offset: (instance as i64 * 7919) % EVERY,
            value: 0.0,
            seed: (out.len() as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        });
    };
    for cpu in ["0", "1", "2", "3", "4", "5", "6", "7"] {
        for (mode, most) in [
            ("idle", 28.0),
            ("iowait", 0.2),
            ("irq", 0.0),
            ("nice", 0.0),
            ("softirq", 0.1),
            ("steal", 0.0),
            ("system", 1.0),
            ("user", 2.0),
        ] {
            add("node_cpu_seconds_total", &[("cpu", cpu), ("mode", mode)], Kind::Seconds(most));
        }
    }
    if cpu_alone {
        return;
    }
    for handler in ["/", "/api", "/login", "/search", "/static"] {
        for method in ["GET", "POST", "PUT"] {
            for code in ["200", "302", "404", "500"] {
                let most = if code == "200" { 400.0 } else { 3.0 };
                let labels = [("handler", handler), ("method", method), ("code", code)];
                add("http_requests_total", &labels, Kind::Count(most));
            }
        }
        let bounds = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf"];
        for (place, bound) in bounds.into_iter().enumerate() {
            let labels = [("handler", handler), ("le", bound)];
            add("http_request_duration_seconds_bucket", &labels, Kind::Count(20.0 * (place + 1) as f64));
        }
        add("http_request_duration_seconds_sum", &[("handler", handler)], Kind::Seconds(9.0));
        add("http_request_duration_seconds_count", &[("handler", handler)], Kind::Count(240.0));
    }
    for (name, level) in [("MemTotal", 0.0), ("MemAvailable", 8e9), ("MemFree", 2e9), ("Buffers", 3e8)] {
        let kind = if level == 0.0 { Kind::Constant(16_777_216_000.0) } else { Kind::Bytes(level) };
        add(&format!("node_memory_{name}_bytes"), &[], kind);
    }
    for (device, mountpoint) in [("sda1", "/"), ("sda2", "/home"), ("sdb1", "/var"), ("sdc1", "/srv")] {
        let labels = [("device", device), ("fstype", "ext4"), ("mountpoint", mountpoint)];
        add("node_filesystem_avail_bytes", &labels, Kind::Bytes(3e11));
        add("node_filesystem_size_bytes", &labels, Kind::Constant(1e12));
    }
    add("node_load1", &[], Kind::Load);
    add("node_load5", &[], Kind::Load);
    add("up", &[], Kind::Constant(1.0));
}
