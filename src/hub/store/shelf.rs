//! What the store has, as far as the hub must know it: the newest publication, and whose objects are whose.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ssh_key::PublicKey;

use super::members::Member;
use crate::store::chain::{self, Found, Seen};
use crate::store::{Objects, Sha256, StoreError, blobs, names::Area, tree};

/// How often the store is asked whether there is a newer publication, however many wait for one.
pub(super) const LOOK: Duration = Duration::from_millis(500);
/// Publications whose objects may be read: a node that reads one goes on while the next ones are made.
const KEPT: usize = 3;

/// Epoch and number of a publication; zeros before the first.
pub(super) type Number = (u64, u64);

pub(super) struct Shelf {
    objects: Arc<dyn Objects>,
    /// Files with Main's public key; the first that can be read is believed.
    keys: Vec<PathBuf>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    looked: Option<SystemTime>,
    seen: Option<Seen>,
    /// The newest last.
    publications: Vec<Vec<Directory>>,
}

/// A directory of a publication.
struct Directory {
    labels: Vec<String>,
    objects: HashSet<Sha256>,
}

impl Shelf {
    pub(super) fn new(objects: Arc<dyn Objects>, keys: Vec<PathBuf>) -> Shelf {
        Shelf { objects, keys, known: Mutex::default() }
    }

    /// The newest publication, as it was known half a second ago at most.
    pub(super) fn newest(&self, now: SystemTime) -> Result<Number, StoreError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.look(&mut known, now)?;
        Ok(known.seen.as_ref().map_or((0, 0), |seen| (seen.epoch, seen.seq)))
    }

    /// Whether one of Main's objects is of a directory that this node is to have.
    pub(super) fn may_read(
        &self,
        member: &Member,
        object: &Sha256,
        now: SystemTime,
    ) -> Result<bool, StoreError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.has(member, object) {
            return Ok(true);
        }
        self.look(&mut known, now)?;
        Ok(known.has(member, object))
    }

    fn look(&self, known: &mut Known, now: SystemTime) -> Result<(), StoreError> {
        if known.looked.is_some_and(|last| now.duration_since(last).is_ok_and(|age| age < LOOK)) {
            return Ok(());
        }
        let key = self.keys.iter().find_map(|path| public_key(path));
        let key = key.ok_or_else(|| {
            StoreError::Local("Main's public key cannot be read here: run `xds-sync init`".to_owned())
        })?;
        if let Found::New(newest) = chain::newest(&*self.objects, &key, known.seen.as_ref())? {
            let directories = newest.head.directories.iter().map(|directory| {
                let objects = self.objects_of(&directory.tree, directory.tree_len)?;
                Ok(Directory { labels: directory.labels.clone(), objects })
            });
            let directories = directories.collect::<Result<Vec<Directory>, StoreError>>()?;
            known.publications.push(directories);
            let old = known.publications.len().saturating_sub(KEPT);
            known.publications.drain(..old);
            let (head, hash) = (newest.head, newest.hash);
            let epoch = newest.lease.epoch;
            known.seen = Some(Seen { cluster: head.cluster, epoch, seq: head.seq, head: hash });
        }
        known.looked = Some(now);
        Ok(())
    }

    /// A tree, and all that it names.
    fn objects_of(&self, hash: &Sha256, length: u64) -> Result<HashSet<Sha256>, StoreError> {
        let object = blobs::get_object(&*self.objects, &Area::main(), hash, length)?;
        let gone = || StoreError::Unreachable(format!("the tree {hash} is not in the store yet"));
        let stored = tree::decode(&object.ok_or_else(gone)?)?;
        Ok(stored.parts.objects().chain([*hash]).collect())
    }
}

impl Known {
    fn has(&self, member: &Member, object: &Sha256) -> bool {
        let is_for =
            |labels: &[String]| labels.is_empty() || labels.iter().any(|label| member.labels.contains(label));
        let mut directories = self.publications.iter().flatten();
        directories.any(|directory| is_for(&directory.labels) && directory.objects.contains(object))
    }
}

fn public_key(path: &Path) -> Option<PublicKey> {
    let text = std::fs::read_to_string(path).ok()?;
    PublicKey::from_openssh(text.trim()).ok()
}
