//! Which proxy a request goes through.
//!
//! Source of truth: `golang.org/x/net/http/httpproxy`, the rules of `NO_PROXY` included: names match themselves and
//! what is below them, a leading dot or `*.` only what is below; addresses and CIDR ranges match addresses; each may end
//! in a port; `*` is everything. Names in other alphabets are compared as they are written.

use crate::{
    BuildError,
    config::Proxy,
    url::{self, User},
};
use http::Uri;
use std::{net::IpAddr, sync::Arc};

/// The proxy variables of the environment, read by whoever owns the process and handed in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyEnvironment {
    /// `HTTP_PROXY`, else `http_proxy`.
    pub http: String,
    /// `HTTPS_PROXY`, else `https_proxy`.
    pub https: String,
    /// `NO_PROXY`, else `no_proxy`.
    pub no_proxy: String,
    /// Whether this is a CGI program (`REQUEST_METHOD`), whose callers could set `HTTP_PROXY`.
    pub cgi: bool,
}

impl ProxyEnvironment {
    /// Asks `variable` for each name, as `std::env::var` would answer.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let any = |names: [&str; 2]| {
            names.iter().filter_map(|name| variable(name)).find(|value| !value.is_empty()).unwrap_or_default()
        };
        Self {
            http: any(["HTTP_PROXY", "http_proxy"]),
            https: any(["HTTPS_PROXY", "https_proxy"]),
            no_proxy: any(["NO_PROXY", "no_proxy"]),
            cgi: variable("REQUEST_METHOD").is_some_and(|value| !value.is_empty()),
        }
    }
}

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Http,
    Https,
    Socks5,
}

/// A proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) kind: Kind,
    /// Without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: Option<User>,
}

impl Server {
    /// `host:port`, as messages name it.
    pub(crate) fn place(&self) -> String {
        joined(&self.host, self.port)
    }

    fn parse(text: &str) -> Result<Self, BuildError> {
        let refuse = |why| BuildError::Proxy { url: url::redacted(text), why };
        let (user, bare) = url::split_user(text);
        let uri: Uri = bare.parse().map_err(|_| refuse("not an address; write http://host:port"))?;
        let (kind, port) = match uri.scheme_str() {
            Some("http") => (Kind::Http, 80),
            Some("https") => (Kind::Https, 443),
            Some("socks5" | "socks5h") => (Kind::Socks5, 1080),
            _ => return Err(refuse("the scheme is none of http, https, socks5")),
        };
        let host = url::bare_host(&uri).to_owned();
        if host.is_empty() {
            return Err(refuse("no host"));
        }
        Ok(Self { kind, host, port: uri.port_u16().unwrap_or(port), user })
    }

    /// A variable of the environment: `host:port` will do. Nonsense counts as unset, as upstream.
    fn from_variable(text: &str) -> Option<Arc<Self>> {
        if text.is_empty() {
            return None;
        }
        Self::parse(text).or_else(|_| Self::parse(&format!("http://{text}"))).ok().map(Arc::new)
    }
}

/// `host:port`, with brackets around IPv6.
pub(crate) fn joined(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The port of an address, or its scheme's.
pub(crate) fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 })
}

/// The choice of a proxy.
#[derive(Clone, Debug)]
pub(crate) enum Rules {
    Direct,
    Always(Arc<Server>),
    Matching { http: Option<Arc<Server>>, https: Option<Arc<Server>>, bypass: Bypass, cgi: bool },
}

impl Rules {
    pub(crate) fn new(config: &Proxy<'_>, environment: &ProxyEnvironment) -> Result<Self, BuildError> {
        if config.from_environment {
            return Ok(Self::Matching {
                http: Server::from_variable(&environment.http),
                https: Server::from_variable(&environment.https),
                bypass: Bypass::parse(&environment.no_proxy),
                cgi: environment.cgi,
            });
        }
        let Some(url) = config.url.filter(|url| !url.is_empty()) else { return Ok(Self::Direct) };
        let server = Arc::new(Server::parse(url)?);
        Ok(match config.no_proxy {
            None => Self::Always(server),
            Some(no_proxy) => Self::Matching {
                http: Some(server.clone()),
                https: Some(server),
                bypass: Bypass::parse(no_proxy),
                cgi: false,
            },
        })
    }

    /// The proxy for an address; an error when the environment cannot be trusted.
    pub(crate) fn choose(&self, uri: &Uri) -> Result<Option<&Arc<Server>>, &'static str> {
        match self {
            Self::Direct => Ok(None),
            Self::Always(server) => Ok(Some(server)),
            Self::Matching { http, https, bypass, cgi } => {
                let secure = uri.scheme_str() == Some("https");
                let Some(server) = (if secure { https } else { http }) else { return Ok(None) };
                if *cgi && !secure {
                    return Err("refusing to use HTTP_PROXY value in CGI environment; see golang.org/s/cgihttpproxy");
                }
                Ok((!bypass.covers(url::bare_host(uri), port(uri))).then_some(server))
            }
        }
    }
}

/// Hosts that are called directly.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bypass {
    all: bool,
    ranges: Vec<(IpAddr, u8)>,
    addresses: Vec<(IpAddr, Option<u16>)>,
    /// Names with a leading dot, whether the name itself counts, and the port.
    names: Vec<(String, bool, Option<u16>)>,
}

impl Bypass {
    fn parse(list: &str) -> Self {
        let mut bypass = Self::default();
        for word in list.split(',').map(|word| word.trim().to_lowercase()).filter(|word| !word.is_empty()) {
            if word == "*" {
                return Self { all: true, ..Self::default() };
            }
            bypass.add(&word);
        }
        bypass
    }

