//! `narthex push`: a batch job's side of the gateway.
//!
//! Sends a file, standard input, single values, or what became of a wrapped command:
//! `narthex push --job=backup -- ./backup.sh`. What it leaves out: retries, which belong to whoever runs the job.

use crate::key::Key;
use anyhow::{Context, bail, ensure};
use cli::{Command, Flag, Parsed};
use client::{Client, HttpConfig, Options, Request};
use exposition::{Escaping, Family, Format, write};
use nix::sys::signal;
use runtime::{Clock, Tasks};
use std::{
    collections::BTreeMap,
    io::Read,
    path::Path,
    process::{Child, ExitCode, ExitStatus},
    time::Duration,
};
use tokio::signal::unix::{Signal, SignalKind};
use web::http::{HeaderMap, HeaderValue, Method, header};

/// Bytes of a file or of standard input that are sent at most.
const BODY_MAX: u64 = 64 << 20;
/// Bytes of a refusal that are shown at most.
const ANSWER_MAX: u64 = 64 << 10;
/// Exit code of a command that could not be started, as of a shell.
const NOT_FOUND: u8 = 127;

/// The command line, up to `--`.
fn command() -> Command {
    let about = "Push metrics to a gateway: a file, standard input, values, or the duration and success of a command \
                 given behind --.";
    Command::new("narthex push", about)
        .flag(Flag::string("url", "http://localhost:9091", "Address of the gateway, with its path if it has one."))
        .flag(Flag::string("job", "", "Name of the job, the first label of the group."))
        .flag(Flag::list("grouping", &[], "Further label of the group, as name=value; may be given more than once."))
        .flag(Flag::string("file", "", "File in the text format to send; - is standard input."))
        .flag(Flag::list("value", &[], "Gauge to send, as name=number; may be given more than once."))
        .flag(Flag::boolean("replace", false, "Replace the whole group (PUT) and not only metrics of the same names."))
        .flag(Flag::boolean("delete", false, "Delete the group instead of pushing to it."))
        .flag(Flag::string("http.config.file", "", "File with an HTTP client section: TLS, passwords, proxies."))
        .flag(Flag::duration_go("timeout", "30s", "Longest time for the push."))
        .log_flags()
}

/// Where and how to push.
#[derive(Debug, Clone)]
pub struct Target {
    /// Address of the gateway with its path, without a slash at the end.
    pub url: String,
    /// The group.
    pub key: Key,
    /// Longest time for one push.
    pub timeout: Duration,
}

/// Sends a body in the text format to a group: PUT replaces the group, POST the families of the same names, DELETE
/// removes it.
///
/// # Errors
/// When there is no answer in time, or one that is no success; the gateway's words are in it.
pub async fn send(client: &Client, target: &Target, method: Method, body: Vec<u8>) -> anyhow::Result<()> {
    let url = format!("{}{}", target.url.trim_end_matches('/'), target.key.to_path());
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    let body = body.into();
    let request =
        Request { method, url: &url, headers, body, accept: &[], deadline: target.timeout, body_limit: ANSWER_MAX };
    let mut answer = Vec::new();
    let response = client.fetch(&request, &mut answer).await.with_context(|| format!("pushing to {url}"))?;
    if !response.status.is_success() {
        bail!("{url} answered {}: {}", response.status_line, String::from_utf8_lossy(&answer).trim_end());
    }
    Ok(())
}

