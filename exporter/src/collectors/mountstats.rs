//! NFS mounts as their client sees them: `/proc/self/mountstats`, see `fs/nfs/super.c` and `net/sunrpc` of the kernel.
//!
//! Mounts of one export by one protocol from one address share their figures, which are shown once. The address stands
//! in the line of the same number in `/proc/self/mountinfo`.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use std::collections::{BTreeSet, HashSet};

pub(super) const COLLECTOR: Collector = Collector {
    name: "mountstats",
    enabled: false,
    flags: no_flags,
    deprecated: &[],
    build: |_| Collector::plain(gather),
};

const PATH: &str = "self/mountstats";
const PREFIX: &str = "node_mountstats_nfs_";
/// Milliseconds beyond this cannot be told apart; upstream takes the rest of a division by it.
const EXACT: u64 = 1 << 53;

/// The fields of `bytes:` in the kernel's order.
const BYTES: [&str; 8] = [
    "read_bytes",
    "write_bytes",
    "direct_read_bytes",
    "direct_write_bytes",
    "total_read_bytes",
    "total_write_bytes",
    "read_pages",
    "write_pages",
];

/// The fields of `events:` in the kernel's order; one is not shown.
const EVENTS: [&str; 27] = [
    "inode_revalidate",
    "dnode_revalidate",
    "data_invalidate",
    "attribute_invalidate",
    "vfs_open",
    "vfs_lookup",
    "vfs_access",
    "vfs_update_page",
    "vfs_read_page",
    "vfs_read_pages",
    "vfs_write_page",
    "vfs_write_pages",
    "vfs_getdents",
    "vfs_setattr",
    "vfs_flush",
    "vfs_fsync",
    "vfs_lock",
    "vfs_file_release",
    CONGESTION,
    "truncation",
    "write_extension",
    "silly_rename",
    "short_read",
    "short_write",
    "jukebox_delay",
    "pnfs_read",
    "pnfs_write",
];
const CONGESTION: &str = "congestion_wait";

/// Place among the fields of a transport, type, name.
const TRANSPORT: &[(usize, Kind, &str)] = &[
    (1, Kind::Counter, "transport_bind_total"),
    (2, Kind::Counter, "transport_connect_total"),
    (4, Kind::Gauge, "transport_idle_time_seconds"),
    (5, Kind::Counter, "transport_sends_total"),
    (6, Kind::Counter, "transport_receives_total"),
    (7, Kind::Counter, "transport_bad_transaction_ids_total"),
    (9, Kind::Counter, "transport_backlog_queue_total"),
    (10, Kind::Gauge, "transport_maximum_rpc_slots"),
    (11, Kind::Counter, "transport_sending_queue_total"),
    (12, Kind::Counter, "transport_pending_queue_total"),
];
const TRANSPORT_FIELDS: usize = 13;

/// The fields of an operation; the last three are milliseconds.
const OPERATIONS: [&str; 8] = [
    "operations_requests_total",
    "operations_transmissions_total",
    "operations_major_timeouts_total",
    "operations_sent_bytes_total",
    "operations_received_bytes_total",
    "operations_queue_time_seconds_total",
    "operations_response_time_seconds_total",
    "operations_request_time_seconds_total",
];
const FIRST_TIME: usize = 5;

/// One NFS mount of the file.
#[derive(Debug, Default)]
struct Mount<'a> {
    /// Which mount of the file it is, from 0.
    position: usize,
    export: &'a str,
    point: &'a str,
    age: u64,
    bytes: Vec<u64>,
    events: Vec<u64>,
    transports: Vec<(&'a str, [u64; TRANSPORT_FIELDS])>,
    operations: Vec<(&'a str, Vec<u64>)>,
}

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let text = host.read_proc(PATH)?;
    let mounts = parse(&text)?;
    let addresses = host.read_proc("self/mountinfo")?;
    let addresses: Vec<&str> = addresses.lines().map(address).collect::<Result<_, _>>()?;
    let mut seen = HashSet::new();
    for mount in mounts {
        let address = addresses.get(mount.position).copied().unwrap_or("");
        // Connections by several protocols show the mount once for each of them.
        let protocols: BTreeSet<&str> = mount.transports.iter().map(|(protocol, _)| *protocol).collect();
        for protocol in protocols {
            let labels =
                [("export", mount.export), ("protocol", protocol), ("mountaddr", address), ("mountpoint", mount.point)];
            let help = "Where an export is mounted.";
            out.sample(Kind::Gauge, &format!("{PREFIX}mountpoint_info"), help, &labels, 1.0);
            if seen.insert((mount.export, protocol, address)) {
                show(&mount, &[labels[0], labels[1], labels[2]], out);
            }
        }
    }
    Ok(())
}

/// The option `addr` of a line of mountinfo.
fn address(line: &str) -> Result<&str, Failure> {
    let wrong = || Failure::form("self/mountinfo", format!("line {line:?}"));
    let (_, rest) = line.split_once(" - ").ok_or_else(wrong)?;
    let options = rest.split_whitespace().nth(2).unwrap_or("");
    Ok(options.split(',').find_map(|option| option.strip_prefix("addr=")).unwrap_or(""))
}

