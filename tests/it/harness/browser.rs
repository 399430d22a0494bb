//! A real browser: headless Chromium, driven over WebDriver.
//!
//! Owns: its process, and the few commands that tests need.
//! Must not know: the page.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::client::Client;
use super::{PATIENCE, eventually};

/// A browser with one window. It dies with this value.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
}

impl Browser {
    /// Opens a window of this size, in the dark or the light.
    #[track_caller]
    pub fn open(width: u32, height: u32, dark: bool) -> Self {
        let mut driver = Command::new("chromedriver")
            .args(["--port=0", "--allowed-ips=127.0.0.1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver runs (Debian packages chromium and chromium-driver)");
        let mut lines = BufReader::new(driver.stdout.take().expect("a pipe")).lines();
        let port = lines.find_map(|line| {
            line.ok()?.split_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok()
        });
        let address = SocketAddr::from(([127, 0, 0, 1], port.expect("chromedriver says its port")));
        // It must not stop at a pipe that nobody reads.
        std::thread::spawn(move || lines.for_each(drop));
        let mut browser = Self { driver, address, session: String::new() };
        let mut arguments = vec![
            "--headless=new".to_owned(),
            "--no-sandbox".into(),
            "--disable-gpu".into(),
            "--disable-dev-shm-usage".into(),
            "--disable-background-networking".into(),
            "--no-proxy-server".into(),
            format!("--window-size={width},{height}"),
        ];
        if dark {
            arguments.push("--blink-settings=preferredColorScheme=0".into());
        }
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let made = browser.command("POST", "/session", &wanted);
        browser.session = format!("/session/{}", made["sessionId"].as_str().expect("a session"));
        // A window of 400 px: headless ones are as narrow as asked only so.
        let metrics = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false } });
        browser.post("/goog/cdp/execute", &metrics);
        browser
    }

    #[track_caller]
    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, value) = self.try_command(method, path, body);
        assert_eq!(status, 200, "{method} {path} {body}: {value:#}");
        value
    }

    #[track_caller]
    fn try_command(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        let answer = Client::open(self.address).send(head + &body).answer(method);
        let value: Value = serde_json::from_slice(&answer.body).expect("JSON");
        (answer.status, value["value"].clone())
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        self.command("POST", &format!("{}{path}", self.session), body)
    }

    /// Goes to an address, and is there when the page is loaded.
    #[track_caller]
    pub fn go(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Runs a function's body in the page.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression is true in the page.
    #[track_caller]
    pub fn wait(&self, what: &str, expression: &str) {
        eventually(what, PATIENCE, || {
            self.run(&format!("return Boolean({expression});")).as_bool().filter(|done| *done)
        });
    }

    /// Clicks as a person would: on what is to be seen, where it is, and once
    /// more where the page has put another in its place just now.
    #[track_caller]
    pub fn click(&self, xpath: &str) {
        eventually(xpath, PATIENCE, || {
            let found = self.post("/element", &json!({ "using": "xpath", "value": xpath }));
            let element = found.as_object().and_then(|found| found.values().next()).and_then(Value::as_str);
            let path = format!("{}/element/{}/click", self.session, element.expect("an element"));
            let (status, value) = self.try_command("POST", &path, &json!({}));
            assert!(status == 200 || value["error"] == "stale element reference", "{xpath}: {value:#}");
            (status == 200).then_some(())
        });
    }

    /// What the page has complained of since it was last asked.
    #[track_caller]
    pub fn complaints(&self) -> Vec<Value> {
        let all = self.post("/se/log", &json!({ "type": "browser" }));
        let serious = |line: &&Value| line["level"] == "SEVERE" || line["level"] == "WARNING";
        all.as_array().expect("a list").iter().filter(serious).cloned().collect()
    }

    /// Keeps a picture of the window among the tests' output; says where.
    #[track_caller]
    pub fn picture(&self, name: &str) -> PathBuf {
        let encoded = self.command("GET", &format!("{}/screenshot", self.session), &Value::Null);
        let png = STANDARD.decode(encoded.as_str().expect("text")).expect("base64");
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join(format!("{name}.png"));
        std::fs::write(&path, png).expect("the picture is written");
        path
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.command("DELETE", &self.session, &Value::Null);
        }
        // The browser is the driver's child, and ends with its session or it.
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
