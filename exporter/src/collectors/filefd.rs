//! Open file handles of the whole machine: `/proc/sys/fs/file-nr`.

use super::{Collector, no_flags};
use crate::families::Families;
use crate::host::{Failure, Host, number};

pub(super) const COLLECTOR: Collector =
    Collector { name: "filefd", enabled: true, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

const PATH: &str = "sys/fs/file-nr";

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let text = host.read_proc(PATH)?;
    let mut fields = text.split_whitespace();
    let (Some(allocated), Some(_), Some(maximum), None) = (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(Failure::form(PATH, "not three fields"));
    };
    out.gauge("node_filefd_allocated", "File handles in use.", number(PATH, allocated)?);
    out.gauge("node_filefd_maximum", "File handles there can be.", number(PATH, maximum)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn the_outer_fields() {
        let tree = Tree::new().file("proc/sys/fs/file-nr", "1024\t0\t1631329\n");
        assert_eq!(tree.samples("filefd", &[]), "node_filefd_allocated 1024\nnode_filefd_maximum 1.631329e+06\n");
        let broken = Tree::new().file("proc/sys/fs/file-nr", "1024\n");
        assert!(broken.failure("filefd").contains("not three fields"));
    }
}
