//! What many followers cost a run of Main's, counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::SystemTime;

use ssh_key::private::Ed25519Keypair;
use ssh_key::{LineEnding, PrivateKey};

use super::Followers;
use crate::config::{Sources, load};
use crate::model::{Digest, Entry, File, Meta, Owner, RelPathBuf};
use crate::report::{DirectoryState, NodeState};
use crate::site::{Access, Locking, Services, Site};
use crate::state::StateDir;
use crate::store::blobs::pack;
use crate::store::names::Area;
use crate::store::objects::memory::Memory;
use crate::store::tree::{Part, Parts};
use crate::store::upload::{On, Upload, UploadedChange, UploadedDirectory};
use crate::store::{Created, FORMAT, Objects, Sha256, StoreError, envelope, upload};
use crate::sync::{Options, Phase, Progress};

const CLUSTER: &str = "01JCLUSTER";

/// A store that counts what it is asked for.
#[derive(Default)]
struct Counting {
    store: Memory,
    /// What was read, alone or together.
    reads: AtomicUsize,
    /// A name that cannot be read.
    broken: Option<String>,
}

impl Counting {
    fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        match &self.broken {
            Some(broken) if broken == name => Err(StoreError::Unreachable("it is broken".to_owned())),
            _ => self.store.get(name, limit),
        }
    }
}

impl Objects for Counting {
    fn get(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.read(name, limit)
    }

    fn get_all(&self, wanted: &[(&str, u64)]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        wanted.iter().map(|(name, limit)| self.read(name, *limit)).collect()
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<Created, StoreError> {
        self.store.create(name, bytes)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.store.put(name, bytes)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.store.list(prefix)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.store.delete(name)
    }

    fn place(&self) -> &str {
        self.store.place()
    }
}

/// Notes which threads begin with a follower.
#[derive(Default)]
struct Threads(Mutex<BTreeSet<String>>);

impl Progress for Threads {
    fn at(&self, _: &str, phase: Phase) {
        if phase == Phase::Connecting {
            self.0.lock().unwrap().insert(format!("{:?}", thread::current().id()));
        }
    }

    fn planned(&self, _: &str, _: u64) {}