fn show(mount: &Mount<'_>, base: &[(&str, &str); 3], out: &mut Families) {
    let mut set = |kind, name: &str, help: &str, extra: Option<(&str, &str)>, value: f64| {
        let mut labels = base.to_vec();
        labels.extend(extra);
        out.sample(kind, &format!("{PREFIX}{name}"), help, &labels, value);
    };
    set(Kind::Counter, "age_seconds_total", "Age of a mount.", None, mount.age as f64);
    for (name, value) in BYTES.iter().zip(&mount.bytes) {
        set(Kind::Counter, &format!("{name}_total"), "Data moved by a mount.", None, *value as f64);
    }
    for (name, value) in EVENTS.iter().zip(&mount.events).filter(|(name, _)| **name != CONGESTION) {
        set(Kind::Counter, &format!("event_{name}_total"), "Events of a mount.", None, *value as f64);
    }
    for (index, (_, fields)) in mount.transports.iter().enumerate() {
        let index = index.to_string();
        for (place, kind, name) in TRANSPORT {
            set(*kind, name, "A figure of a mount's connection.", Some(("transport", &index)), fields[*place] as f64);
        }
    }
    for (operation, fields) in &mount.operations {
        for (place, (name, value)) in OPERATIONS.iter().zip(fields).enumerate() {
            let value = if place < FIRST_TIME { *value as f64 } else { (value % EXACT) as f64 / 1000.0 };
            set(Kind::Counter, name, "A figure of an operation.", Some(("operation", operation)), value);
        }
    }
}

fn parse(text: &str) -> Result<Vec<Mount<'_>>, Failure> {
    let mut mounts: Vec<Mount<'_>> = Vec::new();
    let mut position = 0;
    let (mut nfs, mut operations) = (false, false);
    for line in text.lines() {
        let wrong = || Failure::form(PATH, format!("line {line:?}"));
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let ["device", export, "mounted", "on", point, "with", "fstype", kind, rest @ ..] = fields.as_slice() {
            nfs = matches!(*kind, "nfs" | "nfs4") && !rest.is_empty();
            operations = false;
            if nfs {
                mounts.push(Mount { position, export, point, ..Mount::default() });
            }
            position += 1;
            continue;
        }
        let Some(mount) = mounts.last_mut().filter(|_| nfs) else { continue };
        match fields.as_slice() {
            ["per-op", ..] => operations = true,
            [name, values @ ..] if operations => {
                let name = name.trim_end_matches(':');
                let values = numbers(values).filter(|values| values.len() >= OPERATIONS.len()).ok_or_else(wrong)?;
                mount.operations.push((name, values));
            }
            ["age:", age] => mount.age = age.parse().map_err(|_| wrong())?,
            ["bytes:", values @ ..] => mount.bytes = numbers(values).ok_or_else(wrong)?,
            ["events:", values @ ..] => mount.events = numbers(values).ok_or_else(wrong)?,
            ["xprt:", protocol, values @ ..] => {
                mount.transports.push((protocol, transport(protocol, values).ok_or_else(wrong)?));
            }
            _ => {}
        }
    }
    Ok(mounts)
}

fn numbers(fields: &[&str]) -> Option<Vec<u64>> {
    fields.iter().map(|field| field.parse().ok()).collect()
}

/// A datagram transport has no connection, so that the fields 2 to 4 are missing; one over RDMA has no slots or queues,
/// its own figures stand there.
fn transport(protocol: &str, fields: &[&str]) -> Option<[u64; TRANSPORT_FIELDS]> {
    let mut values = numbers(fields)?;
    if protocol.starts_with("udp") && values.len() >= 2 {
        values.splice(2..2, [0, 0, 0]);
    }
    if protocol.starts_with("rdma") {
        values.truncate(10);
    }
    let mut all = [0; TRANSPORT_FIELDS];
    for (slot, value) in all.iter_mut().zip(values) {
        *slot = value;
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::{parse, transport};

    #[test]
    fn transports() {
        assert_eq!(transport("udp", &["832", "0", "6", "7"]), Some([832, 0, 0, 0, 0, 6, 7, 0, 0, 0, 0, 0, 0]));
        assert_eq!(transport("tcp", &["x"]), None);
        let rdma: Vec<String> = (1..=20).map(|number| number.to_string()).collect();
        let rdma: Vec<&str> = rdma.iter().map(String::as_str).collect();
        assert_eq!(transport("rdma", &rdma).expect("fields")[9..], [10, 0, 0, 0]);
    }

    #[test]
    fn only_nfs_mounts_have_figures() {
        let text = "device proc mounted on /proc with fstype proc\ndevice a:/b mounted on /c with fstype nfs4 statvers=1.1\n\
                    \tage:\t5\n\tper-op statistics\n\t        READ: 1 2 3 4 5 6 7 8 9\n\ndevice x mounted on / with fstype \
                    ext4\n";
        let mounts = parse(text).expect("mounts");
        assert_eq!((mounts.len(), mounts[0].position, mounts[0].age), (1, 1, 5));
        assert_eq!(mounts[0].operations[0].0, "READ");
        assert!(parse(&text.replace("READ: 1", "READ: x")).is_err());
        assert!(parse(&text.replace("3 4 5 6 7 8 9", "")).is_err());
    }
}
