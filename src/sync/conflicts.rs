//! Conflicts between what was remembered of them and what a plan finds.

use crate::config::Directory;
use crate::model::{Entry, MAIN, Tree};
use crate::plan::both::Resolutions;
use crate::plan::{Host, Plan};
use crate::state::{ConflictRecord, Ledger, Version};
use crate::sync::joint::Seen;
use crate::sync::{Run, lock};

/// What an administrator chose for conflicts that wait, as far as the chosen version is still there.
pub(super) fn decisions(ledger: &Ledger, directory: &Directory, main: &Tree, seen: &[Seen]) -> Resolutions {
    let chosen = |record: &ConflictRecord| {
        let keep = record.keep.as_deref()?;
        let (host, tree) = match seen.iter().position(|seen| seen.name == keep) {
            Some(index) => (Host::Node(index), &*seen[index].tree),
            None if keep == MAIN => (Host::Main, main),
            None => return None,
        };
        let now = version(keep, tree.get(&record.path)?);
        record.versions.contains(&now).then(|| (record.path.clone(), host))
    };
    let here = ledger.conflicts.iter().filter(|record| record.directory == directory.name);
    here.filter_map(chosen).collect()
}

/// Records the conflicts of a plan that is about to be carried out.
pub(super) fn remember(run: &Run<'_>, directory: &Directory, plan: &Plan, seen: &[Seen]) {
    let name = |host: Host| match host {
        Host::Main => MAIN,
        Host::Node(index) => seen.get(index).map_or("", |seen| &seen.name),
    };
    let since = humantime::format_rfc3339_seconds((run.site.now)()).to_string();
    let record = |conflict: &crate::plan::Conflict| ConflictRecord {
        directory: directory.name.clone(),
        path: conflict.path.clone(),
        since: since.clone(),
        winner: conflict.winner.map(|host| name(host).to_owned()),
        keep: None,
        versions: conflict.versions.iter().map(|(host, entry)| version(name(*host), entry)).collect(),
    };
    lock(&run.ledger).set_conflicts(&directory.name, plan.conflicts.iter().map(record).collect());
}

fn version(host: &str, entry: &Entry) -> Version {
    let file = entry.as_file();
    Version {
        host: host.to_owned(),
        size: file.map_or(0, |file| file.size),
        mtime: file.map_or(0, |file| file.mtime),
        digest: file.map(|file| file.digest),
    }
}
