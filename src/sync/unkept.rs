//! Attributes that a disk does not keep: told once for each directory of a host, since nothing can be done about it in a
//! run.

use crate::model::{Action, Entry, Kept, MAIN, Outcome, RelPathBuf};
use crate::report::{Problem, Stage, words};
use crate::state::Unkept;
use crate::sync::edge::EdgeRun;
use crate::sync::{Run, lock};

/// Warns of what a node's disk did not take, where that is new.
pub(super) fn warn_on_node(run: &Run<'_>, edge: &mut EdgeRun<'_>, outcomes: &[Option<Outcome>]) {
    let found = Found::of(&edge.result.plan.actions, outcomes);
    for warning in note(run, edge.name(), edge.node, found) {
        edge.result.warn(Stage::Commit, warning);
    }
    edge.result.unkept = lock(run.ledger).unkept(edge.name(), edge.node);
}

/// The same for Main's.
pub(super) fn warn_on_main(run: &Run<'_>, directory: &str, actions: &[Action], outcomes: &[Option<Outcome>]) {
    for detail in note(run, directory, MAIN, Found::of(actions, outcomes)) {
        let problem = Problem::warning(Stage::Commit, detail);
        lock(&run.on_main).push(Problem { directory: Some(directory.to_owned()), ..problem });
    }
}

/// Records what was found, and returns warnings of what was not known before.
fn note(run: &Run<'_>, directory: &str, host: &str, found: Vec<Found>) -> Vec<String> {
    let mut ledger = lock(run.ledger);
    let mut known = ledger.unkept(directory, host);
    let new: Vec<Found> = found.into_iter().filter(|found| !known.contains_key(found.attribute)).collect();
    known.extend(new.iter().map(|found| (found.attribute.to_owned(), found.path.clone())));
    ledger.set_unkept(directory, host, known);
    new.iter().map(|found| words::unkept(found.attribute, &found.path, &found.instead, found.paths)).collect()
}

/// An attribute that a disk did not take.
struct Found {
    attribute: &'static str,
    /// Where that was seen first, and how many times in all.
    path: RelPathBuf,
    paths: u64,
    /// What it is there, and what it was to be.
    instead: String,
}

impl Found {
    fn of(actions: &[Action], outcomes: &[Option<Outcome>]) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        for (action, outcome) in actions.iter().zip(outcomes) {
            let (Some(Outcome::Kept(kept)), Some(planned)) = (outcome, action.result()) else { continue };
            for (attribute, instead) in lacking(kept, planned) {
                match found.iter_mut().find(|known| known.attribute == attribute) {
                    Some(known) => known.paths += 1,
                    None => found.push(Found { attribute, path: action.path.clone(), paths: 1, instead }),
                }
            }
        }
        found
    }
}

fn lacking(kept: &Kept, planned: &Entry) -> Vec<(&'static str, String)> {
    let mut lacking = Vec::new();
    if let Some(wanted) = planned.meta() {
        if kept.lacks.owner {
            lacking.push(("owner", format!("{:?} and not {:?}", kept.meta.owner, wanted.owner)));
        }
        if kept.lacks.mode {
            lacking.push(("mode", format!("{:04o} and not {:04o}", kept.meta.mode, wanted.mode)));
        }
    }
    if kept.lacks.time {
        lacking.push(("time", "another one".to_owned()));
    }
    lacking
}

/// What is known of a disk that keeps everything by now is forgotten, so that it is told anew should it begin again.
pub(super) fn forget(run: &Run<'_>, directory: &str, host: &str) {
    lock(run.ledger).set_unkept(directory, host, Unkept::new());
}
