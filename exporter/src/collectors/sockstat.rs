//! Sockets in use: `/proc/net/sockstat` and `sockstat6`, either of which may be missing.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
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
    if !rest.split_whitespace().count().is_multiple_of(2) {
        return Err(wrong());
    }
    let mut fields = rest.split_whitespace();
    while let (Some(field), Some(value)) = (fields.next(), fields.next()) {
        let value = number(path, value)?;
        let help = format_args!("The figure {field} of {protocol} sockets.");
        out.put(Kind::Gauge, format_args!("node_sockstat_{protocol}_{field}"), help, &[], value);
        if field == "mem" {
            let (help, bytes) = (format_args!("Memory of {protocol} sockets."), value * page_bytes());
            out.put(Kind::Gauge, format_args!("node_sockstat_{protocol}_{field}_bytes"), help, &[], bytes);
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
