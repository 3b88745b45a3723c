//! What `uname(2)` says.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};

pub(super) const COLLECTOR: Collector =
    Collector { name: "uname", enabled: true, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

fn gather(_: &Host, out: &mut Families) -> Result<(), Failure> {
    let names = nix::sys::utsname::uname().map_err(|errno| Failure::Call { call: "uname", source: errno.into() })?;
    let text = |name: &std::ffi::OsStr| name.to_string_lossy().into_owned();
    let labels = [
        ("sysname", text(names.sysname())),
        ("release", text(names.release())),
        ("version", text(names.version())),
        ("machine", text(names.machine())),
        ("nodename", text(names.nodename())),
        ("domainname", text(names.domainname())),
    ];
    let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
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
