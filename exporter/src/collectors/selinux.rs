//! Whether SELinux is on: the file system it mounts, `/sys/fs/selinux` of the running host.

use super::{Collector, no_flags};
use crate::families::Families;
use crate::host::{Failure, Host, read_at, read_bounded};
use std::path::Path;

pub(super) const COLLECTOR: Collector =
    Collector { name: "selinux", enabled: true, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

const ENFORCE: &str = "/sys/fs/selinux/enforce";

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let enforcing = host.probe_sys(ENFORCE, || read_bounded(Path::new(ENFORCE))).ok();
    let enabled = f64::from(u8::from(enforcing.is_some()));
    out.gauge("node_selinux_enabled", "1 when SELinux is on.", enabled);
    if let Some(enforcing) = enforcing {
        let mode = |strict: bool| f64::from(u8::from(strict));
        let configured = read_at(Path::new("/etc/selinux/config")).unwrap_or_default();
        let configured =
            configured.lines().find_map(|line| line.trim().strip_prefix("SELINUX=")).map_or(-1.0, |word| {
                match word.trim() {
                    "enforcing" => 1.0,
                    "permissive" => 0.0,
                    _ => -1.0,
                }
            });
        out.gauge("node_selinux_config_mode", "The configured mode: 1 enforcing, 0 permissive, -1 off.", configured);
        out.gauge(
            "node_selinux_current_mode",
            "The present mode: 1 enforcing, 0 permissive.",
            mode(enforcing.trim() == "1"),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn always_says_whether_it_is_on() {
        assert!(Tree::new().samples("selinux", &[]).contains("node_selinux_enabled "));
    }
}
