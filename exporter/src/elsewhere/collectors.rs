//! A few collectors for hosts without `/proc` (macOS, FreeBSD), with the families that they have on Linux, from sysinfo.
//!
//! What sysinfo does not have is left out and not guessed: it knows shares of processor time and no counters, and of
//! file systems neither inodes nor what only root may use. Families that have no honest counterpart are absent.

use crate::collectors::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use std::ffi::OsStr;
use std::io;
use sysinfo::{CpuRefreshKind, Disks, Networks, System};

/// Every collector of this build, in the order in which they are asked.
pub(crate) const ALL: &[&Collector] = &[&CPU, &FILESYSTEM, &LOADAVG, &MEMINFO, &NETDEV, &STAT, &TIME, &UNAME];

const fn collector(name: &'static str, gather: fn(&Host, &mut Families) -> Result<(), Failure>) -> Plain {
    Plain { name, gather }
}

/// What all of them are: on, without flags, without state.
struct Plain {
    name: &'static str,
    gather: fn(&Host, &mut Families) -> Result<(), Failure>,
}

macro_rules! collectors {
    ($($constant:ident = $name:literal, $gather:ident;)*) => {
        $(const $constant: Collector = {
            const PLAIN: Plain = collector($name, $gather);
            Collector {
                name: PLAIN.name,
                enabled: true,
                flags: no_flags,
                deprecated: &[],
                build: |_| Collector::plain(PLAIN.gather),
            }
        };)*
    };
}

collectors! {
    CPU = "cpu", cpu;
    FILESYSTEM = "filesystem", filesystem;
    LOADAVG = "loadavg", loadavg;
    MEMINFO = "meminfo", meminfo;
    NETDEV = "netdev", netdev;
    STAT = "stat", stat;
    TIME = "time", time;
    UNAME = "uname", uname;
}

fn failed(call: &'static str, error: impl std::fmt::Display) -> Failure {
    Failure::Call { call, source: io::Error::other(error.to_string()) }
}

/// A reading of the system that has only what is refreshed next.
fn system() -> Result<System, Failure> {
    System::new().map_err(|error| failed("sysinfo", error))
}

fn text(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

fn cpu(_: &Host, out: &mut Families) -> Result<(), Failure> {
    let mut system = system()?;
    system.refresh_cpu_list(CpuRefreshKind::nothing().with_frequency());
    for (number, cpu) in system.cpus().iter().enumerate().filter(|(_, cpu)| cpu.frequency() > 0) {
        let help = "Present frequency of a processor.";
        let labels = [("cpu", number.to_string())];
        let labels = [(labels[0].0, labels[0].1.as_str())];
        // Given in megahertz.
        out.sample(Kind::Gauge, "node_cpu_frequency_hertz", help, &labels, cpu.frequency() as f64 * 1e6);
    }
    Ok(())
}

fn loadavg(_: &Host, out: &mut Families) -> Result<(), Failure> {
    let load = System::load_average().map_err(|error| failed("getloadavg", error))?;
    out.gauge("node_load1", "Load of the last minute.", load.one);
    out.gauge("node_load5", "Load of the last five minutes.", load.five);
    out.gauge("node_load15", "Load of the last fifteen minutes.", load.fifteen);
    Ok(())
}

fn meminfo(_: &Host, out: &mut Families) -> Result<(), Failure> {
    let mut system = system()?;
    system.refresh_memory();
    for (field, bytes) in [
        ("MemTotal", system.total_memory()),
        ("MemFree", system.free_memory()),
        ("MemAvailable", system.available_memory()),
        ("SwapTotal", system.total_swap()),
        ("SwapFree", system.free_swap()),
    ] {
        out.gauge(&format!("node_memory_{field}_bytes"), "Memory, as /proc/meminfo of Linux names it.", bytes as f64);
    }
    Ok(())
}

fn filesystem(_: &Host, out: &mut Families) -> Result<(), Failure> {
    let disks = Disks::new_with_refreshed_list().map_err(|error| failed("getfsstat", error))?;
    for disk in disks.iter() {
        let (device, mountpoint) = (text(disk.name()), disk.mount_point().to_string_lossy().into_owned());
        let fstype = text(disk.file_system());
        let labels = [
            ("device", device.as_str()),
            ("mountpoint", mountpoint.as_str()),
            ("fstype", fstype.as_str()),
            ("device_error", ""),
        ];
        for (name, help, value) in [
            ("node_filesystem_size_bytes", "Size of a file system.", disk.total_space() as f64),
            ("node_filesystem_avail_bytes", "Space that users may still use.", disk.available_space() as f64),
            ("node_filesystem_readonly", "1 when nothing can be written.", f64::from(u8::from(disk.is_read_only()))),
        ] {
            out.sample(Kind::Gauge, name, help, &labels, value);
        }
    }
    Ok(())
}

fn netdev(_: &Host, out: &mut Families) -> Result<(), Failure> {
    let networks = Networks::new_with_refreshed_list().map_err(|error| failed("getifaddrs", error))?;
    for (device, network) in networks.iter() {
        let device = text(device);
        for (name, count) in [
            ("receive_bytes", network.total_received()),
            ("receive_packets", network.total_packets_received()),
            ("receive_errs", network.total_errors_on_received()),
            ("transmit_bytes", network.total_transmitted()),
            ("transmit_packets", network.total_packets_transmitted()),
            ("transmit_errs", network.total_errors_on_transmitted()),
        ] {
            let name = format!("node_network_{name}_total");
            out.sample(Kind::Counter, &name, "Traffic of a device.", &[("device", &device)], count as f64);
        }
    }
    Ok(())
}

fn stat(_: &Host, out: &mut Families) -> Result<(), Failure> {
    let at = System::boot_time().map_err(|error| failed("kern.boottime", error))?;
    out.gauge("node_boot_time_seconds", "When the machine was started, in Unix time.", at as f64);
    Ok(())
}

fn time(host: &Host, out: &mut Families) -> Result<(), Failure> {
    out.gauge("node_time_seconds", "The clock, in Unix time.", host.clock().unix_ms() as f64 / 1000.0);
    Ok(())
}

fn uname(_: &Host, out: &mut Families) -> Result<(), Failure> {
    let names = nix::sys::utsname::uname().map_err(|errno| Failure::Call { call: "uname", source: errno.into() })?;
    let labels = [
        ("sysname", text(names.sysname())),
        ("release", text(names.release())),
        ("version", text(names.version())),
        ("machine", text(names.machine())),
        ("nodename", text(names.nodename())),
        // No system but Linux has one.
        ("domainname", String::new()),
    ];
    let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
    out.sample(Kind::Gauge, "node_uname_info", "The kernel's own description.", &labels, 1.0);
    Ok(())
}
