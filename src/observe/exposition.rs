//! The text format of Prometheus (0.0.4).
//!
//! Owns: how a metric, its labels and its samples are written.
//! Must not know: which metrics there are.
//!
//! Not OpenMetrics, in which a counter is described by another name than it
//! is told under: `promtool check metrics` and older readers want one name.

use std::fmt::{Display, Write};

/// The media type of what is written here.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts below rising limits.
    Histogram,
}

/// Metrics, as they are written.
#[derive(Debug, Default)]
pub(crate) struct Exposition(String);

/// The labels of a sample.
pub(crate) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    /// Begins a metric; its samples follow.
    pub(crate) fn metric(&mut self, name: &'static str, r#type: Type, help: &str) -> Metric<'_> {
        let word = match r#type {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        };
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {word}\n"));
        Metric { out: self, name }
    }

    /// All of it.
    pub(crate) fn text(self) -> String {
        self.0
    }

    fn put(&mut self, text: impl Display) {
        // A string takes whatever is written to it.
        let _ = write!(self.0, "{text}");
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: Labels<'_>, value: impl Display) {
        self.0.push_str(name);
        self.0.push_str(suffix);
        for (at, (label, value)) in labels.iter().enumerate() {
            self.0.push(if at == 0 { '{' } else { ',' });
            self.0.push_str(label);
            self.0.push_str("=\"");
            self.escaped(value);
            self.0.push('"');
        }
        let end = if labels.is_empty() { "" } else { "}" };
        self.put(format_args!("{end} {value}\n"));
    }

    fn escaped(&mut self, value: &str) {
        for c in value.chars() {
            match c {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                c => self.0.push(c),
            }
        }
    }
}

/// A metric whose samples are being written.
#[derive(Debug)]
pub(crate) struct Metric<'a> {
    out: &'a mut Exposition,
    name: &'static str,
}

impl Metric<'_> {
    /// A sample.
    pub(crate) fn is(&mut self, labels: Labels<'_>, value: impl Display) -> &mut Self {
        self.out.sample(self.name, "", labels, value);
        self
    }

    /// The samples of a histogram: how many fell into the bucket below each
    /// limit, the last count being all above; and their sum.
    pub(crate) fn buckets(&mut self, limits: impl Iterator<Item = f64>, counts: &[u64], sum: f64) {
        let mut below = 0;
        for (limit, count) in limits.zip(counts) {
            below += count;
            self.out.sample(self.name, "_bucket", &[("le", &limit.to_string())], below);
        }
        let all: u64 = counts.iter().sum();
        self.out.sample(self.name, "_bucket", &[("le", "+Inf")], all);
        self.out.sample(self.name, "_sum", &[], sum);
        self.out.sample(self.name, "_count", &[], all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_as_they_are_read() {
        let mut out = Exposition::default();
        let mut pins = out.metric("pins", Type::Gauge, "Pins.");
        pins.is(&[], 3).is(&[("pool", "a\"b\\c\nd"), ("exit", "é")], 0.5);
        out.metric("took_seconds", Type::Histogram, "Times.").buckets(
            [0.5, 1.0].into_iter(),
            &[2, 0, 1],
            3.25,
        );
        let expected = "# HELP pins Pins.\n# TYPE pins gauge\npins 3\n\
             pins{pool=\"a\\\"b\\\\c\\nd\",exit=\"é\"} 0.5\n\
             # HELP took_seconds Times.\n# TYPE took_seconds histogram\n\
             took_seconds_bucket{le=\"0.5\"} 2\ntook_seconds_bucket{le=\"1\"} 2\n\
             took_seconds_bucket{le=\"+Inf\"} 3\ntook_seconds_sum 3.25\ntook_seconds_count 3\n";
        assert_eq!(out.text(), expected);
    }
}
