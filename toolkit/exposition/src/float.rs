//! Numbers as the exposition formats print and read them, which is as Go does.
//!
//! Printing: the shortest digits that read back equal, exponent form below 1e-4 and from 1e6 on. Reading: Go's
//! `ParseFloat` without the syntax newer than its version 1.13 (`0x1p4`, `1_000`). Nothing here allocates.

/// Appends `value` as the text format prints it. Both zeros are `0`, as in upstream's writer.
pub fn write_float(value: f64, out: &mut Vec<u8>) {
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if value.fract() == 0.0 && value.abs() < 1e6 {
        out.extend_from_slice(itoa::Buffer::new().format(value as i64).as_bytes());
    } else {
        write_digits(value, out);
    }
}

/// Appends `value` as OpenMetrics prints it: as [`write_float`], with `.0` where there is neither point nor exponent.
pub fn write_openmetrics_float(value: f64, out: &mut Vec<u8>) {
    let start = out.len();
    write_float(value, out);
    if value.is_finite() && !out[start..].iter().any(|byte| matches!(byte, b'.' | b'e')) {
        out.extend_from_slice(b".0");
    }
}

/// Lays out the shortest digits of a finite number other than zero.
fn write_digits(value: f64, out: &mut Vec<u8>) {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = [0u8; 32];
    let mut length = 0;
    for byte in whole.bytes().chain(fraction.bytes()).take(digits.len()) {
        digits[length] = byte;
        length += 1;
    }
    let zeros = digits[..length].iter().take_while(|byte| **byte == b'0').count();
    let end = length - digits[zeros..length].iter().rev().take_while(|byte| **byte == b'0').count();
    let digits = &digits[zeros..end];
    // The place of the point behind the first digit.
    let exponent = exponent.parse::<i32>().unwrap_or(0) + whole.len() as i32 - zeros as i32 - 1;
    if value < 0.0 {
        out.push(b'-');
    }
    if !(-4..6).contains(&exponent) {
        write_exponent(digits, exponent, out);
    } else if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
        out.extend_from_slice(digits);
    } else {
        let point = exponent as usize + 1;
        out.extend_from_slice(&digits[..point.min(digits.len())]);
        out.extend(std::iter::repeat_n(b'0', point.saturating_sub(digits.len())));
        if digits.len() > point {
            out.push(b'.');
            out.extend_from_slice(&digits[point..]);
        }
    }
}

fn write_exponent(digits: &[u8], exponent: i32, out: &mut Vec<u8>) {
    out.extend_from_slice(&digits[..1]);
    if digits.len() > 1 {
        out.push(b'.');
        out.extend_from_slice(&digits[1..]);
    }
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    if exponent.abs() < 10 {
        out.push(b'0');
    }
    out.extend_from_slice(itoa::Buffer::new().format(exponent.abs()).as_bytes());
}

/// Why a word is not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FloatError {
    /// It uses syntax that Go took before 1.13 did not know.
    Unsupported,
    /// It is none at all.
    Syntax,
    /// It is too large.
    Range,
}

impl FloatError {
    /// The text upstream's server shows.
    pub(crate) fn describe(self, word: &[u8]) -> String {
        let what = match self {
            Self::Unsupported => return "unsupported character in float".into(),
            Self::Syntax => "invalid syntax",
            Self::Range => "value out of range",
        };
        format!("strconv.ParseFloat: parsing {}: {what}", crate::text::quote(word))
    }
}

/// The one NaN that is stored; upstream calls it the normal NaN.
pub(crate) const NORMAL_NAN: u64 = 0x7ff8_0000_0000_0001;

/// Reads a number; every NaN becomes the same NaN. O(length).
pub(crate) fn parse_float(word: &[u8]) -> Result<f64, FloatError> {
    if let Ok(value) = fast_float2::parse::<f64, _>(word)
        && value.is_finite()
    {
        return Ok(value);
    }
    if word.iter().any(|byte| matches!(byte, b'p' | b'P' | b'_')) {
        return Err(FloatError::Unsupported);
    }
    let (negative, name) = match word.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, word),
    };
    if name.eq_ignore_ascii_case(b"inf") || name.eq_ignore_ascii_case(b"infinity") {
        return Ok(if negative { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    if word.eq_ignore_ascii_case(b"nan") {
        return Ok(f64::from_bits(NORMAL_NAN));
    }
    match fast_float2::parse::<f64, _>(word) {
        Ok(value) if value.is_infinite() => Err(FloatError::Range),
        _ => Err(FloatError::Syntax),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(print: fn(f64, &mut Vec<u8>), value: f64) -> String {
        let mut out = Vec::new();
        print(value, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn numbers_print_as_go_prints_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-17.0, "-17"),
            (123_456.0, "123456"),
            (100_000.5, "100000.5"),
            (999_999.0, "999999"),
            (1e6, "1e+06"),
            (-1_234_567.0, "-1.234567e+06"),
            (1e-4, "0.0001"),
            (0.000_123, "0.000123"),
            (1e-5, "1e-05"),
            (2.5e-300, "2.5e-300"),
            (1.795_352_678_413_860_8e9, "1.7953526784138608e+09"),
            (1e100, "1e+100"),
            (0.1, "0.1"),
            (-2.75, "-2.75"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(printed(write_float, value), text);
        }
        for (value, text) in [(1.0, "1.0"), (0.5, "0.5"), (1e6, "1e+06"), (-3.0, "-3.0"), (f64::INFINITY, "+Inf")] {
            assert_eq!(printed(write_openmetrics_float, value), text);
        }
    }

    #[test]
    fn what_is_printed_reads_back() {
        let mut rng = testkit::Rng::new(1);
        for _ in 0..20_000 {
            let bits = rng.next_u64();
            for value in [f64::from_bits(bits), (bits >> 40) as f64, (bits >> 44) as f64 / 1000.0] {
                if value.is_finite() {
                    assert_eq!(parse_float(printed(write_float, value).as_bytes()), Ok(value));
                }
            }
        }
    }

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (word, want) in [
            ("+Inf", Ok(f64::INFINITY)),
            ("-iNfinity", Ok(f64::NEG_INFINITY)),
            ("1.", Ok(1.0)),
            (".5", Ok(0.5)),
            ("+5", Ok(5.0)),
            ("1e-999", Ok(0.0)),
            ("1e999", Err(FloatError::Range)),
            ("+-inf", Err(FloatError::Syntax)),
            ("+nan", Err(FloatError::Syntax)),
            (".", Err(FloatError::Syntax)),
            ("", Err(FloatError::Syntax)),
            ("1e", Err(FloatError::Syntax)),
            ("0x1", Err(FloatError::Syntax)),
            ("0x1p3", Err(FloatError::Unsupported)),
            ("1_0", Err(FloatError::Unsupported)),
        ] {
            assert_eq!(parse_float(word.as_bytes()), want, "{word}");
        }
        assert_eq!(parse_float(b"NaN").map(f64::to_bits), Ok(NORMAL_NAN));
    }
}
