//! `kubernetes_auth` of the web configuration: a section of our own, which upstream refuses.
//!
//! What is about authorization has kube-rbac-proxy's names, in the spelling of this file and in its own.

use super::{DEADLINE, review::User};
use crate::config::ConfigError;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Where a cluster puts what its pods need.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

const NOT_IN_CLUSTER: &str =
    "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set, as they are in a pod; set api_server";

/// The section as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct File {
    audiences: Vec<String>,
    authorization: AuthorizationFile,
    allow_paths: Vec<String>,
    ignore_paths: Vec<String>,
    cache: CacheFile,
    api_server: Option<String>,
    ca_file: Option<String>,
    token_file: Option<String>,
    deadline: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AuthorizationFile {
    #[serde(alias = "resourceAttributes")]
    resource_attributes: Option<Attributes>,
    #[serde(rename = "static")]
    rules: Vec<Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CacheFile {
    authenticated: Option<String>,
    allowed: Option<String>,
    denied: Option<String>,
}

/// What a user has to have a right on, instead of on the path.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Attributes {
    namespace: String,
    #[serde(alias = "apiVersion")]
    api_version: String,
    #[serde(alias = "apiGroup")]
    api_group: String,
    resource: String,
    subresource: String,
    name: String,
}

impl Attributes {
    /// As `SubjectAccessReview` has it.
    pub(super) fn json(&self, verb: &str) -> Value {
        let parts = [
            ("namespace", self.namespace.as_str()),
            ("verb", verb),
            ("group", &self.api_group),
            ("version", &self.api_version),
            ("resource", &self.resource),
            ("subresource", &self.subresource),
            ("name", &self.name),
        ];
        let given = parts.into_iter().filter(|(_, value)| !value.is_empty());
        Value::Object(Map::from_iter(given.map(|(key, value)| (key.to_owned(), Value::from(value)))))
    }
}

/// A right that is known without asking; an empty key is true of everything.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rule {
    user: RuleUser,
    verb: String,
    namespace: String,
    #[serde(alias = "apiGroup")]
    api_group: String,
    resource: String,
    subresource: String,
    name: String,
    #[serde(alias = "resourceRequest")]
    resource_request: bool,
    path: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RuleUser {
    name: String,
    groups: Vec<String>,
}

impl Rule {
    fn allows(&self, user: &User, verb: &str, path: &str, resource: Option<&Attributes>) -> bool {
        let same = |own: &str, given: &str| own.is_empty() || own == given;
        let group = self.user.groups.is_empty() || self.user.groups.iter().any(|group| user.groups.contains(group));
        let target = match resource {
            None => !self.resource_request && same(&self.path, path),
            Some(of) => {
                self.resource_request
                    && same(&self.namespace, &of.namespace)
                    && same(&self.api_group, &of.api_group)
                    && same(&self.resource, &of.resource)
                    && same(&self.subresource, &of.subresource)
                    && same(&self.name, &of.name)
            }
        };
        same(&self.user.name, &user.username) && group && same(&self.verb, verb) && target
    }
}

/// The section, understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(super) server: String,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) audiences: Vec<String>,
    pub(super) resource_attributes: Option<Attributes>,
    rules: Vec<Rule>,
    allow_paths: Vec<String>,
    ignore_paths: Vec<String>,
    pub(super) authenticated: Duration,
    pub(super) allowed: Duration,
    pub(super) denied: Duration,
    pub(super) deadline: Duration,
}

