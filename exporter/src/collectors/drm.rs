//! Graphics cards driven by `amdgpu`: `/sys/class/drm/card*/device`, see <https://docs.kernel.org/gpu/amdgpu/driver-misc.html>.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};

pub(super) const COLLECTOR: Collector =
    Collector { name: "drm", enabled: false, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

const FOLDER: &str = "class/drm";

/// File, family, help.
const FIGURES: &[(&str, &str, &str)] = &[
    ("gpu_busy_percent", "node_drm_gpu_busy_percent", "How busy a card is."),
    ("mem_info_gtt_total", "node_drm_memory_gtt_size_bytes", "Main memory a card can reach."),
    ("mem_info_gtt_used", "node_drm_memory_gtt_used_bytes", "Main memory a card uses."),
    ("mem_info_vis_vram_total", "node_drm_memory_vis_vram_size_bytes", "Card memory the processor can reach."),
    (
        "mem_info_vis_vram_used",
        "node_drm_memory_vis_vram_used_bytes",
        "Card memory in use that the processor can reach.",
    ),
    ("mem_info_vram_total", "node_drm_memory_vram_size_bytes", "Card memory."),
    ("mem_info_vram_used", "node_drm_memory_vram_used_bytes", "Card memory in use."),
];

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    for card in host.sys_numbered(FOLDER, "card") {
        // `card0-HDMI-A-1` is a connector.
        if !card.trim_start_matches("card").bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let folder = format!("{FOLDER}/{card}/device");
        let driver = host.sys_table(&format!("{folder}/uevent")).unwrap_or_default();
        if !driver.lines().any(|line| line == "DRIVER=amdgpu") {
            continue;
        }
        let text = |file: &str| host.sys_value(&format!("{folder}/{file}")).unwrap_or_default();
        let (memory, level, id) =
            (text("mem_info_vram_vendor"), text("power_dpm_force_performance_level"), text("unique_id"));
        let labels = [
            ("card", card.as_str()),
            ("memory_vendor", &memory),
            ("power_performance_level", &level),
            ("unique_id", &id),
            ("vendor", "amd"),
        ];
        out.sample(Kind::Gauge, "node_drm_card_info", "What a graphics card is.", &labels, 1.0);
        for (file, family, help) in FIGURES {
            // A card without the file shows 0, as upstream does.
            let value = host.sys_number(&format!("{folder}/{file}")).unwrap_or(0.0);
            out.sample(Kind::Gauge, family, help, &labels[..1], value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn only_cards_of_one_driver() {
        let tree = Tree::new()
            .file("sys/class/drm/card0/device/uevent", "DRIVER=amdgpu\nPCI_ID=1002:66AF\n")
            .file("sys/class/drm/card0/device/gpu_busy_percent", "4\n")
            .file("sys/class/drm/card0-DP-1/device/uevent", "DRIVER=amdgpu\n")
            .file("sys/class/drm/card1/device/uevent", "DRIVER=i915\n");
        let samples = tree.samples("drm", &["--collector.drm"]);
        assert!(samples.contains("node_drm_gpu_busy_percent{card=\"card0\"} 4\n"), "{samples}");
        assert!(!samples.contains("card1") && !samples.contains("DP"), "{samples}");
    }
}
