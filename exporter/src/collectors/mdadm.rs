//! Software RAID: `/proc/mdstat` and `/sys/block/md*/md`, see <https://docs.kernel.org/admin-guide/md.html>.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};

pub(super) const COLLECTOR: Collector =
    Collector { name: "mdadm", enabled: true, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

const PATH: &str = "mdstat";
/// State labels and the words for them in [`Array`].
const STATES: [&str; 5] = ["active", "inactive", "recovering", "resync", "check"];
/// Levels that are no array of their own: what holds other arrays, and metadata the firmware keeps.
const CONTAINERS: [&str; 3] = ["container", "imsm", "ddf"];

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let text = host.read_proc(PATH).map_err(Failure::absent_is_no_data)?;
    for array in parse(&text)? {
        show(&array, out);
    }
    for device in host.sys_numbered("block", "md") {
        let folder = format!("block/{device}/md");
        // A device that is gone meanwhile, or is not of this kind.
        let Some(level) = host.sys_optional(&format!("{folder}/level"))? else { continue };
        let labels = [("device", device.as_str())];
        if CONTAINERS.contains(&level.as_str()) {
            continue;
        }
        // While an array grows the file shows the new number and in parentheses the old one.
        let disks = host.sys_text(&format!("{folder}/raid_disks"))?;
        if let Some(disks) = disks.split_whitespace().next().and_then(|disks| disks.parse::<u32>().ok()) {
            out.sample(Kind::Gauge, "node_md_raid_disks", "Disks of an array.", &labels, f64::from(disks));
        }
        let redundant = matches!(level.as_str(), "raid1" | "raid4" | "raid5" | "raid6" | "raid10");
        let degraded = if redundant { host.sys_figure(&format!("{folder}/degraded"))? } else { 0.0 };
        out.sample(Kind::Gauge, "node_md_degraded", "Disks an array lacks.", &labels, degraded);
    }
    Ok(())
}

/// One array of the file.
#[derive(Debug, PartialEq)]
struct Array<'a> {
    name: &'a str,
    state: &'a str,
    active: f64,
    required: f64,
    failed: f64,
    spare: f64,
    blocks: f64,
    synced: f64,
}

fn show(array: &Array<'_>, out: &mut Families) {
    let labels = [("device", array.name)];
    for (name, help, value) in [
        ("node_md_disks_required", "Disks an array should have.", array.required),
        ("node_md_blocks", "Blocks of an array.", array.blocks),
        ("node_md_blocks_synced", "Blocks of an array that are in order.", array.synced),
    ] {
        out.sample(Kind::Gauge, name, help, &labels, value);
    }
    for (state, value) in [("active", array.active), ("failed", array.failed), ("spare", array.spare)] {
        let labels = [("device", array.name), ("state", state)];
        out.sample(Kind::Gauge, "node_md_disks", "Disks of an array by state.", &labels, value);
    }
    for state in STATES {
        let labels = [("device", array.name), ("state", state)];
        let value = f64::from(u8::from(state == array.state));
        out.sample(Kind::Gauge, "node_md_state", "1 for the state of an array.", &labels, value);
    }
}

fn parse(text: &str) -> Result<Vec<Array<'_>>, Failure> {
    let lines: Vec<&str> = text.lines().collect();
    let mut arrays = Vec::new();
    for (position, line) in lines.iter().enumerate() {
        let heads = !line.trim().is_empty() && !line.starts_with([' ', '\t']);
        if !heads || line.starts_with("Personalities") || line.starts_with("unused") {
            continue;
        }
        let mut rest = lines[position + 1..].iter().copied();
        let status = rest.next().unwrap_or("");
        let next = rest.next().unwrap_or("");
        let progress = if next.contains("bitmap") { rest.next().unwrap_or("") } else { next };
        arrays.push(array(line, status, progress)?);
    }
    Ok(arrays)
}

fn array<'a>(head: &'a str, status: &str, progress: &str) -> Result<Array<'a>, Failure> {
    let wrong = |line: &str| Failure::form(PATH, format!("line {line:?}"));
    let fields: Vec<&str> = head.split_whitespace().collect();
    let [name, _, state, ..] = fields.as_slice() else { return Err(wrong(head)) };
    let blocks: f64 =
        status.split_whitespace().next().and_then(|blocks| blocks.parse().ok()).ok_or_else(|| wrong(status))?;
    let (required, active) = if head.contains("raid0") || head.contains("linear") {
        // Only disks have a number in brackets there.
        let disks = head.matches('[').count() as f64;
        (disks, disks)
    } else if head.contains("inactive") {
        (0.0, 0.0)
    } else {
        bracketed(status).ok_or_else(|| wrong(status))?
    };
    let doing = [("recovery", "recovering"), ("reshape", "reshaping"), ("check", "check"), ("resync", "resync")]
        .into_iter()
        .find(|(word, _)| progress.contains(word))
        .map(|(_, doing)| doing);
    let synced = match doing {
        None => blocks,
        Some(_) if progress.contains("PENDING") || progress.contains("DELAYED") => 0.0,
        // A check in another process of the same disks.
        Some(_) if progress.contains("REMOTE") => blocks,
        Some(_) => done(progress).ok_or_else(|| wrong(progress))?,
    };
    let count = |mark: &str| head.matches(mark).count() as f64;
    let (failed, spare) = (count("(F)"), count("(S)"));
    Ok(Array { name, state: doing.unwrap_or(state), active, required, failed, spare, blocks, synced })
}

/// The two numbers of `[2/1]`.
fn bracketed(line: &str) -> Option<(f64, f64)> {
    line.split('[').skip(1).find_map(|part| {
        let (required, active) = part.split_once(']')?.0.split_once('/')?;
        Some((required.parse().ok()?, active.parse().ok()?))
    })
}

/// The first number of `(16775552/195310144)`.
fn done(line: &str) -> Option<f64> {
    line.split_once('(')?.1.split_once('/')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Array, parse};
    use crate::testing::Tree;

    const TEXT: &str = "Personalities : [raid1]\n\nmd0 : active raid1 sdb2[2](F) sdc[1](S) sda2[0]\n      100 blocks \
                        [2/1] [U_]\n      bitmap: 0/30 pages [0KB], 65536KB chunk\n      [=>...]  reshape =  8.5% \
                        (16/100) finish=17.0min\n\nunused devices: <none>\n";

    #[test]
    fn a_line_of_a_bitmap_comes_between() {
        let expected = Array {
            name: "md0",
            state: "reshaping",
            active: 1.0,
            required: 2.0,
            failed: 1.0,
            spare: 1.0,
            blocks: 100.0,
            synced: 16.0,
        };
        assert_eq!(parse(TEXT).expect("arrays"), [expected]);
        assert!(parse("md0 : active raid1 sda[0]\n      100 blocks\n").is_err());
        assert!(parse("md0\n").is_err());
    }

    #[test]
    fn containers_have_no_disks() {
        let tree = Tree::new()
            .file("proc/mdstat", "Personalities :\nunused devices: <none>\n")
            .file("sys/block/md127/md/level", "container\n")
            .file("sys/block/md1/md/level", "raid5\n")
            .file("sys/block/md1/md/raid_disks", "4 (3)\n")
            .file("sys/block/md1/md/degraded", "1\n");
        let expected = "node_md_degraded{device=\"md1\"} 1\nnode_md_raid_disks{device=\"md1\"} 4\n";
        assert_eq!(tree.samples("mdadm", &[]), expected);
        assert!(Tree::new().failure("mdadm").contains("no data"));
    }
}
