//! Unicode as Go's `unicode` package names it: general categories, their aliases, scripts, and simple case folding.
//!
//! The tables are those of regex-syntax, brought to Unicode 17 by `newer`. The names are Go's: since version 1.25 it ignores case, spaces, underscores
//! and hyphens, knows the long names of categories, and knows neither abbreviations of scripts nor other properties.

mod newer;

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind};

/// General categories: Go's name, then the long names.
const CATEGORIES: &[(&str, &[&str])] = &[
    ("c", &["other"]),
    ("cc", &["control", "cntrl"]),
    ("cf", &["format"]),
    ("cn", &["unassigned"]),
    ("co", &["privateuse"]),
    ("cs", &["surrogate"]),
    ("l", &["letter"]),
    ("lc", &["casedletter"]),
    ("ll", &["lowercaseletter"]),
    ("lm", &["modifierletter"]),
    ("lo", &["otherletter"]),
    ("lt", &["titlecaseletter"]),
    ("lu", &["uppercaseletter"]),
    ("m", &["mark", "combiningmark"]),
    ("mc", &["spacingmark"]),
    ("me", &["enclosingmark"]),
    ("mn", &["nonspacingmark"]),
    ("n", &["number"]),
    ("nd", &["decimalnumber", "digit"]),
    ("nl", &["letternumber"]),
    ("no", &["othernumber"]),
    ("p", &["punctuation", "punct"]),
    ("pc", &["connectorpunctuation"]),
    ("pd", &["dashpunctuation"]),
    ("pe", &["closepunctuation"]),
    ("pf", &["finalpunctuation"]),
    ("pi", &["initialpunctuation"]),
    ("po", &["otherpunctuation"]),
    ("ps", &["openpunctuation"]),
    ("s", &["symbol"]),
    ("sc", &["currencysymbol"]),
    ("sk", &["modifiersymbol"]),
    ("sm", &["mathsymbol"]),
    ("so", &["othersymbol"]),
    ("z", &["separator"]),
    ("zl", &["lineseparator"]),
    ("zp", &["paragraphseparator"]),
    ("zs", &["spaceseparator"]),
];

/// Scripts, as compared: lower case, nothing but letters.
const SCRIPTS: &[&str] = &[
    "adlam",
    "ahom",
    "anatolianhieroglyphs",
    "arabic",
    "armenian",
    "avestan",
    "balinese",
    "bamum",
    "bassavah",
    "batak",
    "bengali",
    "beriaerfe",
    "bhaiksuki",
    "bopomofo",
    "brahmi",
    "braille",
    "buginese",
    "buhid",
    "canadianaboriginal",
    "carian",
    "caucasianalbanian",
    "chakma",
    "cham",
    "cherokee",
    "chorasmian",
    "common",
    "coptic",
    "cuneiform",
    "cypriot",
    "cyprominoan",
    "cyrillic",
    "deseret",
    "devanagari",
    "divesakuru",
    "dogra",
    "duployan",
    "egyptianhieroglyphs",
    "elbasan",
    "elymaic",
    "ethiopic",
    "garay",
    "georgian",
    "glagolitic",
    "gothic",
    "grantha",
    "greek",
    "gujarati",
    "gunjalagondi",
    "gurmukhi",
    "gurungkhema",
    "han",
    "hangul",
    "hanifirohingya",
    "hanunoo",
    "hatran",
    "hebrew",
    "hiragana",
    "imperialaramaic",
    "inherited",
    "inscriptionalpahlavi",
    "inscriptionalparthian",
    "javanese",
    "kaithi",
    "kannada",
    "katakana",
    "kawi",
    "kayahli",
    "kharoshthi",
    "khitansmallscript",
    "khmer",
    "khojki",
    "khudawadi",
    "kiratrai",
    "lao",
    "latin",
    "lepcha",
    "limbu",
    "lineara",
    "linearb",
    "lisu",
    "lycian",
    "lydian",
    "mahajani",
    "makasar",
    "malayalam",
    "mandaic",
    "manichaean",
    "marchen",
    "masaramgondi",
    "medefaidrin",
    "meeteimayek",
    "mendekikakui",
    "meroiticcursive",
    "meroitichieroglyphs",
    "miao",
    "modi",
    "mongolian",
    "mro",
    "multani",
    "myanmar",
    "nabataean",
    "nagmundari",
    "nandinagari",
    "newa",
    "newtailue",
    "nko",
    "nushu",
    "nyiakengpuachuehmong",
    "ogham",
    "olchiki",
    "oldhungarian",
    "olditalic",
    "oldnortharabian",
    "oldpermic",
    "oldpersian",
    "oldsogdian",
    "oldsoutharabian",
    "oldturkic",
    "olduyghur",
    "olonal",
    "oriya",
    "osage",
    "osmanya",
    "pahawhhmong",
    "palmyrene",
    "paucinhau",
    "phagspa",
    "phoenician",
    "psalterpahlavi",
    "rejang",
    "runic",
    "samaritan",
    "saurashtra",
    "sharada",
    "shavian",
    "siddham",
    "sidetic",
    "signwriting",
    "sinhala",
    "sogdian",
    "sorasompeng",
    "soyombo",
    "sundanese",
    "sunuwar",
    "sylotinagri",
    "syriac",
    "tagalog",
    "tagbanwa",
    "taile",
    "taitham",
    "taiviet",
    "taiyo",
    "takri",
    "tamil",
    "tangsa",
    "tangut",
    "telugu",
    "thaana",
    "thai",
    "tibetan",
    "tifinagh",
    "tirhuta",
    "todhri",
    "tolongsiki",
    "toto",
    "tulutigalari",
    "ugaritic",
    "vai",
    "vithkuqi",
    "wancho",
    "warangciti",
    "yezidi",
    "yi",
    "zanabazarsquare",
];

