//! Queueing disciplines at the root of each device: netlink `RTM_GETQDISC`, see `tc(8)` and the kernel's `pkt_sched.h`.
//!
//! `--collector.qdisc.fixtures` names a folder whose `results.json` is shown instead, for comparisons.

use super::{Collector, Filter, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, read_at};
use crate::netlink::{GET_QDISC, Netlink, attributes, attributes_after, link_names, text, u32_at, u64_at};
use cli::Flag;
use std::path::PathBuf;

pub(super) const COLLECTOR: Collector = Collector {
    name: "qdisc",
    enabled: false,
    flags,
    deprecated: &[("collector.qdisk.device-include", INCLUDE), ("collector.qdisk.device-exclude", EXCLUDE)],
    build,
};

const INCLUDE: &str = "collector.qdisc.device-include";
const EXCLUDE: &str = "collector.qdisc.device-exclude";
const FIXTURES: &str = "collector.qdisc.fixtures";
/// Bytes of a `tcmsg`.
const HEAD: usize = 20;
const KIND: u16 = 1;
const STATS: u16 = 3;
const STATS2: u16 = 7;
const STATS2_BASIC: u16 = 1;
const STATS2_QUEUE: u16 = 3;

fn flags() -> Vec<Flag> {
    vec![
        Flag::string(FIXTURES, "", "Folder with a results.json to show instead of the kernel's answer"),
        Flag::string(INCLUDE, "", "Pattern of the devices to show").without_default(),
        Flag::string(EXCLUDE, "", "Pattern of the devices to leave out").without_default(),
    ]
}

struct Qdisc {
    filter: Filter,
    fixtures: Option<PathBuf>,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    let fixtures = settings.parsed.str(FIXTURES);
    let fixtures = (!fixtures.is_empty()).then(|| PathBuf::from(fixtures));
    Ok(Box::new(Qdisc { filter: settings.filter(INCLUDE, EXCLUDE)?, fixtures }))
}

/// One discipline and its figures.
#[derive(Debug, Default, PartialEq)]
struct Queue {
    device: String,
    kind: String,
    at_root: bool,
    bytes: u64,
    packets: u32,
    drops: u32,
    requeues: u32,
    overlimits: u32,
    length: u32,
    backlog: u32,
}

impl Gather for Qdisc {
    fn gather(&self, _host: &Host, out: &mut Families) -> Result<(), Failure> {
        let queues = match &self.fixtures {
            Some(folder) => from_file(&folder.join("results.json"))?,
            None => ask()?,
        };
        for queue in queues.iter().filter(|queue| queue.at_root && !self.filter.ignores(&queue.device)) {
            show(queue, out);
        }
        Ok(())
    }
}

fn show(queue: &Queue, out: &mut Families) {
    let labels = [("device", queue.device.as_str()), ("kind", queue.kind.as_str())];
    let mut set = |kind, name, help, value| out.sample(kind, name, help, &labels, value);
    let counter = Kind::Counter;
    set(counter, "node_qdisc_bytes_total", "Bytes sent through a queue.", queue.bytes as f64);
    set(counter, "node_qdisc_packets_total", "Packets sent through a queue.", f64::from(queue.packets));
    set(counter, "node_qdisc_drops_total", "Packets a queue dropped.", f64::from(queue.drops));
    set(counter, "node_qdisc_requeues_total", "Packets a queue took back.", f64::from(queue.requeues));
    set(counter, "node_qdisc_overlimits_total", "Packets beyond a queue's limit.", f64::from(queue.overlimits));
    set(Kind::Gauge, "node_qdisc_current_queue_length", "Packets in a queue.", f64::from(queue.length));
    set(Kind::Gauge, "node_qdisc_backlog", "Bytes in a queue.", f64::from(queue.backlog));
}

fn ask() -> Result<Vec<Queue>, Failure> {
    let mut netlink = Netlink::route()?;
    let names = link_names(&mut netlink)?;
    let answer = netlink.dump(GET_QDISC, &[0; HEAD])?;
    let named = |message| {
        let mut queue = parse(message)?;
        queue.device = names.get(&u32_at(message, 4)?)?.clone();
        Some(queue)
    };
    Ok(answer.iter().filter_map(named).collect())
}

fn parse(message: &[u8]) -> Option<Queue> {
    // "No parent" and "the root" are both what a device sends through first.
    let parent = u32_at(message, 12)?;
    let mut queue = Queue { at_root: parent == 0 || parent == u32::MAX, ..Queue::default() };
    let mut newer = false;
    for (kind, value) in attributes_after(message, HEAD) {
        match kind {
            KIND => queue.kind = text(value),
            STATS if !newer => old_figures(value, &mut queue),
            STATS2 => {
                newer = true;
                figures(value, &mut queue);
            }
            _ => {}
        }
    }
    Some(queue)
}

