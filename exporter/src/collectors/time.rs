//! The clock, its zone and the kernel's clock sources.
//!
//! The zone is read from `/etc/localtime` (RFC 9636, the fixed part; the rule for years after the last listed change is
//! left out, the last listed offset is shown then).

use super::{Collector, Gather, Settings, StartError, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, Stamp, stamp};
use crate::kept::ABSENT;
use runtime::Monotonic;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

pub(super) const COLLECTOR: Collector =
    Collector { name: "time", enabled: true, flags: no_flags, deprecated: &[], build };

const ZONE: &str = "/etc/localtime";
const FOLDER: &str = "devices/system/clocksource";
const ZONE_BYTES_MAX: u64 = 1 << 20;
const ZONE_HEADER: usize = 44;

/// The zone file as it was when it was last changed, and the devices that keep time.
#[derive(Default)]
struct Time {
    zone: Mutex<(Option<Stamp>, Vec<u8>)>,
    devices: Mutex<Devices>,
}

#[derive(Default)]
struct Devices {
    list: Vec<Device>,
    since: Option<Monotonic>,
}

/// A device of clock sources, and the paths below sysfs of what it says.
struct Device {
    name: String,
    available: String,
    current: String,
}

fn build(_: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    Ok(Box::new(Time::default()))
}

impl Gather for Time {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        let now_ms = host.clock().unix_ms();
        out.gauge("node_time_seconds", "The machine's clock, in Unix time.", now_ms as f64 / 1e3);
        let mut zone = self.zone.lock().unwrap_or_else(PoisonError::into_inner);
        refresh(&mut zone);
        let (name, seconds) = offset(&zone.1, now_ms / 1000).unwrap_or(("UTC", 0));
        let help = "Offset of the local time zone from UTC.";
        out.sample(Kind::Gauge, "node_time_zone_offset_seconds", help, &[("time_zone", name)], f64::from(seconds));
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        devices.refresh(host)?;
        devices.list.iter().for_each(|device| show(device, host, out));
        Ok(())
    }
}

/// Reads the zone file again when it is another one than before.
fn refresh((last, file): &mut (Option<Stamp>, Vec<u8>)) {
    let stamp = stamp(Path::new(ZONE));
    if stamp.is_some() && *last == stamp {
        return;
    }
    file.clear();
    let read = std::fs::File::open(ZONE).and_then(|opened| opened.take(ZONE_BYTES_MAX).read_to_end(file));
    *last = stamp.filter(|_| read.is_ok());
}

impl Devices {
    /// Looks for devices now and then, and always where sysfs is not the kernel's.
    fn refresh(&mut self, host: &Host) -> Result<(), Failure> {
        let now = host.clock().now();
        if host.is_kernel_sys() && self.since.is_some_and(|since| now - since < ABSENT) {
            return Ok(());
        }
        self.list.clear();
        let names = match host.sys_list(FOLDER) {
            Err(failure) if failure.is_absent() => Vec::new(),
            other => other?,
        };
        self.since = Some(now);
        let device = |name: &String| {
            Some(Device {
                name: name.strip_prefix("clocksource")?.to_owned(),
                available: format!("{FOLDER}/{name}/available_clocksource"),
                current: format!("{FOLDER}/{name}/current_clocksource"),
            })
        };
        self.list.extend(names.iter().filter_map(device));
        Ok(())
    }
}

fn show(device: &Device, host: &Host, out: &mut Families) {
    let available = host.device_short(&device.available).ok();
    for source in available.as_deref().unwrap_or("").split_whitespace() {
        let labels = [("device", device.name.as_str()), ("clocksource", source)];
        let help = "1 for a clock source the kernel could use.";
        out.sample(Kind::Gauge, "node_time_clocksource_available_info", help, &labels, 1.0);
    }
    if let Some(current) = host.device_short(&device.current).ok().filter(|current| !current.is_empty()) {
        let labels = [("device", device.name.as_str()), ("clocksource", &*current)];
        let help = "1 for the clock source in use.";
        out.sample(Kind::Gauge, "node_time_clocksource_current_info", help, &labels, 1.0);
    }
}

