//! Several nodes on one store.

use rustix::process::Signal;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_claim_at_once_agree_and_one_says_new() {
    let redis = Redis::start();
    let (a, b) =
        (Node::at(&redis.url(), WhenAway::Refuse).await, Node::at(&redis.url(), WhenAway::Refuse).await);
    for n in 0..50 {
        let session = format!("s{n}");
        let (first, second) = tokio::join!(a.made(&session, "one"), b.made(&session, "two"));
        assert_eq!(first.pin.exit, second.pin.exit);
        assert_eq!(first.pin.version, second.pin.version);
        assert!(first.won != second.won);
        let key = first.pin.key();
        let news = [
            a.announce(key, first.pin.version).await.unwrap(),
            b.announce(key, first.pin.version).await.unwrap(),
            a.announce(key, first.pin.version).await.unwrap(),
            b.announce(key, first.pin.version).await.unwrap(),
        ];
        assert_eq!(news.iter().filter(|news| **news == News::New).count(), 1, "{n}: {news:?}");
        assert_eq!(news.iter().filter(|news| **news == News::Held).count(), 3);
    }
    assert_eq!((a.len(), b.len(), redis.pins()), (50, 50, 50));
}

#[tokio::test]
async fn what_one_node_moves_or_ends_the_other_knows() {
    let redis = Redis::start();
    let (a, b) =
        (Node::at(&redis.url(), WhenAway::Refuse).await, Node::at(&redis.url(), WhenAway::Refuse).await);
    let made = a.made("a", "one").await;
    let key = made.pin.key();
    assert_eq!(a.announce(key, made.pin.version).await, Some(News::New));
    assert!(b.hold(key).await.unwrap().is_none(), "b does not know it");
    let found = b.find(key).await.unwrap().unwrap();
    assert_eq!(found.pin.version, made.pin.version);
    assert_eq!(b.ear.came.load(Ordering::Relaxed), 1);

    until("a has told", || redis.ask::<i64>(&["PUBSUB", "NUMPAT"]) == 0).await;
    let moved = a.repin(key, made.pin.version, Only::Anyhow, pin("a", "two")).await.unwrap().unwrap();
    assert!(moved.won);
    assert_eq!(moved.pin.exit.id.as_ref(), "two");
    until("b knows", || b.peek(key).is_some_and(|pin| pin.version == moved.pin.version)).await;
    assert_eq!(b.peek(key).unwrap().moves, moved.pin.moves);
    let late = b.repin(key, made.pin.version, Only::Anyhow, pin("a", "three")).await.unwrap().unwrap();
    assert!(!late.won, "b saw another version");
    // One of them says that it moved.
    let news = [a.announce(key, moved.pin.version).await, b.announce(key, moved.pin.version).await];
    assert_eq!(news, [Some(News::Moved), Some(News::Held)]);

    assert_eq!(b.end(key).await.unwrap().unwrap().version, moved.pin.version);
    until("a knows", || a.peek(key).is_none()).await;
    assert!(a.find(key).await.unwrap().is_none());
    assert!(b.end(key).await.unwrap().is_none());
    let again = a.made("a", "four").await;
    assert!(again.won);
    for node in [&a, &b] {
        let (came, left) = (node.ear.came.load(Ordering::Relaxed), node.ear.left.load(Ordering::Relaxed));
        // The caller counts the pins that its own claims and moves make.
        let own = if std::ptr::eq(node, &a) { 3 } else { 0 };
        assert_eq!(came + own - left, node.len() as u64);
    }
}

#[tokio::test]
async fn a_held_session_costs_no_round_trip() {
    let redis = Redis::start();
    let a = Node::at(&redis.url(), WhenAway::Refuse).await;
    let made = a.made("a", "one").await;
    let calls = || {
        let info: String = redis.ask(&["INFO", "commandstats"]);
        let line =
            info.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap_or_default().to_owned();
        line.split(['=', ',']).nth(1).map_or(0, |calls| calls.parse::<u64>().unwrap())
    };
    let before = calls();
    let start = tokio::time::Instant::now();
    for _ in 0..1000 {
        assert!(a.hold(made.pin.key()).await.unwrap().is_some());
    }
    // Only heartbeats, and what the claim left to be told.
    let beats = start.elapsed().as_millis() as u64 / 250 + 8;
    assert!(calls() - before <= beats, "{} calls", calls() - before);
}

