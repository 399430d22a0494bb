//! Which exits of a pool leave by which address.
//!
//! Owns: [`Siblings`].
//! Must not know: which of them can be used.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::core::exit::Via;
use crate::core::pool::Pool;

/// Exits by the address that origins see.
#[derive(Default)]
pub(super) struct Siblings {
    fixed: HashMap<IpAddr, Vec<u32>>,
    /// Of which only probes tell it, where there are any.
    pub(super) unknown: Vec<u32>,
    prefixes: HashMap<IpNet, Vec<u32>>,
    /// How long prefixes are, for each length once.
    lengths: BTreeSet<u8>,
}

impl Siblings {
    pub(super) fn of(pool: &Pool) -> Self {
        let mut siblings = Self::default();
        for (place, exit) in (0u32..).zip(&*pool.exits) {
            match (&exit.via, exit.address) {
                (Via::Prefix(net), _) => {
                    siblings.prefixes.entry(net.trunc()).or_default().push(place);
                    siblings.lengths.insert(net.prefix_len());
                }
                (via, Some(address)) if !via.is_template() => {
                    siblings.fixed.entry(address).or_default().push(place);
                }
                (via, None) if !via.is_template() && pool.probe.is_some() => siblings.unknown.push(place),
                _ => {}
            }
        }
        siblings
    }

    /// Exits whose own address it is.
    pub(super) fn fixed_at(&self, address: IpAddr) -> impl Iterator<Item = &u32> {
        self.fixed.get(&address).into_iter().flatten()
    }

    /// Prefixes that it lies in.
    pub(super) fn prefixes_of(&self, address: IpAddr) -> impl Iterator<Item = &u32> {
        let nets = self.lengths.iter().filter_map(move |length| IpNet::new(address, *length).ok());
        nets.filter_map(|net| self.prefixes.get(&net.trunc())).flatten()
    }
}
