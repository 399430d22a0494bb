//! A disk that refuses, and comes round.

use std::collections::HashMap;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::crash::run_child;
use super::*;

/// No file of this process may grow beyond so many bytes: the kernel then
/// refuses a write as it does on a full disk.
fn limit_files(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum }).unwrap();
}

#[tokio::test]
async fn a_refusing_disk_fails_new_sessions_and_keeps_the_old() {
    let folder = tempfile::tempdir().unwrap();
    let child = run_child("refusal::refused_and_taken_again", folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{child:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "limits its whole process"]
async fn refused_and_taken_again() {
    // Without this the signal that goes with EFBIG ends the process.
    let _xfsz = signal(SignalKind::from_raw(25)).unwrap();
    let mut bench = Bench::new();
    bench.folder = tempfile::tempdir_in(".").unwrap();
    let (store, _) = bench.open();
    let a = claim(&store, bench.pin("a", "one")).await;
    let b = claim(&store, bench.pin("b", "one")).await;
    let c = claim(&store, bench.pin("c", "one")).await;
    let used = Pin { idle: crate::core::time::Ttl::from_secs(2), ..bench.pin("used", "one") };
    claim(&store, used.clone()).await;
    assert_eq!(bench.ear.heard(), [] as [&str; 0]);
    for _ in 0..3 {
        limit_files(Some(64));
        bench.pass(1500);
        refused(&bench, &store, &a, &b, &c).await;
        // Uses count although they cannot be written yet.
        let held = store.hold(used.key()).await.unwrap().unwrap();
        assert_eq!(held.pin.used, bench.clock.now());
        held.receipt.settled().await.unwrap();
        limit_files(None);
        while store.is_refusing() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let new = claim(&store, bench.pin("new", "two")).await;
        assert_eq!(store.end(new.key()).await.unwrap(), Some(new));
        assert_eq!(bench.ear.heard().len(), 1);
    }
    let moved = store.repin(c.key(), c.version, Only::Anyhow, bench.pin("c", "two")).await.unwrap().unwrap();
    moved.receipt.settled().await.unwrap();
    store.close().await;
    let (store, report) = bench.open();
    assert_eq!((report.pins, report.damage), (4, vec![]));
    assert_eq!(store.peek(used.key()).unwrap().used, bench.clock.now(), "written when it could be");
    assert_eq!(store.peek(a.key()), Some(a));
    assert_eq!(store.peek(b.key()), Some(b));
    assert_eq!(store.peek(c.key()), Some(moved.pin));
}

/// Nothing new, and nothing lost, while the disk refuses.
async fn refused(bench: &Bench, store: &Store, a: &Pin, b: &Pin, c: &Pin) {
    // Several at once: some find out by their receipt, some at once.
    let mut claims = Vec::new();
    for n in 0..20 {
        let (store, pin) = (store.clone(), bench.pin(&format!("new{n}"), "two"));
        claims.push(tokio::spawn(async move {
            let claim = store.claim(pin.key(), pin).await?;
            claim.receipt.settled().await
        }));
    }
    let (longer, store_too) = (b.clone(), store.clone());
    let longer = tokio::spawn(async move {
        let expires = longer.expires.plus(Duration::from_secs(60));
        store_too.extend(longer.key(), longer.version, expires).await
    });
    let ended = store.end(a.key()).await;
    let moved = store.repin(c.key(), c.version, Only::Anyhow, bench.pin("c", "two")).await;
    for claim in claims {
        assert_eq!(claim.await.unwrap(), Err(StoreFault::Refused));
    }
    assert_eq!(ended, Err(StoreFault::Refused));
    assert_eq!(longer.await.unwrap().err(), Some(StoreFault::Refused));
    if let Ok(Some(moved)) = moved {
        assert_eq!(moved.receipt.settled().await, Err(StoreFault::Refused));
    }
    assert!(store.is_refusing());
    for pin in [a, b, c] {
        let held = store.hold(pin.key()).await.unwrap().unwrap();
        held.receipt.settled().await.unwrap();
        assert_eq!(held.pin, *pin, "as it was");
        let lost = store.claim(pin.key(), bench.pin("x", "two")).await.unwrap();
        assert!(!lost.won && lost.pin == *pin);
    }
    assert_eq!(store.len(), 4, "no pin that is not on disk");
    // Whoever counts has been told of each coming and going.
    let mut count = HashMap::from([("one", 3), ("two", 0)]);
    let undone = bench.ear.heard();
    for line in &undone {
        let words: Vec<_> = line.split(' ').collect();
        let exit = if words[2] == "one" { "one" } else { "two" };
        *count.get_mut(exit).unwrap() += if words[0] == "loaded" { 1 } else { -1 };
    }
    // Each claim that won was counted by its caller.
    let won = undone.iter().filter(|line| line.ends_with("Undone")).count();
    assert_eq!((count["one"], count["two"] + won as i32), (3, 0), "{undone:?}");
}
