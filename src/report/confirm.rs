//! What became of planned changes: made once, from the final outcomes of the actions.

use crate::model::{Change, ChangeKind, Outcome, PlannedChange, Reason, RelPathBuf, Side};

/// What became of the planned changes of an edge. Each of them is counted in exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confirmed {
    /// What a host has confirmed; in a dry run, all that is planned.
    pub changes: Vec<Change>,
    /// Paths that had changed since the scan when their turn came: left as they are for the next run.
    pub held: Vec<Change>,
    pub failed: Vec<FailedChange>,
    /// How many were not reached.
    pub planned: u64,
}

/// A change that could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedChange {
    pub path: RelPathBuf,
    /// The host that could not make it.
    pub side: Side,
    /// The system's words.
    pub why: String,
}

/// Sorts the planned changes of an edge by the outcomes of their actions.
///
/// `on_node` has the outcome of every action of the edge's plan, `on_main` that of every action on Main; `None`, and
/// what lies beyond the end of a slice, was not reached.
pub fn confirmed(
    planned: Vec<PlannedChange>,
    on_node: &[Option<Outcome>],
    on_main: &[Option<Outcome>],
) -> Confirmed {
    let mut sorted = Confirmed::default();
    for planned in planned {
        let outcomes = match planned.change.to {
            Side::Node => on_node,
            Side::Main => on_main,
        };
        let outcome = outcome(&planned, outcomes);
        let Change { path, to, .. } = planned.change;
        match outcome {
            None => sorted.planned += 1,
            Some(Outcome::Done | Outcome::Kept(_)) => {
                sorted.changes.push(Change { path, ..planned.change });
            }
            Some(Outcome::Changed) => sorted.held.push(Change {
                path,
                to,
                kind: ChangeKind::Hold,
                bytes: 0,
                is_dir: false,
                reason: Some(Reason::ChangedDuringRun),
            }),
            Some(Outcome::Failed(why)) => {
                sorted.failed.push(FailedChange { path, side: to, why: why.clone() });
            }
        }
    }
    sorted
}

/// The outcome of a change, which may have two actions: the first of them that was tried without success says why.
/// The second one's own trouble is but a consequence.
fn outcome<'o>(planned: &PlannedChange, outcomes: &'o [Option<Outcome>]) -> Option<&'o Outcome> {
    let of = |index: usize| outcomes.get(index).and_then(Option::as_ref);
    let unsuccessful = planned.actions().filter_map(of).find(|outcome| !outcome.is_done());
    match unsuccessful {
        Some(outcome) => Some(outcome),
        None if planned.actions().all(|index| of(index).is_some()) => Some(&Outcome::Done),
        None => None,
    }
}

impl Confirmed {
    /// What a dry run reports: all that is planned.
    pub fn in_dry_run(planned: Vec<PlannedChange>) -> Confirmed {
        let changes = planned.into_iter().map(|planned| planned.change).collect();
        Confirmed { changes, ..Confirmed::default() }
    }

    /// The changes to report for the edge, with what the plan noted: in tree order, those to Main last.
    pub fn into_changes(self, notes: &[Change]) -> Vec<Change> {
        let mut changes = self.changes;
        changes.extend(self.held);
        changes.extend_from_slice(notes);
        changes.sort_by(|a, b| (a.to, &a.path).cmp(&(b.to, &b.path)));
        changes
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn change(path: &str, to: Side, kind: ChangeKind) -> Change {
        let path = RelPathBuf::new(path.as_bytes()).unwrap();
        Change { path, to, kind, bytes: 5, is_dir: false, reason: None }
    }

    fn planned(path: &str, to: Side, action: usize, clearing: Option<usize>) -> PlannedChange {
        PlannedChange { change: change(path, to, ChangeKind::Update), action, clearing }
    }

    fn done() -> Option<Outcome> {
        Some(Outcome::Done)
    }

    fn failed(why: &str) -> Option<Outcome> {
        Some(Outcome::Failed(why.to_owned()))
    }

    /// `done`, `held`, `not reached`, or why it failed.
    fn told(sorted: &Confirmed) -> String {
        match (&sorted.changes[..], &sorted.held[..], &sorted.failed[..], sorted.planned) {
            ([_], [], [], 0) => "done".to_owned(),
            ([], [_], [], 0) => "held".to_owned(),
            ([], [], [failed], 0) => failed.why.clone(),
            ([], [], [], 1) => "not reached".to_owned(),
            _ => format!("more than one: {sorted:?}"),
        }
    }

    #[test]
    fn a_change_of_one_action_is_what_became_of_that_action() {
        for (outcome, expected) in [
            (done(), "done"),
            (Some(Outcome::Changed), "held"),
            (failed("ENOSPC"), "ENOSPC"),
            (None, "not reached"),
        ] {
            let sorted = confirmed(vec![planned("a", Side::Node, 0, None)], &[outcome], &[]);
            assert_eq!(told(&sorted), expected);
        }
    }

    #[test]
    fn of_two_actions_the_first_without_success_says_why() {
        let held = || Some(Outcome::Changed);
        for (clearing, action, expected) in [
            (done(), done(), "done"),
            (done(), None, "not reached"),
            (None, None, "not reached"),
            (done(), failed("ENOSPC"), "ENOSPC"),
            (done(), held(), "held"),
            (failed("EBUSY"), held(), "EBUSY"),
            (held(), failed("ENOTDIR"), "held"),
            (failed("EBUSY"), None, "EBUSY"),
            (None, failed("was not received"), "was not received"),
        ] {
            let sorted = confirmed(vec![planned("a", Side::Node, 1, Some(0))], &[clearing, action], &[]);
            assert_eq!(told(&sorted), expected);
        }
    }

    #[test]
    fn each_side_has_outcomes_of_its_own() {
        let changes = [
            planned("n", Side::Node, 0, None),
            planned("m", Side::Main, 1, None),
            planned("x", Side::Main, 9, None),
        ];
        let sorted = confirmed(changes.to_vec(), &[failed("EIO")], &[None, done()]);
        assert_eq!(sorted.failed[0].side, Side::Node);
        assert_eq!(sorted.changes, [changes[1].change.clone()]);
        assert_eq!(sorted.planned, 1, "what lies beyond the outcomes was not reached");
    }

    #[test]
    fn a_dry_run_reports_all_that_is_planned_among_the_notes() {
        let changes = [planned("c", Side::Main, 0, None), planned("b", Side::Node, 0, None)];
        let notes = [change("a", Side::Main, ChangeKind::Hold), change("d", Side::Node, ChangeKind::Drift)];
        let changes = Confirmed::in_dry_run(changes.to_vec()).into_changes(&notes);
        let paths: Vec<String> = changes.iter().map(|change| change.path.escaped()).collect();
        assert_eq!(paths, ["b", "d", "a", "c"]);
    }
}
