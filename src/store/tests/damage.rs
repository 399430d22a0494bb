//! State files cut, zeroed, garbled and taken away.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::store::engine::{Op, Space};
use crate::store::folder::Folder;
use crate::store::record::Record;

/// A folder with pins in tables, in a journal, and ended ones; closed.
struct Scene {
    bench: Bench,
    pins: Vec<Pin>,
    ended: Pin,
}

/// The session that was moved: its first record is in a table, its second in
/// the journal.
const MOVED: usize = 7;
/// So many pins are in a table, and as many in the journal.
const HALF: usize = 40;

impl Scene {
    async fn new() -> Self {
        let bench = Bench::new();
        let (store, _) = bench.open();
        let mut pins = Vec::new();
        for n in 0..HALF {
            pins.push(claim(&store, bench.pin(&format!("early{n}"), "one")).await);
        }
        let ended = claim(&store, bench.pin("ended", "one")).await;
        store.close().await;
        // From the journal into a table.
        let folder = Folder::lock(bench.folder.path()).unwrap();
        let opened = folder.open(|_, _| Ok(())).unwrap();
        opened.engine.flush();
        drop((opened, folder));
        let (store, report) = bench.open();
        assert_eq!(report.damage, []);
        store.end(ended.key()).await.unwrap();
        for n in 0..HALF {
            pins.push(claim(&store, bench.pin(&format!("late{n}"), "two")).await);
        }
        let was = pins[MOVED].clone();
        let to = bench.pin(was.session.as_str(), "three");
        let moved = store.repin(was.key(), was.version, Only::Anyhow, to).await.unwrap().unwrap();
        moved.receipt.settled().await.unwrap();
        pins[MOVED] = moved.pin;
        store.close().await;
        // A journal is 64 MiB of mostly nothing; less is as good, and copied
        // sooner.
        let journal = bench.folder.path().join("pins/0.jnl");
        let (bytes, filled) = filled(&journal);
        fs::write(journal, &bytes[..bytes.len().min(filled + 4096)]).unwrap();
        Self { bench, pins, ended }
    }

    /// The same in another folder, with one file spoiled.
    fn spoiled(&self, file: &Path, spoil: fn(&Path)) -> Self {
        let bench = Bench::new();
        for from in self.files() {
            let to = bench.folder.path().join(&from);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(self.bench.folder.path().join(from), to).unwrap();
        }
        spoil(&bench.folder.path().join(file));
        Self { bench, pins: self.pins.clone(), ended: self.ended.clone() }
    }

