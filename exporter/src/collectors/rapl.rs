//! Energy used by processors and memory: `/sys/class/powercap`, see
//! <https://docs.kernel.org/power/powercap/powercap.html>. Current kernels let only root read the counters.

use super::{Collector, Gather, Settings, StartError};
use crate::attributes::sanitize;
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use cli::Flag;
use std::collections::HashMap;
use std::io::ErrorKind;

pub(super) const COLLECTOR: Collector = Collector { name: "rapl", enabled: true, flags, deprecated: &[], build };

const FOLDER: &str = "class/powercap";
const LABEL: &str = "collector.rapl.enable-zone-label";
const MICRO: f64 = 1e6;
const HELP: &str = "Energy used.";

fn flags() -> Vec<Flag> {
    vec![Flag::boolean(LABEL, false, "Name the zone by a label instead of by the family")]
}

struct Rapl {
    label: bool,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    Ok(Box::new(Rapl { label: settings.parsed.bool(LABEL) }))
}

impl Gather for Rapl {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        let mut uses = HashMap::new();
        for folder in host.sys_list(FOLDER).map_err(not_for_us)? {
            let folder = format!("{FOLDER}/{folder}");
            // What holds the zones has no name.
            let Ok(name) = host.sys_value(&format!("{folder}/name")) else { continue };
            let (zone, index) = zone(&name, &mut uses);
            let micro_joules = host.sys_figure(&format!("{folder}/energy_uj")).map_err(not_for_us)?;
            let path = host.sys(&folder).to_string_lossy().into_owned();
            let labels = [("index", index.as_str()), ("path", path.as_str()), ("rapl_zone", zone)];
            let joules = micro_joules / MICRO;
            if self.label {
                out.sample(Kind::Counter, "node_rapl_joules_total", HELP, &labels, joules);
            } else {
                let family = format!("node_rapl_{}_joules_total", sanitize(zone));
                out.sample(Kind::Counter, &family, HELP, &labels[..2], joules);
            }
        }
        Ok(())
    }
}

/// `package-0` is zone `package` and index 0; other names are counted.
fn zone<'a>(name: &'a str, uses: &mut HashMap<String, u64>) -> (&'a str, String) {
    if let Some((zone, index)) = name.split_once('-')
        && let Ok(index) = index.parse::<u64>()
    {
        return (zone, index.to_string());
    }
    let count = uses.entry(name.to_owned()).or_default();
    let index = count.to_string();
    *count += 1;
    (name, index)
}

fn not_for_us(failure: Failure) -> Failure {
    match failure {
        Failure::Read { path, source }
            if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) =>
        {
            Failure::NoData(format!("{}: {source}", path.display()))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn zones_and_indexes() {
        let mut tree = Tree::new().file("sys/class/powercap/intel-rapl/enabled", "1\n");
        for (folder, name) in [("a", "package-1"), ("b", "core"), ("c", "core"), ("d", "package-0-die-1")] {
            tree = tree
                .file(&format!("sys/class/powercap/{folder}/name"), name)
                .file(&format!("sys/class/powercap/{folder}/energy_uj"), "2500000\n");
        }
        let path = |folder: &str| tree.path(&format!("sys/class/powercap/{folder}")).display().to_string();
        let samples = tree.samples("rapl", &[]);
        for (family, index, folder) in
            [("package", "1", "a"), ("core", "0", "b"), ("core", "1", "c"), ("package_0_die_1", "0", "d")]
        {
            let line = format!("node_rapl_{family}_joules_total{{index=\"{index}\",path=\"{}\"}} 2.5\n", path(folder));
            assert!(samples.contains(&line), "{line} in {samples}");
        }
        let samples = tree.samples("rapl", &["--collector.rapl.enable-zone-label"]);
        assert!(samples.contains("rapl_zone=\"package-0-die-1\"} 2.5\n"), "{samples}");
        assert!(Tree::new().failure("rapl").contains("no data"));
    }
}
