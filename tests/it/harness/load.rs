//! Sessions at work, without a pause, while a test does something to the
//! gateway.
//!
//! Owns: the threads, which exit each session was seen on, what went wrong.
//! Must not know: what is done meanwhile.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::client::{Answer, Client};
use super::gateway::Gateway;
use super::request::{Ask, basic, get};
use super::{PATIENCE, eventually};

/// Threads that make new sessions and use old ones until they are stopped.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    address: Mutex<SocketAddr>,
    url: String,
    stop: AtomicBool,
    made: AtomicUsize,
    answers: AtomicUsize,
    broken: AtomicUsize,
    noticed: Mutex<Vec<String>>,
    seen: Mutex<HashMap<String, String>>,
    wrong: Mutex<Vec<String>>,
}

impl Load {
    /// So many threads that ask for `url`.
    pub fn start(gateway: &Gateway, url: &str, threads: usize) -> Self {
        let shared = Arc::new(Shared {
            address: Mutex::new(gateway.listens()),
            url: url.to_owned(),
            stop: AtomicBool::new(false),
            made: AtomicUsize::new(0),
            answers: AtomicUsize::new(0),
            broken: AtomicUsize::new(0),
            noticed: Mutex::default(),
            seen: Mutex::default(),
            wrong: Mutex::default(),
        });
        let threads = (0..threads).map(|_| {
            let shared = shared.clone();
            std::thread::spawn(move || shared.work())
        });
        Self { threads: threads.collect(), shared }
    }

    /// The gateway has come back elsewhere.
    pub fn follow(&self, gateway: &Gateway) {
        *self.shared.address.lock().unwrap() = gateway.listens();
    }

    /// Waits for so many more answers.
    #[track_caller]
    pub fn wait_answers(&self, count: usize) {
        let start = self.shared.answers.load(Ordering::Relaxed);
        eventually("answers under load", PATIENCE, || {
            (self.shared.answers.load(Ordering::Relaxed) >= start + count).then_some(())
        });
    }

    /// How many answers began and did not end.
    pub fn broken(&self) -> usize {
        self.shared.broken.load(Ordering::Relaxed)
    }

    /// Whatever a client could tell of that something happens to the gateway: a
    /// connection refused or broken off, an answer of the drain's, or one that
    /// closes.
    pub fn noticed(&self) -> Vec<String> {
        self.shared.noticed.lock().unwrap().clone()
    }

    /// Every session that saw a success, and its exit.
    pub fn sessions(&self) -> HashMap<String, String> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Ends the threads; nothing may have gone wrong.
    #[track_caller]
    pub fn stop(mut self) -> HashMap<String, String> {
        self.halt();
        let wrong = self.shared.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{} answers were wrong, the first: {}", wrong.len(), wrong[0]);
        self.sessions()
    }

    fn halt(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.halt();
    }
}

impl Shared {
    fn work(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let address = *self.address.lock().unwrap();
            match Client::try_open(address) {
                Ok(mut client) => while self.ask(&mut client).is_some() {},
                Err(error) => {
                    self.notice(format!("no connection: {error}"));
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
            }
        }
    }

    /// One request; `None` where the connection is done for.
    fn ask(&self, client: &mut Client) -> Option<()> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let session = self.choose();
        let fields = basic(&format!("acme-session-{session}-ttl-1h"));
        let sent = client.try_send(get(&self.url, &fields));
        let answer = match sent.and_then(|()| client.try_answer("GET")) {
            Ok(answer) => answer,
            Err(error) => {
                self.notice(format!("{session}: {error}"));
                return None;
            }
        };
        if answer.status != 200 || answer.has("connection", "close") {
            self.notice(format!("{session}: {answer:?}"));
        }
        if !answer.whole {
            self.broken.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.judge(session, &answer);
        (!answer.has("connection", "close")).then_some(())
    }

    fn notice(&self, what: String) {
        self.noticed.lock().unwrap().push(what);
    }

    /// Every second one is new.
    fn choose(&self) -> String {
        let n = self.made.fetch_add(1, Ordering::Relaxed);
        let old = n.wrapping_mul(0x9e37_79b9) % (n / 2 + 1);
        format!("s{}", if n.is_multiple_of(2) { n / 2 } else { old })
    }

    fn judge(&self, session: String, answer: &Answer) {
        let problem = match (answer.status, answer.code()) {
            (503, "draining") => return,
            (200, _) => {
                let mut seen = self.seen.lock().unwrap();
                let exit = seen.entry(session.clone()).or_insert_with(|| answer.exit()).clone();
                let stayed = exit == answer.exit() && answer.news() != "moved";
                (!stayed).then(|| format!("{session} was on {exit}, now {answer:?}"))
            }
            _ => Some(format!("{session}: {answer:?}")),
        };
        self.wrong.lock().unwrap().extend(problem);
    }
}
