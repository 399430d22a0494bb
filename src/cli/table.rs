//! Tables for people.
//!
//! Owns: columns, how a value of the API is written in one, how two are
//! ordered, and that nothing which comes from a client reaches the terminal
//! as anything but text.
//! Must not know: where rows come from.

use std::cmp::Ordering;
use std::fmt::Write as _;

use ratatui::text::Span;
use serde_json::Value;

/// Between two columns.
const GAP: usize = 2;

/// What a column shows of each row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) head: &'static str,
    /// A JSON pointer (RFC 6901).
    pub(super) at: &'static str,
    pub(super) kind: Kind,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// An exit: its `pool` and `id`.
    Exit,
    Count,
    Bytes,
    /// Milliseconds.
    Ms,
    /// Seconds.
    Time,
    /// An array; what is none stands for all.
    List,
    /// An object.
    Labels,
    /// A count, and behind a stroke its limit, which is at this pointer.
    Of(&'static str),
    /// The same of bytes.
    BytesOf(&'static str),
}

/// A column.
pub(super) const fn column(head: &'static str, at: &'static str, kind: Kind) -> Column {
    Column { head, at, kind }
}

impl Column {
    /// Whether it stands at the right.
    pub(super) fn is_number(&self) -> bool {
        !matches!(self.kind, Kind::Text | Kind::Exit | Kind::List | Kind::Labels)
    }

    /// A row's text.
    pub(super) fn show(&self, row: &Value) -> String {
        let value = row.pointer(self.at).unwrap_or(&Value::Null);
        match self.kind {
            Kind::Exit => format!("{}/{}", plain(&row["pool"]), plain(&row["id"])),
            Kind::List => match value.as_array() {
                None => "all".to_owned(),
                Some(items) if items.is_empty() => "none".to_owned(),
                Some(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
            },
            Kind::Labels => labels(value),
            Kind::Of(limit) => of(value, row.pointer(limit), plain),
            Kind::BytesOf(limit) => of(value, row.pointer(limit), |value| number(value, bytes)),
            Kind::Bytes => number(value, bytes),
            Kind::Ms => number(value, |ms| format!("{ms:.1}")),
            Kind::Time => number(value, |seconds| time(seconds as u64)),
            Kind::Text | Kind::Count => plain(value),
        }
    }

    /// Which of two rows comes first.
    pub(super) fn order(&self, a: &Value, b: &Value) -> Ordering {
        if self.is_number() {
            let rank = |row: &Value| row.pointer(self.at).and_then(Value::as_f64);
            return rank(a).partial_cmp(&rank(b)).unwrap_or(Ordering::Equal);
        }
        self.show(a).cmp(&self.show(b))
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => clean(text),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => clean(&other.to_string()),
    }
}

fn number(value: &Value, write: impl Fn(f64) -> String) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), write)
}

/// Use and limit; 0 and nothing are no limit.
fn of(value: &Value, limit: Option<&Value>, write: impl Fn(&Value) -> String) -> String {
    let limit = limit.filter(|limit| limit.as_u64().is_some_and(|limit| limit > 0));
    let used = write(value);
    limit.map_or_else(|| used.clone(), |limit| format!("{used}/{}", write(limit)))
}

fn labels(value: &Value) -> String {
    let mut text = String::new();
    for (key, value) in value.as_object().into_iter().flatten() {
        let gap = if text.is_empty() { "" } else { " " };
        let _ = write!(text, "{gap}{}={}", clean(key), plain(value));
    }
    if text.is_empty() { "-".to_owned() } else { text }
}

/// A text that moves no cursor and hides nothing: what is not printable
/// (controls, marks that turn the direction, invisible spaces) stands as its
/// escape.
pub(super) fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\'' | '"' | '\\' => cleaned.push(char),
            _ => cleaned.extend(char.escape_debug()),
        }
    }
    cleaned
}

/// How many columns of a terminal a text takes.
pub(super) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// Bytes, to three digits: `999`, `1.23k`, `45.6M`.
pub(super) fn bytes(count: f64) -> String {
    if count < 1000.0 {
        return format!("{count:.0}");
    }
    let mut scaled = count;
    let mut unit = ' ';
    for next in ['k', 'M', 'G', 'T', 'P', 'E'] {
        // What would be rounded up to 1000 belongs to the next unit.
        if scaled < 999.5 {
            break;
        }
        (scaled, unit) = (scaled / 1000.0, next);
    }
    let digits = if scaled < 9.995 { 2 } else { usize::from(scaled < 99.95) };
    format!("{scaled:.digits$}{unit}")
}

/// A length of time, by its two largest units.
pub(super) fn time(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// A table that is written part by part; widths only ever grow.
pub(super) struct Table<'a> {
    columns: &'a [Column],
    widths: Vec<usize>,
}

impl<'a> Table<'a> {
    pub(super) fn new(columns: &'a [Column]) -> Self {
        Self { columns, widths: columns.iter().map(|column| width(column.head)).collect() }
    }

