//! Histories that once ended badly.

use xds_sync::fault::Point;

use super::script::{Act, BOTH, Fault, Op, PUSH, Run, Script, Setting, Setup, Step};
use super::workers::alone;

fn setup() -> Setup {
    Setup {
        push_delete: "propagate",
        both_delete: "propagate",
        conflict: "main",
        max_delete: "50%",
        nested: false,
        recordings: true,
        bak_excluded: true,
        parallel: 8,
        exchange: true,
    }
}

/// Asterisk had loaded a file that came after the scan and went again with the next run; nobody loaded it again.
#[test]
fn what_changes_while_asterisk_loads_is_loaded_again() {
    let change = Act::Change { dir: PUSH, op: Op::Write { path: "e", content: 9 } };
    let fault = Fault { host: 1, point: Point::MarkerWrite, nth: 2, act: change };
    alone(&Script {
        nodes: 1,
        twice: false,
        setup: Setup { push_delete: "mirror", ..setup() },
        steps: vec![
            Step::Change { host: 0, dir: PUSH, op: Op::Write { path: "a", content: 1 } },
            Step::Run(Run { faults: vec![fault], ..Run::default() }),
        ],
    });
}

fn write(host: usize, dir: usize, path: &'static str, content: u32) -> Step {
    Step::Change { host, dir, op: Op::Write { path, content } }
}

fn delete(host: usize, dir: usize, path: &'static str) -> Step {
    Step::Change { host, dir, op: Op::Delete { path } }
}

/// A run in which a host's process is killed at its n-th time at a point.
fn killed(host: usize, point: Point, nth: usize) -> Step {
    let faults = vec![Fault { host, point, nth, act: Act::Crash }];
    Step::Run(Run { faults, ..Run::default() })
}

