//! A run on a real disk while somebody who may write into the root swaps what it works with for symlinks to
//! elsewhere, thousands of times a second: nothing is ever read, written, made or removed there.
#![allow(clippy::unwrap_used, missing_docs, dead_code)]

#[path = "support/local.rs"]
mod local;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use tempfile::TempDir;
use xds_sync::disk::HeldRoot;
use xds_sync::model::{Action, Digest, Entry, File, Meta, Owner, RelPath, RelPathBuf, Step, TrashKeep, Tree};
use xds_sync::node::{Endpoint as _, Local};
use xds_sync::transfer::{BlobRequest, Sink, Source};

const RUN: &str = "01KQ0000000000000000000000";
/// Who owns the root and the directory that it is in, and makes the links to them.
const NOBODY: u32 = 65534;
const SECRET: &[u8] = b"root:$6$secret";

/// Whole runs, each with some hundred swaps in it; 200 are the long form.
fn rounds() -> usize {
    std::env::var("XDS_FLIPS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(25)
}

struct World {
    dir: TempDir,
    local: Local,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let world = World { local: Local::new(local::options(dir.path())), dir };
        fs::create_dir_all(world.at("d/sub")).unwrap();
        for outside in ["", "sub"] {
            fs::create_dir_all(world.outside().join(outside)).unwrap();
            fs::write(world.outside().join(outside).join("passwd"), SECRET).unwrap();
        }
        fs::set_permissions(world.outside(), fs::Permissions::from_mode(0o750)).unwrap();
        // Whoever makes what is there new, in a directory of somebody else's, gives it to him.
        for of_somebody in ["", "above", "above/root", "above/root/d", "above/root/d/sub"] {
            chown(world.dir.path().join(of_somebody), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        fs::set_permissions(world.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        world
    }

    fn at(&self, path: &str) -> PathBuf {
        let root = self.dir.path().join("above/root");
        if path.is_empty() { root } else { root.join(path) }
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("elsewhere/root")
    }

    fn scan(&mut self) -> Arc<Tree> {
        let spec = local::spec("moh", &self.at(""));
        self.local.scan(&spec).unwrap();
        self.local.tree("moh", None).unwrap()
    }

    /// A whole run: sends all it sees, then replaces, makes, moves and deletes. What fails, fails.
    fn run(&mut self, round: usize) {
        self.fill(&format!("inside {round}"));
        self.local.begin(RUN, false).unwrap();
        let tree = self.scan();
        let file = |path: &RelPath| tree.get(path).and_then(Entry::as_file);
        let wanted = tree.iter().filter_map(|(path, entry)| {
            let File { size, digest, .. } = *entry.as_file()?;
            Some(BlobRequest { path: path.to_owned(), digest, size, offset: 0 })
        });
        let mut reader = Reader::default();
        let _ = self.local.send("moh", &wanted.collect::<Vec<_>>(), &mut reader);
        assert!(!contains(&reader.0, b"secret"), "what is outside was read");
        assert!(
            tree.iter().all(|(_, entry)| entry.as_file().is_none_or(|file| file.digest != digest(SECRET)))
        );

        let _ = self.local.prepare("moh", &TrashKeep::FOREVER, None);
        let content = format!("new {round}").into_bytes();
        let new = BlobRequest {
            path: path("new"),
            digest: digest(&content),
            size: content.len() as u64,
            offset: 0,
        };
        let _ = self.local.stage("moh", std::slice::from_ref(&new), &mut Content(content));
        let put = |at: &str| {
            let meta = Meta { mode: 0o644, owner: Owner::default() };
            let put = File { size: new.size, mtime: 1, digest: new.digest, meta };
            let at = path(at);
            Action { expected: tree.get(&at).cloned(), path: at, step: Step::Put(Entry::File(put)) }
        };
        let dir = |at: &str, mode| {
            let meta = Meta { mode, owner: Owner::default() };
            let at = path(at);
            Action { expected: tree.get(&at).cloned(), path: at, step: Step::Put(Entry::Dir(meta)) }
        };
        let mut actions = vec![
            put("d/passwd"),
            put(&format!("d/new{round}")),
            dir("d", 0o700),
            dir(&format!("d/made{round}"), 0o755),
            put("d/sub/passwd"),
        ];
        if let Some(moved) = file(&path("d/moved")) {
            let entry = Entry::File(moved.clone());
            let step = Step::Move { from: path("d/moved"), from_expected: Box::new(entry.clone()), entry };
            actions.push(Action { path: path(&format!("d/sub/to{round}")), expected: None, step });
        }
        for path in ["d/passwd", "d/sub/passwd", "d/sub"].map(path) {
            if let Some(expected) = tree.get(&path).cloned() {
                actions.push(Action { path, expected: Some(expected), step: Step::Delete });
            }
        }
        let _ = self.local.commit("moh", &actions);
        let _ = self.local.agree("moh", &format!("01GEN{round}"));
    }

    /// As somebody does who only works there, and follows no link either.
    fn fill(&self, content: &str) {
        // Refused, where a link leads to it just now.
        let Ok(root) = HeldRoot::open(&self.at("")) else { return };
        if let Ok(parent) = root.open_parent(&path("d/sub")) {
            let _ = rustix::fs::mkdirat(parent, "sub", Mode::from(0o755));
        }
        for name in ["d/passwd", "d/sub/passwd", "d/moved"] {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
            if let Ok(file) = root.open_at(&path(name), flags, Mode::from(0o644)) {
                fs::File::from(file).write_all(content.as_bytes()).unwrap();
            }
        }
    }

    fn check(&self) {
        let mut found: Vec<_> = below(&self.outside()).into_iter().collect();
        found.sort();
        assert_eq!(found, [self.outside().join("passwd"), self.outside().join("sub/passwd")]);
        for file in found {
            assert_eq!(fs::read(&file).unwrap(), SECRET, "{}", file.display());
        }
        let of = |path: PathBuf| fs::metadata(path).unwrap();
        assert_eq!(of(self.outside()).permissions().mode() & 0o7777, 0o750);
        for path in ["", "passwd", "sub", "sub/passwd"] {
            let of = of(self.outside().join(path));
            assert_eq!((of.uid(), of.gid()), (0, 0), "{path}");
        }
    }
}

fn below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|found| found == part)
}

fn digest(content: &[u8]) -> Digest {
    Digest(blake3::hash(content).into())
}

fn path(text: &str) -> RelPathBuf {
    RelPathBuf::new(text.as_bytes()).unwrap()
}

/// Keeps all it is given.
#[derive(Default)]
struct Reader(Vec<u8>);

impl Sink for Reader {
    fn begin(&mut self, _: usize) -> anyhow::Result<()> {
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn hole(&mut self, _: u64) -> anyhow::Result<()> {
        Ok(())
    }

    fn end(&mut self, _: Result<(), String>) -> anyhow::Result<()> {
        Ok(())
    }
}

struct Content(Vec<u8>);

impl Source for Content {
    fn send(&mut self, wanted: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        for index in 0..wanted.len() {
            sink.begin(index)?;
            for byte in &self.0 {
                sink.data(std::slice::from_ref(byte))?;
            }
            sink.end(Ok(()))?;
        }
        Ok(())
    }
}

/// Runs again and again while what is at `target` and a symlink to `leads` change places.
fn race(target: &str, leads: impl FnOnce(&World) -> PathBuf) {
    race_at(|world| world.at(target), leads);
}

fn race_at(at: impl FnOnce(&World) -> PathBuf, leads: impl FnOnce(&World) -> PathBuf) {
    let mut world = World::new();
    // Once in peace, so that all of it is there.
    world.run(0);
    let (at, leads) = (at(&world), leads(&world));
    let aside = world.dir.path().join("aside");
    symlink(leads, &aside).unwrap();
    lchown(&aside, Some(NOBODY), Some(NOBODY)).unwrap();
    let (stop, swaps) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if rustix::fs::renameat_with(CWD, &aside, CWD, &at, RenameFlags::EXCHANGE).is_ok() {
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        // A failed assertion must stop the other thread too, or the scope never ends.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 1..=rounds() {
                world.run(round);
                world.check();
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    assert!(swaps.load(Ordering::Relaxed) > rounds(), "nobody raced");
}

#[test]
fn a_directory_above_the_root_that_becomes_a_link() {
    race_at(|world| world.dir.path().join("above"), |world| world.dir.path().join("elsewhere"));
}

#[test]
fn a_root_that_becomes_a_link() {
    race("", World::outside);
}

#[test]
fn a_directory_that_becomes_a_link() {
    race("d", World::outside);
}

#[test]
fn a_directory_deeper_down_that_becomes_a_link() {
    race("d/sub", |world| world.outside().join("sub"));
}

#[test]
fn a_file_that_becomes_a_link() {
    race("d/passwd", |world| world.outside().join("passwd"));
}

#[test]
fn our_own_directory_that_becomes_a_link() {
    race(".xds-sync", World::outside);
}

#[test]
fn the_stage_that_becomes_a_link() {
    race(".xds-sync/stage", World::outside);
}

#[test]
fn the_trash_that_becomes_a_link() {
    race(".xds-sync/trash", World::outside);
}

#[test]
fn a_runs_trash_that_becomes_a_link() {
    race(&format!(".xds-sync/trash/{RUN}"), World::outside);
}

#[test]
fn a_marker_that_becomes_a_link() {
    race(".xds-sync/root.json", |world| world.outside().join("passwd"));
}
