//! Families packed into bytes: what a group keeps in memory and what its files hold (`docs/format/pushgateway.md`).
//!
//! Texts are a varint length and UTF-8; numbers that may be anything are 8 bytes, little end first. A family is a
//! delimited protobuf message, so that nothing of a push is lost and upstream's files need no translation.

use exposition::{Escaping, Family, Format};

/// Bytes that are no packed families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the packed form is damaged")]
pub(crate) struct Corrupt;

type Take<T> = Result<T, Corrupt>;

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

pub(crate) fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn take_varint(from: &mut &[u8]) -> Take<u64> {
    let mut value = 0u64;
    for (i, byte) in from.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * i as u32).unwrap_or(0);
        if byte & 0x80 == 0 {
            *from = &from[i + 1..];
            return Ok(value);
        }
    }
    Err(Corrupt)
}

pub(crate) fn take_bytes<'a>(from: &mut &'a [u8]) -> Take<&'a [u8]> {
    let length = usize::try_from(take_varint(from)?).map_err(|_| Corrupt)?;
    let (bytes, rest) = from.split_at_checked(length).ok_or(Corrupt)?;
    *from = rest;
    Ok(bytes)
}

pub(crate) fn take_text<'a>(from: &mut &'a [u8]) -> Take<&'a str> {
    std::str::from_utf8(take_bytes(from)?).map_err(|_| Corrupt)
}

pub(crate) fn take_u8(from: &mut &[u8]) -> Take<u8> {
    let (byte, rest) = from.split_first().ok_or(Corrupt)?;
    *from = rest;
    Ok(*byte)
}

pub(crate) fn take_i64(from: &mut &[u8]) -> Take<i64> {
    let (bytes, rest) = from.split_first_chunk::<8>().ok_or(Corrupt)?;
    *from = rest;
    Ok(i64::from_le_bytes(*bytes))
}

/// Appends one family: a delimited `MetricFamily` message, as in the protobuf exposition format.
pub(crate) fn put_family(out: &mut Vec<u8>, family: &Family) {
    exposition::write(std::slice::from_ref(family), Format::Protobuf, Escaping::AllowUtf8, out);
}

/// The name in a packed family, which is the first field of its message.
fn name_of(mut family: &[u8]) -> Take<&str> {
    let mut message = take_bytes(&mut family)?;
    match take_u8(&mut message)? {
        0x0a => take_text(&mut message),
        _ => Err(Corrupt),
    }
}

/// The family in `from`, which holds one.
///
/// # Errors
/// [`Corrupt`].
pub(crate) fn take_family(from: &[u8]) -> Take<Family> {
    let mut families = exposition::families::parse_protobuf(from).map_err(|_| Corrupt)?;
    if families.len() > 1 { Err(Corrupt) } else { families.pop().ok_or(Corrupt) }
}

/// A family as a group keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored<'a> {
    /// Name, again inside `bytes`.
    pub(crate) name: &'a str,
    /// When it was pushed, in milliseconds since 1970.
    pub(crate) at: i64,
    /// The packed family.
    pub(crate) bytes: &'a [u8],
}

impl Stored<'_> {
    pub(crate) fn family(&self) -> Take<Family> {
        take_family(self.bytes)
    }
}

/// Appends a family with its time.
pub(crate) fn put_stored(out: &mut Vec<u8>, at: i64, family: &[u8]) {
    put_i64(out, at);
    put_bytes(out, family);
}

/// The families of a group in order of their names.
pub(crate) fn stored(bytes: &[u8]) -> impl Iterator<Item = Stored<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let at = take_i64(&mut rest).ok()?;
        let bytes = take_bytes(&mut rest).ok()?;
        let name = name_of(bytes).ok()?;
        Some(Stored { name, at, bytes })
    })
}

/// Whether bytes from a file are families of a group, whole and in order.
pub(crate) fn check_stored(bytes: &[u8]) -> Take<()> {
    let (mut rest, mut last) = (bytes, None::<&str>);
    while !rest.is_empty() {
        take_i64(&mut rest)?;
        let family = take_bytes(&mut rest)?;
        let name = name_of(family)?;
        take_family(family)?;
        if last.is_some_and(|last| last >= name) {
            return Err(Corrupt);
        }
        last = Some(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families() -> Vec<Family> {
        let text = "# HELP h help\n# TYPE h histogram\nh_bucket{a=\"1\",le=\"0.5\"} 2\nh_bucket{a=\"1\",le=\"+Inf\"} 3\n\
                    h_sum{a=\"1\"} 1.5\nh_count{a=\"1\"} 3\n# TYPE c counter\nc 7\nc{x=\"é\",y=\"\"} -0\nu +Inf\n# TYPE s \
                    summary\ns{quantile=\"0.5\"} 1\ns_sum 2\ns_count 3\n# TYPE g gauge\ng 1e300\n";
        exposition::families::parse_text(text.as_bytes()).expect("valid")
    }

    #[test]
    fn families_survive() {
        for family in families() {
            let mut out = Vec::new();
            put_family(&mut out, &family);
            assert_eq!(name_of(&out), Ok(family.name.as_str()));
            assert_eq!(take_family(&out), Ok(family));
        }
    }

    #[test]
    fn any_bytes_are_read_without_harm() {
        let mut whole = Vec::new();
        for family in families() {
            let mut out = Vec::new();
            put_family(&mut out, &family);
            put_stored(&mut whole, 5, &out);
        }
        for cut in 0..whole.len() {
            let _ = check_stored(&whole[..cut]);
            let mut broken = whole.clone();
            broken[cut] ^= 0xff;
            let _ = check_stored(&broken);
            stored(&broken).for_each(|stored| drop(stored.family()));
        }
    }
}