#[tokio::test]
async fn an_outage_is_refused_and_known_sessions_go_on() {
    let redis = Redis::start();
    let a = Node::at(&redis.url(), WhenAway::Refuse).await;
    let made = a.made("a", "one").await;
    redis.kill();
    a.until_away(true).await;
    let start = tokio::time::Instant::now();
    assert!(a.hold(made.pin.key()).await.unwrap().is_some());
    assert_eq!(a.hold(pin("b", "one").key()).await.unwrap_err(), StoreFault::Away);
    assert_eq!(a.claim(pin("b", "one").key(), pin("b", "one")).await.unwrap_err(), StoreFault::Away);
    let moved = a.repin(made.pin.key(), made.pin.version, Only::Anyhow, pin("a", "two")).await;
    assert_eq!(moved.unwrap_err(), StoreFault::Away);
    assert_eq!(a.end(made.pin.key()).await.unwrap_err(), StoreFault::Away);
    assert!(
        start.elapsed() < Duration::from_millis(500),
        "nothing waits for a store that is known to be away"
    );
    redis.launch();
    a.until_away(false).await;
    until("the empty store knows it again", || redis.pins() == 1).await;
    assert_eq!(a.hold(made.pin.key()).await.unwrap().unwrap().pin.version, made.pin.version);
}

#[tokio::test]
async fn a_store_that_hangs_is_noticed() {
    let redis = Redis::start();
    let a = Node::at(&redis.url(), WhenAway::Refuse).await;
    let made = a.made("a", "one").await;
    redis.signal(Signal::STOP);
    let start = tokio::time::Instant::now();
    let refused = a.claim(pin("b", "one").key(), pin("b", "one")).await;
    assert_eq!(refused.unwrap_err(), StoreFault::Away);
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(a.hold(made.pin.key()).await.unwrap().is_some());
    redis.signal(Signal::CONT);
    a.until_away(false).await;
    assert!(a.made("c", "one").await.won);
}

#[tokio::test]
async fn alone_a_node_decides_and_the_store_is_told_later() {
    let redis = Redis::durable();
    let (a, b) =
        (Node::at(&redis.url(), WhenAway::Local).await, Node::at(&redis.url(), WhenAway::Local).await);
    let known = a.made("known", "one").await;
    redis.kill();
    a.until_away(true).await;
    b.until_away(true).await;
    let (mine, both) = (a.made("mine", "one").await, a.made("both", "one").await);
    let other = b.made("both", "two").await;
    assert!(mine.won && both.won && other.won);
    assert_eq!(a.announce(mine.pin.key(), mine.pin.version).await, Some(News::New));
    let moved = a.repin(known.pin.key(), known.pin.version, Only::Anyhow, pin("known", "two")).await;
    let moved = moved.unwrap().unwrap();
    assert!(moved.won);
    redis.launch();
    a.until_away(false).await;
    b.until_away(false).await;
    until("the store knows them", || redis.pins() == 3).await;
    let at = |node: &Node, key| node.peek(key).map(|pin| pin.version);
    until("they agree on both", || at(&a, both.pin.key()) == at(&b, both.pin.key())).await;
    let agreed = at(&a, both.pin.key()).unwrap();
    // The one that had to give way says so.
    let loser = if agreed == both.pin.version { &b } else { &a };
    assert_eq!(loser.announce(both.pin.key(), agreed).await, Some(News::Moved));
    assert_eq!(loser.shared().tally.conflicts.load(Relaxed), 1);
    let _old = b.find(known.pin.key()).await.unwrap().unwrap();
    until("the move was told as well", || at(&b, known.pin.key()) == Some(moved.pin.version)).await;
    let found = b.find(mine.pin.key()).await.unwrap().unwrap();
    assert_eq!(found.pin.version, mine.pin.version);
}

