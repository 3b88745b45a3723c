//! Unicode as Go's `unicode` package names it: general categories, their aliases, scripts, and simple case folding.
//!
//! The tables are those of regex-syntax. The names are Go's: since version 1.25 it ignores case, spaces, underscores
//! and hyphens, knows the long names of categories, and knows neither abbreviations of scripts nor other properties.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

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

/// The characters of a category, script, `Any`, `ASCII` or `Assigned`.
pub(crate) fn class(name: &str) -> Option<ClassUnicode> {
    let key: String = name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).map(|c| c.to_ascii_lowercase()).collect();
    match key.as_str() {
        "any" => return Some(ClassUnicode::new([ClassUnicodeRange::new('\0', char::MAX)])),
        "ascii" => return Some(ClassUnicode::new([ClassUnicodeRange::new('\0', '\x7f')])),
        "assigned" => {
            let mut class = table("gc=cn")?;
            class.negate();
            return Some(class);
        }
        // All of it is outside of what a text can hold.
        "cs" | "surrogate" => return Some(ClassUnicode::empty()),
        _ => {}
    }
    let key = key.as_str();
    match CATEGORIES.iter().find(|(short, long)| *short == key || long.contains(&key)) {
        Some((short, _)) => table(&format!("gc={short}")),
        None if SCRIPTS.binary_search(&key).is_ok() => table(&format!("sc={key}")),
        None => None,
    }
}

/// A table of regex-syntax, which gives them out through its parser alone.
fn table(query: &str) -> Option<ClassUnicode> {
    match regex_syntax::parse(&format!(r"\p{{{query}}}")).ok()?.into_kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class),
        HirKind::Class(Class::Bytes(class)) => class.to_unicode_class(),
        _ => None,
    }
}

/// Adds to a set the other cases of its characters. O(ranges + characters that lie in [`CASED`]).
pub(crate) fn fold(class: &mut ClassUnicode) {
    let mut cased = ClassUnicode::new(CASED.iter().map(|(low, high)| ClassUnicodeRange::new(*low, *high)));
    cased.intersect(class);
    // It fails only when regex-syntax is built without its table, which a test would show.
    let _ = cased.try_case_fold_simple();
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
    let holds = |query| table(query).is_some_and(|class| class.iter().any(|r| (r.start()..=r.end()).contains(&c)));
    c.is_alphanumeric() && (holds("gc=l") || holds("gc=nd"))
}
