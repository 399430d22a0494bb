//! Keeping in touch with the store.
//!
//! Owns: connecting and connecting again, the heartbeat, hearing messages,
//! noticing that the store may have lost data and telling it what this node
//! knows.
//! Must not know: requests.
//!
//! An *era* is a life of the store's data: the run of one server, from its
//! start or its becoming the master on. Whoever connects first to another run
//! begins an era, and for [`GRACE`] nobody pins what the store does not know:
//! in that time every node tells it what it may have lost.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use rand::RngExt;
use redis::{PushInfo, PushKind, RedisError, Value, cmd};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::link::{Call, Link, Trouble};
use super::script::{self, Reply};
use super::value::{self, Message};
use super::wire::{LIMIT, OnPush, Wire};
use super::{Shared, locked};
use crate::core::session::SessionKey;
use crate::core::shared::{Address, Telling, Told};

/// How often the store is asked whether all is well.
const BEAT: Duration = Duration::from_millis(250);
/// New pins wait so long after the store may have lost data. A node notices
/// within a heartbeat, and asks for more if it has more to tell.
const GRACE: Duration = Duration::from_millis(750);
/// They wait no longer than this in all.
const MOST_GRACE: Duration = Duration::from_secs(10);
/// The first and the longest wait after a connection that did not come about.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Well within [`GRACE`], so that all nodes are back before a new era opens.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);
/// So many pins are told at once.
const AT_ONCE: usize = 256;

/// An era's name.
type Era = [u8; 16];

/// What is kept of the connection between heartbeats.
pub(super) struct Keeper {
    address: Address,
    era: Mutex<Era>,
    /// The run of the server that is connected to.
    run: Mutex<[u8; 40]>,
    serials: AtomicU64,
    up: Notify,
    /// Data may have been lost: what is known is to be told.
    lost_data: AtomicBool,
    /// Something was told that could not be heard.
    deaf: AtomicBool,
}

impl Keeper {
    pub(super) fn new(address: Address) -> Self {
        Self {
            address,
            era: Mutex::new([0; 16]),
            run: Mutex::new([b'-'; 40]),
            serials: AtomicU64::new(1),
            up: Notify::new(),
            lost_data: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
        }
    }

    /// The era that this node knows of.
    pub(super) fn era(&self) -> Era {
        *locked(&self.era)
    }

    /// Ready while there is a connection.
    pub(super) async fn wait_up(&self, link: &Link) {
        loop {
            let mut up = std::pin::pin!(self.up.notified());
            up.as_mut().enable();
            if !link.is_away() {
                return;
            }
            up.await;
        }
    }
}

impl Shared {
    /// Connects once; for the start.
    pub(in crate::store) async fn try_connect(self: &Arc<Self>) -> Result<(), String> {
        self.connect().await.map(drop).map_err(|trouble| trouble.to_string())
    }

    /// Keeps in touch; never ends.
    pub(in crate::store) async fn keep(self: &Arc<Self>) {
        tokio::join!(self.stay_connected(), self.do_chores(), self.tell_what_was_lost());
    }

