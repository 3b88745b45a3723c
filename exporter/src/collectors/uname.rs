//! What `uname(2)` says.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};

pub(super) const COLLECTOR: Collector =
    Collector { name: "uname", enabled: true, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

fn gather(_: &Host, out: &mut Families) -> Result<(), Failure> {
    let names = nix::sys::utsname::uname().map_err(|errno| Failure::Call { call: "uname", source: errno.into() })?;
    let labels = [
        ("sysname", names.sysname().to_string_lossy()),
        ("release", names.release().to_string_lossy()),
        ("version", names.version().to_string_lossy()),
        ("machine", names.machine().to_string_lossy()),
        ("nodename", names.nodename().to_string_lossy()),
        ("domainname", names.domainname().to_string_lossy()),
    ];
    let labels = labels.each_ref().map(|(name, value)| (*name, &**value));
    out.sample(Kind::Gauge, "node_uname_info", "The kernel's own description.", &labels, 1.0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn the_running_kernel() {
        let samples = Tree::new().samples("uname", &[]);
        assert!(samples.starts_with("node_uname_info{domainname="), "{samples}");
        assert!(samples.contains("sysname=\"Linux\""), "{samples}");
    }
}
