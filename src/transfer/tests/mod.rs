//! Transfers on temporary directories, with a small scan of their own.

#![allow(clippy::unwrap_used)]

mod commit;
mod disks;
mod growth;
mod kinds;
mod signature;
mod races;
mod stage;
mod trash;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock, RwLockReadGuard};

use rustix::fs::AtFlags;

use super::{BlobRequest, Committed, OwnDir, Received, ScannedTree, Sink, Source};
use crate::disk::{HeldRoot, Owners, Stamp};
use crate::model::{
    Action, Busy, Digest, Entry, EntryProblem, File, Meta, Outcome, Owner, RelPath, RelPathBuf, Step,
    Symlink, Tree,
};

pub(super) const RUN: &str = "01KQ0000000000000000000000";
/// 2020-09-13T12:26:40.123456789Z.
pub(super) const MTIME: i64 = 1_600_000_000_123_456_789;

pub(super) fn path(bytes: impl AsRef<[u8]>) -> RelPathBuf {
    RelPathBuf::new(bytes.as_ref()).unwrap()
}

pub(super) fn digest(content: &[u8]) -> Digest {
    Digest(blake3::hash(content).into())
}

pub(super) fn file(content: impl AsRef<[u8]>) -> Entry {
    let content = content.as_ref();
    let meta = Meta { mode: 0o640, owner: Owner::default() };
    Entry::File(File { size: content.len() as u64, mtime: MTIME, digest: digest(content), meta })
}

pub(super) fn dir(mode: u16) -> Entry {
    Entry::Dir(Meta { mode, owner: Owner::default() })
}

pub(super) fn link(target: &str) -> Entry {
    Entry::Symlink(Symlink { target: target.as_bytes().into() })
}

/// A root, and what a scan of it saw.
pub(super) struct World {
    pub(super) dir: tempfile::TempDir,
    pub(super) own: OwnDir,
    tree: RwLock<Tree>,
    stamps: RwLock<HashMap<RelPathBuf, Stamp>>,
}

impl World {
    pub(super) fn new() -> World {
        World::in_dir(tempfile::tempdir().unwrap())
    }

    pub(super) fn in_dir(dir: tempfile::TempDir) -> World {
        let own = OwnDir::ready(&HeldRoot::open(dir.path()).unwrap(), &Arc::default()).unwrap();
        World { dir, own, tree: RwLock::default(), stamps: RwLock::default() }
    }

    pub(super) fn at(&self, path: impl AsRef<[u8]>) -> PathBuf {
        self.dir.path().join(OsStr::from_bytes(path.as_ref()))
    }

    pub(super) fn in_stage(&self, name: impl AsRef<Path>) -> PathBuf {
        self.at(".xds-sync/stage").join(name)
    }

    /// What a run put into the trash at a path.
    pub(super) fn trashed(&self, version: &str, path: &str) -> PathBuf {
        self.at(format!(".xds-sync/trash/{RUN}/{version}/{path}"))
    }

