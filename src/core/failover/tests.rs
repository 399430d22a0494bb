use super::*;

const SOON: Timestamp = Timestamp::from_ms(30_000);

fn failure(blame: Blame) -> Failure {
    Failure { blame, ejected_until: None, token_lost: false }
}

fn ejecting(blame: Blame) -> Failure {
    Failure { ejected_until: Some(SOON), ..failure(blame) }
}

fn course(failover: Failover) -> Course {
    Course::new(3, failover, false)
}

#[track_caller]
fn check(mut course: Course, dials: u32, fresh: bool, failure: Failure, expected: Next) {
    (0..dials).for_each(|_| course.dial());
    assert_eq!(course.after(fresh, &failure), expected);
}

const EJECTED: Next = Next::Leave(Down::Closed(Closed::Ejected { until: SOON }));

#[test]
fn a_failure_of_the_target_ends_the_request() {
    for fresh in [true, false] {
        check(course(Failover::On), 1, fresh, failure(Blame::Target), Next::GiveUp);
        check(course(Failover::On), 1, fresh, ejecting(Blame::Target), Next::GiveUp);
        check(course(Failover::On), 1, fresh, failure(Blame::Silence), Next::GiveUp);
    }
    check(course(Failover::On), 1, false, ejecting(Blame::Silence), EJECTED);
}

#[test]
fn a_seen_pin_keeps_its_exit_until_that_is_down() {
    check(course(Failover::On), 1, false, failure(Blame::Exit), Next::Again);
    check(course(Failover::On), 2, false, failure(Blame::Exit), Next::Again);
    check(course(Failover::On), 3, false, failure(Blame::Exit), Next::GiveUp);
    check(course(Failover::On), 1, false, ejecting(Blame::Exit), EJECTED);
    check(course(Failover::On), 3, false, ejecting(Blame::Exit), EJECTED);
    check(course(Failover::On), 1, false, failure(Blame::Token), Next::Again);
    let lost = Failure { token_lost: true, ..failure(Blame::Token) };
    check(course(Failover::On), 1, false, lost, Next::Leave(Down::TokenLost));
}

#[test]
fn a_pin_that_nobody_has_seen_takes_another_exit() {
    for failover in [Failover::On, Failover::Off, Failover::Address] {
        check(course(failover), 1, true, failure(Blame::Exit), Next::Other);
        check(course(failover), 2, true, ejecting(Blame::Exit), Next::Other);
        check(course(failover), 3, true, failure(Blame::Exit), Next::GiveUp);
        check(course(failover), 1, true, failure(Blame::Token), Next::Renew);
    }
    let course = course(Failover::On);
    assert_eq!(course.without_other(&failure(Blame::Exit)), Next::Again);
    assert_eq!(course.without_other(&ejecting(Blame::Exit)), Next::GiveUp);
}

#[test]
fn a_request_that_names_its_exit_has_no_other() {
    let named = || Course::new(3, Failover::On, true);
    check(named(), 1, true, failure(Blame::Exit), Next::Again);
    check(named(), 1, true, ejecting(Blame::Exit), EJECTED);
    assert_eq!(named().leave(true, Down::Closed(Closed::Gone)), Err(Stays::Named));
}

#[test]
fn a_session_leaves_as_failover_allows() {
    let gone = Down::Closed(Closed::Gone);
    let anyhow = Leave::Move { siblings_only: false, only: Only::Anyhow };
    let fresh = Leave::Move { siblings_only: false, only: Only::Fresh };
    let sibling = Leave::Move { siblings_only: true, only: Only::Anyhow };
    assert_eq!(course(Failover::On).leave(false, gone), Ok(anyhow));
    assert_eq!(course(Failover::On).leave(true, gone), Ok(anyhow));
    assert_eq!(course(Failover::Off).leave(false, gone), Err(Stays::Off));
    assert_eq!(course(Failover::Off).leave(true, gone), Ok(fresh));
    assert_eq!(course(Failover::Address).leave(false, gone), Ok(sibling));
    assert_eq!(course(Failover::Address).leave(true, gone), Ok(fresh));
    assert_eq!(course(Failover::On).leave(false, Down::TokenLost), Ok(Leave::Renew(Only::Anyhow)));
    assert_eq!(course(Failover::Address).leave(false, Down::TokenLost), Ok(sibling));
    assert_eq!(course(Failover::Off).leave(false, Down::TokenLost), Err(Stays::Off));
    assert_eq!(course(Failover::Off).leave(true, Down::TokenLost), Ok(Leave::Renew(Only::Fresh)));
}

#[test]
fn dials_are_counted_anew_on_each_exit_and_moves_are_bounded() {
    let mut course = course(Failover::On);
    for _ in 0..3 {
        (0..3).for_each(|_| course.dial());
        assert_eq!(course.after(false, &failure(Blame::Exit)), Next::GiveUp);
        assert!(course.leave(false, Down::Closed(Closed::Off)).is_ok());
        course.dial();
        assert_eq!(course.after(false, &failure(Blame::Exit)), Next::Again);
    }
    assert_eq!(course.leave(false, Down::Closed(Closed::Off)), Err(Stays::Enough));
    let turns = (0..).take_while(|_| course.turn()).count();
    assert_eq!(turns, 12);
}

#[test]
fn a_changed_address_is_what_the_pool_says() {
    use crate::core::pool::AddressChange::{Fail, Ignore, Move};
    let course = Course::new(3, Failover::On, false);
    assert_eq!(course.readdressed(false, Ignore), None);
    assert_eq!(course.readdressed(false, Move), Some(Ok(Down::Readdressed)));
    assert_eq!(course.readdressed(false, Fail), Some(Err(Stays::Readdressed)));
    // Nobody has seen the address, or it was not what was asked for.
    for change in [Ignore, Move, Fail] {
        assert_eq!(course.readdressed(true, change), None);
        assert_eq!(Course::new(3, Failover::On, true).readdressed(false, change), None);
    }
    let leave = |failover| Course::new(3, failover, false).leave(false, Down::Readdressed);
    let moves = |siblings_only| Ok(Leave::Move { siblings_only, only: Only::Anyhow });
    assert_eq!(leave(Failover::On), moves(false));
    assert_eq!(leave(Failover::Address), moves(true));
    assert_eq!(leave(Failover::Off), Err(Stays::Off));
}
