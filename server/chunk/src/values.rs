//! A column of floats, by the form that fits: one value, decimals as whole numbers, those a few last places off, or
//! changed bits.
//!
//! Most measured values are decimals that someone printed: `m / 10^e` or `m × 10^-e`. Sums of such values are a few units
//! in the last place (ulp) off one; that distance is a second column of small numbers. Values that fit no form of their
//! column (NaN, stale markers) are listed apart. A form is used for a value only when it gives back the same bits.

use crate::{
    Damaged,
    bits::{Reader, Sink, Writer},
    ints, varint,
};

/// The forms; the numbers are part of the format.
const CONST: u8 = 0;
const DIVIDED: u8 = 1;
const MULTIPLIED: u8 = 2;
const DIVIDED_ULP: u8 = 3;
const XOR: u8 = 4;

const POWERS: [f64; 16] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
const INVERSES: [f64; 16] =
    [1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 1e-15];
/// Whole numbers beyond this are not exact.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// Distances in last places beyond this cost more than they save.
const ULP_MAX: i64 = 128;

/// Appends a column; its length is not part of it. O(values × forms tried).
pub fn put(values: &[f64], out: &mut Vec<u8>) {
    let Some(first) = values.first() else { return };
    if values.iter().all(|value| value.to_bits() == first.to_bits()) {
        out.push(CONST);
        return out.extend_from_slice(&first.to_bits().to_le_bytes());
    }
    let mut best = xor(values);
    for form in [DIVIDED, MULTIPLIED, DIVIDED_ULP] {
        if let Some(column) = Decimals::find(values, form)
            && column.len() < best.len()
        {
            best = column;
            // The plainest form that fits is also the smallest.
            break;
        }
    }
    out.extend_from_slice(&best);
}

