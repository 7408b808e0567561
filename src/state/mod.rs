//! What Main remembers between runs, below `state_dir`.
//!
//! | file | content |
//! | --- | --- |
//! | `lock` | held by the run that is on its way |
//! | `identity.json` | this Main's id and epoch |
//! | `ledger.json` | root ids, what each node has loaded, skips that were told, conflicts |
//! | `edges/DIRECTORY/NODE` | base and generation of an edge, and what an unfinished run set out to do |
//! | `edges-next/DIRECTORY/NODE` | the same, until the node has noted the generation too |
//! | `cache/DIRECTORY` | digests of Main's files |
//! | `discovery.json` | the last good answer of each source of nodes |
//! | `status.json`, `last-success` | how the last run went |
//! | `overview.json` | what the hub shows of that; it has a copy in its own state |
//! | `running.json` | which run has begun and has not ended |
//! | `told.json` | what the cron job has told of what is wrong |
//! | `taken.json` | the last upload of each follower that was taken in |
//! | `store.json` | which store this Main publishes in, under which lease, and what it has published last |
//! | `history.db` | what each run did; nothing depends on it |
//!
//! Every file is replaced in one step and carries a checksum and a version where trusting a wrong one could
//! delete something. What cannot be trusted is reported and counts as not there.

mod answers;
pub mod edge;
pub mod history;
pub mod ledger;
pub(crate) mod lock;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::durable::{self, Options, Points, sealed};
use crate::fault::{Point, reach};

pub(crate) use answers::{Answer, Answers, Named};
pub use edge::{EdgeHeader, EdgeRecord, InStep};
pub use history::{Asked, History, RunRecord};
pub(crate) use ledger::Unkept;
pub use ledger::{ConflictRecord, ConflictVersion, Ledger, Skip, Skips};
pub(crate) use lock::Lock;

/// The state directory of Main: 0700, or 0710 where a group may read how runs went.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
    /// The group that may read [`STATUS`] and [`LAST_SUCCESS`].
    readers: Option<u32>,
    /// The state of the hub, if this is Main's: what it shows is left there too.
    hub: Option<PathBuf>,
}

/// How the last run went.
const STATUS: &str = "status.json";
/// Its mtime is the end of the last run that left everything in step.
const LAST_SUCCESS: &str = "last-success";
/// What the hub shows.
pub(crate) const OVERVIEW: &str = "overview.json";

/// Not `main.json`, the name of a node's binding to its Main: a host may have been a node before.
const IDENTITY: &str = "identity.json";
const EDGES: &str = "edges";
/// There is one while a run is going on, and after one that did not end.
const RUNNING: &str = "running.json";
const TOLD: &str = "told.json";
const STORE: &str = "store.json";
const NEXT_EDGES: &str = "edges-next";
const TAKEN: &str = "taken.json";

/// The last good answers of discovery.
pub(crate) const DISCOVERY: &str = "discovery.json";

/// Which Main this is; nodes refuse an older epoch than they know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// A ULID, made once.
    pub id: String,
    /// Raised when another host becomes Main.
    pub epoch: u64,
}

/// A run that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BegunRun {
    /// Its ULID.
    pub(crate) run: String,
    /// When, in RFC 3339.
    pub(crate) started: String,
}

/// A file that is not as it was written. The caller goes on as if there was none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// Which.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be trusted: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for Corrupt {}

impl StateDir {
    /// Opens the directory, or makes it.
    pub fn open(path: &Path) -> anyhow::Result<StateDir> {
        durable::make_dir(path, 0o700).with_context(|| format!("cannot create {}", path.display()))?;
        let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        StateDir::check_mode(path, &metadata)?;
        Ok(StateDir { path: path.to_owned(), readers: None, hub: None })
    }

