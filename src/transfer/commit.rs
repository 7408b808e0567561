//! Actions → the disk, in order, each of them all or nothing.
//!
//! Every action is checked against the host's own scan, looked at again, and then done in one step of
//! the kernel. New files get their mode, owner and time, and are on disk, before they are visible.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use anyhow::bail;
use rustix::fs::Stat;
use rustix::io::Errno;

use super::Seen;
use super::durable::Unsynced;
use super::own::OwnDir;
use super::place::{At, Ready};
use super::put::Put;
use super::trash::{Place, RunTrash, TrashEntry, TrashId, Trashed};
use crate::disk::{OWN_DIR, Owners, Stamp};
use crate::fault::{Point, reach};
use crate::model::{Action, Digest, Entry, EntryProblem, File, Outcome, RelPath, RelPathBuf, Step};

/// What a commit did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// One for each action.
    pub outcomes: Vec<Outcome>,
    /// The files whose content is known to stand there now: a hash cache may remember them.
    pub placed: Vec<Placed>,
    /// What went into the trash.
    pub trashed: Vec<TrashEntry>,
}

/// A file that was put in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Where.
    pub path: RelPathBuf,
    /// As it stands there.
    pub stamp: Stamp,
    /// Its content.
    pub digest: Digest,
}

/// Carries out `actions`. Contents must be in the stage; what goes, goes to the trash of `run`, a ULID.
///
/// All actions of a run in one call: what an earlier one removed, a later one must not find. All that is
/// told as done is on disk. `Err` means that nothing was touched.
pub fn commit(
    own: &OwnDir,
    run: &str,
    seen: &Seen<'_>,
    actions: &[Action],
    owners: &mut Owners,
) -> anyhow::Result<Committed> {
    let mut commit = Commit::new(own, run, seen, owners)?;
    commit.uses = uses(actions);
    commit.done.outcomes = vec![Outcome::Changed; actions.len()];
    for (index, action) in actions.iter().enumerate() {
        own.progress().fetch_add(1, Ordering::Relaxed);
        if action.step == Step::Delete {
            // What is deleted now may be deleted because those stand elsewhere by then.
            commit.put_ready();
        }
        match commit.act(index, action) {
            Ok(Acted::Later) => {}
            Ok(Acted::Is(outcome)) => commit.done.outcomes[index] = outcome,
            Err(error) => commit.done.outcomes[index] = failed(&error),
        }
    }
    commit.put_ready();
    Ok(commit.finish())
}

/// How many actions need each content.
fn uses(actions: &[Action]) -> HashMap<Digest, usize> {
    let mut uses = HashMap::new();
    for action in actions {
        if let Step::Put(Entry::File(file)) = &action.step {
            *uses.entry(file.digest).or_default() += 1;
        }
    }
    uses
}

pub(super) struct Commit<'a> {
    pub(super) own: &'a OwnDir,
    run: &'a str,
    seen: &'a Seen<'a>,
    pub(super) owners: Mutex<&'a mut Owners>,
    pub(super) trash: RunTrash<'a>,
    pub(super) unsynced: Unsynced,
    /// How many more actions need a content that is in the stage once.
    uses: HashMap<Digest, usize>,
    /// What was scanned and is no longer there, by our own doing.
    pub(super) gone: HashSet<RelPathBuf>,
    /// By inode, how files look whose other hard link we moved: that changes their ctime.
    pub(super) touched: HashMap<u64, Stamp>,
    /// Files that are in the stage, and not ready yet.
    pub(super) puts: Vec<Put<'a>>,
    /// Files that are complete in the stage, but not yet on disk.
    pub(super) ready: Vec<Ready>,
    pub(super) done: Committed,
}

/// How far an action came.
pub(super) enum Acted {
    Is(Outcome),
    /// It is done with all other files of the stage.
    Later,
}

