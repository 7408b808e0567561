//! Passes of a follower against a store in a directory.

mod clocks;
mod lost;
mod round_trips;
mod twins;

#[path = "../../tests/support/publisher.rs"]
mod publisher;

use std::fs;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use self::publisher::{MTIME, Publisher, spec_of};
use super::directories::Directories;
use super::json::{Standing, State};
use super::passed::{Outcome, Passed};
use super::startup::{Mode, Options};
use super::{Asked, Config, Follower, Machine};
use crate::config::{Sources, load};
use crate::node::Accept;
use crate::site::{Access, Locking, Services};
use crate::store::chain::{self, Found};
use crate::store::names::Area;
use crate::store::upload::{Upload, UploadedChange};
use crate::store::{Objects, envelope, open_for_node, upload};
use crate::sync::{Options as Run, Silent};

fn now() -> SystemTime {
    SystemTime::now()
}

fn new_id() -> String {
    ulid::Ulid::generate().to_string()
}

/// A store, Main's side of it, and a node.
struct Site(Publisher);

impl Deref for Site {
    type Target = Publisher;

    fn deref(&self) -> &Publisher {
        &self.0
    }
}

impl DerefMut for Site {
    fn deref_mut(&mut self) -> &mut Publisher {
        &mut self.0
    }
}

impl Site {
    fn new() -> Site {
        Site(Publisher::new())
    }

    fn follower(&self) -> Follower {
        let file = self.path("node.toml");
        fs::write(
            &file,
            format!(
                "roots = [{:?}, {:?}]\nstate_dir = {:?}\n",
                self.path("moh"),
                self.path("rec"),
                self.path("state")
            ),
        )
        .unwrap();
        let second = Duration::from_secs(1);
        Follower {
            accept: Accept::read(&file).unwrap(),
            config: Config {
                events: None,
                store: spec_of(self.dir.path()),
                name: "mds1".to_owned(),
                main_key: self.path("main.pub"),
                identity: self.path("node"),
                labels: None,
                directories: Directories::new(),
                interval: second,
                startup: Options { mode: Mode::Sync, retries: 0, retry_pause: second, retry_max: second },
            },
            machine: Machine { now, new_id, open: Arc::new(open_for_node) },
            progress: Arc::new(Silent),
            stop: Arc::new(AtomicBool::new(false)),
        }
    }

    fn pass(&self) -> Passed {
        self.pass_of(&self.follower())
    }

    fn pass_of(&self, follower: &Follower) -> Passed {
        let state = follower.state().unwrap();
        let passed = follower.pass(&state, &Asked::default()).unwrap();
        follower.tell(&passed, passed.state(true, false), 1);
        passed
    }

    /// A pass that brings all.
    fn follow(&self) {
        let passed = self.pass();
        assert_eq!((passed.exit_code, &passed.outcome), (0, &Outcome::Current), "{:?}", passed.report);
    }

    fn upload(&self, seq: u64) -> Vec<UploadedChange> {
        let area = Area::node("mds1").unwrap();
        let key = ssh_key::PublicKey::read_openssh_file(&self.path("node.pub")).unwrap();
        let object = self.objects.get(&area.upload(seq), 1 << 20).unwrap().unwrap();
        let up: Upload = envelope::open(&object, &[key], "up").unwrap();
        let hash = up.directories[0].changes.unwrap();
        upload::decode(&self.objects.get(&area.object(&hash), 1 << 20).unwrap().unwrap()).unwrap().0
    }

    fn standing(&self) -> Standing {
        Standing::read(&self.path("state")).unwrap()
    }
}

