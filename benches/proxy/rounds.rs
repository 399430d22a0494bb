//! CPU for each unit of each workload, in interleaved rounds.

use std::path::Path;
use std::time::Duration;

use crate::options::Options;
use crate::peers::{Kind, Peer};
use crate::samples::Samples;
use crate::workloads::{WORKLOADS, Workload, name_for};

/// What a quick run has for this.
const SHARE: Duration = Duration::from_secs(100);

/// What W1 to W4 cost.
pub(crate) struct Costs {
    pub(crate) kinds: Vec<(Kind, String)>,
    pub(crate) workloads: Vec<&'static Workload>,
    pub(crate) samples: Samples,
}

/// None where none of them is wanted.
pub(crate) async fn costs(options: &Options, rivals: &[Kind], folder: &Path) -> Option<Costs> {
    let workloads: Vec<_> = WORKLOADS.iter().filter(|workload| options.wants(workload.group)).collect();
    if workloads.is_empty() {
        return None;
    }
    let mut samples = Samples::default();
    let start = |(at, kind): (usize, &Kind)| kind.start(&folder.join(format!("cost-{at}")));
    let peers: Vec<Peer> = rivals.iter().enumerate().map(start).collect();
    // The first round only warms up.
    for round in options.rounds(SHARE) {
        for workload in &workloads {
            for peer in peers.iter().filter(|peer| peer.kind.serves(workload.load.service())) {
                let load = workload.load.for_kind(peer.kind);
                let figure = load.run(peer.through(name_for(peer.kind, load)), peer.pid()).await;
                if round > 0 {
                    samples.push(workload.what, peer.kind, figure);
                }
            }
        }
        eprint!(".");
    }
    let kinds = peers.iter().map(|peer| (peer.kind, peer.name.clone())).collect();
    Some(Costs { kinds, workloads, samples })
}