/// Blocks that hold every character with more than one case, and few others: folding looks only here.
const CASED: &[(char, char)] = &[
    ('A', 'z'),
    ('\u{b5}', '\u{29e}'),
    ('\u{345}', '\u{586}'),
    ('\u{10a0}', '\u{10ff}'),
    ('\u{13a0}', '\u{13fd}'),
    ('\u{1c80}', '\u{1cbf}'),
    ('\u{1d79}', '\u{1d8e}'),
    ('\u{1e00}', '\u{1ffc}'),
    ('\u{2126}', '\u{2184}'),
    ('\u{24b6}', '\u{24e9}'),
    ('\u{2c00}', '\u{2d2d}'),
    ('\u{a640}', '\u{a69b}'),
    ('\u{a722}', '\u{a7f6}'),
    ('\u{ab53}', '\u{abbf}'),
    ('\u{fb05}', '\u{fb06}'),
    ('\u{ff21}', '\u{ff5a}'),
    ('\u{10400}', '\u{1044f}'),
    ('\u{104b0}', '\u{104fb}'),
    ('\u{10570}', '\u{105bc}'),
    ('\u{10c80}', '\u{10cf2}'),
    ('\u{10d50}', '\u{10d85}'),
    ('\u{118a0}', '\u{118df}'),
    ('\u{16e40}', '\u{16e7f}'),
    ('\u{1e900}', '\u{1e943}'),
];

/// The characters of a category, script, `Any`, `ASCII` or `Assigned`, with their other cases if `fold`.
pub(crate) fn class(name: &str, fold: bool) -> Option<ClassUnicode> {
    let key: String = name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).map(|c| c.to_ascii_lowercase()).collect();
    let category = CATEGORIES.iter().find(|(short, long)| *short == key || long.contains(&key.as_str()));
    let mut class = match (key.as_str(), category) {
        ("any", _) => ClassUnicode::new([ClassUnicodeRange::new('\0', char::MAX)]),
        ("ascii", _) => ClassUnicode::new([ClassUnicodeRange::new('\0', '\x7f')]),
        ("assigned", _) => {
            let mut class = in_category("cn");
            class.negate();
            class
        }
        (_, Some((short, _))) => in_category(short),
        (key, None) if SCRIPTS.binary_search(&key).is_ok() => in_script(key),
        _ => return None,
    };
    // Go has no table of other cases for LC, of whose characters only U+0345 would need one.
    if fold && !matches!(category, Some(("lc", _))) {
        self::fold(&mut class);
    }
    Some(class)
}

fn in_category(short: &str) -> ClassUnicode {
    let mut class = match short {
        // All of it is outside of what a text can hold.
        "cs" => ClassUnicode::empty(),
        short => table(&format!("gc={short}")),
    };
    newer::amend_category(short, &mut class);
    class
}

fn in_script(name: &str) -> ClassUnicode {
    let mut class = table(&format!("sc={name}"));
    newer::amend_script(name, &mut class);
    class
}

