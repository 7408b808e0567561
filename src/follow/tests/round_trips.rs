//! What a pass asks a store for.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::{Site, now};
use crate::follow::Follower;
use crate::follow::passed::Outcome;
use crate::hub;
use crate::hub::tests::Hub;
use crate::store::chain::{self, Found};
use crate::store::group::Group;
use crate::store::names::{self, Area};
use crate::store::{Asker, Created, Objects, StoreError, StoreSpec, open_for_node};

/// What a store was asked for, in order; what was asked for together is one of it.
type Asks = Arc<Mutex<Vec<String>>>;

/// A store that tells what it is asked for.
struct Telling(Arc<dyn Objects>, Asks);

impl Telling {
    fn asked(&self, what: String) -> &dyn Objects {
        self.1.lock().unwrap().push(what);
        &*self.0
    }
}

impl Objects for Telling {
    fn get(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.asked(name.to_owned()).get(name, limit)
    }

    fn get_all(&self, wanted: &[(&str, u64)]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let names: Vec<&str> = wanted.iter().map(|(name, _)| *name).collect();
        self.asked(names.join(" ")).get_all(wanted)
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<Created, StoreError> {
        self.asked(name.to_owned()).create(name, bytes)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.asked(name.to_owned()).put(name, bytes)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.asked(prefix.to_owned()).list(prefix)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.asked(name.to_owned()).delete(name)
    }

    fn place(&self) -> &str {
        self.0.place()
    }
}

#[test]
fn nothing_new_is_one_round_trip_and_no_tree_is_read_for_it() {
    let mut site = Site::new();
    site.set("rec", "r.wav", b"recorded");
    site.publish();
    let asks = Asks::default();
    let mut follower = site.follower();
    let told = Arc::clone(&asks);
    follower.machine.open = Arc::new(move |spec: &StoreSpec, asker: Asker<'_>| {
        let store = open_for_node(spec, asker)?;
        Ok(Arc::new(Telling(store, Arc::clone(&told))))
    });
    let pass = |follower: &Follower| {
        let passed = site.pass_of(follower);
        assert_eq!((passed.exit_code, &passed.outcome), (0, &Outcome::Current), "{:?}", passed.report);
        std::mem::take(&mut *asks.lock().unwrap())
    };
    let first = pass(&follower);
    assert!(first.len() > 5, "{first:?}");
    let news = [names::alive(1), names::lease(2), names::head(2)].join(" ");
    assert_eq!(pass(&follower), std::slice::from_ref(&news));

    // Trees that are kept are not read, or this would be noticed.
    let trees: Vec<_> = fs::read_dir(site.path("state/follow/trees")).unwrap().flatten().collect();
    assert_eq!(trees.len(), 4, "two trees, and what is known of each");
    let is_tree = |path: &std::path::Path| path.extension().is_none();
    for tree in trees.iter().map(fs::DirEntry::path).filter(|path| is_tree(path)) {
        fs::write(tree, "damaged").unwrap();
    }
    assert_eq!(pass(&follower), std::slice::from_ref(&news));

    // Where this node has drifted, they are needed after all; a damaged one is fetched again.
    fs::remove_file(site.path("moh/a.wav")).unwrap();
    let again = pass(&follower);
    assert_eq!((again[0] == news, again.len()), (true, 3), "a tree and a content: {again:?}");
    assert_eq!(site.has("moh/a.wav").as_deref(), Some("one"));
    assert_eq!(pass(&follower), std::slice::from_ref(&news));

    // Main is told all the same that this node lives.
    follower.machine.now = || SystemTime::now() + Duration::from_secs(301);
    assert_eq!(pass(&follower), [news, Area::node("mds1").unwrap().status()]);
}

#[test]
fn what_a_node_keeps_does_not_depend_on_how_many_follow_and_a_publication_is_read_once() {
    let kept = |others: usize| {
        let mut site = Site::new();
        site.others = others;
        site.publish();
        site.follow();
        let asks = Asks::default();
        let mut follower = site.follower();
        let told = Arc::clone(&asks);
        follower.machine.open = Arc::new(move |spec: &StoreSpec, asker: Asker<'_>| {
            Ok(Arc::new(Telling(open_for_node(spec, asker)?, Arc::clone(&told))))
        });
        site.set("moh", "b.wav", b"two");
        site.publish();
        assert_eq!(site.pass_of(&follower).exit_code, 0);
        let read = asks.lock().unwrap().iter().filter(|asked| asked.contains(&names::head(2))).count();
        assert_eq!(read, 1, "{asks:?}");
        let trusted = fs::read_to_string(site.path("state/follow/trusted.json")).unwrap();
        assert!(trusted.contains("\"mds1\"") && !trusted.contains("other1"), "{trusted}");
        trusted.len()
    };
    // But for the digits of its group's length.
    assert!(kept(0).abs_diff(kept(300)) < 4);
}

