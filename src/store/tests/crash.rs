//! SIGKILL.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;
use crate::clock::SystemClock;

/// This test again, alone, in a process of its own and in this folder.
pub(super) fn run_child(test: &str, folder: &Path) -> Command {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--ignored", "--exact", "--nocapture", &format!("store::tests::{test}")]);
    child.current_dir(folder);
    child
}

fn proposal(session: &str, exit: &str) -> Pin {
    let mut pin = Bench::new().pin(session, exit);
    pin.made = SystemClock::new().now();
    pin.used = pin.made;
    pin.expires = pin.made.plus(Duration::from_secs(3600));
    pin
}

/// What a session lasts once it was extended.
const LONG: Duration = Duration::from_secs(36_000);

/// Pins, moves, extends and ends sessions as fast as it can and says what it is about
/// to do, and what is acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs until it is killed"]
async fn busy_until_killed() {
    let config = StoreConfig { folder: Some(".".into()), ..StoreConfig::default() };
    let (store, report) = Store::open(config, Arc::new(SystemClock::new()), Arc::<Ear>::default()).unwrap();
    println!("back {} {:?}", report.pins, report.damage);
    let round: u32 = rand::random();
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0.. {
                    let pin = proposal(&format!("{round}.{task}.{n}"), "one");
                    let claim = store.claim(pin.key(), pin.clone()).await.unwrap();
                    claim.receipt.settled().await.unwrap();
                    println!("done {} one", pin.session);
                    if n % 3 == 0 {
                        println!("begin {} two", pin.session);
                        let two = proposal(pin.session.as_str(), "two");
                        let moved = store
                            .repin(pin.key(), claim.pin.version, Only::Anyhow, two)
                            .await
                            .unwrap()
                            .unwrap();
                        moved.receipt.settled().await.unwrap();
                        println!("done {} two", pin.session);
                    }
                    if n % 5 == 0 {
                        println!("begin {} long", pin.session);
                        let version = store.peek(pin.key()).unwrap().version;
                        let expires = claim.pin.made.plus(LONG);
                        assert!(store.extend(pin.key(), version, expires).await.unwrap().unwrap().won);
                        println!("done {} long", pin.session);
                    }
                    if n % 7 == 0 {
                        println!("begin {} none", pin.session);
                        store.end(pin.key()).await.unwrap();
                        println!("done {} none", pin.session);
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// What a session's exit may be: what was acknowledged last, and what was
/// begun since.
type Seen = HashMap<String, Vec<String>>;

fn hear(line: &str, seen: &mut Seen) {
    let mut words = line.split(' ');
    let (Some(verb), Some(session), Some(exit)) = (words.next(), words.next(), words.next()) else { return };
    match verb {
        "done" => drop(seen.insert(session.to_owned(), vec![exit.to_owned()])),
        "begin" => seen.get_mut(session).unwrap().push(exit.to_owned()),
        _ => {}
    }
}

#[tokio::test]
async fn no_acknowledged_change_is_lost_to_sigkill() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = Seen::new();
    for round in 0..6_usize {
        let mut child =
            run_child("crash::busy_until_killed", folder.path()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let enough = 50 + rand::random_range(0..3000) + round;
        for (n, line) in lines.enumerate() {
            // The last line may be cut short.
            let Ok(line) = line else { break };
            if n == enough {
                child.kill().unwrap();
            }
            if line.starts_with("back") {
                assert!(!line.contains("the last"), "{line}");
            }
            hear(&line, &mut seen);
        }
        assert!(!child.wait().unwrap().success());
        let config = StoreConfig { folder: Some(folder.path().to_owned()), ..StoreConfig::default() };
        let (store, report) =
            Store::open(config, Arc::new(SystemClock::new()), Arc::<Ear>::default()).unwrap();
        for (session, may_be) in &seen {
            let pin = store.peek(proposal(session, "").key());
            let is = match pin {
                None => "none".to_owned(),
                Some(pin) if pin.expires.since(pin.made) >= LONG => "long".to_owned(),
                Some(pin) => pin.exit.id.to_string(),
            };
            assert!(may_be.contains(&is), "{session} is {is}, not {may_be:?}; {report:?}");
        }
        store.close().await;
    }
    assert!(seen.len() > 200, "{} sessions are few", seen.len());
}
