//! Lower and upper case as Go's `strings` package maps them: each character to one character, whatever stands around
//! it. The standard library's own mapping lets `ß` grow to `SS` and looks at what follows a sigma.

/// Go's `strings.ToLower`.
pub(crate) fn lower(text: &str) -> String {
    text.chars().map(|c| single(c, c.to_lowercase())).collect()
}

/// Go's `strings.ToUpper`.
pub(crate) fn upper(text: &str) -> String {
    text.chars().map(|c| single(c, c.to_uppercase())).collect()
}

/// Of a mapping to several characters, the simple one that Unicode gives beside it.
fn single(c: char, mut mapped: impl ExactSizeIterator<Item = char>) -> char {
    match (mapped.len(), c) {
        (1, _) => mapped.next().unwrap_or(c),
        (_, '\u{130}') => 'i',
        // Greek with an iota below goes to the form with an iota beside.
        (_, '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}') => {
            char::from_u32(c as u32 + 8).unwrap_or(c)
        }
        (_, '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}') => char::from_u32(c as u32 + 9).unwrap_or(c),
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_maps_to_one() {
        for (text, low, high) in [
            ("aZ9-", "az9-", "AZ9-"),
            ("ΟΔΟΣ", "οδοσ", "ΟΔΟΣ"),
            ("straße ŉ ǰ", "straße ŉ ǰ", "STRAßE ŉ ǰ"),
            ("\u{130}\u{131}", "i\u{131}", "\u{130}I"),
            ("\u{1c5}", "\u{1c6}", "\u{1c4}"),
            (
                "\u{1f80}\u{1f97}\u{1fa3}\u{1fb3}\u{1fc3}\u{1ff3}",
                "\u{1f80}\u{1f97}\u{1fa3}\u{1fb3}\u{1fc3}\u{1ff3}",
                "\u{1f88}\u{1f9f}\u{1fab}\u{1fbc}\u{1fcc}\u{1ffc}",
            ),
            ("\u{1f88}\u{1fbc}", "\u{1f80}\u{1fb3}", "\u{1f88}\u{1fbc}"),
            ("\u{fb03}\u{1fb6}\u{587}", "\u{fb03}\u{1fb6}\u{587}", "\u{fb03}\u{1fb6}\u{587}"),
        ] {
            assert_eq!((lower(text).as_str(), upper(text).as_str()), (low, high), "{text}");
        }
    }
}
