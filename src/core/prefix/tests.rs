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

#[test]
fn a_stretch_differs_in_its_last_bits_alone() {
    let check = |net: &str, address: &str, expected| {
        let addresses = Addresses::of(net.parse().unwrap());
        assert_eq!(addresses.around(address.parse().unwrap()), expected, "{net} {address}");
    };
    check("192.0.2.0/28", "192.0.2.9", Some((0xc000_0201, 14)));
    check("192.0.2.0/31", "192.0.2.1", Some((0xc000_0200, 2)));
    check("0.0.0.0/0", "192.0.2.1", Some((1, (1 << 32) - 2)));
    check("2001:db8::/64", "2001:db8::9", Some((1, (1 << 32) - 1)));
    check("2001:db8::/64", "2001:db8::1:0:9", Some((0, 1 << 32)));
    check("2001:db8::f000:0/112", "2001:db8::f000:9", Some((0xf000_0001, 65_535)));
    check("::/0", "ffff::1", Some((0, 1 << 32)));
    check("192.0.2.0/28", "192.0.2.0", None);
    check("192.0.2.0/28", "2001:db8::9", None);
}
