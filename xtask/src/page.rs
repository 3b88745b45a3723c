//! The gateway's page in a real browser: how soon 10,000 groups are there, and whether everything on it works.

use crate::{
    chromium::Chromium,
    processes::{self, free_port, http, start, wait},
};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

const GROUPS: usize = 10_000;
/// Milliseconds until the page of all groups can be used.
const READY_MS_MAX: f64 = 1000.0;

/// One thing that the page must do.
type Step = fn(&mut Chromium, &str) -> Result<()>;

/// Runs the gateway, fills it, and uses its page. `--browser PROGRAM` names another browser than `/usr/bin/chromium`.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let browser = match args {
        [] => PathBuf::from("/usr/bin/chromium"),
        [flag, program] if flag == "--browser" => PathBuf::from(program),
        _ => anyhow::bail!("usage: cargo xtask page [--browser PROGRAM]"),
    };
    ensure!(browser.is_file(), "{} is not there; install chromium or name it by --browser", browser.display());
    let work = crate::root().join("target/page");
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work)?;
    let port = free_port()?;
    let listen = format!("--web.listen-address=127.0.0.1:{port}");
    let _gateway = start(&processes::pushgateway()?, &[&listen, "--web.enable-admin-api"])?;
    wait(|| http(port, "GET", "/-/ready", "").is_ok())?;
    fill(port)?;
    let page = format!("http://localhost:{port}");
    dumped(&browser, &work, &page)?;
    let mut browser = Chromium::start(&browser, &work.join("profile"))?;
    let steps: [(&str, Step); 7] = [
        ("opens in time", ready),
        ("searches", search),
        ("pages", pages),
        ("shows texts as texts", texts),
        ("copies a command that works", copies),
        ("deletes when told twice", deletes),
        ("is dark where that is wanted", dark),
    ];
    for (what, step) in steps {
        step(&mut browser, &page).with_context(|| format!("the page {what}"))?;
        println!("the page {what}");
    }
    let strangers: Vec<&Value> = browser
        .events("Network.requestWillBeSent")
        .map(|event| &event["request"]["url"])
        .filter(|url| !url.as_str().is_some_and(|url| url.starts_with(&page) || url == "about:blank"))
        .collect();
    ensure!(strangers.is_empty(), "the page asks others: {strangers:?}");
    let complaints: Vec<&Value> = browser.events("Runtime.exceptionThrown").collect();
    ensure!(complaints.is_empty(), "the page's script failed: {complaints:?}");
    Ok(())
}

fn fill(port: u16) -> Result<()> {
    let mut connection = crate::bench::Connection::open(port)?;
    for group in 0..GROUPS {
        let body = format!("# HELP m A <b>help</b>.\n# TYPE m gauge\nm{{n=\"{group}\"}} {group}\n");
        connection.ask("PUT", &format!("/metrics/job/batch/instance/i{group}"), "", &body)?;
    }
    // Sorted first, and refused once after that.
    let body = "other{x=\"<script>document.title='taken'</script>\"} 1\n";
    connection.ask("PUT", "/metrics/job/%3Cimg%20src=x%3E/a/%22quoted%22", "", body)?;
    let refused = http(port, "PUT", "/metrics/job/%3Cimg%20src=x%3E/a/%22quoted%22", "m 1 1000\n");
    ensure!(refused.is_err(), "a timestamp was taken");
    Ok(())
}

/// The page as a browser has it that only writes it out.
fn dumped(browser: &Path, work: &Path, page: &str) -> Result<()> {
    let output = Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!("--user-data-dir={}", work.join("dump").display()))
        .arg(page)
        .output()
        .context("starting the browser")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let groups = text.matches("<details class=\"group\">").count();
    ensure!(groups == 50, "{groups} groups on the first page: {}", String::from_utf8_lossy(&output.stderr));
    for part in [
        "page 1 of 201",
        "10001 of 10001 groups",
        "last push failed",
        &format!("curl --data-binary @- {page}/metrics/job@base64/"),
        "Delete all 10001 groups?",
    ] {
        ensure!(text.contains(part), "{part:?} is not on the page");
    }
    Ok(())
}

fn number(browser: &mut Chromium, expression: &str) -> Result<f64> {
    browser.value(expression)?.as_f64().with_context(|| format!("{expression} is no number"))
}

fn text(browser: &mut Chromium, expression: &str) -> Result<String> {
    let value = browser.value(expression)?;
    value.as_str().map(str::to_owned).with_context(|| format!("{expression} is no text"))
}

const COUNT: &str = "document.querySelectorAll('.group').length";
const BODY: &str = "document.body.innerText";

fn ready(browser: &mut Chromium, page: &str) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..5 {
        browser.open(page)?;
        times.push(number(browser, "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")?);
    }
    times.sort_by(f64::total_cmp);
    let bytes = number(browser, "performance.getEntriesByType('navigation')[0].decodedBodySize")?;
    println!("  {GROUPS} groups: the page is ready after {:.0} ms, {bytes} bytes", times[2]);
    ensure!(times[2] < READY_MS_MAX, "{times:?} ms");
    ensure!(number(browser, COUNT)? == 50.0);
    Ok(())
}

