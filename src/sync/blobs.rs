//! The blobs that actions need, and what becomes of actions whose blob did not arrive.

use std::collections::{BTreeMap, HashSet};

use crate::model::{Action, Digest, File, Outcome, Size, Step};
use crate::transfer::{BlobRequest, Received};

/// Room that is left free on a disk beside what a plan needs: logs and recordings go on growing meanwhile.
const SPARE: u64 = 16 << 20;

/// Why a blob is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// It has not been asked for, or another node is still sending it: a later round sees to it.
    NotReached,
    /// It could not be had.
    Failed(String),
}

/// The blobs that actions need, each once; the source has them at the same paths.
pub(super) fn requests(actions: &[Action]) -> Vec<BlobRequest> {
    let mut seen = HashSet::new();
    let files = actions.iter().filter_map(|action| Some((action, needed(action)?)));
    files
        .filter(|(_, file)| seen.insert(file.digest))
        .map(|(action, file)| BlobRequest {
            path: action.path.clone(),
            digest: file.digest,
            size: file.size,
            offset: 0,
        })
        .collect()
}

/// The file whose content must be staged for an action.
pub(super) fn needed(action: &Action) -> Option<&File> {
    match &action.step {
        Step::Put(entry) => entry.as_file(),
        _ => None,
    }
}

/// The blobs that did not arrive, and why.
pub(super) fn failed(requests: &[BlobRequest], received: Received) -> BTreeMap<Digest, Missing> {
    let mut received = received.into_iter();
    let mut failed = BTreeMap::new();
    for request in requests {
        let why = match received.next() {
            Some(Ok(())) => continue,
            Some(Err(why)) => why,
            None => "was not received".to_owned(),
        };
        failed.insert(request.digest, Missing::Failed(why));
    }
    failed
}

/// Commits the actions whose blob is there. One outcome for each action; `None` where it was not reached.
pub(super) fn commit_present<E>(
    actions: &[Action],
    missing: impl Fn(&Action) -> Option<Missing>,
    commit: impl FnOnce(&[Action]) -> Result<Vec<Outcome>, E>,
) -> Result<Vec<Option<Outcome>>, E> {
    let missing: Vec<Option<Missing>> = actions.iter().map(missing).collect();
    let present = actions.iter().zip(&missing).filter(|(_, missing)| missing.is_none());
    let present: Vec<Action> = present.map(|(action, _)| action.clone()).collect();
    let mut outcomes = if present.is_empty() { Vec::new() } else { commit(&present)? }.into_iter();
    let outcome = |missing| match missing {
        None => outcomes.next(),
        Some(Missing::NotReached) => None,
        Some(Missing::Failed(why)) => Some(Outcome::Failed(why)),
    };
    Ok(missing.into_iter().map(outcome).collect())
}

/// Why blobs do not fit into the free space, if they do not.
pub(super) fn too_little_room(requests: &[BlobRequest], free: u64) -> Option<String> {
    let needed: u64 = requests.iter().map(|request| request.size).fold(0, u64::saturating_add);
    if needed == 0 || needed.saturating_add(SPARE) <= free {
        return None;
    }
    Some(format!("{} are needed and {} are free", Size(needed), Size(free)))
}
