//! The state folder goes to another process, or comes back from it.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_let_go_of_is_open_to_another_and_still_read_here() {
    let bench = Bench::new();
    let (old, _) = bench.open();
    let a = claim(&old, bench.pin("a", "one")).await;
    assert!(matches!(bench.try_open(), Err(StoreError::InUse(_))));
    // All that is being claimed at that moment is written, or waits.
    let claims: Vec<_> = (0..200)
        .map(|n| {
            let (store, pin) = (old.clone(), bench.pin(&format!("s{n}"), "two"));
            tokio::spawn(async move { store.claim(pin.key(), pin).await })
        })
        .collect();
    old.let_go().await.unwrap();
    assert_eq!(old.hold(a.key()).await.unwrap().map(|held| held.pin), Some(a.clone()));
    let (new, report) = bench.open();
    assert_eq!(report.damage, []);
    old.hand_over();
    let mut kept = 0;
    for claimed in claims {
        match claimed.await.unwrap() {
            Ok(claim) => {
                claim.receipt.settled().await.unwrap();
                assert_eq!(new.peek(claim.pin.key()), Some(claim.pin));
                kept += 1;
            }
            Err(fault) => assert_eq!(fault, StoreFault::HandedOver),
        }
    }
    assert_eq!(report.pins, kept + 1);
    assert_eq!(old.hold(a.key()).await.unwrap_err(), StoreFault::HandedOver);
    let moved = old.repin(a.key(), a.version, Only::Anyhow, bench.pin("a", "two")).await;
    assert_eq!(moved.unwrap_err(), StoreFault::HandedOver);
    assert_eq!(old.end(a.key()).await.unwrap_err(), StoreFault::HandedOver);
    // The new one has the files alone, also when the old one ends.
    let b = claim(&new, bench.pin("b", "one")).await;
    old.close().await;
    new.close().await;
    let (again, report) = bench.open();
    assert_eq!((report.pins, report.damage), (kept + 2, vec![]));
    assert_eq!(again.peek(b.key()), Some(b));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_back_goes_on_as_if_nothing_had_been() {
    let bench = Bench::new();
    let (old, _) = bench.open();
    let a = claim(&old, bench.pin("a", "one")).await;
    let used = Pin { idle: crate::core::time::Ttl::from_secs(5), ..bench.pin("used", "one") };
    claim(&old, used.clone()).await;
    for round in 0..3 {
        old.let_go().await.unwrap();
        // A claim, a use and an end wait.
        let pin = bench.pin(&format!("s{round}"), "two");
        let waits = tokio::spawn({
            let (store, pin) = (old.clone(), pin.clone());
            async move { store.claim(pin.key(), pin).await }
        });
        let uses = tokio::spawn({
            let (store, key) = (old.clone(), used.key());
            async move { store.hold(key).await }
        });
        tokio::task::yield_now().await;
        // The other process got as far as opening it, and no further.
        let (new, report) = bench.open();
        assert_eq!((report.pins, report.damage), (2 + round, vec![]));
        new.close().await;
        drop(new);
        assert!(!waits.is_finished() && !uses.is_finished());
        old.take_back();
        let claimed = waits.await.unwrap().unwrap();
        assert!(claimed.won);
        claimed.receipt.settled().await.unwrap();
        assert!(uses.await.unwrap().unwrap().is_some());
        assert!(matches!(bench.try_open(), Err(StoreError::InUse(_))));
    }
    old.close().await;
    let (again, report) = bench.open();
    assert_eq!((report.pins, report.damage), (5, vec![]));
    assert_eq!(again.peek(a.key()), Some(a));
}

#[tokio::test]
async fn pins_in_memory_alone_are_let_go_of_too() {
    let bench = Bench::new();
    let config = StoreConfig::default();
    let (store, _) = Store::open(config, bench.clock.clone(), bench.ear.clone()).unwrap();
    let a = claim(&store, bench.pin("a", "one")).await;
    store.let_go().await.unwrap();
    store.take_back();
    claim(&store, bench.pin("b", "one")).await;
    store.let_go().await.unwrap();
    store.hand_over();
    assert_eq!(store.hold(a.key()).await.unwrap_err(), StoreFault::HandedOver);
}