    async fn stay_connected(self: &Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        // Whether the log has it already that the store is out of reach.
        let mut said = false;
        loop {
            let serial = match self.link.wire() {
                Some((_, serial)) => Ok(serial),
                None => self.connect().await,
            };
            match serial {
                Ok(serial) => {
                    if said {
                        tracing::info!(store = %self.keeper.address, "the shared store is back");
                    }
                    pause = FIRST_PAUSE;
                    self.beat(serial).await;
                    self.tally.outages.fetch_add(1, Relaxed);
                    tracing::warn!(store = %self.keeper.address, "the shared store is out of reach");
                    said = true;
                }
                Err(error) => {
                    if !said {
                        tracing::warn!(store = %self.keeper.address, %error, "the shared store is out of reach");
                        said = true;
                    } else {
                        tracing::debug!(%error, "the shared store is still out of reach");
                    }
                    // Nodes that lost it together do not come back together.
                    let part = rand::rng().random_range(0.5..1.0);
                    sleep(pause.mul_f64(part)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// A connection that works, in force.
    async fn connect(self: &Arc<Self>) -> Result<u64, ConnectError> {
        let serial = self.keeper.serials.fetch_add(1, Relaxed);
        let connecting = Wire::connect(&self.keeper.address, &self.names.channel, self.on_push(serial));
        // Sentinels are asked one after the other.
        let hosts = u32::try_from(self.keeper.address.hosts.len()).unwrap_or(1);
        let mut wire = timeout(LIMIT * (hosts + 1), connecting).await??;
        let run = timeout(LIMIT, run_id(&mut wire)).await??;
        timeout(LIMIT * 2, load(&mut wire)).await??;
        *locked(&self.keeper.run) = run;
        // Whatever was said until now was not heard.
        self.link.renew_epoch();
        self.link.establish(wire, serial);
        self.enter(false).await.map_err(|_| ConnectError::Silent)?;
        self.keeper.up.notify_waiters();
        Ok(serial)
    }

    /// Asks the store, again and again, until the connection is lost.
    async fn beat(&self, serial: u64) {
        let mut tick = interval(BEAT);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.link.lost.notified() => {}
            }
            if self.link.wire().is_none_or(|(_, now)| now != serial) {
                return;
            }
            let _lost_or_told = self.enter(false).await;
            if self.names.is_cluster {
                self.beat_all(serial).await;
            }
        }
    }

    /// Learns the era, or begins one if the store is another than it was.
    /// `more`: there is more to tell, new pins have to wait.
    pub(super) async fn enter(&self, more: bool) -> Result<(), Trouble> {
        let sent = self.clock.now();
        // A cluster has many runs; they are compared apart.
        let run = if self.names.is_cluster { [b'-'; 40] } else { *locked(&self.keeper.run) };
        let fresh = format!("{:016x}", rand::random::<u64>());
        let grace = GRACE.as_millis().to_string();
        let more: &[u8] = if more { b"1" } else { b"0" };
        let arguments: [&[u8]; 4] = [&run, fresh.as_bytes(), grace.as_bytes(), more];
        let (reply, _) = self.link.run(&script::ENTER, &[self.names.era()], &arguments).await?;
        self.link.compare_clocks(reply.at_ms(), sent, self.clock.now());
        if !self.names.is_cluster {
            self.link.prove(sent);
        }
        let era: Era = reply.value.as_deref().and_then(|id| id.try_into().ok()).ok_or(Trouble::Refused)?;
        let before = std::mem::replace(&mut *locked(&self.keeper.era), era);
        if before != era && before != [0; 16] {
            self.may_have_lost_data();
        }
        Ok(())
    }

    fn may_have_lost_data(&self) {
        tracing::warn!(store = %self.keeper.address, "the shared store was restarted, emptied or replaced: telling it what this gateway knows");
        self.link.renew_epoch();
        self.keeper.lost_data.store(true, Relaxed);
        self.keeper.up.notify_waiters();
    }

    /// A cluster has many masters, and each must be heard.
    async fn beat_all(&self, serial: u64) {
        let Some((mut wire, _)) = self.link.wire() else { return };
        let sent = self.clock.now();
        let asked = async {
            if self.keeper.deaf.swap(false, Relaxed) {
                let mut subscribe = cmd("SUBSCRIBE");
                subscribe.arg(&self.names.channel);
                wire.ask_all(&subscribe).await?;
                self.link.renew_epoch();
            }
            run_id(&mut wire).await
        };
        match timeout(LIMIT, asked).await {
            Ok(Ok(run)) => {
                self.link.prove(sent);
                let before = std::mem::replace(&mut *locked(&self.keeper.run), run);
                if before != run {
                    // Of a new master nothing was heard yet.
                    self.keeper.deaf.store(true, Relaxed);
                    self.may_have_lost_data();
                }
            }
            _ => {
                self.keeper.deaf.store(true, Relaxed);
                let silent = self.clock.now().since(self.link.proved());
                if silent > MOST_GRACE {
                    self.link.lose(serial);
                }
            }
        }
    }

    fn on_push(self: &Arc<Self>, serial: u64) -> OnPush {
        let shared = Arc::downgrade(self);
        Arc::new(move |push: PushInfo| {
            if let Some(shared) = Weak::upgrade(&shared) {
                shared.pushed(push, serial);
            }
        })
    }

    /// Something came from the store unasked.
    fn pushed(&self, push: PushInfo, serial: u64) {
        match push.kind {
            PushKind::Disconnection if self.names.is_cluster => {
                self.keeper.deaf.store(true, Relaxed);
                self.link.renew_epoch();
            }
            PushKind::Disconnection => self.link.lose(serial),
            PushKind::Message => {
                let Some(Value::BulkString(bytes)) = push.data.last() else { return };
                match Message::decode(bytes) {
                    Some(message) => self.hear(&message),
                    // It says something that only a newer gateway understands.
                    None => self.link.renew_epoch(),
                }
            }
            _ => {}
        }
    }

    fn hear(&self, message: &Message) {
        // What this node did, it knows by the reply.
        if message.from == self.me {
            return;
        }
        let told = Told { epoch: self.link.epoch(), at_us: message.at_us, here: self.clock.now() };
        let changed = self.with(message.key, |known| known.hear(message.key, &message.notice, self.me, told));
        self.settle(changed);
        self.changed.notify_waiters();
    }

    /// Tells the store what it may have lost, and what this node decided
    /// alone; never ends.
    async fn tell_what_was_lost(&self) {
        loop {
            let mut up = std::pin::pin!(self.keeper.up.notified());
            up.as_mut().enable();
            let everything = self.keeper.lost_data.swap(false, Relaxed);
            if !self.link.is_away() && !self.tell(everything).await {
                // It was cut short.
                self.keeper.lost_data.fetch_or(everything, Relaxed);
                sleep(LONGEST_PAUSE).await;
                continue;
            }
            up.await;
        }
    }

    /// Whether all was told.
    async fn tell(&self, everything: bool) -> bool {
        let (mut told, began) = (0_usize, self.clock.now());
        for shard in &self.shards {
            let keys: Vec<_> = locked(shard)
                .iter()
                .filter(|(_, fact)| everything || fact.alone || fact.untold)
                .map(|(key, _)| key)
                .collect();
            for keys in keys.chunks(AT_ONCE) {
                if self.tell_some(keys).await.is_err() {
                    return false;
                }
                told += keys.len();
                if everything && self.clock.now().since(began) < MOST_GRACE {
                    let _silent = self.enter(true).await;
                }
                tokio::task::yield_now().await;
            }
        }
        if told > 0 {
            tracing::info!(pins = told, "told the shared store what this gateway knows");
        }
        true
    }

    async fn tell_some(&self, keys: &[SessionKey]) -> Result<(), Trouble> {
        let epoch = self.link.epoch();
        let mine: Vec<(SessionKey, Telling)> = keys
            .iter()
            .filter_map(|key| Some((*key, self.with(*key, |known| known.tell(*key, self.me))?)))
            .collect();
        let call = |(key, telling): &(SessionKey, Telling)| {
            let own = value::telling(telling);
            let own: Vec<&[u8]> = own.iter().map(Vec::as_slice).collect();
            let arguments = self.head(*key).args(&own).into_iter().map(<[u8]>::to_vec).collect();
            Call { script: &script::RESTORE, keys: vec![self.names.pin(*key)], arguments }
        };
        let calls: Vec<_> = mine.iter().map(call).collect();
        let values = self.link.run_all(&calls).await?;
        let mut rooms = Vec::new();
        for ((key, telling), value) in mine.iter().zip(values) {
            if let Some(reply) = Reply::read(&value) {
                let told = Told { epoch, at_us: reply.at_us, here: self.clock.now() };
                let of_pin = (reply.code == 0).then(|| self.rooms_of(*key, &telling.entry.pin));
                rooms.extend(of_pin.into_iter().flatten().flatten().filter_map(|chore| self.call(&chore)));
                let _unreadable = self.restored(*key, &telling.entry, &reply, told);
            }
        }
        self.link.run_all(&rooms).await.map(drop)
    }

    /// Tells what waits, for a while.
    pub(in crate::store) async fn close(&self) {
        let _too_slow = timeout(LIMIT * 2, self.flush()).await;
    }
}

/// Makes every server know the scripts.
async fn load(wire: &mut Wire) -> Result<(), RedisError> {
    for script in script::all() {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(script.text());
        wire.ask_all(&load).await?;
    }
    Ok(())
}

/// Which run of which servers answers, as 40 letters.
async fn run_id(wire: &mut Wire) -> Result<[u8; 40], RedisError> {
    let mut runs = Vec::new();
    for value in wire.ask_all(cmd("INFO").arg("server")).await? {
        let text: String = redis::from_redis_value(value)?;
        let run = text.lines().find_map(|line| line.strip_prefix("run_id:"));
        runs.push(run.unwrap_or_default().trim().to_owned());
    }
    runs.sort();
    let digest = blake3::hash(runs.concat().as_bytes());
    let mut run = [0; 40];
    run.copy_from_slice(&digest.to_hex().as_bytes()[..40]);
    if !wire.is_cluster() {
        let mut role: Vec<Value> = redis::from_redis_value(wire.ask(&cmd("ROLE")).await?)?;
        let role: String = redis::from_redis_value(role.swap_remove(0))?;
        if role != "master" {
            return Err((redis::ErrorKind::Io, "the server is a replica, and takes no pins").into());
        }
    }
    Ok(run)
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("it does not answer in time")]
    Slow(#[from] tokio::time::error::Elapsed),
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error("it does not answer")]
    Silent,
}
