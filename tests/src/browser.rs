//! A real browser, for the console's tests: Chromium without a window, controlled through its DevTools protocol
//! (<https://chromedevtools.github.io/devtools-protocol/>).
//!
//! It ends with its owner, and its profile is removed. It is sent to 127.0.0.1 only.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

use crate::error::{IoContext, LabError};
use crate::lab::{RunningProcess, wait_for};
use crate::tools;

/// How long the browser may take to start, and each of its answers.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a wait for the connection checks whether the lab is stopping.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Whether this machine has one.
#[must_use]
pub fn can_run() -> bool {
    tools::find("chromium").is_some()
}

/// A browser with one page.
pub struct Browser {
    socket: WebSocket<TcpStream>,
    session: String,
    last: u64,
    complaints: Vec<String>,
    // After the socket: it is ended, then its profile is removed.
    _process: RunningProcess,
    _profile: TempDir,
}

impl Browser {
    /// Starts one.
    ///
    /// # Errors
    /// There is none, or it does not start.
    pub fn start() -> Result<Self, LabError> {
        let profile = tempfile::Builder::new().prefix("stackferry-browser-").tempdir();
        let profile = profile.at("make a folder in", &std::env::temp_dir())?;
        let mut command = Command::new(tools::find("chromium").ok_or(LabError::Missing("chromium"))?);
        command.args([
            "--headless=new",
            // The tests run as root, where Chromium has no sandbox.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--no-default-browser-check",
            "--hide-scrollbars",
            "--force-color-profile=srgb",
            // Nothing but this machine is reached, whatever a page asks for.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--remote-debugging-port=0",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        // Its settings lie in its profile, not in the home of whoever runs the tests.
        command.env("HOME", profile.path()).env("XDG_CONFIG_HOME", profile.path());
        let mut process = RunningProcess::start("chromium".to_owned(), command)?;
        let url = process.wait_line("the browser's address", COMMAND_TIMEOUT, |line| {
            line.split_once("DevTools listening on ").map(|(_, url)| url.trim().to_owned())
        })?;
        let socket = connect(&url)?;
        let mut browser = Self {
            socket,
            session: String::new(),
            last: 0,
            complaints: Vec::new(),
            _process: process,
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attached = json!({ "targetId": target.get("targetId"), "flatten": true });
        let attached = browser.call("Target.attachToTarget", attached)?;
        browser.session = text(&attached, "sessionId")?;
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}))?;
        }
        browser.size(1280, 900)?;
        Ok(browser)
    }

    /// What pages complained about so far: scripts that failed, what a policy forbade, what could not be loaded.
    #[must_use]
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Makes the window so large, in pixels.
    ///
    /// # Errors
    /// The browser's.
    pub fn size(&mut self, width: u32, height: u32) -> Result<(), LabError> {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", metrics).map(drop)
    }

    /// Whether its user likes dark pages.
    ///
    /// # Errors
    /// The browser's.
    pub fn dark(&mut self, dark: bool) -> Result<(), LabError> {
        let scheme = if dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", features).map(drop)
    }

    /// Opens an address, and waits until the page is there.
    ///
    /// # Errors
    /// The browser's.
    pub fn open(&mut self, url: &str) -> Result<(), LabError> {
        let opened = self.call("Page.navigate", json!({ "url": url }))?;
        if let Some(error) = opened.get("errorText").and_then(Value::as_str) {
            return Err(LabError::Wrong(format!("{url} could not be opened: {error}")));
        }
        self.wait(&format!("{url} is there"), "document.readyState === 'complete' && location.href !== 'about:blank'")
    }

    /// What an expression gives in the page.
    ///
    /// # Errors
    /// The browser's, or what the expression throws.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value, LabError> {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", params)?;
        match answer.get("exceptionDetails") {
            Some(error) => Err(LabError::Wrong(format!("`{expression}` failed in the page: {error}"))),
            None => Ok(answer.pointer("/result/value").cloned().unwrap_or_default()),
        }
    }

    /// Waits until an expression is true. While a page is on its way, nothing is.
    ///
    /// # Errors
    /// It does not become true in time.
    pub fn wait(&mut self, what: &str, expression: &str) -> Result<(), LabError> {
        let whole = format!("Boolean({expression})");
        wait_for(what, COMMAND_TIMEOUT, || Ok(self.evaluate(&whole).is_ok_and(|value| value == true)))
    }

    /// Whether the page has an element.
    ///
    /// # Errors
    /// The browser's.
    pub fn has(&mut self, selector: &str) -> Result<bool, LabError> {
        Ok(self.evaluate(&format!("document.querySelector({}) !== null", quoted(selector)))? == true)
    }

    /// The text of an element, as a person sees it; empty where there is none.
    ///
    /// # Errors
    /// The browser's.
    pub fn text(&mut self, selector: &str) -> Result<String, LabError> {
        let text = self.evaluate(&format!("document.querySelector({})?.innerText ?? ''", quoted(selector)))?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Writes into a field, as if by hand.
    ///
    /// # Errors
    /// There is no such field.
    pub fn fill(&mut self, selector: &str, text: &str) -> Result<(), LabError> {
        self.evaluate(&format!(
            "(() => {{ const e = document.querySelector({0}); e.focus(); e.select?.(); }})()",
            quoted(selector)
        ))?;
        self.call("Input.insertText", json!({ "text": text })).map(drop)
    }

    /// Presses a key: `Tab`, `Enter`.
    ///
    /// # Errors
    /// The browser's.
    pub fn press(&mut self, key: &str) -> Result<(), LabError> {
        let (code, typed) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            _ => return Err(LabError::Wrong(format!("no key {key} is known here"))),
        };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": typed });
            self.call("Input.dispatchKeyEvent", event)?;
        }
        Ok(())
    }

    /// Clicks an element that leads to another page or changes this one, and waits until that is there.
    ///
    /// # Errors
    /// There is no such element, or nothing happens.
    pub fn follow(&mut self, selector: &str) -> Result<(), LabError> {
        let click =
            format!("(() => {{ window.stayed = true; document.querySelector({}).click(); }})()", quoted(selector));
        self.evaluate(&click)?;
        self.wait(
            &format!("the page behind {selector}"),
            "window.stayed === undefined && document.readyState === 'complete'",
        )
    }

    /// Takes a picture of the whole page, as PNG.
    ///
    /// # Errors
    /// The browser's, or the file can't be written.
    pub fn picture(&mut self, path: &Path) -> Result<(), LabError> {
        let answer = self.call("Page.captureScreenshot", json!({ "captureBeyondViewport": true }))?;
        let bytes = STANDARD.decode(text(&answer, "data")?);
        let bytes = bytes.map_err(|error| LabError::Wrong(format!("the picture is none: {error}")))?;
        std::fs::write(path, bytes).at("write", path)
    }

    /// Whether the page is wider than the window.
    ///
    /// # Errors
    /// The browser's.
    pub fn is_too_wide(&mut self) -> Result<bool, LabError> {
        let root = "document.documentElement";
        Ok(self.evaluate(&format!("{root}.scrollWidth > {root}.clientWidth"))? == true)
    }

    fn call(&mut self, method: &str, params: Value) -> Result<Value, LabError> {
        self.last += 1;
        let id = self.last;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let (false, Some(fields)) = (self.session.is_empty(), message.as_object_mut()) {
            fields.insert("sessionId".to_owned(), json!(self.session));
        }
        let failed =
            |error: tungstenite::Error| LabError::Wrong(format!("the browser does not hear {method}: {error}"));
        self.socket.send(Message::text(message.to_string())).map_err(failed)?;
        let deadline = Instant::now() + COMMAND_TIMEOUT;
        while Instant::now() < deadline {
            let message = match self.socket.read() {
                Ok(message) => message,
                Err(tungstenite::Error::Io(error)) if is_timeout(&error) => continue,
                Err(error) => return Err(LabError::Wrong(format!("the browser does not answer {method}: {error}"))),
            };
            let Message::Text(text) = message else { continue };
            let Ok(mut answer) = serde_json::from_str::<Value>(&text) else { continue };
            if answer.get("id") == Some(&json!(id)) {
                return match answer.get("error") {
                    Some(error) => Err(LabError::Wrong(format!("{method} failed: {error}"))),
                    None => Ok(answer.get_mut("result").map(Value::take).unwrap_or_default()),
                };
            }
            self.hear(&answer);
        }
        Err(LabError::Timeout { what: format!("the browser's answer to {method}"), seconds: COMMAND_TIMEOUT.as_secs() })
    }

    fn hear(&mut self, event: &Value) {
        let field = |path: &str| event.pointer(path).map(ToString::to_string).unwrap_or_default();
        match event.get("method").and_then(Value::as_str) {
            Some("Runtime.exceptionThrown") => self.complaints.push(field("/params/exceptionDetails")),
            Some("Log.entryAdded") if event.pointer("/params/entry/level") == Some(&json!("error")) => {
                self.complaints.push(field("/params/entry"));
            }
            _ => {}
        }
    }
}

fn connect(url: &str) -> Result<WebSocket<TcpStream>, LabError> {
    let wrong = |why: String| LabError::Wrong(format!("{url}: {why}"));
    let address = url.strip_prefix("ws://").and_then(|rest| rest.split('/').next());
    let stream = TcpStream::connect(address.unwrap_or_default()).map_err(|error| wrong(error.to_string()))?;
    stream.set_read_timeout(Some(COMMAND_TIMEOUT)).map_err(|error| wrong(error.to_string()))?;
    let (socket, _) = tungstenite::client(url, stream).map_err(|error| wrong(error.to_string()))?;
    socket.get_ref().set_read_timeout(Some(POLL_INTERVAL)).map_err(|error| wrong(error.to_string()))?;
    Ok(socket)
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

fn text(value: &Value, key: &str) -> Result<String, LabError> {
    let text = value.get(key).and_then(Value::as_str).map(str::to_owned);
    text.ok_or_else(|| LabError::Wrong(format!("the browser's answer has no {key}: {value}")))
}

/// A text as JavaScript writes it.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
