//! Numbers of samples as upstream's API prints them: the shortest digits that read back equal, an exponent below 1e-6 and
//! from 1e21 on. Nothing here allocates besides the text it appends to.

/// Appends a sample's value.
pub(crate) fn write(value: f64, out: &mut String) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
    if value.is_sign_negative() {
        out.push('-');
    }
    let size = value.abs();
    // Most samples are whole numbers.
    if size.fract() == 0.0 && size < 1e15 {
        return out.push_str(itoa::Buffer::new().format(size as u64));
    }
    let mut buffer = zmij::Buffer::new();
    let (mut digits, mut length) = ([0_u8; 32], 0);
    let text = buffer.format_finite(size);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    for byte in whole.bytes().chain(fraction.bytes()).take(digits.len()) {
        digits[length] = byte;
        length += 1;
    }
    let zeros = digits[..length].iter().take_while(|byte| **byte == b'0').count();
    let end = length - digits[zeros..length].iter().rev().take_while(|byte| **byte == b'0').count();
    let digits = std::str::from_utf8(&digits[zeros..end.max(zeros)]).unwrap_or_default();
    // The place of the point behind the first digit.
    let power = exponent.parse::<i32>().unwrap_or(0) + whole.len() as i32 - zeros as i32 - 1;
    if (1e-6..1e21).contains(&size) { plain(digits, power, out) } else { exponential(digits, power, out) }
}

fn plain(digits: &str, power: i32, out: &mut String) {
    const ZEROS: &str = "000000000000000000000000";
    if power < 0 {
        out.push_str("0.");
        out.push_str(&ZEROS[..(-power - 1) as usize]);
        return out.push_str(digits);
    }
    let point = power as usize + 1;
    match digits.split_at_checked(point).filter(|(_, fraction)| !fraction.is_empty()) {
        Some((whole, fraction)) => {
            out.push_str(whole);
            out.push('.');
            out.push_str(fraction);
        }
        None => {
            out.push_str(digits);
            out.push_str(&ZEROS[..point - digits.len()]);
        }
    }
}

fn exponential(digits: &str, power: i32, out: &mut String) {
    let (first, rest) = digits.split_at(1);
    out.push_str(first);
    if !rest.is_empty() {
        out.push('.');
        out.push_str(rest);
    }
    out.push_str(if power < 0 { "e-" } else { "e+" });
    if power.abs() < 10 {
        out.push('0');
    }
    out.push_str(itoa::Buffer::new().format(power.abs()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(value: f64) -> String {
        let mut out = String::new();
        write(value, &mut out);
        out
    }

    #[test]
    fn floats_print_as_upstream() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1e15, "-1000000000000000"),
            (0.1, "0.1"),
            (-12.75, "-12.75"),
            (123_456_789.125, "123456789.125"),
            (1e20, "100000000000000000000"),
            (1.5e20, "150000000000000000000"),
            (1e21, "1e+21"),
            (1e-6, "0.000001"),
            (1.25e-6, "0.00000125"),
            (1e-7, "1e-07"),
            (-2.5e-300, "-2.5e-300"),
            (1.797_693_134_862_315_7e308, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(printed(value), text);
        }
    }

    #[test]
    fn numbers_read_back_and_none_is_longer_than_need_be() {
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..50_000 {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            for value in
                [f64::from_bits(bits), (bits >> 20) as f64 / 1000.0, (bits >> 12) as f64, (bits >> 40) as f64 * 1e-9]
            {
                if !value.is_finite() {
                    continue;
                }
                let text = printed(value);
                assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(value.to_bits()), "{text}");
                if (1e-6..1e21).contains(&value.abs()) {
                    // Of two texts as near the even one is upstream's, not the standard library's.
                    assert_eq!(text.len(), value.to_string().len(), "{text}");
                }
            }
        }
    }
}