/// A table of regex-syntax, which gives them out through its parser alone; empty if there is none.
fn table(query: &str) -> ClassUnicode {
    match regex_syntax::parse(&format!(r"\p{{{query}}}")).map(Hir::into_kind) {
        Ok(HirKind::Class(Class::Unicode(class))) => class,
        Ok(HirKind::Class(Class::Bytes(class))) => class.to_unicode_class().unwrap_or_else(ClassUnicode::empty),
        // A set of one character becomes a literal.
        Ok(HirKind::Literal(literal)) => {
            let text = String::from_utf8_lossy(&literal.0);
            ClassUnicode::new(text.chars().map(|c| ClassUnicodeRange::new(c, c)))
        }
        _ => ClassUnicode::empty(),
    }
}

/// Adds to a set the other cases of its characters. O(ranges + characters that lie in [`CASED`]).
pub(crate) fn fold(class: &mut ClassUnicode) {
    let mut cased = ClassUnicode::new(CASED.iter().map(|(low, high)| ClassUnicodeRange::new(*low, *high)));
    cased.intersect(class);
    // It fails only when regex-syntax is built without its table, which a test would show.
    let _ = cased.try_case_fold_simple();
    newer::fold(class);
    class.union(&cased);
}

/// All cases of one character.
pub(crate) fn orbit(c: char) -> ClassUnicode {
    let one = |c| ClassUnicodeRange::new(c, c);
    if c.is_ascii() {
        let mut class = ClassUnicode::new([one(c.to_ascii_lowercase()), one(c.to_ascii_uppercase())]);
        match c {
            'k' | 'K' => class.push(one('\u{212a}')),
            's' | 'S' => class.push(one('\u{17f}')),
            _ => {}
        }
        return class;
    }
    let mut class = ClassUnicode::new([one(c)]);
    fold(&mut class);
    class
}

/// A test of single characters for Go's `IsLetter` or `IsDigit`, which decide where a name in a template ends.
pub(crate) fn is_letter_or_digit(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric();
    }
    let holds = |short| in_category(short).iter().any(|range| (range.start()..=range.end()).contains(&c));
    c.is_alphanumeric() && (holds("l") || holds("nd"))
}
#[cfg(test)]
mod tests {
    use super::*;

    /// The ranges of a set in planes 0 and 1 without U+0000, as text.
    fn ranges(class: &ClassUnicode) -> Vec<String> {
        let clipped =
            class.iter().map(|range| (range.start().max('\u{1}') as u32, range.end().min('\u{1ffff}') as u32));
        clipped.filter(|(low, high)| low <= high).map(|(low, high)| format!("{low:x}-{high:x}")).collect()
    }

    /// FNV-1a.
    fn hash(text: &str) -> u64 {
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    }

    #[test]
    fn every_class_is_go_s() {
        let mut count = 0;
        for line in include_str!("../testdata/classes.txt").lines() {
            let [name, length, sum] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let (name, fold) = name.strip_prefix("(?i)").map_or((name, false), |name| (name, true));
            let have = ranges(&class(name, fold).unwrap_or_else(|| panic!("{name} is unknown")));
            assert_eq!(have.len().to_string(), length, "ranges of {name}, fold {fold}");
            assert_eq!(format!("{:016x}", hash(&have.join(" "))), sum, "{name}, fold {fold}");
            count += 1;
        }
        assert_eq!(count, 424);
    }

    #[test]
    fn folding_looks_at_every_character_that_has_cases() {
        for c in '\0'..='\u{2ffff}' {
            let mut slow = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
            let _ = slow.try_case_fold_simple();
            newer::fold(&mut slow);
            if slow.iter().map(|range| range.len()).sum::<usize>() > 1 {
                assert_eq!(orbit(c), slow, "{c:?}");
            }
        }
    }

    #[test]
    fn names_are_compared_loosely() {
        for name in ["Lu", "lu", "L u", "l-u_", "Uppercase_Letter", "uppercaseletter", "UPPERCASE LETTER"] {
            assert_eq!(class(name, false), class("Lu", false), "{name}");
            assert!(class(name, false).is_some(), "{name}");
        }
        for name in ["", "X", "Zzzz", "Unknown", "Grek", "sc=Greek", "Alphabetic", "L&", "^Lu", "Lowercase"] {
            assert_eq!(class(name, false), None, "{name}");
        }
    }
}