/// Abbreviation and offset at `now`, from the 64-bit block of a zone file. Anything unexpected is `None`.
fn offset(file: &[u8], now: i64) -> Option<(&str, i32)> {
    let count = |header: &[u8], field: usize| -> Option<usize> {
        let bytes = header.get(20 + 4 * field..24 + 4 * field)?;
        usize::try_from(u32::from_be_bytes(bytes.try_into().ok()?)).ok()
    };
    let counts = |header: &[u8]| -> Option<[usize; 6]> {
        let mut counts = [0; 6];
        for (field, slot) in counts.iter_mut().enumerate() {
            *slot = count(header, field)?.min(ZONE_BYTES_MAX as usize);
        }
        Some(counts)
    };
    if !file.starts_with(b"TZif") || *file.get(4)? < b'2' {
        return None;
    }
    let [is_ut, is_std, leaps, times, types, chars] = counts(file)?;
    let skipped = ZONE_HEADER + times * 5 + types * 6 + chars + leaps * 8 + is_std + is_ut;
    let block = file.get(skipped..)?;
    if !block.starts_with(b"TZif") {
        return None;
    }
    let [_, _, _, times, types, chars] = counts(block)?;
    let changes = block.get(ZONE_HEADER..ZONE_HEADER + times * 8)?;
    let kinds = block.get(ZONE_HEADER + times * 8..ZONE_HEADER + times * 9)?;
    let table = block.get(ZONE_HEADER + times * 9..ZONE_HEADER + times * 9 + types * 6)?;
    let names = block.get(ZONE_HEADER + times * 9 + types * 6..ZONE_HEADER + times * 9 + types * 6 + chars)?;
    let past = changes
        .chunks_exact(8)
        .take_while(|bytes| <[u8; 8]>::try_from(*bytes).is_ok_and(|bytes| i64::from_be_bytes(bytes) <= now))
        .count();
    let kind = past.checked_sub(1).and_then(|index| kinds.get(index)).copied().unwrap_or(0);
    let entry = table.get(usize::from(kind) * 6..usize::from(kind) * 6 + 6)?;
    let seconds = i32::from_be_bytes(entry[..4].try_into().ok()?);
    let name = names.get(usize::from(entry[5])..)?;
    let name = name.split(|byte| *byte == 0).next()?;
    Some((std::str::from_utf8(name).ok()?, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;

    fn header(times: u32, types: u32, chars: u32) -> Vec<u8> {
        let mut bytes = b"TZif2".to_vec();
        bytes.extend_from_slice(&[0; 15]);
        for count in [0, 0, 0, times, types, chars] {
            bytes.extend_from_slice(&count.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn the_offset_changes_at_the_listed_second() {
        let mut file = header(0, 0, 0);
        file.extend(header(1, 2, 8));
        file.extend_from_slice(&1000i64.to_be_bytes());
        file.push(1);
        file.extend_from_slice(&[0, 0, 0x0e, 0x10, 0, 0, 0, 0, 0x1c, 0x20, 1, 4]);
        file.extend_from_slice(b"CET\0CES\0");
        assert_eq!(offset(&file, 999), Some(("CET", 3600)));
        assert_eq!(offset(&file, 1000), Some(("CES", 7200)));
        assert_eq!(offset(&file[..60], 0), None);
        assert_eq!(offset(b"nonsense", 0), None);
    }

    #[test]
    fn clock_sources() {
        let folder = "sys/devices/system/clocksource/clocksource0";
        let samples = Tree::new()
            .file(&format!("{folder}/available_clocksource"), "tsc hpet acpi_pm \n")
            .file(&format!("{folder}/current_clocksource"), "tsc\n")
            .samples("time", &[]);
        let line = "node_time_clocksource_available_info{clocksource=\"hpet\",device=\"0\"} 1\n";
        assert!(samples.contains(line), "{samples}");
        assert!(samples.contains("node_time_clocksource_current_info{clocksource=\"tsc\",device=\"0\"} 1\n"));
        assert!(samples.contains("node_time_zone_offset_seconds{time_zone="), "{samples}");
    }
}
