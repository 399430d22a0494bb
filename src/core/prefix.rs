//! An address out of a source prefix.
//!
//! Owns: which addresses of a prefix are fit for use ([`Addresses`]), and
//! which of them are given out ([`InUse`]): to each session one that no other
//! live pin has, to each unpinned request another one than before.
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
    /// The last one that an unpinned request got.
    last: Option<u128>,
}

impl InUse {
    /// The exit's prefix is this one from now on; what is held stays held.
    pub fn reshape(&mut self, addresses: Option<Addresses>) {
        if self.addresses != addresses {
            self.addresses = addresses;
            self.last = None;
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

    /// An address for an unpinned request: another one than the last, where
    /// there is another. `None`: the exit has no prefix.
    pub fn next(&mut self, rng: &mut impl Rng) -> Option<IpAddr> {
        let addresses = self.addresses?;
        let place = match self.last {
            Some(last) if addresses.count() > 1 => {
                let other = rng.random_range(0..addresses.count() - 1);
                other + u128::from(other >= last)
            }
            _ => rng.random_range(0..addresses.count()),
        };
        self.last = Some(place);
        Some(addresses.nth(place))
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
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[track_caller]
    fn check(net: &str, count: u128, first: &str, last: &str) {
        let addresses = Addresses::of(net.parse().unwrap());
        assert_eq!(addresses.count(), count, "{net}");
        assert_eq!(addresses.nth(0).to_string(), first, "{net}");
        assert_eq!(addresses.nth(count - 1).to_string(), last, "{net}");
        assert!(addresses.contains(addresses.nth(0)) && addresses.contains(addresses.nth(count - 1)));
    }

    #[test]
    fn network_broadcast_and_anycast_addresses_are_left_out() {
        check("192.0.2.0/24", 254, "192.0.2.1", "192.0.2.254");
        check("192.0.2.77/24", 254, "192.0.2.1", "192.0.2.254");
        check("192.0.2.0/30", 2, "192.0.2.1", "192.0.2.2");
        check("192.0.2.0/31", 2, "192.0.2.0", "192.0.2.1");
        check("192.0.2.9/32", 1, "192.0.2.9", "192.0.2.9");
        check("0.0.0.0/0", (1 << 32) - 2, "0.0.0.1", "255.255.255.254");
        check("2001:db8::/64", u128::from(u64::MAX), "2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff");
        check("2001:db8::/126", 3, "2001:db8::1", "2001:db8::3");
        check("2001:db8::/127", 2, "2001:db8::", "2001:db8::1");
        check("2001:db8::5/128", 1, "2001:db8::5", "2001:db8::5");
        check("::/0", u128::MAX, "::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    }

    #[test]
    fn what_is_outside_is_not_contained() {
        let addresses = Addresses::of("192.0.2.0/24".parse().unwrap());
        for outside in ["192.0.2.0", "192.0.2.255", "192.0.3.1", "192.0.1.1", "::192.0.2.1"] {
            assert!(!addresses.contains(outside.parse().unwrap()), "{outside}");
        }
    }

    fn in_use(net: &str) -> InUse {
        let mut in_use = InUse::default();
        in_use.reshape(Some(Addresses::of(net.parse().unwrap())));
        in_use
    }

    #[test]
    fn each_claim_gets_its_own_while_there_is_a_free_one() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut in_use = in_use("192.0.2.0/24");
        let mut held: HashSet<_> = (0..254).map(|_| in_use.claim(&mut rng).unwrap()).collect();
        assert_eq!(held.len(), 254);

        let freed = *held.iter().next().unwrap();
        held.remove(&freed);
        in_use.release(freed);
        assert_eq!(in_use.claim(&mut rng), Some(freed));

        let second: HashSet<_> = (0..254).map(|_| in_use.claim(&mut rng).unwrap()).collect();
        assert_eq!(second.len(), 254, "the least used one, once all are taken");
    }

    #[test]
    fn exactly_this_one_or_not_at_all() {
        let mut in_use = in_use("192.0.2.0/24");
        let address = "192.0.2.7".parse().unwrap();
        assert!(in_use.claim_exactly(address));
        assert!(!in_use.claim_exactly(address));
        assert!(!in_use.claim_exactly("192.0.3.7".parse().unwrap()));
        in_use.release(address);
        assert!(in_use.claim_exactly(address));
    }

    #[test]
    fn unpinned_requests_never_get_the_one_before() {
        let mut rng = StdRng::seed_from_u64(2);
        for net in ["192.0.2.0/30", "192.0.2.0/29", "2001:db8::/64"] {
            let mut in_use = in_use(net);
            let drawn: Vec<_> = (0..500).map(|_| in_use.next(&mut rng).unwrap()).collect();
            assert!(drawn.windows(2).all(|pair| pair[0] != pair[1]), "{net}");
        }
        let mut single = in_use("192.0.2.1/32");
        assert_eq!(single.next(&mut rng), single.next(&mut rng));
        assert_eq!(InUse::default().next(&mut rng), None);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Claim,
        Hold(u8),
        Release(usize),
        Reshape(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Claim),
            1 => (0u8..40).prop_map(Step::Hold),
            3 => any::<usize>().prop_map(Step::Release),
            1 => (27u8..=32).prop_map(Step::Reshape),
        ]
    }

    proptest! {
        #[test]
        fn a_claim_always_gets_a_least_used_one(
            seed: u64,
            steps in prop::collection::vec(step(), 1..150),
        ) {
            let mut rng = StdRng::seed_from_u64(seed);
            let net = |len: u8| Addresses::of(format!("192.0.2.0/{len}").parse().unwrap());
            let (mut in_use, mut ours) = (InUse::default(), net(29));
            in_use.reshape(Some(ours));
            let mut held: Vec<IpAddr> = Vec::new();
            for step in steps {
                let uses = |address: IpAddr| held.iter().filter(|h| **h == address).count();
                match step {
                    Step::Claim => {
                        let fewest = (0..ours.count()).map(|place| uses(ours.nth(place))).min().unwrap();
                        let got = in_use.claim(&mut rng).unwrap();
                        prop_assert!(ours.contains(got));
                        prop_assert_eq!(uses(got), fewest);
                        held.push(got);
                    }
                    Step::Hold(last) => {
                        held.push(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)));
                        in_use.hold(held[held.len() - 1]);
                    }
                    Step::Release(_) if held.is_empty() => {}
                    Step::Release(which) => in_use.release(held.swap_remove(which % held.len())),
                    Step::Reshape(len) => {
                        ours = net(len);
                        in_use.reshape(Some(ours));
                    }
                }
            }
        }
    }
}
