//! The list of families behind `docs/exporter.md`, compared with what the collectors write.
//!
//! The fixtures lack some hardware; small files for it are added, so that every family of a collector is seen. Rows of
//! collectors that read the live machine stay as they are. `UPDATE_GOLDEN=1` writes the list anew.

use crate::{Count, alone};
use anyhow::Context;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::Path;

const LIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/testdata/families.tsv");

/// Collectors whose answer depends on the machine that the check runs on, or that the fixtures do not hold.
const LIVE: [&str; 14] = [
    "ethtool",
    "filesystem",
    "logind",
    "network_route",
    "ntp",
    "perf",
    "runit",
    "selinux",
    "supervisord",
    "systemd",
    "tcpstat",
    "textfile",
    "timex",
    "uname",
];

/// More flags than the golden run has, where they add families.
const FLAGS: [&str; 4] = [
    "--collector.rapl.enable-zone-label",
    "--collector.pcidevice.names",
    "--collector.cpu.info",
    "--collector.bcache.priorityStats",
];

/// Files that the fixtures do not hold; each holds `1` unless its name is among the texts.
const FILES: &[(&str, &str)] = &[
    (
        "sys/class/infiniband/mlx4_0/ports/1/counters",
        "excessive_buffer_overrun_errors local_link_integrity_errors \
     port_rcv_remote_physical_errors port_rcv_switch_relay_errors symbol_error VL15_dropped",
    ),
    (
        "sys/class/infiniband/mlx4_0/ports/1/hw_counters",
        "duplicate_request implied_nak_seq_err lifespan \
     local_ack_timeout_err np_cnp_sent np_ecn_marked_roce_packets out_of_buffer out_of_sequence packet_seq_err \
     req_cqe_error req_cqe_flush_error req_remote_access_errors req_remote_invalid_request resp_cqe_error \
     resp_cqe_flush_error resp_local_length_error resp_remote_access_errors rnr_nak_retry_err roce_adp_retrans \
     roce_adp_retrans_to roce_slow_restart roce_slow_restart_cnps roce_slow_restart_trans rp_cnp_handled rp_cnp_ignored \
     rx_atomic_requests rx_dct_connect rx_read_requests rx_write_requests rx_icrc_encapsulated",
    ),
    (
        "sys/class/power_supply/ALL",
        "authentic calibrate capacity capacity_alert_max capacity_alert_min cycle_count online \
     present time_to_empty_now time_to_full_now current_boot current_max current_now energy_empty energy_empty_design \
     energy_full energy_full_design energy_now voltage_boot voltage_max voltage_max_design voltage_min \
     voltage_min_design voltage_now voltage_ocv charge_control_limit charge_control_limit_max charge_counter \
     charge_empty charge_empty_design charge_full charge_full_design charge_now charge_term_current \
     constant_charge_current constant_charge_current_max constant_charge_voltage constant_charge_voltage_max \
     precharge_current input_current_limit power_now temp temp_alert_max temp_alert_min temp_ambient temp_ambient_max \
     temp_ambient_min temp_max temp_min capacity_level charge_type health manufacturer model_name serial_number status \
     technology type usb_type scope",
    ),
    (
        "sys/class/hwmon/hwmon4",
        "vrm beep_enable update_interval cpu0_vid curr1_input curr1_max power1_average \
     power1_average_interval power1_accuracy energy1_input humidity1_input temp1_type temp1_fault pwm1 pwm1_input",
    ),
    (
        "sys/class/drm/card0/device",
        "uevent gpu_busy_percent mem_info_gtt_total mem_info_gtt_used mem_info_vis_vram_total \
     mem_info_vis_vram_used mem_info_vram_total mem_info_vram_used mem_info_vram_vendor \
     power_dpm_force_performance_level unique_id",
    ),
    ("sys/class/nvme-subsystem/nvme-subsys0/nvme0n1", "size"),
    ("proc/10/task/10", "stat"),
];

