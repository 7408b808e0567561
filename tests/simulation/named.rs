//! Histories that once ended badly.

use xds_sync::fault::Point;

use super::script::{Act, Fault, Op, PUSH, Run, Script, Setup, Step};
use super::workers::alone;

fn setup() -> Setup {
    Setup {
        push_delete: "propagate",
        both_delete: "propagate",
        conflict: "main",
        max_delete: "50%",
        nested: false,
        parallel: 8,
    }
}

/// Asterisk had loaded a file that came after the scan and went again with the next run; nobody loaded it again.
#[test]
fn what_changes_while_asterisk_loads_is_loaded_again() {
    let change = Act::Change { dir: PUSH, op: Op::Write { path: "e", content: 9 } };
    let fault = Fault { host: 1, point: Point::MarkerWrite, nth: 2, act: change };
    alone(&Script {
        nodes: 1,
        setup: Setup { push_delete: "mirror", ..setup() },
        steps: vec![
            Step::Change { host: 0, dir: PUSH, op: Op::Write { path: "a", content: 1 } },
            Step::Run(Run { faults: vec![fault], ..Run::default() }),
        ],
    });
}
