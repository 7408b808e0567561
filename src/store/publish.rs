//! A publication: contents, then trees and groups of nodes, then the head that names them, then the sign of life that names the head.
//!
//! Whenever this is cut off, the store is as before, with objects that nobody needs yet; or there is a new head, and the next
//! one who looks finds it.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::blobs::{get_object, pack, put_object};
use super::group::{self, Group, Packed};
use super::head::{Head, HeadDirectory};
use super::holder::{Holder, Record, Standing};
use super::names::Area;
use super::objects::create_or_own;
use super::tree::{self, Part, Parts, StoredTree};
use super::{Created, FORMAT, MAX_HEAD, MAX_TREE, Objects, PART, Sha256, StoreError, names};
use crate::fault::{Point, reach};
use crate::model::{Busy, Digest, Entry, RelPathBuf, Tree, rfc3339};
use crate::threads::side_by_side;
use crate::transfer::{BlobRequest, Sink, Source};
use crate::version;

/// Files that are read, packed and put into the store at once: each takes memory for a part.
const THREADS: usize = 4;
/// Files that one thread takes at a time.
const CHUNK: usize = 64;
/// The oldest xds-sync that reads what this one publishes.
const MIN_AGENT: &str = "0.1.0";

/// Makes a source of a directory's contents.
pub type SourceFn = Arc<dyn Fn() -> Box<dyn Source + Send> + Send + Sync>;

/// A directory that is to be published.
pub struct Published {
    /// All but its tree.
    pub settings: HeadDirectory,
    /// What was found, and where its contents come from; `None`: it cannot be told, and stays as it was published last.
    pub found: Option<(Arc<Tree>, SourceFn)>,
}

impl std::fmt::Debug for Published {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Published").field("name", &self.settings.name).finish_non_exhaustive()
    }
}

/// What became of a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectoryOutcome {
    pub name: String,
    /// Files of the publication, and their bytes.
    pub files: u64,
    pub bytes: u64,
    /// Entries that differ from the publication before.
    pub created: u64,
    pub updated: u64,
    pub deleted: u64,
    /// Entries that could not be told, or changed meanwhile: they stay as they were published last.
    pub held: u64,
}

/// What became of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What to remember.
    pub record: Record,
    /// The newest publication; 0: none.
    pub seq: u64,
    /// Whether it is a new one.
    pub is_new: bool,
    pub directories: Vec<DirectoryOutcome>,
    /// That nodes will not follow, and why.
    pub warnings: Vec<String>,
}

/// The tree that a directory has in a publication.
pub fn read_tree(objects: &dyn Objects, directory: &HeadDirectory) -> Result<StoredTree, StoreError> {
    if directory.tree_len > MAX_TREE {
        return Err(StoreError::Tampered(format!("the tree of {} is too long", directory.name)));
    }
    let object = get_object(objects, &Area::main(), &directory.tree, directory.tree_len)?;
    let object = object.ok_or_else(|| {
        StoreError::Tampered(format!("the tree of {}, {}, is missing", directory.name, directory.tree))
    })?;
    tree::decode(&object).map_err(|error| error.while_doing(&directory.name))
}

/// The trees of the newest publication.
pub fn last_trees(holder: &Holder, standing: &Standing) -> Result<BTreeMap<String, StoredTree>, StoreError> {
    let Some((head, _)) = &standing.head else { return Ok(BTreeMap::new()) };
    let read =
        |directory: &HeadDirectory| Ok((directory.name.clone(), read_tree(&*holder.objects, directory)?));
    head.directories.iter().map(read).collect()
}

/// What is published of what was found: what a scan could not tell stays as it was published last, with all below it.
pub fn settled(found: &Tree, last: &Tree) -> Tree {
    let mut changes: BTreeMap<RelPathBuf, Option<Entry>> = BTreeMap::new();
    for (path, entry) in found.iter() {
        if !matches!(entry, Entry::Busy(_) | Entry::Problem(_)) {
            continue;
        }
        if let Some(before) = last.get(path) {
            changes.insert(path.to_owned(), Some(before.clone()));
            changes.extend(last.below(path).map(|(path, entry)| (path.to_owned(), Some(entry.clone()))));
        }
    }
    let excluded = found.iter().filter(|(_, entry)| matches!(entry, Entry::Excluded));
    changes.extend(excluded.map(|(path, _)| (path.to_owned(), None)));
    found.with(&changes)
}

