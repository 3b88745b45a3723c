//! Paths to NVMe subsystems: `/sys/class/nvme-subsystem`, see `drivers/nvme/host/sysfs.c` of the kernel.

use super::{Collector, no_flags};
use crate::attributes::digits_after;
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};

pub(super) const COLLECTOR: Collector = Collector {
    name: "nvmesubsystem",
    enabled: false,
    flags: no_flags,
    deprecated: &[],
    build: |_| Collector::plain(gather),
};

const FOLDER: &str = "class/nvme-subsystem";
const STATES: [&str; 7] = ["connecting", "dead", "deleting", "live", "new", "resetting", "unknown"];

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    for subsystem in host.sys_list(FOLDER).map_err(Failure::absent_is_no_data)? {
        if !subsystem.starts_with("nvme-subsys") {
            continue;
        }
        let folder = format!("{FOLDER}/{subsystem}");
        let text = |file: &str| host.sys_optional(&format!("{folder}/{file}")).map(Option::unwrap_or_default);
        let (name, model, serial, policy) = (text("subsysnqn")?, text("model")?, text("serial")?, text("iopolicy")?);
        let labels = [
            ("subsystem", subsystem.as_str()),
            ("nqn", &name),
            ("model", &model),
            ("serial", &serial),
            ("iopolicy", &policy),
        ];
        out.sample(Kind::Gauge, "node_nvmesubsystem_info", "What a subsystem is.", &labels, 1.0);
        let (mut paths, mut live) = (0u32, 0u32);
        for name in host.sys_list(&folder)? {
            let Some(number) = digits_after(&name, "nvme") else { continue };
            let rest = &name["nvme".len() + number.len()..];
            if rest.is_empty() {
                paths += 1;
                live += u32::from(show_path(host, &folder, &subsystem, &name, out)?);
            } else if digits_after(rest, "n").is_some_and(|number| number.len() + 1 == rest.len()) {
                let labels = [("subsystem", subsystem.as_str()), ("device", name.as_str())];
                let help = "A namespace of a subsystem.";
                out.sample(Kind::Gauge, "node_nvmesubsystem_namespace_info", help, &labels, 1.0);
            }
        }
        let labels = &labels[..1];
        out.sample(Kind::Gauge, "node_nvmesubsystem_paths", "Paths to a subsystem.", labels, f64::from(paths));
        let help = "Paths to a subsystem that work.";
        out.sample(Kind::Gauge, "node_nvmesubsystem_paths_live", help, labels, f64::from(live));
    }
    Ok(())
}

/// Shows the state of a path and says whether it works.
fn show_path(
    host: &Host,
    folder: &str,
    subsystem: &str,
    controller: &str,
    out: &mut Families,
) -> Result<bool, Failure> {
    let text = |file: &str| host.sys_optional(&format!("{folder}/{controller}/{file}")).map(Option::unwrap_or_default);
    let (transport, state) = (text("transport")?, text("state")?);
    let present = STATES.iter().find(|known| **known == state).copied().unwrap_or("unknown");
    for known in STATES {
        let labels =
            [("subsystem", subsystem), ("controller", controller), ("transport", transport.as_str()), ("state", known)];
        let value = f64::from(u8::from(known == present));
        out.sample(Kind::Gauge, "node_nvmesubsystem_path_state", "1 for the state of a path.", &labels, value);
    }
    Ok(present == "live")
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn paths_and_namespaces() {
        let folder = "sys/class/nvme-subsystem/nvme-subsys0";
        let tree = Tree::new()
            .file(&format!("{folder}/subsysnqn"), "nqn\n")
            .file(&format!("{folder}/nvme0/state"), "live\n")
            .file(&format!("{folder}/nvme0/transport"), "fc\n")
            .file(&format!("{folder}/nvme1/state"), "odd\n")
            .file(&format!("{folder}/nvme0n1/size"), "1\n")
            .file(&format!("{folder}/nvme0c1n1/size"), "1\n");
        let samples = tree.samples("nvmesubsystem", &["--collector.nvmesubsystem"]);
        for expected in [
            "node_nvmesubsystem_paths{subsystem=\"nvme-subsys0\"} 2\n",
            "node_nvmesubsystem_paths_live{subsystem=\"nvme-subsys0\"} 1\n",
            "node_nvmesubsystem_namespace_info{device=\"nvme0n1\",subsystem=\"nvme-subsys0\"} 1\n",
            "{controller=\"nvme0\",state=\"live\",subsystem=\"nvme-subsys0\",transport=\"fc\"} 1\n",
            "{controller=\"nvme1\",state=\"unknown\",subsystem=\"nvme-subsys0\",transport=\"\"} 1\n",
        ] {
            assert!(samples.contains(expected), "{expected} in {samples}");
        }
        assert_eq!(samples.matches("namespace_info").count(), 1);
    }
}
