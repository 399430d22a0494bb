//! What this program is asked to do.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::peers::Kind;

/// Which of its parts this process plays.
pub(crate) enum Role {
    Limit { address: SocketAddr, upstream: Option<SocketAddr> },
    Bare { address: SocketAddr },
    Origin,
    Measure(Options),
}

/// How much is measured.
pub(crate) struct Options {
    pub(crate) rounds: usize,
    /// Whether rounds are left out where the machine is too slow for them.
    hurried: bool,
    pub(crate) write: bool,
    pub(crate) calls: bool,
    only: Vec<String>,
    workloads: Vec<String>,
}

/// Rounds of a quick run.
const ROUNDS: usize = 5;

/// None where this is run for another reason than to measure.
pub(crate) fn role() -> Option<Role> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let address = |at: usize| arguments.get(at).map(|text| text.parse().expect("an address"));
    match arguments.first().map(String::as_str) {
        Some("limit") => Some(Role::Limit { address: address(1).expect("an address"), upstream: address(2) }),
        Some("bare") => Some(Role::Bare { address: address(1).expect("an address") }),
        Some("origin") => Some(Role::Origin),
        _ => Options::read(&arguments).map(Role::Measure),
    }
}

impl Options {
    fn read(arguments: &[String]) -> Option<Self> {
        // Cargo says so when it runs benchmarks, and not when it runs tests.
        let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
        let value = |flag: &str| {
            let at = arguments.iter().position(|argument| argument == flag)?;
            arguments.get(at + 1).map(String::as_str)
        };
        let list = |flag: &str| {
            let words = value(flag).unwrap_or_default().split(',').filter(|word| !word.is_empty());
            words.map(str::to_lowercase).collect()
        };
        has("--bench").then(|| Self {
            rounds: value("--rounds")
                .map_or(ROUNDS, |rounds| rounds.parse().expect("--rounds takes a number")),
            hurried: value("--rounds").is_none(),
            write: has("--write"),
            calls: has("--calls"),
            only: list("--only"),
            workloads: list("--workloads"),
        })
    }

    /// The rounds of one part of the measurement: all of them, or what fits
    /// into its share of a quick run.
    pub(crate) fn rounds(&self, share: Duration) -> impl Iterator<Item = usize> {
        let (begun, hurried) = (Instant::now(), self.hurried);
        (0..=self.rounds).take_while(move |round| !hurried || *round < 3 || begun.elapsed() < share)
    }

    /// Whether a workload is wanted, `W1` say.
    pub(crate) fn wants(&self, group: &str) -> bool {
        self.workloads.is_empty() || self.workloads.contains(&group.to_lowercase())
    }

    /// Whether one is wanted that has to be asked for.
    pub(crate) fn wants_by_name(&self, group: &str) -> bool {
        self.workloads.iter().any(|wanted| wanted == group)
    }

    /// What is compared, as far as it is installed and wanted; the limit first.
    pub(crate) fn rivals(&self) -> Vec<Kind> {
        let mut rivals = Vec::new();
        for kind in Kind::RIVALS {
            let Some(name) = kind.name().map(|name| name.to_lowercase()) else {
                println!("{kind:?} is not installed: left out");
                continue;
            };
            let wanted = self.only.is_empty() || self.only.iter().any(|word| name.starts_with(word.as_str()));
            if wanted || kind == Kind::Limit {
                rivals.push(kind);
            }
        }
        rivals
    }
}
