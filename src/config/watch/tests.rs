use std::fs;
use std::os::unix::fs::symlink;

use tokio::time::{Instant, timeout};

use super::*;

/// A folder `pools` with `a.json`, a file beside it, and a watch on both.
struct Scene {
    folder: tempfile::TempDir,
    watch: Watch,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("pools")).unwrap();
        fs::write(folder.path().join("pools/a.json"), "one").unwrap();
        fs::write(folder.path().join("list.txt"), "one").unwrap();
        let mut watched = Watched::default();
        watched.note_folder(&folder.path().join("pools")).unwrap();
        watched.note_file(&folder.path().join("list.txt"));
        Self { folder, watch: Watch::new(watched) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn is_seen(&mut self) -> bool {
        timeout(Duration::from_secs(20), self.watch.changed()).await.is_ok()
    }
}

/// What `change` does is seen once, and then no more. The clock is paused: it
/// jumps to the next poll, so that 20 s of no change take no time.
#[track_caller]
fn check(change: impl FnOnce(&Scene)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let mut scene = Scene::new();
        assert!(!scene.is_seen().await, "nothing has changed yet");
        change(&scene);
        let start = Instant::now();
        assert!(scene.is_seen().await);
        assert!(start.elapsed() <= Duration::from_secs(1), "{:?}", start.elapsed());
        assert!(!scene.is_seen().await, "it was seen before");
    });
}

#[test]
fn a_file_written_again_is_seen() {
    check(|scene| fs::write(scene.path("pools/a.json"), "two").unwrap());
    check(|scene| fs::write(scene.path("list.txt"), "two!").unwrap());
}

#[test]
fn a_file_of_the_same_size_and_time_is_seen() {
    check(|scene| {
        let path = scene.path("list.txt");
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "two").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
    });
}

#[test]
fn a_file_renamed_over_another_is_seen() {
    check(|scene| {
        fs::write(scene.path("new"), "one").unwrap();
        fs::rename(scene.path("new"), scene.path("pools/a.json")).unwrap();
    });
}

#[test]
fn files_that_come_and_go_are_seen() {
    check(|scene| fs::write(scene.path("pools/b.json"), "one").unwrap());
    check(|scene| fs::remove_file(scene.path("pools/a.json")).unwrap());
    check(|scene| fs::remove_file(scene.path("list.txt")).unwrap());
    check(|scene| fs::remove_dir_all(scene.path("pools")).unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_pool_file_is_not_seen() {
    let mut scene = Scene::new();
    for name in ["pools/.b.json", "pools/b.json.swp", "pools/pools.schema.json", "c.json"] {
        fs::write(scene.path(name), "one").unwrap();
    }
    fs::create_dir(scene.path("pools/d.json")).unwrap();
    assert!(!scene.is_seen().await);
}

/// As Kubernetes does it: `pools/a.json` leads through `..data` to a folder
/// of that version, and `..data` is renamed over.
#[tokio::test(start_paused = true)]
async fn a_swapped_symlink_is_seen() {
    let mut scene = Scene::new();
    for version in ["v1", "v2"] {
        fs::create_dir(scene.path(version)).unwrap();
        fs::write(scene.path(version).join("a.json"), "same").unwrap();
    }
    symlink("v1", scene.path("..data")).unwrap();
    fs::remove_file(scene.path("pools/a.json")).unwrap();
    symlink("../..data/a.json", scene.path("pools/a.json")).unwrap();
    assert!(scene.is_seen().await);

    symlink("v2", scene.path("..tmp")).unwrap();
    fs::rename(scene.path("..tmp"), scene.path("..data")).unwrap();
    assert!(scene.is_seen().await);
    assert!(!scene.is_seen().await);
}

/// A file that grows at every look is not quiet; it is seen once it is.
#[tokio::test(start_paused = true)]
async fn a_file_that_is_still_written_is_not_seen() {
    let mut scene = Scene::new();
    let path = scene.path("list.txt");
    let grow = |to: usize| fs::write(&path, "x".repeat(to)).unwrap();
    grow(10);
    let start = Instant::now();
    {
        let mut changed = std::pin::pin!(scene.watch.changed());
        for step in 0..100 {
            grow(11 + step);
            assert!(timeout(QUIET / 2, &mut changed).await.is_err(), "step {step}");
        }
        changed.await;
    }
    assert!(start.elapsed() < 50 * QUIET + Duration::from_secs(1));
    assert!(!scene.is_seen().await);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_was_dropped_has_seen_nothing() {
    let mut scene = Scene::new();
    fs::write(scene.path("list.txt"), "changed").unwrap();
    let early = timeout(POLL + QUIET / 2, scene.watch.changed()).await;
    assert!(early.is_err());
    assert!(scene.is_seen().await);
}
