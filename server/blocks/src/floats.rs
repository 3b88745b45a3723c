//! Upstream's chunks of floats: XOR (encoding 1), and XOR2 (encoding 4), which has start timestamps.
//!
//! Source: upstream's format page of chunks; encoding 4 as its code writes it, where page and code differ.

use crate::{
    bits::{Reader, Writer, Xor, fits, signed},
    chunks::Samples,
};
use chunk::Damaged;

/// Samples of a chunk that is written.
pub(crate) const SAMPLES: usize = 120;
/// The stale marker.
const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);
/// Prefixes and bits of changes of the step: `10`, `110`, `1110`, `1111`.
const STEPS: [u32; 4] = [14, 17, 20, 64];

/// Writes an XOR chunk without its length and checksum.
pub(crate) fn put_xor(times: &[i64], values: &[f64]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.put(times.len() as u64, 16);
    let (mut xor, mut last, mut step) = (Xor::default(), 0_i64, 0_i64);
    for (place, (time, value)) in times.iter().zip(values).enumerate() {
        let new = time.wrapping_sub(last);
        match place {
            0 => {
                writer.varint(*time);
                writer.put(value.to_bits(), 64);
                xor = Xor::new(*value);
            }
            1 => writer.uvarint(new as u64),
            _ => put_step(new.wrapping_sub(step), &mut writer),
        }
        if place > 0 {
            xor.put(*value, &mut writer);
            step = new;
        }
        last = *time;
    }
    writer.bytes
}

fn put_step(change: i64, writer: &mut Writer) {
    if change == 0 {
        return writer.put(0, 1);
    }
    for (class, bits) in STEPS.iter().enumerate() {
        if *bits == 64 || fits(change, *bits) {
            // Three ones and a zero, or four ones.
            let code = if *bits == 64 { 0b1111 } else { (1 << (class + 2)) - 2 };
            writer.put(code, if *bits == 64 { 4 } else { class as u32 + 2 });
            return writer.put(change as u64, *bits);
        }
    }
}

/// Appends the samples of an XOR chunk.
pub(crate) fn take_xor(bytes: &[u8], out: &mut Samples) -> Result<(), Damaged> {
    let mut reader = Reader::new(bytes);
    let count = reader.take(16)?;
    let (mut xor, mut time, mut step) = (Xor::default(), 0_i64, 0_i64);
    for place in 0..count {
        match place {
            0 => {
                time = reader.varint()?;
                xor = Xor::new(reader.float()?);
            }
            1 => step = reader.uvarint()? as i64,
            _ => {
                let ones = reader.ones(4)?;
                if ones > 0 {
                    let bits = STEPS[ones as usize - 1];
                    step = step.wrapping_add(signed(reader.take(bits)?, bits));
                }
            }
        }
        if place > 0 {
            time = time.wrapping_add(step);
            xor.take(&mut reader)?;
        }
        out.floats.push((time, xor.value()));
    }
    Ok(())
}

/// Appends the samples of an XOR2 chunk and their start timestamps.
pub(crate) fn take_xor2(bytes: &[u8], out: &mut Samples) -> Result<(), Damaged> {
    let mut reader = Reader::new(bytes);
    let (count, header) = (reader.take(16)?, reader.take(8)?);
    let first_change = header & 0x7f;
    let mut start = None;
    let (mut xor, mut time, mut step, mut ahead) = (Xor::default(), 0_i64, 0_i64, 0_i64);
    for place in 0..count {
        let before = time;
        let mut stale = false;
        match place {
            0 => {
                time = reader.varint()?;
                xor = Xor::new(reader.float()?);
                if header & 0x80 != 0 {
                    start = Some(time.wrapping_sub(reader.varint()?));
                }
            }
            1 => {
                step = reader.uvarint()? as i64;
                stale = take_value(&mut xor, &mut reader)?;
            }
            _ => stale = take_joint(&mut xor, &mut step, &mut reader)?,
        }
        if place > 0 {
            time = time.wrapping_add(step);
            // Every sample from the first change on says how far its start lies behind the sample before.
            if first_change > 0 && place >= first_change {
                ahead = ahead.wrapping_add(reader.varbit_int()?);
                start = Some(before.wrapping_sub(ahead));
            }
        }
        out.floats.push((time, if stale { STALE } else { xor.value() }));
        out.starts.extend(start.filter(|start| *start != 0).map(|start| (time, start)));
    }
    Ok(())
}

