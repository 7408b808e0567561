//! Uploads of this node that no publication has yet. They are laid over what Main has published: what a node has told Main
//! counts as had by Main from then on, or the node would take it for deleted there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use ssh_key::PrivateKey;

use crate::durable::{self, Options, sealed};
use crate::model::{Entry, RelPathBuf, Tree};
use crate::store::names::Area;
use crate::store::tree::Parts;
use crate::store::upload::{self, Upload, UploadedChange};
use crate::store::{Created, MAX_UPLOAD, Objects, Sha256, StoreError, envelope, objects};

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

/// Where uploads are put, and by whom.
pub(super) struct SendTo<'a> {
    pub(super) objects: &'a dyn Objects,
    pub(super) area: &'a Area,
    /// This node's name, and what it signs with.
    pub(super) node: &'a str,
    pub(super) identity: &'a Path,
    /// The last upload that Main has taken in.
    pub(super) taken: u64,
}

/// What came of sending.
#[derive(Default)]
pub(super) struct Sent {
    /// The number of the last one that was put into the store.
    pub(super) last: Option<u64>,
    /// A number that was another upload's there.
    pub(super) foreign: Option<u64>,
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

    /// Main has taken in all up to this number: what a publication has tells what became of them. One that was never sent
    /// is none of those: it was another node's. In a dry run they stay on this host's disk.
    pub(super) fn forget(&mut self, taken: u64, is_dry: bool) {
        let is_taken = |seq: &u64, kept: &Kept| *seq <= taken && kept.record.is_sent;
        let (taken, later) =
            std::mem::take(&mut self.kept).into_iter().partition(|(seq, kept)| is_taken(seq, kept));
        self.kept = later;
        let taken: BTreeMap<u64, Kept> = taken;
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
        let used = self.kept.values().flat_map(|kept| &kept.record.upload.directories);
        let used: BTreeSet<Sha256> = used.filter_map(|directory| directory.changes).collect();
        for hash in upload.directories.iter().filter_map(|directory| directory.changes) {
            if !used.contains(&hash) {
                let _ = fs::remove_file(self.object_path(&hash));
            }
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

    /// Puts into the store what is not there yet, the oldest first. One whose number is another upload's there gets the next
    /// that is free, and so do those after it: what is recorded is not lost where two nodes have one name and key.
    pub(super) fn send(&mut self, to: &SendTo<'_>) -> Result<Sent, StoreError> {
        let mut sent = Sent::default();
        if let Some(outdated) = self.outdated(to)? {
            self.renumber(outdated, to)?;
        }
        loop {
            match self.send_in_order(to, &mut sent)? {
                None => return Ok(sent),
                Some(foreign) if sent.foreign.is_none() => {
                    self.renumber(foreign, to)?;
                    sent.foreign = Some(foreign);
                }
                // Somebody is quicker each time: the next pass goes on.
                Some(_) => return Ok(sent),
            }
        }
    }

    /// Returns the number that is another upload's, if one is.
    fn send_in_order(&mut self, to: &SendTo<'_>, sent: &mut Sent) -> Result<Option<u64>, StoreError> {
        for seq in self.unsent(0) {
            let Some(kept) = self.kept.get(&seq) else { continue };
            let mut record = kept.record.clone();
            if !self.is_put(&record, to)? {
                return Ok(Some(seq));
            }
            record.is_sent = true;
            self.save(&record).map_err(|error| local(&error))?;
            if let Some(kept) = self.kept.get_mut(&seq) {
                kept.record = record;
            }
            sent.last = Some(seq);
        }
        Ok(None)
    }

    /// The number of the first one that this node has signed under another name or with another key than it has now: Main would
    /// not believe it.
    fn outdated(&self, to: &SendTo<'_>) -> Result<Option<u64>, StoreError> {
        let unsent = self.unsent(0);
        if unsent.is_empty() {
            return Ok(None);
        }
        let key = PrivateKey::read_openssh_file(to.identity)
            .map_err(|error| StoreError::Local(format!("{}: {error}", to.identity.display())))?;
        let keys = [key.public_key().clone()];
        let is_outdated = |seq: &u64| {
            self.kept.get(seq).is_some_and(|Kept { record, .. }| {
                let signed = envelope::open::<Upload>(record.signed.as_bytes(), &keys, "");
                record.upload.node != to.node || signed.is_err()
            })
        };
        Ok(unsent.into_iter().find(is_outdated))
    }

    /// Whether an upload is in the store now, and not another one under its number.
    fn is_put(&self, record: &Record, to: &SendTo<'_>) -> Result<bool, StoreError> {
        let (seq, signed) = (record.upload.seq, record.signed.as_bytes());
        let name = to.area.upload(seq);
        if seq <= to.taken {
            // Main looks at none of these any more: it is there, or it was another's that Main has taken in.
            return Ok(to.objects.get(&name, MAX_UPLOAD)?.is_some_and(|there| there == signed));
        }
        for hash in record.upload.directories.iter().filter_map(|directory| directory.changes) {
            let object = durable::read(&self.object_path(&hash)).map_err(|error| local(&error.into()))?;
            let object = object
                .ok_or_else(|| StoreError::Local("a pending upload has lost its changes".to_owned()))?;
            to.objects.create(&to.area.object(&hash), &object)?;
        }
        Ok(matches!(objects::create_or_own(to.objects, &name, signed)?, Created::New))
    }

    /// The numbers of those that are not sent, from this one on.
    fn unsent(&self, from: u64) -> Vec<u64> {
        let unsent = self.kept.range(from..).filter(|(_, kept)| !kept.record.is_sent);
        unsent.map(|(seq, _)| *seq).collect()
    }

    /// Gives those that are not sent, from this one on, the numbers after the last one that the store has. Main reads them in
    /// order, and none may be left out.
    fn renumber(&mut self, from: u64, to: &SendTo<'_>) -> Result<(), StoreError> {
        let listed = to.objects.list(&to.area.uploads())?;
        let last = listed.iter().filter_map(|name| to.area.upload_in(name)).max().unwrap_or(0).max(to.taken);
        let unsent = self.unsent(from);
        let free = last.saturating_add(1)..;
        let renumbered: Vec<(u64, u64)> = unsent.into_iter().zip(free).collect();
        // The last one first: none takes the place of one that has not gone on yet. Cut off in between, some are there twice,
        // which says the same twice.
        for (before, now) in renumbered.into_iter().rev() {
            let Some(kept) = self.kept.get(&before) else { continue };
            let upload = Upload { seq: now, node: to.node.to_owned(), ..kept.record.upload.clone() };
            let signed = envelope::seal(to.identity, &upload)?;
            let signed = String::from_utf8(signed)
                .map_err(|_| StoreError::Local("an upload is no text".to_owned()))?;
            let record = Record { upload, signed, is_sent: false };
            self.save(&record).map_err(|error| local(&error))?;
            if let Some(kept) = self.kept.remove(&before) {
                self.kept.insert(now, Kept { record, ..kept });
            }
            if before != now {
                let _ = fs::remove_file(self.record_path(before));
            }
        }
        Ok(())
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
