use super::*;
use crate::admit::limits::tabs::Tabs;
use crate::core::limits::{Bandwidth, Rate};
use crate::store::days::DayBytes;

const DAY: u64 = 24 * 3600;

fn at(s: u64) -> Timestamp {
    Timestamp::from_ms(9 * DAY * 1000 + s * 1000)
}

fn connections(most: u32) -> UserLimits {
    UserLimits { connections: NonZeroU32::new(most), ..UserLimits::default() }
}

fn bytes(most: u64) -> UserLimits {
    UserLimits { bytes_per_day: NonZeroU64::new(most), ..UserLimits::default() }
}

fn rate(per_second: u32) -> UserLimits {
    let count = NonZeroU32::new(per_second).unwrap();
    UserLimits { rate: Some(Rate { per_second: count, burst: count }), ..UserLimits::default() }
}

fn tab(limits: UserLimits) -> Arc<Tab> {
    let tab = Arc::new(Tab::default());
    tab.configure(limits);
    tab
}

#[track_caller]
fn code(entered: Result<Admission, Fault>) -> (&'static str, Option<u32>) {
    let fault = entered.map(drop).unwrap_err();
    (fault.code().name(), fault.retry_after_s())
}

#[tokio::test(start_paused = true)]
async fn connections_count_while_they_are_open() {
    let tab = tab(connections(2));
    let one = tab.enter(None, at(0)).await.unwrap();
    let two = tab.enter(None, at(0)).await.unwrap();
    assert_eq!(code(tab.enter(None, at(0)).await), ("too_many_connections", Some(1)));
    drop(one);
    let _three = tab.enter(None, at(0)).await.unwrap();
    tab.configure(connections(1));
    drop(two);
    assert_eq!(code(tab.enter(None, at(0)).await), ("too_many_connections", Some(1)), "they stay counted");
    tab.configure(UserLimits::default());
    let _four = tab.enter(None, at(0)).await.unwrap();
    assert_eq!(tab.in_use(at(0)).connections, 2);
}

