//! Reports to test the printers with.

use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::model::ReloadState;

/// 2026-01-02T03:04:05Z.
pub(crate) fn started() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_323_045)
}

pub(crate) fn report(nodes: Vec<NodeReport>) -> Report {
    Report {
        run: "01KDYC00000000000000000000".to_owned(),
        started: started(),
        duration: Duration::from_millis(412),
        dry_run: false,
        nodes,
        changes: vec![],
        halted: vec![],
        problems: vec![],
        interrupted: false,
    }
}

pub(crate) fn node(name: &str) -> NodeReport {
    NodeReport {
        name: name.to_owned(),
        address: "10.0.0.11".to_owned(),
        state: NodeState::Ok,
        error: None,
        interrupted: false,
        directories: vec![directory("moh")],
        reloads: vec![],
        follows: None,
    }
}

pub(crate) fn directory(name: &str) -> DirectoryReport {
    DirectoryReport::new(name)
}

pub(crate) fn halted(directory: &str, guard: Guard) -> Halted {
    Halted {
        of_follower: false,
        directory: directory.to_owned(),
        guard,
        detail: "40 of 60 files would be deleted".to_owned(),
        token: Some("moh-4f2a".to_owned()),
        nodes: vec!["mds1".to_owned()],
        paths: vec![
            RelPathBuf::new(&b"jazz/a.wav"[..]).unwrap(),
            RelPathBuf::new(&b"jazz/b.wav"[..]).unwrap(),
        ],
        restore: vec![RelPathBuf::new(&b"jazz"[..]).unwrap()],
    }
}

pub(crate) fn problem(stage: Stage) -> Problem {
    Problem::failure(stage, "it went wrong")
}

pub(crate) fn change(node: &str, kind: ChangeKind, path: &[u8], bytes: u64) -> NodeChange {
    NodeChange {
        directory: "moh".into(),
        node: node.into(),
        to: Side::Node,
        kind,
        path: RelPathBuf::new(path).unwrap(),
        bytes,
        reason: None,
        is_dir: false,
        id: None,
    }
}

/// One node got files with hostile names, one gave a recording, one is away, a guard halted.
pub(crate) fn eventful() -> Report {
    let mut mds1 = node("mds1");
    mds1.directories[0].state = DirectoryState::Changed;
    (mds1.directories[0].created, mds1.directories[0].updated) = (1, 1);
    mds1.directories[0].bytes = 5_242_880;
    mds1.reloads = vec![ReloadOutcome { name: "moh".to_owned(), state: ReloadState::Done, detail: None }];
    let mut mds2 = node("mds2");
    mds2.state = NodeState::Partial;
    mds2.directories = vec![
        DirectoryReport { state: DirectoryState::Halted, ..directory("moh") },
        DirectoryReport {
            state: DirectoryState::Partial,
            held: 1,
            failed: 1,
            conflicts: 1,
            waiting: 1,
            ..directory("recordings")
        },
    ];
    mds2.reloads = vec![ReloadOutcome {
        name: "dialplan".to_owned(),
        state: ReloadState::Failed,
        detail: Some("Unable to connect to remote asterisk".to_owned()),
    }];
    let mds3 = NodeReport {
        state: NodeState::Unreachable,
        error: Some("ssh: connect to host 10.0.0.13 port 22: No route to host".to_owned()),
        directories: vec![],
        ..node("mds3")
    };
    let mut report = report(vec![mds1, mds2, mds3]);
    report.changes = vec![
        change("mds1", ChangeKind::Update, b"jazz/a.wav", 5_242_880),
        change("mds1", ChangeKind::Create, b"a\n\x1b[31m\xff\xe2\x80\xae.wav", 12),
        NodeChange {
            directory: "recordings".into(),
            to: Side::Main,
            reason: Some("open for writing".into()),
            ..change("mds2", ChangeKind::Hold, b"monitor/1.wav", 44)
        },
    ];
    report.halted = vec![Halted { nodes: vec!["mds2".to_owned()], ..halted("moh", Guard::MaxDelete) }];
    report.problems = vec![
        Problem {
            node: Some("mds2".to_owned()),
            directory: Some("recordings".to_owned()),
            path: Some(RelPathBuf::new(&b"monitor/\t2.wav"[..]).unwrap()),
            detail: "No space left on device".to_owned(),
            ..problem(Stage::Commit)
        },
        Problem {
            fails: false,
            detail: "row 3: the name \"a\u{7}b\" is dropped".to_owned(),
            ..problem(Stage::Discovery)
        },
    ];
    report
}
