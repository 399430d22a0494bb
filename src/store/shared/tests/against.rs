//! The scripts held against their meaning.
//!
//! Random steps of three nodes on a few keys are done by the scripts on a
//! real Redis and by [`Cell`] beside it, which is told the instants that the
//! scripts report. Everything that either says must be the same.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::core::shared::{Cell, Claimed, Moved, Restored, Telling};

const NODES: u64 = 3;

struct Pair {
    shared: Arc<Shared>,
    cells: Vec<Cell>,
    rng: StdRng,
}

impl Pair {
    async fn run(
        &self,
        script: &'static std::sync::LazyLock<script::Script>,
        me: u64,
        key: SessionKey,
        own: &[&[u8]],
    ) -> (i64, Timestamp, Option<Entry>) {
        let head = self.shared.names.head(me, key);
        let (name, own) = (self.shared.names.pin(key), head.args(own));
        let (reply, _) = self.shared.link.run(script, &[&name], &own).await.unwrap();
        let now = Timestamp::from_ms(reply.at_ms());
        // A claim that is won says which address it gave; here none.
        let value = reply.value.filter(|bytes| !bytes.is_empty());
        let entry = value.as_deref().map(|bytes| value::decode(bytes).expect("a pin"));
        (reply.code, now, entry)
    }

    fn version(&mut self, at: usize) -> u64 {
        let now = self.shared.now();
        let known = self.cells[at].live(now).map_or(1, |entry| entry.pin.version);
        if self.rng.random_ratio(1, 4) { 1 } else { known }
    }

    async fn step(&mut self, at: usize) -> &'static str {
        let me = self.rng.random_range(0..NODES);
        let mut proposal = pin(&format!("s{at}"), &format!("e{}", self.rng.random_range(0..5)));
        let key = proposal.key();
        proposal.version = self.rng.random();
        proposal.idle = [None, idle(1), idle(60)][self.rng.random_range(0..3)];
        proposal.expires =
            proposal.made.plus(Duration::from_millis([40, 1500, 60_000][self.rng.random_range(0..3)]));
        let version = self.version(at);
        let seen = version.to_le_bytes();
        match self.rng.random_range(0..8) {
            0 => {
                let (code, now, entry) = self.run(&script::LOOK, me, key, &[]).await;
                let model = self.cells[at].look(me, now);
                assert_eq!((code, entry), (i64::from(model.is_some()), model));
                "look"
            }
            1 => {
                let ttl = proposal.expires.since(proposal.made).as_millis().to_string();
                let idle = proposal.idle.map_or(0, Ttl::as_secs).to_string();
                let (body, new) = (value::body(&proposal), proposal.version.to_le_bytes());
                let own: [&[u8]; 5] = [&new, ttl.as_bytes(), idle.as_bytes(), &body, b""];
                let (code, now, entry) = self.run(&script::CLAIM, me, key, &own).await;
                match self.cells[at].claim(me, proposal, now) {
                    Claimed::Won(_) => assert_eq!((code, entry), (1, None)),
                    Claimed::Lost(model) => assert_eq!((code, entry), (0, Some(model))),
                }
                "claim"
            }
            2 => {
                let only = if self.rng.random() { Only::Fresh } else { Only::Anyhow };
                let flag: &[u8] = if only == Only::Fresh { b"1" } else { b"0" };
                let (body, new) = (value::body(&proposal), proposal.version.to_le_bytes());
                let (code, now, entry) = self.run(&script::REPIN, me, key, &[&seen, flag, &new, &body]).await;
                match self.cells[at].repin(me, version, only, &proposal, now) {
                    Moved::Done(model) => assert_eq!((code, entry), (1, Some(model))),
                    Moved::Lost(model) => assert_eq!((code, entry), (0, Some(model))),
                    Moved::Gone => assert_eq!((code, entry), (2, None)),
                }
                "repin"
            }
            3 => {
                let (code, now, _) = self.run(&script::SAY, me, key, &[&seen]).await;
                let model = self.cells[at].say(me, version, now).map(|(news, _)| news);
                let said = match code {
                    -1 => None,
                    1 => Some(News::New),
                    2 => Some(News::Moved),
                    _ => Some(News::Held),
                };
                assert_eq!(said, model);
                "say"
            }
            4 => {
                let used = self.shared.now();
                let (_, now, _) =
                    self.run(&script::TOUCH, me, key, &[&seen, used.as_ms().to_string().as_bytes()]).await;
                self.cells[at].touch(version, used, now);
                "touch"
            }
            5 => {
                let expires = self.shared.now().plus(Duration::from_millis(self.rng.random_range(50..5000)));
                let longest = Ttl::MAX.as_duration().as_millis().to_string();
                let own: [&[u8]; 3] = [&seen, &expires.as_ms().to_string().into_bytes(), longest.as_bytes()];
                let (code, now, entry) = self.run(&script::EXTEND, me, key, &own).await;
                match self.cells[at].extend(version, expires, now) {
                    Moved::Done(model) => assert_eq!((code, entry), (1, Some(model))),
                    Moved::Lost(model) => assert_eq!((code, entry), (0, Some(model))),
                    Moved::Gone => assert_eq!((code, entry), (2, None)),
                }
                "extend"
            }
            6 => {
                let (code, now, entry) = self.run(&script::END, me, key, &[]).await;
                let model = self.cells[at].end(now);
                assert_eq!((code, entry), (i64::from(model.is_some()), model));
                "end"
            }
            _ => {
                let now = self.shared.now();
                let mut mine = Entry::made(proposal.made_at(now), me);
                if let (Some(model), true) = (self.cells[at].live(now), self.rng.random_ratio(2, 3)) {
                    mine.pin.version = model.pin.version;
                    if self.rng.random() {
                        mine.pin.made = model.pin.made;
                    }
                    mine.pin.moves = model.pin.moves + self.rng.random_range(0..2);
                    if self.rng.random() {
                        mine.pin.version += 1;
                    }
                }
                let base = if self.rng.random_ratio(1, 4) { Some(version) } else { None };
                let telling = Telling { entry: mine, base, alone: self.rng.random_ratio(1, 4) };
                let [entry, base, alone] = value::telling(&telling);
                let (code, now, entry) = self.run(&script::RESTORE, me, key, &[&entry, &base, &alone]).await;
                match self.cells[at].restore(telling, now) {
                    Restored::Written(model) => assert_eq!((code, entry), (0, Some(model))),
                    Restored::Same(model) => assert_eq!((code, entry), (1, Some(model))),
                    Restored::Other(model) => assert_eq!((code, entry), (2, Some(model))),
                    Restored::Ended => assert_eq!((code, entry), (3, None)),
                }
                "restore"
            }
        }
    }
}

#[tokio::test]
async fn scripts_do_what_they_are_said_to_do() {
    let redis = Redis::start();
    let node = Node::at(&redis.url(), WhenAway::Refuse).await;
    for seed in 0..12 {
        redis.ask::<()>(&["FLUSHDB"]);
        let mut pair = Pair {
            shared: node.shared().clone(),
            cells: vec![Cell::default(); 3],
            rng: StdRng::seed_from_u64(seed),
        };
        let mut story = Vec::new();
        for n in 0..250 {
            let at = pair.rng.random_range(0..3);
            story.push(pair.step(at).await);
            if n % 40 == 0 {
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
        }
        for step in ["look", "claim", "repin", "say", "touch", "extend", "end", "restore"] {
            assert!(story.contains(&step), "{step} was never done");
        }
    }
}
