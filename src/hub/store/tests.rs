#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use ssh_key::PublicKey;

use super::*;
use crate::hub::Limits;
use crate::hub::tests::Hub;
use crate::model::{Digest, Entry, File, Meta, Owner, RelPathBuf, Tree};
use crate::store::envelope::tests::Keys;
use crate::store::head::tests::{directory, head};
use crate::store::lease::{Alive, Lease};
use crate::store::names::{self, Area};
use crate::store::objects::memory::Memory;
use crate::store::tree::Parts;
use crate::store::{
    Asker, FORMAT, MAX_PART, MAX_SMALL, MAX_UPLOAD, Sha256, StoreSpec, blobs, envelope, open_for_node, tree,
};

/// A hub that serves a store, in which Main has published for two nodes.
struct Site {
    objects: Arc<Memory>,
    keys: Keys,
    hub: Hub,
    last: Option<Sha256>,
}

impl Site {
    fn new(limits: Limits) -> Site {
        let (objects, keys) = (Arc::new(Memory::default()), Keys::new());
        let (main, public) = keys.pair(1);
        let main_key = main.with_extension("pub");
        std::fs::write(&main_key, public.to_openssh().unwrap()).unwrap();
        let member = |name: &str, seed: u8, label: &str| {
            let labels = vec![label.to_owned()];
            Member { name: name.to_owned(), key: keys.pair(seed).1, labels }
        };
        let members = vec![member("mds1", 2, "paris"), member("mds2", 3, "lyon")];
        let store = Store {
            objects: Arc::<Memory>::clone(&objects),
            keys: vec![main_key],
            members: Box::new(move || Some(members.clone())),
            state: keys.pair(1).0.with_file_name("state"),
            clock: SystemTime::now,
        };
        let hub = Hub::serving(limits, b"program".to_vec(), Some(store));
        let site = Site { objects, keys, hub, last: None };
        let lease = Lease {
            v: FORMAT,
            cluster: "01JCLUSTER".to_owned(),
            epoch: 1,
            main: "main".to_owned(),
            main_id: "01J".to_owned(),
            time: "2026-01-02T03:04:05Z".to_owned(),
            prev_seq: 0,
        };
        site.objects.put(&names::lease(1), &envelope::seal(&site.identity(1), &lease).unwrap()).unwrap();
        site
    }

    fn identity(&self, seed: u8) -> PathBuf {
        self.keys.pair(seed).0
    }

    /// Publishes one file for each label. Returns the objects of these files.
    fn publish(&mut self, seq: u64) -> [String; 2] {
        let mut stored = Vec::new();
        let directories = ["paris", "lyon"].map(|label| {
            let content = format!("for {label} in {seq}").into_bytes();
            let (part, bytes) = blobs::pack(&content);
            let object = Area::main().object(&Sha256::of(&bytes));
            self.objects.put(&object, &bytes).unwrap();
            stored.push(object);
            let digest = Digest(blake3::hash(&content).into());
            let meta = Meta { mode: 0o644, owner: Owner::default() };
            let file = File { size: content.len() as u64, mtime: 7, digest, meta };
            let tree: Tree =
                [(RelPathBuf::new(b"a".to_vec()).unwrap(), Entry::File(file))].into_iter().collect();
            let mut parts = Parts::default();
            parts.insert(digest, vec![part]);
            let encoded = tree::encode(&tree, &parts).unwrap();
            let tree = Sha256::of(&encoded);
            self.objects.put(&Area::main().object(&tree), &encoded).unwrap();
            let tree_len = encoded.len() as u64;
            let labels = vec![label.to_owned()];
            crate::store::head::HeadDirectory { labels, tree, tree_len, ..directory(label) }
        });
        let head = crate::store::head::Head { prev: self.last, directories: directories.into(), ..head(seq) };
        let object = envelope::seal(&self.identity(1), &head).unwrap();
        self.objects.put(&names::head(seq), &object).unwrap();
        let hash = Sha256::of(&object);
        self.last = Some(hash);
        let alive = Alive {
            v: FORMAT,
            cluster: "01JCLUSTER".to_owned(),
            epoch: 1,
            seq,
            head: hash,
            main: "main".to_owned(),
            issued: "2026-01-02T03:04:05Z".to_owned(),
            expires: "2026-01-03T03:04:05Z".to_owned(),
            released: false,
        };
        self.objects.put(&names::alive(1), &envelope::seal(&self.identity(1), &alive).unwrap()).unwrap();
        stored.try_into().unwrap()
    }

