//! What a store may show to whoever asks for the newest publication.

use std::path::PathBuf;

use super::*;
use crate::store::FORMAT;
use crate::store::envelope::tests::Keys;
use crate::store::head::tests::head as sample;
use crate::store::objects::memory::Memory;
use crate::store::trust::Trust;

const TIME: &str = "2026-01-02T03:04:05Z";

/// A store in memory, and what a Main does to it.
struct Site {
    objects: Memory,
    keys: Keys,
    identity: PathBuf,
    public: PublicKey,
    /// The hash of the last head.
    last: Option<Sha256>,
}

impl Site {
    fn new() -> Site {
        let keys = Keys::new();
        let (identity, public) = keys.pair(1);
        Site { objects: Memory::default(), keys, identity, public, last: None }
    }

    fn claim(&self, epoch: u64, prev_seq: u64) {
        let lease = Lease {
            v: FORMAT,
            cluster: "01JCLUSTER".to_owned(),
            epoch,
            main: "main".to_owned(),
            main_id: "01J".to_owned(),
            time: TIME.to_owned(),
            prev_seq,
        };
        self.objects.put(&names::lease(epoch), &envelope::seal(&self.identity, &lease).unwrap()).unwrap();
    }

    fn publish(&mut self, epoch: u64, seq: u64) -> Sha256 {
        let head = Head { epoch, prev: self.last, ..sample(seq) };
        let object = envelope::seal(&self.identity, &head).unwrap();
        self.objects.put(&names::head(seq), &object).unwrap();
        let hash = Sha256::of(&object);
        self.last = Some(hash);
        hash
    }

    fn alive(&self, epoch: u64, seq: u64, head: Sha256) {
        let alive = Alive {
            v: FORMAT,
            cluster: "01JCLUSTER".to_owned(),
            epoch,
            seq,
            head,
            main: "main".to_owned(),
            issued: TIME.to_owned(),
            expires: TIME.to_owned(),
            released: false,
        };
        self.objects.put(&names::alive(epoch), &envelope::seal(&self.identity, &alive).unwrap()).unwrap();
    }

    fn newest(&self, seen: Option<&Seen>) -> Result<Found, StoreError> {
        newest(&self.objects, &self.public, seen, None)
    }

    fn new_one(&self, seen: Option<&Seen>) -> Newest {
        match self.newest(seen).unwrap() {
            Found::New(newest) => *newest,
            other => panic!("{other:?}"),
        }
    }

    fn refuses(&self, seen: Option<&Seen>, says: &str) {
        match self.newest(seen) {
            Err(StoreError::Tampered(why)) => assert!(why.contains(says), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}

fn seen(epoch: u64, seq: u64, head: Sha256) -> Seen {
    Seen { cluster: "01JCLUSTER".to_owned(), epoch, seq, head }
}

#[test]
fn the_newest_is_found_with_and_without_a_sign_of_life() {
    let mut site = Site::new();
    assert!(matches!(site.newest(None), Err(StoreError::Unreachable(_))));
    site.claim(1, 0);
    assert!(matches!(site.newest(None), Ok(Found::Empty(_))));
    let one = site.publish(1, 1);
    // Main was killed before it wrote a sign of life.
    assert_eq!(site.new_one(None).head.seq, 1);
    site.alive(1, 1, one);
    assert!(matches!(site.newest(Some(&seen(1, 1, one))), Ok(Found::Same(Some(_)))));
    let two = site.publish(1, 2);
    for before in [None, Some(&seen(1, 1, one))] {
        let newest = site.new_one(before);
        assert_eq!((newest.head.seq, newest.hash), (2, two));
    }
}

#[test]
fn nothing_that_was_seen_is_taken_back() {
    let mut site = Site::new();
    site.claim(1, 0);
    let one = site.publish(1, 1);
    site.alive(1, 1, one);
    let older: std::collections::BTreeMap<_, _> = site.objects.0.lock().unwrap().clone();
    let two = site.publish(1, 2);
    site.alive(1, 2, two);
    let both = seen(1, 2, two);
    assert!(matches!(site.newest(Some(&both)), Ok(Found::Same(_))));
    // The store as it was.
    let newer = std::mem::replace(&mut *site.objects.0.lock().unwrap(), older);
    site.refuses(Some(&both), "rollback");
    // The same number once more, with something else.
    site.last = Some(one);
    site.identity = site.keys.pair(1).0;
    let other = Head { reason: "rollback:1".to_owned(), prev: Some(one), ..sample(2) };
    let object = envelope::seal(&site.identity, &other).unwrap();
    site.objects.put(&names::head(2), &object).unwrap();
    site.alive(1, 2, Sha256::of(&object));
    site.refuses(Some(&both), "rollback");
    // An old sign of life alone only hides what came after.
    *site.objects.0.lock().unwrap() = newer;
    site.alive(1, 1, one);
    assert!(matches!(site.newest(Some(&both)), Ok(Found::Same(_))));
    site.refuses(Some(&Seen { cluster: "01JOTHER".to_owned(), ..both }), "another store");
}

#[test]
fn a_main_that_lost_its_lease_is_not_followed() {
    let mut site = Site::new();
    site.claim(1, 0);
    let one = site.publish(1, 1);
    site.alive(1, 1, one);
    site.claim(2, 1);
    // The first Main was paused in the middle, and goes on.
    let late = site.publish(1, 2);
    site.alive(1, 2, late);
    let newest = site.new_one(Some(&seen(1, 1, one)));
    assert_eq!((newest.head.seq, newest.lease.epoch), (1, 2), "its last one is skipped");
    let three = site.publish(2, 3);
    site.alive(2, 3, three);
    for before in [None, Some(&seen(1, 1, one)), Some(&seen(1, 2, late))] {
        assert_eq!(site.new_one(before).head.seq, 3);
    }
}

#[test]
fn what_names_something_else_than_its_place_is_refused() {
    let mut site = Site::new();
    site.claim(1, 0);
    let one = site.publish(1, 1);
    site.alive(1, 1, one);
    let copy = |from: &str, to: &str| {
        let object = site.objects.get(from, MAX_HEAD).unwrap().unwrap();
        site.objects.put(to, &object).unwrap();
    };
    copy(&names::head(1), &names::head(2));
    site.refuses(None, "is the publication 1");
    site.objects.delete(&names::head(2)).unwrap();
    copy(&names::lease(1), &names::lease(2));
    site.refuses(None, "is the lease 1");
    site.objects.delete(&names::lease(2)).unwrap();
    site.objects.delete(&names::head(1)).unwrap();
    site.refuses(None, "is not there");
}

#[test]
fn a_rotation_is_followed_and_a_stranger_is_not() {
    let mut site = Site::new();
    site.claim(1, 0);
    let (stranger, _) = site.keys.pair(9);
    let pinned = site.public.clone();
    let own = std::mem::replace(&mut site.identity, stranger);
    let one = site.publish(1, 1);
    site.alive(1, 1, one);
    site.refuses(None, "not known here");
    let (next, public) = site.keys.pair(2);
    for (n, key, signer) in [(1, &pinned, &own), (2, &public, &own)] {
        let key = key.to_openssh().unwrap();
        let trust = Trust { v: FORMAT, cluster: "01JCLUSTER".to_owned(), n, key, time: TIME.to_owned() };
        site.objects.put(&names::trust(n), &envelope::seal(signer, &trust).unwrap()).unwrap();
    }
    site.identity = next;
    let one = site.publish(1, 1);
    site.alive(1, 1, one);
    let newest = site.new_one(None);
    assert!(signing::same(&newest.key, &public));
}
