//! Columns of floats, by the form that fits: one value, decimals as whole numbers, those a few last places off, or
//! changed bits; and by what a column before it in the same group already says.
//!
//! Most measured values are decimals that someone printed: `m / 10^e` or `m × 10^-e`. Sums of such values are a few units
//! in the last place (ulp) off one; that distance is a second column of small numbers. Values that fit no form of their
//! column (NaN, stale markers) are listed apart. A form is used for a value only when it gives back the same bits.
//!
//! Neighbours often move together: the buckets of a histogram, what is received and what is sent on a loopback. A column
//! may name one before it, and then holds only how its steps differ from that one's. What is named names nothing itself,
//! so that reading one column reads two at most.

use crate::{
    Damaged,
    bits::{Reader, Sink, Writer},
    ints, pack, varint,
};
use std::collections::VecDeque;

/// The kinds of columns; the numbers are part of the format.
const CONST_BITS: u8 = 0;
const CONST_DECIMAL: u8 = 1;
const XOR: u8 = 2;
/// Decimals, with the form in the lowest two bits and what follows in the next.
const DECIMALS: u8 = 0x80;
const HAS_EXCEPTIONS: u8 = 4;
const HAS_REFERENCE: u8 = 8;
const HAS_STEP: u8 = 16;
const HAS_EXPONENT: u8 = 32;

/// The forms of decimals.
const DIVIDED: u8 = 0;
const MULTIPLIED: u8 = 1;
const DIVIDED_ULP: u8 = 2;

const POWERS: [f64; 16] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
const INVERSES: [f64; 16] =
    [1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 1e-15];
/// Whole numbers beyond this are not exact.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// Distances in last places beyond this cost more than they save.
const ULP_MAX: i64 = 128;
/// Columns before one that it may name.
const REFERENCES: usize = 24;
/// Shorter columns name none: it would not pay.
const REFERENCE_VALUES_MIN: usize = 16;
/// What a reference must save, in bits of [`ints::cost`].
const REFERENCE_BITS: u64 = 24;

/// Writes the columns of a group, one after the other.
#[derive(Debug, Default)]
pub struct Encoder {
    /// The columns that may be named: their places and steps.
    recent: VecDeque<(usize, Vec<i64>)>,
    /// How many columns there were.
    count: usize,
}

impl Encoder {
    /// Appends a column; its length is not part of it. O(values × forms tried and references).
    pub fn put(&mut self, values: &[f64], out: &mut Vec<u8>) {
        self.count += 1;
        let Some(first) = values.first() else { return };
        if values.iter().all(|value| value.to_bits() == first.to_bits()) {
            return put_const(*first, out);
        }
        let xor = xor(values);
        for form in [DIVIDED, MULTIPLIED, DIVIDED_ULP] {
            // The plainest form that fits is also the smallest.
            let Some(column) = Decimals::find(values, form) else { continue };
            let mut bytes = Vec::new();
            let steps = column.put(self, &mut bytes);
            if bytes.len() >= xor.len() {
                continue;
            }
            out.extend_from_slice(&bytes);
            if let Some(steps) = steps {
                self.recent.push_front((self.count - 1, steps));
                self.recent.truncate(REFERENCES);
            }
            return;
        }
        out.extend_from_slice(&xor);
    }

    /// The column before whose steps are most like these, if that pays: how far before, and what is left.
    fn reference(&self, steps: &[i64], cost: u64) -> Option<(usize, Vec<i64>)> {
        if steps.len() < REFERENCE_VALUES_MIN {
            return None;
        }
        let mut least = cost.checked_sub(REFERENCE_BITS)?;
        let mut best = None;
        for (place, other) in self.recent.iter().filter(|(_, other)| other.len() == steps.len()) {
            let mut cost = 0;
            // Most others are no match, which their first steps tell.
            let pays = steps.chunks(64).zip(other.chunks(64)).all(|(steps, other)| {
                cost += steps.iter().zip(other).map(|(a, b)| ints::bits(a.wrapping_sub(*b))).sum::<u64>();
                cost < least
            });
            if pays {
                (least, best) = (cost, Some((*place, other)));
            }
        }
        let (place, other) = best?;
        Some((self.count - 1 - place, steps.iter().zip(other).map(|(a, b)| a.wrapping_sub(*b)).collect()))
    }
}

