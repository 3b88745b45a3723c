//! A headless Chromium that is told what to do over its debugging pipe: messages of JSON, each ended by a zero byte.
//!
//! Truth: the Chrome DevTools Protocol. The shell ties the browser's descriptors 3 and 4 to our pipes.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

/// Longer than any page here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page. It ends with this value.
pub(crate) struct Chromium {
    child: Child,
    to: ChildStdin,
    from: mpsc::Receiver<Value>,
    next: u64,
    session: Option<String>,
    /// Events that nobody has looked at yet.
    events: Vec<Value>,
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Chromium {
    /// Starts the program with its profile in `folder`.
    pub(crate) fn start(program: &Path, folder: &Path) -> Result<Self> {
        let script = format!(
            "exec \"$1\" --headless=new --no-sandbox --disable-gpu --no-first-run --disable-component-update \
             --disable-background-networking --remote-debugging-pipe --user-data-dir=\"$2\" about:blank 3<&0 4>&1 \
             0</dev/null 1>/dev/null 2>{}",
            "\"$2.log\""
        );
        let mut child = Command::new("sh")
            .args(["-c", &script, "sh"])
            .args([program, folder])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the browser")?;
        let to = child.stdin.take().context("a pipe")?;
        let mut out = BufReader::new(child.stdout.take().context("a pipe")?);
        let (sender, from) = mpsc::channel();
        std::thread::spawn(move || {
            loop {
                let mut message = Vec::new();
                match out.read_until(0, &mut message) {
                    Ok(1..) => {}
                    _ => return,
                }
                message.pop();
                let Ok(value) = serde_json::from_slice(&message) else { return };
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self { child, to, from, next: 1, session: None, events: Vec::new() };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", attach)?;
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(browser)
    }

    fn send(&mut self, method: &str, params: Value) -> Result<u64> {
        let id = self.next;
        self.next += 1;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        self.to.write_all(&bytes).context("the browser has ended")?;
        Ok(id)
    }

    /// One command and its result.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        let id = self.send(method, params)?;
        self.answer(id).with_context(|| method.to_owned())
    }

    fn answer(&mut self, id: u64) -> Result<Value> {
        loop {
            let mut message = self.from.recv_timeout(PATIENCE).context("no answer of the browser")?;
            if message["id"] != id {
                self.events.push(message);
                continue;
            }
            if !message["error"].is_null() {
                bail!("{}", message["error"]);
            }
            return Ok(message["result"].take());
        }
    }

    /// Waits for an event; answers its parameters.
    pub(crate) fn event(&mut self, method: &str) -> Result<Value> {
        loop {
            if let Some(at) = self.events.iter().position(|event| event["method"] == method) {
                return Ok(self.events.remove(at)["params"].take());
            }
            let message = self.from.recv_timeout(PATIENCE).with_context(|| format!("no {method} of the browser"))?;
            self.events.push(message);
        }
    }

    /// Events of a kind that came so far.
    pub(crate) fn events(&self, method: &str) -> impl Iterator<Item = &Value> {
        self.events.iter().filter(move |event| event["method"] == method).map(|event| &event["params"])
    }

    /// Opens a page and waits until it is loaded.
    pub(crate) fn open(&mut self, url: &str) -> Result<()> {
        self.forget("Page.loadEventFired");
        self.call("Page.navigate", json!({ "url": url }))?;
        self.event("Page.loadEventFired").map(drop)
    }

    /// Forgets events of a kind.
    pub(crate) fn forget(&mut self, method: &str) {
        self.events.retain(|event| event["method"] != method);
    }

    /// The value of an expression, which may be a promise.
    pub(crate) fn value(&mut self, expression: &str) -> Result<Value> {
        let params = json!({
            "expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true,
        });
        let mut result = self.call("Runtime.evaluate", params)?;
        if !result["exceptionDetails"].is_null() {
            bail!("{expression}: {}", result["exceptionDetails"]);
        }
        Ok(result["result"]["value"].take())
    }

    /// Runs an expression that may open a dialog or leave the page, and so does not answer before that is settled.
    pub(crate) fn begin(&mut self, expression: &str) -> Result<()> {
        let params = json!({ "expression": format!("setTimeout(() => {{ {expression} }}, 0)"), "userGesture": true });
        self.call("Runtime.evaluate", params).map(drop)
    }

    /// The text of the dialog that opens, which is answered.
    pub(crate) fn dialog(&mut self, accept: bool) -> Result<String> {
        let opened = self.event("Page.javascriptDialogOpening")?;
        self.call("Page.handleJavaScriptDialog", json!({ "accept": accept }))?;
        Ok(opened["message"].as_str().unwrap_or_default().to_owned())
    }
}
