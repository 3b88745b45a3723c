//! The configuration as the API shows it: what was read, in its order, without secrets.
//!
//! Left out: comments, and the defaults of keys that are not written, which upstream adds.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// What stands for a secret.
const SECRET: &str = "<secret>";
/// Keys whose text is a secret, wherever they stand.
const SECRETS: &[&str] = &[
    "password",
    "credentials",
    "bearer_token",
    "client_secret",
    "client_certificate_key",
    "secret_key",
    "secrets",
    "key",
    "token",
    "auth_token",
    "api_key",
    "application_secret",
    "consumer_key",
];
/// Keys whose members are secrets by any name.
const SECRET_MAPS: &[&str] = &["proxy_connect_header"];
/// Nesting shown; a reader of the configuration refuses more.
const DEPTH_MAX: usize = 64;

/// A value of YAML, maps in the order of their keys.
#[derive(Debug, PartialEq)]
enum Node {
    Null,
    /// A number or a boolean, as text.
    Plain(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Plain(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Plain(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Plain(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Plain(value.to_string()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Text(value.to_owned()))
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }

            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
                Node::deserialize(deserializer)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
                let mut all = Vec::new();
                while let Some(item) = items.next_element()? {
                    all.push(item);
                }
                Ok(Node::List(all))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Node, A::Error> {
                let mut all = Vec::new();
                while let Some(member) = members.next_entry()? {
                    all.push(member);
                }
                Ok(Node::Map(all))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl Node {
    /// Replaces what nobody should read.
    fn mask(&mut self, all: bool) {
        match self {
            Self::Map(members) => {
                for (name, member) in members {
                    let secret = all || SECRETS.contains(&name.as_str());
                    match member {
                        Self::Text(text) if secret && !text.is_empty() => SECRET.clone_into(text),
                        Self::Plain(_) if secret => *member = Self::Text(SECRET.to_owned()),
                        member => member.mask(secret || SECRET_MAPS.contains(&name.as_str())),
                    }
                }
            }
            Self::List(items) => items.iter_mut().for_each(|item| match item {
                Self::Text(text) if all => SECRET.clone_into(text),
                item => item.mask(all),
            }),
            _ => {}
        }
    }

    fn get(&self, name: &str) -> Option<&Self> {
        let Self::Map(members) = self else { return None };
        members.iter().find(|(have, _)| have == name).map(|(_, member)| member)
    }

    /// Appends the value behind a key or a dash that stands at `indent`.
    fn write(&self, indent: usize, out: &mut String) {
        if indent > 2 * DEPTH_MAX {
            return out.push_str(" null\n");
        }
        match self {
            Self::Null => out.push_str(" null\n"),
            Self::Plain(text) => out.push_str(&format!(" {text}\n")),
            Self::Text(text) => out.push_str(&format!(" {}\n", scalar(text))),
            Self::List(items) if items.is_empty() => out.push_str(" []\n"),
            Self::Map(members) if members.is_empty() => out.push_str(" {}\n"),
            Self::List(items) => {
                out.push('\n');
                for item in items {
                    out.push_str(&format!("{:indent$}-", ""));
                    item.behind_dash(indent + 2, out);
                }
            }
            Self::Map(_) => {
                out.push('\n');
                self.members(indent + 2, true, out);
            }
        }
    }

    /// The first member of a map stands beside its dash.
    fn behind_dash(&self, indent: usize, out: &mut String) {
        match self {
            Self::Map(members) if !members.is_empty() => {
                out.push(' ');
                self.members(indent, false, out);
            }
            other => other.write(indent, out),
        }
    }

    fn members(&self, indent: usize, first: bool, out: &mut String) {
        let Self::Map(members) = self else { return };
        for (place, (name, member)) in members.iter().enumerate() {
            let indent_here = if place == 0 && !first { 0 } else { indent };
            out.push_str(&format!("{:indent_here$}{}:", "", scalar(name)));
            member.write(indent, out);
        }
    }
}

/// A text, quoted where it would be read as something else.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./-+:%@".contains(c);
    let word = matches!(
        text.to_ascii_lowercase().as_str(),
        "" | "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "y" | "n" | "~"
    );
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '/');
    let number = text.parse::<f64>().is_ok() || text.starts_with("0x") || text.starts_with("0o");
    if starts && !word && !number && !text.ends_with(':') && text.chars().all(plain) {
        text.to_owned()
    } else {
        model::quote(text)
    }
}

fn read(text: &str) -> Node {
    // The text was read before: it is YAML.
    let mut node: Node = serde_saphyr::from_str(text).unwrap_or(Node::Null);
    node.mask(false);
    node
}

/// The whole configuration. O(length).
pub(crate) fn all(text: &str) -> String {
    let mut out = String::new();
    read(text).members(0, true, &mut out);
    out
}

/// The section of a scrape pool; none when there is no such job.
pub(crate) fn pool(text: &str, name: &str) -> Option<String> {
    let root = read(text);
    let Node::List(jobs) = root.get("scrape_configs")? else { return None };
    let job = jobs.iter().find(|job| job.get("job_name") == Some(&Node::Text(name.to_owned())))?;
    let mut out = String::new();
    job.members(0, true, &mut out);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# why\nglobal: {scrape_interval: 15s, external_labels: {b: 'true', a: \"x y\"}}\nrule_files:\n\
                        scrape_configs:\n- job_name: a\n  sample_limit: 5\n  honor_labels: true\n  basic_auth: {username: u, \
                        password: hunter2}\n  authorization: {credentials: abc}\n  proxy_connect_header: {x: [s1]}\n  \
                        static_configs:\n  - targets: ['h:1', '127.0.0.1:9']\n    labels: {}\n- {job_name: b}\n";

    #[test]
    fn what_was_read_is_shown_without_its_secrets() {
        let want = "global:\n  scrape_interval: 15s\n  external_labels:\n    b: \"true\"\n    a: \"x y\"\nrule_files: null\n\
                    scrape_configs:\n- job_name: a\n  sample_limit: 5\n  honor_labels: true\n  basic_auth:\n    username: u\n    \
                    password: \"<secret>\"\n  authorization:\n    credentials: \"<secret>\"\n  \
                    proxy_connect_header:\n    x:\n    - \"<secret>\"\n  static_configs:\n  - targets:\n    - h:1\n    \
                    - 127.0.0.1:9\n    labels: {}\n- job_name: b\n";
        assert_eq!(all(TEXT), want);
        assert_eq!(read(&all(TEXT)), read(TEXT), "it is the same configuration");
        assert_eq!(all(""), "");
    }

    #[test]
    fn a_pool_is_shown_alone() {
        assert_eq!(pool(TEXT, "b").as_deref(), Some("job_name: b\n"));
        assert_eq!(pool(TEXT, "c"), None);
        assert!(pool(TEXT, "a").is_some_and(|text| text.starts_with("job_name: a\nsample_limit: 5\n")));
    }
}
