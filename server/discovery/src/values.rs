//! Values of the configuration that more than one place reads.

use model::Duration;
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed},
};
use std::fmt;

/// A duration in upstream's notation, such as `1m30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    /// A span of whole seconds.
    pub fn seconds(seconds: u64) -> Self {
        Self(Duration::from_millis(seconds * 1000))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Duration::parse(&text).map(Span).map_err(de::Error::custom)
    }
}

/// A key that upstream knows and this version does not build: null and empty values pass, anything else is refused by
/// an error that says so, never ignored in silence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unbuilt;

impl Unbuilt {
    /// What the error says.
    pub const REFUSAL: &str = "this key is valid upstream but not built in narthex yet; remove it to start";
}

/// Reads [`Unbuilt`] with the name of its key in the refusal.
pub(crate) struct Named(pub(crate) &'static str);

impl<'de> DeserializeSeed<'de> for Named {
    type Value = Unbuilt;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Unbuilt, D::Error> {
        deserializer.deserialize_any(Nothing(self.0))
    }
}

impl<'de> Deserialize<'de> for Unbuilt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Nothing(""))
    }
}

struct Nothing(&'static str);

impl Nothing {
    fn refused<E: de::Error>(&self) -> Result<Unbuilt, E> {
        let colon = if self.0.is_empty() { "" } else { ": " };
        Err(E::custom(format!("{}{colon}{}", self.0, Unbuilt::REFUSAL)))
    }
}

impl<'de> de::Visitor<'de> for Nothing {
    type Value = Unbuilt;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing: this key is valid upstream but not built in narthex yet, remove it")
    }

    fn visit_unit<E>(self) -> Result<Unbuilt, E> {
        Ok(Unbuilt)
    }

    fn visit_none<E>(self) -> Result<Unbuilt, E> {
        Ok(Unbuilt)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Unbuilt, E> {
        if matches!(text, "" | "~" | "null") { Ok(Unbuilt) } else { self.refused() }
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Unbuilt, E> {
        self.refused()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Unbuilt, E> {
        self.refused()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Unbuilt, E> {
        self.refused()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Unbuilt, E> {
        self.refused()
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Unbuilt, A::Error> {
        match seq.next_element::<de::IgnoredAny>()? {
            None => Ok(Unbuilt),
            Some(_) => self.refused(),
        }
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Unbuilt, A::Error> {
        match map.next_key::<de::IgnoredAny>()? {
            None => Ok(Unbuilt),
            Some(_) => self.refused(),
        }
    }
}
