//! Addresses: what may be called, how a redirect is resolved (RFC 3986, section 5), what of it may be shown.

use crate::Cause;
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;

/// User and password of an address.
pub(crate) type User = (String, String);

/// An `http` or `https` address with a host, its user split off.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) uri: Uri,
    pub(crate) user: Option<User>,
    /// As given, for messages, without password.
    pub(crate) shown: String,
}

impl Address {
    /// Reads an absolute address; a fragment is dropped. One that is none is [`Cause::Protocol`], one that cannot be
    /// called [`Cause::Address`].
    pub(crate) fn parse(text: &str) -> Result<Self, Cause> {
        let shown = hidden(text);
        let whole = text.split('#').next().unwrap_or_default();
        let (user, bare) = split_user(whole);
        let refuse = |error: &dyn std::fmt::Display| Cause::Protocol(format!("parse {shown:?}: {error}"));
        let uri: Uri = bare.parse().map_err(|error| refuse(&error))?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
            other => {
                return Err(Cause::Address(format!("unsupported protocol scheme {:?}", other.unwrap_or_default())));
            }
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err(Cause::Address("http: no Host in request URL".into()));
        }
        Ok(Self { uri, user, shown })
    }

    /// Where a `Location` header of an answer from here points to.
    pub(crate) fn join(&self, location: &str) -> Result<Self, Cause> {
        let location = location.split('#').next().unwrap_or_default();
        let origin = || format!("{}://{}", self.uri.scheme_str().unwrap_or("http"), self.authority());
        let absolute = match location.split_once("://") {
            Some((scheme, _)) if is_scheme(scheme) => location.to_owned(),
            _ if location.starts_with("//") => format!("{}:{location}", self.uri.scheme_str().unwrap_or("http")),
            _ if location.starts_with('/') => format!("{}{}", origin(), without_dots(location)),
            _ if location.starts_with('?') => format!("{}{}{location}", origin(), self.uri.path()),
            _ if location.is_empty() => format!("{}{}", origin(), self.uri.path()),
            _ => {
                let folder = self.uri.path().rsplit_once('/').map_or("", |(folder, _)| folder);
                format!("{}{}", origin(), without_dots(&format!("{folder}/{location}")))
            }
        };
        Self::parse(&absolute)
    }

    /// Host and port as written.
    pub(crate) fn host_header(&self) -> Result<HeaderValue, Cause> {
        HeaderValue::from_str(self.authority()).map_err(|_| Cause::Address("http: invalid Host header".into()))
    }

    fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    pub(crate) fn https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// The host in lower case, without the brackets of IPv6.
    pub(crate) fn host(&self) -> String {
        bare_host(&self.uri).to_ascii_lowercase()
    }

    /// Whether credentials meant for `first` may go here: the same host, or one below it, as Go decides.
    pub(crate) fn is_within(&self, first: &Address) -> bool {
        let (here, first) = (self.host(), first.host());
        let address = here.contains(':') || here.parse::<std::net::IpAddr>().is_ok();
        here == first || !address && here.strip_suffix(&first).is_some_and(|sub| sub.ends_with('.'))
    }
}

/// The host of an address without the brackets of IPv6.
pub(crate) fn bare_host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// Start and end of `user:password` in an address.
fn user_place(text: &str) -> Option<(usize, usize)> {
    let start = text.find("://")? + 3;
    let rest = &text[start..];
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    authority.rfind('@').map(|at| (start, start + at))
}

/// The user of an address, decoded, and the address without it.
pub(crate) fn split_user(text: &str) -> (Option<User>, String) {
    let Some((start, end)) = user_place(text) else { return (None, text.to_owned()) };
    let (name, password) = text[start..end].split_once(':').unwrap_or((&text[start..end], ""));
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    (Some((decode(name), decode(password))), format!("{}{}", &text[..start], &text[end + 1..]))
}

fn masked(text: &str, mask: &str) -> String {
    match user_place(text) {
        Some((start, end)) => match text[start..end].split_once(':') {
            Some((name, _)) => format!("{}{name}:{mask}{}", &text[..start], &text[end..]),
            None => text.to_owned(),
        },
        None => text.to_owned(),
    }
}

/// The address with `***` for a password, as errors show it.
pub(crate) fn hidden(text: &str) -> String {
    masked(text, "***")
}

/// The address with `xxxxx` for a password, as configurations show it.
pub(crate) fn redacted(text: &str) -> String {
    masked(text, "xxxxx")
}

/// Resolves `.` and `..` in a path; the query stays as it is.
fn without_dots(path: &str) -> String {
    let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let mut kept: Vec<&str> = Vec::new();
    let mut folder = false;
    for part in path.split('/').skip(1) {
        folder = matches!(part, "." | "..");
        match part {
            "." => {}
            ".." => {
                kept.pop();
            }
            part => kept.push(part),
        }
    }
    format!("/{}{}{query}", kept.join("/"), if folder && !kept.is_empty() { "/" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_resolve_as_the_standard_says() {
        let base = Address::parse("http://u:p@h:1/b/c/d?q").expect("parses");
        for (location, expected) in [
            ("g", "http://h:1/b/c/g"),
            ("./g", "http://h:1/b/c/g"),
            ("g/", "http://h:1/b/c/g/"),
            ("/g", "http://h:1/g"),
            ("//g", "http://g/"),
            ("?y", "http://h:1/b/c/d?y"),
            ("g?y#s", "http://h:1/b/c/g?y"),
            ("", "http://h:1/b/c/d"),
            ("..", "http://h:1/b/"),
            ("../../../g", "http://h:1/g"),
            ("https://x/y?u=http://z/", "https://x/y?u=http://z/"),
            ("g?u=http://z/", "http://h:1/b/c/g?u=http://z/"),
        ] {
            assert_eq!(base.join(location).map(|to| to.uri.to_string()).as_deref(), Ok(expected), "{location}");
        }
    }

    #[test]
    fn users_are_split_off_and_passwords_hidden() {
        let address = Address::parse("http://a%40b:p%3A@h/x@y").expect("parses");
        assert_eq!(address.user, Some(("a@b".into(), "p:".into())));
        assert_eq!((address.uri.to_string(), address.shown), ("http://h/x@y".into(), "http://a%40b:***@h/x@y".into()));
        assert_eq!(redacted("socks5://u:p@h"), "socks5://u:xxxxx@h");
    }

    #[test]
    fn what_cannot_be_called_says_why() {
        for (text, expected) in [
            ("ftp://x", "unsupported protocol scheme \"ftp\""),
            ("x:1", "unsupported protocol scheme \"\""),
            ("http://", "parse \"http://\": "),
            ("http://a b/", "parse \"http://a b/\": "),
        ] {
            let told = Address::parse(text).expect_err(text).to_string();
            assert!(told.starts_with(expected), "{text}: {told}");
        }
    }

    #[test]
    fn credentials_stay_within_their_host() {
        for (first, next, expected) in [
            ("http://a", "https://A:9/x", true),
            ("http://a", "http://b.a", true),
            ("http://a", "http://ba", false),
            ("http://b.a", "http://a", false),
            ("http://0.0.1", "http://10.0.0.1", false),
            ("http://[::1]", "http://[::1]:9", true),
        ] {
            let (first, next) = (Address::parse(first).expect(first), Address::parse(next).expect(next));
            assert_eq!(next.is_within(&first), expected, "{} {}", first.shown, next.shown);
        }
    }
}
