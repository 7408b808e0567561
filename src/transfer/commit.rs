//! Actions → the disk, in order, each of them all or nothing.
//!
//! Every action is checked against the host's own scan, looked at again, and then done in one step of
//! the kernel. New files get their mode, owner and time, and are on disk, before they are visible.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::Ordering;

use anyhow::{anyhow, bail};
use rustix::io::Errno;

use super::ScannedTree;
use super::alter::{Altered, move_file, set_meta};
use super::blobs::threads_for;
use super::live::TreeName;
use super::own::OwnDir;
use super::put::{PutFile, ReadyFile, put_dir, put_ready, put_symlink, ready_blob};
use super::room::is_out_of_room;
use super::sweep;
use super::trash::TrashEntry;
use super::tree_writer::{Placed, TreeWriter};
use crate::disk::{Owners, Stamp};
use crate::fault::{Point, reach};
use crate::model::{Action, Digest, Entry, Outcome, RelPath, Step};
use crate::threads::side_by_side;

/// Begins the reason of what lies in a directory that could not be made.
const LOST: &str = "could not make the directory";

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

/// Carries out `actions`. Their blobs must be in the stage; what goes, goes to the trash of `run`, a ULID.
///
/// All actions of a run in one call: what an earlier one removed, a later one must not find. All that is
/// reported as done is on disk. `Err` means that nothing was touched.
///
/// Where the disk turns out to be full, what is left in the stage is dropped: others need the room at once.
pub fn commit(
    own: &OwnDir,
    run: &str,
    seen: &ScannedTree<'_>,
    actions: &[Action],
    owners: &mut Owners,
) -> anyhow::Result<Committed> {
    let mut commit = Committer {
        tree: TreeWriter::new(own, run, seen, owners)?,
        uses: uses(actions),
        puts: Vec::new(),
        copies: Vec::new(),
        outcomes: vec![Outcome::Changed; actions.len()],
        out_of_room: false,
        lost_dirs: HashMap::new(),
    };
    for (index, action) in actions.iter().enumerate() {
        own.progress().fetch_add(1, Ordering::Relaxed);
        if action.step == Step::Delete {
            // What is deleted now may be deleted because those stand elsewhere by then.
            commit.put_files();
        }
        let acted = match commit.lost_dir(action) {
            Some(why) => Err(anyhow!(why)),
            None => commit.act(index, action),
        };
        match acted {
            Ok(Some(outcome)) => commit.outcomes[index] = outcome,
            Ok(None) => {}
            Err(error) => {
                if matches!(action.step, Step::Put(Entry::Dir(_))) {
                    commit.lost_dirs.insert(&action.path, format!("{error:#}"));
                }
                commit.outcomes[index] = commit.failed(&error);
            }
        }
    }
    commit.put_files();
    let (committed, out_of_room) = commit.finish();
    if out_of_room {
        sweep::drop_blobs(own);
    }
    Ok(committed)
}

/// How many actions need each blob.
fn uses(actions: &[Action]) -> HashMap<Digest, usize> {
    let mut uses = HashMap::new();
    for action in actions {
        if let Step::Put(Entry::File(file)) = &action.step {
            *uses.entry(file.digest).or_default() += 1;
        }
    }
    uses
}

struct Committer<'a> {
    tree: TreeWriter<'a>,
    /// How many more actions need a blob that is in the stage once.
    uses: HashMap<Digest, usize>,
    /// Files to put in place, and whether no action after it needs the same blob.
    puts: Vec<(PutFile<'a>, bool)>,
    /// Files that are put in place as copies of others, ready already.
    copies: Vec<ReadyFile>,
    outcomes: Vec<Outcome>,
    /// Whether anything failed because the disk was full.
    out_of_room: bool,
    /// The directories that could not be made, and why.
    lost_dirs: HashMap<&'a RelPath, String>,
}

impl<'a> Committer<'a> {
    /// Why what an action is to make has no directory to stand in, if it was to be made before.
    fn lost_dir(&self, action: &Action) -> Option<String> {
        if self.lost_dirs.is_empty() || action.step == Step::Delete {
            return None;
        }
        let mut above = action.path.ancestors();
        above.find_map(|dir| {
            let why = self.lost_dirs.get(dir)?;
            // The first of them says it all; those below it repeat its words.
            Some(if why.starts_with(LOST) {
                why.clone()
            } else {
                format!("{LOST} {}: {why}", dir.for_people())
            })
        })
    }

