//! Load averages: the first three fields of `/proc/loadavg`.

use super::{Collector, no_flags};
use crate::families::Families;
use crate::host::{Failure, Host, number};

pub(super) const COLLECTOR: Collector =
    Collector { name: "loadavg", enabled: true, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

const PATH: &str = "loadavg";

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let text = host.read_proc(PATH)?;
    let mut fields = text.split_whitespace();
    for (name, help) in [
        ("node_load1", "Load average over one minute."),
        ("node_load5", "Load average over five minutes."),
        ("node_load15", "Load average over fifteen minutes."),
    ] {
        let field = fields.next().ok_or_else(|| Failure::form(PATH, "fewer than three fields"))?;
        out.gauge(name, help, number(PATH, field)?);
    }
    Ok(())
}
