//! Main at its store, with a clock of the test's own, and with a second Main in between.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::envelope::tests::Keys;
use super::group::HeadNode;
use super::head::tests::directory;
use super::holder::{Holder, Record};
use super::objects::memory::Memory;
use super::publish::{self, Outcome, Published, SourceFn};
use super::*;
use crate::model::{Digest, Entry, File, Meta, Owner, RelPathBuf, Tree};
use crate::transfer::{BlobRequest, Sink, Source};

/// Gives one content for everything.
struct Text(&'static str);

impl Source for Text {
    fn send(&mut self, requests: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        for index in 0..requests.len() {
            sink.begin(index)?;
            sink.data(self.0.as_bytes())?;
            sink.end(Ok(()))?;
        }
        Ok(())
    }
}

/// What somebody does once a name that begins so is about to be written.
type Act = (&'static str, Box<dyn FnOnce() + Send>);

/// A store that lets somebody act just before an object whose name begins so is created.
struct Interrupted {
    objects: Arc<Memory>,
    before: Mutex<Option<Act>>,
}

impl Interrupted {
    fn interrupt(&self, name: &str) {
        let mut before = self.before.lock().unwrap();
        if before.as_ref().is_some_and(|(prefix, _)| name.starts_with(prefix)) {
            let (_, act) = before.take().unwrap();
            act();
        }
    }
}

impl Objects for Interrupted {
    fn get(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.objects.get(name, limit)
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<Created, StoreError> {
        self.interrupt(name);
        self.objects.create(name, bytes)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.interrupt(name);
        self.objects.put(name, bytes)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.objects.list(prefix)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.objects.delete(name)
    }

    fn place(&self) -> &str {
        "a store"
    }
}

struct Clock(Arc<AtomicU64>);

impl Clock {
    fn new() -> Clock {
        Clock(Arc::new(AtomicU64::new(1_800_000_000)))
    }

    fn pass(&self, hours: u64) {
        self.0.fetch_add(hours * 3600, Ordering::Relaxed);
    }
}

fn holder(objects: Arc<dyn Objects>, name: &str, identity: PathBuf, clock: &Clock) -> Holder {
    let seconds = Arc::clone(&clock.0);
    Holder {
        objects,
        name: name.to_owned(),
        id: format!("id of {name}"),
        previous: identity.with_extension("old"),
        identity,
        now: Arc::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.load(Ordering::Relaxed))),
    }
}

/// Publishes a directory with one file.
fn publish(holder: &Holder, record: &Record, text: &'static str) -> Result<Outcome, StoreError> {
    let standing = holder.standing(Some(record))?;
    let trees = publish::last_trees(holder, &standing)?;
    let meta = Meta { mode: 0o644, owner: Owner::default() };
    let digest = Digest(blake3::hash(text.as_bytes()).into());
    let file = File { size: text.len() as u64, mtime: 1, digest, meta };
    let path = RelPathBuf::new(b"a.wav".to_vec()).unwrap();
    let tree: Tree = [(path, Entry::File(file))].into_iter().collect();
    let source: SourceFn = Arc::new(move || Box::new(Text(text)));
    let directory = Published { settings: directory("moh"), found: Some((Arc::new(tree), source)) };
    publish::publish(holder, standing, &[], vec![directory], &trees)
}

#[test]
fn a_main_that_is_paused_anywhere_in_a_publication_is_fenced() {
    for at in ["v1/o/", "v1/heads/", "v1/alive/"] {
        let keys = Keys::new();
        let (identity, public) = keys.pair(1);
        let clock = Clock::new();
        let memory = Arc::new(Memory::default());
        let other = holder(Arc::<Memory>::clone(&memory), "other", identity.clone(), &clock);
        let objects = Arc::new(Interrupted { objects: Arc::clone(&memory), before: Mutex::new(None) });
        let main = holder(Arc::<Interrupted>::clone(&objects), "main", identity, &clock);
        let record = main.init("01JCLUSTER", None).unwrap();
        let first = publish(&main, &record, "one").unwrap();
        let act = move || {
            let record = other.claim(None, Some("main")).unwrap();
            publish(&other, &record, "other").unwrap();
        };
        *objects.before.lock().unwrap() = Some((at, Box::new(act)));
        let ended = publish(&main, &first.record, "two");
        // Whose sign of life comes late has published, and nobody follows it.
        if at != "v1/alive/" {
            assert!(
                matches!(&ended, Err(StoreError::Held { holder, .. }) if holder == "other"),
                "{at}: {ended:?}"
            );
        }
        let again = publish(&main, &first.record, "three");
        assert!(
            matches!(&again, Err(StoreError::Held { holder, .. }) if holder == "other"),
            "{at}: {again:?}"
        );
        let chain::Found::New(newest) = chain::newest(&*memory, &public, None, None).unwrap() else {
            panic!("{at}")
        };
        assert_eq!((&*newest.head.main, newest.lease.epoch), ("other", 2), "{at}");
        assert_eq!(verify::verify(&*memory, &[]).unwrap().wrong, Vec::<String>::new(), "{at}");
    }
}

#[test]
fn what_nobody_needs_goes_after_a_day_and_is_looked_at_again() {
    let keys = Keys::new();
    let (identity, _) = keys.pair(1);
    let clock = Clock::new();
    let memory = Arc::new(Memory::default());
    let main = holder(Arc::<Memory>::clone(&memory), "main", identity, &clock);
    let mut record = main.init("01JCLUSTER", None).unwrap();
    record = publish(&main, &record, "one").unwrap().record;
    let collect = |record: &Record| gc::collect(&main, &main.standing(Some(record)).unwrap()).unwrap();
    // What a killed publisher leaves: one part that will be needed, and one that will not.
    for text in ["two", "never"] {
        let (tree::Part::Stored { object, .. }, bytes) = blobs::pack(text.as_bytes()) else { panic!() };
        blobs::put_object(&*memory, &object, &bytes).unwrap();
    }
    let collected = collect(&record);
    assert_eq!((collected.condemned, collected.deleted), (2, 0));
    clock.pass(23);
    let collected = collect(&record);
    assert_eq!((collected.condemned, collected.deleted), (0, 0));
    record = publish(&main, &record, "two").unwrap().record;
    clock.pass(2);
    let collected = collect(&record);
    assert_eq!((collected.condemned, collected.deleted), (0, 1));
    assert_eq!(verify::verify(&*memory, &[]).unwrap().wrong, Vec::<String>::new());
    // Of many publications the last ten stay, and those of the last seven days.
    for text in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"] {
        record = publish(&main, &record, text).unwrap().record;
    }
    assert_eq!((collect(&record).heads, collect(&record).condemned), (14, 0));
    clock.pass(8 * 24);
    let collected = collect(&record);
    // A head, its tree and its part; four times.
    assert_eq!((collected.heads, collected.condemned), (10, 12));
    clock.pass(25);
    assert_eq!(collect(&record).deleted, 12);
    assert_eq!(verify::verify(&*memory, &[]).unwrap().wrong, Vec::<String>::new());
    record = publish(&main, &record, "m").unwrap().record;
    assert_eq!(record.seq, 15);
}

