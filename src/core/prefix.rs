//! An address out of a source prefix.
//!
//! Owns: which addresses of a prefix are fit for use ([`Addresses`]), and
//! which of them are given out ([`InUse`]): to each session one that no other
//! live pin has.
//! Must not know: pins, locks, sockets.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rand::{Rng, RngExt};

/// Blind draws before free addresses are looked for one by one.
const DRAWS: usize = 8;

/// The usable addresses of a prefix: all but network and broadcast (IPv4; of
/// a /31 and /32 all, RFC 3021) or the subnet-router anycast address (IPv6,
/// RFC 4291 §2.6.1; of a /127 and /128 all, RFC 6164).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    first: u128,
    count: u128,
    v4: bool,
}

impl Addresses {
    /// Those of a prefix. There is always at least one.
    pub fn of(net: IpNet) -> Self {
        match net {
            IpNet::V4(net) => {
                let (first, size) = (u128::from(u32::from(net.network())), 1u128 << (32 - net.prefix_len()));
                let skip = u128::from(net.prefix_len() < 31);
                Self { first: first + skip, count: size - 2 * skip, v4: true }
            }
            IpNet::V6(net) => {
                // The size less one, for the size of ::/0 does not fit.
                let last = u128::MAX.checked_shr(u32::from(net.prefix_len())).unwrap_or(0);
                let skip = u128::from(net.prefix_len() < 127);
                Self { first: u128::from(net.network()) + skip, count: last - skip + 1, v4: false }
            }
        }
    }

    /// How many there are.
    pub fn count(&self) -> u128 {
        self.count
    }

    /// The address at a place below [`Addresses::count`].
    pub fn nth(&self, place: u128) -> IpAddr {
        let address = self.first.wrapping_add(place);
        if self.v4 {
            IpAddr::V4(Ipv4Addr::from(u32::try_from(address).unwrap_or(u32::MAX)))
        } else {
            IpAddr::V6(Ipv6Addr::from(address))
        }
    }

    /// Those that differ from this one in their last 32 bits alone: these bits
    /// of the first, and how many there are. `None`: it is none of them.
    pub fn around(&self, address: IpAddr) -> Option<(u32, u64)> {
        if !self.contains(address) {
            return None;
        }
        let low = u128::from(u32::MAX);
        let base = match address {
            IpAddr::V4(_) => 0,
            IpAddr::V6(ip) => u128::from(ip) & !low,
        };
        let (first, last) = (self.first.max(base), (self.first + (self.count - 1)).min(base | low));
        Some(((first & low) as u32, (last - first) as u64 + 1))
    }

    /// The place of any of them, each as likely.
    pub fn draw(&self, rng: &mut impl Rng) -> u128 {
        rng.random_range(0..self.count)
    }

    /// Whether it is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let number = match address {
            IpAddr::V4(ip) if self.v4 => u128::from(u32::from(ip)),
            IpAddr::V6(ip) if !self.v4 => u128::from(ip),
            _ => return false,
        };
        number.checked_sub(self.first).is_some_and(|place| place < self.count)
    }
}

/// The addresses of one exit that pins hold, whatever its prefix is by now.
#[derive(Clone, Debug, Default)]
pub struct InUse {
    addresses: Option<Addresses>,
    uses: HashMap<IpAddr, u32>,
    /// The fewest uses of any address of the prefix.
    floor: u32,
    /// How many addresses of the prefix have more uses than that.
    above: u128,
}

impl InUse {
    /// The exit's prefix is this one from now on; what is held stays held.
    pub fn reshape(&mut self, addresses: Option<Addresses>) {
        if self.addresses != addresses {
            self.addresses = addresses;
            self.floor = 0;
            self.above = self.count_above(0);
        }
    }

    /// Holds an address that nobody holds while there is one, else one of
    /// those with the fewest holders. `None`: the exit has no prefix.
    pub fn claim(&mut self, rng: &mut impl Rng) -> Option<IpAddr> {
        let addresses = self.addresses?;
        while self.above >= addresses.count() {
            self.floor += 1;
            self.above = self.count_above(self.floor);
        }
        let address = self.least_used(&addresses, rng);
        self.hold(address);
        Some(address)
    }

    /// Whether more than one hold it.
    pub fn is_shared(&self, address: IpAddr) -> bool {
        self.uses.get(&address).is_some_and(|uses| *uses > 1)
    }

    /// Holds exactly this address, if it is the prefix's and nobody holds it.
    pub fn claim_exactly(&mut self, address: IpAddr) -> bool {
        let free = self.is_ours(address) && !self.uses.contains_key(&address);
        if free {
            self.hold(address);
        }
        free
    }

    /// One more holder: a pin that was there before us.
    pub fn hold(&mut self, address: IpAddr) {
        let uses = self.uses.entry(address).or_default();
        *uses += 1;
        if *uses == self.floor + 1 && self.is_ours(address) {
            self.above += 1;
        }
    }

    /// One holder less.
    pub fn release(&mut self, address: IpAddr) {
        let Some(uses) = self.uses.get_mut(&address) else { return };
        *uses -= 1;
        let left = *uses;
        if left == 0 {
            self.uses.remove(&address);
        }
        if let Some(addresses) = self.addresses.filter(|ours| ours.contains(address)) {
            if left < self.floor {
                // It is the only one with so few.
                self.floor = left;
                self.above = addresses.count() - 1;
            } else if left == self.floor {
                self.above -= 1;
            }
        }
    }

    /// One with [`InUse::floor`] uses; there is one. In a large prefix a draw
    /// finds it; in one that is nearly full, looking does, in at most one
    /// step more than addresses are in use.
    fn least_used(&self, addresses: &Addresses, rng: &mut impl Rng) -> IpAddr {
        let least = |place: u128| {
            let address = addresses.nth(place);
            (self.uses.get(&address).copied().unwrap_or(0) <= self.floor).then_some(address)
        };
        let mut draw = || rng.random_range(0..addresses.count());
        if let Some(address) = (0..DRAWS).find_map(|_| least(draw())) {
            return address;
        }
        let start = draw();
        let places = (start..addresses.count()).chain(0..start);
        places.into_iter().find_map(least).unwrap_or_else(|| addresses.nth(start))
    }

    fn is_ours(&self, address: IpAddr) -> bool {
        self.addresses.is_some_and(|ours| ours.contains(address))
    }

    fn count_above(&self, floor: u32) -> u128 {
        let above = self.uses.iter().filter(|(address, uses)| **uses > floor && self.is_ours(**address));
        above.count() as u128
    }
}

#[cfg(test)]
mod tests;
