//! NVMe controllers and namespaces: `/sys/class/nvme`, see `drivers/nvme/host/sysfs.c` of the kernel.

use super::{Collector, no_flags};
use crate::attributes::digits_after;
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};

pub(super) const COLLECTOR: Collector =
    Collector { name: "nvme", enabled: true, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

const FOLDER: &str = "class/nvme";

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    for device in host.sys_list(FOLDER).map_err(Failure::absent_is_no_data)? {
        let folder = format!("{FOLDER}/{device}");
        let text = |file: &str| host.sys_optional(&format!("{folder}/{file}")).map(Option::unwrap_or_default);
        let (firmware, model, serial) = (text("firmware_rev")?, text("model")?, text("serial")?);
        let (state, controller) = (text("state")?, text("cntlid")?);
        let labels = [
            ("device", device.as_str()),
            ("firmware_revision", &firmware),
            ("model", &model),
            ("serial", &serial),
            ("state", &state),
            ("cntlid", &controller),
        ];
        out.sample(Kind::Gauge, "node_nvme_info", "What a controller is.", &labels, 1.0);
        for name in host.sys_list(&folder)? {
            if let Some(number) = namespace(&name) {
                show_namespace(host, &format!("{folder}/{name}"), &device, number, out)?;
            }
        }
    }
    Ok(())
}

/// The number of `nvme0n1`; one of several paths to a namespace, `nvme0c1n1`, is not shown.
fn namespace(name: &str) -> Option<&str> {
    let device = digits_after(name, "nvme")?;
    let rest = &name["nvme".len() + device.len()..];
    digits_after(rest, "n").filter(|number| number.len() + 1 == rest.len())
}

fn show_namespace(host: &Host, folder: &str, device: &str, number: &str, out: &mut Families) -> Result<(), Failure> {
    let state = host.sys_optional(&format!("{folder}/ana_state"))?;
    let state = state.as_deref().unwrap_or("unknown");
    let labels = [("device", device), ("nsid", number), ("ana_state", state)];
    let help = "How a namespace can be reached.";
    out.sample(Kind::Gauge, "node_nvme_namespace_info", help, &labels, 1.0);
    let labels = &labels[..2];
    let figure = |file: &str| -> Result<Option<f64>, Failure> {
        let path = format!("{folder}/{file}");
        let Some(text) = host.sys_optional(&path)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Failure::form(&path, format!("{text:?} is not a number")))
    };
    let Some(block) = figure("queue/logical_block_size")? else { return Ok(()) };
    let help = "Size of a block.";
    out.sample(Kind::Gauge, "node_nvme_namespace_logical_block_size_bytes", help, labels, block);
    // The file counts sectors of 512 bytes, whatever a block is; the product is upstream's.
    if let Some(size) = figure("size")? {
        let help = "Size of a namespace.";
        out.sample(Kind::Gauge, "node_nvme_namespace_size_bytes", help, labels, size * block);
        let help = "Most bytes a namespace can hold.";
        out.sample(Kind::Gauge, "node_nvme_namespace_capacity_bytes", help, labels, size * block);
    }
    if let Some(used) = figure("nuse")? {
        let help = "Bytes of a namespace in use.";
        out.sample(Kind::Gauge, "node_nvme_namespace_used_bytes", help, labels, used * block);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::namespace;
    use crate::testing::Tree;

    #[test]
    fn namespaces() {
        for (name, expected) in [
            ("nvme0n1", Some("1")),
            ("nvme10n12", Some("12")),
            ("nvme10c3n12", None),
            ("nvme0", None),
            ("nvme0n1p1", None),
            ("ng0n1", None),
        ] {
            assert_eq!(namespace(name), expected, "{name}");
        }
    }

    #[test]
    fn a_kernel_without_the_number_of_used_blocks() {
        let tree = Tree::new()
            .file("sys/class/nvme/nvme0/model", "M\n")
            .file("sys/class/nvme/nvme0/nvme0n1/size", "4\n")
            .file("sys/class/nvme/nvme0/nvme0n1/queue/logical_block_size", "512\n");
        let samples = tree.samples("nvme", &[]);
        assert!(samples.contains("node_nvme_namespace_size_bytes{device=\"nvme0\",nsid=\"1\"} 2048\n"), "{samples}");
        assert!(samples.contains("ana_state=\"unknown\"") && !samples.contains("used_bytes"), "{samples}");
        assert!(Tree::new().failure("nvme").contains("no data"));
    }
}
