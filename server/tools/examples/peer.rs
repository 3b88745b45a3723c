//! Our blocks read by upstream's tool and server, and upstream's blocks read by us: the same samples must come out.
//!
//! `cargo run -p tools --example peer -- FOLDER` with the folder of upstream's programs; `cargo xtask peers blocks` does so.

use anyhow::{Context, bail, ensure};
use model::{FloatHistogram, Labels, Span, Timestamp, Value};
use runtime::Disk;
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};
use storage::Storage;
use tsdb::{Options, Tsdb};

/// Steps of the samples that are written, half a minute apart.
const STEPS: i64 = 1100;
const STEP_MS: i64 = 30_000;
const BEGIN_MS: i64 = 1_700_000_100_000;

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|arg| arg == "tsdb") {
        return tools::main(std::env::args().skip(2).collect());
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let bin = PathBuf::from(std::env::args().nth(1).context("usage: peer FOLDER")?);
    let promtool = bin.join("promtool");
    let work = tempfile::tempdir()?;
    let path = |name: &str| work.path().join(name);
    let text = |path: &Path| path.to_string_lossy().into_owned();

    // Ours to theirs.
    let ours = Tsdb::open(Disk::open(path("ours"))?, Options { retention_ms: None, ..Options::default() })?;
    fill(&ours)?;
    ours.compact()?;
    let exported = path("exported");
    let metas = blocks::export(&ours, &Disk::open(&exported)?, (i64::MIN, i64::MAX), &[], blocks::BLOCK_MS)?;
    drop(ours);
    std::fs::create_dir_all(exported.join("wal"))?;
    let samples: u64 = metas.iter().map(|meta| meta.stats.num_samples).sum();
    let list = output(Command::new(&promtool).args(["tsdb", "list"]).arg(&exported))?;
    ensure!(list.lines().count() == metas.len() + 1, "upstream lists other blocks:\n{list}");
    println!("list: upstream sees {} blocks", metas.len());
    for meta in &metas {
        let analyze = |program: &mut Command| output(program.arg(&exported).arg(&meta.ulid));
        let theirs = analyze(Command::new(&promtool).args(["tsdb", "analyze"]))?;
        let mine = analyze(Command::new(narthex()?).args(["tsdb", "analyze"]))?;
        compare("analyze", &sorted(&mine), &sorted(&theirs))?;
    }
    let dump = |folder: &Path| output(Command::new(&promtool).args(["tsdb", "dump"]).arg(folder));
    let mine = |command: &str, folder: &Path| output(Command::new(narthex()?).args(["tsdb", command]).arg(folder));
    let theirs = dump(&exported)?;
    let of_blocks = mine("dump", &exported)?;
    ensure!(of_blocks.lines().count() as u64 == samples, "{} of {samples} samples", of_blocks.lines().count());
    compare("dump of our blocks", &sorted(&without_skipped(&of_blocks)), &sorted(&theirs))?;
    compare("dump of our store", &sorted(&mine("dump", &path("ours"))?), &sorted(&of_blocks))?;
    let openmetrics = output(Command::new(&promtool).args(["tsdb", "dump-openmetrics"]).arg(&exported))?;
    compare("dump-openmetrics", &sorted(&mine("dump-openmetrics", &exported)?), &sorted(&openmetrics))?;

    // Theirs to ours: blocks that upstream's tool makes of that text, and text that ours makes of them.
    let (file, made) = (path("samples.om"), path("made"));
    std::fs::File::create(&file)?.write_all(openmetrics.as_bytes())?;
    output(Command::new(&promtool).args(["tsdb", "create-blocks-from", "openmetrics", "-q"]).args([&file, &made]))?;
    std::fs::create_dir_all(made.join("wal"))?;
    compare("dump of upstream's blocks", &sorted(&mine("dump", &made)?), &sorted(&dump(&made)?))?;
    let (made_by_us, imported) = (path("made-by-us"), path("imported"));
    let create = ["tsdb", "create-blocks-from", "openmetrics", "-q"];
    output(Command::new(narthex()?).args(create).args([&file, &made_by_us]))?;
    std::fs::create_dir_all(made_by_us.join("wal"))?;
    compare("create-blocks-from", &sorted(&dump(&made_by_us)?), &sorted(&dump(&made)?))?;
    output(Command::new(narthex()?).args(["tsdb", "import"]).args([&made, &imported]))?;
    compare("import", &sorted(&mine("dump", &imported)?), &sorted(&dump(&made)?))?;

    serve(&bin.join("prometheus"), &exported, work.path(), &theirs)?;
    println!("{samples} samples agree; {}", text(&exported));
    Ok(())
}

