use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;

use super::super::model::{After, News};
use super::*;
use crate::cli::lists::Page;

fn list(tab: usize, rows: &[Value], more: bool) -> News {
    let next = more.then(|| "x".to_owned());
    News::List(tab, Page { rows: rows.to_vec(), rest: Value::Null, next })
}

fn exit(id: &str, pins: u32, health: &str) -> Value {
    json!({ "pool": "us", "id": id, "state": "active", "health": health, "pins": pins })
}

fn press(model: &mut Model, code: KeyCode) -> After {
    model.press(KeyEvent::new(code, KeyModifiers::NONE))
}

/// The lines of a terminal of this size.
fn drawn(model: &mut Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

fn model() -> Model {
    let mut model = Model::new("127.0.0.1:9090".to_owned());
    model.hear(News::Event(json!({
        "event": "stats", "at": "2026-01-02T03:04:05.678Z", "connections": 12, "sessions": 345,
        "requests_per_second": 6.5, "errors_per_second": 0.0,
        "bytes_up_per_second": 1500.0, "bytes_down_per_second": 2_000_000.0,
    })));
    model.hear(list(1, &[exit("a", 9, "healthy"), exit("b", 10, "ejected"), exit("c", 1, "healthy")], false));
    model
}

/// The ids of the exits, from the top.
fn order(model: &mut Model) -> String {
    drawn(model, 120, 12).iter().filter_map(|line| line.split_once("us/")?.1.chars().next()).collect()
}

#[test]
fn the_head_says_how_it_does() {
    let lines = drawn(&mut model(), 100, 12);
    assert_eq!(lines[0], " Moorgate 127.0.0.1:9090  connections 12  sessions 345");
    assert_eq!(lines[1], "  requests 6.5/s  errors 0.0/s  up 1.50kB/s  down 2.00MB/s");
    assert!(lines[3].ends_with('█'), "{lines:#?}");
    assert!(lines[4].contains("1 Pools") && lines[4].contains("5 Errors"));
    assert_eq!(lines[5], " …", "not told yet");
    assert!(lines[11].contains("q quit"));
}

#[test]
fn tabs_and_rows_are_gone_through_by_keys() {
    let mut model = model();
    assert_eq!(press(&mut model, KeyCode::Tab), After::Look);
    let lines = drawn(&mut model, 120, 12);
    assert!(lines[5].starts_with("EXIT  STATE   HEALTH   PINS"), "{lines:#?}");
    assert!(lines[7].starts_with("us/b  active  ejected    10"), "{lines:#?}");
    assert_eq!(model.pane().chosen.selected(), Some(0));
    for (code, chosen) in [
        (KeyCode::Down, 1),
        (KeyCode::PageDown, 2),
        (KeyCode::Down, 2),
        (KeyCode::Up, 1),
        (KeyCode::Home, 0),
        (KeyCode::End, 2),
    ] {
        assert_eq!(press(&mut model, code), After::Draw);
        assert_eq!(model.pane().chosen.selected(), Some(chosen), "{code:?}");
    }
    // Fewer rows than were there: the last is chosen.
    model.hear(list(1, &[exit("a", 9, "healthy")], true));
    assert_eq!(model.pane().chosen.selected(), Some(0));
    assert!(drawn(&mut model, 80, 12)[7].starts_with('…'));
    assert_eq!(press(&mut model, KeyCode::BackTab), After::Look);
    assert_eq!((press(&mut model, KeyCode::Left), model.tab()), (After::Look, ERRORS));
    assert_eq!(press(&mut model, KeyCode::Char('q')), After::Quit);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(model.press(interrupt), After::Quit);
}

#[test]
fn columns_without_room_are_left_out() {
    let mut model = model();
    press(&mut model, KeyCode::Char('2'));
    let mut row = exit("a", 9, "healthy");
    row["last_error"] = json!({ "code": "exit_refused_target" });
    model.hear(list(1, &[row], false));
    for (width, head) in [
        (200, "EXIT  STATE   HEALTH   PINS  CONNS  DIALS  FAILED  LAST ERROR           P50 MS"),
        (80, "EXIT  STATE   HEALTH   PINS  CONNS  DIALS  FAILED  LAST ERROR           P50 MS"),
        (62, "EXIT  STATE   HEALTH   PINS  CONNS  DIALS  FAILED  LAST ERROR"),
        (58, "EXIT  STATE   HEALTH   PINS  CONNS  DIALS  FAILED"),
        (45, "EXIT  STATE   HEALTH   PINS  CONNS  DIALS"),
        (10, "EXIT"),
        (2, "EX"),
    ] {
        let lines = drawn(&mut model, width, 12);
        let whole = if width == 200 { &lines[5][..head.len()] } else { &lines[5] };
        assert_eq!(whole, head, "{width}");
    }
    model.hear(list(1, &[], false));
    assert_eq!(drawn(&mut model, 80, 12)[5], " Nothing here.");
}

#[test]
fn rows_are_sorted_by_any_column() {
    let mut model = model();
    press(&mut model, KeyCode::Char('2'));
    assert_eq!(order(&mut model), "abc");
    for _ in 0..4 {
        press(&mut model, KeyCode::Char('s'));
    }
    assert_eq!(order(&mut model), "bac", "by pins, the most first");
    assert!(drawn(&mut model, 120, 12)[5].contains("PINS▼"));
    press(&mut model, KeyCode::Char('r'));
    assert_eq!(order(&mut model), "cab");
    model.hear(list(1, &[exit("d", 5, "healthy"), exit("e", 4, "healthy")], false));
    assert_eq!(order(&mut model), "ed", "new rows, too");
    for _ in 0..4 {
        press(&mut model, KeyCode::Char('S'));
    }
    assert_eq!(model.pane().sort, None);
}

#[test]
fn failures_are_kept_with_when_they_were() {
    let mut model = model();
    model.hear(News::Event(json!({ "event": "failed", "at": "2026-01-02T03:04:05.678Z",
        "code": "exit_refused", "status": 502, "detail": "it said\u{1b}[2J no", "user": "acme", "pool": "us", "exit": "a" })));
    model
        .hear(News::Event(json!({ "event": "exit_ejected", "pool": "us", "exit": "b", "cause": "refused" })));
    model.hear(News::Event(json!({ "event": "reloaded", "ok": true, "findings": [] })));
    model.hear(News::Event(json!({ "event": "session_made" })));
    press(&mut model, KeyCode::Char('5'));
    let lines = drawn(&mut model, 120, 12);
    assert!(lines[6].contains("exit_ejected") && lines[6].ends_with("refused"), "{lines:#?}");
    assert!(lines[7].starts_with("2026-01-02T03:04:05.678Z  exit_refused"), "{lines:#?}");
    assert!(lines[7].ends_with("it said\\u{1b}[2J no"), "{lines:#?}");
    (0..600).for_each(|_| model.hear(News::Event(json!({ "event": "failed", "code": "x" }))));
    assert_eq!(model.pane().rows.len(), 500);
}

#[test]
fn a_gateway_that_is_gone_is_said_until_it_is_back() {
    let mut model = model();
    model.hear(News::Lost("no gateway answers".to_owned()));
    let lines = drawn(&mut model, 100, 12);
    assert!(lines[0].ends_with("does not answer") && lines[11].contains("no gateway answers"));
    model.hear(list(0, &[json!({ "name": "us" })], false));
    assert!(drawn(&mut model, 100, 12)[11].contains("q quit"));
}

#[test]
fn it_is_drawn_at_any_size() {
    let mut model = model();
    for tab in ['1', '2', '3', '4', '5'] {
        press(&mut model, KeyCode::Char(tab));
        for (width, height) in [(1, 1), (2, 3), (10, 5), (40, 8), (300, 90)] {
            drawn(&mut model, width, height);
        }
    }
}
