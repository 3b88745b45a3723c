//! Selected lines of `/proc/vmstat`.

use super::{Collector, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number};
use cli::Flag;
use re2::Regex;

pub(super) const COLLECTOR: Collector = Collector { name: "vmstat", enabled: true, flags, deprecated: &[], build };

const PATH: &str = "vmstat";
const FLAG: &str = "collector.vmstat.fields";

fn flags() -> Vec<Flag> {
    vec![Flag::string(FLAG, "^(oom_kill|pgpg|pswp|pg.*fault).*", "Pattern of the fields to show")]
}

struct Vmstat {
    fields: Option<Regex>,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    Ok(Box::new(Vmstat { fields: settings.pattern(FLAG)? }))
}

impl Gather for Vmstat {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        for line in host.read_proc(PATH)?.lines() {
            let mut parts = line.split_ascii_whitespace();
            let (Some(field), Some(value)) = (parts.next(), parts.next()) else {
                return Err(Failure::form(PATH, format!("line {line:?} has not two fields")));
            };
            // Also of a field that is not shown, so that a broken file is noticed.
            let value = number(PATH, value)?;
            if self.fields.as_ref().is_some_and(|fields| !fields.is_match(field)) {
                continue;
            }
            let help = format_args!("The field {field} of /proc/vmstat.");
            out.put(Kind::Untyped, format_args!("node_vmstat_{field}"), help, &[], value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn only_the_chosen_fields() {
        let tree = Tree::new().file("proc/vmstat", "nr_free_pages 977769\npgfault 2320168809\noom_kill 0\n");
        assert_eq!(tree.samples("vmstat", &[]), "node_vmstat_oom_kill 0\nnode_vmstat_pgfault 2.320168809e+09\n");
        assert_eq!(tree.samples("vmstat", &["--collector.vmstat.fields=^nr_"]), "node_vmstat_nr_free_pages 977769\n");
    }
}
