//! The kernel's random number pool.

use super::{Collector, no_flags};
use crate::families::Families;
use crate::host::{Failure, Host};

pub(super) const COLLECTOR: Collector =
    Collector { name: "entropy", enabled: true, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let available = host.proc_number("sys/kernel/random/entropy_avail")?;
    out.gauge("node_entropy_available_bits", "Bits of entropy at hand.", available);
    let size = host.proc_number("sys/kernel/random/poolsize")?;
    out.gauge("node_entropy_pool_size_bits", "Bits the pool holds when full.", size);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn both_files() {
        let tree = Tree::new()
            .file("proc/sys/kernel/random/entropy_avail", "1337\n")
            .file("proc/sys/kernel/random/poolsize", "4096\n");
        let expected = "node_entropy_available_bits 1337\nnode_entropy_pool_size_bits 4096\n";
        assert_eq!(tree.samples("entropy", &[]), expected);
    }
}
