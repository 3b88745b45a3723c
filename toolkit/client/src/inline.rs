//! The HTTP client keys among those of an owner: a scrape job, a remote write endpoint, a discovery mechanism.
//!
//! serde's `flatten` collects values before it reads them, and with that loses their lines. Here every value is read
//! in its place: client keys go to [`HttpConfig`], all others to the owner, which refuses the ones it does not know.

use crate::HttpConfig;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IntoDeserializer, MapAccess, Visitor},
    forward_to_deserialize_any,
};
use std::{cell::RefCell, fmt};

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
        let http = RefCell::default();
        let own = T::deserialize(Split { inner: deserializer, http: &http })?;
        Ok(Self { own, http: http.into_inner() })
    }
}

macro_rules! keys {
    ($($name:ident)*) => {
        /// The keys of the section.
        const KEYS: &[&str] = &[$(stringify!($name)),*];

        impl HttpConfig {
            /// Reads the value of a key of [`KEYS`].
            fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
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
struct Split<'a, I> {
    inner: I,
    http: &'a RefCell<HttpConfig>,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Split<'_, D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_struct(name, fields, Split { inner: visitor, http: self.http })
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_map(Split { inner: visitor, http: self.http })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Split<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Split { inner: map, http: self.http })
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Split<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let mut seed = seed;
        loop {
            match self.inner.next_key_seed(Key(seed))? {
                None => return Ok(None),
                Some(Whose::Owner(key)) => return Ok(Some(key)),
                Some(Whose::Client(name, unused)) => {
                    self.http.borrow_mut().read(name, &mut self.inner)?;
                    seed = unused;
                }
            }
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(seed)
    }
}

/// Reads a key and hands it on to the owner's seed unless it is the client's: inside, so that an unknown key is reported
/// where it stands.
struct Key<K>(K);

enum Whose<K, V> {
    Client(&'static str, K),
    Owner(V),
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<K> {
    type Value = Whose<K, K::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let name = String::deserialize(deserializer)?;
        match KEYS.iter().find(|key| **key == name) {
            Some(key) => Ok(Whose::Client(key, self.0)),
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
