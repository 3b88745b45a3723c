//! A gateway in a thread and requests as they stand on the wire, for the examples.

use anyhow::{Context, bail};
use cli::Outcome;
use pushgateway::Environment;
use runtime::{Clock, Shutdown, Tasks};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// A gateway in a thread of its own.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    shutdown: Shutdown,
    pub(crate) ended: mpsc::Receiver<()>,
}

impl Running {
    /// Starts one with these flags on a free port.
    pub(crate) fn start(flags: &[String]) -> anyhow::Result<Self> {
        let mut args = vec!["--web.listen-address=127.0.0.1:0".to_owned()];
        args.extend(flags.iter().cloned());
        let Outcome::Run(parsed) = pushgateway::command().parse(args) else { bail!("flags {flags:?} are not taken") };
        let (started, address) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        thread::spawn(move || -> anyhow::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let clock = Clock::system();
                let env = Environment { clock: clock.clone(), shutdown: stop, tasks: Tasks::new(clock) };
                let bound = pushgateway::bind(parsed, env).await;
                started.send(bound.as_ref().map(|bound| bound.addresses()[0]).map_err(|error| format!("{error:#}")))?;
                bound?.serve().await
            })?;
            end.send(())?;
            Ok(())
        });
        let address = address.recv_timeout(PATIENCE).context("the gateway did not start")?;
        Ok(Self { address: address.map_err(anyhow::Error::msg)?, shutdown, ended })
    }

    /// Stops it in order.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.shutdown.begin();
        self.ended.recv_timeout(PATIENCE).context("the gateway did not stop")
    }
}

/// Sends a request as it stands, its path untouched.
pub(crate) fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &BTreeMap<String, String>,
    body: &[u8],
) -> anyhow::Result<Answer> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || matches!(method, "PUT" | "POST" | "PATCH") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer)
}

fn parse(mut answer: &[u8]) -> anyhow::Result<Answer> {
    loop {
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("an answer without a head")?;
        let head = String::from_utf8(answer[..end].to_vec())?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?.parse()?;
        answer = &answer[end + 4..];
        if status == 100 {
            continue;
        }
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let chunked = headers.get("transfer-encoding").is_some_and(|value| value == "chunked");
        let body = if chunked { dechunk(answer)? } else { answer.to_vec() };
        return Ok(Answer { status, headers, body });
    }
}

fn dechunk(mut rest: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").context("a cut chunk")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end])?, 16)?;
        let (chunk, after) = rest[end + 2..].split_at_checked(size).context("a cut chunk")?;
        if size == 0 {
            return Ok(out);
        }
        out.extend_from_slice(chunk);
        rest = after.strip_prefix(b"\r\n").context("a chunk too long")?;
    }
}
