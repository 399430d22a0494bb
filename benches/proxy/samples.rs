//! Figures of many rounds.

use std::collections::HashMap;

use crate::peers::Kind;

/// What was measured of each proxy in each workload: one figure a round.
#[derive(Default)]
pub(crate) struct Samples {
    rows: HashMap<(&'static str, Kind), Vec<f64>>,
}

impl Samples {
    pub(crate) fn push(&mut self, row: &'static str, kind: Kind, figure: f64) {
        self.rows.entry((row, kind)).or_default().push(figure);
    }

    /// The middle one. None where nothing was measured.
    pub(crate) fn median(&self, row: &'static str, kind: Kind) -> Option<f64> {
        median(self.rows.get(&(row, kind))?.clone())
    }

    /// The middle of the ratios of each round.
    pub(crate) fn ratio(&self, this: (&'static str, Kind), to: (&'static str, Kind)) -> Option<f64> {
        let (this, to) = (self.rows.get(&this)?, self.rows.get(&to)?);
        median(this.iter().zip(to).map(|(this, to)| this / to).collect())
    }

    /// The middle of the differences of each round.
    pub(crate) fn difference(&self, this: (&'static str, Kind), to: (&'static str, Kind)) -> Option<f64> {
        let (this, to) = (self.rows.get(&this)?, self.rows.get(&to)?);
        median(this.iter().zip(to).map(|(this, to)| this - to).collect())
    }
}

pub(crate) fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    let upper = *figures.get(middle)?;
    Some(if figures.len().is_multiple_of(2) { f64::midpoint(upper, figures[middle - 1]) } else { upper })
}
