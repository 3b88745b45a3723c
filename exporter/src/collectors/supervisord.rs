//! Processes under supervisord: XML-RPC `supervisor.getAllProcessInfo` over HTTP or a Unix socket.
//!
//! Truth: <http://supervisord.org/api.html> and <http://xmlrpc.com/spec.md>. Left out: TLS.

use super::{Collector, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use base64::Engine;
use cli::Flag;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub(super) const COLLECTOR: Collector =
    Collector { name: "supervisord", enabled: false, flags, deprecated: &[], build };

const URL: &str = "collector.supervisord.url";
const TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 16 << 20;
const REQUEST: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><methodCall><methodName>\
supervisor.getAllProcessInfo</methodName><params></params></methodCall>";
/// Starting, running, stopping.
const UP: [i64; 3] = [10, 20, 40];

fn flags() -> Vec<Flag> {
    let help = "Where supervisord answers XML-RPC, http://HOST:PORT/PATH or unix:///PATH";
    vec![Flag::string(URL, "http://localhost:9001/RPC2", help).env("SUPERVISORD_URL")]
}

#[derive(Debug, Clone, PartialEq)]
enum Place {
    Tcp(String),
    Unix(String),
}

struct Supervisord {
    url: String,
    server: Option<Server>,
}

#[derive(Debug, PartialEq)]
struct Server {
    place: Place,
    path: String,
    authorization: Option<String>,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    tracing::warn!("the supervisord collector is deprecated and may be removed");
    let url = settings.parsed.str(URL).to_owned();
    Ok(Box::new(Supervisord { server: parse_url(&url), url }))
}

fn parse_url(url: &str) -> Option<Server> {
    if let Some(path) = url.strip_prefix("unix://") {
        let place = Place::Unix(path.to_owned());
        return Some(Server { place, path: "/RPC2".to_owned(), authorization: None });
    }
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let with_port = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let authorization = user.map(|user| base64::engine::general_purpose::STANDARD.encode(user));
    (!host.is_empty()).then(|| Server { place: Place::Tcp(with_port), path: path.to_owned(), authorization })
}

impl Gather for Supervisord {
    fn gather(&self, _host: &Host, out: &mut Families) -> Result<(), Failure> {
        let server = self.server.as_ref().ok_or_else(|| {
            let what = format!("{:?} is neither http://HOST:PORT/PATH nor unix:///PATH", self.url);
            Failure::form("--collector.supervisord.url", what)
        })?;
        let answer = server.ask().map_err(|source| Failure::Call { call: "asking supervisord", source })?;
        for process in processes(&answer).map_err(|what| Failure::form("the answer of supervisord", what))? {
            show(&process, out);
        }
        Ok(())
    }
}

impl Server {
    /// The body of the answer.
    fn ask(&self) -> io::Result<String> {
        let (host, answer) = match &self.place {
            Place::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                ("unix", self.exchange(stream, "localhost")?)
            }
            Place::Tcp(address) => {
                let first =
                    address.to_socket_addrs()?.find_map(|address| TcpStream::connect_timeout(&address, TIMEOUT).ok());
                let stream = first.ok_or_else(|| io::Error::other(format!("cannot connect to {address}")))?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                (address.as_str(), self.exchange(stream, address)?)
            }
        };
        body_of(&answer).map_err(|what| io::Error::other(format!("{host}: {what}")))
    }

    /// HTTP 1.0, so that the end of the connection is the end of the answer.
    fn exchange(&self, mut stream: impl Read + Write, host: &str) -> io::Result<String> {
        let authorization = self.authorization.as_ref().map(|encoded| format!("Authorization: Basic {encoded}\r\n"));
        let head = format!(
            "POST {} HTTP/1.0\r\nHost: {host}\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n{}\r\n{REQUEST}",
            self.path,
            REQUEST.len(),
            authorization.unwrap_or_default(),
        );
        stream.write_all(head.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

fn body_of(answer: &str) -> Result<String, String> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no HTTP answer")?;
    let code = head.split(' ').nth(1).unwrap_or("");
    if code == "200" { Ok(body.to_owned()) } else { Err(format!("HTTP status {code}")) }
}

/// The structures of an answer, their members as text.
fn processes(xml: &str) -> Result<Vec<BTreeMap<String, String>>, String> {
    let (mut all, mut current, mut name, mut text) = (Vec::new(), None::<BTreeMap<String, String>>, None, None);
    for token in tokens(xml) {
        match token {
            Token::Open("fault") => return Err("it refused the question".to_owned()),
            Token::Open("struct") => current = Some(BTreeMap::new()),
            Token::Close("struct") => all.extend(current.take()),
            Token::Text(found) => text = Some(found),
            Token::Close("name") => name = text.take(),
            Token::Open("value") => text = None,
            Token::Close("value") => {
                if let (Some(members), Some(name)) = (&mut current, name.take()) {
                    members.insert(unescape(name), unescape(text.take().unwrap_or("")));
                }
            }
            Token::Open(_) | Token::Close(_) => {}
        }
    }
    if xml.contains("<methodResponse") { Ok(all) } else { Err("it is no XML-RPC answer".to_owned()) }
}

#[derive(Debug, PartialEq)]
enum Token<'a> {
    Open(&'a str),
    Close(&'a str),
    Text(&'a str),
}

/// Tags and the text between them; attributes, comments and the like are dropped.
fn tokens(xml: &str) -> impl Iterator<Item = Token<'_>> {
    let mut rest = xml;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let Some(tag) = rest.strip_prefix('<') else {
                let (text, tail) = rest.split_at(rest.find('<').unwrap_or(rest.len()));
                rest = tail;
                if text.trim().is_empty() {
                    continue;
                }
                return Some(Token::Text(text));
            };
            let (inside, tail) = tag.split_once('>')?;
            rest = tail;
            if inside.starts_with(['?', '!']) || inside.ends_with('/') {
                continue;
            }
            return Some(match inside.strip_prefix('/') {
                Some(name) => Token::Close(name.trim()),
                None => Token::Open(inside.split_whitespace().next().unwrap_or("")),
            });
        }
    })
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&")
}