/// Changed bits, no change, or a stale marker, which is no base of what follows.
fn take_value(xor: &mut Xor, reader: &mut Reader<'_>) -> Result<bool, Damaged> {
    match reader.ones(3)? {
        0 => {}
        1 => xor.changed(false, reader)?,
        2 => xor.changed(true, reader)?,
        _ => return Ok(true),
    }
    Ok(false)
}

/// The prefix that says what is with step and value at once.
fn take_joint(xor: &mut Xor, step: &mut i64, reader: &mut Reader<'_>) -> Result<bool, Damaged> {
    let bits = match reader.ones(5)? {
        0 => return Ok(false),
        1 => {
            let new = reader.bit()?;
            xor.changed(new, reader)?;
            return Ok(false);
        }
        2 => 13,
        3 => 20,
        4 => 64,
        _ => return Ok(true),
    };
    let change = reader.take(bits)? << (64 - bits);
    *step = step.wrapping_add(change as i64 >> (64 - bits));
    take_value(xor, reader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::Rng;

    #[test]
    fn random_chunks_come_back() {
        for seed in 0..500 {
            let mut rng = Rng::new(seed);
            let (mut time, mut value) = (rng.next_u64() as i64 >> 20, 0.0);
            let samples: Vec<(i64, f64)> = (0..rng.below(200))
                .map(|_| {
                    time += [15_000, 15_001, 1, 70_000, 600_000, 1 << 40][rng.below(6)];
                    value = [value, value + 1.0, f64::from_bits(rng.next_u64())][rng.below(3)];
                    (time, value)
                })
                .collect();
            let (times, values): (Vec<i64>, Vec<f64>) = samples.iter().copied().unzip();
            let mut found = Samples::default();
            take_xor(&put_xor(&times, &values), &mut found).expect("decodes");
            let bits = |(at, value): &(i64, f64)| (*at, value.to_bits());
            assert!(found.floats.iter().map(bits).eq(samples.iter().map(bits)));
        }
    }

    #[test]
    fn the_second_kind_has_starts_and_stale_markers() {
        let mut writer = Writer::default();
        writer.put(6, 16);
        writer.put(0x80 | 3, 8);
        writer.varint(100_000);
        writer.put(1.5_f64.to_bits(), 64);
        writer.varint(40_000);
        writer.uvarint(15_000);
        writer.put(0, 1);
        writer.put(0, 1);
        // The third changes its step and start, the fourth is stale, the fifth has another value.
        writer.put(0b110, 3);
        writer.put(-5_i64 as u64 & 0x1fff, 13);
        writer.put(0, 1);
        writer.varbit_int(7);
        writer.put(0b11111, 5);
        writer.varbit_int(0);
        writer.put(0b10, 2);
        writer.put(1, 1);
        writer.put(0, 5);
        writer.put(0, 6);
        writer.put(1.5_f64.to_bits() ^ 2.5_f64.to_bits(), 64);
        writer.varbit_int(1);
        let mut found = Samples::default();
        take_xor2(&writer.bytes, &mut found).expect("decodes");
        let times: Vec<i64> = found.floats.iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [100_000, 115_000, 130_000, 144_995, 159_990, 174_985]);
        let values: Vec<f64> = found.floats.iter().map(|(_, value)| *value).collect();
        assert_eq!(values[..4], [1.5; 4]);
        assert_eq!((values[4].to_bits(), values[5]), (STALE.to_bits(), 2.5));
        let starts: Vec<i64> = found.starts.iter().map(|(_, start)| *start).collect();
        assert_eq!(starts, [60_000, 60_000, 60_000, 130_000 - 7, 144_995 - 7, 159_990 - 8]);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused() {
        for seed in 0..10_000 {
            let mut rng = Rng::new(seed);
            let length = rng.below(60);
            let mut bytes = rng.bytes(length);
            if let Some(first) = bytes.first_mut() {
                *first = 0;
            }
            let _ = take_xor(&bytes, &mut Samples::default());
            let _ = take_xor2(&bytes, &mut Samples::default());
        }
    }
}