fn search(browser: &mut Chromium, page: &str) -> Result<()> {
    browser.open(page)?;
    browser.forget("Page.loadEventFired");
    browser.begin("document.querySelector('[name=q]').value = 'instance=i7777'; document.forms[0].requestSubmit()")?;
    browser.event("Page.loadEventFired")?;
    ensure!(number(browser, COUNT)? == 1.0, "{}", text(browser, BODY)?);
    ensure!(text(browser, BODY)?.contains("1 of 10001 groups"));
    browser.open(&format!("{page}/?failed=1"))?;
    ensure!(number(browser, COUNT)? == 1.0, "one group's last push failed");
    browser.open(&format!("{page}/?q=nothing_like_that"))?;
    ensure!(number(browser, COUNT)? == 0.0);
    Ok(())
}

fn pages(browser: &mut Chromium, page: &str) -> Result<()> {
    browser.open(page)?;
    let first = text(browser, "document.querySelector('.group').innerText")?;
    browser.forget("Page.loadEventFired");
    browser.begin("document.querySelector('[rel=next]').click()")?;
    browser.event("Page.loadEventFired")?;
    ensure!(text(browser, BODY)?.contains("page 2 of 201"));
    ensure!(text(browser, "document.querySelector('.group').innerText")? != first, "the same groups again");
    browser.open(&format!("{page}/?page=200"))?;
    ensure!(number(browser, COUNT)? == 1.0, "the last page has one group");
    ensure!(browser.value("document.querySelector('[rel=next]')")?.is_null());
    Ok(())
}

fn texts(browser: &mut Chromium, page: &str) -> Result<()> {
    browser.open(&format!("{page}/?failed=1"))?;
    browser.value("document.querySelector('.group').open = true")?;
    ensure!(text(browser, "document.title")?.contains("Pushgateway"), "a label ran as a script");
    ensure!(browser.value("document.querySelector('.group img')")?.is_null(), "a label became an image");
    ensure!(text(browser, BODY)?.contains("<script>document.title='taken'</script>"));
    Ok(())
}

fn copies(browser: &mut Chromium, page: &str) -> Result<()> {
    let find = format!("{page}/?q=instance%3Di42");
    let grant = json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
    browser.call("Browser.grantPermissions", grant)?;
    // With the clipboard that pages of localhost have, and as it is for pages that come unencrypted from elsewhere.
    for without in ["", "Object.defineProperty(navigator, 'clipboard', { value: undefined });"] {
        browser.open(&find)?;
        browser.value(&format!(
            "{without} window.copied = null; document.addEventListener('copy', () => {{ window.copied = \
             String(getSelection()); }}); document.querySelector('.group').open = true; \
             document.querySelector('[data-copy]').click()"
        ))?;
        wait_for(browser, "document.querySelector('[data-copy]').textContent === 'Copied'")?;
        let read = if without.is_empty() { "navigator.clipboard.readText()" } else { "window.copied" };
        let command = text(browser, read)?;
        ensure!(command.contains(&format!("{page}/metrics/job@base64/")), "{command:?}");
        crate::sh(Command::new("sh").args(["-c", &command.replace("curl ", "curl -sSf ")]))?;
        browser.open(&find)?;
        ensure!(text(browser, "document.querySelector('.group').textContent")?.contains("some_metric"), "{command}");
    }
    Ok(())
}

fn deletes(browser: &mut Chromium, page: &str) -> Result<()> {
    let find = format!("{page}/?q=instance%3Di4711");
    let click = "document.querySelector('.group .danger').click()";
    browser.open(&find)?;
    browser.value("document.querySelector('.group').open = true")?;
    browser.begin(click)?;
    let asked = browser.dialog(false)?;
    ensure!(asked.contains("i4711"), "{asked}");
    browser.open(&find)?;
    ensure!(number(browser, COUNT)? == 1.0, "it was deleted although the question was answered with no");
    browser.forget("Page.loadEventFired");
    browser.begin(click)?;
    browser.dialog(true)?;
    browser.event("Page.loadEventFired")?;
    ensure!(number(browser, COUNT)? == 0.0, "it is still there");
    browser.open(page)?;
    ensure!(text(browser, BODY)?.contains("10000 of 10000 groups"));
    Ok(())
}

fn dark(browser: &mut Chromium, page: &str) -> Result<()> {
    let mut brightness = Vec::new();
    for scheme in ["light", "dark"] {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        browser.call("Emulation.setEmulatedMedia", features)?;
        browser.open(page)?;
        for property in ["backgroundColor", "color"] {
            let sum = format!(
                "(getComputedStyle(document.body).{property}.match(/[0-9.]+/g) || []).slice(0, 3).reduce((a, b) => a + \
                 Number(b), 0)"
            );
            brightness.push(number(browser, &sum)?);
        }
    }
    let [light_ground, light_text, dark_ground, dark_text] = brightness[..] else { unreachable!("four were taken") };
    ensure!(light_ground > light_text + 300.0 && dark_text > dark_ground + 300.0, "{brightness:?}");
    Ok(())
}

fn wait_for(browser: &mut Chromium, condition: &str) -> Result<()> {
    let so = format!(
        "new Promise((done) => {{ const look = () => ({condition}) ? done(true) : setTimeout(look, 10); \
         setTimeout(() => done(false), 10000); look(); }})"
    );
    ensure!(browser.value(&so)? == true, "{condition} does not come");
    Ok(())
}