/// Takes a column of `count` values off the front.
///
/// # Errors
/// [`Damaged`].
pub fn take(bytes: &mut &[u8], count: usize) -> Result<Vec<f64>, Damaged> {
    if count == 0 {
        return Ok(Vec::new());
    }
    match varint::take_bytes(bytes, 1)?[0] {
        CONST => {
            let bits = varint::take_bytes(bytes, 8)?.try_into().map_err(|_| Damaged)?;
            Ok(vec![f64::from_bits(u64::from_le_bytes(bits)); count])
        }
        form @ (DIVIDED | MULTIPLIED | DIVIDED_ULP) => Decimals::take(bytes, count, form),
        XOR => take_xor(bytes, count),
        _ => Err(Damaged),
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
    fn find(values: &[f64], form: u8) -> Option<Vec<u8>> {
        let allowed = values.len() / 16 + 1;
        let mut exponent = 0;
        loop {
            let fit = |value: &&f64| whole_of(form, exponent, **value).is_none();
            // Few samples tell most exponents apart; only one that passes them is tried on all.
            if values.iter().step_by(values.len().div_ceil(16)).filter(fit).count() <= allowed.min(2)
                && let Some(column) = Self::with(values, form, exponent, allowed)
            {
                return Some(column.bytes());
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

    fn bytes(&self) -> Vec<u8> {
        let mut out = vec![self.form, self.exponent as u8];
        varint::put(self.exceptions.len() as u64, &mut out);
        let mut last = 0;
        for (place, bits) in &self.exceptions {
            varint::put((place - last) as u64, &mut out);
            out.extend_from_slice(&bits.to_le_bytes());
            last = *place;
        }
        let (base, step) = scale(&self.wholes);
        varint::put_signed(base, &mut out);
        varint::put(step, &mut out);
        let scaled: Vec<i64> =
            self.wholes.iter().map(|whole| (whole - base) / i64::try_from(step).unwrap_or(1)).collect();
        ints::put(&scaled, &mut out);
        if self.form == DIVIDED_ULP {
            ints::put(&self.ulps, &mut out);
        }
        out
    }

    fn take(bytes: &mut &[u8], count: usize, form: u8) -> Result<Vec<f64>, Damaged> {
        let exponent = usize::from(varint::take_bytes(bytes, 1)?[0]);
        if exponent >= POWERS.len() {
            return Err(Damaged);
        }
        let mut exceptions = Vec::new();
        let mut last = 0;
        for _ in 0..varint::take_count(bytes, count)? {
            last += varint::take_count(bytes, count)?;
            let bits = varint::take_bytes(bytes, 8)?.try_into().map_err(|_| Damaged)?;
            exceptions.push((last, f64::from_bits(u64::from_le_bytes(bits))));
        }
        let (base, step) = (varint::take_signed(bytes)?, varint::take(bytes)? as i64);
        let scaled = ints::take(bytes, count)?;
        let whole = |scaled: i64| scaled.wrapping_mul(step).wrapping_add(base);
        let mut values: Vec<f64> = scaled.into_iter().map(|scaled| value_of(form, exponent, whole(scaled))).collect();
        if form == DIVIDED_ULP {
            for (value, ulps) in values.iter_mut().zip(ints::take(bytes, count)?) {
                *value = f64::from_bits((value.to_bits() as i64).wrapping_add(ulps) as u64);
            }
        }
        for (place, value) in exceptions {
            *values.get_mut(place).ok_or(Damaged)? = value;
        }
        Ok(values)
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

fn take_xor(bytes: &mut &[u8], count: usize) -> Result<Vec<f64>, Damaged> {
    let length = varint::take_length(bytes)?;
    let mut reader = Reader::new(varint::take_bytes(bytes, length)?);
    // A value has a bit at least.
    let mut values = Vec::with_capacity(count.min(length.saturating_mul(8)));
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
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::Rng;

    /// Bytes of a column, which must come back bit for bit.
    fn check(values: &[f64]) -> Vec<u8> {
        let mut out = Vec::new();
        put(values, &mut out);
        let mut rest = out.as_slice();
        let found = take(&mut rest, values.len()).expect("decodes");
        assert!(rest.is_empty());
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found), bits(values));
        out
    }

    fn form(values: &[f64]) -> u8 {
        check(values)[0]
    }

    #[test]
    fn each_kind_of_column_takes_its_form() {
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        assert_eq!(form(&[stale; 10]), CONST);
        assert_eq!(form(&(0..480).map(|i| f64::from(i) / 100.0).collect::<Vec<_>>()), DIVIDED);
        assert_eq!(form(&(0..480).map(|i| f64::from(i * 7919 % 100_000) * 0.001).collect::<Vec<_>>()), MULTIPLIED);
        let mut sum = 0.0;
        let sums: Vec<f64> = (0..480)
            .map(|i| {
                sum += f64::from(i % 7) * 0.01;
                sum
            })
            .collect();
        assert_eq!(form(&sums), DIVIDED_ULP);
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
    fn random_columns_come_back() {
        for seed in 0..3000 {
            let mut rng = Rng::new(seed);
            let kind = rng.below(5);
            let mut value = 0.0;
            let values: Vec<f64> = (0..rng.below(300))
                .map(|_| {
                    value = match kind {
                        0 => rng.below(1000) as f64,
                        1 => rng.next_u64() as i64 as f64 / 1e6,
                        2 => value + rng.below(50) as f64 * 0.1,
                        3 if rng.chance(95) => rng.below(1 << 30) as f64,
                        _ => f64::from_bits(rng.next_u64()),
                    };
                    value
                })
                .collect();
            check(&values);
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused() {
        for seed in 0..20_000 {
            let mut rng = Rng::new(seed);
            let length = 1 + rng.below(80);
            let mut bytes = rng.bytes(length);
            bytes[0] %= 6;
            let count = rng.below(1000);
            if let Ok(values) = take(&mut bytes.as_slice(), count) {
                assert_eq!(values.len(), count);
            }
        }
    }
}
