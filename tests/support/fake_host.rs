//! A host in memory, which keeps what it was told: for tests of the protocol inside of the crate and outside of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use xds_sync::model::{
    Action, Digest, Entry, File, Meta, Outcome, Owner, Pruned, RelPath, RelPathBuf, ReloadOutcome,
    ReloadState, Space, TrashKeep, Tree,
};
use xds_sync::node::{
    Attempt, Describe, Description, Endpoint, KeyChange, MainKeys, NodeError, NodeErrorKind, PreparedRoot,
    Refusal, RootDescription, TrashReader,
};
use xds_sync::reload::ReloadRequest;
use xds_sync::snapshot::{Root, ScanSpec, Scanned, loaded_digest, tree_digest};
use xds_sync::transfer::trash::{TrashEntry, TrashId, TrashKind, TrashSize, Trashed};
use xds_sync::transfer::{BlobRequest, Received, Sink, Source};

/// What a [`Fake`] does in a scan before it answers.
pub type OnScan = Box<dyn FnMut(&ScanSpec) + Send>;

/// A host whose files are its map, and which keeps what it was told.
#[derive(Default)]
pub struct Fake {
    pub files: BTreeMap<RelPathBuf, Vec<u8>>,
    /// Each call that changes a host, in words.
    pub calls: Vec<String>,
    pub staged: BTreeMap<Digest, Vec<u8>>,
    /// What lies in its trash, all of one run.
    pub trash: BTreeMap<RelPathBuf, Vec<u8>>,
    /// How many runs have ended.
    pub ended: usize,
    /// How often it was asked for its tree.
    pub trees: usize,
    /// Called in every scan.
    pub scanning: Option<OnScan>,
    /// What it says of every scan; else the truth.
    pub scanned: Option<Scanned>,
}

pub fn path(path: &str) -> RelPathBuf {
    RelPathBuf::new(path.as_bytes()).unwrap()
}

pub fn digest(content: &[u8]) -> Digest {
    Digest(blake3::hash(content).into())
}

pub fn file(content: &[u8]) -> Entry {
    let meta = Meta { mode: 0o644, owner: Owner::new(Some("asterisk"), Some("www-data")) };
    Entry::File(File { size: content.len() as u64, mtime: 1, digest: digest(content), meta })
}

pub fn trash_id() -> TrashId {
    "01KQ0000000000000000000000-0".parse().unwrap()
}

pub fn trash_entry(path: &RelPathBuf, content: &[u8]) -> TrashEntry {
    let place = Trashed { id: trash_id(), path: path.clone() };
    TrashEntry { place, kind: TrashKind::File, size: content.len() as u64, mtime: 1 }
}

impl Fake {
    pub fn with(files: &[(&str, &[u8])]) -> Fake {
        let files = files.iter().map(|(at, content)| (path(at), content.to_vec())).collect();
        Fake { files, ..Fake::default() }
    }

    pub fn snapshot(&self) -> Tree {
        self.files.iter().map(|(path, content)| (path.clone(), file(content))).collect()
    }

    fn call(&mut self, what: impl Into<String>) {
        self.calls.push(what.into());
    }
}

impl Source for &Fake {
    fn send(&mut self, wanted: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        for (index, wanted) in wanted.iter().enumerate() {
            sink.begin(index)?;
            let Some(content) = self.files.get(&wanted.path) else {
                sink.end(Err("it is gone".to_owned()))?;
                continue;
            };
            // The way a sparse file is read: runs of zeros are holes.
            for piece in content[usize::try_from(wanted.offset)?..].chunks(100_000) {
                match piece.iter().all(|&byte| byte == 0) {
                    true => sink.hole(piece.len() as u64)?,
                    false => sink.data(piece)?,
                }
            }
            sink.end(Ok(()))?;
        }
        Ok(())
    }
}

/// A content, and how it ended.
type Got = (Vec<u8>, Option<Result<(), String>>);

