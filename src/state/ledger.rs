//! What Main remembers besides the edges; small, and readable for people.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::model::{Digest, MAIN, RelPathBuf, Side, read_rfc3339};

/// What each directory that names a reload looked like when that reload last succeeded; `None` while it is owed.
pub(crate) type Loaded = BTreeMap<String, Option<Digest>>;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Ids of Main's roots, by directory.
    #[serde(default)]
    pub roots: BTreeMap<String, String>,
    /// Node → reload → what it has loaded.
    #[serde(default)]
    loaded: BTreeMap<String, BTreeMap<String, Loaded>>,
    /// Node → reload → what was warned of when it last succeeded. It holds until it succeeds again.
    #[serde(default)]
    reload_warnings: BTreeMap<String, BTreeMap<String, String>>,
    /// Directory → node → standing skips of the last plan.
    #[serde(default)]
    skips: BTreeMap<String, BTreeMap<String, Skips>>,
    /// Directory → host → the attributes that its disk does not keep, each with the first path where that was seen.
    #[serde(default)]
    unkept: BTreeMap<String, BTreeMap<String, Unkept>>,
    /// Node → the id of the machine that it is.
    #[serde(default)]
    pub(crate) machines: BTreeMap<String, String>,
    /// Paths that several ends changed differently, the oldest first.
    #[serde(default)]
    pub conflicts: Vec<ConflictRecord>,
    /// Directory → how many more conflicts wait in it than are known by name.
    #[serde(default)]
    pub more_waiting: BTreeMap<String, u64>,
}

/// Attributes by their names; see [`Ledger`].
pub(crate) type Unkept = BTreeMap<String, RelPathBuf>;

/// The standing skips of an edge: the first ones by name, the rest as a number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skips {
    pub first: BTreeSet<Skip>,
    /// How many more there are.
    pub more: u64,
}

/// Most standing skips of an edge that are known by name: a user of one host can make as many as there is room for.
const MAX_SKIPS: usize = 1000;

impl Skips {
    /// All of `skips`; those that come first in tree order by name.
    #[must_use]
    pub fn of(skips: impl IntoIterator<Item = Skip>) -> Skips {
        let mut all = Skips::default();
        for skip in skips {
            all.first.insert(skip);
            if all.first.len() > MAX_SKIPS {
                all.first.pop_last();
                all.more += 1;
            }
        }
        all
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }
}

/// A standing skip that was reported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Skip {
    pub path: RelPathBuf,
    /// On which end.
    pub side: Side,
    /// Why it is not carried.
    pub reason: String,
}

/// A conflict, decided or waiting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictRecord {
    pub directory: String,
    /// Where in it.
    pub path: RelPathBuf,
    /// Start of the run that saw it first, RFC 3339.
    pub since: String,
    /// The run that decided it, and whose version stayed; none while it waits.
    pub winner: Option<String>,
    /// Start of the run that decided it, RFC 3339.
    #[serde(default)]
    pub decided: Option<String>,
    /// For a waiting one: whose version an administrator chose; the next run carries it out.
    pub keep: Option<String>,
    /// All versions.
    pub versions: Vec<ConflictVersion>,
}

/// One host's version of a path in conflict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictVersion {
    /// `main` or the node's name.
    pub host: String,
    /// Bytes; 0 unless it is a file.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime: i64,
    /// Of the content; `None` unless it is a file.
    pub digest: Option<Digest>,
    /// Whether this host changed it; otherwise it has what all had before.
    #[serde(default)]
    pub changed: bool,
}

/// Decided conflicts beyond this number are forgotten, the oldest first: the versions that lost are hardly still in
/// the trash.
const MAX_DECIDED: usize = 1000;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Most waiting conflicts of a directory that are known by name: a node can make as many as there are files. What waits
/// beyond them is left alone on all hosts just the same, and has its turn as those before it are decided.
pub const MAX_WAITING: usize = 1000;