#[test]
fn what_is_published_comes_changes_and_goes() {
    let mut site = Site::new();
    site.set("moh", "b.wav", b"two");
    site.set("moh", "c.wav", b"three");
    site.publish();
    site.follow();
    assert_eq!(site.has("moh/a.wav").as_deref(), Some("one"));
    let mtime = fs::metadata(site.path("moh/a.wav")).unwrap().modified().unwrap();
    assert_eq!(mtime, SystemTime::UNIX_EPOCH + Duration::from_secs(MTIME));

    site.set("moh", "a.wav", b"new");
    site.main.get_mut("moh").unwrap().remove("b.wav");
    site.publish();
    site.follow();
    assert_eq!((site.has("moh/a.wav").as_deref(), site.has("moh/b.wav")), (Some("new"), None));
    let standing = site.standing();
    assert_eq!((standing.state, standing.epoch, standing.seq, standing.error), (State::Current, 1, 2, None));

    let passed = site.pass();
    assert!(passed.report.changes.is_empty() && passed.exit_code == 0);
}

#[test]
fn what_is_recorded_is_uploaded_once_and_stays_when_main_has_it() {
    let mut site = Site::new();
    site.publish();
    site.follow();
    site.record("call.wav", "hello");
    site.follow();
    let changes = site.upload(1);
    assert_eq!(
        (changes.len(), changes[0].path.escaped().as_str(), &changes[0].expected),
        (1, "call.wav", &None)
    );
    assert!(changes[0].now.is_some());
    assert_eq!((site.standing().uploaded, site.standing().taken), (1, 0));

    // Nothing new: no other upload, and the recording does not count as deleted on Main.
    site.follow();
    site.set("moh", "b.wav", b"two");
    site.publish();
    site.follow();
    assert_eq!(site.has("rec/call.wav").as_deref(), Some("hello"));
    let area = Area::node("mds1").unwrap();
    assert_eq!(site.objects.get(&area.upload(2), 1 << 20).unwrap(), None);

    site.taken = 1;
    site.set("rec", "call.wav", b"hello");
    site.publish();
    site.follow();
    assert_eq!(site.has("rec/call.wav").as_deref(), Some("hello"));
    assert_eq!(site.standing().taken, 1);

    // Deleted on Main, it goes here and is not brought back.
    site.set("rec", "other.wav", b"x");
    site.set("rec", "third.wav", b"x3");
    site.publish();
    site.follow();
    site.main.get_mut("rec").unwrap().remove("call.wav");
    site.publish();
    site.follow();
    assert_eq!(site.has("rec/call.wav"), None);
    site.follow();
    assert_eq!(site.objects.get(&area.upload(2), 1 << 20).unwrap(), None);

    // Deleted here, it is deleted on Main.
    fs::remove_file(site.path("rec/other.wav")).unwrap();
    site.follow();
    let changes = site.upload(2);
    assert_eq!((changes[0].path.escaped().as_str(), &changes[0].now), ("other.wav", &None));
    assert!(changes[0].expected.is_some());
    site.follow();
    assert_eq!(site.has("rec/other.wav"), None, "Main has not taken it in, and does not bring it back");
}

#[test]
fn what_main_decided_about_an_upload_holds() {
    let mut site = Site::new();
    site.set("rec", "call.wav", b"both");
    site.publish();
    site.follow();
    site.record("call.wav", "node's");
    site.follow();
    // Before Main has seen it, its own change does not undo the node's.
    site.set("rec", "call.wav", b"main's");
    site.publish();
    site.follow();
    assert_eq!(site.has("rec/call.wav").as_deref(), Some("node's"));
    site.taken = 1;
    site.publish();
    site.follow();
    assert_eq!(site.has("rec/call.wav").as_deref(), Some("main's"));
}

#[test]
fn an_older_store_is_a_rollback_and_nothing_is_touched() {
    let mut site = Site::new();
    site.publish();
    site.copy("store", "copy");
    site.set("moh", "a.wav", b"new");
    site.publish();
    site.follow();
    let before = site.files();
    fs::remove_dir_all(site.path("store")).unwrap();
    site.copy("copy", "store");
    for _ in 0..2 {
        let passed = site.pass();
        assert_eq!(passed.exit_code, 50);
        assert!(passed.outcome.why().unwrap().contains("rollback"), "{:?}", passed.outcome);
        assert_eq!(site.files(), before);
        let standing = site.standing();
        assert_eq!((standing.state, standing.seq), (State::Refused, 2));
    }
}

