//! The blobs that actions need, and what becomes of actions whose blob did not arrive.

use std::collections::{BTreeMap, HashSet};

use crate::model::{Action, Digest, File, Outcome, RelPath, Step};
use crate::transfer::{BlobRequest, Received};

/// Why a blob is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// It has not been asked for, or another node is still sending it: a later round sees to it.
    NotReached,
    /// It could not be had.
    Failed(String),
}

/// The blobs that actions need, each once; the source has them at the same paths.
pub(super) fn requests<'a>(actions: impl IntoIterator<Item = &'a Action>) -> Vec<BlobRequest> {
    let mut seen = HashSet::new();
    let files = actions.into_iter().filter_map(|action| Some((action, needed(action)?)));
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
///
/// What would only make way for a file that is not there stays where it is.
pub(super) fn commit_present<E>(
    actions: &[Action],
    missing: impl Fn(&Action) -> Option<Missing>,
    commit: impl FnOnce(&[Action]) -> Result<Vec<Outcome>, E>,
) -> Result<Vec<Option<Outcome>>, E> {
    let mut missing: Vec<Option<Missing>> = actions.iter().map(missing).collect();
    let absent: BTreeMap<&RelPath, Missing> = actions
        .iter()
        .zip(&missing)
        .filter_map(|(action, missing)| Some((&*action.path, missing.clone()?)))
        .collect();
    if !absent.is_empty() {
        for (action, missing) in actions.iter().zip(&mut missing).filter(|(action, _)| clears(action)) {
            let at = std::iter::once(&*action.path).chain(action.path.ancestors());
            *missing = missing.take().or_else(|| at.into_iter().find_map(|path| absent.get(path).cloned()));
        }
    }
    let present = actions.iter().zip(&missing).filter(|(_, missing)| missing.is_none());
    let outcomes = if missing.iter().all(Option::is_none) {
        // A first run has so many that a copy of them counts.
        if actions.is_empty() { Vec::new() } else { commit(actions)? }
    } else {
        let present: Vec<Action> = present.map(|(action, _)| action.clone()).collect();
        if present.is_empty() { Vec::new() } else { commit(&present)? }
    };
    let mut outcomes = outcomes.into_iter();
    let outcome = |missing| match missing {
        None => outcomes.next(),
        Some(Missing::NotReached) => None,
        Some(Missing::Failed(why)) => Some(Outcome::Failed(why)),
    };
    Ok(missing.into_iter().map(outcome).collect())
}

/// Whether an action removes what stands at its path, perhaps to make way for something of another type.
fn clears(action: &Action) -> bool {
    action.step == Step::Delete
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Entry, Meta, Owner, RelPathBuf};

    fn path(path: &str) -> RelPathBuf {
        RelPathBuf::new(path.as_bytes()).unwrap()
    }

    fn file(content: u8) -> Entry {
        let meta = Meta { mode: 0o644, owner: Owner::default() };
        Entry::File(File { size: 1, mtime: 0, digest: Digest([content; 32]), meta })
    }

    fn put(at: &str, content: u8) -> Action {
        Action { path: path(at), expected: None, step: Step::Put(file(content)) }
    }

    fn delete(at: &str) -> Action {
        Action { path: path(at), expected: Some(file(9)), step: Step::Delete }
    }

    #[test]
    fn what_makes_way_for_a_file_that_did_not_arrive_stays() {
        let actions = [delete("d/inside"), delete("d"), put("d", 1), put("e", 2), delete("f")];
        let missing = |action: &Action| {
            (needed(action)?.digest == Digest([1; 32])).then(|| Missing::Failed("EIO".to_owned()))
        };
        let mut committed = Vec::new();
        let outcomes = commit_present::<()>(&actions, missing, |present| {
            committed = present.iter().map(|action| action.path.escaped()).collect();
            Ok(vec![Outcome::Done; present.len()])
        });
        assert_eq!(committed, ["e", "f"]);
        let failed = || Some(Outcome::Failed("EIO".to_owned()));
        let done = || Some(Outcome::Done);
        assert_eq!(outcomes, Ok(vec![failed(), failed(), failed(), done(), done()]));
    }

    #[test]
    fn what_was_not_reached_has_no_outcome() {
        let actions = [put("a", 1), put("b", 2)];
        let missing = |action: &Action| (*action.path == *path("a")).then_some(Missing::NotReached);
        let outcomes = commit_present::<()>(&actions, missing, |_| Ok(vec![Outcome::Done]));
        assert_eq!(outcomes, Ok(vec![None, Some(Outcome::Done)]));
    }
}
