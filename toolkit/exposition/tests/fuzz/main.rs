//! Replays the fuzz corpora, and damages them: cut at every byte, bits flipped, pieces moved, from a fixed seed.

mod properties;

use std::{fs, path::Path};
use testkit::Rng;

/// Damaged copies of each body.
const COPIES: usize = 40;

/// A body beyond this is cut at chosen places only, for time's sake.
const CUT_EVERYWHERE_MAX: usize = 600;

fn replay(name: &str, property: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
    let list = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = list.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    assert!(paths.len() >= 10, "{} has only {} bodies", folder.display(), paths.len());
    let bodies: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).expect("readable")).collect();
    let mut random = Rng::new(0x6e61_7274_6865_7831);
    for body in &bodies {
        property(body);
        let step = body.len() / CUT_EVERYWHERE_MAX + 1;
        for end in (0..body.len()).step_by(step) {
            property(&body[..end]);
        }
        for _ in 0..COPIES {
            let other = &bodies[random.below(bodies.len())];
            property(&damaged(body, other, &mut random));
        }
    }
}

/// One to four changes, each a flipped bit, an exchanged byte, a removed or doubled piece, or a piece of another body.
fn damaged(body: &[u8], other: &[u8], random: &mut Rng) -> Vec<u8> {
    const TELLING: &[u8] = b"\"\\\n{}=,# \x00\xff0_:+\x80\x7f";
    let mut out = body.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(out.len() + 1);
        let end = (at + random.below(24)).min(out.len());
        match random.below(5) {
            0 if at < out.len() => out[at] ^= 1 << random.below(8),
            1 if at < out.len() => out[at] = TELLING[random.below(TELLING.len())],
            2 => {
                out.drain(at..end);
            }
            3 => {
                let piece = out[at..end].to_vec();
                out.splice(at..at, piece);
            }
            _ => {
                let from = random.below(other.len() + 1);
                let to = (from + random.below(40)).min(other.len());
                out.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
    out
}

#[test]
fn text() {
    replay("exposition_text", properties::text);
}

#[test]
fn openmetrics() {
    replay("exposition_openmetrics", properties::openmetrics);
}

#[test]
fn protobuf() {
    replay("exposition_protobuf", properties::protobuf);
}

#[test]
fn a_long_line_or_a_long_promise_costs_what_it_weighs() {
    for unit in [&b"a"[..], b"{", b"\"", b"a{b=\"c\",", b"# HELP ", b"a 1\n", b"\\"] {
        let body = unit.repeat(200_000 / unit.len());
        properties::text(&body);
        properties::openmetrics(&body);
        properties::protobuf(&body);
    }
    // Many labels, all different.
    let labels: Vec<String> = (0..20_000).map(|i| format!("l{i}=\"x\"")).collect();
    let series = format!("a{{{}}} 1\n", labels.join(","));
    properties::text(series.as_bytes());
    properties::openmetrics(format!("{series}# EOF\n").as_bytes());
    let families = exposition::families::parse_text(series.as_bytes()).expect("valid");
    let mut body = Vec::new();
    exposition::write(&families, exposition::Format::Protobuf, exposition::Escaping::AllowUtf8, &mut body);
    properties::protobuf(&body);
    // A length of 2^63 in front of nothing.
    properties::protobuf(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0x0a]);
}