#[test]
fn no_flipped_bit_of_the_store_touches_a_file() {
    let mut site = Site::new();
    site.set("rec", "r.wav", b"recorded");
    site.publish();
    site.follow();
    site.copy("state", "known");
    let old: Vec<String> = list(&*site.objects);
    site.set("moh", "a.wav", b"new");
    site.set("moh", "b.wav", b"more");
    site.set("rec", "s.wav", b"also");
    site.publish();
    let before = site.files();
    let mut refused = 0;
    for name in list(&*site.objects).into_iter().filter(|name| !old.contains(name) || name.contains("alive"))
    {
        let good = site.objects.get(&name, 1 << 20).unwrap().unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        site.objects.put(&name, &bad).unwrap();
        let passed = site.pass();
        assert_eq!(site.files(), before, "{name}");
        assert_eq!(passed.exit_code, 50, "{name}: {:?}", passed.outcome);
        site.objects.put(&name, &good).unwrap();
        refused += 1;
        fs::remove_dir_all(site.path("state")).unwrap();
        site.copy("known", "state");
    }
    assert!(refused >= 7, "head, alive, two trees and three contents, not {refused}");
    site.follow();
    assert_eq!(site.has("moh/b.wav").as_deref(), Some("more"));
}

#[test]
fn a_group_of_nodes_that_is_not_what_was_published_touches_no_file() {
    let mut site = Site::new();
    site.others = 3;
    site.publish();
    site.follow();
    let old: Vec<String> = list(&*site.objects);
    site.taken = 1;
    site.set("moh", "a.wav", b"new");
    site.publish();
    let is_group = |name: &String| {
        let object = site.objects.get(name, 1 << 20).unwrap().unwrap();
        !old.contains(name) && object.starts_with(b"{\"name\"")
    };
    let group = list(&*site.objects).into_iter().find(is_group).unwrap();
    let good = site.objects.get(&group, 1 << 20).unwrap().unwrap();
    let mut flipped = good.clone();
    flipped[20] ^= 1;
    let before = site.files();
    for (what, bad, code) in [
        ("flipped", Some(flipped), 50),
        ("too long", Some([good.clone(), good.clone()].concat()), 50),
        ("too short", Some(good[..good.len() - 1].to_vec()), 50),
        // A replica of a store may lag behind.
        ("missing", None, 41),
    ] {
        site.objects.delete(&group).unwrap();
        if let Some(bad) = bad {
            site.objects.put(&group, &bad).unwrap();
        }
        let passed = site.pass();
        assert_eq!((passed.exit_code, site.files() == before), (code, true), "{what}: {:?}", passed.outcome);
        assert_eq!(site.standing().seq, 1, "{what}");
    }
    site.objects.put(&group, &good).unwrap();
    site.follow();
    assert_eq!((site.has("moh/a.wav").as_deref(), site.standing().taken), (Some("new"), 1));
}

fn list(objects: &dyn Objects) -> Vec<String> {
    ["v1/heads/", "v1/alive/", "v1/o/"].iter().flat_map(|prefix| objects.list(prefix).unwrap()).collect()
}

#[test]
fn a_frozen_store_is_stale_and_brings_nothing_new() {
    let mut site = Site::new();
    site.publish();
    site.follow();
    site.expires = Duration::ZERO;
    site.renew();
    let mut follower = site.follower();
    follower.machine.now = || SystemTime::now() + Duration::from_secs(600);
    let passed = site.pass_of(&follower);
    assert_eq!(passed.exit_code, 30, "{:?}", passed.report);
    assert_eq!(site.standing().state, State::Stale);
    // What was recorded is uploaded all the same.
    site.record("call.wav", "hello");
    site.pass_of(&follower);
    assert_eq!(site.upload(1).len(), 1);
    // What is new there may be a replay.
    site.set("moh", "a.wav", b"new");
    site.publish();
    let passed = site.pass_of(&follower);
    assert!(matches!(passed.outcome, Outcome::Stale(_)));
    assert_eq!(site.has("moh/a.wav").as_deref(), Some("one"));
    site.expires = Duration::from_secs(3600);
    site.renew();
    site.follow();
    assert_eq!(site.has("moh/a.wav").as_deref(), Some("new"));
}