    /// All files, from the folder on.
    fn files(&self) -> Vec<PathBuf> {
        let (mut files, mut folders) = (Vec::new(), vec![self.bench.folder.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        let strip = |path: PathBuf| path.strip_prefix(self.bench.folder.path()).unwrap().to_owned();
        let mut files: Vec<_> = files.into_iter().map(strip).collect();
        files.sort();
        files
    }

    /// Opens what was damaged: how many pins of the table and of the journal
    /// are back, and what was said.
    async fn survivors(&self) -> ((usize, usize), OpenReport) {
        let (store, report) = self.bench.open();
        let mut back = (0, 0);
        for (n, pin) in self.pins.iter().enumerate() {
            let half = if n < HALF { &mut back.0 } else { &mut back.1 };
            match store.peek(pin.key()) {
                Some(found) if found == *pin => *half += 1,
                // The move was lost; what was before it was not.
                Some(found) if n == MOVED => assert_eq!(&*found.exit.id, "one"),
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
    ("cut to three quarters", |path| {
        let (bytes, filled) = filled(path);
        fs::write(path, &bytes[..filled / 4 * 3]).unwrap();
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
    ("garbled within", |path| {
        let (mut bytes, filled) = filled(path);
        let middle = filled / 4 * 3;
        bytes[middle..(middle + 40).min(filled)].iter_mut().for_each(|b| *b ^= 0x5a);
        fs::write(path, bytes).unwrap();
    }),
    ("one bit turned", |path| {
        let (mut bytes, filled) = filled(path);
        if let Some(byte) = bytes[..filled].get_mut(filled / 3 * 2) {
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

/// Spoils one file in every way; what comes back must be at least `expected`.
async fn check(
    scene: &Scene,
    file: &Path,
    spoils: &[Spoil],
    mut expected: impl FnMut(&str) -> (usize, usize),
) {
    for (what, spoil) in spoils {
        let spoiled = scene.spoiled(file, *spoil);
        let (back, report) = spoiled.survivors().await;
        let (table, journal) = expected(what);
        assert!(back.0 >= table && back.1 >= journal, "{} {what}: {back:?} back, {report:?}", file.display());
        let lost = HALF + HALF - back.0 - back.1;
        assert!(lost == 0 || !report.damage.is_empty(), "{} {what}: {lost} lost in silence", file.display());
    }
}

#[tokio::test]
async fn a_damaged_journal_costs_only_what_was_damaged() {
    let scene = Scene::new().await;
    // The moved session is one of the table's that the journal may cost.
    check(&scene, Path::new("pins/0.jnl"), &SPOILS, |what| match what {
        "gone" | "empty" => (HALF - 1, 0),
        "cut to three quarters" => (HALF - 1, HALF / 2 - 2),
        "tail zeroed" => (HALF - 1, HALF - 1),
        "tail garbled" => (HALF - 1, HALF),
        "cut by 9 bytes" | "garbage behind it" => (HALF, HALF),
        _ => (HALF, HALF - 1),
    })
    .await;
}

#[tokio::test]
async fn a_damaged_table_costs_only_what_was_damaged() {
    let scene = Scene::new().await;
    let files = scene.files();
    let table = files.iter().find(|file| file.starts_with("pins/keyspaces/1/tables")).unwrap();
    check(&scene, table, &SPOILS, |what| match what {
        "gone" | "empty" => (1, HALF),
        "cut to three quarters" => (HALF / 2, HALF),
        _ => (HALF - 2, HALF),
    })
    .await;
}

#[tokio::test]
async fn no_other_file_costs_a_pin() {
    let scene = Scene::new().await;
    let some = ["gone", "empty", "garbled within", "tail zeroed"];
    let some: Vec<_> = SPOILS.into_iter().filter(|(what, _)| some.contains(what)).collect();
    for file in scene.files() {
        if !file.ends_with("0.jnl") && !file.starts_with("pins/keyspaces/1/tables") {
            check(&scene, &file, &some, |_| (HALF, HALF)).await;
        }
    }
}

#[tokio::test]
async fn what_was_ended_stays_so_when_all_is_rescued() {
    let scene = Scene::new().await;
    let spoiled = scene.spoiled(Path::new("pins/version"), |path| fs::remove_file(path).unwrap());
    let (store, report) = spoiled.bench.open();
    assert_eq!(report.pins, HALF + HALF);
    assert_eq!(store.peek(spoiled.ended.key()), None);
    let kept = spoiled.bench.folder.path().join("damaged/pins.1");
    assert!(kept.is_dir(), "set aside, not deleted");
    assert!(report.damage[0].lost.contains("damaged/pins.1"), "{report:?}");
    store.close().await;
}

#[tokio::test]
async fn a_start_that_died_while_it_rescued_is_made_good() {
    let scene = Scene::new().await;
    // The new database is written and the old one set aside, and then...
    let root = scene.bench.folder.path();
    fs::rename(root.join("pins"), root.join("pins.new")).unwrap();
    let ((early, late), report) = scene.survivors().await;
    assert_eq!((early, late, report.damage), (HALF, HALF, vec![]));
    // The new one was only begun.
    let scene = Scene::new().await;
    let root = scene.bench.folder.path();
    fs::create_dir_all(root.join("pins.new/keyspaces")).unwrap();
    fs::write(root.join("pins.new/0.jnl"), "x").unwrap();
    fs::remove_file(root.join("pins/version")).unwrap();
    assert_eq!(scene.survivors().await.0, (HALF, HALF));
    // The first start of all died on the way.
    let bench = Bench::new();
    fs::create_dir_all(bench.folder.path().join("pins.new")).unwrap();
    fs::write(bench.folder.path().join("pins.new/0.jnl"), "x").unwrap();
    let (store, report) = bench.open();
    assert_eq!(report, OpenReport::default());
    store.close().await;
}

#[tokio::test]
async fn a_later_versions_record_is_left_alone() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    let a = claim(&store, bench.pin("a", "one")).await;
    store.close().await;
    let mut later = Record::encode_pin(99, bench.pin("b", "one").key(), &bench.pin("b", "one"));
    later[4] = 2;
    let end = later.len() - 8;
    let checksum = xxhash_rust::xxh3::xxh3_64(&later[..end]);
    later[end..].copy_from_slice(&checksum.to_le_bytes());
    let place = [b"p", &bench.pin("b", "one").key().as_bytes()[..]].concat();
    let op = Op { place: place.clone(), record: Some(later.clone()) };
    let folder = Folder::lock(bench.folder.path()).unwrap();
    let opened = folder.open(|_, _| Ok(())).unwrap();
    opened.engine.commit([op].into_iter(), true).unwrap();
    drop((opened, folder));
    for _ in 0..2 {
        let (store, report) = bench.open();
        assert_eq!(report.pins, 1);
        assert!(report.damage[0].lost.contains("1 records of a later version"), "{report:?}");
        assert_eq!(store.peek(a.key()), Some(a.clone()));
        store.close().await;
    }
    let folder = Folder::lock(bench.folder.path()).unwrap();
    let mut found = false;
    folder
        .open(|engine, _| {
            engine.each(Space::Pins, |at, record| found |= at == &place[..] && record == &later[..])
        })
        .unwrap();
    assert!(found, "a later version finds it again");
}