#[test]
fn a_rotation_of_the_key_makes_a_publication_that_the_new_key_signs() {
    let keys = Keys::new();
    let [(old, first), (new, second)] = [1, 2].map(|seed| keys.pair(seed));
    let clock = Clock::new();
    let memory = Arc::new(Memory::default());
    let main = holder(Arc::<Memory>::clone(&memory), "main", old.clone(), &clock);
    let record = main.init("01JCLUSTER", None).unwrap();
    let record = publish(&main, &record, "one").unwrap().record;
    main.hand_over_key(&new).unwrap();
    main.hand_over_key(&new).unwrap();
    let main = holder(Arc::<Memory>::clone(&memory), "main", new, &clock);
    let published = publish(&main, &record, "one").unwrap();
    assert!(published.is_new && published.warnings.is_empty(), "{published:?}");
    assert!(!publish(&main, &published.record, "one").unwrap().is_new);
    for pinned in [&first, &second] {
        let chain::Found::New(newest) = chain::newest(&*memory, pinned, None, None).unwrap() else {
            panic!()
        };
        assert_eq!(newest.head.seq, 2);
        assert!(crate::signing::same(&newest.key, &second));
    }
    // The old key publishes nothing any more that whoever has seen the new one follows.
    let thief = holder(Arc::<Memory>::clone(&memory), "main", old, &clock);
    let stolen = publish(&thief, &published.record, "stolen");
    assert!(stolen.is_err() || chain::newest(&*memory, &second, None, None).is_err());
}