#[test]
fn no_store_is_no_reason_to_touch_anything() {
    let mut site = Site::new();
    site.publish();
    site.follow();
    let before = site.files();
    fs::rename(site.path("store"), site.path("away")).unwrap();
    for emptied in [false, true] {
        if emptied {
            fs::create_dir(site.path("store")).unwrap();
        }
        let passed = site.pass();
        assert_eq!(passed.exit_code, 41, "{:?}", passed.outcome);
        assert_eq!(site.files(), before);
        assert_eq!(site.standing().state, State::Stale);
    }
}

#[test]
fn a_directory_that_the_node_does_not_accept_is_left_alone() {
    let mut site = Site::new();
    site.set("rec", "r.wav", b"recorded");
    site.publish();
    let mut follower = site.follower();
    follower.accept.roots = vec![site.path("rec")];
    let passed = site.pass_of(&follower);
    assert_eq!((site.has("moh/a.wav"), site.has("rec/r.wav").as_deref()), (None, Some("recorded")));
    assert_eq!(passed.exit_code, 23, "{:?}", passed.report.problems);
    assert!(passed.outcome.why().unwrap().contains("does not accept"), "{:?}", passed.outcome);
    follower.accept = Accept { roots: vec![site.path("moh")], read_only: true, ..follower.accept };
    let passed = site.pass_of(&follower);
    assert_eq!((passed.exit_code, site.has("moh/a.wav")), (41, None));
}

#[test]
fn labels_choose() {
    let mut site = Site::new();
    site.publish();
    let mut follower = site.follower();
    follower.config.labels = Some(vec!["rome".to_owned()]);
    // Directories without labels are for everybody.
    assert_eq!(site.pass_of(&follower).exit_code, 0);
    assert_eq!(site.has("moh/a.wav").as_deref(), Some("one"));
}

#[test]
fn a_dry_run_says_what_the_next_one_does_and_leaves_nothing() {
    let mut site = Site::new();
    site.publish();
    let follower = site.follower();
    let state = follower.state().unwrap();
    let asked = Asked { dry_run: true, ..Asked::default() };
    let passed = follower.pass(&state, &asked).unwrap();
    assert_eq!(passed.report.changes.len(), 1, "{:?}", passed.report);
    assert!(site.files().is_empty());
    assert!(!site.path("state/follow/trusted.json").exists() && !site.path("moh/.xds-sync").exists());
    let done = follower.pass(&state, &Asked::default()).unwrap();
    assert_eq!(done.report.changes, passed.report.changes);
    assert_eq!(done.report.nodes[0].directories[0].bytes, 3);
}

#[test]
fn an_upload_that_did_not_reach_the_store_is_sent_by_the_next_pass() {
    let mut site = Site::new();
    site.publish();
    site.follow();
    site.record("call.wav", "hello");
    // A name that is taken by a directory cannot be created.
    let area = Area::node("mds1").unwrap();
    let taken = site.path("store").join(area.upload(1));
    fs::create_dir_all(taken.join("x")).unwrap();
    let passed = site.pass();
    assert_ne!(passed.exit_code, 0, "{:?}", passed.report);
    fs::remove_dir_all(&taken).unwrap();
    site.follow();
    assert_eq!(site.upload(1).len(), 1);
}

/// A real Main, whose `rec` is beside the node's.
struct Both(Site);