#[test]
fn of_ten_thousand_nodes_each_reads_its_own_group_and_only_when_that_has_changed() {
    let mut site = Site::new();
    site.others = 10_000;
    site.publish();
    let asks = Asks::default();
    let mut follower = site.follower();
    let told = Arc::clone(&asks);
    follower.machine.open = Arc::new(move |spec: &StoreSpec, asker: Asker<'_>| {
        Ok(Arc::new(Telling(open_for_node(spec, asker)?, Arc::clone(&told))))
    });
    let pass = |site: &Site| {
        let passed = site.pass_of(&follower);
        assert_eq!((passed.exit_code, &passed.outcome), (0, &Outcome::Current), "{:?}", passed.report);
        std::mem::take(&mut *asks.lock().unwrap())
    };
    let groups = |site: &Site| {
        let key = ssh_key::PublicKey::read_openssh_file(&site.path("main.pub")).unwrap();
        let Found::New(newest) = chain::newest(&*site.objects, &key, None, None).unwrap() else { panic!() };
        (newest.head.group_of("mds1").unwrap().name(), newest.head.groups)
    };
    let (own, all) = groups(&site);
    assert_eq!(all.len(), 128);
    // Together with the next publication, if there is one.
    let with_group = |asks: &[String], own: &str, next: u64| {
        let found: Vec<String> = asks.iter().filter(|asked| asked.contains(own)).cloned().collect();
        assert_eq!(found, [format!("{} {own}", names::head(next))]);
        let is_other =
            |group: &Group| group.name() != own && asks.iter().any(|asked| asked.contains(&group.name()));
        assert!(!all.iter().any(is_other), "{asks:?}");
    };
    with_group(&pass(&site), &own, 2);
    assert_eq!(pass(&site), [[names::alive(1), names::lease(2), names::head(2)].join(" ")]);

    // A file has changed, and no node.
    site.set("moh", "a.wav", b"two");
    site.publish();
    let asked = pass(&site);
    assert!(!asked.iter().any(|asked| asked.contains(&own)), "{asked:?}");
    let requests = asked.len();
    // A node has.
    site.taken = 1;
    site.set("moh", "a.wav", b"three");
    site.publish();
    let (changed, _) = groups(&site);
    assert_ne!(changed, own);
    let asked = pass(&site);
    with_group(&asked, &changed, 4);
    assert_eq!(
        (asked.len(), site.standing().taken),
        (requests, 1),
        "it costs no round trip of its own: {asked:?}"
    );
}

#[test]
fn a_node_that_has_another_name_now_finds_itself_in_the_publication_that_it_has_seen() {
    let mut site = Site::new();
    site.others = 1;
    site.publish();
    site.follow();
    let mut follower = site.follower();
    follower.config.name = "other1".to_owned();
    let is_known = |follower: &Follower| {
        let passed = site.pass_of(follower);
        assert_eq!(passed.exit_code, 0, "{:?}", passed.report);
        !passed.report.problems.iter().any(|problem| problem.detail.contains("main does not know"))
    };
    assert!(is_known(&follower));
    assert!(is_known(&follower), "it is kept");
    follower.config.name = "nobody".to_owned();
    assert!(!is_known(&follower));
}

#[test]
fn nothing_new_is_one_request_to_a_hub() {
    let mut site = Site::new();
    site.publish();
    let key = ssh_key::PublicKey::read_openssh_file(&site.path("node.pub")).unwrap();
    let store = hub::Store {
        objects: Arc::clone(&site.objects),
        keys: vec![site.path("main.pub")],
        members: Box::new(move || {
            Some(vec![hub::Member { name: "mds1".to_owned(), key: key.clone(), labels: Vec::new() }])
        }),
        state: site.path("hub"),
        clock: now,
    };
    let hub = Hub::serving(hub::Limits::default(), Vec::new(), Some(store));
    let mut follower = site.follower();
    follower.config.store.url = format!("https://localhost:{}/store", hub.address.port());
    follower.config.store.ca = Some(hub.certificate());
    for _ in 0..2 {
        let passed = site.pass_of(&follower);
        assert_eq!((passed.exit_code, &passed.outcome), (0, &Outcome::Current), "{:?}", passed.report);
    }
    let before = hub.requests();
    assert_eq!(site.pass_of(&follower).exit_code, 0);
    assert_eq!(hub.requests() - before, 1);
    hub.end();
}
