//! What `top` knows, and what keys do.
//!
//! Owns: the tabs with their rows, order and chosen row; the last failures;
//! the rates of the last minutes.
//! Must not know: how it is drawn, where it comes from.

use std::collections::VecDeque;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::widgets::TableState;
use serde_json::{Value, json};

use crate::cli::lists::{EXITS, POOLS, Page, SESSIONS, USERS};
use crate::cli::table::{Column, Kind, column};

/// How many tabs there are.
pub(super) const TABS: usize = 5;

/// Their names.
pub(super) const NAMES: [&str; TABS] = ["Pools", "Exits", "Sessions", "Users", "Errors"];

/// The tab of failures, which are told, not listed.
pub(super) const ERRORS: usize = TABS - 1;

/// The most failures that are kept.
const MOST_ERRORS: usize = 500;

/// The most seconds of rates.
const MOST_RATES: usize = 600;

/// A failure's columns.
const FAILURE: &[Column] = &[
    column("AT", "/at", Kind::Text),
    column("CODE", "/code", Kind::Text),
    column("USER", "/user", Kind::Text),
    column("POOL", "/pool", Kind::Text),
    column("EXIT", "/exit", Kind::Text),
    column("DETAIL", "/detail", Kind::Text),
];

const COLUMNS: [&[Column]; TABS] = [POOLS.columns, EXITS.columns, SESSIONS.columns, USERS.columns, FAILURE];

/// Something to be shown.
pub(super) enum News {
    /// The newest rows of a tab.
    List(usize, Page),
    /// An event of the gateway.
    Event(Value),
    /// The gateway does not answer; why.
    Lost(String),
}

/// What is to be done after a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    Draw,
    /// Another list is looked at.
    Look,
    Quit,
}

/// A tab.
#[derive(Default)]
pub(super) struct Pane {
    pub(super) rows: Vec<Value>,
    /// There are more than are shown.
    pub(super) more: bool,
    /// The gateway has told them.
    pub(super) known: bool,
    /// By which column, the largest first; none: as the gateway has them.
    pub(super) sort: Option<(usize, bool)>,
    pub(super) chosen: TableState,
}

/// All that is shown.
pub(super) struct Model {
    pub(super) gateway: String,
    tab: usize,
    panes: [Pane; TABS],
    /// How the gateway does, as it has said last.
    pub(super) stats: Value,
    /// Bytes a second, the newest first.
    pub(super) bytes: VecDeque<u64>,
    /// Why it says nothing more.
    pub(super) lost: Option<String>,
}

impl Model {
    pub(super) fn new(gateway: String) -> Self {
        Self {
            gateway,
            tab: 0,
            panes: Default::default(),
            stats: Value::Null,
            bytes: VecDeque::new(),
            lost: None,
        }
    }

    pub(super) fn tab(&self) -> usize {
        self.tab
    }

    pub(super) fn columns(&self) -> &'static [Column] {
        COLUMNS[self.tab]
    }

    pub(super) fn pane(&mut self) -> &mut Pane {
        &mut self.panes[self.tab]
    }

    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::List(tab, page) => {
                let pane = &mut self.panes[tab];
                (pane.rows, pane.more, pane.known) = (page.rows, page.next.is_some(), true);
                self.lost = None;
                self.arrange(tab);
            }
            News::Event(event) => {
                self.lost = None;
                self.event(&event);
            }
            News::Lost(why) => self.lost = Some(why),
        }
    }

    fn event(&mut self, event: &Value) {
        let at = || event["at"].clone();
        let failure = match event["event"].as_str() {
            Some("stats") => {
                let rate = |key: &str| event[key].as_f64().unwrap_or(0.0);
                let bytes = rate("bytes_up_per_second") + rate("bytes_down_per_second");
                self.bytes.push_front(bytes as u64);
                self.bytes.truncate(MOST_RATES);
                self.stats = event.clone();
                return;
            }
            Some("failed") => event.clone(),
            Some(code @ "exit_ejected") => {
                let detail = &event["cause"];
                json!({ "at": at(), "code": code, "pool": event["pool"], "exit": event["exit"], "detail": detail })
            }
            Some("reloaded") if event["ok"] == false => {
                let findings = event["findings"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let detail = findings.collect::<Vec<_>>().join("; ");
                json!({ "at": at(), "code": "reload_failed", "detail": detail })
            }
            Some("lagged") => {
                let detail = format!("{} events came too fast to be told", event["lost"]);
                json!({ "at": at(), "code": "lagged", "detail": detail })
            }
            _ => return,
        };
        let pane = &mut self.panes[ERRORS];
        // Failures come in their order; another order is made of that.
        pane.rows.insert(0, failure);
        pane.rows.truncate(MOST_ERRORS);
        self.arrange(ERRORS);
    }

    /// Brings a tab's rows into their order.
    fn arrange(&mut self, tab: usize) {
        let pane = &mut self.panes[tab];
        if let Some((column, falling)) = pane.sort {
            let column = &COLUMNS[tab][column];
            pane.rows.sort_by(|a, b| match falling {
                true => column.order(b, a),
                false => column.order(a, b),
            });
        }
        let last = pane.rows.len().checked_sub(1);
        let chosen = pane.chosen.selected().unwrap_or(0);
        pane.chosen.select(last.map(|last| chosen.min(last)));
    }

    pub(super) fn press(&mut self, key: KeyEvent) -> After {
        if key.kind == KeyEventKind::Release {
            return After::Draw;
        }
        let tab = self.tab;
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return After::Quit,
            KeyCode::Char('q') | KeyCode::Esc => return After::Quit,
            KeyCode::Tab | KeyCode::Right => self.tab = (tab + 1) % TABS,
            KeyCode::BackTab | KeyCode::Left => self.tab = (tab + TABS - 1) % TABS,
            KeyCode::Char(digit @ '1'..='5') => self.tab = digit as usize - '1' as usize,
            KeyCode::Char('s') => self.sort(1),
            KeyCode::Char('S') => self.sort(COLUMNS[tab].len()),
            KeyCode::Char('r') => {
                let sort = &mut self.pane().sort;
                *sort = Some(sort.map_or((0, true), |(column, falling)| (column, !falling)));
                self.arrange(tab);
            }
            code => self.go(code),
        }
        if self.tab == tab { After::Draw } else { After::Look }
    }

    /// Sorts by the column so far on; numbers fall, texts rise.
    fn sort(&mut self, by: usize) {
        let (tab, columns) = (self.tab, self.columns());
        // Behind the last column comes no order.
        let now = self.pane().sort.map_or(columns.len(), |(column, _)| column);
        let next = (now + by) % (columns.len() + 1);
        self.pane().sort = columns.get(next).map(|column| (next, column.is_number()));
        self.arrange(tab);
    }

    /// Chooses another row.
    fn go(&mut self, code: KeyCode) {
        const PAGE: usize = 10;
        let pane = self.pane();
        let Some(last) = pane.rows.len().checked_sub(1) else { return };
        let now = pane.chosen.selected().unwrap_or(0);
        let next = match code {
            KeyCode::Up | KeyCode::Char('k') => now.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => now + 1,
            KeyCode::PageUp => now.saturating_sub(PAGE),
            KeyCode::PageDown => now + PAGE,
            KeyCode::Home => 0,
            KeyCode::End => last,
            _ => now,
        };
        pane.chosen.select(Some(next.min(last)));
    }
}