fn show(process: &BTreeMap<String, String>, out: &mut Families) {
    let word = |key: &str| process.get(key).map_or("", String::as_str);
    let number = |key: &str| word(key).trim().parse::<i64>().unwrap_or(0);
    let labels = [("name", word("name")), ("group", word("group"))];
    let mut set = |kind, name, help, value| out.sample(kind, name, help, &labels, value);
    let (state, up) = (number("state"), UP.contains(&number("state")));
    set(Kind::Gauge, "node_supervisord_state", "State of a process, as supervisord counts them.", state as f64);
    let help = "Exit status of a process's last run.";
    set(Kind::Gauge, "node_supervisord_exit_status", help, number("exitstatus") as f64);
    set(Kind::Gauge, "node_supervisord_up", "1 when a process runs.", f64::from(u8::from(up)));
    if up {
        let help = "When a process was started.";
        set(Kind::Counter, "node_supervisord_start_time_seconds", help, number("start") as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;
    use std::os::unix::net::UnixListener;

    const ANSWER: &str = "<?xml version='1.0'?>\n<methodResponse>\n<params><param><value><array><data>\n\
        <value><struct><member><name>name</name><value><string>a&amp;b</string></value></member>\n\
        <member><name>group</name><value>web</value></member>\n\
        <member><name>state</name><value><int>20</int></value></member>\n\
        <member><name>start</name><value><int>1700000000</int></value></member>\n\
        <member><name>spawnerr</name><value><string></string></value></member>\n\
        <member><name>exitstatus</name><value><int>0</int></value></member></struct></value>\n\
        <value><struct><member><name>name</name><value><string>c</string></value></member>\n\
        <member><name>state</name><value><int>100</int></value></member>\n\
        <member><name>exitstatus</name><value><int>3</int></value></member></struct></value>\n\
        </data></array></value></param></params></methodResponse>";

    #[test]
    fn addresses() {
        let tcp = |place: &str, path: &str, authorization: Option<&str>| {
            let authorization = authorization.map(str::to_owned);
            Some(Server { place: Place::Tcp(place.to_owned()), path: path.to_owned(), authorization })
        };
        assert_eq!(parse_url("http://localhost:9001/RPC2"), tcp("localhost:9001", "/RPC2", None));
        assert_eq!(parse_url("http://u:p@[::1]"), tcp("[::1]:80", "/", Some("dTpw")));
        assert_eq!(parse_url("unix:///run/s.sock").map(|own| own.place), Some(Place::Unix("/run/s.sock".to_owned())));
        assert_eq!(parse_url("https://localhost"), None);
    }

    #[test]
    fn broken_answers() {
        assert!(processes("<methodResponse><fault><value/></fault></methodResponse>").is_err());
        assert!(processes("<html>not found</html>").is_err());
        assert_eq!(body_of("HTTP/1.1 401 Unauthorized\r\n\r\nno"), Err("HTTP status 401".to_owned()));
        for length in 0..ANSWER.len() {
            let _ = processes(&ANSWER[..length]);
        }
    }

    #[test]
    fn a_server_on_a_unix_socket() {
        let tree = Tree::new();
        let path = tree.path("socket");
        let listener = UnixListener::bind(&path).expect("socket");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 4096];
            let length = stream.read(&mut request).expect("a request");
            let answer = format!("HTTP/1.0 200 OK\r\nContent-Type: text/xml\r\n\r\n{ANSWER}");
            stream.write_all(answer.as_bytes()).expect("answered");
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let url = format!("--collector.supervisord.url=unix://{}", path.display());
        let samples = tree.samples("supervisord", &["--collector.supervisord", &url]);
        assert!(server.join().expect("served").contains("getAllProcessInfo"));
        for line in [
            "node_supervisord_up{group=\"web\",name=\"a&b\"} 1\n",
            "node_supervisord_start_time_seconds{group=\"web\",name=\"a&b\"} 1.7e+09\n",
            "node_supervisord_state{group=\"\",name=\"c\"} 100\n",
            "node_supervisord_exit_status{group=\"\",name=\"c\"} 3\n",
        ] {
            assert!(samples.contains(line), "{line} in {samples}");
        }
        assert!(!samples.contains("start_time_seconds{group=\"\""), "{samples}");
    }
}