/// Reads the columns of a group, in any order; each is decoded only when it is asked for.
#[derive(Debug)]
pub struct Decoder<'a> {
    columns: Vec<&'a [u8]>,
    /// The steps of columns that others named.
    steps: Vec<Option<Vec<i64>>>,
}

impl<'a> Decoder<'a> {
    /// The columns in the order in which they were written.
    pub fn new(columns: Vec<&'a [u8]>) -> Self {
        let steps = vec![None; columns.len()];
        Self { columns, steps }
    }

    /// Appends the `count` values of a column.
    ///
    /// # Errors
    /// [`Damaged`], also when bytes are left over.
    pub fn take(&mut self, place: usize, count: usize, values: &mut Vec<f64>) -> Result<(), Damaged> {
        let mut bytes = *self.columns.get(place).ok_or(Damaged)?;
        let bytes = &mut bytes;
        if count > 0 {
            match varint::take_bytes(bytes, 1)?[0] {
                CONST_BITS => values.resize(values.len() + count, take_bits(bytes)?),
                CONST_DECIMAL => {
                    let exponent = usize::from(varint::take_bytes(bytes, 1)?[0]);
                    let value = varint::take_signed(bytes)? as f64 / POWERS.get(exponent).ok_or(Damaged)?;
                    values.resize(values.len() + count, value);
                }
                XOR => take_xor(bytes, count, values)?,
                flags if flags & DECIMALS != 0 => self.take_decimals(place, flags, bytes, count, values)?,
                _ => return Err(Damaged),
            }
        }
        if bytes.is_empty() { Ok(()) } else { Err(Damaged) }
    }

    fn take_decimals(
        &mut self,
        place: usize,
        flags: u8,
        bytes: &mut &[u8],
        count: usize,
        values: &mut Vec<f64>,
    ) -> Result<(), Damaged> {
        let header = Header::take(flags, bytes, count)?;
        let mut wholes = match header.reference {
            0 => ints::take(bytes, count)?,
            distance => {
                let other = place.checked_sub(distance).ok_or(Damaged)?;
                let rest = pack::take(bytes, count - 1)?;
                let steps = self.steps(other, count)?;
                let mut last = 0_i64;
                let sums = rest.iter().zip(steps).map(|(a, b)| {
                    last = last.wrapping_add(a.wrapping_add(*b));
                    last
                });
                std::iter::once(0).chain(sums).collect()
            }
        };
        if header.step != 1 || header.base != 0 {
            for whole in &mut wholes {
                *whole = whole.wrapping_mul(header.step).wrapping_add(header.base);
            }
        }
        let from = values.len();
        match (header.form, header.exponent) {
            (_, 0) => values.extend(wholes.iter().map(|whole| *whole as f64)),
            (MULTIPLIED, exponent) => values.extend(wholes.iter().map(|whole| *whole as f64 * INVERSES[exponent])),
            (_, exponent) => values.extend(wholes.iter().map(|whole| *whole as f64 / POWERS[exponent])),
        }
        if header.form == DIVIDED_ULP {
            for (value, ulps) in values[from..].iter_mut().zip(ints::take(bytes, count)?) {
                *value = f64::from_bits((value.to_bits() as i64).wrapping_add(ulps) as u64);
            }
        }
        for (place, value) in header.exceptions {
            *values[from..].get_mut(place).ok_or(Damaged)? = value;
        }
        Ok(())
    }

    /// How the whole numbers of a column go on, from the first to the last; kept for the next that asks.
    fn steps(&mut self, place: usize, count: usize) -> Result<&[i64], Damaged> {
        let mut bytes = *self.columns.get(place).ok_or(Damaged)?;
        let have = self.steps.get_mut(place).ok_or(Damaged)?;
        if have.as_ref().is_none_or(|steps| steps.len() + 1 != count) {
            let flags = varint::take_bytes(&mut bytes, 1)?[0];
            if flags & DECIMALS == 0 || flags & HAS_REFERENCE != 0 {
                return Err(Damaged);
            }
            Header::take(flags, &mut bytes, count)?;
            let wholes = ints::take(&mut bytes, count)?;
            *have = Some(wholes.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect());
        }
        have.as_deref().ok_or(Damaged)
    }
}

