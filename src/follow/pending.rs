//! Uploads of this node that no publication has yet. They are laid over what Main has published: what a node has told Main
//! counts as had by Main from then on, or the node would take it for deleted there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::durable::{self, Options, sealed};
use crate::model::{Entry, RelPathBuf, Tree};
use crate::store::names::Area;
use crate::store::tree::Parts;
use crate::store::upload::{self, Upload, UploadedChange};
use crate::store::{Created, Objects, Sha256, StoreError, envelope, objects};

/// Directory → path → what became of it.
pub(super) type Changes = BTreeMap<String, BTreeMap<RelPathBuf, UploadedChange>>;

/// An upload as it is kept on this host.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    upload: Upload,
    /// As it is signed. It is signed once: not every kind of key signs the same thing twice in the same way.
    signed: String,
    /// Whether it is in the store.
    is_sent: bool,
}

struct Kept {
    record: Record,
    changes: Changes,
    /// Where the contents are that it tells of.
    contents: Parts,
}

/// All of them, by number.
pub(super) struct Pending {
    dir: PathBuf,
    kept: BTreeMap<u64, Kept>,
}

const RECORD: &str = "json";
const OBJECT: &str = "changes";

impl Pending {
    pub(super) fn read(dir: &Path) -> anyhow::Result<Pending> {
        let dir = dir.join("pending");
        let mut kept = BTreeMap::new();
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Pending { dir, kept }),
            entries => entries.with_context(|| format!("cannot read {}", dir.display()))?,
        };
        for entry in entries {
            let path = entry.with_context(|| format!("cannot read {}", dir.display()))?.path();
            if path.extension().is_some_and(|is| is == RECORD) {
                let one = read_one(&dir, &path).with_context(|| {
                    // Without it, what it tells of would count as deleted on Main.
                    let above = dir.parent().unwrap_or(&dir).display();
                    format!(
                        "{} is damaged: move `pending` and `edges` in {above} away, both; the next run merges without them, and \
                         deletes nothing",
                        path.display()
                    )
                })?;
                kept.insert(one.record.upload.seq, one);
            }
        }
        Ok(Pending { dir, kept })
    }

    /// The number of the last one; 0: there is none.
    pub(super) fn last(&self) -> u64 {
        self.kept.keys().next_back().copied().unwrap_or(0)
    }

    /// Whether any of them tells of a directory.
    pub(super) fn has(&self, directory: &str) -> bool {
        self.kept.values().any(|kept| kept.changes.contains_key(directory))
    }

    /// A directory's tree as it will be once Main has taken all of them in.
    pub(super) fn laid_over(&self, directory: &str, tree: Tree) -> Tree {
        let mut now: BTreeMap<RelPathBuf, Option<Entry>> = BTreeMap::new();
        for changes in self.kept.values().filter_map(|kept| kept.changes.get(directory)) {
            now.extend(changes.iter().map(|(path, change)| (path.clone(), change.now.clone())));
        }
        if now.is_empty() { tree } else { tree.with(&now) }
    }

    /// Where the contents are that they tell of, in this node's area.
    pub(super) fn contents(&self) -> Parts {
        let mut all = Parts::default();
        self.kept.values().rev().for_each(|kept| all.extend(kept.contents.clone()));
        all
    }

    /// Main has taken in all up to this number: what a publication has tells what became of them. In a dry run they stay
    /// on this host's disk.
    pub(super) fn forget(&mut self, taken: u64, is_dry: bool) {
        let later = self.kept.split_off(&taken.saturating_add(1));
        let taken = std::mem::replace(&mut self.kept, later);
        for kept in taken.into_values().filter(|_| !is_dry) {
            // What is left of one is read again, and forgotten again.
            let _ = fs::remove_file(self.record_path(kept.record.upload.seq));
            self.remove_objects(&kept.record.upload);
        }
    }

    /// The number of the first upload that was sent and is not `there` any more, or was made for another store.
    pub(super) fn lost(&self, there: &BTreeSet<u64>, cluster: &str) -> Option<u64> {
        let mut kept = self.kept.iter();
        let is_lost = |record: &Record, seq: &u64| {
            record.upload.cluster != cluster || (record.is_sent && !there.contains(seq))
        };
        kept.find(|(seq, kept)| is_lost(&kept.record, seq)).map(|(seq, _)| *seq)
    }

    /// Whether any of them was made for another store than this.
    pub(super) fn is_of_another(&self, cluster: &str) -> bool {
        self.kept.values().any(|kept| kept.record.upload.cluster != cluster)
    }

    /// The directories that they tell of.
    pub(super) fn directories(&self) -> BTreeSet<String> {
        self.kept.values().flat_map(|kept| kept.changes.keys().cloned()).collect()
    }

    /// Takes none of them for sent.
    pub(super) fn send_again(&mut self) {
        self.kept.values_mut().for_each(|kept| kept.record.is_sent = false);
    }

    /// Forgets all of them, for good. The newest goes first: the oldest one, by which it is found out that they are lost, stays
    /// to the end.
    pub(super) fn drop_all(&mut self) -> anyhow::Result<()> {
        while let Some((seq, kept)) = self.kept.pop_last() {
            let path = self.record_path(seq);
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            self.remove_objects(&kept.record.upload);
        }
        Ok(())
    }

    /// Nothing reads one whose record is gone.
    fn remove_objects(&self, upload: &Upload) {
        for hash in upload.directories.iter().filter_map(|directory| directory.changes) {
            let _ = fs::remove_file(self.object_path(&hash));
        }
    }

    /// Keeps an upload, signed with `identity`, whose changes are in `encoded`, one for each of its directories. It is on disk
    /// when this returns.
    pub(super) fn put(
        &mut self,
        upload: Upload,
        identity: &Path,
        changes: Changes,
        encoded: &[(Vec<u8>, Parts)],
    ) -> anyhow::Result<()> {
        let signed = String::from_utf8(envelope::seal(identity, &upload)?).context("an upload is no text")?;
        durable::make_dir(&self.dir, 0o700).with_context(|| format!("cannot make {}", self.dir.display()))?;
        let mut contents = Parts::default();
        for (object, parts) in encoded {
            self.write(&self.object_path(&Sha256::of(object)), object)?;
            contents.extend(parts.clone());
        }
        let record = Record { upload, signed, is_sent: false };
        self.save(&record)?;
        self.kept.insert(record.upload.seq, Kept { record, changes, contents });
        Ok(())
    }

    /// Puts into the store what is not there yet, the oldest first. Returns the number of the last one that is there now.
    pub(super) fn send(&mut self, objects: &dyn Objects, area: &Area) -> Result<Option<u64>, StoreError> {
        let mut last = None;
        let unsent: Vec<u64> = self
            .kept
            .values()
            .filter(|kept| !kept.record.is_sent)
            .map(|kept| kept.record.upload.seq)
            .collect();
        for seq in unsent {
            let Some(kept) = self.kept.get(&seq) else { continue };
            let mut record = kept.record.clone();
            for hash in record.upload.directories.iter().filter_map(|directory| directory.changes) {
                let object = durable::read(&self.object_path(&hash)).map_err(|error| local(&error.into()))?;
                let object = object
                    .ok_or_else(|| StoreError::Local("a pending upload has lost its changes".to_owned()))?;
                objects.create(&area.object(&hash), &object)?;
            }
            let name = area.upload(seq);
            match objects::create_or_own(objects, &name, record.signed.as_bytes())? {
                Created::New => {}
                Created::There => {
                    return Err(StoreError::Tampered(format!(
                        "{name} is there already, and is not what this node has written: two nodes may have its name and key"
                    )));
                }
            }
            record.is_sent = true;
            self.save(&record).map_err(|error| local(&error))?;
            if let Some(kept) = self.kept.get_mut(&seq) {
                kept.record = record;
            }
            last = Some(seq);
        }
        Ok(last)
    }

    fn save(&self, record: &Record) -> anyhow::Result<()> {
        self.write(&self.record_path(record.upload.seq), &sealed::seal(record)?)
    }

    fn write(&self, path: &Path, content: &[u8]) -> anyhow::Result<()> {
        let options = Options { points: super::POINTS, ..Options::PRIVATE };
        durable::replace(path, content, options).with_context(|| format!("cannot write {}", path.display()))
    }

    fn record_path(&self, seq: u64) -> PathBuf {
        self.dir.join(format!("{seq:020}.{RECORD}"))
    }

    fn object_path(&self, hash: &Sha256) -> PathBuf {
        self.dir.join(format!("{hash}.{OBJECT}"))
    }
}

fn local(error: &anyhow::Error) -> StoreError {
    StoreError::Local(format!("{error:#}"))
}

fn read_one(dir: &Path, path: &Path) -> anyhow::Result<Kept> {
    let record: Record = sealed::open(&fs::read(path)?)?;
    let (mut changes, mut contents) = (Changes::new(), Parts::default());
    for directory in &record.upload.directories {
        let Some(hash) = directory.changes else { continue };
        let object = fs::read(dir.join(format!("{hash}.{OBJECT}")))?;
        ensure!(Sha256::of(&object) == hash, "its changes are not those that were written");
        let (listed, parts) = upload::decode(&object)?;
        contents.extend(parts);
        let listed = listed.into_iter().map(|change| (change.path.clone(), change));
        changes.insert(directory.name.clone(), listed.collect());
    }
    Ok(Kept { record, changes, contents })
}
