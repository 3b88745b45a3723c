//! How many hung tasks the kernel has seen.

use super::{Collector, no_flags};
use crate::families::Families;
use crate::host::{Failure, Host};

pub(super) const COLLECTOR: Collector = Collector {
    name: "kernel_hung",
    enabled: true,
    flags: no_flags,
    deprecated: &[],
    build: |_| Collector::plain(gather),
};

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let count = host.proc_number("sys/kernel/hung_task_detect_count").map_err(Failure::absent_is_no_data)?;
    out.counter("node_kernel_hung_tasks_total", "Tasks the kernel found hung since boot.", count);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn one_number() {
        let tree = Tree::new().file("proc/sys/kernel/hung_task_detect_count", "4\n");
        assert_eq!(tree.samples("kernel_hung", &[]), "node_kernel_hung_tasks_total 4\n");
        assert!(Tree::new().failure("kernel_hung").contains("no data"));
    }
}