impl<'a> Commit<'a> {
    pub(super) fn new(
        own: &'a OwnDir,
        run: &'a str,
        seen: &'a Seen<'a>,
        owners: &'a mut Owners,
    ) -> anyhow::Result<Commit<'a>> {
        Ok(Commit {
            own,
            run,
            seen,
            owners: Mutex::new(owners),
            trash: RunTrash::new(own, run)?,
            unsynced: Unsynced::default(),
            uses: HashMap::new(),
            gone: HashSet::new(),
            touched: HashMap::new(),
            puts: Vec::new(),
            ready: Vec::new(),
            done: Committed::default(),
        })
    }

    fn act(&mut self, index: usize, action: &'a Action) -> anyhow::Result<Acted> {
        if let Step::Put(Entry::File(file)) = &action.step {
            let last_use = self.uses.get_mut(&file.digest).is_none_or(|uses| {
                *uses = uses.saturating_sub(1);
                *uses == 0
            });
            self.puts.push(Put { index, action, file, last_use });
            return Ok(Acted::Later);
        }
        self.may_touch(&action.path)?;
        let Some(at) = self.look(&action.path, action.expected.as_ref())? else {
            return Ok(Acted::Is(Outcome::Changed));
        };
        match &action.step {
            Step::Put(Entry::Dir(meta)) => self.put_dir(index, &at, meta).map(Acted::Is),
            Step::Put(Entry::Symlink(link)) => self.put_symlink(index, action, &at, link).map(Acted::Is),
            Step::SetMeta(entry) => self.set_meta(index, action, &at, entry),
            Step::Move { from, from_expected, entry } => {
                self.move_file(index, action, &at, from, from_expected, entry)
            }
            Step::Delete => self.delete(&at, action.expected.as_ref(), &action.path).map(Acted::Is),
            Step::Put(entry) => bail!("cannot be made: {entry:?}"),
        }
    }

    /// Whether a path is for us to change, whatever the peer thinks: not what is ours, and not what the
    /// rules keep out or could not be seen, nor below it.
    pub(super) fn may_touch(&self, path: &RelPath) -> anyhow::Result<()> {
        if path.names().any(|name| name == OWN_DIR.as_bytes()) {
            bail!("belongs to xds-sync itself");
        }
        for (depth, path) in std::iter::once(path).chain(path.ancestors()).enumerate() {
            match self.scanned(path) {
                Some(Entry::Problem(EntryProblem::Special | EntryProblem::EscapingLink)) if depth == 0 => {}
                Some(entry) if entry.is_opaque() => bail!("is to be left alone"),
                _ => {}
            }
        }
        Ok(())
    }

    /// What the scan saw at a path, as far as we have not removed it since.
    fn scanned(&self, path: &RelPath) -> Option<&Entry> {
        self.seen.tree.get(path).filter(|_| !self.gone.contains(path))
    }

    /// Looks at a path again. `None` when it is not as `expected`, which must be what the scan saw.
    pub(super) fn look(&self, path: &RelPath, expected: Option<&Entry>) -> anyhow::Result<Option<At>> {
        let Some(mut at) = self.find(path, expected)? else { return Ok(None) };
        at.now = at.name().stat()?;
        let is_same = match (expected, &at.now) {
            (None, None) => true,
            (Some(Entry::Dir(_)), Some(now)) => self.is_same_dir(path, now),
            (Some(_), Some(now)) => self.is_same(path, now),
            _ => false,
        };
        Ok(is_same.then_some(at))
    }

    /// The same for a file to be put there. Where there was nothing, the kernel looks when it renames, and never
    /// replaces anything: a name that is not there is the slowest to look up.
    pub(super) fn look_to_put(&self, path: &RelPath, expected: Option<&Entry>) -> anyhow::Result<Option<At>> {
        if expected.is_none() { self.find(path, None) } else { self.look(path, expected) }
    }

    fn find(&self, path: &RelPath, expected: Option<&Entry>) -> anyhow::Result<Option<At>> {
        if self.scanned(path) != expected {
            return Ok(None);
        }
        match At::open(self.own.root(), path) {
            Ok(at) => Ok(Some(at)),
            // The directory it was in is gone, or something else by now.
            Err(error) if is_no_way(&error) && self.was_dir(path.parent()) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn was_dir(&self, parent: Option<&RelPath>) -> bool {
        parent.is_none_or(|parent| matches!(self.scanned(parent), Some(Entry::Dir(_))))
    }

    /// A directory's times change with what is in it.
    fn is_same_dir(&self, path: &RelPath, now: &Stat) -> bool {
        let now = Stamp::of(now);
        self.seen.stamp(path).is_some_and(|seen| (seen.ino, seen.mode) == (now.ino, now.mode))
    }

    fn is_same(&self, path: &RelPath, now: &Stat) -> bool {
        let now = Stamp::of(now);
        let is_touched =
            |seen: Stamp| seen.same_but_for_ctime(&now) && self.touched.get(&now.ino) == Some(&now);
        self.seen.stamp(path).is_some_and(|seen| seen == now || is_touched(seen))
    }

    pub(super) fn note_placed(&mut self, path: &RelPathBuf, file: &File, stamp: Stamp) {
        if (stamp.size, stamp.mtime) == (file.size, file.mtime) {
            self.done.placed.push(Placed { path: path.clone(), stamp, digest: file.digest });
        }
    }

    /// Notes what has gone to the trash: what the scan saw at `path`, and now looks like `caught`.
    pub(super) fn note_trashed(
        &mut self,
        place: &Place,
        path: &RelPath,
        expected: Option<&Entry>,
        caught: &Stat,
    ) {
        let stamp = Stamp::of(caught);
        self.touched.insert(stamp.ino, stamp);
        if let Some(Entry::File(file)) = expected {
            self.trash.note(place, path, &file.digest);
        }
        if let Ok(id) = TrashId::new(self.run, place.version()) {
            self.done.trashed.push(TrashEntry::of(Trashed { id, path: path.to_owned() }, caught));
        }
    }

    fn finish(mut self) -> Committed {
        // Without its index, the trash is only slower to find contents in.
        let _ = self.trash.save_index(&self.unsynced);
        let synced = reach(Point::CommitSync).and_then(|()| self.unsynced.sync(self.own));
        if let Err(error) = synced.and_then(|()| reach(Point::CommitTold)) {
            for outcome in self.done.outcomes.iter_mut().filter(|outcome| **outcome == Outcome::Done) {
                *outcome = Outcome::Failed(format!("could not be written to disk: {error}"));
            }
        }
        self.done
    }
}

pub(super) fn failed(error: &anyhow::Error) -> Outcome {
    Outcome::Failed(format!("{error:#}"))
}

fn is_no_way(error: &std::io::Error) -> bool {
    let ways = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP];
    ways.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