    fn moved(&self, _: &str, _: u64) {}
}

fn new_id() -> String {
    ulid::Ulid::generate().to_string()
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

/// A Main with so many followers, and two directories that they record in.
fn site(dir: &Path, count: u8, threads: &Arc<Threads>) -> Site {
    let mut text =
        format!("[sync]\nstate_dir = {:?}\nparallel = 4\n[store]\nurl = 'file:///none'\n", dir.join("state"));
    for name in ["rec", "voicemail"] {
        fs::create_dir(dir.join(name)).unwrap();
        let path = dir.join(name);
        writeln!(text, "[[directory]]\nname = '{name}'\npath = {path:?}\ndirection = 'both'\nsettle = '0s'")
            .unwrap();
    }
    for number in 0..count {
        let public = key(number).public_key().to_openssh().unwrap();
        writeln!(text, "[[node]]\nname = 'mds{number}'\nvia = 'store'\nkey = '{public}'").unwrap();
    }
    fs::write(dir.join("config.toml"), text).unwrap();
    let sources = Sources {
        file_was_named: true,
        file: dir.join("config.toml"),
        env: Vec::new(),
        overrides: Vec::new(),
        home: dir.to_owned(),
        host_name: "main".to_owned(),
        replaced: None,
    };
    let config = load(&sources).unwrap().config;
    let progress: Arc<Threads> = Arc::clone(threads);
    let services = Services { progress, ..Services::new(SystemTime::now, new_id) };
    Site::open(config, Locking::Try, Access::Change, services).unwrap()
}

/// What a run reads of the store, and how many threads are at work with followers.
fn cost(count: u8) -> (usize, usize) {
    let (dir, threads) = (tempfile::tempdir().unwrap(), Arc::<Threads>::default());
    let objects = Arc::new(Counting::default());
    let mut site = site(dir.path(), count, &threads);
    site.take_uploads(Arc::clone(&objects) as Arc<dyn Objects>, CLUSTER, None).unwrap();
    let report = site.sync(&Options::default()).unwrap();
    assert_eq!((report.exit_code(), report.nodes.len()), (0, usize::from(count)), "{report:?}");
    assert!(report.nodes.iter().all(|node| node.follows.is_some()));
    let threads = threads.0.lock().unwrap().len();
    (objects.reads.load(Ordering::Relaxed), threads)
}

#[test]
fn followers_that_uploaded_nothing_are_asked_for_together_and_by_a_few_threads() {
    for (count, reads) in [(1, 2), (64, 2), (200, 8)] {
        let (asked, threads) = cost(count);
        assert_eq!(asked, reads, "{count} followers: uploads and states, 64 at a time");
        assert!((1..=4).contains(&threads), "{count} followers had {threads} threads");
    }
}

#[test]
fn what_cannot_be_read_of_one_follower_is_told_of_that_one_alone() {
    let (dir, threads) = (tempfile::tempdir().unwrap(), Arc::<Threads>::default());
    let broken = Area::node("mds3").unwrap().upload(1);
    let objects = Arc::new(Counting { broken: Some(broken), ..Counting::default() });
    let mut site = site(dir.path(), 70, &threads);
    site.take_uploads(objects, CLUSTER, None).unwrap();
    let report = site.sync(&Options::default()).unwrap();
    let lost = report.nodes.iter().filter(|node| node.state != NodeState::Ok);
    assert_eq!(lost.map(|node| &*node.name).collect::<Vec<_>>(), ["mds3"], "{report:?}");
}

#[test]
fn a_later_run_sees_what_was_uploaded_since() {
    let dir = tempfile::tempdir().unwrap();
    let objects = Arc::new(Counting::default());
    let keys = BTreeMap::from([("mds1".to_owned(), key(1).public_key().to_openssh().unwrap())]);
    let state = StateDir::open(&dir.path().join("state")).unwrap();
    let store = Arc::clone(&objects) as Arc<dyn Objects>;
    let followers = Arc::new(Followers::new(store, CLUSTER.to_owned(), state, keys, None).unwrap());
    let mut first = followers.connect("mds1").unwrap();
    first.begin("run", false).unwrap();
    objects.put(&Area::node("mds1").unwrap().upload(1), b"no upload").unwrap();
    let mut second = followers.connect("mds1").unwrap();
    assert!(second.begin("run", false).is_err(), "it is looked at, and is not signed");
}

/// Uploads a new file, as mds1 does.
fn upload(dir: &Path, objects: &dyn Objects, seq: u64, directory: &str, content: &str) {
    let area = Area::node("mds1").unwrap();
    let (part, bytes) = pack(content.as_bytes());
    let Part::Stored { object, .. } = &part else { panic!() };
    objects.put(&area.object(object), &bytes).unwrap();
    let (digest, mut parts) = (Digest(blake3::hash(content.as_bytes()).into()), Parts::default());
    parts.insert(digest, vec![part]);
    let meta = Meta { mode: 0o644, owner: Owner::default() };
    let file = Entry::File(File { size: content.len() as u64, mtime: 7, digest, meta });
    let path = RelPathBuf::new(content.as_bytes().to_vec()).unwrap();
    let changes =
        upload::encode(&[UploadedChange { path, expected: None, now: Some(file) }], &parts).unwrap();
    let hash = Sha256::of(&changes);
    objects.put(&area.object(&hash), &changes).unwrap();
    let upload = Upload {
        v: FORMAT,
        cluster: CLUSTER.to_owned(),
        node: "mds1".to_owned(),
        seq,
        time: "2026-01-02T03:04:05Z".to_owned(),
        on: On { epoch: 1, seq: 1 },
        directories: vec![UploadedDirectory {
            name: directory.to_owned(),
            changes: Some(hash),
            changes_len: changes.len() as u64,
        }],
    };
    let identity = dir.join("mds1.key");
    fs::write(&identity, key(1).to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
    objects.put(&area.upload(seq), &envelope::seal(&identity, &upload).unwrap()).unwrap();
}

fn files_below(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files_below(&entry.path()) } else { 1 }).sum()
}

#[test]
fn where_nobody_uploaded_anything_that_is_all_that_is_asked() {
    let (dir, threads) = (tempfile::tempdir().unwrap(), Arc::<Threads>::default());
    let objects = Arc::new(Counting::default());
    let mut site = site(dir.path(), 200, &threads);
    site.take_uploads(Arc::clone(&objects) as Arc<dyn Objects>, CLUSTER, None).unwrap();
    assert!(site.take_in(&Options::default()).unwrap().is_none());
    assert_eq!(objects.reads.load(Ordering::Relaxed), 4);
    assert_eq!(site.settle_uploads().unwrap(), Some(BTreeMap::new()));
    assert!(threads.0.lock().unwrap().is_empty());
    // Who has is asked for the rest, and nobody else.
    upload(dir.path(), &*objects, 1, "rec", "one.wav");
    site.take_uploads(Arc::clone(&objects) as Arc<dyn Objects>, CLUSTER, None).unwrap();
    let report = site.take_in(&Options::default()).unwrap().unwrap();
    assert_eq!(
        (report.exit_code(), &*report.nodes[0].name, report.nodes.len()),
        (0, "mds1", 1),
        "{report:?}"
    );
    assert_eq!(fs::read_to_string(dir.path().join("rec/one.wav")).unwrap(), "one.wav");
    assert_eq!(site.settle_uploads().unwrap(), Some(BTreeMap::from([("mds1".to_owned(), 1)])));
    // Nothing waits, and nothing is kept of it.
    assert_eq!(files_below(&dir.path().join("state/edges")), 0);
}

#[test]
fn a_follower_that_uploaded_nothing_is_no_work_whatever_changes_on_main() {
    let (dir, threads) = (tempfile::tempdir().unwrap(), Arc::<Threads>::default());
    let objects = Arc::new(Counting::default());
    let mut site = site(dir.path(), 3, &threads);
    // A record that would be told of, if it was read.
    let edges = dir.path().join("state/edges/rec");
    fs::create_dir_all(&edges).unwrap();
    fs::write(edges.join("mds0"), "damaged").unwrap();
    for content in ["one", "two"] {
        fs::write(dir.path().join("rec/of-main.wav"), content).unwrap();
        site.take_uploads(Arc::clone(&objects) as Arc<dyn Objects>, CLUSTER, None).unwrap();
        let report = site.sync(&Options::default()).unwrap();
        site.state().end_run().unwrap();
        assert_eq!(
            (report.exit_code(), report.problems.len(), report.changes.len()),
            (0, 0, 0),
            "{report:?}"
        );
        let directories = report.nodes.iter().flat_map(|node| &node.directories);
        assert!(directories.clone().all(|directory| directory.state == DirectoryState::InStep));
        assert_eq!(directories.count(), 6);
    }
    assert_eq!(files_below(&dir.path().join("state/edges")), 1);
}

#[test]
fn what_a_run_has_not_looked_at_is_not_taken_in() {
    let (dir, threads) = (tempfile::tempdir().unwrap(), Arc::<Threads>::default());
    let objects = Arc::new(Counting::default());
    let mut site = site(dir.path(), 2, &threads);
    upload(dir.path(), &*objects, 1, "rec", "one.wav");
    upload(dir.path(), &*objects, 2, "voicemail", "two.wav");
    let mut run = |directories: &[&str]| {
        site.take_uploads(Arc::clone(&objects) as Arc<dyn Objects>, CLUSTER, None).unwrap();
        let directories = directories.iter().map(|name| (*name).to_owned()).collect();
        let report = site.sync(&Options { directories, ..Options::default() }).unwrap();
        assert_eq!(report.exit_code(), 0, "{report:?}");
        site.settle_uploads().unwrap().unwrap().get("mds1").copied()
    };
    let has = |name: &str| dir.path().join(name).exists();
    assert_eq!(run(&["rec"]), Some(1));
    assert_eq!((has("rec/one.wav"), has("voicemail/two.wav")), (true, false));
    assert_eq!(run(&["rec"]), Some(1));
    assert_eq!(run(&[]), Some(2));
    assert!(has("voicemail/two.wav"));
}