impl Both {
    fn new(settings: &str) -> Both {
        let both = Both(Site::new());
        let path = |name: &str| both.0.path(name).display().to_string();
        fs::create_dir(path("main-rec")).unwrap();
        let key = fs::read_to_string(path("node.pub")).unwrap();
        let text = format!(
            "[sync]\nstate_dir = '{}'\n[store]\nurl = 'file://{}'\n[[node]]\nname = 'mds1'\nvia = 'store'\nkey = '{}'\n\
             [[directory]]\nname = 'rec'\npath = '{}'\ndirection = 'both'\nsettle = '0s'\n{settings}",
            path("main-state"),
            path("store"),
            key.trim(),
            path("main-rec"),
        );
        fs::write(path("config.toml"), text).unwrap();
        both
    }

    fn main(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.0.path("main-rec").join(name)).ok()
    }

    fn set_main(&self, name: &str, content: &str) {
        fs::write(self.0.path("main-rec").join(name), content).unwrap();
    }

    /// Main takes in what was uploaded.
    fn take_in(&mut self) -> crate::report::Report {
        let sources = Sources {
            file_was_named: true,
            file: self.0.path("config.toml"),
            env: Vec::new(),
            overrides: Vec::new(),
            home: self.0.path("main-home"),
            host_name: "main".to_owned(),
            replaced: None,
        };
        let config = load(&sources).unwrap().config;
        let services = Services::new(now, new_id);
        let mut main = crate::site::Site::open(config, Locking::Try, Access::Change, services).unwrap();
        let key = ssh_key::PublicKey::read_openssh_file(&self.0.path("main.pub")).unwrap();
        let found = chain::newest(&*self.0.objects, &key, None, None).unwrap();
        let head = if let Found::New(newest) = &found { Some(&newest.head) } else { None };
        main.take_uploads(Arc::clone(&self.0.objects), "01JCLUSTER", head).unwrap();
        let report = main.sync(&Run::default()).unwrap();
        let taken = main.settle_uploads().unwrap().unwrap();
        self.0.taken = taken.get("mds1").copied().unwrap_or(0);
        report
    }

    /// Main takes in what was uploaded, and publishes what it has then.
    fn publish(&mut self) -> crate::report::Report {
        let report = self.take_in();
        self.0.main.get_mut("rec").unwrap().clear();
        for entry in fs::read_dir(self.0.path("main-rec")).unwrap().flatten() {
            if entry.file_type().unwrap().is_file() {
                let (name, content) =
                    (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
                self.0.set("rec", &name, &content);
            }
        }
        self.0.0.publish();
        report
    }
}

