//! `meta.json` of a block, and block names (ULIDs).

use serde::{Deserialize, Serialize};
use std::hash::{BuildHasher, Hasher, RandomState};

/// What a block says of itself. Keys of other tools are kept as they are.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// The block's name, which is its folder's.
    pub ulid: String,
    /// Time of its first sample in milliseconds.
    pub min_time: i64,
    /// The first time behind it.
    pub max_time: i64,
    /// Counts.
    #[serde(default)]
    pub stats: BlockStats,
    /// Where it comes from.
    #[serde(default)]
    pub compaction: Compaction,
    /// Version of the layout: 1.
    pub version: u32,
    #[serde(flatten)]
    other: serde_json::Map<String, serde_json::Value>,
}

/// Counts of a block.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockStats {
    /// All samples.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_samples: u64,
    /// Floats.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_float_samples: u64,
    /// Native histograms.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_histogram_samples: u64,
    /// Series.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_series: u64,
    /// Chunks.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_chunks: u64,
    /// Deleted ranges.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_tombstones: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Where a block comes from.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Compaction {
    /// How often its samples were compacted.
    pub level: u32,
    /// The blocks of the first level that are in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    #[serde(flatten)]
    other: serde_json::Map<String, serde_json::Value>,
}

impl Meta {
    /// What a block of the first level says.
    pub(crate) fn new(ulid: String, min_time: i64, max_time: i64, stats: BlockStats) -> Self {
        let compaction = Compaction { level: 1, sources: vec![ulid.clone()], other: serde_json::Map::new() };
        Self { ulid, min_time, max_time, stats, compaction, version: 1, other: serde_json::Map::new() }
    }

    /// The text of the file, indented by tabs.
    pub(crate) fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, format);
        // Writing to memory cannot fail, and the keys of the maps are strings.
        let _ = self.serialize(&mut serializer);
        text.push(b'\n');
        text
    }
}

/// The digits of block names.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A new block name: 48 bits of time and 80 by chance, five bits a digit.
pub(crate) fn ulid(unix_ms: i64) -> String {
    let chance = || u128::from(RandomState::new().build_hasher().finish());
    let number = (unix_ms as u128) << 80 | (chance() << 64 | chance()) & ((1 << 80) - 1);
    (0..26).rev().map(|place| char::from(DIGITS[(number >> (5 * place) & 31) as usize])).collect()
}

/// Whether a folder's name is one of a block.
pub(crate) fn is_ulid(name: &str) -> bool {
    name.len() == 26 && name.bytes().all(|byte| DIGITS.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_their_time() {
        let name = ulid(1_795_615_746_552);
        assert!(is_ulid(&name) && !is_ulid("chunks_head"));
        assert!(name.starts_with("01M88"), "{name}");
        assert_ne!(ulid(0), ulid(0));
    }

    #[test]
    fn keys_of_other_tools_stay() {
        let text = r#"{"ulid":"01","minTime":1,"maxTime":2,"stats":{"numSamples":3},"compaction":{"level":2,"sources":["01"],
            "hints":["from-out-of-order"]},"version":1,"thanos":{"labels":{"a":"b"}}}"#;
        let meta: Meta = serde_json::from_str(text).expect("read");
        let text = String::from_utf8(meta.text()).expect("text");
        assert!(text.contains("\t\"thanos\": {\n") && text.contains("from-out-of-order"), "{text}");
        assert_eq!(meta.stats.num_samples, 3);
    }
}
