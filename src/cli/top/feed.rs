//! What the view is fed with.
//!
//! Owns: the stream of events, the list that is looked at, again and again,
//! and that a gateway which goes away is waited for.
//! Must not know: what is shown of it.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::model::{ERRORS, News, TABS};
use crate::cli::lists::{EXITS, List, POOLS, SESSIONS, USERS};
use crate::cli::remote::{Client, Unanswered};

/// Between two readings of a list.
const EVERY: Duration = Duration::from_secs(2);

/// Before the next attempt after one that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// The gateway says something each second; one that is silent so long is gone.
const SILENCE: Duration = Duration::from_secs(20);

/// The most rows of a list.
const ROWS: u32 = 1000;

/// The longest event.
const MOST: usize = 1 << 20;

/// The list of a tab; the last has none.
const LISTS: [Option<&List>; TABS] = [Some(&POOLS), Some(&EXITS), Some(&SESSIONS), Some(&USERS), None];

/// Follows the events until nobody listens.
pub(super) async fn events(mut client: Client, tell: mpsc::Sender<News>) {
    // What was before is told once.
    let mut path = "/v1/events?past";
    while !tell.is_closed() {
        let why = match follow(&mut client, std::mem::replace(&mut path, "/v1/events"), &tell).await {
            Ok(()) => "the gateway has ended the stream".to_owned(),
            Err(unanswered) => unanswered.to_string(),
        };
        if tell.send(News::Lost(why)).await.is_err() {
            return;
        }
        sleep(PAUSE).await;
        client = client.again();
    }
}

async fn follow(client: &mut Client, path: &str, tell: &mpsc::Sender<News>) -> Result<(), Unanswered> {
    let mut stream = client.follow(path).await?.into_data_stream();
    let mut events = Events::default();
    while let Ok(Some(Ok(bytes))) = timeout(SILENCE, stream.next()).await {
        for event in events.take(&bytes) {
            if tell.send(News::Event(event)).await.is_err() {
                return Ok(());
            }
        }
        if events.buffer.len() > MOST {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads the list that is looked at until nobody listens.
pub(super) async fn lists(mut client: Client, mut wanted: watch::Receiver<usize>, tell: mpsc::Sender<News>) {
    loop {
        let tab = *wanted.borrow_and_update();
        if let Some(list) = LISTS[tab.min(ERRORS)] {
            let news = match list.page(&mut client, &[], None, Some(ROWS)).await {
                Ok(page) => News::List(tab, page),
                Err(unanswered) => News::Lost(unanswered.to_string()),
            };
            if tell.send(news).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = sleep(EVERY) => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

/// Server-sent events, of which each has one line of JSON.
#[derive(Default)]
struct Events {
    buffer: Vec<u8>,
}

impl Events {
    /// The events that are whole with these bytes.
    fn take(&mut self, bytes: &[u8]) -> Vec<Value> {
        self.buffer.extend_from_slice(bytes);
        let mut events = Vec::new();
        let mut taken = 0;
        while let Some(end) = memchr::memchr(b'\n', &self.buffer[taken..]) {
            let line = &self.buffer[taken..taken + end];
            if let Some(data) = line.strip_prefix(b"data:") {
                events.extend(serde_json::from_slice(data.trim_ascii()).ok());
            }
            taken += end + 1;
        }
        self.buffer.drain(..taken);
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_whole_however_they_arrive() {
        let sent = b": keep\n\nevent: stats\ndata: {\"event\":\"stats\",\"sessions\":1}\n\nevent: x\r\ndata:{\"event\":\"x\"}\r\n\r\ndata: no\n\n";
        for size in [1, 7, 16, sent.len()] {
            let mut events = Events::default();
            let taken: Vec<_> = sent.chunks(size).flat_map(|chunk| events.take(chunk)).collect();
            let names: Vec<_> = taken.iter().map(|event| event["event"].as_str().unwrap()).collect();
            assert_eq!(names, ["stats", "x"], "{size}");
            assert!(events.buffer.is_empty());
        }
    }
}
