//! The list of exits.
//!
//! Owns: its orders and its pages.
//! Must not know: how an exit is shown.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Shown, health};
use crate::admin::asks::{Asked, behind, cursor, limit};
use crate::admin::problem::{Kind, Problem};
use crate::admin::{Desk, json_aside};
use crate::core::exit::{Exit, Mode};
use crate::core::pin::ExitName;
use crate::state::ExitState;
use crate::steer::Steering;

/// The longest page, and one that nobody gave a length for.
const MOST: u32 = 10_000;
const DEFAULT: u32 = 1000;

/// Which exits, and which part of the list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::admin) struct List {
    /// Of this pool.
    pool: Option<String>,
    /// Which stand first.
    #[serde(default)]
    #[param(inline)]
    order: Order,
    /// `next` of the page before, in the order of names. Good for the same
    /// filters alone.
    cursor: Option<String>,
    /// At most so many: 1 to 10000.
    #[param(minimum = 1, maximum = 10_000, default = 1000)]
    limit: Option<u32>,
}

/// An order of exits.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// By pool and id.
    #[default]
    Name,
    /// Those with the most pins for their weight; only so many as are shown.
    Pins,
    /// Ejected ones, those on trial, those that are switched, and the ones
    /// with the most failures; only so many as are shown.
    Trouble,
}

/// A part of the list.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct Exits {
    /// In the order that was asked for.
    exits: Vec<Shown>,
    /// The cursor of the page behind this; none: that was all, or the order is
    /// another than that of names.
    next: Option<String>,
}

/// The exits.
#[utoipa::path(get, path = "/v1/exits", params(List), responses(
    (status = 200, body = Exits),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::admin) async fn list(
    State(desk): State<Arc<Desk>>,
    Asked(list): Asked<List>,
) -> Result<impl IntoResponse, Problem> {
    json_aside(move || page(&desk.steering, &list)).await
}

fn page(steering: &Steering, list: &List) -> Result<Exits, Problem> {
    let limit = limit(list.limit, MOST, DEFAULT)?;
    let filters = [list.pool.as_deref()];
    let after = list.cursor.as_deref().map(|cursor| after(cursor, &filters)).transpose()?;
    let snapshot = steering.state.snapshot();
    let pools = snapshot.pools().iter().filter(|pool| filters[0].is_none_or(|name| name == &*pool.name));
    let live = pools.filter_map(|pool| snapshot.pool(&pool.name));
    let exits = live.flat_map(|pool| pool.exits());
    let (shown, more) = match list.order {
        Order::Name => first(exits, after.as_ref(), limit),
        _ if after.is_some() => {
            let detail = "pages are in the order of names: leave out order, or cursor";
            return Err(Problem::new(Kind::QueryInvalid, detail));
        }
        Order::Pins => (most(exits, limit, load), false),
        Order::Trouble => (most(exits, limit, |exit, live| trouble(exit, live, steering)), false),
    };
    let next = shown.last().filter(|_| more).map(|(exit, _)| {
        let behind = format!("{}\0{}", exit.name.pool, exit.name.id);
        cursor(behind.as_bytes(), &filters)
    });
    let shown = shown.into_iter().map(|(exit, live)| Shown::new(exit, live, steering));
    Ok(Exits { exits: shown.collect(), next })
}

type Found<'a> = (&'a Arc<Exit>, &'a Arc<ExitState>);

/// The first so many by name, behind this one; whether there are more.
fn first<'a>(
    exits: impl Iterator<Item = Found<'a>>,
    after: Option<&ExitName>,
    limit: usize,
) -> (Vec<Found<'a>>, bool) {
    let mut first = BTreeMap::<&ExitName, Found<'a>>::new();
    for found in exits {
        let name = &found.0.name;
        // One more than is shown tells whether there are more.
        let late = first.len() > limit && first.last_key_value().is_some_and(|(last, _)| name > *last);
        if late || after.is_some_and(|after| name <= after) {
            continue;
        }
        first.insert(name, found);
        if first.len() > limit + 1 {
            first.pop_last();
        }
    }
    let more = first.len() > limit;
    (first.into_values().take(limit).collect(), more)
}

/// So many for which a figure is the largest, and of those alike the first by
/// name.
fn most<'a, F: Ord>(
    exits: impl Iterator<Item = Found<'a>>,
    limit: usize,
    figure: impl Fn(&Exit, &ExitState) -> F,
) -> Vec<Found<'a>> {
    let figured = exits.map(|(exit, live)| (Reverse(figure(exit, live)), &exit.name, (exit, live)));
    let mut all: Vec<_> = figured.collect();
    let rank = |a: &(Reverse<F>, &ExitName, Found<'a>), b: &(Reverse<F>, &ExitName, Found<'a>)| {
        (&a.0, a.1).cmp(&(&b.0, b.1))
    };
    if limit < all.len() {
        all.select_nth_unstable_by(limit, rank);
        all.truncate(limit);
    }
    all.sort_unstable_by(rank);
    all.into_iter().map(|(.., found)| found).collect()
}

/// Pins for each unit of its weight.
fn load(exit: &Exit, live: &ExitState) -> u64 {
    u64::from(live.pins()) * 1000 / u64::from(exit.weight.max(1))
}

fn trouble(exit: &Exit, live: &ExitState, steering: &Steering) -> (u8, u64) {
    let how = match (exit.mode, health(live, steering)) {
        (Mode::Active, "ejected") => 3,
        (Mode::Active, "trial") => 2,
        (Mode::Active, _) => 0,
        _ => 1,
    };
    (how, live.dials().failed)
}

fn after(cursor: &str, filters: &[Option<&str>]) -> Result<ExitName, Problem> {
    let wrong = || Problem::new(Kind::CursorInvalid, "leave cursor out to begin anew");
    let text = String::from_utf8(behind(cursor, filters)?).map_err(|_| wrong())?;
    let (pool, id) = text.split_once('\0').ok_or_else(wrong)?;
    Ok(ExitName { pool: pool.into(), id: id.into() })
}