    /// The store as the node with this name sees it, that has this key.
    fn node(&self, name: &str, seed: u8) -> Arc<dyn Objects> {
        let spec = StoreSpec {
            url: format!("https://localhost:{}/store", self.hub.address.port()),
            ca: Some(self.hub.certificate()),
            ..StoreSpec::default()
        };
        let asker = Asker { name, identity: &self.identity(seed), clock: SystemTime::now };
        open_for_node(&spec, asker).unwrap()
    }
}

fn refuses<T: std::fmt::Debug>(result: Result<T, StoreError>, says: &str) {
    match result {
        Err(StoreError::Refused(why)) => assert!(why.contains(says), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_reads_what_is_for_it_and_nothing_else() {
    let mut site = Site::new(Limits::default());
    let [paris, lyon] = site.publish(1);
    let [mds1, mds2] = [site.node("mds1", 2), site.node("mds2", 3)];
    for (node, own, other) in [(&mds1, &paris, &lyon), (&mds2, &lyon, &paris)] {
        let seen = chain_of(&**node, &site.keys.pair(1).1);
        assert_eq!(seen, 1);
        assert_eq!(node.get(own, MAX_PART).unwrap(), site.objects.get(own, MAX_PART).unwrap());
        refuses(node.get(other, MAX_PART), "is not for this node");
        refuses(node.list(names::HEADS), "is not for this node");
        refuses(node.delete(own), "deletes nothing");
    }
    assert_eq!(mds1.list(names::LEASES).unwrap(), [names::lease(1)]);
    assert_eq!(mds1.get(&names::head(2), MAX_SMALL).unwrap(), None);
    refuses(site.node("mds1", 3).get(&names::head(1), MAX_SMALL), "not signed with the key");
    refuses(
        site.node("mds9", 2).get(&names::head(1), MAX_SMALL),
        "mds9 is not approved yet: run `xds-sync nodes approve mds9` on Main",
    );
    // What is published later can be read at once.
    let [paris, _] = site.publish(2);
    assert!(mds1.get(&paris, MAX_PART).unwrap().is_some());
    site.hub.end();
}

fn chain_of(objects: &dyn Objects, key: &PublicKey) -> u64 {
    match crate::store::chain::newest(objects, key, None).unwrap() {
        crate::store::chain::Found::New(newest) => newest.head.seq,
        other => panic!("{other:?}"),
    }
}

#[test]
fn several_objects_come_in_one_answer_to_who_may_read_each() {
    let mut site = Site::new(Limits::default());
    let [paris, lyon] = site.publish(1);
    let node = site.node("mds1", 2);
    let (alive, missing) = (names::alive(1), names::lease(2));
    let wanted = [(&*alive, MAX_SMALL), (&*missing, MAX_SMALL), (&*paris, MAX_PART)];
    let expected = [&alive, &missing, &paris].map(|name| site.objects.get(name, MAX_PART).unwrap());
    let before = site.hub.requests();
    assert_eq!(node.get_all(&wanted).unwrap(), expected);
    assert_eq!(site.hub.requests() - before, 1);
    refuses(node.get_all(&[(&*alive, MAX_SMALL), (&*lyon, MAX_PART)]), "is not for this node");
    refuses(node.get_all(&[(names::LEASES, MAX_SMALL)]), "is not for this node");
    refuses(node.get_all(&[(&*alive, MAX_SMALL); 65]), "expected at most 64 names");
    assert!(matches!(node.get_all(&[(&*alive, 3)]), Err(StoreError::Tampered(_))));
    site.hub.end();
}

#[test]
fn a_node_writes_below_its_own_name() {
    let site = Site::new(Limits::default());
    let node = site.node("mds1", 2);
    let (own, other) = (Area::node("mds1").unwrap(), Area::node("mds2").unwrap());
    assert_eq!(node.create(&own.upload(1), b"one").unwrap(), Created::New);
    assert_eq!(node.create(&own.upload(1), b"two").unwrap(), Created::There);
    assert_eq!(site.objects.get(&own.upload(1), 10).unwrap().unwrap(), b"one");
    for status in [&b"first"[..], b"second"] {
        node.put(&own.status(), status).unwrap();
        assert_eq!(site.objects.get(&own.status(), 10).unwrap().unwrap(), status);
    }
    let part = vec![7; 16 << 20];
    let name = own.object(&Sha256::of(&part));
    assert_eq!(node.create(&name, &part).unwrap(), Created::New);
    assert_eq!(node.get(&name, MAX_PART).unwrap().unwrap(), part);
    assert_eq!(node.list(&own.uploads()).unwrap(), [own.upload(1)]);
    refuses(node.create(&own.upload(2), &vec![0; MAX_UPLOAD as usize + 1]), "expected at most");
    refuses(node.put(&other.status(), b"x"), "is not for this node");
    refuses(node.put(&names::alive(1), b"x"), "is not for this node");
    refuses(node.create(&names::head(1), b"x"), "is not for this node");
    assert_eq!(site.objects.get(&names::head(1), 10).unwrap(), None);
    site.hub.end();
}

#[test]
fn who_waits_is_told_of_a_publication() {
    // Waiting takes no place of strangers, and none of a client's.
    let limits = Limits { connections: 2, per_client: 2, ..Limits::default() };
    let mut site = Site::new(limits);
    site.publish(1);
    let nodes = [("mds1", 2), ("mds2", 3), ("mds1", 2)].map(|(name, seed)| site.node(name, seed));
    assert!(nodes[0].can_wait());
    assert!(nodes[0].wait((0, 0), Duration::from_secs(60)).unwrap(), "it has missed one");
    assert!(!nodes[0].wait((1, 1), Duration::ZERO).unwrap());
    thread::scope(|scope| {
        let (told, is_told) = mpsc::channel();
        for node in &nodes {
            let told = told.clone();
            scope.spawn(move || told.send(node.wait((1, 1), Duration::from_secs(60)).unwrap()).unwrap());
        }
        // All of them are asked for while three wait.
        assert_eq!(site.node("mds1", 2).get(&names::head(2), MAX_SMALL).unwrap(), None);
        site.publish(2);
        for _ in &nodes {
            assert!(is_told.recv().unwrap());
        }
    });
    site.hub.end();
}

#[test]
fn nodes_beyond_the_most_are_told_to_come_again() {
    let mut site = Site::new(Limits { members: 0, ..Limits::default() });
    site.publish(1);
    match site.node("mds1", 2).get(&names::head(1), MAX_SMALL) {
        Err(StoreError::Unreachable(why)) => assert!(why.contains("try again soon"), "{why}"),
        other => panic!("{other:?}"),
    }
    site.hub.end();
}

#[test]
fn anybody_may_hand_in_a_key_and_what_is_kept_has_bounds() {
    let site = Site::new(Limits::default());
    let post = |name: &str, body: &[u8]| {
        let url = format!("https://localhost:{}/store/v1/waiting/{name}", site.hub.address.port());
        let trust = crate::fetch::Trust::File(site.hub.certificate());
        let (status, said) =
            crate::fetch::post(&url.parse().unwrap(), body.to_vec(), &trust, crate::fetch::SMALL).unwrap();
        (status.as_u16(), String::from_utf8(said).unwrap())
    };
    let text = |seed: u8| site.keys.pair(seed).1.to_openssh().unwrap();
    let waits = |names: &[&str]| {
        let state = site.identity(1).with_file_name("state");
        let (waiting, strange) = crate::enroll::waiting::waiting(&state, SystemTime::now()).unwrap();
        assert_eq!(
            (waiting.iter().map(|one| &*one.name).collect::<Vec<_>>(), strange.len()),
            (names.to_vec(), 0)
        );
    };
    // Those that Main has already need not wait.
    assert_eq!(post("mds1", text(2).as_bytes()), (200, "approved\n".to_owned()));
    assert_eq!(post("mds1", text(3).as_bytes()).0, 409);
    waits(&[]);
    assert_eq!(post("mds3", text(4).as_bytes()), (201, "waits\n".to_owned()));
    assert_eq!(post("mds3", text(4).as_bytes()), (200, "waits\n".to_owned()));
    assert_eq!(post("mds3", text(5).as_bytes()).0, 409);
    for (name, body) in [("-x", text(5).into_bytes()), ("mds4", vec![b'a'; 4096]), ("mds4", b"key".to_vec())]
    {
        assert_eq!(post(name, &body).0, 400, "{name}");
    }
    assert_eq!(post("%2e%2e%2fmds4", text(5).as_bytes()).0, 400);
    waits(&["mds3"]);
    let full =
        (0..20).map(|number| post(&format!("n{number}"), text(6).as_bytes()).0).filter(|code| *code == 503);
    assert!(full.count() > 10, "one client has not all places");
    site.hub.end();
}
