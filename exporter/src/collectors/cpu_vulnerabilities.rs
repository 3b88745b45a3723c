//! Faults of the processor and what the kernel does about them, see
//! <https://docs.kernel.org/admin-guide/hw-vuln/index.html>.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};

pub(super) const COLLECTOR: Collector = Collector {
    name: "cpu_vulnerabilities",
    enabled: false,
    flags: no_flags,
    deprecated: &[],
    build: |_| Collector::plain(gather),
};

const FOLDER: &str = "devices/system/cpu/vulnerabilities";

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    for name in host.sys_list(FOLDER)? {
        let text = host.sys_table(&format!("{FOLDER}/{name}"))?;
        let (state, mitigation) = parse(text.trim());
        let labels = [("codename", name.as_str()), ("state", state), ("mitigation", &mitigation)];
        let help = "What the kernel says of a fault of the processor.";
        out.sample(Kind::Gauge, "node_cpu_vulnerabilities_info", help, &labels, 1.0);
    }
    Ok(())
}

/// State and the words about what is done.
fn parse(text: &str) -> (&'static str, String) {
    let lower = text.to_ascii_lowercase();
    let rest = || text.split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
    match () {
        () if lower.starts_with("not affected") => ("not affected", String::new()),
        () if lower.starts_with("vulnerable") => ("vulnerable", rest()),
        () if lower.starts_with("mitigation") => ("mitigation", rest()),
        () if lower.starts_with("unknown") => ("unknown", rest()),
        () => ("unknown", text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn states() {
        for (text, state, mitigation) in [
            ("Not affected", "not affected", ""),
            ("Vulnerable", "vulnerable", ""),
            ("Vulnerable: Clear CPU  buffers", "vulnerable", "Clear CPU buffers"),
            ("Mitigation: PTI", "mitigation", "PTI"),
            ("Unknown: No mitigations", "unknown", "No mitigations"),
            ("KVM: Mitigation: none", "unknown", "KVM: Mitigation: none"),
        ] {
            assert_eq!(parse(text), (state, mitigation.to_owned()), "{text}");
        }
    }
}