/// The whole of a `narthex push` process. Ends with the code of the wrapped command, if there is one; else with 1 when
/// the push failed.
pub fn main(mut args: Vec<String>) -> ExitCode {
    let wrapped = match args.iter().position(|arg| arg == "--") {
        Some(at) => args.split_off(at).split_off(1),
        None => Vec::new(),
    };
    let parsed = match command().parse(args).run_or_say() {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime");
    match runtime.and_then(|runtime| runtime.block_on(run(&parsed, wrapped))) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("narthex push: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(parsed: &Parsed, wrapped: Vec<String>) -> anyhow::Result<ExitCode> {
    cli::log::init(parsed.str("log.level"), parsed.str("log.format"), cli::log::Style::Slog)?;
    let clock = Clock::system();
    let tasks = Tasks::new(clock.clone());
    let target = target(parsed)?;
    let client = Client::new(config(parsed.str("http.config.file"))?, options(&clock, &tasks))?;
    if parsed.bool("delete") {
        send(&client, &target, Method::DELETE, Vec::new()).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let values = values(parsed.list("value"))?;
    let method = if parsed.bool("replace") { Method::PUT } else { Method::POST };
    if wrapped.is_empty() {
        let mut body = text(&values);
        body.extend(input(parsed.str("file"))?);
        ensure!(!body.is_empty(), "there is nothing to push; give --value, --file, or a command behind --");
        send(&client, &target, method, body).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let (began, at) = (clock.now(), clock.unix_ms());
    let (status, mut signals) = wrap(&wrapped).await?;
    let mut families = outcome(status, clock.now() - began, at, clock.unix_ms());
    families.extend(values);
    let mut body = text(&families);
    body.extend(input(parsed.str("file"))?);
    // The command has ended: who asks for the end now does not want to wait for the gateway.
    let sent = tokio::select! {
        biased;
        sent = send(&client, &target, method, body) => sent,
        _ = signals.next() => Err(anyhow::anyhow!("a signal came before the push was done")),
    };
    if let Err(error) = sent {
        eprintln!("narthex push: error: {error:#}");
    }
    Ok(ExitCode::from(code(status)))
}

/// The signals that ask for the end.
struct Ends {
    interrupts: Signal,
    terminations: Signal,
}

impl Ends {
    async fn next(&mut self) -> signal::Signal {
        tokio::select! {
            biased;
            _ = self.interrupts.recv() => signal::SIGINT,
            _ = self.terminations.recv() => signal::SIGTERM,
        }
    }
}

/// Runs a command to its end. A signal that asks for the end is passed on and waited for, so that what became of the
/// command is told; one of the keyboard has reached the command already.
async fn wrap(wrapped: &[String]) -> anyhow::Result<(Result<ExitStatus, u8>, Ends)> {
    let listen = |kind| tokio::signal::unix::signal(kind).context("listening to signals");
    let mut ended = listen(SignalKind::child())?;
    let mut ends =
        Ends { interrupts: listen(SignalKind::interrupt())?, terminations: listen(SignalKind::terminate())? };
    let mut child = match start(wrapped)? {
        Ok(child) => child,
        Err(code) => return Ok((Err(code), ends)),
    };
    // It is reaped here and nowhere else, so that its number is its own until then.
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).context("the command's number")?);
    loop {
        if let Some(status) = child.try_wait().context("waiting for the command")? {
            return Ok((Ok(status), ends));
        }
        tokio::select! {
            biased;
            _ = ended.recv() => {}
            asked = ends.next() => {
                if asked == signal::SIGINT && in_foreground() {
                    continue;
                }
                // Gone already is what was asked for.
                let _ = signal::kill(pid, asked);
            }
        }
    }
}

/// Whether the keyboard of a terminal sends its signals to this process, and so to the command as well.
fn in_foreground() -> bool {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name: state, parent, process group, session, terminal, group in the foreground.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    fields.len() > 5 && fields[2] == fields[5]
}

fn target(parsed: &Parsed) -> anyhow::Result<Target> {
    let job = parsed.str("job");
    ensure!(!job.is_empty(), "--job is missing; it names the group that is pushed to");
    let mut labels = BTreeMap::new();
    for pair in parsed.list("grouping") {
        let (name, value) = pair.split_once('=').with_context(|| format!("--grouping {pair:?} is not name=value"))?;
        ensure!(!name.is_empty() && !name.starts_with("__"), "--grouping {pair:?} has no name that may be used");
        labels.insert(name.to_owned(), value.to_owned());
    }
    labels.insert("job".to_owned(), job.to_owned());
    Ok(Target { url: parsed.str("url").to_owned(), key: Key::new(&labels), timeout: parsed.duration("timeout") })
}

fn options(clock: &Clock, tasks: &Tasks) -> Options {
    let agent = format!("narthex-push/{}", cli::BuildInfo::current().version);
    Options::new(clock.clone(), tasks.clone(), agent)
}

/// The client section in a file; that of no file changes nothing.
pub(crate) fn config(file: &str) -> anyhow::Result<HttpConfig> {
    if file.is_empty() {
        return Ok(HttpConfig::default());
    }
    let text = std::fs::read_to_string(file).with_context(|| file.to_owned())?;
    let mut config: HttpConfig = serde_saphyr::from_str(&text).with_context(|| file.to_owned())?;
    config.set_directory(Path::new(file).parent().unwrap_or(Path::new(".")));
    Ok(config)
}

fn values(given: &[String]) -> anyhow::Result<Vec<Family>> {
    let read = |pair: &String| {
        let (name, number) = pair.split_once('=').with_context(|| format!("--value {pair:?} is not name=number"))?;
        ensure!(model::is_legacy_metric_name(name), "--value {pair:?}: {name:?} is no name of a metric");
        let number = number.trim().parse().with_context(|| format!("--value {pair:?} has no number"))?;
        Ok(Family::gauge(name, "", number))
    };
    given.iter().map(read).collect()
}

fn text(families: &[Family]) -> Vec<u8> {
    let mut out = Vec::new();
    write(families, Format::Text004, Escaping::AllowUtf8, &mut out);
    out
}

fn input(file: &str) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    let read = match file {
        "" => return Ok(body),
        "-" => std::io::stdin().take(BODY_MAX + 1).read_to_end(&mut body),
        path => std::fs::File::open(path).and_then(|file| file.take(BODY_MAX + 1).read_to_end(&mut body)),
    };
    read.with_context(|| format!("--file {file}"))?;
    ensure!(body.len() as u64 <= BODY_MAX, "--file {file} is over {BODY_MAX} bytes; push less");
    Ok(body)
}

fn start(wrapped: &[String]) -> anyhow::Result<Result<Child, u8>> {
    let (program, args) = wrapped.split_first().context("no command")?;
    match std::process::Command::new(program).args(args).spawn() {
        Ok(child) => Ok(Ok(child)),
        Err(error) => {
            eprintln!("narthex push: error: {program}: {error}");
            Ok(Err(NOT_FOUND))
        }
    }
}

/// The exit code of a command as a shell tells it: one that a signal ended has 128 and the signal's number.
fn code(status: Result<ExitStatus, u8>) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    match status {
        Err(code) => code,
        Ok(status) => {
            let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
            code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
        }
    }
}

