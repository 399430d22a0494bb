use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::core::pool::Rotation;
use crate::core::session::{Filter, SessionId, SessionKey};

/// Exits without machinery: weights, and what stands against each.
#[derive(Clone, Default)]
struct Fake {
    weights: Vec<u32>,
    unusable: HashSet<u32>,
    /// Open, and no use to this request.
    tried: HashSet<u32>,
    /// Usable at a look, gone when taken.
    slippery: HashSet<u32>,
    ramps: HashMap<u32, f64>,
    sessions: RefCell<Vec<u32>>,
    connections: RefCell<Vec<u32>>,
    deck: Deck,
    closed: RefCell<HashSet<u32>>,
    /// How often anything was looked at.
    looks: Cell<usize>,
    position: Cell<u64>,
}

impl Fake {
    fn of(weights: &[u32]) -> (Self, Deck) {
        Self::among(weights, (0..weights.len() as u32).collect())
    }

    /// With a deck of some exits alone.
    fn among(weights: &[u32], places: Vec<u32>) -> (Self, Deck) {
        let none = RefCell::new(vec![0; weights.len()]);
        let weighted = places.into_iter().map(|place| (place, weights[place as usize]));
        let mut deck = Deck::of(weighted.clone());
        let digest = |place: u32| place::digest("pool", &place.to_string());
        deck.skeleton = Some(Skeleton::of(weighted.map(|(place, weight)| (place, weight, digest(place)))));
        let fake = Self {
            weights: weights.to_vec(),
            sessions: none.clone(),
            connections: none,
            deck: deck.clone(),
            ..Self::default()
        };
        (fake, deck)
    }

    fn is_in(&self, exit: u32) -> bool {
        !self.closed.borrow().contains(&exit)
    }

    fn rotate(&self, deck: &Deck, how: Rotation, rng: &mut StdRng) -> Option<u32> {
        rotate(deck, how, self, self, rng)
    }
}

impl Turns for Fake {
    fn next(&self) -> u64 {
        self.position.replace(self.position.get() + 1)
    }

    fn skip_to(&self, position: u64) {
        self.position.set(self.position.get().max(position));
    }
}

impl View for Fake {
    type Taken = u32;

    fn usable(&self, exit: u32) -> bool {
        self.looks.set(self.looks.get() + 1);
        !self.unusable.contains(&exit) && !self.tried.contains(&exit)
    }

    fn pass_over(&self, exit: u32) {
        if self.unusable.contains(&exit) {
            self.closed.borrow_mut().insert(exit);
        }
    }

    fn is_open(&self, group: usize, index: u32) -> bool {
        !self.closed.borrow().contains(&self.deck.groups[group].members[index as usize])
    }

    fn open(&self, group: usize) -> u32 {
        self.deck.groups[group].members.iter().filter(|exit| self.is_in(**exit)).count() as u32
    }

    fn next_open(&self, group: usize, from: u32) -> Option<u32> {
        let members = &self.deck.groups[group].members;
        (from..members.len() as u32).find(|index| self.is_in(members[*index as usize]))
    }

    fn nth_open(&self, group: usize, n: u32) -> Option<u32> {
        let members = &self.deck.groups[group].members;
        (0..members.len() as u32).filter(|index| self.is_in(members[*index as usize])).nth(n as usize)
    }

    fn is_cell_open(&self, cell: u32) -> bool {
        self.closed.borrow().is_empty()
            || (0..self.weights.len() as u32)
                .any(|exit| self.is_in(exit) && self.deck.cells_of(exit).any(|above| above == cell))
    }

    fn weight(&self, exit: u32) -> u32 {
        self.weights[exit as usize]
    }

    fn sessions(&self, exit: u32) -> u32 {
        self.sessions.borrow()[exit as usize]
    }

    fn connections(&self, exit: u32) -> u32 {
        self.connections.borrow()[exit as usize]
    }

    fn ramp(&self, exit: u32) -> f64 {
        self.ramps.get(&exit).copied().unwrap_or(1.0)
    }

