//! The API's lists.
//!
//! Owns: which there are, their columns, and that all pages of one are read.
//! Must not know: where a list is shown.

use serde_json::Value;

use super::remote::{Client, Unanswered, encode};
use super::table::{Column, Kind, clean, column};

/// A list of the API.
#[derive(Debug)]
pub(super) struct List {
    /// Its path.
    path: &'static str,
    /// Its name in an answer.
    pub(super) name: &'static str,
    pub(super) columns: &'static [Column],
    /// How many rows a page may have; none: it has no pages.
    page: Option<u32>,
}

pub(super) const POOLS: List = List {
    path: "/v1/pools",
    name: "pools",
    columns: &[
        column("POOL", "/name", Kind::Text),
        column("EXITS", "/exits", Kind::Count),
        column("ACTIVE", "/active", Kind::Count),
        column("DRAIN", "/drain", Kind::Count),
        column("OFF", "/off", Kind::Count),
        column("EJECTED", "/ejected", Kind::Count),
        column("PINS", "/pins", Kind::Count),
        column("CONNS", "/connections", Kind::Count),
        column("DIALS", "/dials", Kind::Count),
        column("FAILED", "/failures", Kind::Count),
        column("UP", "/bytes_up", Kind::Bytes),
        column("DOWN", "/bytes_down", Kind::Bytes),
        column("ROTATION", "/rotation", Kind::Text),
        column("PLACEMENT", "/placement", Kind::Text),
        column("FAILOVER", "/failover", Kind::Text),
    ],
    page: None,
};

pub(super) const EXITS: List = List {
    path: "/v1/exits",
    name: "exits",
    columns: &[
        column("EXIT", "", Kind::Exit),
        column("STATE", "/state", Kind::Text),
        column("HEALTH", "/health", Kind::Text),
        column("PINS", "/pins", Kind::Of("/max_sessions")),
        column("CONNS", "/connections", Kind::Of("/max_connections")),
        column("DIALS", "/dials", Kind::Count),
        column("FAILED", "/failures", Kind::Count),
        column("LAST ERROR", "/last_error/code", Kind::Text),
        column("P50 MS", "/connect_ms/p50", Kind::Ms),
        column("P99 MS", "/connect_ms/p99", Kind::Ms),
        column("UP", "/bytes_up", Kind::Bytes),
        column("DOWN", "/bytes_down", Kind::Bytes),
        column("ADDRESS", "/address", Kind::Text),
        column("VIA", "/via", Kind::Text),
    ],
    page: Some(10_000),
};

pub(super) const SESSIONS: List = List {
    path: "/v1/sessions",
    name: "sessions",
    columns: &[
        column("KEY", "/key", Kind::Text),
        column("USER", "/user", Kind::Text),
        column("POOL", "/pool", Kind::Text),
        column("SESSION", "/session", Kind::Text),
        column("EXIT", "/exit", Kind::Text),
        column("ADDRESS", "/exit_address", Kind::Text),
        column("LEFT", "/ends_in", Kind::Time),
        column("MOVES", "/moves", Kind::Count),
        column("LABELS", "/labels", Kind::Labels),
    ],
    page: Some(1000),
};

pub(super) const USERS: List = List {
    path: "/v1/users",
    name: "users",
    columns: &[
        column("USER", "/name", Kind::Text),
        column("SESSIONS", "/sessions", Kind::Of("/limits/sessions")),
        column("CONNS", "/connections", Kind::Of("/limits/connections")),
        column("TODAY", "/bytes_today", Kind::BytesOf("/limits/bytes_per_day")),
        column("UP", "/bytes_up", Kind::Bytes),
        column("DOWN", "/bytes_down", Kind::Bytes),
        column("DEFAULT", "/default_pool", Kind::Text),
        column("POOLS", "/pools", Kind::List),
    ],
    page: None,
};

/// Only what has these values.
pub(super) type Filters<'a> = [(&'static str, Option<&'a str>)];

/// A page of a list.
pub(super) struct Page {
    pub(super) rows: Vec<Value>,
    /// All else that the answer says.
    pub(super) rest: Value,
    pub(super) next: Option<String>,
}

impl List {
    /// The page at a cursor, with at most so many rows.
    ///
    /// # Errors
    /// No answer, or a problem.
    pub(super) async fn page(
        &self,
        client: &mut Client,
        filters: &Filters<'_>,
        cursor: Option<&str>,
        most: Option<u32>,
    ) -> Result<Page, Unanswered> {
        let limit = self.page.map(|page| most.map_or(page, |most| most.min(page)).to_string());
        let mut path = self.path.to_owned();
        let all = filters.iter().copied().chain([("cursor", cursor), ("limit", limit.as_deref())]);
        for (key, value) in all.filter_map(|(key, value)| Some((key, value?))) {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.extend([key, "=", &encode(value)]);
        }
        let mut rest = client.get(&path).await?;
        let next = rest["next"].as_str().map(str::to_owned);
        let rows = match rest.get_mut(self.name).map(Value::take) {
            Some(Value::Array(rows)) => rows,
            _ => Vec::new(),
        };
        Ok(Page { rows, rest, next })
    }
}

/// What pools say beside the list: how their files stand.
pub(super) fn reload_line(rest: &Value) -> Option<String> {
    let last = rest.get("last_reload").filter(|last| last.is_object())?;
    let at = last["at"].as_str().map(clean).unwrap_or_default();
    if last["ok"] == true {
        return Some(format!("files read again at {at}"));
    }
    let findings = last["findings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let findings: String = findings.map(|finding| format!("\n  {}", clean(finding))).collect();
    Some(format!("files were wrong at {at}, so what they said before is in force:{findings}"))
}