/// Gathers contents by their index.
#[derive(Default)]
pub struct Gathered(pub Vec<Got>);

impl Sink for Gathered {
    fn begin(&mut self, index: usize) -> anyhow::Result<()> {
        anyhow::ensure!(index == self.0.len(), "{index} out of order");
        self.0.push((Vec::new(), None));
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.0.last_mut().unwrap().0.extend_from_slice(bytes);
        Ok(())
    }

    fn hole(&mut self, length: u64) -> anyhow::Result<()> {
        let content = &mut self.0.last_mut().unwrap().0;
        content.resize(content.len() + usize::try_from(length)?, 0);
        Ok(())
    }

    fn end(&mut self, result: Result<(), String>) -> anyhow::Result<()> {
        self.0.last_mut().unwrap().1 = Some(result);
        Ok(())
    }
}

impl Endpoint for Fake {
    fn begin(&mut self, _: &str, _: bool) -> Result<(), NodeError> {
        Ok(())
    }

    fn end(&mut self) -> Result<(), NodeError> {
        self.ended += 1;
        Ok(())
    }

    fn scan(&mut self, spec: &ScanSpec) -> Result<Scanned, NodeError> {
        assert_eq!(spec.exclude, ["*.bak"]);
        if let Some(scanning) = &mut self.scanning {
            scanning(spec);
        }
        if let Some(scanned) = &self.scanned {
            return Ok(scanned.clone());
        }
        let tree = self.snapshot();
        let (digest, loaded) = (tree_digest(&tree), loaded_digest(&tree));
        let entries = tree.len() as u64;
        Ok(Scanned {
            root: Root::Unmarked,
            digest,
            loaded,
            entries,
            settled: true,
            free: Space { block: 1, free_blocks: 7, ..Space::default() },
            mount: "/srv".to_owned(),
            leftovers: true,
        })
    }

    fn tree(&mut self, _: &str, _: Option<&Arc<Tree>>) -> Result<Arc<Tree>, NodeError> {
        self.trees += 1;
        Ok(Arc::new(self.snapshot()))
    }

    fn known_owners(&mut self, owners: &[Owner]) -> Result<Vec<Owner>, NodeError> {
        // This host knows the user asterisk and no group.
        let known = |owner: &Owner| Owner::new(owner.user().filter(|user| *user == "asterisk"), None);
        Ok(owners.iter().map(known).collect())
    }

    fn prepare(
        &mut self,
        directory: &str,
        trash: &TrashKeep,
        _: Option<&Meta>,
    ) -> Result<Attempt<PreparedRoot>, NodeError> {
        self.call(format!("prepare {directory} {}", trash.seconds));
        Ok(Ok(PreparedRoot { id: "01MARKER".to_owned(), pruned: Pruned::default() }))
    }

    fn clear_stage(&mut self, directory: &str) -> Result<Attempt<()>, NodeError> {
        self.call(format!("clear_stage {directory}"));
        Ok(Err(Refusal::new("no\nway")))
    }

    fn stage(
        &mut self,
        directory: &str,
        wanted: &[BlobRequest],
        source: &mut dyn Source,
    ) -> Result<Received, NodeError> {
        self.call(format!("stage {directory}"));
        let has = |wanted: &BlobRequest| self.files.values().any(|content| digest(content) == wanted.digest);
        let lacking: Vec<usize> = (0..wanted.len()).filter(|&index| !has(&wanted[index])).collect();
        let needed: Vec<BlobRequest> = lacking.iter().map(|&index| wanted[index].clone()).collect();
        let mut gathered = Gathered::default();
        source
            .send(&needed, &mut gathered)
            .map_err(|error| NodeError::new(NodeErrorKind::Lost, error.to_string()))?;
        let mut received = vec![Ok(()); wanted.len()];
        for ((index, wanted), (content, result)) in lacking.into_iter().zip(needed).zip(gathered.0) {
            received[index] = result.unwrap();
            if received[index].is_ok() && digest(&content) != wanted.digest {
                received[index] = Err("it is not what it should be".to_owned());
            }
            self.staged.insert(wanted.digest, content);
        }
        Ok(received)
    }

