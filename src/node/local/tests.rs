#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::{Duration, SystemTime};

use super::*;
use crate::model::{Digest, Direction, RelPathBuf, ReloadState, Step};
use crate::snapshot::Root;

const RUN: &str = "01KQ0000000000000000000000";

struct Host {
    dir: tempfile::TempDir,
    local: Local,
}

impl Host {
    fn new() -> Host {
        let dir = tempfile::tempdir().unwrap();
        let options = LocalOptions {
            cache_dir: dir.path().join("cache"),
            // Long after everything in the test: nothing is young.
            clock: Box::new(|| SystemTime::now() + Duration::from_secs(3600)),
            new_id: Box::new(|| "01KQ0000000000000000000009".to_owned()),
            reload: Box::new(|request| ReloadOutcome {
                name: request.name.clone(),
                state: ReloadState::Owed,
                detail: None,
            }),
            replace_key: Box::new(|change| Err(Refusal::new(format!("{} stays", change.old)))),
            progress: Arc::default(),
            stop: Arc::default(),
            limits: Default::default(),
            watch_limits: Default::default(),
        };
        let mut local = Local::new(options);
        local.begin(RUN, false).unwrap();
        Host { dir, local }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }

    fn write(&self, path: &str, content: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), content).unwrap();
    }

    fn scan(&mut self) -> Scanned {
        let spec = ScanSpec {
            directory: "moh".to_owned(),
            root: self.at(""),
            direction: Direction::Push,
            exclude: Vec::new(),
            other_roots: Vec::new(),
            settle: Duration::ZERO,
            complete: Vec::new(),
            hold_young: false,
            checksum: false,
        };
        self.local.scan(&spec).unwrap()
    }
}

fn path(text: &str) -> RelPathBuf {
    RelPathBuf::new(text.as_bytes()).unwrap()
}

/// All that `main` has is put on `node`, which has nothing.
fn copy_all(main: &mut Host, node: &mut Host) -> Vec<Outcome> {
    let tree = main.local.tree("moh", None).unwrap();
    let mut wanted = Vec::new();
    let mut actions = Vec::new();
    for (path, entry) in tree.iter().filter(|(_, entry)| !entry.is_opaque()) {
        if let Entry::File(file) = entry {
            let (digest, size) = (file.digest, file.size);
            wanted.push(BlobRequest { path: path.to_owned(), digest, size, offset: 0 });
        }
        actions.push(Action { path: path.to_owned(), expected: None, step: Step::Put(entry.clone()) });
    }
    let mut source = main.local.source("moh").unwrap();
    let received = node.local.stage("moh", &wanted, &mut source).unwrap();
    assert!(received.iter().all(Result::is_ok), "{received:?}");
    node.local.commit("moh", &actions).unwrap()
}

#[test]
fn a_missing_root_is_made_marked_and_filled() {
    let (mut main, mut node) = (Host::new(), Host::new());
    main.write("jazz/a.wav", "a");
    main.write("b.wav", "b");
    main.write("xds_override.conf", "main's own");
    let scanned = main.scan();
    assert_eq!(node.scan().root, Root::Missing);
    let id = node.local.prepare("moh", &TrashKeep::FOREVER, None).unwrap().unwrap().id;
    assert_eq!(copy_all(&mut main, &mut node), vec![Outcome::Done; 3]);
    node.local.agree("moh", "01G").unwrap().unwrap();

    let again = node.scan();
    assert_eq!(again.root, Root::Marked(Marker { id, generation: Some("01G".to_owned()) }));
    assert!(!node.at("xds_override.conf").exists());
    assert_eq!((again.entries, again.settled), (3, true));
    let expected = main.local.tree("moh", None).unwrap();
    let expected = expected.with(&[(path("xds_override.conf"), None)].into());
    assert_eq!(*node.local.tree("moh", None).unwrap(), expected);
    assert_eq!(scanned.entries, 4);
}

#[test]
fn the_caches_of_roots_that_are_not_named_any_more_are_removed() {
    let mut node = Host::new();
    node.write("a", "a");
    node.scan();
    let cache = |name: &str| node.dir.path().join("cache").join(name);
    let (old, young, other) = (cache("old.hashes"), cache("young.hashes"), cache("old.other"));
    for path in [&old, &young, &other] {
        fs::write(path, "").unwrap();
    }
    let long_ago = SystemTime::now() - Duration::from_secs(31 * 24 * 3600);
    let used = node.local.cache_path(&node.at(""));
    for path in [&old, &other, &used] {
        File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }
    node.local.end().unwrap();
    assert!(!old.exists() && young.exists() && other.exists() && used.exists());
    assert!(fs::metadata(&used).unwrap().modified().unwrap() > long_ago);
}

#[test]
fn what_a_commit_put_in_place_is_not_read_again() {
    let (mut main, mut node) = (Host::new(), Host::new());
    main.write("a.wav", "content");
    make_old(&main.at("a.wav"));
    main.scan();
    node.scan();
    node.local.prepare("moh", &TrashKeep::FOREVER, None).unwrap().unwrap();
    copy_all(&mut main, &mut node);
    // As the next run does, in a process of its own.
    let cache_path = node.local.cache_path(&node.at(""));
    let before = fs::read(&cache_path).unwrap();
    node.local.caches.clear();
    node.scan();
    assert_eq!(fs::read(&cache_path).unwrap(), before, "nothing was learned");
}