#[tokio::test]
async fn what_the_store_lost_is_told_again_before_anything_is_claimed_anew() {
    let redis = Redis::start();
    let (a, b) =
        (Node::at(&redis.url(), WhenAway::Refuse).await, Node::at(&redis.url(), WhenAway::Refuse).await);
    let mut made = Vec::new();
    for n in 0..300 {
        made.push(a.made(&format!("s{n}"), "one").await);
    }
    for round in 0..2 {
        redis.ask::<()>(&["FLUSHALL"]);
        // At once, on the other node, which does not know them.
        for (n, made) in made.iter().enumerate().take(20) {
            let claim = b.made(&format!("s{n}"), "two").await;
            assert!(!claim.won, "round {round}");
            assert_eq!(claim.pin.version, made.pin.version, "round {round}");
        }
        until("all are back", || redis.pins() == 300).await;
    }
    assert_eq!(a.shared().tally.conflicts.load(Relaxed), 0);
}

#[tokio::test]
async fn an_ended_pin_is_not_brought_back() {
    let redis = Redis::durable();
    let (a, b) =
        (Node::at(&redis.url(), WhenAway::Refuse).await, Node::at(&redis.url(), WhenAway::Refuse).await);
    let made = a.made("a", "one").await;
    let key = made.pin.key();
    // Cut off from its messages, as it were.
    a.shared().link.renew_epoch();
    b.end(key).await.unwrap().unwrap();
    until("a has heard", || a.peek(key).is_none()).await;
    // It had not.
    let entry = Entry::made(made.pin.clone(), a.shared().me);
    let _ = a.shared().with(key, |known| {
        known.learn(key, &entry, 1, Told { epoch: 0, at_us: 0, here: Timestamp::default() })
    });
    assert!(a.hold(key).await.unwrap().is_none());
    assert!(b.find(key).await.unwrap().is_none());
}

#[tokio::test]
async fn an_idle_session_lives_as_long_as_any_node_uses_it() {
    let redis = Redis::start();
    let (a, b) =
        (Node::at(&redis.url(), WhenAway::Refuse).await, Node::at(&redis.url(), WhenAway::Refuse).await);
    let pin = Pin { idle: idle(1), ..pin("a", "one") };
    let key = pin.key();
    let made = a.claim(key, pin).await.unwrap();
    for _ in 0..16 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        if b.hold(key).await.unwrap().is_none() {
            assert!(b.find(key).await.unwrap().is_some());
        }
    }
    // By what it has seen itself, it ended long ago.
    let found = a.find(key).await.unwrap().expect("it lives");
    assert_eq!(found.pin.version, made.pin.version);
    until("it ends", || redis.pins() == 0).await;
    assert!(a.find(key).await.unwrap().is_none());
}

#[tokio::test]
async fn another_node_waits_for_the_one_that_made_the_pin() {
    let redis = Redis::start();
    let (a, b) =
        (Node::at(&redis.url(), WhenAway::Refuse).await, Node::at(&redis.url(), WhenAway::Refuse).await);
    let made = a.made("a", "one").await;
    let met = b.made("a", "two").await;
    assert!(met.contested && !met.fresh && !met.won);
    // It may not choose another exit, for a client may have seen this one.
    let key = made.pin.key();
    let refused = b.repin(key, made.pin.version, Only::Fresh, pin("a", "two")).await.unwrap().unwrap();
    assert!(!refused.won);
    // The one that made it may.
    let waiting = tokio::spawn({
        let store = b.store.clone();
        async move { store.resolve(key, met).await }
    });
    let moved = a.repin(key, made.pin.version, Only::Fresh, pin("a", "three")).await.unwrap().unwrap();
    assert!(moved.won && moved.fresh);
    assert_eq!(waiting.await.unwrap().pin.version, moved.pin.version);

    // One that never answers loses its right.
    let made = a.made("b", "one").await;
    let met = b.made("b", "two").await;
    let key = made.pin.key();
    let met = b.resolve(key, met).await;
    assert!(met.fresh && !met.contested);
    let moved = b.repin(key, made.pin.version, Only::Fresh, pin("b", "two")).await.unwrap().unwrap();
    assert!(moved.won);
    assert_eq!(b.announce(key, moved.pin.version).await, Some(News::New));
    until("a knows", || a.peek(key).is_some_and(|pin| pin.version == moved.pin.version)).await;
    assert_eq!(a.announce(key, made.pin.version).await, None);
}