    fn send(&mut self, _: &str, wanted: &[BlobRequest], sink: &mut dyn Sink) -> Result<(), NodeError> {
        let mut source: &Fake = self;
        source.send(wanted, sink).map_err(|error| NodeError::new(NodeErrorKind::Lost, error.to_string()))
    }

    fn commit(&mut self, directory: &str, actions: &[Action]) -> Result<Vec<Outcome>, NodeError> {
        self.call(format!("commit {directory} {}", actions.len()));
        Ok(actions
            .iter()
            .map(|action| match (&action.expected, action.result()) {
                (Some(_), None) => Outcome::Changed,
                (None, None) => Outcome::Failed("two\nlines".to_owned()),
                _ => Outcome::Done,
            })
            .collect())
    }

    fn trashed(&mut self, _: &str) -> Result<Vec<TrashEntry>, NodeError> {
        Ok(self.trash.iter().map(|(path, content)| trash_entry(path, content)).collect())
    }

    fn agree(&mut self, directory: &str, generation: &str) -> Result<Attempt<()>, NodeError> {
        self.call(format!("agree {directory} {generation}"));
        Ok(Err(Refusal::new("no space left")))
    }

    fn reload(&mut self, request: &ReloadRequest) -> Result<ReloadOutcome, NodeError> {
        self.call(format!("reload {} {:?}", request.name, request.roots));
        Ok(ReloadOutcome { name: request.name.clone(), state: ReloadState::Done, detail: None })
    }
}

impl TrashReader for Fake {
    fn versions(&mut self, _: &str, at: &RelPath) -> Result<Attempt<Vec<TrashEntry>>, NodeError> {
        if *at == *path("unreadable") {
            return Ok(Err(Refusal::new("no\nway")));
        }
        let asked = |path: &RelPathBuf| **path == *at || path.is_below(at);
        let found = self.trash.iter().filter(|(path, _)| asked(path));
        Ok(Ok(found.map(|(path, content)| trash_entry(path, content)).collect()))
    }

    fn recall(
        &mut self,
        _: &str,
        _: &TrashId,
        paths: &[RelPathBuf],
    ) -> Result<Vec<Attempt<Entry>>, NodeError> {
        let look = |path: &RelPathBuf| {
            self.trash.get(path).map(|content| file(content)).ok_or(Refusal::new("it is\ngone"))
        };
        Ok(paths.iter().map(look).collect())
    }

    fn send_trashed(
        &mut self,
        _: &str,
        _: &TrashId,
        wanted: &[BlobRequest],
        sink: &mut dyn Sink,
    ) -> Result<(), NodeError> {
        let trash = Fake { files: self.trash.clone(), ..Fake::default() };
        let mut source = &trash;
        source.send(wanted, sink).map_err(|error| NodeError::new(NodeErrorKind::Lost, error.to_string()))
    }
}

impl Describe for Fake {
    fn describe(&mut self, roots: &[PathBuf]) -> Result<Description, NodeError> {
        self.call(format!("describe {roots:?}"));
        let full = RootDescription { space: Space::UNKNOWN, trash: Some(TrashSize::default()) };
        let roots = roots.iter().map(|_| Ok(full.clone())).collect();
        Ok(Description { version: "0\n".to_owned(), now_ms: 7, read_only: false, roots })
    }
}

impl MainKeys for Fake {
    fn replace_key(&mut self, change: &KeyChange) -> Result<Attempt<Vec<String>>, NodeError> {
        self.call(format!("replace_key {} {}", change.old, change.new));
        Ok(if change.drop_old { Ok(vec!["a\nline".to_owned()]) } else { Err(Refusal::new("not\nin there")) })
    }
}