/// Publishes. `nodes`, in their groups, and `directories` are what the configuration says now; `trees` those of the newest publication.
pub fn publish(
    holder: &Holder,
    mut standing: Standing,
    nodes: &[Packed],
    directories: Vec<Published>,
    trees: &BTreeMap<String, StoredTree>,
) -> Result<Outcome, StoreError> {
    holder.check_held(&standing)?;
    let mut warnings = Vec::new();
    let has_new_key = match holder.append_key(&mut standing)? {
        Some(is_new) => is_new,
        None => {
            warnings.push(format!(
                "nodes that know another key of Main's do not follow this one: give them {}.pub as their main_key",
                holder.identity.display()
            ));
            false
        }
    };
    let standing = holder.renew(standing)?;
    let last = standing.head.as_ref().map(|(head, _)| head.clone());
    let (mut published, mut outcomes) = (Vec::new(), Vec::new());
    for directory in directories {
        let name = directory.settings.name.clone();
        match directory.found {
            Some((found, source)) => {
                let empty = StoredTree::default();
                let hash = last.as_ref().and_then(|last| Some(last.directory(&name)?.tree));
                let before = Before { stored: trees.get(&name).unwrap_or(&empty), hash };
                let (directory, outcome) =
                    put_directory(holder, directory.settings, &found, &source, &before)?;
                published.push(directory);
                outcomes.push(outcome);
            }
            None => published.extend(last.as_ref().and_then(|last| last.directory(&name)).cloned()),
        }
    }
    let groups: Vec<Group> = nodes.iter().map(|packed| packed.group).collect();
    let is_same =
        last.as_ref().is_some_and(|last| last.groups == groups && same(&last.directories, &published));
    let signed_by_own = !has_new_key && is_signed_by_own(holder, &standing)?;
    if is_same && signed_by_own {
        reach(Point::StoreAlive).map_err(|error| StoreError::Local(error.to_string()))?;
        holder.check_not_fenced(&standing)?;
        holder.put_alive(&standing, false)?;
        let seq = last.map_or(0, |last| last.seq);
        return Ok(Outcome {
            record: holder.remember(&standing)?,
            seq,
            is_new: false,
            directories: outcomes,
            warnings,
        });
    }
    group::put(&*holder.objects, nodes, last.as_ref().map_or(&[], |last| &last.groups))?;
    let record = put_head(holder, standing, groups, published, "publish")?;
    Ok(Outcome { seq: record.seq, record, is_new: true, directories: outcomes, warnings })
}

/// Whether two publications have the same directories, whatever deletions were released for either.
fn same(a: &[HeadDirectory], b: &[HeadDirectory]) -> bool {
    let plain = |directory: &HeadDirectory| HeadDirectory { accepted: Vec::new(), ..directory.clone() };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| plain(a) == plain(b))
}