fn old_figures(value: &[u8], queue: &mut Queue) {
    queue.bytes = u64_at(value, 0).unwrap_or(0);
    let fields =
        [(&mut queue.packets, 8), (&mut queue.drops, 12), (&mut queue.overlimits, 16), (&mut queue.length, 28)];
    for (field, at) in fields {
        *field = u32_at(value, at).unwrap_or(0);
    }
    queue.backlog = u32_at(value, 32).unwrap_or(0);
}

fn figures(value: &[u8], queue: &mut Queue) {
    for (kind, value) in attributes(value) {
        match kind {
            STATS2_BASIC => {
                queue.bytes = u64_at(value, 0).unwrap_or(0);
                queue.packets = u32_at(value, 8).unwrap_or(0);
            }
            STATS2_QUEUE => {
                let fields = [
                    &mut queue.length,
                    &mut queue.backlog,
                    &mut queue.drops,
                    &mut queue.requeues,
                    &mut queue.overlimits,
                ];
                for (field, at) in fields.into_iter().zip([0, 4, 8, 12, 16]) {
                    *field = u32_at(value, at).unwrap_or(0);
                }
            }
            _ => {}
        }
    }
}

fn from_file(path: &std::path::Path) -> Result<Vec<Queue>, Failure> {
    let text = read_at(path)?;
    let form = |what: String| Failure::form(&path.display().to_string(), what);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).map_err(|error| form(error.to_string()))?;
    let queue = |row: &serde_json::Value| {
        let word = |key: &str| row.get(key).and_then(serde_json::Value::as_str).unwrap_or("").to_owned();
        let long = |key: &str| row.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
        let number = |key: &str| u32::try_from(long(key)).unwrap_or(u32::MAX);
        Queue {
            device: word("IfaceName"),
            kind: word("Kind"),
            at_root: number("Parent") == 0,
            bytes: long("Bytes"),
            packets: number("Packets"),
            drops: number("Drops"),
            requeues: number("Requeues"),
            overlimits: number("Overlimits"),
            length: number("Qlen"),
            backlog: number("Backlog"),
        }
    };
    Ok(rows.iter().map(queue).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::push_attribute;
    use crate::testing::Tree;

    #[test]
    fn newer_figures_win() {
        let mut message = vec![0; HEAD];
        message[12..16].copy_from_slice(&u32::MAX.to_ne_bytes());
        push_attribute(&mut message, KIND, b"fq_codel\0");
        push_attribute(&mut message, STATS, &[1; 36]);
        let mut nested = Vec::new();
        push_attribute(&mut nested, STATS2_BASIC, &[[9u8, 0, 0, 0], [0; 4], [4, 0, 0, 0]].concat());
        push_attribute(&mut nested, STATS2_QUEUE, &[1u32, 2, 3, 4, 5].map(u32::to_ne_bytes).concat());
        push_attribute(&mut message, STATS2, &nested);
        let queue = parse(&message).expect("a queue");
        assert_eq!(
            queue,
            Queue {
                device: String::new(),
                kind: "fq_codel".to_owned(),
                at_root: true,
                bytes: 9,
                packets: 4,
                drops: 3,
                requeues: 4,
                overlimits: 5,
                length: 1,
                backlog: 2
            }
        );
        message[12..16].copy_from_slice(&0x8001_0001u32.to_ne_bytes());
        assert!(!parse(&message).expect("a queue").at_root);
    }

    #[test]
    fn a_file_instead_of_the_kernel() {
        let tree = Tree::new().file(
            "fixtures/results.json",
            r#"[{"IfaceName":"eth0","Kind":"fq","Bytes":5,"Requeues":2},{"IfaceName":"eth1","Kind":"fq","Parent":1}]"#,
        );
        let fixtures = format!("--collector.qdisc.fixtures={}", tree.path("fixtures").display());
        let samples = tree.samples("qdisc", &["--collector.qdisc", &fixtures, "--collector.qdisk.device-include=eth"]);
        assert!(samples.contains("node_qdisc_bytes_total{device=\"eth0\",kind=\"fq\"} 5\n"), "{samples}");
        assert!(samples.contains("node_qdisc_requeues_total{device=\"eth0\",kind=\"fq\"} 2\n"), "{samples}");
        assert!(!samples.contains("eth1"), "{samples}");
    }

    #[test]
    fn this_machine_answers() {
        assert!(ask().is_ok());
    }
}