impl Ledger {
    /// What a node has loaded with a reload; `None` when that is not on record.
    #[must_use]
    pub(crate) fn loaded(&self, node: &str, reload: &str) -> Option<&Loaded> {
        self.loaded.get(node)?.get(reload)
    }

    /// Records `now` as loaded for directories that are not on record; whether there were any.
    pub(crate) fn count_as_loaded(
        &mut self,
        node: &str,
        reload: &str,
        now: &BTreeMap<String, Digest>,
    ) -> bool {
        let loaded = self.record(node, reload);
        let before = loaded.len();
        for (directory, digest) in now {
            loaded.entry(directory.clone()).or_insert(Some(*digest));
        }
        loaded.len() > before
    }

    /// Records that a reload is owed for directories, until it succeeds; whether that was not on record.
    pub(crate) fn owe_reload<'d>(
        &mut self,
        node: &str,
        reload: &str,
        directories: impl IntoIterator<Item = &'d String>,
    ) -> bool {
        let loaded = self.record(node, reload);
        let mut is_new = false;
        for directory in directories {
            is_new |= loaded.insert(directory.clone(), None) != Some(None);
        }
        is_new
    }

    /// Records that a reload succeeded with this, and what was warned of.
    pub(crate) fn reloaded(
        &mut self,
        node: &str,
        reload: &str,
        now: BTreeMap<String, Digest>,
        warning: Option<String>,
    ) {
        let now = now.into_iter().map(|(directory, digest)| (directory, Some(digest)));
        self.record(node, reload).extend(now);
        let warnings = self.reload_warnings.entry(node.to_owned()).or_default();
        match warning {
            Some(warning) => warnings.insert(reload.to_owned(), warning),
            None => warnings.remove(reload),
        };
    }

    /// What was warned of when a reload last succeeded.
    #[must_use]
    pub(crate) fn reload_warning(&self, node: &str, reload: &str) -> Option<&String> {
        self.reload_warnings.get(node)?.get(reload)
    }

    fn record(&mut self, node: &str, reload: &str) -> &mut Loaded {
        self.loaded.entry(node.to_owned()).or_default().entry(reload.to_owned()).or_default()
    }

    /// The standing skips of an edge that were reported.
    #[must_use]
    pub(crate) fn skips(&self, directory: &str, node: &str) -> Skips {
        self.skips.get(directory).and_then(|nodes| nodes.get(node)).cloned().unwrap_or_default()
    }

    /// The attributes that a host's disk does not keep, as far as that was reported.
    #[must_use]
    pub(crate) fn unkept(&self, directory: &str, host: &str) -> Unkept {
        self.unkept.get(directory).and_then(|hosts| hosts.get(host)).cloned().unwrap_or_default()
    }

    /// Replaces them.
    pub(crate) fn set_unkept(&mut self, directory: &str, host: &str, unkept: Unkept) {
        let hosts = self.unkept.entry(directory.to_owned()).or_default();
        if unkept.is_empty() {
            hosts.remove(host);
        } else {
            hosts.insert(host.to_owned(), unkept);
        }
    }

    /// Replaces the standing skips of an edge.
    pub fn set_skips(&mut self, directory: &str, node: &str, skips: Skips) {
        let nodes = self.skips.entry(directory.to_owned()).or_default();
        if skips.is_empty() {
            nodes.remove(node);
        } else {
            nodes.insert(node.to_owned(), skips);
        }
    }

    /// Replaces the waiting conflicts of `directory` by those that its plan found. One that still waits keeps its age
    /// and the version that was chosen for it.
    pub fn set_conflicts(&mut self, directory: &str, found: impl Iterator<Item = ConflictRecord> + Clone) {
        let waiting = |record: &ConflictRecord| record.directory == directory && record.winner.is_none();
        let before = self.conflicts.extract_if(.., |record| waiting(record));
        let before: BTreeMap<RelPathBuf, ConflictRecord> =
            before.map(|known| (known.path.clone(), known)).collect();
        let is_decided = |record: &ConflictRecord| record.winner.is_some();
        let is_known = |record: &ConflictRecord| before.contains_key(&record.path);
        let decided = found.clone().filter(is_decided).count();
        let decided = found.clone().filter(is_decided).skip(decided.saturating_sub(MAX_DECIDED));
        // Those that are known come first: an administrator may have chosen already.
        let known = found.clone().filter(|record| !is_decided(record) && is_known(record));
        let new = found.filter(|record| !is_decided(record) && !is_known(record));
        let (mut left, mut more) = (MAX_WAITING, 0);
        for mut record in known.chain(new).chain(decided) {
            if !is_decided(&record) {
                if left == 0 {
                    more += 1;
                    continue;
                }
                left -= 1;
            }
            if let Some(known) = before.get(&record.path) {
                record.since.clone_from(&known.since);
                if record.winner.is_none() {
                    record.keep.clone_from(&known.keep);
                }
            }
            self.conflicts.push(record);
        }
        match more {
            0 => self.more_waiting.remove(directory),
            more => self.more_waiting.insert(directory.to_owned(), more),
        };
        self.forget_decided();
    }

    fn forget_decided(&mut self) {
        let decided = self.conflicts.iter().filter(|record| record.winner.is_some()).count();
        let mut forget = decided.saturating_sub(MAX_DECIDED);
        self.conflicts.retain(|record| {
            let old = record.winner.is_some() && forget > 0;
            forget -= usize::from(old);
            !old
        });
    }

    /// Forgets conflicts that were decided before this moment: what lost is in no trash any more. They are of one day, so that
    /// a clock that jumps ahead does not forget all of them at once.
    pub fn forget_decided_before(&mut self, moment: SystemTime) {
        let decided = |record: &ConflictRecord| {
            record.winner.as_ref()?;
            read_rfc3339(record.decided.as_ref().unwrap_or(&record.since))
        };
        let Some(oldest) = self.conflicts.iter().filter_map(decided).min() else { return };
        let moment = moment.min(oldest + DAY);
        self.conflicts.retain(|record| decided(record).is_none_or(|decided| decided >= moment));
    }

    /// Forgets decided conflicts of a directory, or of a path in it, or all; how many there were.
    pub fn clear_decided(&mut self, is_meant: impl Fn(&ConflictRecord) -> bool) -> usize {
        let before = self.conflicts.len();
        self.conflicts.retain(|record| record.winner.is_none() || !is_meant(record));
        before - self.conflicts.len()
    }

    /// Forgets nodes that are no longer configured.
    pub(crate) fn forget_nodes_except<'n>(&mut self, nodes: impl Iterator<Item = &'n str>) {
        let nodes: BTreeSet<&str> = nodes.collect();
        self.loaded.retain(|node, _| nodes.contains(node.as_str()));
        self.machines.retain(|node, _| nodes.contains(node.as_str()));
        self.reload_warnings.retain(|node, _| nodes.contains(node.as_str()));
        for known in self.skips.values_mut() {
            known.retain(|node, _| nodes.contains(node.as_str()));
        }
        for hosts in self.unkept.values_mut() {
            hosts.retain(|host, _| host == MAIN || nodes.contains(host.as_str()));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::durable::sealed;

    fn record(path: &str, winner: Option<&str>) -> ConflictRecord {
        ConflictRecord {
            directory: "recordings".to_owned(),
            path: RelPathBuf::new(path.as_bytes()).unwrap(),
            since: "2026-01-02T03:04:05Z".to_owned(),
            winner: winner.map(str::to_owned),
            decided: winner.map(|_| "2026-01-02T03:04:05Z".to_owned()),
            keep: None,
            versions: Vec::new(),
        }
    }

    #[test]
    fn a_ledger_is_read_as_written() {
        let mut ledger = Ledger::default();
        ledger.roots.insert("moh".to_owned(), "01R".to_owned());
        ledger.reloaded(
            "mds1",
            "moh",
            BTreeMap::from([("moh".to_owned(), Digest([7; 32]))]),
            Some("no class".to_owned()),
        );
        ledger.owe_reload("mds1", "dialplan", [&"dialplan".to_owned()]);
        ledger.set_conflicts(
            "recordings",
            [record("a.wav", Some("main")), record("\u{1b}\n\\", None)].into_iter(),
        );
        let not_utf8 = RelPathBuf::new(&b"\xff.wav"[..]).unwrap();
        let skip = Skip { path: not_utf8, side: Side::Node, reason: "a socket".to_owned() };
        ledger.set_skips("recordings", "mds1", Skips::of([skip]));
        assert_eq!(sealed::open::<Ledger>(&sealed::seal(&ledger).unwrap()).unwrap(), ledger);
    }

    #[test]
    fn only_the_first_sight_counts_as_loaded() {
        let mut ledger = Ledger::default();
        let at = |byte| BTreeMap::from([("dialplan".to_owned(), Digest([byte; 32]))]);
        let loaded = |byte| Loaded::from([("dialplan".to_owned(), Some(Digest([byte; 32])))]);
        assert!(ledger.count_as_loaded("mds1", "dialplan", &at(1)));
        assert!(!ledger.count_as_loaded("mds1", "dialplan", &at(2)));
        assert_eq!(ledger.loaded("mds1", "dialplan"), Some(&loaded(1)));
        ledger.reloaded("mds1", "dialplan", at(3), None);
        assert_eq!(ledger.loaded("mds1", "dialplan"), Some(&loaded(3)));
    }

    #[test]
    fn a_warning_holds_until_the_next_success() {
        let mut ledger = Ledger::default();
        ledger.reloaded("mds1", "moh", BTreeMap::new(), Some("no class".to_owned()));
        ledger.owe_reload("mds1", "moh", [&"moh".to_owned()]);
        assert_eq!(ledger.reload_warning("mds1", "moh").unwrap(), "no class");
        ledger.reloaded("mds1", "moh", BTreeMap::new(), None);
        assert_eq!(ledger.reload_warning("mds1", "moh"), None);
    }

    #[test]
    fn what_is_owed_does_not_count_as_loaded() {
        let mut ledger = Ledger::default();
        let at = |byte| BTreeMap::from([("dialplan".to_owned(), Digest([byte; 32]))]);
        let owed = Loaded::from([("dialplan".to_owned(), None)]);
        assert!(ledger.owe_reload("mds1", "dialplan", at(1).keys()));
        assert!(!ledger.owe_reload("mds1", "dialplan", at(1).keys()));
        assert!(!ledger.count_as_loaded("mds1", "dialplan", &at(1)));
        assert_eq!(ledger.loaded("mds1", "dialplan"), Some(&owed));
    }

    #[test]
    fn a_waiting_conflict_stays_until_a_plan_no_longer_has_it() {
        let mut ledger = Ledger::default();
        ledger.set_conflicts("recordings", [record("a", None), record("b", Some("main"))].into_iter());
        let later = ConflictRecord { since: "2027-01-02T03:04:05Z".to_owned(), ..record("a", None) };
        ledger.set_conflicts("recordings", [later].into_iter());
        assert_eq!(ledger.conflicts, [record("b", Some("main")), record("a", None)]);
        ledger.set_conflicts("recordings", std::iter::empty());
        assert_eq!(ledger.conflicts, [record("b", Some("main"))]);
    }

    #[test]
    fn decided_conflicts_age_out_and_can_be_cleared() {
        let decided = |path: &str, at: &str| ConflictRecord {
            decided: Some(at.to_owned()),
            ..record(path, Some("main"))
        };
        let conflicts = vec![
            decided("a", "2026-01-02T03:04:05Z"),
            record("waits", None),
            decided("b", "2026-01-05T03:04:05Z"),
            decided("c", "2026-03-05T03:04:05Z"),
        ];
        let mut ledger = Ledger { conflicts, ..Ledger::default() };
        let paths = |ledger: &Ledger| {
            ledger.conflicts.iter().map(|record| record.path.escaped()).collect::<Vec<_>>().join(" ")
        };
        let at = |text: &str| read_rfc3339(text).unwrap();
        ledger.forget_decided_before(at("2026-01-02T03:04:05Z"));
        assert_eq!(paths(&ledger), "a waits b c");
        for left in ["waits b c", "waits c"] {
            ledger.forget_decided_before(at("2026-02-01T00:00:00Z"));
            assert_eq!(paths(&ledger), left, "a day at a time");
        }
        ledger.forget_decided_before(at("2026-02-01T00:00:00Z"));
        assert_eq!(ledger.clear_decided(|record| record.directory == "moh"), 0);
        assert_eq!(ledger.clear_decided(|_| true), 1);
        assert_eq!(paths(&ledger), "waits");
    }

    #[test]
    fn waiting_conflicts_are_bounded_and_none_is_lost() {
        let mut ledger = Ledger::default();
        let at = |number: usize| record(&format!("{number:06}"), None);
        let waiting = |ledger: &Ledger| -> Vec<String> {
            ledger.conflicts.iter().map(|record| record.path.escaped()).collect()
        };
        ledger.set_conflicts("recordings", (500..500 + MAX_WAITING).map(at));
        assert!(ledger.more_waiting.is_empty());
        ledger.conflicts[7].keep = Some("mds1".to_owned());
        let known = waiting(&ledger);
        let size = |ledger: &Ledger| sealed::seal(ledger).unwrap().len();
        let before = size(&ledger);

        // Others that come first in tree order do not push out what is known, nor what was chosen for it.
        ledger.set_conflicts("recordings", (0..20 * MAX_WAITING).map(at));
        assert_eq!(waiting(&ledger), known);
        assert_eq!(ledger.conflicts[7].keep.as_deref(), Some("mds1"));
        assert_eq!(ledger.more_waiting["recordings"], 19 * MAX_WAITING as u64);
        assert!(size(&ledger) < before + 100);

        // Of those that are decided each makes room for another.
        ledger.set_conflicts("recordings", (501..20 * MAX_WAITING).map(at));
        assert_eq!(waiting(&ledger).len(), MAX_WAITING);
        assert_eq!(ledger.more_waiting["recordings"], 19 * MAX_WAITING as u64 - 501);
        ledger.set_conflicts("recordings", std::iter::empty());
        assert!(ledger.conflicts.is_empty() && ledger.more_waiting.is_empty());
    }

    #[test]
    fn skips_are_bounded() {
        let skip = |number: usize| Skip {
            path: RelPathBuf::new(format!("{number:06}").into_bytes()).unwrap(),
            side: Side::Node,
            reason: "a socket".to_owned(),
        };
        let some = Skips::of((0..MAX_SKIPS).map(skip));
        assert_eq!((some.first.len(), some.more), (MAX_SKIPS, 0));
        let size = |skips: &Skips| {
            let mut ledger = Ledger::default();
            ledger.set_skips("recordings", "mds1", skips.clone());
            sealed::seal(&ledger).unwrap().len()
        };
        let many = Skips::of((0..20 * MAX_SKIPS).rev().map(skip));
        assert_eq!((&many.first, many.more), (&some.first, 19 * MAX_SKIPS as u64));
        assert!(size(&many) < size(&some) + 10);
    }

    #[test]
    fn nodes_that_are_gone_are_forgotten() {
        let mut ledger = Ledger::default();
        ledger.reloaded("mds1", "moh", BTreeMap::new(), Some("no class".to_owned()));
        ledger.reloaded("mds2", "moh", BTreeMap::new(), Some("no class".to_owned()));
        ledger.forget_nodes_except(["mds2"].into_iter());
        assert_eq!(ledger.loaded("mds1", "moh"), None);
        assert!(ledger.loaded("mds2", "moh").is_some());
        assert_eq!(ledger.reload_warning("mds1", "moh"), None);
        assert_eq!(ledger.reload_warning("mds2", "moh").unwrap(), "no class");
    }
}
