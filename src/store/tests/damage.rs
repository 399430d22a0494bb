//! State files cut, zeroed, garbled and taken away.

use std::fs;
use std::path::Path;

use super::*;
use crate::store::engine::Folder;

/// A folder with pins in tables, in a journal, and ended ones; closed.
struct Scene {
    bench: Bench,
    pins: Vec<Pin>,
    ended: Pin,
}

impl Scene {
    async fn new() -> Self {
        let bench = Bench::new();
        let (store, _) = bench.open();
        let mut pins = Vec::new();
        for n in 0..40 {
            pins.push(claim(&store, bench.pin(&format!("early{n}"), "one")).await);
        }
        let ended = claim(&store, bench.pin("ended", "one")).await;
        store.close().await;
        // From the journal into tables.
        let folder = Folder::lock(bench.folder.path()).unwrap();
        let opened = folder.open(|_, _| Ok(())).unwrap();
        opened.engine.flush();
        drop((opened, folder));
        let (store, report) = bench.open();
        assert_eq!(report.damage, []);
        store.end(ended.key()).await.unwrap();
        for n in 0..40 {
            pins.push(claim(&store, bench.pin(&format!("late{n}"), "two")).await);
        }
        // One that is in both, moved.
        let moved = bench.pin(pins[7].session.as_str(), "three");
        let claim = store.repin(pins[7].key(), pins[7].version, moved).await.unwrap();
        claim.receipt.settled().await.unwrap();
        pins[7] = claim.pin;
        store.close().await;
        Self { bench, pins, ended }
    }

    fn files(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { walk(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        walk(self.bench.folder.path(), &mut found);
        found.sort();
        found
    }

    /// Opens what was damaged: how many pins are back, and what was said.
    async fn survivors(&self) -> (usize, OpenReport) {
        let (store, report) = self.bench.open();
        let mut back = 0;
        for (n, pin) in self.pins.iter().enumerate() {
            match store.peek(pin.key()) {
                Some(found) if found == *pin => back += 1,
                // The move was lost, what was before it was not.
                Some(found) if n == 7 => assert_eq!(found.exit.id, "one".into()),
                Some(found) => panic!("{found:?} instead of {pin:?}"),
                None => {}
            }
        }
        // It goes on as if nothing had been.
        let new = claim(&store, self.bench.pin("new", "one")).await;
        let held = store.len();
        store.close().await;
        let (store, again) = self.bench.open();
        assert_eq!(again.damage, [], "damage is told once; first it was {:?}", report.damage);
        assert_eq!(store.len(), held);
        assert_eq!(store.peek(new.key()), Some(new));
        store.close().await;
        (back, report)
    }
}

fn filled(path: &Path) -> (Vec<u8>, usize) {
    let bytes = fs::read(path).unwrap();
    let filled = bytes.iter().rposition(|&b| b != 0).map_or(0, |at| at + 1);
    (bytes, filled)
}

type Spoil = (&'static str, fn(&Path));

const SPOILS: [Spoil; 9] = [
    ("gone", |path| fs::remove_file(path).unwrap()),
    ("empty", |path| fs::write(path, b"").unwrap()),
    ("cut by 9 bytes", |path| {
        let (bytes, filled) = filled(path);
        fs::write(path, &bytes[..filled.saturating_sub(9)]).unwrap();
    }),
    ("cut in half", |path| {
        let (bytes, filled) = filled(path);
        fs::write(path, &bytes[..filled / 2]).unwrap();
    }),
    ("tail zeroed", |path| {
        let (mut bytes, filled) = filled(path);
        bytes[filled.saturating_sub(300)..filled].fill(0);
        fs::write(path, bytes).unwrap();
    }),
    ("tail garbled", |path| {
        let (mut bytes, filled) = filled(path);
        bytes[filled.saturating_sub(50)..filled].iter_mut().for_each(|b| *b ^= 0x5a);
        fs::write(path, bytes).unwrap();
    }),
    ("garbled in the middle", |path| {
        let (mut bytes, filled) = filled(path);
        let middle = filled / 2;
        bytes[middle..(middle + 40).min(filled)].iter_mut().for_each(|b| *b ^= 0x5a);
        fs::write(path, bytes).unwrap();
    }),
    ("one bit turned", |path| {
        let (mut bytes, filled) = filled(path);
        if let Some(byte) = bytes[..filled].get_mut(filled / 3) {
            *byte ^= 4;
        }
        fs::write(path, bytes).unwrap();
    }),
    ("garbage behind it", |path| {
        let (mut bytes, filled) = filled(path);
        bytes.truncate(filled);
        bytes.extend((0..700_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8));
        fs::write(path, bytes).unwrap();
    }),
];

#[tokio::test]
async fn whatever_is_damaged_the_start_goes_on() {
    let count = Scene::new().await.files().len();
    for (what, spoil) in SPOILS {
        for n in 0..count {
            let scene = Scene::new().await;
            let file = &scene.files()[n];
            let name = file.strip_prefix(scene.bench.folder.path()).unwrap().display().to_string();
            spoil(file);
            println!("{name} {what}");
            let (back, report) = scene.survivors().await;
            println!("{name} {what}: {back} of {} back, {:?}", scene.pins.len(), report.damage);
        }
    }
}