/// What is told of a run. The time of the last success is left as it was by one that failed.
fn outcome(status: Result<ExitStatus, u8>, took: Duration, began: i64, ended: i64) -> Vec<Family> {
    let success = code(status) == 0;
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let mut families = vec![
        Family::gauge("batch_job_duration_seconds", "How long the last run took.", took.as_secs_f64()),
        Family::gauge("batch_job_success", "Whether the last run ended with exit code 0.", f64::from(success)),
        Family::gauge("batch_job_exit_code", "Exit code of the last run.", f64::from(code(status))),
        Family::gauge("batch_job_start_time_seconds", "When the last run began, in Unix time.", seconds(began)),
    ];
    if success {
        let help = "When the last run that succeeded ended, in Unix time.";
        families.push(Family::gauge("batch_job_last_success_time_seconds", help, seconds(ended)));
    }
    families
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Parsed {
        match command().parse(args.iter().map(|arg| (*arg).to_owned())) {
            cli::Outcome::Run(parsed) => parsed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_group_and_the_values_come_from_flags() {
        let target = target(&parsed(&["--job=a/b", "--grouping=zone=x=y", "--grouping=empty="])).expect("a target");
        assert_eq!(target.key.to_string(), "{empty=\"\",job=\"a/b\",zone=\"x=y\"}");
        assert!(super::target(&parsed(&[])).is_err());
        assert!(super::target(&parsed(&["--job=a", "--grouping=x"])).is_err());
        let families = values(&["a=1.5".to_owned(), "b=-2".to_owned()]).expect("values");
        assert_eq!(String::from_utf8_lossy(&text(&families)), "# TYPE a gauge\na 1.5\n# TYPE b gauge\nb -2\n");
        assert!(values(&["a".to_owned()]).is_err() && values(&["1a=1".to_owned()]).is_err());
    }

    #[tokio::test]
    async fn a_run_that_failed_keeps_the_time_of_the_last_success() {
        let run = async |script: &str| {
            let wrapped = ["sh".to_owned(), "-c".to_owned(), script.to_owned()];
            wrap(&wrapped).await.expect("a command").0
        };
        let names = |status| -> Vec<String> {
            outcome(status, Duration::from_secs(2), 1000, 3000).into_iter().map(|family| family.name).collect()
        };
        assert!(names(run("exit 0").await).iter().any(|name| name.contains("last_success")));
        assert!(!names(run("exit 3").await).iter().any(|name| name.contains("last_success")));
        assert_eq!(code(run("kill -9 $$").await), 137);
        let missing = wrap(&["/no/such/program".to_owned()]).await.expect("told").0;
        assert_eq!(code(missing), 127);
    }
}