    fn take<R: Rng>(&self, exit: u32, _: &mut R) -> Option<u32> {
        if !self.usable(exit) || self.slippery.contains(&exit) {
            return None;
        }
        self.sessions.borrow_mut()[exit as usize] += 1;
        self.connections.borrow_mut()[exit as usize] += 1;
        Some(exit)
    }
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

fn key(n: usize) -> SessionKey {
    SessionKey::new("user", "pool", &Filter::default(), &SessionId::new(&format!("s{n}")).unwrap())
}

fn counted(chosen: impl IntoIterator<Item = u32>) -> BTreeMap<u32, u32> {
    let mut counts = BTreeMap::new();
    chosen.into_iter().for_each(|exit| *counts.entry(exit).or_default() += 1);
    counts
}

fn nth(deck: &Deck, position: u64) -> Option<u32> {
    let (group, index) = deck.nth(position)?;
    deck.member(group, index)
}

/// The order in which exits of these weights are dealt.
#[track_caller]
fn check_round(weights: &[u32], expected: &[u32]) {
    let (_, deck) = Fake::of(weights);
    let round: Vec<_> = (0..deck.round()).filter_map(|n| nth(&deck, n)).collect();
    assert_eq!(round, expected);
}

#[test]
fn a_round_deals_each_as_often_as_it_weighs_evenly_spread() {
    check_round(&[1, 1, 1], &[0, 1, 2]);
    check_round(&[5, 5], &[0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
    check_round(&[1, 3], &[1, 0, 1, 1]);
    check_round(&[2, 4, 1], &[1, 0, 1, 2, 1, 0, 1]);
    check_round(&[6, 1], &[0, 0, 0, 1, 0, 0, 0]);
    check_round(&[7], &[0; 7]);
}

#[test]
fn an_empty_deck_has_no_exit() {
    let (fake, deck) = Fake::of(&[]);
    for how in [Rotation::RoundRobin, Rotation::Random, Rotation::LeastConnections] {
        assert_eq!(fake.rotate(&deck, how, &mut rng()), None);
    }
    for how in [Placement::LeastSessions, Placement::Random, Placement::Rendezvous] {
        assert_eq!(place(&deck, how, key(0), &fake, &mut rng()), None);
    }
}

#[test]
fn every_choice_ends_when_nothing_is_usable_and_finds_the_one_that_is() {
    let mut rng = rng();
    for weights in [vec![1; 500], vec![1000; 300], (1..=400).collect()] {
        let (mut fake, deck) = Fake::of(&weights);
        for only in [None, Some(0), Some(123), Some(weights.len() as u32 - 1)] {
            fake.unusable = (0..weights.len() as u32).filter(|exit| Some(*exit) != only).collect();
            fake.closed.borrow_mut().clear();
            for how in [Rotation::RoundRobin, Rotation::Random, Rotation::LeastConnections] {
                assert_eq!(fake.rotate(&deck, how, &mut rng), only, "{how:?}");
            }
            for how in [Placement::LeastSessions, Placement::Random, Placement::Rendezvous] {
                assert_eq!(place(&deck, how, key(1), &fake, &mut rng), only, "{how:?}");
            }
        }
    }
}

#[test]
fn what_slips_away_is_passed_over() {
    let mut rng = rng();
    let (mut fake, deck) = Fake::of(&[1, 1, 1000]);
    fake.slippery = [1, 2].into();
    for _ in 0..20 {
        for how in [Rotation::RoundRobin, Rotation::Random, Rotation::LeastConnections] {
            assert_eq!(fake.rotate(&deck, how, &mut rng), Some(0), "{how:?}");
        }
        for how in [Placement::LeastSessions, Placement::Random, Placement::Rendezvous] {
            assert_eq!(place(&deck, how, key(1), &fake, &mut rng), Some(0), "{how:?}");
        }
    }
}

proptest! {
    #[test]
    fn a_round_of_a_rotation_uses_each_usable_exit_as_often_as_it_weighs(
        weights in prop::collection::vec(prop_oneof![Just(1u32), 1u32..6, 1u32..60], 1..60),
        out_of_use in prop::collection::hash_set(0u32..60, 0..30),
        start: u32,
    ) {
        let (mut fake, deck) = Fake::of(&weights);
        fake.unusable = out_of_use;
        let usable: BTreeMap<u32, u32> =
            (0..).zip(weights.iter().copied()).filter(|(exit, _)| fake.usable(*exit)).collect();
        fake.position.set(u64::from(start));
        let mut rng = rng();
        for _round in 0..3 {
            let chosen = (0..usable.values().sum()).map_while(|_| {
                fake.rotate(&deck, Rotation::RoundRobin, &mut rng)
            });
            prop_assert_eq!(&counted(chosen), &usable);
        }
    }

    #[test]
    fn draws_only_give_members(weights in prop::collection::vec(1u32..2000, 1..200), seed: u64) {
        let (fake, deck) = Fake::of(&weights);
        let mut rng = StdRng::seed_from_u64(seed);
        for _ in 0..100 {
            prop_assert!((deck.draw(&fake, &mut rng).unwrap() as usize) < weights.len());
        }
        prop_assert_eq!(deck.len(), weights.len());
    }
}

/// Counts of `n` choices are near the weights' shares, to within a tenth.
#[track_caller]
fn check_shares(weights: &[u32], n: u32, counts: &BTreeMap<u32, u32>) {
    let sum: u32 = weights.iter().sum();
    for (exit, weight) in (0..).zip(weights) {
        let (share, got) = (f64::from(n * weight) / f64::from(sum), f64::from(counts[&exit]));
        assert!((got - share).abs() < share / 10.0, "exit {exit} of {weights:?}: {got}, not {share}");
    }
}

#[test]
fn weights_count_in_every_choice() {
    let weights = [1, 2, 2, 5];
    for how in [Rotation::RoundRobin, Rotation::Random, Rotation::LeastConnections] {
        let ((fake, deck), mut rng) = (Fake::of(&weights), rng());
        let chosen = (0..20_000).filter_map(|_| fake.rotate(&deck, how, &mut rng));
        check_shares(&weights, 20_000, &counted(chosen));
    }
    for how in [Placement::LeastSessions, Placement::Random, Placement::Rendezvous] {
        let ((fake, deck), mut rng) = (Fake::of(&weights), rng());
        let chosen = (0..20_000).filter_map(|n| place(&deck, how, key(n), &fake, &mut rng));
        check_shares(&weights, 20_000, &counted(chosen));
    }
}

#[test]
fn what_is_left_of_a_deck_is_drawn_by_weight() {
    let ((mut fake, deck), mut rng) = (Fake::of(&[100_000, 1, 3]), rng());
    fake.unusable = [0].into();
    let chosen = (0..4000).filter_map(|_| deck.draw_usable(&fake, &mut rng));
    let counts = counted(chosen);
    assert!((2800..3200).contains(&counts[&2]) && counts[&1] + counts[&2] == 4000, "{counts:?}");
}

#[test]
fn least_connections_takes_an_idle_exit_first() {
    let ((fake, deck), mut rng) = (Fake::of(&[1; 20]), rng());
    let first: HashSet<_> =
        (0..20).filter_map(|_| fake.rotate(&deck, Rotation::LeastConnections, &mut rng)).collect();
    assert_eq!(first.len(), 20);
    fake.connections.borrow_mut()[13] = 0;
    assert_eq!(fake.rotate(&deck, Rotation::LeastConnections, &mut rng), Some(13));
}

#[test]
fn least_connections_keeps_a_large_deck_level() {
    let ((fake, deck), mut rng) = (Fake::of(&[1; 500]), rng());
    for _ in 0..50_000 {
        fake.rotate(&deck, Rotation::LeastConnections, &mut rng);
    }
    let most = fake.connections.borrow().iter().copied().max().unwrap();
    assert!(most <= 105, "{most}");
}

#[test]
fn least_sessions_keeps_ten_exits_level() {
    let ((fake, deck), mut rng) = (Fake::of(&[1; 10]), rng());
    for n in 0..10_000 {
        place(&deck, Placement::LeastSessions, key(n), &fake, &mut rng);
    }
    let sessions = fake.sessions.borrow();
    let (most, least) = (sessions.iter().max().unwrap(), sessions.iter().min().unwrap());
    assert!(f64::from(*most) / f64::from(*least) <= 1.1, "{sessions:?}");
}

#[test]
fn a_new_exit_among_full_ones_is_no_hotspot() {
    for ramp in [1.0, 0.5, 0.001] {
        let ((mut fake, deck), mut rng) = (Fake::of(&[1; 10]), rng());
        fake.sessions = RefCell::new(vec![1000; 10]);
        fake.sessions.borrow_mut()[9] = 0;
        fake.ramps.insert(9, ramp);
        for n in 0..1000 {
            place(&deck, Placement::LeastSessions, key(n), &fake, &mut rng);
        }
        let got = fake.sessions.borrow()[9];
        assert!(f64::from(got) <= 250.0 * ramp.max(0.1), "{got} of 1000 at {ramp}");
    }
}

#[test]
fn exits_that_all_still_grow_are_used_all_the_same() {
    let ((mut fake, deck), mut rng) = (Fake::of(&[1; 4]), rng());
    fake.ramps = (0..4).map(|exit| (exit, 0.000_001)).collect();
    let chosen = (0..400).filter_map(|n| place(&deck, Placement::LeastSessions, key(n), &fake, &mut rng));
    assert_eq!(counted(chosen).values().sum::<u32>(), 400);
}

fn rendezvous(fake: &Fake, deck: &Deck) -> Vec<u32> {
    let choose = |n| place(deck, Placement::Rendezvous, key(n), fake, &mut rng());
    (0..10_000).filter_map(choose).collect()
}

#[test]
fn an_exit_that_closes_moves_only_its_own_and_spreads_them() {
    for weights in [[1; 10], [3, 1, 1, 2, 9, 1, 4, 4, 1, 1]] {
        let (mut fake, deck) = Fake::of(&weights);
        let all = rendezvous(&fake, &deck);
        fake.unusable = [4].into();
        let without = rendezvous(&fake, &deck);
        assert!(all.iter().zip(&without).all(|(a, b)| if *a == 4 { *b != 4 } else { a == b }));
        let left: u32 = (0..10).filter(|exit| *exit != 4).map(|exit| weights[exit]).sum();
        let shares: Vec<_> = (0..10).map(|exit| if exit == 4 { 0 } else { weights[exit] }).collect();
        let counts = counted(without);
        for (exit, weight) in (0..).zip(shares).filter(|(exit, _)| *exit != 4) {
            let (share, got) = (f64::from(10_000 * weight) / f64::from(left), f64::from(counts[&exit]));
            assert!((got - share).abs() < share * 0.15, "exit {exit} of {weights:?}: {got}, not {share}");
        }
    }
}

#[test]
fn whatever_is_closed_nodes_go_by_one_order() {
    let (mut fake, deck) = Fake::of(&[1, 2, 3, 4, 5, 1, 1, 1]);
    // What one node has tried in vain the other knows to be closed.
    fake.unusable = [0, 2, 3, 4, 6].into();
    let first = rendezvous(&fake, &deck);
    assert_eq!(fake.closed.borrow().len(), 5);
    assert_eq!(rendezvous(&fake, &deck), first);
}

/// How many of 10,000 keys go elsewhere when the exits of `gone` are left out
/// of a deck, for each that had to.
fn moved(weights: &[u32], gone: &[u32]) -> f64 {
    let (fake, deck) = Fake::of(weights);
    let all = rendezvous(&fake, &deck);
    let rest = (0..weights.len() as u32).filter(|exit| !gone.contains(exit)).collect();
    let (fewer, smaller) = Fake::among(weights, rest);
    let after = rendezvous(&fewer, &smaller);
    let had_to = all.iter().filter(|exit| gone.contains(exit)).count();
    all.iter().zip(&after).filter(|(a, b)| a != b).count() as f64 / had_to as f64
}

#[test]
fn a_changed_pool_moves_few() {
    assert!(moved(&[1; 10], &[4]) < 1.5);
    assert!(moved(&[3, 1, 1, 2, 9, 1, 4, 4, 1, 1], &[4]) < 1.5);
    assert!(moved(&[1; 300], &[1, 17, 33, 90, 200, 299]) < 3.0);
    assert!(moved(&[1; 3000], &(0..300).map(|n| n * 10).collect::<Vec<_>>()) < 2.5);
}

#[test]
fn nodes_of_every_version_agree() {
    let (fake, deck) = Fake::of(&[1, 2, 3, 4, 5]);
    let first: Vec<_> = rendezvous(&fake, &deck).into_iter().take(16).collect();
    assert_eq!(first, [4, 3, 2, 3, 4, 1, 1, 3, 4, 3, 3, 4, 3, 1, 2, 3]);
}

#[test]
fn what_is_closed_is_not_looked_at_again() {
    let mut rng = rng();
    for weights in [vec![1; 2000], vec![7; 2000], (1..=2000).map(|n| n % 9 + 1).collect()] {
        let (mut fake, deck) = Fake::of(&weights);
        fake.unusable = (0..2000).filter(|exit| exit % 100 != 7).collect();
        fake.tried = [7, 107].into();
        let every = [
            (Some(Rotation::RoundRobin), Placement::Random),
            (Some(Rotation::Random), Placement::Random),
            (Some(Rotation::LeastConnections), Placement::Random),
            (None, Placement::Random),
            (None, Placement::LeastSessions),
            (None, Placement::Rendezvous),
        ];
        let mut choose = |fake: &Fake, n: usize, (rotation, placement): (Option<Rotation>, Placement)| {
            let chosen = match rotation {
                Some(how) => fake.rotate(&deck, how, &mut rng),
                None => place(&deck, placement, key(n), fake, &mut rng),
            };
            assert!(chosen.is_some_and(|exit| exit % 100 == 7 && !fake.tried.contains(&exit)));
        };
        // Known closed, as after a while.
        fake.closed.borrow_mut().extend(fake.unusable.iter().copied());
        for how in every {
            fake.looks.set(0);
            (0..100).for_each(|n| choose(&fake, n, how));
            let looks = fake.looks.get();
            assert!(looks < 100 * 60, "{looks} looks for 100 choices: {how:?}");
        }
    }
}

proptest! {
    #[test]
    fn the_next_open_position_is_the_first_of_all(
        weights in prop::collection::vec(prop_oneof![Just(1u32), 1u32..6, 1u32..40], 1..40),
        closed in prop::collection::hash_set(0u32..40, 0..40),
        position in 0u64..3000,
    ) {
        let (fake, deck) = Fake::of(&weights);
        fake.closed.borrow_mut().extend(closed);
        let by_one = (position..position + 2 * deck.round()).find(|at| fake.is_in(nth(&deck, *at).unwrap()));
        prop_assert_eq!(deck.next_open(position, &fake), by_one);
    }

    #[test]
    fn pins_are_level_in_pools_of_any_size(exits in 2usize..120, seed: u64) {
        let ((fake, deck), mut rng) = (Fake::of(&vec![1; exits]), StdRng::seed_from_u64(seed));
        for n in 0..exits * 50 {
            place(&deck, Placement::LeastSessions, key(n), &fake, &mut rng);
        }
        // Two looks leave the fullest a few above the mean, whatever the size.
        let most = fake.sessions.borrow().iter().copied().max().unwrap();
        prop_assert!(most <= 56, "{most}");
    }
}
