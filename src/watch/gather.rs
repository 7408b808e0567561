//! `events + now → directories to look at`: single changes go at once, bursts are gathered.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dirt::Dirt;
use crate::model::{RelPath, RelPathBuf};

/// A burst is over once nothing has happened for so long.
const QUIET: Duration = Duration::from_millis(200);
/// However long a burst lasts, what it has changed so far waits no longer.
const LONGEST: Duration = Duration::from_secs(2);
/// What was written under a new name waits so long for its rename: editors, `sed -i` and rsync write that way.
const RENAME: Duration = Duration::from_millis(25);
/// Most files without evidence that are told apart.
const MOST_UNSURE: usize = 1000;
/// Most complete files of a directory that are told apart: beyond it their age decides.
const MOST_COMPLETE: usize = 1000;

/// What an event tells of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// It is whole: closed after writing, or renamed into place.
    Complete,
    /// Its mode, owner or time was changed: it is whole unless somebody has just made it.
    Touched,
    /// A file was made here, and somebody may be writing it.
    Created,
    /// A directory was made, or moved here: what is in it comes with it.
    Directory,
    /// It was removed, or moved away.
    Removed,
    /// A run of ours has put it there: it is whole, and no news.
    Own,
}

/// What has changed in which directory and waits for a run.
#[derive(Debug, Default)]
pub struct Gather {
    directories: BTreeMap<String, Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    dirt: Dirt,
    /// The first and the last change of what waits.
    first: Option<Duration>,
    last: Option<Duration>,
    /// When it goes if nothing else is under way; `None`: when the burst is over.
    lead: Option<Duration>,
    /// The last change at all. One that comes soon after belongs to the same burst.
    seen: Option<Duration>,
    /// Files without evidence that they are whole, and when they are settled.
    unsure: BTreeMap<RelPathBuf, Duration>,
    /// Files that are whole, and until when their age would say otherwise.
    complete: BTreeMap<RelPathBuf, Duration>,
}

impl Gather {
    /// Something happened to a path of a directory, in which a file without evidence is whole `settle` after its last
    /// change.
    pub fn add(&mut self, now: Duration, directory: &str, path: &RelPath, kind: Kind, settle: Duration) {
        let pending = self.directories.entry(directory.to_owned()).or_default();
        let in_burst = pending.seen.is_some_and(|seen| now < seen + QUIET) && pending.lead.is_none();
        match kind {
            Kind::Own => {
                pending.unsure.remove(path);
                pending.completes(now, path, settle);
                return;
            }
            Kind::Created => {
                pending.complete.remove(path);
                if pending.unsure.len() < MOST_UNSURE {
                    pending.unsure.insert(path.to_owned(), now + settle);
                } else {
                    pending.change(now, &Dirt::whole());
                }
                return;
            }
            Kind::Touched if pending.unsure.contains_key(path) => return,
            Kind::Complete | Kind::Touched => {
                let is_new = pending.unsure.remove(path).is_some();
                pending.completes(now, path, settle);
                // The first one of a burst goes at once, while nothing of it is known to be half done.
                let is_first = pending.first.is_none() && !in_burst;
                let lead = now + if is_new { RENAME } else { Duration::ZERO };
                let goes_on = pending.lead.map(|before| before.max(lead));
                pending.lead = if is_first { Some(lead) } else { goes_on };
            }
            Kind::Removed => {
                pending.complete.remove(path);
                // A temporary file that was renamed is no loss. Any other one may be about to be written anew.
                let was_new = pending.unsure.remove(path).is_some() || pending.is_leading_with(path);
                if !was_new {
                    pending.lead = None;
                }
            }
            Kind::Directory => pending.lead = None,
        }
        pending.seen = Some(now);
        let mut dirt = Dirt::default();
        dirt.add(path);
        pending.change(now, &dirt);
    }