    /// The next rows; before the first, the heads.
    pub(super) fn part(&mut self, rows: &[Value], first: bool) -> String {
        let shown: Vec<Vec<_>> =
            rows.iter().map(|row| self.columns.iter().map(|column| column.show(row)).collect()).collect();
        for cells in &shown {
            for (most, cell) in self.widths.iter_mut().zip(cells) {
                *most = (*most).max(width(cell));
            }
        }
        let mut text = String::new();
        if first {
            self.line(&mut text, self.columns.iter().map(|column| column.head));
        }
        shown.iter().for_each(|cells| self.line(&mut text, cells.iter().map(String::as_str)));
        text
    }

    fn line<'t>(&self, text: &mut String, cells: impl Iterator<Item = &'t str>) {
        let start = text.len();
        for (at, ((cell, most), column)) in cells.zip(&self.widths).zip(self.columns).enumerate() {
            let gap = if at == 0 { 0 } else { GAP };
            let room = most.saturating_sub(width(cell));
            let (before, behind) = if column.is_number() { (gap + room, 0) } else { (gap, room) };
            let _ = write!(text, "{:before$}{cell}{:behind$}", "", "");
        }
        text.truncate(start + text[start..].trim_end().len());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: [Column; 4] = [
        column("EXIT", "", Kind::Exit),
        column("PINS", "/pins", Kind::Count),
        column("P50", "/ms/p50", Kind::Ms),
        column("LABELS", "/labels", Kind::Labels),
    ];

    #[test]
    fn columns_are_aligned() {
        let rows = [
            json!({ "pool": "us", "id": "ams-1", "pins": 7, "ms": { "p50": 1.25 }, "labels": {} }),
            json!({ "pool": "europe", "id": "e", "pins": 12345, "ms": null, "labels": { "city": "日本" } }),
        ];
        let text = Table::new(&COLUMNS).part(&rows, true);
        let expected = "EXIT       PINS  P50  LABELS\n\
                        us/ams-1      7  1.2  -\n\
                        europe/e  12345    -  city=日本\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn parts_go_on_where_the_first_has_begun() {
        let row = |id: &str| json!({ "pool": "p", "id": id, "pins": 1 });
        let mut table = Table::new(&COLUMNS[..2]);
        assert_eq!(table.part(&[row("abcdef")], true), "EXIT      PINS\np/abcdef     1\n");
        assert_eq!(table.part(&[row("a")], false), "p/a          1\n");
        assert_eq!(Table::new(&COLUMNS[..2]).part(&[], true), "EXIT  PINS\n");
    }

    #[test]
    fn what_clients_send_is_only_text() {
        let check = |text: &str, expected: &str| assert_eq!(clean(text), expected);
        check("cart42", "cart42");
        check("a'b\"c\\", "a'b\"c\\");
        check("Zürich 日本", "Zürich 日本");
        check("\u{1b}[2J\u{1b}]0;x\u{7}", "\\u{1b}[2J\\u{1b}]0;x\\u{7}");
        check("a\r\nb\tc\0", "a\\r\\nb\\tc\\0");
        check("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}");
        check("\u{202e}gpj\u{2066}\u{200b}\u{feff}", "\\u{202e}gpj\\u{2066}\\u{200b}\\u{feff}");
    }

    #[test]
    fn numbers_are_short() {
        for (count, expected) in [
            (0.0, "0"),
            (999.0, "999"),
            (1000.0, "1.00k"),
            (999_499.0, "999k"),
            (999_500.0, "1.00M"),
            (12_345_678.0, "12.3M"),
            (5e12, "5.00T"),
        ] {
            assert_eq!(bytes(count), expected);
        }
        for (seconds, expected) in
            [(0, "0s"), (59, "59s"), (61, "1m01s"), (3600, "1h00m"), (86_399, "23h59m"), (604_800, "7d00h")]
        {
            assert_eq!(time(seconds), expected);
        }
    }

    #[test]
    fn use_stands_before_its_limit() {
        let show = |kind, row: Value| column("X", "/used", kind).show(&row);
        assert_eq!(show(Kind::Of("/limits/n"), json!({ "used": 3, "limits": { "n": 10 } })), "3/10");
        assert_eq!(show(Kind::Of("/limits/n"), json!({ "used": 3, "limits": { "n": null } })), "3");
        assert_eq!(show(Kind::Of("/limits/n"), json!({ "used": 3, "limits": { "n": 0 } })), "3");
        assert_eq!(show(Kind::Of("/limits/n"), json!({})), "-");
        assert_eq!(show(Kind::BytesOf("/n"), json!({ "used": 1500, "n": 2_000_000 })), "1.50k/2.00M");
        assert_eq!(show(Kind::List, json!({ "used": ["a", "b"] })), "a,b");
        assert_eq!(show(Kind::List, json!({ "used": null })), "all");
    }

    #[test]
    fn rows_are_ordered_by_value_not_by_text() {
        let (nine, ten) = (json!({ "pins": 9 }), json!({ "pins": 10 }));
        assert_eq!(COLUMNS[1].order(&nine, &ten), Ordering::Less);
        assert_eq!(COLUMNS[1].order(&json!({}), &nine), Ordering::Less);
        let exit = |id: &str| json!({ "pool": "p", "id": id });
        assert_eq!(COLUMNS[0].order(&exit("b"), &exit("a")), Ordering::Greater);
    }
}