fn nodes(count: usize) -> Vec<HeadNode> {
    let node = |number: usize| HeadNode {
        name: format!("mds{number}"),
        key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ".to_owned(),
        labels: vec!["paris".to_owned()],
        paths: [("moh".to_owned(), "/srv/moh".to_owned())].into(),
        taken: 1,
    };
    (1..=count).map(node).collect()
}

#[test]
fn a_publication_for_ten_thousand_nodes_is_as_large_as_what_is_new_of_them() {
    let (memory, keys, clock) = (Arc::new(Memory::default()), Keys::new(), Clock::new());
    let main = holder(Arc::<Memory>::clone(&memory), "main", keys.pair(1).0, &clock);
    let record = main.init("01JCLUSTER", None).unwrap();
    // Objects that it makes, and whether it is a new one.
    let made = |nodes: &[HeadNode]| {
        let before: BTreeSet<String> = memory.0.lock().unwrap().keys().cloned().collect();
        let (standing, trees) = (main.standing(Some(&record)).unwrap(), BTreeMap::new());
        let done =
            publish::publish(&main, standing, &group::pack(nodes).unwrap(), Vec::new(), &trees).unwrap();
        let after = memory.0.lock().unwrap();
        let new: Vec<&String> = after.keys().filter(|name| !before.contains(*name)).collect();
        let objects = new.iter().filter(|name| name.starts_with(names::OBJECTS)).count();
        (objects, new.len() - objects, done.is_new)
    };
    let mut all = nodes(10_000);
    assert_eq!(made(&all), (128, 2, true), "its groups, the head and the sign of life");
    assert_eq!(made(&all), (0, 0, false));
    all[4711].taken += 1;
    assert_eq!(made(&all), (1, 1, true));
    all.push(nodes(10_001).pop().unwrap());
    assert_eq!(made(&all), (1, 1, true));
    all.reverse();
    assert_eq!(made(&all), (0, 0, false));
    let (head, _) = main.standing(Some(&record)).unwrap().head.unwrap();
    let longest = memory.get(&names::head(head.seq), MAX_HEAD).unwrap().unwrap().len();
    assert!(longest < 32 << 10, "the head has {longest} bytes");
    let verified = verify::verify(&*memory, &[main.own_key().unwrap()]).unwrap();
    assert_eq!(verified.wrong, Vec::<String>::new());
    let collected = gc::collect(&main, &main.standing(Some(&record)).unwrap()).unwrap();
    assert_eq!(collected.condemned, 0, "what older publications name stays as long as they do");
}

#[test]
fn a_group_that_is_missing_or_another_one_is_named_and_nothing_is_published() {
    let (memory, keys, clock) = (Arc::new(Memory::default()), Keys::new(), Clock::new());
    let main = holder(Arc::<Memory>::clone(&memory), "main", keys.pair(1).0, &clock);
    let record = main.init("01JCLUSTER", None).unwrap();
    let standing = main.standing(Some(&record)).unwrap();
    publish::publish(&main, standing, &group::pack(&nodes(3)).unwrap(), Vec::new(), &BTreeMap::new())
        .unwrap();
    let (head, _) = main.standing(Some(&record)).unwrap().head.unwrap();
    let name = head.groups[0].name();
    let good = memory.get(&name, 1 << 20).unwrap().unwrap();
    let read = || group::read_all(&*memory, &head.groups);
    assert_eq!(read().unwrap().len(), 3);
    let mut flipped = good.clone();
    flipped[7] ^= 1;
    for bad in [None, Some(flipped), Some([good.clone(), good.clone()].concat()), Some(good[1..].to_vec())] {
        memory.delete(&name).unwrap();
        if let Some(bad) = &bad {
            memory.put(&name, bad).unwrap();
        }
        assert!(matches!(read(), Err(StoreError::Tampered(_))), "{bad:?}");
        let verified = verify::verify(&*memory, &[main.own_key().unwrap()]).unwrap();
        assert!(verified.wrong.iter().any(|wrong| wrong.contains(&name[10..])), "{:?}", verified.wrong);
    }
}