/// Whether the newest publication is signed with the key that this Main has now. Otherwise nodes that know the new key alone
/// could not read it.
fn is_signed_by_own(holder: &Holder, standing: &Standing) -> Result<bool, StoreError> {
    let Some((head, _)) = &standing.head else { return Ok(false) };
    let own = std::slice::from_ref(&standing.own);
    match super::chain::head(&*holder.objects, own, head.seq) {
        Ok(found) => Ok(found.is_some()),
        Err(StoreError::Tampered(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes the next head, and says that it is the newest.
pub(super) fn put_head(
    holder: &Holder,
    standing: Standing,
    groups: Vec<Group>,
    directories: Vec<HeadDirectory>,
    reason: &str,
) -> Result<Record, StoreError> {
    let head = Head {
        v: FORMAT,
        cluster: standing.lease.cluster.clone(),
        epoch: standing.lease.epoch,
        seq: standing.tip.0 + 1,
        prev: standing.tip.1,
        main: holder.name.clone(),
        time: rfc3339((holder.now)()),
        agent: version::package(),
        min_agent: MIN_AGENT.to_owned(),
        reason: reason.to_owned(),
        groups,
        directories,
    };
    head.check()?;
    let object = super::envelope::seal(&holder.identity, &head)?;
    if object.len() as u64 > MAX_HEAD {
        return Err(StoreError::Local(format!(
            "the publication has {} bytes, more than {MAX_HEAD}: there are too many nodes and directories",
            object.len()
        )));
    }
    reach(Point::StoreHead).map_err(|error| StoreError::Local(error.to_string()))?;
    holder.check_not_fenced(&standing)?;
    let name = names::head(head.seq);
    if create_or_own(&*holder.objects, &name, &object)? == Created::There {
        // Somebody else has just published under this number.
        holder.check_not_fenced(&standing)?;
        let (other, _) = super::chain::head(&*holder.objects, &standing.keys, head.seq)?
            .ok_or_else(|| StoreError::Unreachable(format!("{name} was there and is not there any more")))?;
        return Err(StoreError::Held {
            detail: format!(
                "{} has published {} at the same time: it has this Main's lease",
                other.main, head.seq
            ),
            holder: other.main,
        });
    }
    let hash = Sha256::of(&object);
    // Whoever took the lease just before does not follow this one, nor does any node.
    holder.check_not_fenced(&standing)?;
    let tip = (head.seq, Some(hash));
    let standing = Standing { head: Some((head, hash)), tip, ..standing };
    reach(Point::StoreAlive).map_err(|error| StoreError::Local(error.to_string()))?;
    holder.put_alive(&standing, false)?;
    holder.remember(&standing)
}

/// What a directory was in the publication before.
#[derive(Clone, Copy)]
struct Before<'a> {
    stored: &'a StoredTree,
    /// The object that its tree is; none: it was not published.
    hash: Option<Sha256>,
}

/// Puts the contents of a directory that the store lacks there, and its tree.
fn put_directory(
    holder: &Holder,
    settings: HeadDirectory,
    found: &Tree,
    source: &SourceFn,
    before: &Before<'_>,
) -> Result<(HeadDirectory, DirectoryOutcome), StoreError> {
    let Before { stored: before, hash: last_hash } = *before;
    let wanted = settled(found, &before.tree);
    let mut parts = Parts::default();
    let mut requests: Vec<BlobRequest> = Vec::new();
    let mut asked: HashSet<Digest> = HashSet::new();
    for (path, entry) in wanted.iter() {
        let Entry::File(file) = entry else { continue };
        match before.parts.get(&file.digest) {
            Some(known) => parts.insert(file.digest, Arc::clone(known)),
            None if file.size == 0 => parts.insert(file.digest, Vec::new()),
            None if asked.insert(file.digest) => requests.push(BlobRequest {
                path: path.to_owned(),
                digest: file.digest,
                size: file.size,
                offset: 0,
            }),
            None => {}
        }
    }
    parts.extend(put_contents(holder, &requests, source)?);
    let tree = without_missing(&wanted, &parts, &before.tree);
    let object = tree::encode(&tree, &with_old(parts, &tree, before))?;
    if object.len() as u64 > MAX_TREE {
        return Err(StoreError::Local(format!("the tree of {} is too long", settings.name)));
    }
    let hash = Sha256::of(&object);
    if last_hash != Some(hash) {
        reach(Point::StoreTree).map_err(|error| StoreError::Local(error.to_string()))?;
        put_object(&*holder.objects, &hash, &object)?;
    }
    let outcome = outcome(&settings.name, &before.tree, &tree);
    let directory = HeadDirectory {
        tree: hash,
        tree_len: object.len() as u64,
        files: outcome.files,
        bytes: outcome.bytes,
        ..settings
    };
    Ok((directory, outcome))
}

/// With the parts of what was taken from the tree before, because it changed while it was read.
fn with_old(mut parts: Parts, tree: &Tree, before: &StoredTree) -> Parts {
    for (_, entry) in tree.iter() {
        if let Entry::File(file) = entry
            && parts.get(&file.digest).is_none()
            && let Some(old) = before.parts.get(&file.digest)
        {
            parts.insert(file.digest, Arc::clone(old));
        }
    }
    parts
}

/// The tree without files whose content could not be had: they stay as they were, or are held.
fn without_missing(wanted: &Tree, parts: &Parts, last: &Tree) -> Tree {
    let changes = wanted.iter().filter_map(|(path, entry)| match entry {
        Entry::File(file) if parts.get(&file.digest).is_none() => {
            let before = last.get(path).filter(|before| before.as_file().is_some());
            Some((path.to_owned(), Some(before.cloned().unwrap_or(Entry::Busy(Busy::Changing)))))
        }
        _ => None,
    });
    wanted.with(&changes.collect())
}

fn outcome(name: &str, before: &Tree, tree: &Tree) -> DirectoryOutcome {
    let mut outcome = DirectoryOutcome { name: name.to_owned(), ..DirectoryOutcome::default() };
    for (path, entry) in tree.iter() {
        if let Entry::File(file) = entry {
            outcome.files += 1;
            outcome.bytes += file.size;
        }
        match before.get(path) {
            _ if entry.is_opaque() => outcome.held += 1,
            None => outcome.created += 1,
            Some(before) if before != entry => outcome.updated += 1,
            Some(_) => {}
        }
    }
    outcome.deleted =
        before.iter().filter(|(path, entry)| !entry.is_opaque() && tree.get(path).is_none()).count() as u64;
    outcome
}

/// What would be published, for a dry run: nothing is read but what a scan reads.
#[must_use]
pub fn preview(name: &str, found: &Tree, before: &Tree) -> DirectoryOutcome {
    outcome(name, before, &settled(found, before))
}

/// Puts contents into the store. One that cannot be had has no parts in what is returned.
fn put_contents(holder: &Holder, requests: &[BlobRequest], source: &SourceFn) -> Result<Parts, StoreError> {
    let chunks: Vec<&[BlobRequest]> = requests.chunks(CHUNK).collect();
    let failed: Mutex<Option<StoreError>> = Mutex::default();
    let put = |chunk: &&[BlobRequest]| {
        let mut packer = Packer::new(&*holder.objects, chunk);
        if failed.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return packer.done;
        }
        if let Err(error) = source().send(chunk, &mut packer) {
            let error = error.downcast().unwrap_or_else(|error| StoreError::local(&error));
            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
        packer.done
    };
    let mut all = Parts::default();
    for parts in side_by_side(&chunks, THREADS, put) {
        all.extend(parts);
    }
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(all),
    }
}

/// Cuts contents into parts and puts them into the store.
struct Packer<'a> {
    objects: &'a dyn Objects,
    requests: &'a [BlobRequest],
    index: usize,
    buffer: Vec<u8>,
    parts: Vec<Part>,
    hasher: blake3::Hasher,
    done: Parts,
}

impl<'a> Packer<'a> {
    fn new(objects: &'a dyn Objects, requests: &'a [BlobRequest]) -> Packer<'a> {
        Packer {
            objects,
            requests,
            index: 0,
            buffer: Vec::new(),
            parts: Vec::new(),
            hasher: blake3::Hasher::new(),
            done: Parts::default(),
        }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let (part, bytes) = pack(&self.buffer);
        self.buffer.clear();
        if let Part::Stored { object, .. } = &part {
            reach(Point::StorePart)?;
            put_object(self.objects, object, &bytes)?;
        }
        self.parts.push(part);
        Ok(())
    }
}

