//! Keys of a section among those of an owner: the HTTP client's in a scrape job or a discovery mechanism.
//!
//! serde's `flatten` collects values before it reads them, and with that loses their lines. Here every value is read
//! in its place: keys of the section go to the section, all others to the owner, which refuses the ones it does not know.

use crate::HttpConfig;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IntoDeserializer, MapAccess, Visitor},
    forward_to_deserialize_any,
};
use std::{cell::RefCell, fmt, marker::PhantomData};

/// `T` and the HTTP client section, written side by side in one mapping. `T` is a struct that derives `Deserialize`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inline<T> {
    /// The owner's own keys.
    pub own: T,
    /// The client's keys.
    pub http: HttpConfig,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Inline<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (own, http) = beside(deserializer)?;
        Ok(Self { own, http })
    }
}

/// Keys that are written among those of an owner.
pub trait Section: Default {
    /// The key of that name, if it is one of this section's.
    fn key(name: &str) -> Option<&'static str>;

    /// Reads the value of a key that [`Section::key`] knows.
    ///
    /// # Errors
    /// Whatever the format says of the value.
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &'static str, map: &mut A) -> Result<(), A::Error>;
}

/// Reads an owner and a section that stand in one mapping. Sections nest: the owner may be another such pair.
///
/// # Errors
/// Whatever the format says, at the place where it stands.
pub fn beside<'de, T: Deserialize<'de>, S: Section, D: Deserializer<'de>>(deserializer: D) -> Result<(T, S), D::Error> {
    let section = RefCell::default();
    let own = T::deserialize(Split { inner: deserializer, section: &section })?;
    Ok((own, section.into_inner()))
}

macro_rules! keys {
    ($($name:ident)*) => {
        /// The keys of the section.
        const KEYS: &[&str] = &[$(stringify!($name)),*];

        impl Section for HttpConfig {
            fn key(name: &str) -> Option<&'static str> {
                KEYS.iter().find(|key| **key == name).copied()
            }

            fn read<'de, A: MapAccess<'de>>(&mut self, key: &'static str, map: &mut A) -> Result<(), A::Error> {
                match key {
                    $(stringify!($name) => self.$name = map.next_value()?,)*
                    _ => {}
                }
                Ok(())
            }
        }
    };
}

keys! {
    basic_auth authorization oauth2 bearer_token bearer_token_file tls_config follow_redirects enable_http2 proxy_url
    no_proxy proxy_from_environment proxy_connect_header http_headers
}

/// Stands between a format and the owner's visitor.
struct Split<'a, I, S> {
    inner: I,
    section: &'a RefCell<S>,
}

impl<'de, D: Deserializer<'de>, S: Section> Deserializer<'de> for Split<'_, D, S> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_struct(name, fields, Split { inner: visitor, section: self.section })
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_map(Split { inner: visitor, section: self.section })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>, S: Section> Visitor<'de> for Split<'_, V, S> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Split { inner: map, section: self.section })
    }
}

impl<'de, A: MapAccess<'de>, S: Section> MapAccess<'de> for Split<'_, A, S> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let mut seed = seed;
        loop {
            match self.inner.next_key_seed(Key::<K, S>(seed, PhantomData))? {
                None => return Ok(None),
                Some(Whose::Owner(key)) => return Ok(Some(key)),
                Some(Whose::Section(name, unused)) => {
                    self.section.borrow_mut().read(name, &mut self.inner)?;
                    seed = unused;
                }
            }
        }
    }

    fn next_value_seed<N: DeserializeSeed<'de>>(&mut self, seed: N) -> Result<N::Value, A::Error> {
        self.inner.next_value_seed(seed)
    }
}

/// Reads a key and hands it on to the owner's seed unless it is the section's: inside, so that an unknown key is reported
/// where it stands.
struct Key<K, S>(K, PhantomData<S>);

enum Whose<K, V> {
    Section(&'static str, K),
    Owner(V),
}

impl<'de, K: DeserializeSeed<'de>, S: Section> DeserializeSeed<'de> for Key<K, S> {
    type Value = Whose<K, K::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let name = String::deserialize(deserializer)?;
        match S::key(&name) {
            Some(key) => Ok(Whose::Section(key, self.0)),
            None => self.0.deserialize(name.into_deserializer()).map(Whose::Owner),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Job {
        name: String,
        limit: Option<u64>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct File {
        jobs: Option<Vec<Inline<Job>>>,
    }

    #[test]
    fn keys_go_where_they_belong() {
        let yaml = "jobs:\n- name: a\n  basic_auth: {username: u}\n  limit: 3\n  follow_redirects: false\n- {}\n";
        let jobs = serde_saphyr::from_str::<File>(yaml).expect("parses").jobs.expect("given");
        assert_eq!(jobs[0].own, Job { name: "a".into(), limit: Some(3) });
        assert_eq!(jobs[0].http.follow_redirects, Some(false));
        assert_eq!(jobs[0].http.basic_auth.as_ref().and_then(|basic| basic.username.as_deref()), Some("u"));
        assert_eq!(jobs[1], Inline::default());
    }

    #[test]
    fn every_key_of_the_section_is_listed() {
        let shown = format!("{:?}", HttpConfig::default());
        let names = shown.trim_start_matches("HttpConfig { ").split(", ").filter_map(|one| one.split(':').next());
        assert_eq!(names.collect::<Vec<_>>(), KEYS);
    }

    #[test]
    fn mistakes_are_reported_at_their_line() {
        for (yaml, line, what) in [
            ("jobs:\n- name: a\n  nmae: b\n", 3, "nmae"),
            ("jobs:\n- name: a\n  basic_auth:\n    user: b\n", 4, "user"),
            ("jobs:\n- name: a\n  follow_redirects: maybe\n", 3, "bool"),
            ("jobs:\n- name: a\n  limit: x\n  tls_config: {}\n", 3, "x"),
            ("jobs:\n- name: a\n  no_proxy: x\n  no_proxy: y\n", 4, "no_proxy"),
        ] {
            let error = serde_saphyr::from_str::<File>(yaml).expect_err(yaml);
            let at = error.location().map(|at| at.line());
            assert_eq!(at, Some(line), "{yaml}{error}");
            assert!(error.to_string().contains(what), "{yaml}{error}");
        }
    }
}