impl Settings {
    /// Understands the section of a file in `folder`; `env` is the environment of this process, where a cluster tells
    /// its pods the address of its API server.
    pub(crate) fn new(file: File, folder: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let refuse = |why: String| ConfigError::Kubernetes(why);
        let account = |given: Option<String>, name: &str| match given.as_deref() {
            None => Some(Path::new(ACCOUNT).join(name)),
            Some("") => None,
            Some(path) => Some(folder.join(path)),
        };
        let span = |key: &str, given: Option<String>, default| match given {
            None => Ok(default),
            Some(text) => cli::parse_go(&text).map_err(|error| refuse(format!("{key}: {error}"))),
        };
        let server = match file.api_server {
            Some(server) => server,
            None => in_cluster(env).ok_or_else(|| refuse(NOT_IN_CLUSTER.to_owned()))?,
        };
        if !["https://", "http://"].iter().any(|scheme| server.starts_with(scheme)) {
            return Err(refuse(format!("api_server {server:?} does not begin with https://")));
        }
        for rule in &file.authorization.rules {
            if rule.resource_request != rule.path.is_empty() {
                return Err(refuse("static: a rule has either a path or resource_request: true".into()));
            }
        }
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let deadline = span("deadline", file.deadline, DEADLINE)?;
        if deadline.is_zero() {
            return Err(refuse("deadline must not be 0".into()));
        }
        Ok(Self {
            server: server.trim_end_matches('/').to_owned(),
            ca_file: account(file.ca_file, "ca.crt"),
            token_file: account(file.token_file, "token"),
            audiences: file.audiences,
            resource_attributes: file.authorization.resource_attributes,
            rules: file.authorization.rules,
            allow_paths: file.allow_paths,
            ignore_paths: file.ignore_paths,
            authenticated: span("cache.authenticated", file.cache.authenticated, minutes(2))?,
            allowed: span("cache.allowed", file.cache.allowed, minutes(5))?,
            denied: span("cache.denied", file.cache.denied, Duration::from_secs(30))?,
            deadline,
        })
    }

    /// The files that are read for every question.
    pub(crate) fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.ca_file.iter().chain(&self.token_file).cloned()
    }

    /// Whether a path is there for anybody.
    pub(super) fn lets_through(&self, path: &str) -> bool {
        self.allow_paths.is_empty() || self.allow_paths.iter().any(|pattern| is_match(pattern, path))
    }

    /// Whether a path is open to everybody.
    pub(super) fn ignores(&self, path: &str) -> bool {
        self.ignore_paths.iter().any(|pattern| is_match(pattern, path))
    }

    /// Whether a rule of the file allows it.
    pub(super) fn allows(&self, user: &User, verb: &str, path: &str) -> bool {
        self.rules.iter().any(|rule| rule.allows(user, verb, path, self.resource_attributes.as_ref()))
    }

    pub(super) fn is_resource_check(&self) -> bool {
        self.resource_attributes.is_some()
    }

    /// Resource and subresource as refusals name them.
    pub(super) fn resource(&self) -> (&str, &str) {
        self.resource_attributes.as_ref().map_or(("", ""), |of| (&of.resource, &of.subresource))
    }
}

/// Where the API server is, as a cluster tells its pods.
fn in_cluster(env: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let set = |name| env(name).filter(|value| !value.is_empty());
    let (host, port) = (set("KUBERNETES_SERVICE_HOST")?, set("KUBERNETES_SERVICE_PORT")?);
    Some(if host.contains(':') { format!("https://[{host}]:{port}") } else { format!("https://{host}:{port}") })
}

