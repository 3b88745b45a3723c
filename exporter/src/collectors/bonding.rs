//! Bonded network devices: `/sys/class/net/bonding_masters`, see <https://docs.kernel.org/networking/bonding.html>.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};

pub(super) const COLLECTOR: Collector =
    Collector { name: "bonding", enabled: true, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

const FOLDER: &str = "class/net";

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let masters = host.sys_driver_table("class/net/bonding_masters").map_err(Failure::absent_is_no_data)?;
    for master in masters.split_whitespace() {
        let slaves = host.sys_table(&format!("{FOLDER}/{master}/bonding/slaves"))?;
        let (mut configured, mut active) = (0u32, 0u32);
        for slave in slaves.split_whitespace() {
            configured += 1;
            let state =
                |link: &str| host.sys_text(&format!("{FOLDER}/{master}/{link}_{slave}/bonding_slave/mii_status"));
            let state = match state("lower") {
                Err(failure) if failure.is_absent() => state("slave")?,
                other => other?,
            };
            active += u32::from(state == "up");
        }
        let labels = [("master", master)];
        let help = "Devices that are configured for a bond.";
        out.sample(Kind::Gauge, "node_bonding_slaves", help, &labels, f64::from(configured));
        let help = "Devices of a bond whose link is up.";
        out.sample(Kind::Gauge, "node_bonding_active", help, &labels, f64::from(active));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn new_and_old_link_names() {
        let tree = Tree::new()
            .file("sys/class/net/bonding_masters", "b0\n")
            .file("sys/class/net/b0/bonding/slaves", "e0 e1\n")
            .file("sys/class/net/b0/lower_e0/bonding_slave/mii_status", "up\n")
            .file("sys/class/net/b0/slave_e1/bonding_slave/mii_status", "down\n");
        let expected = "node_bonding_active{master=\"b0\"} 1\nnode_bonding_slaves{master=\"b0\"} 2\n";
        assert_eq!(tree.samples("bonding", &[]), expected);
        assert!(Tree::new().failure("bonding").contains("no data"));
    }
}
