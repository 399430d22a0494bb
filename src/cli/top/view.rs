//! How `top` looks.
//!
//! Owns: what stands where, at any size.
//! Must not know: keys, the gateway.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Paragraph, RenderDirection, Row, Sparkline, Table, Tabs};
use serde_json::Value;

use super::model::{ERRORS, Model, NAMES};
use crate::cli::table::{bytes, clean, width};

const KEYS: &str = " q quit  tab/←/→/1-5 view  ↑/↓ row  s/S sort by next/previous column  r reverse";

/// Between two columns.
const GAP: u16 = 2;

/// Less of a text is no use.
const LEAST: usize = 8;

const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
const BAD: Style = Style::new().fg(Color::Red);
const ODD: Style = Style::new().fg(Color::Yellow);

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model) {
    let parts = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ]);
    let [head, plot, tabs, list, foot] = parts.areas(frame.area());
    frame.render_widget(Paragraph::new(heading(model)), head);
    // The newest is at the right.
    let rates = Sparkline::default().data(model.bytes.iter().copied());
    let rates = rates.direction(RenderDirection::RightToLeft).style(Style::new().fg(Color::Cyan));
    frame.render_widget(rates, plot);
    let names = NAMES.iter().enumerate().map(|(at, name)| format!("{} {name}", at + 1));
    let chosen = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_widget(Tabs::new(names).select(model.tab()).highlight_style(chosen), tabs);
    rows(frame, model, list);
    let below = match &model.lost {
        Some(why) => Line::styled(format!(" {}", clean(why)), BAD),
        None => Line::styled(KEYS, DIM),
    };
    frame.render_widget(below, foot);
}

/// Who it is, how much there is, and how much a second.
fn heading(model: &Model) -> Text<'static> {
    let stats = &model.stats;
    let count = |key: &str| stats[key].as_u64().map_or_else(|| "-".to_owned(), |count| count.to_string());
    let rate = |key: &str| stats[key].as_f64();
    let each = |key: &str| rate(key).map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}/s"));
    let volume = |key: &str| rate(key).map_or_else(|| "-".to_owned(), |rate| format!("{}B/s", bytes(rate)));
    let failing = rate("errors_per_second").is_some_and(|rate| rate > 0.0);
    let named = |name: &'static str, value: String, style: Style| {
        [Span::raw(format!("  {name} ")), Span::styled(value, style)]
    };
    let mut first = vec![Span::styled(format!(" Moorgate {}", clean(&model.gateway)), STRONG)];
    first.extend(named("connections", count("connections"), STRONG));
    first.extend(named("sessions", count("sessions"), STRONG));
    if model.lost.is_some() {
        first.push(Span::styled("  does not answer", BAD));
    }
    let mut second = Vec::new();
    second.extend(named("requests", each("requests_per_second"), STRONG));
    second.extend(named("errors", each("errors_per_second"), if failing { BAD } else { STRONG }));
    second.extend(named("up", volume("bytes_up_per_second"), STRONG));
    second.extend(named("down", volume("bytes_down_per_second"), STRONG));
    Text::from(vec![Line::from(first), Line::from(second)])
}

fn rows(frame: &mut Frame<'_>, model: &mut Model, area: Rect) {
    let (tab, columns) = (model.tab(), model.columns());
    let pane = model.pane();
    if pane.rows.is_empty() {
        let nothing = match () {
            () if tab == ERRORS => " No failure.",
            () if !pane.known => " …",
            () => " Nothing here.",
        };
        frame.render_widget(Line::styled(nothing, DIM), area);
        return;
    }
    let heads = columns.iter().enumerate().map(|(at, column)| match pane.sort {
        Some((by, falling)) if by == at => format!("{}{}", column.head, if falling { "▼" } else { "▲" }),
        _ => column.head.to_owned(),
    });
    let mut heads: Vec<_> = heads.collect();
    let mut widths: Vec<_> = heads.iter().map(|head| width(head)).collect();
    let cell = |text: String, at: usize| {
        let side = if columns[at].is_number() { Alignment::Right } else { Alignment::Left };
        Cell::from(Text::from(text).alignment(side))
    };
    let texts: Vec<Vec<_>> =
        pane.rows.iter().map(|row| columns.iter().map(|column| column.show(row)).collect()).collect();
    for texts in &texts {
        widths.iter_mut().zip(texts).for_each(|(most, text)| *most = (*most).max(width(text)));
    }
    heads.truncate(fit(&mut widths, area.width.into(), |at| columns[at].is_number()));
    let mut lines = Vec::with_capacity(texts.len() + 1);
    for (row, texts) in pane.rows.iter().zip(texts) {
        let shown = texts.into_iter().take(heads.len()).enumerate();
        lines.push(Row::new(shown.map(|(at, text)| cell(text, at))).style(style(row)));
    }
    if pane.more {
        lines.push(Row::new([Cell::from("…")]).style(DIM));
    }
    let widths = widths.into_iter().map(|most| Constraint::Length(u16::try_from(most).unwrap_or(u16::MAX)));
    let table = Table::new(lines, widths)
        .header(Row::new(heads.into_iter().enumerate().map(|(at, head)| cell(head, at))).style(STRONG))
        .column_spacing(GAP)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, area, &mut pane.chosen);
}

/// Leaves out the columns at the right that there is no room for: half a number
/// is a wrong one. A text may be cut. How many are left.
fn fit(widths: &mut Vec<usize>, room: usize, is_number: impl Fn(usize) -> bool) -> usize {
    let mut left = room;
    let mut fits = 0;
    for (at, wanted) in widths.iter_mut().enumerate() {
        let gap = if at == 0 { 0 } else { usize::from(GAP) };
        let rest = left.saturating_sub(gap);
        if *wanted > rest && (rest < LEAST || is_number(at)) && at > 0 {
            break;
        }
        *wanted = (*wanted).min(rest);
        left = rest - *wanted;
        fits = at + 1;
    }
    widths.truncate(fits);
    fits
}

/// What is not as it should be is seen at a glance.
fn style(row: &Value) -> Style {
    let is = |key: &str, word: &str| row[key] == word;
    match () {
        () if is("health", "ejected") || is("state", "off") => BAD,
        () if is("health", "trial") || is("state", "drain") => ODD,
        () if row["ejected"].as_u64().is_some_and(|ejected| ejected > 0) => ODD,
        () => Style::new(),
    }
}

#[cfg(test)]
mod tests;