    /// Anything may have changed in a directory; nothing says whether its files are whole.
    pub fn add_whole(&mut self, now: Duration, directory: &str) {
        let pending = self.directories.entry(directory.to_owned()).or_default();
        pending.unsure.clear();
        pending.complete.clear();
        pending.change(now, &Dirt::whole());
    }

    /// When [`Gather::take`] has something next. `is_idle` says whether no run is under way for a directory.
    pub fn next_due(&self, is_idle: impl Fn(&str) -> bool) -> Option<Duration> {
        self.directories.iter().filter_map(|(name, pending)| pending.due(is_idle(name))).min()
    }

    /// What is to be looked at now, by directory.
    pub fn take(&mut self, now: Duration, is_idle: impl Fn(&str) -> bool) -> Vec<(String, Dirt)> {
        let mut taken = Vec::new();
        for (name, pending) in &mut self.directories {
            pending.settle(now);
            if pending.due(is_idle(name)).is_some_and(|due| due <= now) && !pending.dirt.is_empty() {
                taken.push((name.clone(), std::mem::take(&mut pending.dirt)));
                (pending.first, pending.last, pending.lead) = (None, None, None);
            }
        }
        self.directories.retain(|_, pending| !pending.is_forgotten(now));
        taken
    }

    /// Whether anything of a directory waits.
    #[must_use]
    pub fn has(&self, directory: &str) -> bool {
        self.directories
            .get(directory)
            .is_some_and(|pending| !pending.dirt.is_empty() || !pending.unsure.is_empty())
    }

    /// The files of a directory that are known to be whole, whatever their age.
    #[must_use]
    pub fn complete(&self, now: Duration, directory: &str) -> Vec<RelPathBuf> {
        let files = self.directories.get(directory).map(|pending| &pending.complete).into_iter().flatten();
        files.filter(|(_, until)| **until > now).map(|(path, _)| path.clone()).collect()
    }

    /// How much is remembered, for tests of growth.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        let of = |pending: &Pending| {
            pending.unsure.len() + pending.complete.len() + pending.dirt.len().unwrap_or(0) + 1
        };
        self.directories.values().map(of).sum()
    }
}

impl Pending {
    fn change(&mut self, now: Duration, dirt: &Dirt) {
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.dirt.merge(dirt);
    }

    fn completes(&mut self, now: Duration, path: &RelPath, settle: Duration) {
        // A second more, since the file's time and ours are read from different clocks.
        let until = now + settle + Duration::from_secs(1);
        if self.complete.len() >= MOST_COMPLETE {
            self.complete.retain(|_, until| *until > now);
        }
        if self.complete.len() < MOST_COMPLETE {
            self.complete.insert(path.to_owned(), until);
        }
    }

    /// Whether all that waits is this one file, written under a new name.
    fn is_leading_with(&self, path: &RelPath) -> bool {
        self.lead.is_some() && self.dirt.len() == Some(1) && self.dirt.covers(path)
    }

    /// Lets files that nobody has touched for long enough be whole.
    fn settle(&mut self, now: Duration) {
        let settled: Vec<RelPathBuf> =
            self.unsure.iter().filter(|(_, at)| **at <= now).map(|(path, _)| path.clone()).collect();
        for path in settled {
            self.unsure.remove(&path);
            self.dirt.add(&path);
            self.first.get_or_insert(now);
            self.last.get_or_insert(now);
        }
    }

    fn due(&self, is_idle: bool) -> Option<Duration> {
        let gathered = match (self.first, self.last) {
            (Some(first), Some(last)) => Some((last + QUIET).min(first + LONGEST)),
            _ => None,
        };
        let lead = self.lead.filter(|_| is_idle);
        let settled = self.unsure.values().min().copied();
        [gathered, lead, settled].into_iter().flatten().min()
    }

    fn is_forgotten(&mut self, now: Duration) -> bool {
        self.complete.retain(|_, until| *until > now);
        self.dirt.is_empty()
            && self.unsure.is_empty()
            && self.complete.is_empty()
            && self.seen.is_none_or(|seen| now >= seen + QUIET)
    }
}