    /// `None` for a file: it is put in place with the others.
    fn act(&mut self, index: usize, action: &'a Action) -> anyhow::Result<Option<Outcome>> {
        if let Step::Put(Entry::File(file)) = &action.step {
            let last_use = self.uses.get_mut(&file.digest).is_none_or(|uses| {
                *uses = uses.saturating_sub(1);
                *uses == 0
            });
            self.puts.push((PutFile { index, action, file }, last_use));
            return Ok(None);
        }
        let tree = &mut self.tree;
        tree.live.may_touch(&action.path)?;
        let Some(at) = tree.live.look(&action.path, action.expected.as_ref())? else {
            return Ok(Some(Outcome::Changed));
        };
        let altered = match &action.step {
            Step::Put(_) | Step::Delete => return self.put_or_delete(index, action, &at).map(Some),
            Step::SetMeta(entry) => set_meta(tree, index, action, &at, entry)?,
            Step::Move { .. } => move_file(tree, index, action, &at)?,
        };
        match altered {
            Altered::Is(outcome) => Ok(Some(outcome)),
            Altered::ByCopy(ready) => {
                self.copies.push(*ready);
                Ok(None)
            }
        }
    }

    fn put_or_delete(&mut self, index: usize, action: &Action, at: &TreeName) -> anyhow::Result<Outcome> {
        let tree = &mut self.tree;
        match &action.step {
            Step::Put(Entry::Dir(meta)) => put_dir(tree, index, at, meta),
            Step::Put(Entry::Symlink(link)) => put_symlink(tree, index, action, at, link),
            Step::Delete => tree.delete(at, action.expected.as_ref(), &action.path),
            step => bail!("cannot be made: {step:?}"),
        }
    }

    /// Readies the files of the stage, and puts them in place once they are on disk.
    fn put_files(&mut self) {
        // Copies first: the last action that needs a blob takes it, and gives it a mode that may forbid to read it.
        let mut puts = std::mem::take(&mut self.puts);
        puts.sort_by_key(|(_, last_use)| *last_use);
        let (copied, last) = puts.split_at(puts.partition_point(|(_, last_use)| !last_use));
        let mut ready = std::mem::take(&mut self.copies);
        self.ready_all(copied, &mut ready);
        self.ready_all(last, &mut ready);
        if ready.is_empty() {
            return;
        }
        if let Err(error) = reach(Point::ReadySync).and_then(|()| self.tree.unsynced.sync(self.tree.own)) {
            self.out_of_room |= is_out_of_room(&error);
            let failed = || anyhow!("could not be written to disk: {error}");
            ready.iter().for_each(|ready| self.note_put(ready, Err(failed())));
            return;
        }
        // One by one: the kernel renames one file of a filesystem at a time, and threads would only wait for it.
        for ready in ready {
            let put = put_ready(&mut self.tree, &ready);
            self.note_put(&ready, put);
        }
    }

    fn ready_all(&mut self, puts: &[(PutFile<'_>, bool)], all: &mut Vec<ReadyFile>) {
        let ready = |(put, last_use): &(PutFile<'_>, bool)| ready_blob(&self.tree, put, *last_use);
        let ready = side_by_side(puts, threads_for(puts.len()), ready);
        for ((put, _), ready) in puts.iter().zip(ready) {
            match ready {
                Ok(Some(ready)) => all.push(ready),
                Ok(None) => self.outcomes[put.index] = Outcome::Changed,
                Err(error) => self.outcomes[put.index] = self.failed(&error),
            }
        }
    }

    fn note_put(&mut self, ready: &ReadyFile, put: anyhow::Result<(Outcome, Option<Stamp>)>) {
        let (outcome, stamp) = put.unwrap_or_else(|error| (self.failed(&error), None));
        if let Some(stamp) = stamp {
            self.tree.note_placed(&ready.path, &ready.file, stamp);
        }
        if !outcome.is_done() && ready.staged != ready.file.digest.to_string() {
            // Only one more copy; where it is gone already, all the better.
            let _ = ready.staged(self.tree.own).remove();
        }
        self.outcomes[ready.index] = outcome;
    }

    fn failed(&mut self, error: &anyhow::Error) -> Outcome {
        self.out_of_room |= error.chain().any(|cause| {
            let errno = cause.downcast_ref::<Errno>().map(|errno| io::Error::from(*errno));
            cause.downcast_ref::<io::Error>().or(errno.as_ref()).is_some_and(is_out_of_room)
        });
        Outcome::Failed(format!("{error:#}"))
    }

    /// What was done, and whether the disk was full.
    fn finish(mut self) -> (Committed, bool) {
        let (placed, trashed, synced) = self.tree.finish();
        if let Err(error) = synced {
            self.out_of_room |= is_out_of_room(&error);
            for outcome in self.outcomes.iter_mut().filter(|outcome| outcome.is_done()) {
                *outcome = Outcome::Failed(format!("could not be written to disk: {error}"));
            }
        }
        (Committed { outcomes: self.outcomes, placed, trashed }, self.out_of_room)
    }
}
