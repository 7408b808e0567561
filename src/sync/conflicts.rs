//! Conflicts, between what is recorded of them and what a plan finds.

use crate::model::{Entry, MAIN, Tree, rfc3339};
use crate::plan::both::Resolutions;
use crate::plan::{Conflict, Host, Plan};
use crate::state::{ConflictRecord, ConflictVersion, Ledger};
use crate::sync::spec::DirectorySpec;
use crate::sync::{Run, lock};

/// What an administrator chose for conflicts that wait, as far as the chosen version is still there. `nodes` are those
/// of the plan, by name.
pub(super) fn decisions(
    ledger: &Ledger,
    directory: &DirectorySpec,
    main: &Tree,
    nodes: &[(&str, &Tree)],
) -> Resolutions {
    let chosen = |record: &ConflictRecord| {
        let keep = record.keep.as_deref()?;
        let (host, tree) = match nodes.iter().position(|(name, _)| *name == keep) {
            Some(index) => (Host::Node(index), nodes[index].1),
            None if keep == MAIN => (Host::Main, main),
            None => return None,
        };
        let now = version(keep, tree.get(&record.path)?, false);
        let is_it = |known: &ConflictVersion| ConflictVersion { changed: false, ..known.clone() } == now;
        record.versions.iter().any(is_it).then(|| (record.path.clone(), host))
    };
    let here = ledger.conflicts.iter().filter(|record| record.directory == directory.name);
    here.filter_map(chosen).collect()
}

/// Records the conflicts of a plan that is about to be carried out. `nodes` are the names of its edges.
pub(super) fn record(run: &Run<'_>, directory: &DirectorySpec, plan: &Plan, nodes: &[String]) {
    let name = |host: Host| match host {
        Host::Main => MAIN,
        Host::Node(index) => nodes.get(index).map_or("", String::as_str),
    };
    let since = rfc3339((run.env.now)());
    let record = |conflict: &Conflict| ConflictRecord {
        directory: directory.name.clone(),
        path: conflict.path.clone(),
        since: since.clone(),
        winner: conflict.winner.map(|host| name(host).to_owned()),
        decided: conflict.winner.map(|_| since.clone()),
        keep: None,
        versions: conflict
            .versions
            .iter()
            .map(|(host, entry)| version(name(*host), entry, conflict.changed.contains(host)))
            .collect(),
    };
    lock(run.ledger).set_conflicts(&directory.name, plan.conflicts.iter().map(record));
}

fn version(host: &str, entry: &Entry, changed: bool) -> ConflictVersion {
    let file = entry.as_file();
    ConflictVersion {
        host: host.to_owned(),
        size: file.map_or(0, |file| file.size),
        mtime: file.map_or(0, |file| file.mtime),
        digest: file.map(|file| file.digest),
        changed,
    }
}