impl Sink for Packer<'_> {
    fn begin(&mut self, index: usize) -> anyhow::Result<()> {
        self.index = index;
        self.buffer.clear();
        self.parts.clear();
        self.hasher.reset();
        Ok(())
    }

    fn data(&mut self, mut bytes: &[u8]) -> anyhow::Result<()> {
        self.hasher.update(bytes);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PART - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == PART {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn hole(&mut self, length: u64) -> anyhow::Result<()> {
        const ZEROS: &[u8] = &[0; 64 * 1024];
        self.flush()?;
        let mut left = length;
        while left > 0 {
            let now = left.min(ZEROS.len() as u64);
            self.hasher.update(&ZEROS[..usize::try_from(now)?]);
            left -= now;
        }
        if length > 0 {
            self.parts.push(Part::Zeros(length));
        }
        Ok(())
    }

    fn end(&mut self, result: Result<(), String>) -> anyhow::Result<()> {
        if result.is_err() {
            return Ok(());
        }
        self.flush()?;
        let digest = Digest(self.hasher.finalize().into());
        // What became something else while it was read waits for the next publication.
        if self.requests.get(self.index).is_some_and(|request| request.digest == digest) {
            self.done.insert(digest, std::mem::take(&mut self.parts));
        }
        Ok(())
    }
}
