//! Pressure stall information: `/proc/pressure/*`, see <https://docs.kernel.org/accounting/psi.html>.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number};

pub(super) const COLLECTOR: Collector = Collector {
    name: "pressure",
    enabled: true,
    flags: no_flags,
    deprecated: &[],
    build: |_| Collector::plain(gather),
};

/// EOPNOTSUPP: the kernel was built with pressure figures but booted without them.
const NOT_SUPPORTED: i32 = 95;

/// File, resource, and the lines that are shown with the word for them in the family's name.
const FILES: &[(&str, &str, &[Line])] = &[
    ("pressure/cpu", "cpu", &[SOME]),
    ("pressure/io", "io", &[SOME, FULL]),
    ("pressure/memory", "memory", &[SOME, FULL]),
    ("pressure/irq", "irq", &[FULL]),
];
type Line = (&'static str, &'static str);
const SOME: Line = ("some", "waiting");
const FULL: Line = ("full", "stalled");

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let mut found = false;
    for (path, resource, lines) in FILES {
        let text = match host.read_proc(path) {
            Ok(text) => text,
            Err(failure) if failure.is_absent() => continue,
            Err(Failure::Read { source, .. }) if source.raw_os_error() == Some(NOT_SUPPORTED) => {
                return Err(Failure::NoData("pressure figures are switched off in this kernel".to_owned()));
            }
            Err(failure) => return Err(failure),
        };
        found = true;
        for (line, word) in *lines {
            let total = text
                .lines()
                .find(|candidate| candidate.split_whitespace().next() == Some(line))
                .and_then(|candidate| candidate.split_whitespace().find_map(|field| field.strip_prefix("total=")));
            let total = total.ok_or_else(|| Failure::form(path, format!("no total of {line}")))?;
            let name = format_args!("node_pressure_{resource}_{word}_seconds_total");
            let help = format_args!("Time in which tasks were {word} for {resource}.");
            // Two divisions, as the reference does: the last digit differs from one division by a million.
            out.put(Kind::Counter, name, help, &[], number(path, total)? / 1e3 / 1e3);
        }
    }
    if found { Ok(()) } else { Err(Failure::NoData("this kernel keeps no pressure figures".to_owned())) }
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn micro_seconds_become_seconds() {
        let tree =
            Tree::new().file("proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=14036781\n").file(
                "proc/pressure/io",
                "some avg10=0.10 avg60=2.00 avg300=3.85 total=159886802\nfull avg10=0.00 avg60=0.00 avg300=0.00 \
                 total=159229614\n",
            );
        assert_eq!(
            tree.samples("pressure", &[]),
            "node_pressure_cpu_waiting_seconds_total 14.036781000000001\nnode_pressure_io_stalled_seconds_total 159.229614\n\
             node_pressure_io_waiting_seconds_total 159.886802\n"
        );
        assert!(Tree::new().failure("pressure").contains("no pressure"));
    }
}