/// `*` and `?` within one part of a path, everything else as it is. Only the last star met is tried again, so that the
/// work is at most the product of both lengths.
fn is_match(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern, path);
    let mut star: Option<(&str, &str)> = None;
    loop {
        let (mut letters, mut given) = (pattern.chars(), path.chars());
        match (letters.next(), given.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                pattern = letters.as_str();
                star = Some((pattern, path));
                continue;
            }
            (Some(letter), Some(first)) if letter == first || letter == '?' && first != '/' => {
                (pattern, path) = (letters.as_str(), given.as_str());
                continue;
            }
            _ => {}
        }
        // The star takes one letter more.
        let Some((after, from)) = star else { return false };
        let mut taken = from.chars();
        match taken.next() {
            None | Some('/') => return false,
            Some(_) => {
                (pattern, path) = (after, taken.as_str());
                star = Some((after, path));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Settings, String> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| error.without_snippet().to_string())?;
        Settings::new(file, Path::new("/etc/x"), &|_| None).map_err(|error| error.to_string())
    }

    #[test]
    fn the_address_is_that_of_the_cluster() {
        let check = |host: &str, port: &str, expected: Option<&str>| {
            let env = |name: &str| Some(if name.ends_with("HOST") { host } else { port }.to_owned());
            assert_eq!(in_cluster(&env).as_deref(), expected);
        };
        check("10.0.0.1", "443", Some("https://10.0.0.1:443"));
        check("fd00::1", "6443", Some("https://[fd00::1]:6443"));
        check("", "443", None);
        assert!(settings("{}").expect_err("no cluster").contains("KUBERNETES_SERVICE_HOST"));
    }

    #[test]
    fn defaults_are_those_of_a_pod() {
        let found = settings("{api_server: 'https://h/', token_file: '', cache: {allowed: 1m}}").expect("settings");
        assert_eq!(found.server, "https://h");
        assert_eq!(found.ca_file.as_deref(), Some(Path::new("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")));
        assert_eq!((found.token_file, found.allowed), (None, Duration::from_secs(60)));
        assert_eq!((found.authenticated, found.denied), (Duration::from_secs(120), Duration::from_secs(30)));
        assert_eq!(
            settings("{api_server: 'https://h', ca_file: ca.pem}").expect("settings").ca_file,
            Some("/etc/x/ca.pem".into())
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, part) in [
            ("{api_server: h}", "https://"),
            ("{api_server: 'https://h', deadline: 0s}", "deadline"),
            ("{api_server: 'https://h', cache: {denied: 1x}}", "cache.denied: time: unknown unit"),
            ("{api_server: 'https://h', authorization: {static: [{verb: get}]}}", "either a path"),
            ("{api_server: 'https://h', authorisation: {}}", "authorisation"),
        ] {
            let error = settings(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn rules_know_users_groups_verbs_and_targets() {
        let text = "{api_server: 'https://h', authorization: {static: [{user: {name: a}, verb: get, path: /metrics}, \
                    {user: {groups: [ops]}, path: /-/reload}]}}";
        let paths = settings(text).expect("settings");
        let user = |name: &str, groups: &[&str]| User {
            username: name.into(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..User::default()
        };
        assert!(paths.allows(&user("a", &[]), "get", "/metrics"));
        assert!(
            !paths.allows(&user("a", &[]), "create", "/metrics") && !paths.allows(&user("b", &[]), "get", "/metrics")
        );
        assert!(paths.allows(&user("b", &["dev", "ops"]), "create", "/-/reload"));
        let text = "{api_server: 'https://h', authorization: {resourceAttributes: {apiGroup: g, resource: r}, \
                    static: [{resourceRequest: true, resource: r}]}}";
        let resources = settings(text).expect("settings");
        assert!(resources.allows(&user("a", &[]), "get", "/any"));
        assert_eq!(resources.resource(), ("r", ""));
    }

    #[test]
    fn patterns_stay_within_a_part() {
        for (pattern, path, expected) in [
            ("/metrics", "/metrics", true),
            ("/metrics", "/metrics/", false),
            ("/-/*", "/-/healthy", true),
            ("/-/*", "/-/a/b", false),
            ("/*", "/", true),
            ("/?", "/é", true),
            ("/?", "//", false),
            ("*", "/a", false),
            ("/a*c", "/abbc", true),
            ("/a*b*c", "/abxbcxc", true),
            ("/a*b*c", "/abxbcx", false),
            ("/*/b*", "/a/bc", true),
            ("/*b", "/a/b", false),
        ] {
            assert_eq!(is_match(pattern, path), expected, "{pattern} {path}");
        }
    }
}