    pub(super) fn write(&self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> &World {
        let at = self.at(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(&at, content).unwrap();
        self
    }

    pub(super) fn read(&self, path: impl AsRef<[u8]>) -> Vec<u8> {
        fs::read(self.at(path)).unwrap()
    }

    pub(super) fn scan(&self) -> &World {
        let mut entries = BTreeMap::new();
        self.stamps.write().unwrap().clear();
        let root = self.dir.path().to_owned();
        self.scan_below(&root, &mut entries);
        *self.tree.write().unwrap() = entries.into_iter().collect();
        self
    }

    /// Scans a path that others are changing: what is seen of it is of one moment, or it is not there.
    pub(super) fn scan_one(&self, at: &str) {
        *self.tree.write().unwrap() = Tree::default();
        self.stamps.write().unwrap().clear();
        let Ok(open) = fs::File::open(self.at(at)) else { return };
        let stat = rustix::fs::fstat(&open).unwrap();
        let Ok(content) = std::io::read_to_string(open) else { return };
        let (mode, stamp) = (u16::try_from(stat.st_mode & 0o777).unwrap(), Stamp::of(&stat));
        let meta = Meta { mode, owner: Owner::default() };
        let (size, digest) = (stamp.size, digest(content.as_bytes()));
        self.stamps.write().unwrap().insert(path(at), stamp);
        self.pretend(at, Entry::File(File { size, mtime: stamp.mtime, digest, meta }));
    }

    fn scan_below(&self, at: &Path, entries: &mut BTreeMap<RelPathBuf, Entry>) {
        for found in fs::read_dir(at).unwrap() {
            let found = found.unwrap();
            if found.file_name() == ".xds-sync" {
                continue;
            }
            let at = found.path();
            let rel = path(at.strip_prefix(self.dir.path()).unwrap().as_os_str().as_bytes());
            let metadata = fs::symlink_metadata(&at).unwrap();
            let meta = Meta {
                mode: u16::try_from(metadata.mode() & 0o3777).unwrap(),
                owner: Owners::default().of(metadata.uid(), metadata.gid()),
            };
            let kind = metadata.file_type();
            let entry = if kind.is_dir() {
                self.scan_below(&at, entries);
                Entry::Dir(meta)
            } else if kind.is_file() {
                let content = fs::read(&at).unwrap();
                let mtime = metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec();
                Entry::File(File { size: metadata.len(), mtime, digest: digest(&content), meta })
            } else if kind.is_symlink() {
                let target = fs::read_link(&at).unwrap().into_os_string().into_encoded_bytes();
                let link = Symlink { target: target.into() };
                if link.escapes(&rel) {
                    Entry::Problem(EntryProblem::EscapingLink)
                } else {
                    Entry::Symlink(link)
                }
            } else {
                Entry::Problem(EntryProblem::Special)
            };
            let stat = rustix::fs::statat(rustix::fs::CWD, &at, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            self.stamps.write().unwrap().insert(rel.clone(), Stamp::of(&stat));
            entries.insert(rel, entry);
        }
    }

    pub(super) fn tree(&self) -> RwLockReadGuard<'_, Tree> {
        self.tree.read().unwrap()
    }

    pub(super) fn stamp(&self, path: &RelPath) -> Option<Stamp> {
        self.stamps.read().unwrap().get(path).copied()
    }

    /// As if the scan had seen this at a path.
    pub(super) fn pretend(&self, at: &str, entry: Entry) {
        let tree = self.tree().with(&[(path(at), Some(entry))].into());
        *self.tree.write().unwrap() = tree;
    }

    /// An action that expects what the scan saw.
    pub(super) fn action(&self, at: impl AsRef<[u8]>, step: Step) -> Action {
        let path = path(at);
        Action { expected: self.tree().get(&path).cloned(), path, step }
    }

    pub(super) fn put(&self, at: impl AsRef<[u8]>, entry: Entry) -> Action {
        self.action(at, Step::Put(entry))
    }

    /// Puts where the scan saw nothing, or what an earlier action removes.
    pub(super) fn create(&self, at: impl AsRef<[u8]>, entry: Entry) -> Action {
        Action { path: path(at), expected: None, step: Step::Put(entry) }
    }

    pub(super) fn delete(&self, at: impl AsRef<[u8]>) -> Action {
        self.action(at, Step::Delete)
    }

    pub(super) fn move_from(&self, from: &str, at: &str, entry: Entry) -> Action {
        let from_expected = self.tree().get(&path(from)).unwrap().clone().into();
        self.action(at, Step::Move { from: path(from), from_expected, entry })
    }

    pub(super) fn stage(&self, wanted: &[BlobRequest], source: &mut dyn Source) -> Received {
        let stamps = |path: &RelPath| self.stamp(path);
        super::stage(&self.own, &ScannedTree { tree: &self.tree(), stamps: &stamps }, wanted, source)
    }

    /// Stages contents that a source has.
    pub(super) fn stage_all(&self, contents: &[&str]) {
        let mut source = Memory::of(contents);
        let received = self.stage(&source.wanted(), &mut source);
        assert!(received.iter().all(Result::is_ok), "{received:?}");
    }

    pub(super) fn commit_all(&self, actions: &[Action]) -> Committed {
        let stamps = |path: &RelPath| self.stamp(path);
        let seen = ScannedTree { tree: &self.tree(), stamps: &stamps };
        super::commit(&self.own, RUN, &seen, actions, &mut Owners::default()).unwrap()
    }

    pub(super) fn commit(&self, actions: &[Action]) -> Vec<Outcome> {
        self.commit_all(actions).outcomes
    }

    /// Everything in the stage and the trash, with the contents of files.
    pub(super) fn own_files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let own = self.at(".xds-sync");
        let mut dirs = vec![own.clone()];
        while let Some(dir) = dirs.pop() {
            for found in fs::read_dir(dir).unwrap() {
                let found = found.unwrap();
                if found.file_type().unwrap().is_dir() {
                    dirs.push(found.path());
                } else {
                    let name = found.path().strip_prefix(&own).unwrap().to_string_lossy().into_owned();
                    let content = fs::read(found.path()).unwrap_or_default();
                    files.insert(name, content);
                }
            }
        }
        files
    }
}

/// A source of contents in memory. Its wanted paths are their numbers.
pub(super) struct Memory {
    contents: Vec<Vec<u8>>,
    /// The wanted that it was asked for.
    pub(super) asked: Vec<BlobRequest>,
    /// It is lost when so many bytes have gone.
    pub(super) cut_after: Option<usize>,
}

impl Memory {
    pub(super) fn of(contents: &[impl AsRef<[u8]>]) -> Memory {
        let contents = contents.iter().map(|content| content.as_ref().to_vec()).collect();
        Memory { contents, asked: Vec::new(), cut_after: None }
    }

