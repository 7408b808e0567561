//! What many followers cost a run of Main's, counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::SystemTime;

use ssh_key::PrivateKey;
use ssh_key::private::Ed25519Keypair;

use super::Followers;
use crate::config::{Sources, load};
use crate::report::NodeState;
use crate::site::{Access, Locking, Services, Site};
use crate::state::StateDir;
use crate::store::names::Area;
use crate::store::objects::memory::Memory;
use crate::store::{Created, Objects, StoreError};
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

/// A Main with so many followers.
fn site(dir: &Path, count: u8, threads: &Arc<Threads>) -> Site {
    let mut text = format!(
        "[sync]\nstate_dir = {:?}\nparallel = 4\n[store]\nurl = 'file:///none'\n[[directory]]\nname = 'rec'\npath = {:?}\n\
         direction = 'both'\n",
        dir.join("state"),
        dir.join("rec")
    );
    fs::create_dir(dir.join("rec")).unwrap();
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
    site.take_uploads(Arc::clone(&objects) as Arc<dyn Objects>, (CLUSTER.to_owned(), &[])).unwrap();
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
    site.take_uploads(objects, (CLUSTER.to_owned(), &[])).unwrap();
    let report = site.sync(&Options::default()).unwrap();
    let lost = report.nodes.iter().filter(|node| node.state != NodeState::Ok);
    assert_eq!(lost.map(|node| &*node.name).collect::<Vec<_>>(), ["mds3"], "{report:?}");
}

#[test]
fn a_later_run_sees_what_was_uploaded_since() {
    let dir = tempfile::tempdir().unwrap();
    let objects = Arc::new(Counting::default());
    let keys = BTreeMap::from([("mds1".to_owned(), key(1).public_key().clone())]);
    let state = StateDir::open(&dir.path().join("state")).unwrap();
    let store = Arc::clone(&objects) as Arc<dyn Objects>;
    let followers = Followers::new(store, CLUSTER.to_owned(), state, keys, &[]).unwrap();
    let mut first = followers.connect("mds1").unwrap();
    first.begin("run", false).unwrap();
    objects.put(&Area::node("mds1").unwrap().upload(1), b"no upload").unwrap();
    let mut second = followers.connect("mds1").unwrap();
    assert!(second.begin("run", false).is_err(), "it is looked at, and is not signed");
}
