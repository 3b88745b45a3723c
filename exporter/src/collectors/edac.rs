//! Memory errors found by the memory controllers: `/sys/devices/system/edac/mc`, see
//! <https://docs.kernel.org/admin-guide/RAS/main.html>.

use super::{Collector, no_flags};
use crate::attributes::digits_after;
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};

pub(super) const COLLECTOR: Collector =
    Collector { name: "edac", enabled: true, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

const FOLDER: &str = "devices/system/edac/mc";
/// First letters of the files and the word in the families' names.
const KINDS: [(&str, &str); 2] = [("ce", "correctable"), ("ue", "uncorrectable")];

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    for name in host.sys_numbered(FOLDER, "mc") {
        let Some(controller) = digits_after(&name, "mc") else { continue };
        let folder = format!("{FOLDER}/{name}");
        for (file, word) in KINDS {
            let count = host.sys_figure(&format!("{folder}/{file}_count"))?;
            count_of(word, "", &[("controller", controller)], count, out);
            let count = host.sys_figure(&format!("{folder}/{file}_noinfo_count"))?;
            count_of(word, "csrow_", &[("controller", controller), ("csrow", "unknown")], count, out);
        }
        for row in host.sys_numbered(&folder, "csrow") {
            let Some(number) = digits_after(&row, "csrow") else { continue };
            let folder = format!("{folder}/{row}");
            for (file, word) in KINDS {
                let count = host.sys_figure(&format!("{folder}/{file}_count"))?;
                count_of(word, "csrow_", &[("controller", controller), ("csrow", number)], count, out);
            }
            channels(host, &folder, controller, number, out);
        }
    }
    Ok(())
}

fn channels(host: &Host, folder: &str, controller: &str, row: &str, out: &mut Families) {
    for name in host.sys_numbered(folder, "ch").iter().filter(|name| name.ends_with("_ce_count")) {
        let Some(channel) = digits_after(name, "ch") else { continue };
        let label = host.sys_value(&format!("{folder}/ch{channel}_dimm_label"));
        let label = label.unwrap_or_else(|_| "unknown".to_owned());
        let label = label.replace('#', "").replace("csrow", "_csrow").replace("channel", "_channel");
        let labels = [("controller", controller), ("csrow", row), ("channel", channel), ("dimm_label", label.as_str())];
        for (file, word) in KINDS {
            // Not every driver counts by channel, and a channel costs only itself.
            if let Ok(count) = host.sys_number(&format!("{folder}/ch{channel}_{file}_count")) {
                count_of(word, "channel_", &labels, count, out);
            }
        }
    }
}

fn count_of(word: &str, part: &str, labels: &[(&str, &str)], count: f64, out: &mut Families) {
    let help = format!("Memory errors that were {word}.");
    out.sample(Kind::Counter, &format!("node_edac_{part}{word}_errors_total"), &help, labels, count);
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn a_missing_count_fails_except_by_channel() {
        let folder = "sys/devices/system/edac/mc/mc0";
        let mut tree = Tree::new();
        for file in
            ["ce_count", "ue_count", "ce_noinfo_count", "ue_noinfo_count", "csrow1/ce_count", "csrow1/ch0_ce_count"]
        {
            tree = tree.file(&format!("{folder}/{file}"), "1\n");
        }
        assert!(tree.failure("edac").contains("csrow1/ue_count"));
        let tree = tree
            .file(&format!("{folder}/csrow1/ue_count"), "2\n")
            .file(&format!("{folder}/csrow1/ch0_dimm_label"), "mc#0csrow#1channel#0\n");
        let samples = tree.samples("edac", &[]);
        assert!(samples.contains("dimm_label=\"mc0_csrow1_channel0\"} 1\n"), "{samples}");
        assert!(!samples.contains("channel_uncorrectable"), "{samples}");
        assert_eq!(Tree::new().samples("edac", &[]), "");
    }
}