#[tokio::test(start_paused = true)]
async fn a_quota_lasts_until_the_next_day() {
    let tab = tab(bytes(100));
    let admission = tab.enter(None, at(DAY - 90)).await.unwrap();
    admission.allowance().usage.unwrap().add_down(100);
    assert_eq!(code(tab.enter(None, at(DAY - 90)).await), ("quota_exceeded", Some(90)));
    assert!(tab.enter(None, at(DAY)).await.is_ok());
    assert_eq!(tab.in_use(at(DAY)).bytes_today, 0);
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_for_all_that_the_user_asks_for() {
    let tab = tab(rate(3));
    for _ in 0..3 {
        drop(tab.enter(None, at(0)).await.unwrap());
    }
    assert_eq!(code(tab.enter(None, at(0)).await), ("rate_limited", Some(1)));
}

#[tokio::test(start_paused = true)]
async fn a_tokens_limits_bind_over_and_above_the_users() {
    let tab = tab(connections(3));
    let narrow = connections(1);
    let _open = tab.enter(None, at(0)).await.unwrap();
    assert_eq!(
        code(tab.enter(Some(&narrow), at(0)).await).0,
        "too_many_connections",
        "counted over the user"
    );
    let _more = tab.enter(Some(&connections(9)), at(0)).await.unwrap();
    let _third = tab.enter(None, at(0)).await.unwrap();
    assert_eq!(code(tab.enter(Some(&connections(9)), at(0)).await).0, "too_many_connections", "never more");

    let tab = Arc::new(Tab::default());
    assert!(tab.enter(Some(&rate(1)), at(0)).await.is_ok());
    assert_eq!(code(tab.enter(Some(&rate(1)), at(0)).await).0, "rate_limited", "one bucket for equal limits");
    assert!(tab.enter(Some(&rate(2)), at(0)).await.is_ok() && tab.enter(None, at(0)).await.is_ok());
    for most in 0..200 {
        let _ = tab.enter(Some(&bytes(1 + most)), at(0)).await;
    }
    assert!(tab.purses().len() <= MOST_PURSES);

    let wide = Bandwidth { up: NonZeroU64::new(9), down: None };
    let limits = UserLimits { bandwidth: wide, ..UserLimits::default() };
    let admission = tab.enter(Some(&limits), at(0)).await.unwrap();
    let pacers = |admission: Admission| admission.allowance().up.iter().flatten().count();
    assert_eq!((pacers(admission), pacers(tab.enter(None, at(0)).await.unwrap())), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_used_up_quota_ends_what_is_open() {
    use std::future::{pending, ready};
    let tab = tab(bytes(100));
    let own = tab.enter(None, at(0)).await.unwrap();
    let narrow = tab.enter(Some(&bytes(50)), at(0)).await.unwrap();
    let usage = own.allowance().usage.unwrap();
    usage.add_up(49);
    tab.tick(at(0));
    assert_eq!((own.unless_cut(|| ready(7)).await, narrow.unless_cut(|| ready(7)).await), (Ok(7), Ok(7)));
    usage.add_down(1);
    tab.tick(at(0));
    assert_eq!(narrow.unless_cut(pending::<()>).await, Err(Cut::Quota));
    assert_eq!(own.unless_cut(|| ready(7)).await, Ok(7));
    usage.add_down(50);
    tab.tick(at(0));
    assert_eq!(own.unless_cut(|| ready(7)).await, Err(Cut::Quota));
    tab.tick(at(DAY));
    assert_eq!(tab.enter(None, at(DAY)).await.unwrap().unless_cut(|| ready(7)).await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn a_removed_users_connections_end_and_guests_stay_where_any_may_come() {
    use std::future::ready;
    let tabs = Tabs::default();
    let (acme, guest) = ("acme".into(), "guest".into());
    let users = |names: &[&'static str], any_user| {
        let names: Vec<_> = names.iter().map(|name| (*name).into()).collect();
        tabs.configure(names.iter().map(|name| (name, connections(5))), any_user);
    };
    users(&["acme"], true);
    let enter = async |user| tabs.of(user).enter(None, at(0)).await.unwrap();
    let (one, other) = (enter(&acme).await, enter(&guest).await);
    users(&["acme"], true);
    assert_eq!((one.unless_cut(|| ready(7)).await, other.unless_cut(|| ready(7)).await), (Ok(7), Ok(7)));
    users(&[], true);
    assert_eq!(one.unless_cut(|| ready(7)).await, Err(Cut::UserRemoved));
    assert_eq!(other.unless_cut(|| ready(7)).await, Ok(7));
    let again = enter(&acme).await;
    tabs.tick(at(0));
    assert_eq!(again.unless_cut(|| ready(7)).await, Ok(7), "a guest now");
    users(&["other"], false);
    assert_eq!(again.unless_cut(|| ready(7)).await, Err(Cut::UserRemoved));
    assert_eq!(other.unless_cut(|| ready(7)).await, Err(Cut::UserRemoved));
    let late = enter(&acme).await;
    tabs.tick(at(0));
    assert_eq!(late.unless_cut(|| ready(7)).await, Err(Cut::UserRemoved), "let in by the users of before");
    users(&["acme"], false);
    assert_eq!(enter(&acme).await.unless_cut(|| ready(7)).await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn bytes_of_the_day_are_kept_and_users_that_use_nothing_forgotten() {
    let tabs = Tabs::default();
    let acme: Arc<str> = "acme".into();
    tabs.add(&DayBytes { day: 9, users: vec![(acme.clone(), 70)] }, at(0));
    assert_eq!(tabs.of(&acme).in_use(at(0)).bytes_today, 70);
    tabs.of(&acme).enter(None, at(0)).await.unwrap().allowance().usage.unwrap().add_up(5);
    let _idle = tabs.of(&"idle".into());
    let kept = tabs.moved(at(0));
    assert_eq!(kept, DayBytes { day: 9, users: vec![(acme.clone(), 75)] });
    tabs.sweep(at(0));
    assert_eq!(tabs.in_use(at(0)).len(), 2, "one is used, one is held");
    drop(_idle);
    tabs.sweep(at(0));
    assert_eq!(tabs.in_use(at(0)).len(), 1);
    tabs.sweep(at(DAY));
    assert_eq!(tabs.in_use(at(DAY)).len(), 0);
    assert_eq!(tabs.moved(at(DAY)), DayBytes { day: 10, users: Vec::new() });
}