    /// The directory as it is, for who only reads: it need not be there.
    pub(crate) fn to_read(path: &Path) -> anyhow::Result<StateDir> {
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => {
                let found = found.with_context(|| format!("cannot read {}", path.display()))?;
                StateDir::check_mode(path, &found)?;
            }
        }
        Ok(StateDir { path: path.to_owned(), readers: None, hub: None })
    }

    fn check_mode(path: &Path, metadata: &fs::Metadata) -> anyhow::Result<()> {
        if metadata.mode() & 0o022 != 0 {
            bail!("{} can be written by others; run 'chmod 700 {0}'", path.display());
        }
        Ok(())
    }

    /// The same; from now on this group may read how runs went, and nothing else.
    pub(crate) fn readable_for(self, group: u32) -> anyhow::Result<StateDir> {
        let shared = fs::File::open(&self.path).and_then(|dir| share(&dir, group, 0o710));
        shared.with_context(|| format!("cannot let a group into {}", self.path.display()))?;
        Ok(StateDir { readers: Some(group), ..self })
    }

    /// The same; from now on runs leave there what the hub shows, which as a service is a user of its own.
    pub(crate) fn shown_by(self, hub: &Path) -> StateDir {
        StateDir { hub: Some(hub.to_owned()), ..self }
    }

    /// Its path.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the lock of a run for the process `pid`, this one; `None` when another process holds it.
    pub(crate) fn lock(&self, pid: u32) -> anyhow::Result<Option<Lock>> {
        Lock::take(&self.path.join("lock"), pid)
    }

    /// Who this Main is, if it has ever synchronised.
    pub fn identity(&self) -> anyhow::Result<Option<Identity>> {
        let path = self.path.join(IDENTITY);
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        let identity = sealed::open(&bytes);
        identity.map(Some).with_context(|| {
            let path = path.display();
            format!("{path} is damaged; move it away and run `xds-sync init --takeover`")
        })
    }

    /// Saves the identity of this Main.
    pub fn save_identity(&self, identity: &Identity) -> anyhow::Result<()> {
        write(&self.path.join(IDENTITY), &sealed::seal(identity)?)
    }

    /// The record of an edge.
    pub fn edge(&self, directory: &str, node: &str) -> Result<Option<EdgeRecord>, Corrupt> {
        StateDir::read_edge(self.edge_path(EDGES, directory, node))
    }

    /// The record of an edge that becomes current once its node has written the same generation into its marker.
    /// After a run that was cut off, that marker decides between both.
    pub fn next_edge(&self, directory: &str, node: &str) -> Result<Option<EdgeRecord>, Corrupt> {
        StateDir::read_edge(self.edge_path(NEXT_EDGES, directory, node))
    }

    fn read_edge(path: PathBuf) -> Result<Option<EdgeRecord>, Corrupt> {
        let corrupt = |why: String| Corrupt { path: path.clone(), why };
        match read(&path) {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => EdgeRecord::decode(bytes).map(Some).map_err(corrupt),
            Err(error) => Err(corrupt(format!("{error:#}"))),
        }
    }

    /// Saves the record of an edge.
    pub fn save_edge(&self, directory: &str, node: &str, edge: &EdgeRecord) -> anyhow::Result<()> {
        write(&self.edge_path(EDGES, directory, node), edge.encoded())
    }

    /// Saves the next record of an edge.
    pub(crate) fn save_next_edge(
        &self,
        directory: &str,
        node: &str,
        edge: &EdgeRecord,
    ) -> anyhow::Result<()> {
        write(&self.edge_path(NEXT_EDGES, directory, node), edge.encoded())
    }

    /// Makes the next record of an edge the current one.
    pub(crate) fn promote_edge(&self, directory: &str, node: &str) -> anyhow::Result<()> {
        let path = |which| self.edge_path(which, directory, node);
        promote(&path(NEXT_EDGES), &path(EDGES))
    }

    /// Forgets an edge: the next run merges both ends, and deletes nothing.
    pub(crate) fn remove_edge(&self, directory: &str, node: &str) -> anyhow::Result<()> {
        // The one that holds goes last: a marker that names it must not be taken for one of a run that was cut off.
        for which in [NEXT_EDGES, EDGES] {
            let path = self.edge_path(which, directory, node);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn edge_path(&self, which: &str, directory: &str, node: &str) -> PathBuf {
        self.path.join(which).join(file_name(directory)).join(file_name(node))
    }

    /// The ledger; empty when there is none.
    pub fn ledger(&self) -> anyhow::Result<Ledger> {
        let path = self.path.join("ledger.json");
        match read(&path)? {
            Some(bytes) => sealed::open(&bytes).with_context(|| {
                format!(
                    "{} is damaged; move it away to start without it: nothing is deleted then",
                    path.display()
                )
            }),
            None => Ok(Ledger::default()),
        }
    }

    /// Saves the ledger. One that says what is on disk already is not written again: most runs find nothing to do.
    pub fn save_ledger(&self, ledger: &Ledger) -> anyhow::Result<()> {
        let (path, content) = (self.path.join("ledger.json"), sealed::seal(ledger)?);
        match read(&path) {
            Ok(Some(before)) if before == content => Ok(()),
            _ => write(&path, &content),
        }
    }

    /// The last good answers of discovery; empty when there were none.
    pub(crate) fn answers(&self) -> Result<Answers, Corrupt> {
        let path = self.path.join(DISCOVERY);
        let corrupt = |error: anyhow::Error| Corrupt { path: path.clone(), why: format!("{error:#}") };
        match read(&path).map_err(corrupt)? {
            Some(bytes) => sealed::open(&bytes).map_err(corrupt),
            None => Ok(Answers::default()),
        }
    }

    /// Names of the nodes that discovery found last; `None`: they cannot be read.
    pub(crate) fn found_nodes(&self) -> Option<Vec<String>> {
        let answers = self.answers().ok()?;
        Some(answers.0.into_values().flat_map(|answer| answer.nodes).map(|node| node.name).collect())
    }

    /// Saves the answers of discovery. The caller holds the lock.
    pub(crate) fn save_answers(&self, answers: &Answers) -> anyhow::Result<()> {
        write(&self.path.join(DISCOVERY), &sealed::seal(answers)?)
    }

    /// What Main knows of the store in which it publishes, as it was saved.
    pub(crate) fn published<T: DeserializeOwned>(&self) -> anyhow::Result<Option<T>> {
        let path = self.path.join(STORE);
        let Some(bytes) = read(&path)? else { return Ok(None) };
        let known = sealed::open(&bytes).with_context(|| {
            format!("{} is damaged; move it away and run `xds-sync store claim`", path.display())
        });
        known.map(Some)
    }

    /// Saves it. The caller holds the lock.
    pub(crate) fn save_published(&self, known: &impl Serialize) -> anyhow::Result<()> {
        write(&self.path.join(STORE), &sealed::seal(known)?)
    }

    /// What the cron job has told, as it was saved; what cannot be read is told again.
    pub(crate) fn told<T: DeserializeOwned + Default>(&self) -> T {
        let bytes = read(&self.path.join(TOLD)).ok().flatten();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Saves what the cron job has told.
    pub(crate) fn save_told(&self, told: &impl Serialize) -> anyhow::Result<()> {
        let path = self.path.join(TOLD);
        durable::replace(&path, &serde_json::to_vec(told)?, Options::PRIVATE)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// The last upload of each node that Main has taken in from the store with this id.
    pub(crate) fn taken(&self, store: &str) -> anyhow::Result<BTreeMap<String, u64>> {
        let path = self.path.join(TAKEN);
        let Some(bytes) = read(&path)? else { return Ok(BTreeMap::new()) };
        let (of, taken): (String, BTreeMap<String, u64>) = sealed::open(&bytes).with_context(|| {
            let path = path.display();
            format!("{path} is damaged; move it away: what the newest publication says is taken in then")
        })?;
        Ok(if of == store { taken } else { BTreeMap::new() })
    }

    /// Saves it. The caller holds the lock.
    pub(crate) fn save_taken(&self, store: &str, taken: &BTreeMap<String, u64>) -> anyhow::Result<()> {
        write(&self.path.join(TAKEN), &sealed::seal(&(store, taken))?)
    }

    /// Records that a run begins. Returns the one before, if it did not end.
    pub(crate) fn begin_run(&self, run: &BegunRun) -> anyhow::Result<Option<BegunRun>> {
        let path = self.path.join(RUNNING);
        let before = self.begun_run();
        let written = serde_json::to_vec(run)?;
        // Not synced: it is for the next run after one that was killed. What a power cut leaves of it can be lost.
        durable::replace(&path, &written, Options { sync: false, ..Options::PRIVATE })
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(before)
    }

    /// Records that the run has ended.
    pub(crate) fn end_run(&self) -> anyhow::Result<()> {
        let path = self.path.join(RUNNING);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// The run that has begun and has not ended. It is going on if [`StateDir::runner`] says so; otherwise it was killed.
    pub(crate) fn begun_run(&self) -> Option<BegunRun> {
        // One that cannot be read says nothing.
        let bytes = read(&self.path.join(RUNNING)).ok().flatten()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// The process that holds the lock of a run.
    pub(crate) fn runner(&self) -> Option<u32> {
        Lock::present_holder(&self.path.join("lock"))
    }

    /// The status document of the last run, if there was one.
    pub(crate) fn status(&self) -> anyhow::Result<Option<Vec<u8>>> {
        read(&self.status_path())
    }

    /// Where the status document is.
    pub(crate) fn status_path(&self) -> PathBuf {
        self.path.join(STATUS)
    }

    /// Replaces the status document.
    pub(crate) fn save_status(&self, json: &[u8]) -> anyhow::Result<()> {
        let private = Options { points: POINTS, ..Options::PRIVATE };
        let user = rustix::process::geteuid().as_raw();
        let options = match self.readers {
            Some(group) => Options { mode: 0o640, owner: Some((user, group)), ..private },
            None => private,
        };
        write_with(&self.status_path(), json, options)
    }

    /// Sets the mtime of `last-success` to the end of a full run that left everything in step.
    pub(crate) fn stamp_last_success(&self, ended: SystemTime) -> anyhow::Result<()> {
        let path = self.path.join(LAST_SUCCESS);
        let open = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = open.with_context(|| format!("cannot write {}", path.display()))?;
        if let Some(group) = self.readers {
            share(&file, group, 0o640).with_context(|| format!("cannot share {}", path.display()))?;
        }
        file.set_modified(ended).with_context(|| format!("cannot set the time of {}", path.display()))
    }

    /// The end of the last full run that left everything in step.
    pub(crate) fn last_success(&self) -> Option<SystemTime> {
        fs::metadata(self.path.join(LAST_SUCCESS)).and_then(|found| found.modified()).ok()
    }

    /// Whether a hub may show how runs went.
    pub(crate) fn is_shown(&self) -> bool {
        self.hub.is_some()
    }

    /// What the hub shows, as it was saved. It begins anew where that cannot be trusted: nothing depends on it.
    pub(crate) fn overview<T: DeserializeOwned + Default>(&self) -> T {
        let bytes = read(&self.path.join(OVERVIEW)).ok().flatten();
        bytes.and_then(|bytes| sealed::open(&bytes).ok()).unwrap_or_default()
    }

    /// Saves it here, for a hub that root runs, and in the state of the hub that is a service, if there is one.
    pub(crate) fn save_overview(&self, overview: &impl Serialize) -> anyhow::Result<()> {
        let sealed = sealed::seal(overview)?;
        for dir in [Some(&self.path), self.hub.as_ref()].into_iter().flatten() {
            leave(dir, &sealed).with_context(|| format!("cannot write {}", dir.join(OVERVIEW).display()))?;
        }
        Ok(())
    }

    /// What each run did.
    #[must_use]
    pub fn history(&self) -> History {
        History::at(self.path.join("history.db"))
    }

    /// Where digests of Main's own files are kept.
    #[must_use]
    pub(crate) fn cache_dir(&self) -> PathBuf {
        self.path.join("cache")
    }
}

const POINTS: Points = Points {
    write: Some(Point::StateWrite),
    sync: Some(Point::StateSync),
    rename: Some(Point::StateRename),
    dir_sync: Some(Point::StateDirSync),
};

/// Lets a group in.
fn share(file: &fs::File, group: u32, mode: u32) -> io::Result<()> {
    std::os::unix::fs::fchown(file, None, Some(group))?;
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
}

/// Replaces a file, and makes the directory it is in.
fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    write_with(path, content, Options { points: POINTS, ..Options::PRIVATE })
}

fn write_with(path: &Path, content: &[u8], options: Options) -> anyhow::Result<()> {
    durable::make_dir(parent(path), 0o700)
        .and_then(|()| durable::replace(path, content, options))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Leaves the overview in a directory, for whoever has that. It is held open meanwhile, so that its owner can lead nobody
/// elsewhere. What a power cut may take, the next run brings again.
fn leave(dir: &Path, content: &[u8]) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = match rustix::fs::open(dir, flags, Mode::empty()) {
        Ok(dir) => fs::File::from(dir),
        // No such service was ever started here.
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let found = dir.metadata()?;
    let owner = Some((found.uid(), found.gid()));
    let options = Options { owner, sync: false, ..Options::PRIVATE };
    durable::replace_at(dir.as_fd(), OsStr::new(OVERVIEW), content, options)
}

/// Renames a file over another one, and makes the directory that it goes to.
fn promote(from: &Path, to: &Path) -> anyhow::Result<()> {
    durable::make_dir(parent(to), 0o700)
        .and_then(|()| reach(Point::Promote))
        .and_then(|()| durable::rename(from, to))
        .with_context(|| format!("cannot write {}", to.display()))
}

fn read(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    durable::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// A name as the name of a file: the configuration allows only harmless ones, but a file must never be put
/// elsewhere because of a name.
fn file_name(name: &str) -> String {
    let mut file = String::new();
    for byte in name.bytes() {
        let is_harmless = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        // The first dot would hide it, or lead up.
        if is_harmless && !(file.is_empty() && byte == b'.') {
            file.push(char::from(byte));
        } else {
            file.push_str(&format!("%{byte:02x}"));
        }
    }
    if file.is_empty() { "%".to_owned() } else { file }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Digest, Tree};

    fn state() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        (dir, state)
    }

    #[test]
    fn what_was_saved_is_read() {
        let (_dir, state) = state();
        assert_eq!(state.identity().unwrap(), None);
        let identity = Identity { id: "01A".to_owned(), epoch: 3 };
        state.save_identity(&identity).unwrap();
        assert_eq!(state.identity().unwrap(), Some(identity));

        assert_eq!(state.edge("moh", "mds1"), Ok(None));
        let header = EdgeHeader {
            root: "01R".to_owned(),
            generation: Some("01G".to_owned()),
            rules: Digest([1; 32]),
            agreed: true,
            in_step: None,
        };
        let edge = EdgeRecord::new(header, &Tree::default(), &crate::model::KeptTrees::default(), None);
        state.save_edge("moh", "mds1", &edge).unwrap();
        assert_eq!(state.edge("moh", "mds1"), Ok(Some(edge)));
        assert_eq!(state.edge("moh", "mds2"), Ok(None));
    }

    #[test]
    fn answers_are_read_as_saved_or_not_at_all() {
        let (_dir, state) = state();
        assert_eq!(state.answers(), Ok(Answers::default()));
        let named = Named {
            name: "mds1".to_owned(),
            address: "10.0.0.11".to_owned(),
            user: Some("xds".to_owned()),
            paths: [("moh".to_owned(), "/srv/moh".into())].into(),
        };
        let answer = Answer { at: "2026-01-02T03:04:05Z".to_owned(), nodes: vec![named] };
        let answers = Answers([("postgres".to_owned(), answer)].into());
        state.save_answers(&answers).unwrap();
        assert_eq!(state.answers().as_ref(), Ok(&answers));

        let good = fs::read_to_string(state.path().join(DISCOVERY)).unwrap();
        for (from, to, why) in
            [("10.0.0.11", "10.6.6.6", "checksum"), ("\"version\": 1", "\"version\": 2", "version 2")]
        {
            fs::write(state.path().join(DISCOVERY), good.replacen(from, to, 1)).unwrap();
            let corrupt = state.answers().unwrap_err().to_string();
            assert!(corrupt.contains("discovery.json") && corrupt.contains(why), "{corrupt}");
        }
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let (dir, _) = state();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert!(StateDir::open(&open).is_err());
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        for name in ["..", "../x", "a/b", "", ".", ".new", "é", "a\0b"] {
            let file = file_name(name);
            let is_plain = file.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
            assert!(is_plain && !file.is_empty() && !file.starts_with('.'), "{file}");
        }
        assert_eq!(file_name("mds-1.example_org"), "mds-1.example_org");
    }

    proptest! {
        #[test]
        fn no_two_names_share_a_file(a in "[a2f%./é\u{e9a}]{0,4}", b in "[a2f%./é\u{e9a}]{0,4}") {
            prop_assert_eq!(file_name(&a) == file_name(&b), a == b);
        }
    }
}