fn make_old(path: &Path) {
    let old = SystemTime::now() - Duration::from_secs(1000);
    File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
}

#[test]
fn nobody_gets_what_is_excluded() {
    let mut main = Host::new();
    main.write("xds_override.conf", "secret");
    main.scan();
    let digest = Digest(blake3::hash(b"secret").into());
    let wanted = [BlobRequest { path: path("xds_override.conf"), digest, size: 6, offset: 0 }];
    let mut node = Host::new();
    node.scan();
    node.local.prepare("moh", &TrashKeep::FOREVER, None).unwrap().unwrap();
    let mut source = main.local.source("moh").unwrap();
    let received = node.local.stage("moh", &wanted, &mut source).unwrap();
    assert!(received[0].as_ref().unwrap_err().contains("not in the directory"), "{received:?}");
}

#[test]
fn a_marker_that_changed_since_the_scan_stops_the_directory() {
    let mut node = Host::new();
    node.write("a", "a");
    node.scan();
    node.local.prepare("moh", &TrashKeep::FOREVER, None).unwrap().unwrap();
    node.scan();
    fs::remove_file(node.at(".xds-sync/root.json")).unwrap();
    let prepared = node.local.prepare("moh", &TrashKeep::FOREVER, None).unwrap();
    assert!(prepared.unwrap_err().to_string().contains("its marker has just changed"));
    assert!(node.local.agree("moh", "01G").unwrap().is_err());
}

#[test]
fn calls_out_of_order_change_nothing() {
    let mut node = Host::new();
    assert!(node.local.tree("moh", None).is_err());
    assert!(node.local.prepare("moh", &TrashKeep::FOREVER, None).unwrap().is_err());
    node.write("a", "a");
    node.scan();
    let delete = Action { path: path("a"), expected: None, step: Step::Delete };
    assert!(node.local.commit("moh", &[delete]).is_err());
    assert!(node.at("a").exists());
}

#[test]
fn within_a_run_a_directory_is_prepared_once() {
    let (mut main, mut node) = (Host::new(), Host::new());
    main.write("a.wav", "a");
    main.scan();
    node.scan();
    let keep = TrashKeep::FOREVER;
    let id = node.local.prepare("moh", &keep, None).unwrap().unwrap();
    let before = node.local.staging("moh").unwrap();
    // Of this very run: a second sweep would take it for a leftover.
    fs::write(node.at(".xds-sync/stage/making.1"), "on its way").unwrap();
    assert_eq!(node.local.prepare("moh", &keep, None).unwrap().unwrap(), id);
    assert!(!node.scan().leftovers, "what this run has put there is none");
    assert!(!is_free(&node), "a scan does not release the root");
    assert_eq!(node.local.prepare("moh", &keep, None).unwrap().unwrap(), id);
    assert!(node.at(".xds-sync/stage/making.1").exists());

    let content = Digest(blake3::hash(b"a").into());
    let wanted = [BlobRequest { path: path("a.wav"), digest: content, size: 1, offset: 0 }];
    let received = before.stage(&wanted, &mut main.local.source("moh").unwrap());
    assert_eq!(received, [Ok(())], "what was made before stays valid");
    drop(before);
    node.local.end().unwrap();
    assert!(is_free(&node));
    node.local.begin(RUN, false).unwrap();
    assert!(node.scan().leftovers);
}

#[test]
fn a_root_that_was_replaced_is_prepared_anew() {
    let mut node = Host::new();
    node.write("a", "a");
    node.scan();
    node.local.prepare("moh", &TrashKeep::FOREVER, None).unwrap().unwrap();
    fs::rename(node.at(""), node.dir.path().join("elsewhere")).unwrap();
    node.write("b", "b");
    for _ in 0..2 {
        let root = node.scan().root;
        assert!(matches!(&root, Root::Unusable(why) if why.contains("has taken its place")), "{root:?}");
    }
    assert!(node.local.prepare("moh", &TrashKeep::FOREVER, None).unwrap().is_err());
    node.local.begin(RUN, false).unwrap();
    assert_eq!(node.scan().root, Root::Unmarked);
    let delete = Action { path: path("b"), expected: None, step: Step::Delete };
    assert!(node.local.commit("moh", std::slice::from_ref(&delete)).is_err(), "it is not prepared");
    node.local.prepare("moh", &TrashKeep::FOREVER, None).unwrap().unwrap();
    assert!(!is_free(&node));
}

