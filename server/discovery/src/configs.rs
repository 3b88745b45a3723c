//! The keys of all mechanisms, read where they stand among those of a job.

use crate::{Group, UPSTREAM_KEYS, is_unbuilt, mechanisms::Any, values::Named};
use client::Section;
use serde::{
    Deserialize,
    de::{Error, MapAccess},
};
use serde_saphyr::Spanned;
use std::path::Path;

/// How the targets of a job are found. Read by [`client::beside`], checked by [`Configs::check`], run by
/// [`crate::Manager`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configs(Vec<Entry>);

/// One entry of a mechanism's list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) config: Any,
    /// Position in its list.
    place: usize,
    line: u64,
    column: u64,
}

/// Why an entry was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// Line of the entry, from 1; 0 when the format does not tell.
    pub line: u64,
    /// Column of the entry, from 1.
    pub column: u64,
    /// What is wrong and what to change.
    pub text: String,
}

impl Section for Configs {
    fn key(name: &str) -> Option<&'static str> {
        UPSTREAM_KEYS.iter().find(|key| **key == name).copied()
    }

    fn read<'de, A: MapAccess<'de>>(&mut self, key: &'static str, map: &mut A) -> Result<(), A::Error> {
        if is_unbuilt(key) {
            map.next_value_seed(Named(key))?;
        } else {
            self.0.extend(Any::read(key, map)?);
        }
        Ok(())
    }
}

/// Reads the list of one mechanism.
pub(crate) fn entries<'de, C: Deserialize<'de>, A: MapAccess<'de>>(
    key: &str,
    map: &mut A,
    wrap: fn(C) -> Any,
) -> Result<Vec<Entry>, A::Error> {
    let items: Option<Vec<Spanned<Option<C>>>> = map.next_value()?;
    let entry = |(place, item): (usize, Spanned<Option<C>>)| {
        let at = item.referenced;
        let config = item.value.map(wrap);
        let config = config.ok_or_else(|| A::Error::custom(format!("empty or null section in {key}")))?;
        Ok(Entry { config, place, line: at.line(), column: at.column() })
    };
    items.unwrap_or_default().into_iter().enumerate().map(entry).collect()
}

impl Configs {
    /// Checks all entries; relative paths in them start at `folder` afterwards.
    ///
    /// # Errors
    /// The first entry that is refused.
    pub fn check(&mut self, folder: &Path) -> Result<(), Refused> {
        for Entry { config, line, column, .. } in &mut self.0 {
            let key = config.key();
            config.check(folder).map_err(|text| Refused {
                line: *line,
                column: *column,
                text: format!("{key}: {text}"),
            })?;
        }
        Ok(())
    }

    /// Groups that are written in the configuration itself.
    pub fn fixed(&self) -> Vec<Group> {
        self.0.iter().filter_map(|entry| entry.config.fixed(entry.place)).collect()
    }

    /// Whether there is nothing to find, and no target is written in the configuration.
    pub fn is_idle(&self) -> bool {
        self.0.iter().all(|entry| entry.config.fixed(entry.place).is_some_and(|group| group.targets.is_empty()))
    }

    /// Entries that have something to find.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Any> {
        self.0.iter().filter(|entry| entry.config.fixed(entry.place).is_none()).map(|entry| &entry.config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::beside;
    use serde::Deserializer;

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Own {
        name: String,
    }

    #[derive(Debug)]
    struct Job(Own, Configs);

    impl<'de> Deserialize<'de> for Job {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            beside(deserializer).map(|(own, configs)| Self(own, configs))
        }
    }

    fn parse(yaml: &str) -> Result<Job, String> {
        serde_saphyr::from_str::<Job>(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_of_mechanisms_stand_among_those_of_a_job() {
        let yaml = "name: a\nstatic_configs:\n- targets: [x, y]\n- targets: [z]\n  labels: {n: 1}\nfile_sd_configs:\n- \
                    files: [b.json]\nconsul_sd_configs: []\n";
        let Job(own, mut configs) = parse(yaml).expect("valid");
        assert_eq!((own.name.as_str(), configs.running().count()), ("a", 1));
        let fixed = configs.fixed();
        assert_eq!(fixed.iter().map(|group| group.source.as_str()).collect::<Vec<_>>(), ["0", "1"]);
        assert_eq!(fixed[1].labels.to_string(), "{n=\"1\"}");
        assert_eq!(configs.check(Path::new("/etc")), Ok(()));
        assert!(format!("{configs:?}").contains("/etc/b.json"));
    }

    #[test]
    fn what_is_wrong_is_told_where_it_stands() {
        for (yaml, want) in [
            (
                "name: a\nconsul_sd_configs:\n- server: x\n",
                "consul_sd_configs: this key is valid upstream but not built",
            ),
            ("static_configs:\n- targets: [x]\n-\n", "empty or null section in static_configs"),
            ("static_configs:\n- target: [x]\n", "line 2"),
            ("statik_configs:\n- targets: [x]\n", "unknown field `statik_configs`"),
            ("http_sd_configs:\n- url: http://x\n  refresh_interval: 3x\n", "line 3"),
        ] {
            let error = parse(yaml).expect_err(yaml);
            assert!(error.contains(want), "{yaml}{error}");
        }
        let Job(_, mut configs) =
            parse("name: a\nhttp_sd_configs:\n- url: http://x\n- url: ftp://x\n").expect("parses");
        let refused = configs.check(Path::new("")).expect_err("no such scheme");
        assert_eq!((refused.line, refused.column), (4, 3));
        assert!(refused.text.starts_with("http_sd_configs: URL scheme must be"), "{refused}");
    }
}
