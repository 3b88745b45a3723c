//! Sockets in use: `/proc/net/sockstat` and `sockstat6`, either of which may be missing.

use super::{Collector, no_flags};
use crate::families::Families;
use crate::host::{Failure, Host, number};

pub(super) const COLLECTOR: Collector = Collector {
    name: "sockstat",
    enabled: true,
    flags: no_flags,
    deprecated: &[],
    build: |_| Collector::plain(gather),
};

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    for path in ["net/sockstat", "net/sockstat6"] {
        let text = match host.read_proc(path) {
            Ok(text) => text,
            Err(failure) if failure.is_absent() => continue,
            Err(failure) => return Err(failure),
        };
        for line in text.lines() {
            protocol(path, line, out)?;
        }
    }
    Ok(())
}

fn protocol(path: &str, line: &str, out: &mut Families) -> Result<(), Failure> {
    let wrong = || Failure::form(path, format!("line {line:?}"));
    let (protocol, rest) = line.split_once(':').ok_or_else(wrong)?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if !fields.len().is_multiple_of(2) {
        return Err(wrong());
    }
    for pair in fields.chunks_exact(2) {
        let value = number(path, pair[1])?;
        let name = format!("node_sockstat_{protocol}_{}", pair[0]);
        let help = format!("The figure {} of {protocol} sockets.", pair[0]);
        out.gauge(&name, &help, value);
        if pair[0] == "mem" {
            let help = format!("Memory of {protocol} sockets.");
            out.gauge(&format!("{name}_bytes"), &help, value * page_bytes());
        }
    }
    Ok(())
}

fn page_bytes() -> f64 {
    let pages = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    pages.ok().flatten().map_or(4096.0, |bytes| bytes as f64)
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn pairs_after_the_protocol() {
        let tree = Tree::new()
            .file("proc/net/sockstat", "sockets: used 229\nTCP: inuse 4 mem 0\n")
            .file("proc/net/sockstat6", "RAW6: inuse 2\n");
        assert_eq!(
            tree.samples("sockstat", &[]),
            "node_sockstat_RAW6_inuse 2\nnode_sockstat_TCP_inuse 4\nnode_sockstat_TCP_mem 0\n\
             node_sockstat_TCP_mem_bytes 0\nnode_sockstat_sockets_used 229\n"
        );
        assert_eq!(Tree::new().samples("sockstat", &[]), "");
    }
}