#[test]
fn recordings_go_both_ways_and_deletions_stick() {
    let mut both = Both::new("");
    for name in ["m1.wav", "m2.wav", "m3.wav"] {
        both.set_main(name, name);
    }
    both.publish();
    both.0.follow();
    both.0.record("n1.wav", "of the node");
    both.0.record("n2.wav", "of the node too");
    both.0.follow();
    assert_eq!(both.0.standing().taken, 0);

    let report = both.publish();
    assert_eq!((report.exit_code(), both.0.taken), (0, 1), "{report:?}");
    let told: Vec<String> = report.changes.iter().map(|change| change.path.escaped()).collect();
    assert_eq!(told, ["n1.wav", "n2.wav"], "what goes to the node is told there");
    assert_eq!(both.main("n1.wav").as_deref(), Some("of the node"));
    both.0.follow();
    assert_eq!(both.0.standing().taken, 1);
    assert_eq!(both.0.has("rec/n1.wav").as_deref(), Some("of the node"));

    // Deleted on the node, and on Main.
    fs::remove_file(both.0.path("rec/n1.wav")).unwrap();
    fs::remove_file(both.0.path("main-rec/m1.wav")).unwrap();
    both.0.follow();
    both.publish();
    assert_eq!((both.main("n1.wav"), both.0.taken), (None, 2));
    both.0.follow();
    let files = |both: &Both| {
        both.0.files().keys().filter(|name| name.starts_with("rec")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(files(&both), ["rec/m2.wav", "rec/m3.wav", "rec/n2.wav"]);
    for _ in 0..2 {
        both.0.follow();
        let report = both.publish();
        assert!(report.changes.is_empty() && report.exit_code() == 0, "{report:?}");
    }
    assert_eq!(files(&both), ["rec/m2.wav", "rec/m3.wav", "rec/n2.wav"]);
    assert!(both.main("m1.wav").is_none() && both.main("n1.wav").is_none());
}

#[test]
fn a_change_that_the_node_did_not_know_of_is_a_conflict() {
    for (policy, main_wins) in [("", true), ("conflict = 'newer'\n", false)] {
        let mut both = Both::new(policy);
        both.set_main("a.wav", "both");
        both.set_main("b.wav", "both");
        both.publish();
        both.0.follow();
        both.0.copy("store", "old");
        both.set_main("a.wav", "main's");
        let own = fs::File::options().write(true).open(both.0.path("main-rec/a.wav")).unwrap();
        own.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        // Main publishes its change, and the node has not seen that when it makes its own.
        both.publish();
        both.0.record("a.wav", "node's");
        let mut away = both.0.follower();
        away.config.store.url = format!("file://{}", both.0.path("old").display());
        assert_eq!(both.0.pass_of(&away).exit_code, 0);
        both.0.copy("old/v1/nodes", "store/v1/");
        let report = both.publish();
        let winner = if main_wins { "main's" } else { "node's" };
        assert_eq!(both.main("a.wav").as_deref(), Some(winner), "{report:?}");
        both.0.follow();
        assert_eq!(both.0.has("rec/a.wav").as_deref(), Some(winner));
    }
}

#[test]
fn an_upload_that_its_node_has_not_signed_is_not_taken_in() {
    let mut both = Both::new("");
    both.set_main("m1.wav", "m1");
    both.publish();
    both.0.follow();
    both.0.record("n1.wav", "of the node");
    both.0.follow();
    let area = Area::node("mds1").unwrap();
    let good = both.0.objects.get(&area.upload(1), 1 << 20).unwrap().unwrap();
    let mut bad = good.clone();
    let end = bad.len() - 3;
    bad[end] ^= 1;
    both.0.objects.put(&area.upload(1), &bad).unwrap();
    let report = both.take_in();
    assert_eq!((report.exit_code(), both.0.taken, both.main("n1.wav")), (41, 0, None), "{report:?}");
    both.0.objects.put(&area.upload(1), &good).unwrap();
    both.take_in();
    assert_eq!((both.0.taken, both.main("n1.wav").is_some()), (1, true));
}

#[test]
fn what_is_recorded_once_more_after_main_has_deleted_it_is_new() {
    let mut both = Both::new("");
    both.set_main("m.wav", "m");
    both.set_main("o.wav", "o");
    both.publish();
    both.0.follow();
    both.0.record("one.wav", "the same");
    both.0.follow();
    both.publish();
    both.0.follow();
    fs::remove_file(both.0.path("main-rec/one.wav")).unwrap();
    both.publish();
    both.0.follow();
    assert_eq!(both.0.has("rec/one.wav"), None);
    // As somebody does who has it back from elsewhere.
    both.0.record("one.wav", "the same");
    both.0.follow();
    both.publish();
    both.0.follow();
    assert_eq!(both.main("one.wav").as_deref(), Some("the same"));
    assert_eq!(both.0.has("rec/one.wav").as_deref(), Some("the same"));
}

#[test]
fn what_was_taken_in_and_not_published_can_be_deleted_by_the_node() {
    let mut both = Both::new("");
    both.set_main("m.wav", "m");
    both.set_main("o.wav", "o");
    both.publish();
    both.0.follow();
    both.0.record("one.wav", "1");
    both.0.follow();
    both.take_in();
    assert_eq!(both.main("one.wav").as_deref(), Some("1"));
    fs::remove_file(both.0.path("rec/one.wav")).unwrap();
    both.0.follow();
    both.publish();
    both.0.follow();
    assert_eq!((both.main("one.wav"), both.0.has("rec/one.wav"), both.0.taken), (None, None, 2));
}
