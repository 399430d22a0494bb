//! A process's standard error, line by line, as it comes.
//!
//! Owns: waiting for a line, and reading a field out of one in either format.
//! Must not know: which lines there are.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use serde_json::Value;

use super::PATIENCE;

/// What a process has written so far. Clones see the same lines.
#[derive(Clone, Default)]
pub struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    lines: Mutex<Lines>,
    more: Condvar,
}

#[derive(Default)]
struct Lines {
    lines: Vec<Line>,
    ended: bool,
}

/// One line of a log.
#[derive(Clone, Debug)]
pub struct Line(pub String);

impl Log {
    /// Collects what comes out of `pipe` until it ends.
    pub fn collect(&self, pipe: impl Read + Send + 'static) {
        let shared = self.0.clone();
        shared.lines.lock().unwrap().ended = false;
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let line = Line(String::from_utf8_lossy(&line).into_owned());
                shared.lines.lock().unwrap().lines.push(line);
                shared.more.notify_all();
            }
            shared.lines.lock().unwrap().ended = true;
            shared.more.notify_all();
        });
    }

    /// How many lines there are: a place to wait from.
    pub fn mark(&self) -> usize {
        self.0.lines.lock().unwrap().lines.len()
    }

    /// Every line.
    pub fn lines(&self) -> Vec<Line> {
        self.0.lines.lock().unwrap().lines.clone()
    }

    /// Everything, as it was written.
    pub fn text(&self) -> String {
        self.lines().iter().map(|line| format!("{}\n", line.0)).collect()
    }

    /// The first line that `wanted` likes.
    #[track_caller]
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Line) -> bool) -> Line {
        self.wait_after(0, what, wanted)
    }

    /// The first line behind `mark` that `wanted` likes.
    #[track_caller]
    pub fn wait_after(&self, mark: usize, what: &str, wanted: impl Fn(&Line) -> bool) -> Line {
        self.wait_count(mark, 1, what, wanted).remove(0)
    }

    /// The first `count` lines behind `mark` that `wanted` likes.
    #[track_caller]
    pub fn wait_count(
        &self,
        mark: usize,
        count: usize,
        what: &str,
        wanted: impl Fn(&Line) -> bool,
    ) -> Vec<Line> {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.0.lines.lock().unwrap();
        loop {
            let found: Vec<_> = lines.lines.iter().skip(mark).filter(|line| wanted(line)).cloned().collect();
            if found.len() >= count {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || lines.ended {
                // Not under the lock, which others want after the panic.
                drop(lines);
                panic!("{} of {count} lines say {what}; the log:\n{}", found.len(), self.text());
            }
            lines = self.0.more.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Waits until the process has closed its standard error.
    pub fn wait_end(&self) {
        let lines = self.0.lines.lock().unwrap();
        let (lines, _) = self.0.more.wait_timeout_while(lines, PATIENCE, |lines| !lines.ended).unwrap();
        assert!(lines.ended, "the process still holds its standard error");
    }
}

impl Line {
    /// Whether the line says this anywhere.
    pub fn has(&self, text: &str) -> bool {
        self.0.contains(text)
    }

    /// The value under `key`, of `key=value`, `key="value"` or JSON.
    pub fn field(&self, key: &str) -> Option<String> {
        if let Ok(json) = serde_json::from_str::<Value>(&self.0) {
            return match json.get(key)? {
                Value::String(text) => Some(text.clone()),
                Value::Null => None,
                other => Some(other.to_string()),
            };
        }
        let (_, rest) = self.0.split_once(&format!(" {key}="))?;
        match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').map(|(value, _)| value.to_owned()),
            None => rest.split(' ').next().map(str::to_owned),
        }
    }

    /// The value under `key` as a number.
    #[track_caller]
    pub fn number(&self, key: &str) -> f64 {
        let value = self.field(key).unwrap_or_else(|| panic!("no {key} in {}", self.0));
        value.parse().unwrap_or_else(|_| panic!("{key}={value} is no number in {}", self.0))
    }
}