#[test]
fn leftovers_are_what_earlier_runs_have_left_in_the_stage() {
    let mut node = Host::new();
    node.write("a", "a");
    assert!(!node.scan().leftovers);
    node.local.prepare("moh", &TrashKeep::FOREVER, None).unwrap().unwrap();
    node.local.begin(RUN, false).unwrap();
    assert!(!node.scan().leftovers);
    let stage = node.at(".xds-sync/stage");
    // Contents wait for a week, and the host's clock is but an hour ahead.
    let content = stage.join(Digest(blake3::hash(b"waits").into()).to_string());
    fs::write(&content, "waits").unwrap();
    fs::write(stage.join("foreign"), "").unwrap();
    assert!(node.scan().leftovers);
    node.local.prepare("moh", &TrashKeep::FOREVER, None).unwrap().unwrap();
    assert!(content.exists() && !stage.join("foreign").exists());
    node.local.begin(RUN, false).unwrap();
    assert!(node.scan().leftovers, "what waits is a leftover too");
    assert!(node.local.clear_stage("moh").is_err(), "it is not prepared");
    node.local.prepare("moh", &TrashKeep::FOREVER, None).unwrap().unwrap();
    node.local.clear_stage("moh").unwrap().unwrap();
    assert!(!content.exists());
    node.local.begin(RUN, false).unwrap();
    assert!(!node.scan().leftovers);
}

#[test]
fn no_run_and_a_dry_run_change_nothing() {
    let mut node = Host::new();
    node.write("a", "a");
    for dry_run in [None, Some(true)] {
        node.local.end().unwrap();
        if let Some(dry_run) = dry_run {
            node.local.begin(RUN, dry_run).unwrap();
        }
        node.scan();
        assert!(node.local.prepare("moh", &TrashKeep::FOREVER, None).is_err());
        assert!(node.local.agree("moh", "01G").is_err());
        let delete = Action { path: path("a"), expected: None, step: Step::Delete };
        assert!(node.local.commit("moh", &[delete]).is_err());
        assert!(node.at("a").exists() && !node.at(".xds-sync").exists());
    }
}

/// Whether another process could work in the host's root now.
fn is_free(host: &Host) -> bool {
    let own = File::open(host.at(".xds-sync")).unwrap();
    rustix::fs::flock(&own, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
}

#[test]
fn a_root_that_is_made_has_the_mode_and_owner_that_it_is_to_have() {
    use std::os::unix::fs::MetadataExt as _;
    let mut node = Host::new();
    assert_eq!(node.scan().root, Root::Missing);
    let meta = Meta { mode: 0o2775, owner: Owner::new(Some("games"), Some("no-such-group")) };
    node.local.prepare("moh", &TrashKeep::FOREVER, Some(&meta)).unwrap().unwrap();
    let made = fs::metadata(node.at("")).unwrap();
    let games = nix::unistd::User::from_name("games").unwrap().unwrap().uid.as_raw();
    assert_eq!((made.mode() & 0o7777, made.uid(), made.gid()), (0o2775, games, 0));
}

/// All that a package's update makes of a root.
fn chown_all(at: &Path, id: u32) {
    let done =
        std::process::Command::new("chown").arg("-R").arg(format!("{id}:{id}")).arg(at).status().unwrap();
    assert!(done.success());
}

#[test]
fn our_directory_that_merely_changed_hands_is_taken_back() {
    use std::os::unix::fs::MetadataExt as _;
    let mut node = Host::new();
    node.write("a.wav", "a");
    node.scan();
    let id = node.local.prepare("moh", &TrashKeep::FOREVER, None).unwrap().unwrap().id;
    let staged = node.at(".xds-sync/stage").join(blake3::hash(b"x").to_hex().as_str());
    let trashed = node.at(".xds-sync/trash/01KP0000000000000000000000/0/old.wav");
    fs::create_dir_all(trashed.parent().unwrap()).unwrap();
    fs::write(&trashed, "old").unwrap();

    chown_all(&node.at(""), 5);
    fs::write(&staged, "x").unwrap();
    node.local.begin(RUN, false).unwrap();
    assert_eq!(node.scan().root, Root::Marked(Marker { id: id.clone(), generation: None }));
    assert_eq!(node.local.prepare("moh", &TrashKeep::FOREVER, None).unwrap().unwrap().id, id);
    for own in ["", "/stage", "/trash"] {
        let own = fs::metadata(node.at(&format!(".xds-sync{own}"))).unwrap();
        assert_eq!((own.uid(), own.gid(), own.mode() & 0o7777), (0, 0, 0o700));
    }
    assert!(trashed.exists(), "what was deleted can still be had");
    assert!(!staged.exists(), "who had it may still be writing to it");

    // Another one, made by whoever owns the root, is refused, whatever it says of itself.
    let marker = fs::read(node.at(".xds-sync/root.json")).unwrap();
    fs::remove_dir_all(node.at(".xds-sync")).unwrap();
    fs::create_dir(node.at(".xds-sync")).unwrap();
    fs::write(node.at(".xds-sync/root.json"), marker).unwrap();
    chown_all(&node.at(""), 5);
    node.local.begin(RUN, false).unwrap();
    let Root::Unusable(why) = node.scan().root else { unreachable!() };
    assert!(why.contains("belongs to user id 5") && why.contains("chown -R root"), "{why}");
    assert!(node.local.prepare("moh", &TrashKeep::FOREVER, None).unwrap().is_err());
}
