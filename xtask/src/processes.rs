//! Programs started for a comparison, and plain HTTP to them.

use anyhow::{Context, Result, bail};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A started program that ends with this value.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Resident memory now, in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        self.status("VmRSS:")
    }

    /// Asks the program to end and waits until it has.
    pub(crate) fn stop(mut self) -> Result<()> {
        let script = format!("kill {}", self.0.id());
        crate::sh(Command::new("sh").args(["-c", &script]))?;
        self.0.wait()?;
        Ok(())
    }

    /// The most resident memory so far, in bytes.
    pub(crate) fn peak_bytes(&self) -> Result<u64> {
        self.status("VmHWM:")
    }

    /// Forgets the most resident memory so far.
    pub(crate) fn forget_peak(&self) -> Result<()> {
        let file = std::fs::OpenOptions::new().write(true).open(format!("/proc/{}/clear_refs", self.0.id()));
        file.and_then(|mut file| file.write_all(b"5")).context("forgetting the peak of memory")
    }

    fn status(&self, key: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key)).with_context(|| key.to_owned())?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
    }

    /// Processor time used so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
        let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        Ok(ticks / 100.0)
    }
}

/// The folder of upstream's programs, from `--bin DIR` or where `get-peers` puts them, and the other arguments.
pub(crate) fn peers(args: &[String]) -> Result<(PathBuf, Vec<String>)> {
    let mut rest = args.to_vec();
    let bin = match rest.iter().position(|arg| arg == "--bin") {
        Some(at) if at + 1 < rest.len() => PathBuf::from(rest.drain(at..at + 2).nth(1).unwrap_or_default()),
        Some(_) => bail!("--bin needs a folder"),
        None => PathBuf::from(std::env::var("HOME")?).join(".cache/narthex-peers/root/usr/bin"),
    };
    if !bin.join("prometheus").is_file() {
        bail!("{} has no prometheus; run ../shared/tools/get-peers first", bin.display());
    }
    Ok((bin, rest))
}

/// Our program, built as it is shipped; or the one that `NARTHEX_PROGRAM` names, to compare with an earlier build.
pub(crate) fn ours() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("NARTHEX_PROGRAM") {
        return Ok(program.into());
    }
    crate::cargo(&["build", "--release", "--quiet"])?;
    let folder = std::env::var("CARGO_TARGET_DIR").map_or_else(|_| crate::root().join("target"), PathBuf::from);
    Ok(folder.join("release/narthex"))
}

/// The exporter alone, built as it is shipped.
pub(crate) fn exporter() -> Result<PathBuf> {
    alone("exporter")
}

/// The gateway alone, built as it is shipped.
pub(crate) fn pushgateway() -> Result<PathBuf> {
    alone("pushgateway")
}

fn alone(package: &str) -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("NARTHEX_PROGRAM") {
        return Ok(program.into());
    }
    crate::cargo(&["build", "--profile", "dist", "--quiet", "--package", package])?;
    let folder = std::env::var("CARGO_TARGET_DIR").map_or_else(|_| crate::root().join("target"), PathBuf::from);
    Ok(folder.join("dist").join(format!("narthex-{package}")))
}

/// Starts a program that says nothing.
pub(crate) fn start(program: &Path, args: &[&str]) -> Result<Running> {
    let child = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Ok(Running(child.with_context(|| program.display().to_string())?))
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Asks until it is so, half a minute at most.
pub(crate) fn wait(mut ready: impl FnMut() -> bool) -> Result<()> {
    for _ in 0..300 {
        if ready() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("not ready after 30 s")
}

/// One HTTP/1.0 request; any status but 2xx is an error.
pub(crate) fn http(port: u16, method: &str, path: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    if head.split(' ').nth(1).is_none_or(|status| !status.starts_with('2')) {
        bail!("{method} {path}: {}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}

/// An answer whatever its status.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) location: String,
    pub(crate) body: String,
}

/// One request, with a form as its body if there is one.
pub(crate) fn ask(port: u16, method: &str, path: &str, form: Option<&str>) -> Result<Answer> {
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    match form {
        Some(form) => send(port, method, path, &headers, form.as_bytes()),
        None => send(port, method, path, &[], b""),
    }
}

/// One POST of any bytes.
pub(crate) fn post(port: u16, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
    send(port, "POST", path, headers, body)
}

fn send(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut head = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {}\r\n", body.len());
    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{method} {path}: no HTTP answer"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    let header = |wanted: &str| {
        let found = head.lines().filter_map(|line| line.split_once(": "));
        found.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.to_owned()).next()
    };
    let [content_type, location] = ["content-type", "location"].map(|name| header(name).unwrap_or_default());
    Ok(Answer { status, content_type, location, body: body.to_owned() })
}

/// Writes a file whole.
pub(crate) fn write_file(path: &Path, text: &str) -> Result<()> {
    std::fs::File::create(path)?.write_all(text.as_bytes()).with_context(|| path.display().to_string())
}

/// Seconds since 1970.
#[allow(clippy::disallowed_methods, reason = "real programs are asked for their samples of now")]
pub(crate) fn now_seconds() -> Result<u64> {
    Ok(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs())
}
