//! A headless Chromium, driven over its own protocol through a pair of pipes: no driver, no port.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use serde_json::{Value, json};

/// For one answer; a loaded machine may be slow, one that hangs is found.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Browser {
    process: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    calls: u64,
    session: Option<String>,
    /// What happened since it was last asked.
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

/// Where a Chromium is; `None` is a reason to skip, except in CI.
pub fn find() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let is_there = |name: &&str| {
        let found = Command::new(name).arg("--version").output();
        found.is_ok_and(|output| output.status.success())
    };
    names.into_iter().find(is_there)
}

impl Browser {
    pub fn start(program: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut process = Command::new("sh")
            // Its protocol is on descriptors 3 and 4, which only a shell hands out.
            .args([
                "-c",
                "exec \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null",
                "sh",
                program,
            ])
            .args([
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
            ])
            .args([
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-extensions",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .args(["--hide-scrollbars", "--lang=en"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (send, from) = mpsc::channel();
        let stdout = process.stdout.take().unwrap();
        std::thread::spawn(move || {
            for message in BufReader::new(stdout).split(0) {
                let Ok(message) = message else { break };
                let Ok(()) = send.send(serde_json::from_slice(&message).unwrap()) else {
                    break;
                };
            }
        });
        let mut browser = Self {
            to: process.stdin.take().unwrap(),
            process,
            from,
            calls: 0,
            session: None,
            events: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let target = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", target);
        browser.session = Some(session["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.to.write_all(&bytes).unwrap();
        loop {
            let message = self.next();
            if message["id"] == json!(id) {
                assert!(
                    message.get("error").is_none(),
                    "{method}: {}",
                    message["error"]
                );
                return message["result"].clone();
            }
        }
    }

    /// Waits for an event of this name.
    pub fn wait(&mut self, method: &str) -> Value {
        loop {
            let found = self
                .events
                .iter()
                .position(|event| event["method"] == method);
            if let Some(at) = found {
                return self.events.remove(at);
            }
            self.next();
        }
    }

    fn next(&mut self) -> Value {
        let message = self
            .from
            .recv_timeout(PATIENCE)
            .expect("the browser answers");
        if message.get("method").is_some() {
            self.events.push(message.clone());
        }
        message
    }

    /// Opens a file and waits until it is drawn.
    pub fn open(&mut self, file: &Path, hash: &str) {
        // Else an address that differs only behind its # is no new page.
        self.call("Page.navigate", json!({"url": "about:blank"}));
        self.wait("Page.loadEventFired");
        let url = format!("file://{}{hash}", file.display());
        self.call("Page.navigate", json!({"url": url}));
        self.wait("Page.loadEventFired");
        assert_eq!(
            self.eval("document.documentElement.dataset.ready"),
            json!("yes")
        );
    }

    /// The value of a script's last expression.
    pub fn eval(&mut self, script: &str) -> Value {
        let params = json!({"expression": script, "returnByValue": true, "awaitPromise": true});
        let result = self.call("Runtime.evaluate", params);
        assert!(
            result.get("exceptionDetails").is_none(),
            "{script}: {result}"
        );
        result["result"]["value"].clone()
    }

    pub fn size(&mut self, width: u32, height: u32) {
        let mobile = width < 500;
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let touch = json!({"enabled": mobile});
        self.call("Emulation.setTouchEmulationEnabled", touch);
    }

    pub fn dark(&mut self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let feature = json!({"name": "prefers-color-scheme", "value": value});
        self.call("Emulation.setEmulatedMedia", json!({"features": [feature]}));
    }

    pub fn key(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            let text = (key == "Enter").then_some("\r");
            let code = match key {
                "Tab" => 9,
                "ArrowDown" => 40,
                _ => 13,
            };
            let mut event =
                json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            if let Some(text) = text {
                event["text"] = json!(text);
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Touches a place, as a finger does.
    pub fn tap(&mut self, (x, y): (f64, f64)) {
        for (kind, points) in [
            ("touchStart", json!([{"x": x, "y": y}])),
            ("touchEnd", json!([])),
        ] {
            let event = json!({"type": kind, "touchPoints": points});
            self.call("Input.dispatchTouchEvent", event);
        }
        // What a tap becomes comes a moment later.
        self.eval("new Promise(done => setTimeout(done, 100))");
    }

    /// Presses the mouse at one place and lets it go at another.
    pub fn drag(&mut self, from: (f64, f64), to: (f64, f64)) {
        let steps = [
            ("mouseMoved", from, "none"),
            ("mousePressed", from, "left"),
            ("mouseMoved", ((from.0 + to.0) / 2.0, to.1), "left"),
            ("mouseMoved", to, "left"),
            ("mouseReleased", to, "left"),
        ];
        for (kind, (x, y), button) in steps {
            let event = json!({"type": kind, "x": x, "y": y, "button": button, "buttons": 1, "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Where `SLUICE_SCREENSHOTS` names a directory, a picture there.
    pub fn picture(&mut self, name: &str) {
        if let Some(dir) = std::env::var_os("SLUICE_SCREENSHOTS") {
            let shot = self.call("Page.captureScreenshot", json!({"format": "png"}));
            let bytes = base64::Engine::decode(
                &base64::prelude::BASE64_STANDARD,
                shot["data"].as_str().unwrap(),
            );
            std::fs::write(Path::new(&dir).join(name), bytes.unwrap()).unwrap();
        }
    }

    /// Addresses asked for, and whatever was complained about, since it was last asked.
    pub fn seen(&mut self) -> (Vec<String>, Vec<String>) {
        let (mut addresses, mut complaints) = (Vec::new(), Vec::new());
        for event in std::mem::take(&mut self.events) {
            let params = &event["params"];
            match event["method"].as_str().unwrap() {
                "Network.requestWillBeSent" => {
                    addresses.push(params["request"]["url"].as_str().unwrap().to_owned());
                }
                "Runtime.exceptionThrown" => complaints.push(params.to_string()),
                "Runtime.consoleAPICalled" if params["type"] != "log" => {
                    complaints.push(params.to_string());
                }
                "Log.entryAdded" if params["entry"]["level"] == "error" => {
                    complaints.push(params["entry"].to_string());
                }
                _ => {}
            }
        }
        (addresses, complaints)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