/// Series of every kind.
fn fill(store: &Tsdb) -> anyhow::Result<()> {
    let mut histogram = FloatHistogram {
        integer: true,
        schema: 0,
        zero_threshold: 0.001,
        positive_spans: vec![Span { offset: -2, length: 3 }, Span { offset: 4, length: 1 }],
        positive: vec![0.0; 4],
        ..FloatHistogram::default()
    };
    let mut random = 7_u64;
    for step in 0..STEPS {
        let mut appender = store.appender();
        for number in 0..40_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let labels = Labels::from_pairs([
                ("__name__", ["up", "requests_total", "load", "latency", "latency_float"][number as usize % 5]),
                ("instance", &format!("host-{}:9100", number / 5)),
                ("job", "a \"quoted\" job\n"),
            ]);
            let series = appender.series(&labels)?;
            let value = match number % 5 {
                0 => Value::Float(1.0),
                1 => Value::Float((step * 3) as f64),
                2 if step == 500 => Value::Float(f64::NEG_INFINITY),
                2 => Value::Float((random >> 40) as f64 / 1000.0),
                kind => {
                    histogram.positive[(random >> 60) as usize % 4] += 1.0;
                    histogram.count += 1.0;
                    histogram.sum += 0.25;
                    let fraction = if kind == 4 { 0.5 } else { 0.0 };
                    let mut own = FloatHistogram { integer: kind == 3, ..histogram.clone() };
                    own.positive[0] += fraction;
                    own.count += fraction;
                    Value::Histogram(Arc::new(own))
                }
            };
            let late = if number % 7 == 0 && step % 11 == 0 { 3 } else { 0 };
            let at = Timestamp(BEGIN_MS + step * STEP_MS + late);
            appender.sample(series, model::Sample { at, start: None, value })?;
        }
        appender.commit()?;
    }
    Ok(())
}

/// This program, which is `narthex` when its first argument is `tsdb`.
fn narthex() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe()?)
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let done = command.output().with_context(|| format!("starting {command:?}"))?;
    if !done.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(String::from_utf8(done.stdout)?)
}

/// The lines that upstream's tool prints too: it looks for floats, then for histograms of floats, then for those of whole
/// numbers, and each look at a series that has none passes over a sample.
fn without_skipped(dump: &str) -> String {
    let (mut last, mut skipped, mut text) = ("", 0, String::new());
    for line in dump.lines() {
        let series = line.split_once("} ").map_or(line, |(series, _)| series);
        if series != last {
            (last, skipped) = (series, 0);
        }
        let skips = match series {
            series if series.contains("\"latency\"") => 2,
            series if series.contains("\"latency_float\"") => 1,
            _ => 0,
        };
        if skipped < skips {
            skipped += 1;
        } else {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

fn compare(what: &str, mine: &[&str], theirs: &[&str]) -> anyhow::Result<()> {
    let different = mine.iter().zip(theirs).find(|(a, b)| a != b);
    if let Some((a, b)) = different {
        bail!("{what} differs:\n  ours       {a}\n  upstream's {b}");
    }
    ensure!(mine.len() == theirs.len() && !mine.is_empty(), "{what}: {} lines, upstream {}", mine.len(), theirs.len());
    println!("{what}: {} lines agree", mine.len());
    Ok(())
}

/// A program that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Upstream's server answers from the blocks: as many series, and as many samples of one of them.
fn serve(prometheus: &Path, folder: &Path, work: &Path, dump: &str) -> anyhow::Result<()> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let config = work.join("prometheus.yml");
    std::fs::File::create(&config)?.write_all(b"{}\n")?;
    let child = Command::new(prometheus)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", folder.display()))
        .args(["--storage.tsdb.retention.time=100y", &format!("--web.listen-address=127.0.0.1:{port}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let _running = Running(child);
    let end = (BEGIN_MS + STEPS * STEP_MS) / 1000;
    let query = format!("/api/v1/query?time={end}&query=sum(count_over_time(up[1d]))");
    let wanted = dump.lines().filter(|line| line.contains("__name__=\"up\"")).count();
    let mut last = String::new();
    for _ in 0..300 {
        last = ask(port, &query).unwrap_or_default();
        if last.contains(&format!("\"{wanted}\"")) {
            println!("upstream's server counts {wanted} samples of a metric in our blocks");
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("upstream's server does not count {wanted} samples: {last}")
}

fn ask(port: u16, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
