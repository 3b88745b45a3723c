//! Writing the index of a block, version 2.
//!
//! Source: upstream's format page of the index. The label indices are left out, as upstream does since they are read by
//! nobody. Memory: the whole index.

use crate::chunks::ChunkPlace;
use chunk::varint;
use model::Labels;
use std::collections::{BTreeMap, BTreeSet};

const MAGIC: u32 = 0xBAAA_D700;
const VERSION: u8 = 2;
const ALIGN: usize = 16;

/// The bytes of the index of these series, which are ordered by labels. None when it has no place in the format: more
/// than 64 GiB of series.
pub(crate) fn index(series: &[(Labels, Vec<ChunkPlace>)]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    out.extend_from_slice(&MAGIC.to_be_bytes());
    out.push(VERSION);
    let texts: BTreeSet<&str> =
        series.iter().flat_map(|(labels, _)| labels.iter()).flat_map(|(name, value)| [name, value]).collect();
    let symbols = out.len();
    let mut body = u32::try_from(texts.len()).ok()?.to_be_bytes().to_vec();
    texts.iter().for_each(|text| put_text(text, &mut body));
    put_section(&body, &mut out)?;
    let numbers: BTreeMap<&str, u64> = texts.into_iter().zip(0..).collect();
    out.resize(out.len().next_multiple_of(ALIGN), 0);
    let first_series = out.len();
    let mut postings: BTreeMap<(&str, &str), Vec<u32>> = BTreeMap::new();
    for (labels, chunks) in series {
        out.resize(out.len().next_multiple_of(ALIGN), 0);
        let reference = u32::try_from(out.len() / ALIGN).ok()?;
        put_series(labels, chunks, &numbers, &mut out);
        postings.entry(("", "")).or_default().push(reference);
        for (name, value) in labels.iter() {
            postings.entry((name, value)).or_default().push(reference);
        }
    }
    let mut table = u32::try_from(postings.len()).ok()?.to_be_bytes().to_vec();
    let mut first_postings = 0;
    for ((name, value), list) in &postings {
        out.resize(out.len().next_multiple_of(4), 0);
        if first_postings == 0 {
            first_postings = out.len();
        }
        table.push(2);
        put_text(name, &mut table);
        put_text(value, &mut table);
        varint::put(out.len() as u64, &mut table);
        let mut body = u32::try_from(list.len()).ok()?.to_be_bytes().to_vec();
        list.iter().for_each(|reference| body.extend_from_slice(&reference.to_be_bytes()));
        put_section(&body, &mut out)?;
    }
    let label_table = out.len();
    put_section(&0_u32.to_be_bytes(), &mut out)?;
    let postings_table = out.len();
    put_section(&table, &mut out)?;
    let places = [symbols, first_series, 0, label_table, first_postings, postings_table];
    let toc: Vec<u8> = places.iter().flat_map(|place| (*place as u64).to_be_bytes()).collect();
    out.extend_from_slice(&toc);
    out.extend_from_slice(&crc32c::crc32c(&toc).to_be_bytes());
    Some(out)
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    varint::put(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn put_section(body: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(&u32::try_from(body.len()).ok()?.to_be_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(&crc32c::crc32c(body).to_be_bytes());
    Some(())
}

fn put_series(labels: &Labels, chunks: &[ChunkPlace], numbers: &BTreeMap<&str, u64>, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    varint::put(labels.len() as u64, &mut body);
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        varint::put(numbers.get(text).copied().unwrap_or_default(), &mut body);
    }
    varint::put(chunks.len() as u64, &mut body);
    let mut last: Option<&ChunkPlace> = None;
    for chunk in chunks {
        match last {
            None => varint::put_signed(chunk.min, &mut body),
            Some(last) => varint::put(chunk.min.wrapping_sub(last.max) as u64, &mut body),
        }
        varint::put(chunk.max.wrapping_sub(chunk.min) as u64, &mut body);
        match last {
            None => varint::put(chunk.place, &mut body),
            Some(last) => varint::put_signed(chunk.place.wrapping_sub(last.place) as i64, &mut body),
        }
        last = Some(chunk);
    }
    varint::put(body.len() as u64, out);
    out.extend_from_slice(&body);
    out.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
}