    pub(super) fn wanted(&self) -> Vec<BlobRequest> {
        let wanted = |(index, content): (usize, &Vec<u8>)| BlobRequest {
            path: path(index.to_string()),
            digest: digest(content),
            size: content.len() as u64,
            offset: 0,
        };
        self.contents.iter().enumerate().map(wanted).collect()
    }
}

impl Source for Memory {
    fn send(&mut self, wanted: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        self.asked.extend_from_slice(wanted);
        for (index, wanted) in wanted.iter().enumerate() {
            sink.begin(index)?;
            let number: usize = wanted.path.escaped().parse()?;
            for bytes in self.contents[number][usize::try_from(wanted.offset)?..].chunks(1000) {
                if let Some(left) = &mut self.cut_after {
                    *left =
                        left.checked_sub(bytes.len()).ok_or_else(|| anyhow::anyhow!("the line is dead"))?;
                }
                sink.data(bytes)?;
            }
            sink.end(Ok(()))?;
        }
        Ok(())
    }
}

/// A source that nobody should ask.
pub(super) struct Nobody;

impl Source for Nobody {
    fn send(&mut self, wanted: &[BlobRequest], _: &mut dyn Sink) -> anyhow::Result<()> {
        anyhow::bail!("asked for {wanted:?}")
    }
}

pub(super) fn is_failed(outcome: &Outcome, words: &str) -> bool {
    matches!(outcome, Outcome::Failed(why) if why.contains(words))
}

pub(super) fn chmod(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub(super) fn busy() -> Entry {
    Entry::Busy(Busy::Open)
}

/// Gives what a world scanned.
pub(super) fn source_of(world: &World) -> super::LocalSource {
    let stamps = world.stamps.read().unwrap().clone();
    let stamps = move |path: &RelPath| stamps.get(path).copied();
    super::LocalSource::new(HeldRoot::open(world.dir.path()).unwrap(), Arc::new(stamps))
}