/// One thing that a killed run had done and that no base had recorded, and what was changed after it.
fn cut_off(edit: Step, killed: Step, later: Step, (dir, path, content): (usize, &'static str, Option<u32>)) {
    let steps = vec![
        write(0, PUSH, "a", 1),
        write(0, BOTH, "a", 2),
        Step::Converge,
        edit,
        Step::Wait { seconds: 9 },
        killed,
        later,
        Step::Converge,
        Step::Stands { dir, path, content },
    ];
    alone(&Script { nodes: 1, twice: false, setup: setup(), steps });
}

/// Main had the node's recording, and the edge's base did not: the node's next version of it was a conflict, and
/// lost.
#[test]
fn what_came_from_a_node_may_change_there_after_a_run_that_was_cut_off() {
    cut_off(
        write(1, BOTH, "b", 3),
        killed(0, Point::CommitTold, 1),
        write(1, BOTH, "b", 4),
        (BOTH, "b", Some(4)),
    );
    cut_off(write(1, BOTH, "a", 3), killed(0, Point::Agree, 2), write(1, BOTH, "a", 4), (BOTH, "a", Some(4)));
}

#[test]
fn what_went_to_a_node_may_change_there_after_a_run_that_was_cut_off() {
    cut_off(
        write(0, BOTH, "a", 3),
        killed(1, Point::CommitTold, 1),
        write(1, BOTH, "a", 4),
        (BOTH, "a", Some(4)),
    );
}

/// The node had Main's file, and the edge's base did not: nobody knew that it had come from Main, so that it stayed
/// on the node for ever, or came back from there.
#[test]
fn what_went_to_a_node_may_be_deleted_after_a_run_that_was_cut_off() {
    cut_off(write(0, PUSH, "b", 3), killed(1, Point::CommitTold, 1), delete(0, PUSH, "b"), (PUSH, "b", None));
    cut_off(write(0, BOTH, "b", 3), killed(1, Point::CommitTold, 1), delete(0, BOTH, "b"), (BOTH, "b", None));
    cut_off(write(1, BOTH, "b", 3), killed(0, Point::CommitTold, 1), delete(1, BOTH, "b"), (BOTH, "b", None));
}

/// Killed between the two records of a new base, on the node and on Main: a deletion made then spreads all the same.
#[test]
fn a_run_cut_off_between_both_notes_of_a_base_forgets_no_deletion() {
    for point in [Point::Agreed, Point::Promote] {
        for nth in [1, 2] {
            cut_off(write(0, PUSH, "b", 3), killed(0, point, nth), delete(0, PUSH, "a"), (PUSH, "a", None));
            cut_off(write(0, BOTH, "b", 3), killed(0, point, nth), delete(1, BOTH, "a"), (BOTH, "a", None));
        }
    }
    cut_off(
        write(0, BOTH, "b", 3),
        killed(1, Point::MarkerDirSync, 1),
        delete(1, BOTH, "a"),
        (BOTH, "a", None),
    );
}

/// What a node recorded while nobody could reach it comes to Main in a run for that node alone, since it alone may have
/// missed anything. Main's events are of our own making, and the other nodes have nothing due: a round must tell.
#[test]
fn what_comes_to_main_in_a_run_for_one_node_goes_on_to_the_others() {
    let away = Run { away: vec![1], ..Run::default() };
    alone(&Script {
        nodes: 3,
        twice: false,
        setup: setup(),
        steps: vec![
            write(0, BOTH, "a", 1),
            Step::Converge,
            Step::Settle,
            Step::Turn(away),
            write(1, BOTH, "b", 2),
            Step::Wait { seconds: 60 },
            Step::Turn(Run::default()),
            Step::Stands { dir: BOTH, path: "b", content: Some(2) },
        ],
    });
}

/// A file that was changed while one node was silent is on the others, and with the next turn on that one.
#[test]
fn runs_go_on_beside_one_that_waits_for_a_silent_node() {
    for bytes in [0, 500, 3000] {
        let meanwhile = vec![
            (0, PUSH, Op::Write { path: "a", content: 3 }),
            (2, BOTH, Op::Write { path: "b", content: 4 }),
            (0, PUSH, Op::Delete { path: "d/a" }),
        ];
        let run = Run { silent: Some((1, bytes)), meanwhile, ..Run::default() };
        alone(&Script {
            nodes: 3,
            twice: false,
            setup: setup(),
            steps: vec![
                write(0, PUSH, "d/a", 1),
                Step::Converge,
                Step::Settle,
                write(0, PUSH, "a", 2),
                Step::Wait { seconds: 60 },
                Step::Turn(run),
                Step::Stands { dir: PUSH, path: "a", content: Some(3) },
                Step::Stands { dir: PUSH, path: "d/a", content: None },
                Step::Stands { dir: BOTH, path: "b", content: Some(4) },
            ],
        });
    }
}

/// The base of the outer directory was taken for one that knows what lies in the inner one: all that nodes alone had
/// there was what a mirror deletes.
#[test]
fn what_a_nested_directory_held_on_a_node_alone_outlives_its_section() {
    alone(&Script {
        nodes: 1,
        twice: false,
        setup: Setup { push_delete: "mirror", nested: true, ..setup() },
        steps: vec![
            write(0, PUSH, "a", 1),
            write(0, BOTH, "b", 2),
            Step::Converge,
            write(1, BOTH, "c", 3),
            Step::Wait { seconds: 60 },
            Step::Configure(Setting::Recordings(false)),
            Step::Run(Run::default()),
            Step::StandsOn { host: 1, dir: PUSH, path: "rec/c", content: 3 },
        ],
    });
}

#[test]
fn what_was_excluded_on_a_node_alone_outlives_the_end_of_its_exclusion() {
    alone(&Script {
        nodes: 1,
        twice: false,
        setup: Setup { push_delete: "mirror", ..setup() },
        steps: vec![
            write(0, PUSH, "a", 1),
            write(1, PUSH, "x.bak", 2),
            Step::Converge,
            Step::Wait { seconds: 60 },
            Step::Configure(Setting::BakExcluded(false)),
            Step::Run(Run::default()),
            Step::StandsOn { host: 1, dir: PUSH, path: "x.bak", content: 2 },
        ],
    });
}
