//! What people look at on a terminal: `moorgate top` and `--watch`.

use rustix::process::Signal;

use crate::harness::operator::act;
use crate::harness::request::Ask;
use crate::harness::terminal::Terminal;
use crate::harness::{Gateway, Origin, Setup};

/// To the screen of one's own, and back from it.
const TAKEN: &str = "\x1b[?1049h";
const GIVEN_BACK: &str = "\x1b[?1049l";
const CURSOR: &str = "\x1b[?25h";

#[track_caller]
fn run(gateway: &Gateway, command: &[&str]) -> Terminal {
    Terminal::run(&[command, &["--admin", &gateway.admin().to_string()]].concat())
}

/// A `top` that shows the pool.
#[track_caller]
fn top(gateway: &Gateway) -> Terminal {
    let terminal = run(gateway, &["top"]);
    let taken = terminal.wait(0, TAKEN);
    terminal.wait(taken, "1 Pools");
    // The pool's name, alone in its column.
    terminal.wait(taken, "\u{1b}[7mp   ");
    terminal
}

/// It has ended well, and left the terminal as it was.
#[track_caller]
fn is_given_back(mut terminal: Terminal) {
    assert_eq!(terminal.end(), (0, true), "{}", terminal.shown());
    let shown = terminal.shown();
    let (taken, back) = (shown.rfind(TAKEN), shown.rfind(GIVEN_BACK));
    assert!(taken < back, "the screen is kept: {shown:?}");
    assert!(shown.rfind(CURSOR) > taken, "the cursor is hidden: {shown:?}");
}

#[test]
fn top_shows_each_view_and_quits_by_a_key() {
    let gateway = Setup::addresses(3).start();
    let origin = Origin::start();
    gateway.get("acme-session-cart7-ttl-1h", &origin.url("/ip")).ok();
    let mut terminal = top(&gateway);
    let mut at = 0;
    for (key, shown) in [("2", "127.0.0.3"), ("\t", "cart7"), ("4", "acme"), ("\x1b[C", "No failure")] {
        at = terminal.types(key).wait(at, shown);
    }
    gateway.get("acme-ttl-x", &origin.url("/ip")).fails(400, "ttl_invalid");
    terminal.wait(at, "ttl_invalid");
    terminal.types("q");
    is_given_back(terminal);
    let mut terminal = top(&gateway);
    terminal.types("\x03");
    is_given_back(terminal);
}

#[test]
fn top_gives_the_terminal_back_whatever_ends_it() {
    let gateway = Setup::addresses(1).start();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let terminal = top(&gateway);
        terminal.signal(signal);
        is_given_back(terminal);
    }
}

#[test]
fn top_says_that_the_gateway_is_gone_and_goes_on_when_it_is_back() {
    let gateway = Setup::addresses(1).start();
    let admin = gateway.admin();
    let mut terminal = top(&gateway);
    let at = terminal.shown().len();
    drop(gateway);
    let at = terminal.wait(at, "does not answer");
    let gateway = Setup::addresses(2).config("admin.bind", admin.to_string()).start();
    let at = terminal.types("2").wait(at, "127.0.0.3");
    act(&gateway, "POST", "/v1/exits/p/e2/drain");
    terminal.wait(at, "drain");
    terminal.types("q");
    is_given_back(terminal);
}

#[test]
fn watch_draws_in_place_until_it_is_interrupted() {
    let gateway = Setup::addresses(40).start();
    let mut terminal = run(&gateway, &["exits", "--watch=1"]);
    let first = terminal.wait(0, "\x1b[H");
    let wiped = terminal.wait(first, "\x1b[J");
    let drawn = &terminal.shown()[first..wiped];
    // As many rows as the terminal has room for, and how many more there are.
    let rows = drawn.matches("p/e").count();
    assert!((20..30).contains(&rows) && drawn.lines().count() <= 30, "{drawn:?}");
    act(&gateway, "POST", "/v1/exits/p/e1/drain");
    terminal.wait(wiped, "drain");
    terminal.types("\x03");
    assert_eq!(terminal.end(), (0, true), "{}", terminal.shown());
    assert!(!terminal.shown().contains(TAKEN), "the last table stays to be read");
}
