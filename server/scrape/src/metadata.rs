//! What the families of one target say of themselves: type, help, unit.

use exposition::scrape::Entry;
use model::Metadata;
use std::collections::HashMap;

/// Scrapes for which a family that vanished is remembered. Upstream's number.
const KEEP_SCRAPES: u32 = 10;

/// Families of one target by name.
#[derive(Debug, Default)]
pub struct Families(HashMap<String, Known>);

#[derive(Debug)]
struct Known {
    metadata: Metadata,
    seen: u32,
}

impl Families {
    /// All families, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Metadata)> {
        self.0.iter().map(|(name, known)| (name.as_str(), &known.metadata))
    }

    /// Families held.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of names, helps and units.
    pub fn bytes(&self) -> usize {
        self.iter().map(|(name, metadata)| name.len() + metadata.help.len() + metadata.unit.len()).sum()
    }

    pub(crate) fn note(&mut self, entry: &Entry<'_>, round: u32) {
        match entry {
            Entry::Help { name, text } => {
                let help = &mut self.family(name, round).help;
                if *help != *text {
                    *help = text.to_string();
                }
            }
            Entry::Type { name, kind } => self.family(name, round).kind = *kind,
            Entry::Unit { name, unit } => {
                let known = &mut self.family(name, round).unit;
                if *known != *unit {
                    *known = unit.to_string();
                }
            }
            _ => {}
        }
    }

    /// Forgets families that have not been seen for long. O(families), every [`KEEP_SCRAPES`] scrapes.
    pub(crate) fn forget(&mut self, round: u32) {
        if round.is_multiple_of(KEEP_SCRAPES) {
            self.0.retain(|_, known| known.seen + KEEP_SCRAPES >= round);
        }
    }

    fn family(&mut self, name: &str, round: u32) -> &mut Metadata {
        if !self.0.contains_key(name) {
            self.0.insert(name.to_owned(), Known { metadata: Metadata::default(), seen: round });
        }
        let known = self.0.get_mut(name).expect("inserted above");
        known.seen = round;
        &mut known.metadata
    }
}
