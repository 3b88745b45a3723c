//! Packets that IPsec refused: `/proc/net/xfrm_stat`, see <https://docs.kernel.org/networking/xfrm_proc.html>.

use super::{Collector, no_flags};
use crate::families::Families;
use crate::host::{Failure, Host, number};

pub(super) const COLLECTOR: Collector =
    Collector { name: "xfrm", enabled: false, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

const PATH: &str = "net/xfrm_stat";

/// The kernel's names after `Xfrm` and ours between `node_xfrm_` and `_packets_total`.
const FIELDS: [(&str, &str); 28] = [
    ("InError", "in_error"),
    ("InBufferError", "in_buffer_error"),
    ("InHdrError", "in_hdr_error"),
    ("InNoStates", "in_no_states"),
    ("InStateProtoError", "in_state_proto_error"),
    ("InStateModeError", "in_state_mode_error"),
    ("InStateSeqError", "in_state_seq_error"),
    ("InStateExpired", "in_state_expired"),
    ("InStateMismatch", "in_state_mismatch"),
    ("InStateInvalid", "in_state_invalid"),
    ("InTmplMismatch", "in_tmpl_mismatch"),
    ("InNoPols", "in_no_pols"),
    ("InPolBlock", "in_pol_block"),
    ("InPolError", "in_pol_error"),
    ("OutError", "out_error"),
    ("OutBundleGenError", "out_bundle_gen_error"),
    ("OutBundleCheckError", "out_bundle_check_error"),
    ("OutNoStates", "out_no_states"),
    ("OutStateProtoError", "out_state_proto_error"),
    ("OutStateModeError", "out_state_mode_error"),
    ("OutStateSeqError", "out_state_seq_error"),
    ("OutStateExpired", "out_state_expired"),
    ("OutPolBlock", "out_pol_block"),
    ("OutPolDead", "out_pol_dead"),
    ("OutPolError", "out_pol_error"),
    ("FwdHdrError", "fwd_hdr_error"),
    ("OutStateInvalid", "out_state_invalid"),
    ("AcquireError", "acquire_error"),
];

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let text = host.read_proc(PATH)?;
    let mut values = [0.0; FIELDS.len()];
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(value), None) = (words.next(), words.next(), words.next()) else {
            return Err(Failure::form(PATH, format!("line {line:?} has not two fields")));
        };
        let value = number(PATH, value)?;
        let name = name.strip_prefix("Xfrm").unwrap_or(name);
        if let Some(place) = FIELDS.iter().position(|(known, _)| *known == name) {
            values[place] = value;
        }
    }
    for ((name, ours), value) in FIELDS.iter().zip(values) {
        let help = format!("Packets counted as {name}.");
        out.counter(&format!("node_xfrm_{ours}_packets_total"), &help, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn fields_an_older_kernel_lacks_are_nothing() {
        let samples = Tree::new()
            .file("proc/net/xfrm_stat", "XfrmInError  3\nXfrmNew 4\n")
            .samples("xfrm", &["--collector.xfrm"]);
        assert!(samples.contains("node_xfrm_in_error_packets_total 3\n"), "{samples}");
        assert!(samples.contains("node_xfrm_acquire_error_packets_total 0\n"), "{samples}");
        assert_eq!(samples.lines().count(), 28);
    }
}