    fn add(&mut self, word: &str) {
        if let Some(range) = range(word) {
            self.ranges.push(range);
            return;
        }
        let (host, port) = split_port(word);
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = host.parse::<IpAddr>() {
            self.addresses.push((address.to_canonical(), port));
            return;
        }
        let host = if host.starts_with("*.") { &host[1..] } else { host };
        if !host.is_empty() {
            let itself = !host.starts_with('.');
            self.names.push((if itself { format!(".{host}") } else { host.to_owned() }, itself, port));
        }
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        let host = host.trim().to_lowercase();
        let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        if host == "localhost" || self.all || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        let port_fits = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        if let Some(address) = address {
            let in_range = self.ranges.iter().any(|(start, bits)| prefix(address, *bits) == prefix(*start, *bits));
            if in_range || self.addresses.iter().any(|(one, port)| *one == address && port_fits(port)) {
                return true;
            }
        }
        let named = |(name, itself, port): &(String, bool, Option<u16>)| {
            (host.ends_with(name.as_str()) || *itself && host == name[1..]) && port_fits(port)
        };
        self.names.iter().any(named)
    }
}

fn range(word: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = word.split_once('/')?;
    let (address, bits): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
    (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, bits))
}

/// The first bits of an address, with its family.
fn prefix(address: IpAddr, bits: u8) -> (bool, u128) {
    match address {
        IpAddr::V4(four) => (true, u128::from(u32::from(four).checked_shr(32 - u32::from(bits)).unwrap_or(0))),
        IpAddr::V6(six) => (false, u128::from(six).checked_shr(128 - u32::from(bits)).unwrap_or(0)),
    }
}

/// Splits off a port; several colons without brackets are an IPv6 address.
fn split_port(word: &str) -> (&str, Option<u16>) {
    match word.rsplit_once(':') {
        Some((host, port)) if host.ends_with(']') || !host.contains(':') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (host, Some(0)),
        },
        _ => (word, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(list: &str, uri: &str) -> bool {
        let environment = ProxyEnvironment {
            http: "p:1".into(),
            https: "https://s".into(),
            no_proxy: list.into(),
            ..ProxyEnvironment::default()
        };
        let config = Proxy { url: None, no_proxy: None, from_environment: true, connect_header: None };
        let rules = Rules::new(&config, &environment).expect("builds");
        rules.choose(&uri.parse().expect(uri)).expect("chooses").is_none()
    }

    #[test]
    fn no_proxy_follows_gos_rules() {
        for (list, uri, expected) in [
            ("", "http://a", false),
            ("", "http://localhost:1", true),
            ("", "http://127.0.0.9", true),
            ("", "http://[::1]:1", true),
            ("*", "https://a", true),
            ("b, A.com", "http://a.COM", true),
            ("a.com", "http://x.a.com", true),
            ("a.com", "http://xa.com", false),
            (".a.com", "http://a.com", false),
            (".a.com", "http://x.a.com", true),
            ("*.a.com", "http://a.com", false),
            ("*.a.com", "http://x.a.com", true),
            ("a.com:80", "http://a.com", true),
            ("a.com:80", "https://a.com", false),
            ("10.0.0.0/8", "http://10.1.2.3", true),
            ("10.0.0.0/8", "http://11.1.2.3", false),
            ("10.0.0.0/8", "http://[a00::1]", false),
            ("0.0.0.0/0", "http://11.1.2.3", true),
            ("fd00::/8", "http://[fd12::1]:9", true),
            ("1.2.3.4:9", "http://1.2.3.4:9", true),
            ("1.2.3.4:9", "http://1.2.3.4:8", false),
            ("[fd12::1]:9", "http://[fd12::1]:9", true),
            ("fd12::1", "http://[fd12::1]:9", true),
            (":80,,.", "http://a", false),
        ] {
            assert_eq!(direct(list, uri), expected, "{list} {uri}");
        }
    }

    #[test]
    fn proxies_come_from_the_section_or_the_environment() {
        let rules = |url, no_proxy, environment: &ProxyEnvironment| {
            let config = Proxy { url, no_proxy, from_environment: url.is_none(), connect_header: None };
            Rules::new(&config, environment)
        };
        let place = |rules: Result<Rules, BuildError>, uri: &str| match rules {
            Ok(rules) => rules
                .choose(&uri.parse().expect(uri))
                .map_or_else(str::to_owned, |server| server.map_or("direct".into(), |server| server.place())),
            Err(error) => error.to_string(),
        };
        let unset = ProxyEnvironment::default();
        assert_eq!(place(rules(Some("http://u:p@[fd00::1]"), None, &unset), "http://localhost"), "[fd00::1]:80");
        assert_eq!(place(rules(Some("socks5://s"), Some("x"), &unset), "https://y"), "s:1080");
        assert_eq!(place(rules(Some("socks5://s"), Some("x"), &unset), "https://localhost"), "direct");
        let refused = place(rules(Some("ftp://u:p@s"), None, &unset), "http://y");
        assert_eq!(refused, "invalid proxy address \"ftp://u:xxxxx@s\": the scheme is none of http, https, socks5");
        let variables = |name: &str| match name {
            "HTTP_PROXY" => Some(String::new()),
            "http_proxy" => Some("low:1".to_owned()),
            "REQUEST_METHOD" => Some("GET".to_owned()),
            _ => None,
        };
        let cgi = ProxyEnvironment::from_variables(variables);
        assert!(place(rules(None, None, &cgi), "http://y").starts_with("refusing to use HTTP_PROXY"));
        assert_eq!(place(rules(None, None, &ProxyEnvironment { cgi: false, ..cgi.clone() }), "http://y"), "low:1");
        assert_eq!(place(rules(None, None, &cgi), "https://y"), "direct");
    }
}
