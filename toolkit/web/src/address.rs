//! Listen addresses as typed: `host:port`, `:port`, `[v6]:port`, `vsock://:port`, and ours, `unix:/path`.
//!
//! The truth is Go's net package: what it refuses is refused here, in its words, because a user who greps a log for
//! them has nothing else to go by. Left out: names of ports that `/etc/services` does not know.

use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
};

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// An empty host means every address of the machine.
    Tcp { host: String, port: u16 },
    /// A socket in the file system.
    Unix(PathBuf),
    /// A port reachable from virtual machines or their host.
    Vsock(u32),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Vsock(port) => write!(f, "vsock://:{port}"),
        }
    }
}

impl Address {
    /// Reads what was typed; the error is a whole sentence in upstream's words.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("vsock://") {
            return vsock_port(rest).map(Self::Vsock);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            // `unix:///run/x` and `unix:/run/x` are the same.
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" => Err("listen unix: the path after unix: is missing".to_owned()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        let (host, port) = match text {
            "" => ("", ""),
            text => split(text).map_err(|why| format!("listen tcp: address {text}: {why}"))?,
        };
        Ok(Self::Tcp { host: host.to_owned(), port: port_number(port)? })
    }

    /// The one socket address of a TCP host that is not empty: the first of the old family, or else the first.
    pub(crate) fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
        let found: Vec<SocketAddr> = (host, port)
            .to_socket_addrs()
            .map_err(|error| format!("listen tcp: lookup {host}: {}", lookup_failure(&error)))?
            .collect();
        let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
        first.copied().ok_or_else(|| format!("listen tcp: lookup {host}: no such host"))
    }
}

fn lookup_failure(error: &std::io::Error) -> String {
    let text = error.to_string();
    let unknown = ["Name or service not known", "Name does not resolve", "No address associated"];
    if unknown.iter().any(|known| text.contains(known)) { "no such host".to_owned() } else { text }
}

fn vsock_port(rest: &str) -> Result<u32, String> {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (_, port) = split(authority).map_err(|why| format!("listen vsock: address {authority}: {why}"))?;
    port.parse().map_err(|_| format!("listen vsock: port {port:?} is not a number below 4294967296"))
}

/// Host and port of `host:port`, where a host with colons stands in brackets.
fn split(text: &str) -> Result<(&str, &str), &'static str> {
    let (before, port) = text.rsplit_once(':').ok_or("missing port in address")?;
    let host = match text.strip_prefix('[') {
        Some(inner) => {
            let (host, after) = inner.split_once(']').ok_or("missing ']' in address")?;
            match after.strip_prefix(':') {
                Some(rest) if rest.len() == port.len() => host,
                Some(_) => return Err("too many colons in address"),
                None => return Err("missing port in address"),
            }
        }
        None if before.contains(':') => return Err("too many colons in address"),
        None => before,
    };
    if host.contains('[') || port.contains('[') {
        return Err("unexpected '[' in address");
    }
    if host.contains(']') || port.contains(']') {
        return Err("unexpected ']' in address");
    }
    Ok((host, port))
}

fn port_number(port: &str) -> Result<u16, String> {
    if port.is_empty() {
        return Ok(0);
    }
    if port.bytes().all(|digit| digit.is_ascii_digit()) {
        return port.parse().map_err(|_| format!("listen tcp: address {port}: invalid port"));
    }
    let services = std::fs::read_to_string("/etc/services").unwrap_or_default();
    service(&services, port).ok_or_else(|| format!("listen tcp: lookup tcp/{port}: unknown port"))
}

/// The port of a named service: lines `name port/tcp alias ... # comment`.
fn service(table: &str, name: &str) -> Option<u16> {
    let lines = table.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines.into_iter().find_map(|line| {
        let mut words = line.split_whitespace();
        let (first, number) = (words.next()?, words.next()?.strip_suffix("/tcp")?);
        (first == name || words.any(|alias| alias == name)).then(|| number.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts were seen on pushgateway 1.11.2.
    #[test]
    fn addresses_are_read_and_refused_as_upstream() {
        let tcp = |host: &str, port| Ok(Address::Tcp { host: host.into(), port });
        let cases: &[(&str, Result<Address, String>)] = &[
            (":9100", tcp("", 9100)),
            ("127.0.0.1:9100", tcp("127.0.0.1", 9100)),
            ("[::1]:9100", tcp("::1", 9100)),
            ("localhost:", tcp("localhost", 0)),
            ("", tcp("", 0)),
            ("vsock://:1024", Ok(Address::Vsock(1024))),
            ("vsock://ignored:4294967295", Ok(Address::Vsock(u32::MAX))),
            ("unix:/run/x.sock", Ok(Address::Unix("/run/x.sock".into()))),
            ("unix:///run/x.sock", Ok(Address::Unix("/run/x.sock".into()))),
            ("unix:x.sock", Ok(Address::Unix("x.sock".into()))),
            ("unix:", Err("listen unix: the path after unix: is missing".into())),
            ("::1:9100", Err("listen tcp: address ::1:9100: too many colons in address".into())),
            ("[::1]:9:100", Err("listen tcp: address [::1]:9:100: too many colons in address".into())),
            ("x", Err("listen tcp: address x: missing port in address".into())),
            ("[::1]", Err("listen tcp: address [::1]: missing port in address".into())),
            ("[::1", Err("listen tcp: address [::1: missing ']' in address".into())),
            ("[::1]x:9", Err("listen tcp: address [::1]x:9: missing port in address".into())),
            ("a]b:1", Err("listen tcp: address a]b:1: unexpected ']' in address".into())),
            ("a[b:1", Err("listen tcp: address a[b:1: unexpected '[' in address".into())),
            ("127.0.0.1:99999", Err("listen tcp: address 99999: invalid port".into())),
            ("127.0.0.1:no-such", Err("listen tcp: lookup tcp/no-such: unknown port".into())),
            ("127.0.0.1:-1", Err("listen tcp: lookup tcp/-1: unknown port".into())),
            ("vsock://x", Err("listen vsock: address x: missing port in address".into())),
            ("vsock://:4294967296", Err("listen vsock: port \"4294967296\" is not a number below 4294967296".into())),
        ];
        for (text, expected) in cases {
            assert_eq!(&Address::parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn ports_have_names() {
        let table = "# comment\nftp 21/tcp\nhttp\t80/tcp\twww # the web\nhttp 80/udp\ndomain 53/udp\n";
        let cases = [("http", Some(80)), ("www", Some(80)), ("domain", None), ("the", None)];
        for (name, port) in cases {
            assert_eq!(service(table, name), port, "{name}");
        }
    }

    #[test]
    fn addresses_are_written_as_they_are_typed() {
        for text in ["[::1]:9100", ":9100", "127.0.0.1:1", "unix:/run/x", "vsock://:7"] {
            assert_eq!(Address::parse(text).expect("parses").to_string(), text);
        }
    }

    #[test]
    fn the_old_family_comes_first() {
        let found = Address::resolve("localhost", 7).expect("every machine knows localhost");
        assert_eq!(found.to_string(), "127.0.0.1:7");
    }
}