/// What some of those files hold instead of `1`.
const TEXTS: &[(&str, &str)] = &[("uevent", "DRIVER=amdgpu\n")];

/// Adds the files, runs each collector alone and compares.
pub(crate) fn check(flags: &[String]) -> anyhow::Result<Count> {
    for (folder, names) in FILES {
        let folder = Path::new("collector/fixtures").join(folder);
        std::fs::create_dir_all(&folder)?;
        for name in names.split_whitespace() {
            let text = TEXTS.iter().find(|(known, _)| *known == name).map_or("1\n", |(_, text)| text);
            File::create(folder.join(name))?.write_all(text.as_bytes())?;
        }
    }
    let old = std::fs::read_to_string(LIST).unwrap_or_default();
    let mut rows: BTreeSet<String> = BTreeSet::new();
    let own = ["--collector.disable-defaults", "--collector.", "--no-collector."];
    let shared: Vec<&str> = flags
        .iter()
        .map(String::as_str)
        .filter(|flag| flag.contains('=') || !own.iter().any(|start| flag.starts_with(start)))
        .filter(|flag| !flag.starts_with("--collector.hwmon.chip-include") && !flag.starts_with("--log"))
        .chain(FLAGS)
        .collect();
    for collector in exporter::collector_names() {
        if LIVE.contains(&collector) {
            let kept = old.lines().filter(|row| row.split('\t').next() == Some(collector));
            rows.extend(kept.map(str::to_owned));
            continue;
        }
        let mut shown = BTreeMap::new();
        // The plain answer too: some flags change a family's name.
        for flags in [&shared[..], &shared[..shared.len() - FLAGS.len()]] {
            families(&alone(collector, flags)?, &mut shown);
        }
        for (family, (kind, labels)) in shown {
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            rows.insert([collector, &family, &kind, &labels.join(" | ")].join("\t"));
        }
    }
    compare(&old, &rows)
}

/// Types and label names of the lines of one collector.
fn families(lines: &BTreeSet<String>, shown: &mut BTreeMap<String, (String, BTreeSet<String>)>) {
    for line in lines {
        if let Some((family, kind)) = line.split_once(' ')
            && matches!(kind, "counter" | "gauge" | "untyped")
        {
            shown.entry(family.to_owned()).or_default().0 = kind.to_owned();
        }
    }
    for line in lines {
        let end = line.find(['{', ' ']).unwrap_or(line.len());
        if let Some((_, labels)) = shown.get_mut(&line[..end])
            && (line[end..].starts_with('{') || line[end + 1..].parse::<f64>().is_ok())
        {
            labels.insert(label_names(&line[end..]));
        }
    }
}

/// `{a="1",b="2"} 3` has the names `a, b`.
fn label_names(text: &str) -> String {
    let Some(mut rest) = text.strip_prefix('{') else { return String::new() };
    let mut names = Vec::new();
    while let Some((name, value)) = rest.split_once("=\"") {
        names.push(name.trim_start_matches(','));
        let mut escaped = false;
        let end = value.find(|letter| {
            let ends = letter == '"' && !escaped;
            escaped = letter == '\\' && !escaped;
            ends
        });
        rest = &value[end.map_or(value.len(), |end| end + 1)..];
    }
    names.join(", ")
}

fn compare(old: &str, rows: &BTreeSet<String>) -> anyhow::Result<Count> {
    let old: BTreeSet<String> = old.lines().map(str::to_owned).collect();
    let mut count = Count::of("families.tsv", rows, &old);
    if std::env::var_os("UPDATE_GOLDEN").is_some() && count.failed > 0 {
        let mut text = rows.iter().cloned().collect::<Vec<_>>().join("\n");
        text.push('\n');
        File::create(LIST).and_then(|mut file| file.write_all(text.as_bytes())).context("writing families.tsv")?;
        println!("families.tsv: written anew");
        count.failed = 0;
    }
    println!("families.tsv: {} passed, {} failed", count.passed, count.failed);
    Ok(count)
}