fn put_const(value: f64, out: &mut Vec<u8>) {
    let decimal = (0..POWERS.len()).find_map(|exponent| Some((exponent, whole_of(DIVIDED, exponent, value)?.0)));
    match decimal {
        Some((exponent, whole)) => {
            out.extend([CONST_DECIMAL, exponent as u8]);
            varint::put_signed(whole, out);
        }
        None => {
            out.push(CONST_BITS);
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
    }
}

fn take_bits(bytes: &mut &[u8]) -> Result<f64, Damaged> {
    let bits = varint::take_bytes(bytes, 8)?.try_into().map_err(|_| Damaged)?;
    Ok(f64::from_bits(u64::from_le_bytes(bits)))
}

/// What comes before the numbers of a column of decimals.
struct Header {
    form: u8,
    exponent: usize,
    exceptions: Vec<(usize, f64)>,
    base: i64,
    step: i64,
    /// How many places before is the column that this one names; 0 for none.
    reference: usize,
}

impl Header {
    fn take(flags: u8, bytes: &mut &[u8], count: usize) -> Result<Self, Damaged> {
        let form = flags & 3;
        let exponent = if flags & HAS_EXPONENT == 0 { 0 } else { usize::from(varint::take_bytes(bytes, 1)?[0]) };
        if form > DIVIDED_ULP || exponent >= POWERS.len() {
            return Err(Damaged);
        }
        let mut exceptions = Vec::new();
        if flags & HAS_EXCEPTIONS != 0 {
            let mut last = 0;
            for _ in 0..varint::take_count(bytes, count)? {
                last += varint::take_count(bytes, count)?;
                exceptions.push((last, take_bits(bytes)?));
            }
        }
        let base = varint::take_signed(bytes)?;
        let step = if flags & HAS_STEP == 0 { 1 } else { varint::take(bytes)? as i64 };
        let reference = if flags & HAS_REFERENCE == 0 { 0 } else { varint::take_count(bytes, usize::MAX)? };
        Ok(Self { form, exponent, exceptions, base, step, reference })
    }
}

/// A column on its way into a decimal form.
struct Decimals {
    form: u8,
    exponent: usize,
    wholes: Vec<i64>,
    ulps: Vec<i64>,
    exceptions: Vec<(usize, u64)>,
}

/// The value that a whole number stands for.
fn value_of(form: u8, exponent: usize, whole: i64) -> f64 {
    if form == MULTIPLIED { whole as f64 * INVERSES[exponent] } else { whole as f64 / POWERS[exponent] }
}

/// The whole number behind a value, and how many last places they are apart.
fn whole_of(form: u8, exponent: usize, value: f64) -> Option<(i64, i64)> {
    let scaled = (value * POWERS[exponent]).round();
    if scaled.is_nan() || scaled.abs() > WHOLE_MAX {
        return None;
    }
    let whole = scaled as i64;
    let near = value_of(form, exponent, whole);
    let ulps = (value.to_bits() as i64).wrapping_sub(near.to_bits() as i64);
    let allowed = if form == DIVIDED_ULP { ulps.unsigned_abs() <= ULP_MAX as u64 } else { ulps == 0 };
    allowed.then_some((whole, ulps))
}

impl Decimals {
    /// The column in a form, if few enough values are exceptions.
    fn find(values: &[f64], form: u8) -> Option<Self> {
        let allowed = values.len() / 16 + 1;
        let mut exponent = 0;
        loop {
            let fit = |value: &&f64| whole_of(form, exponent, **value).is_none();
            // Few samples tell most exponents apart; only one that passes them is tried on all.
            if values.iter().step_by(values.len().div_ceil(16)).filter(fit).count() <= allowed.min(2)
                && let Some(column) = Self::with(values, form, exponent, allowed)
            {
                return Some(column);
            }
            exponent += 1;
            if exponent == POWERS.len() {
                return None;
            }
        }
    }

    fn with(values: &[f64], form: u8, exponent: usize, allowed: usize) -> Option<Self> {
        let mut column =
            Self { form, exponent, wholes: Vec::with_capacity(values.len()), ulps: Vec::new(), exceptions: Vec::new() };
        for (place, value) in values.iter().enumerate() {
            match whole_of(form, exponent, *value) {
                Some((whole, ulps)) => {
                    column.wholes.push(whole);
                    column.ulps.push(ulps);
                }
                None => {
                    if column.exceptions.len() == allowed {
                        return None;
                    }
                    column.exceptions.push((place, value.to_bits()));
                    column.wholes.push(column.guess());
                    column.ulps.push(0);
                }
            }
        }
        Some(column)
    }

    /// What an even course would bring next, so that an exception costs no bits in the column itself.
    fn guess(&self) -> i64 {
        match self.wholes.as_slice() {
            [.., before, last] => last + (last - before),
            [last] => *last,
            [] => 0,
        }
    }

    /// Appends the column; answers its steps when others may name it.
    fn put(&self, group: &Encoder, out: &mut Vec<u8>) -> Option<Vec<i64>> {
        let (base, step) = scale(&self.wholes);
        let scaled: Vec<i64> =
            self.wholes.iter().map(|whole| (whole - base) / i64::try_from(step).unwrap_or(1)).collect();
        let plan = ints::Column::plan(&scaled);
        let steps: Vec<i64> = scaled.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let reference = group.reference(&steps, plan.cost);
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        out.push(
            DECIMALS
                | self.form
                | flag(!self.exceptions.is_empty(), HAS_EXCEPTIONS)
                | flag(reference.is_some(), HAS_REFERENCE)
                | flag(step != 1, HAS_STEP)
                | flag(self.exponent != 0, HAS_EXPONENT),
        );
        if self.exponent != 0 {
            out.push(self.exponent as u8);
        }
        if !self.exceptions.is_empty() {
            varint::put(self.exceptions.len() as u64, out);
        }
        let mut last = 0;
        for (place, bits) in &self.exceptions {
            varint::put((place - last) as u64, out);
            out.extend_from_slice(&bits.to_le_bytes());
            last = *place;
        }
        varint::put_signed(base, out);
        if step != 1 {
            varint::put(step, out);
        }
        match &reference {
            Some((distance, rest)) => {
                varint::put(*distance as u64, out);
                pack::put(rest, out);
            }
            None => plan.put(out),
        }
        if self.form == DIVIDED_ULP {
            ints::put(&self.ulps, out);
        }
        reference.is_none().then_some(steps)
    }
}

/// The first number, and the greatest common divisor of all distances from it: kilobytes and pages count in steps.
fn scale(wholes: &[i64]) -> (i64, u64) {
    let base = wholes.first().copied().unwrap_or_default();
    let mut step = 0;
    for whole in wholes {
        let (mut a, mut b) = (step, (whole - base).unsigned_abs());
        while b > 0 {
            (a, b) = (b, a % b);
        }
        step = a;
        if step == 1 {
            break;
        }
    }
    (base, step.max(1))
}

fn xor(values: &[f64]) -> Vec<u8> {
    let mut writer = Writer::default();
    let (mut last, mut leading, mut width) = (0_u64, 0, 0);
    for value in values {
        let xor = value.to_bits() ^ last;
        last = value.to_bits();
        if xor == 0 {
            writer.put(0, 1);
            continue;
        }
        let (zeros, tail) = (xor.leading_zeros().min(31), xor.trailing_zeros());
        if width > 0 && zeros >= leading && tail >= 64 - leading - width {
            writer.put(0b10, 2);
        } else {
            (leading, width) = (zeros, 64 - zeros - tail);
            writer.put(0b11, 2);
            writer.put(u64::from(leading), 5);
            writer.put(u64::from(width) - 1, 6);
        }
        writer.put(xor >> (64 - leading - width), width);
    }
    let mut out = vec![XOR];
    varint::put(writer.bytes.len() as u64, &mut out);
    out.extend_from_slice(&writer.bytes);
    out
}

fn take_xor(bytes: &mut &[u8], count: usize, values: &mut Vec<f64>) -> Result<(), Damaged> {
    let length = varint::take_length(bytes)?;
    let mut reader = Reader::new(varint::take_bytes(bytes, length)?);
    // A value has a bit at least.
    values.reserve(count.min(length.saturating_mul(8)));
    let (mut last, mut leading, mut width) = (0_u64, 0_u32, 0_u32);
    for _ in 0..count {
        if reader.bit()? {
            if reader.bit()? {
                leading = reader.take(5)? as u32;
                width = reader.take(6)? as u32 + 1;
            }
            let shift = 64_u32.checked_sub(leading + width).filter(|_| width > 0).ok_or(Damaged)?;
            last ^= reader.take(width)? << shift;
        }
        values.push(f64::from_bits(last));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::Rng;

    /// Bytes of a column, which must come back bit for bit.
    fn check(values: &[f64]) -> Vec<u8> {
        check_group(&[values.to_vec()]).remove(0)
    }

    /// Bytes of the columns of a group, which must come back bit for bit, one at a time and last first.
    fn check_group(group: &[Vec<f64>]) -> Vec<Vec<u8>> {
        let mut encoder = Encoder::default();
        let put = |values: &Vec<f64>| {
            let mut out = Vec::new();
            encoder.put(values, &mut out);
            out
        };
        let columns: Vec<Vec<u8>> = group.iter().map(put).collect();
        let mut decoder = Decoder::new(columns.iter().map(Vec::as_slice).collect());
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        for (place, values) in group.iter().enumerate().rev() {
            let mut found = Vec::new();
            decoder.take(place, values.len(), &mut found).expect("decodes");
            assert_eq!(bits(&found), bits(values));
        }
        columns
    }

    /// Kind, and form if it has one.
    fn form(values: &[f64]) -> u8 {
        check(values)[0] & (DECIMALS | 3)
    }

    #[test]
    fn each_kind_of_column_takes_its_form() {
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        assert_eq!(form(&[stale; 10]), CONST_BITS);
        assert_eq!(check(&[-0.0; 10]).len(), 9);
        assert_eq!(check(&[0.25; 10]), [CONST_DECIMAL, 2, 50]);
        assert_eq!(form(&(0..480).map(|i| f64::from(i) / 100.0).collect::<Vec<_>>()), DECIMALS | DIVIDED);
        assert_eq!(
            form(&(0..480).map(|i| f64::from(i * 7919 % 100_000) * 0.001).collect::<Vec<_>>()),
            DECIMALS | MULTIPLIED
        );
        let mut sum = 0.0;
        let sums: Vec<f64> = (0..480)
            .map(|i| {
                sum += f64::from(i % 7) * 0.01;
                sum
            })
            .collect();
        assert_eq!(form(&sums), DECIMALS | DIVIDED_ULP);
        assert_eq!(
            form(&(1..480).map(|i| f64::from_bits(u64::wrapping_mul(i, 0x9e37_79b9_7f4a_7c15))).collect::<Vec<_>>()),
            XOR
        );
        let pages: Vec<f64> = (0..480).map(|i| f64::from(i * i % 1000) * 4096.0).collect();
        assert!(check(&pages).len() < 480 * 10 / 8 + 60, "what counts in pages is divided by their size");
    }

    #[test]
    fn what_does_not_fit_is_listed_apart() {
        let mut values: Vec<f64> = (0..480).map(f64::from).collect();
        let plain = check(&values).len();
        values[479] = f64::from_bits(0x7ff0_0000_0000_0002);
        values[3] = f64::NAN;
        assert!(check(&values).len() < plain + 100);
        check(&[-0.0, 0.0, 1.0]);
        check(&[f64::INFINITY, 1.0, f64::NEG_INFINITY, 1e300, 5e-324]);
        check(&[]);
    }

    #[test]
    fn what_moves_as_another_column_costs_little() {
        let mut rng = Rng::new(1);
        let noise: Vec<f64> = (0..480).map(|_| rng.below(1000) as f64).collect();
        let sums: Vec<f64> = noise
            .iter()
            .scan(0.0, |sum, step| {
                *sum += step;
                Some(*sum)
            })
            .collect();
        let behind: Vec<f64> = sums.iter().map(|sum| sum * 3.0 + 17.0).collect();
        let [first, flat, second] = check_group(&[sums, vec![1.0; 480], behind]).try_into().expect("three");
        assert!(first.len() > 500 && flat.len() < 10 && second.len() < 10, "{} and {}", first.len(), second.len());
    }

    #[test]
    fn the_examples_of_the_page() {
        let page = include_str!("../../../docs/format/part.md");
        let (_, page) = page.split_once("\nValue columns (").expect("columns");
        let (page, _) = page.split_once("\n# ").expect("an end");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
        let columns: Vec<(Vec<u8>, Vec<f64>)> = rows
            .map(|row| {
                let (hex, values) = row.split_once("` | ").expect("two cells");
                let byte = |byte| u8::from_str_radix(byte, 16).expect("hexadecimal");
                let value = |value: &str| value.parse().expect("a number");
                (hex.split(' ').map(byte).collect(), values.trim_end_matches(" |").split(' ').map(value).collect())
            })
            .collect();
        assert_eq!(columns.len(), 4);
        let mut decoder = Decoder::new(columns.iter().map(|(bytes, _)| bytes.as_slice()).collect());
        for (place, (bytes, values)) in columns.iter().enumerate() {
            let mut found = Vec::new();
            assert_eq!(decoder.take(place, values.len(), &mut found), Ok(()), "{bytes:02x?}");
            assert_eq!(&found, values, "{bytes:02x?}");
        }
    }

    /// A column of one of the kinds that are met, with what is odd about floats here and there.
    fn column(rng: &mut Rng, length: usize, before: &[Vec<f64>]) -> Vec<f64> {
        const ODD: [u64; 8] = [
            0x7ff0_0000_0000_0002,
            0x7ff8_0000_0000_0001,
            0xfff8_0000_0000_0000,
            0x8000_0000_0000_0000,
            0x7ff0_0000_0000_0000,
            0x7fef_ffff_ffff_ffff,
            1,
            0x4340_0000_0000_0001,
        ];
        let (kind, mut value) = (rng.below(8), 0.0);
        let other = before.get(rng.below(before.len() + 1)).filter(|other| other.len() == length);
        (0..length)
            .map(|place| {
                value = match kind {
                    0 => rng.below(1000) as f64,
                    1 => rng.next_u64() as i64 as f64 / 1e6,
                    2 => value + rng.below(50) as f64 * 0.1,
                    3 if rng.chance(95) => rng.below(1 << 30) as f64,
                    4 => other.map_or(1.5, |other| other[place] * 4.0 + rng.below(2) as f64),
                    5 => rng.below(9) as f64 * 9e15,
                    6 => (place as f64) * 1e-3,
                    _ => f64::from_bits(rng.next_u64()),
                };
                if rng.chance(2) { f64::from_bits(ODD[rng.below(ODD.len())]) } else { value }
            })
            .collect()
    }

    #[test]
    fn random_groups_come_back() {
        for seed in 0..400 {
            let mut rng = Rng::new(seed);
            let length = rng.below(300);
            let mut group: Vec<Vec<f64>> = Vec::new();
            for _ in 0..rng.below(33) {
                let length = if rng.chance(80) { length } else { rng.below(300) };
                group.push(column(&mut rng, length, &group));
            }
            check_group(&group);
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused() {
        for seed in 0..20_000 {
            let mut rng = Rng::new(seed);
            let columns: Vec<Vec<u8>> = (0..3)
                .map(|_| {
                    let length = 1 + rng.below(60);
                    let mut bytes = rng.bytes(length);
                    bytes[0] = if rng.chance(30) { bytes[0] % 3 } else { bytes[0] | DECIMALS };
                    bytes
                })
                .collect();
            let mut decoder = Decoder::new(columns.iter().map(Vec::as_slice).collect());
            let count = rng.below(1000);
            for place in 0..4 {
                let mut values = Vec::new();
                if decoder.take(place, count, &mut values).is_ok() {
                    assert_eq!(values.len(), count);
                }
            }
        }
    }

    #[test]
    fn changed_bytes_are_decoded_or_refused() {
        let mut rng = Rng::new(3);
        let mut group: Vec<Vec<f64>> = Vec::new();
        for _ in 0..12 {
            group.push(column(&mut rng, 200, &group));
        }
        let columns = check_group(&group);
        for _ in 0..20_000 {
            let mut columns = columns.clone();
            let place = rng.below(columns.len());
            let byte = rng.below(columns[place].len().min(40));
            columns[place][byte] ^= 1 << rng.below(8);
            let mut decoder = Decoder::new(columns.iter().map(Vec::as_slice).collect());
            for place in 0..columns.len() {
                let _ = decoder.take(place, 200, &mut Vec::new());
            }
        }
    }
}
