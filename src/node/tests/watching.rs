//! An agent that watches, and tells Main what it sees.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rustix::event::{EventfdFlags, eventfd};

use super::fake::*;
use crate::node::protocol::message::Changed;
use crate::node::{Endpoint as _, NodeErrorKind};
use crate::snapshot::ScanSpec;
use crate::watch::{Kind as What, Seen};

fn never() -> std::os::fd::OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC).unwrap()
}

#[test]
fn changes_are_told_between_runs_and_kept_during_them() {
    let dir = tempfile::tempdir().unwrap();
    let root = root(dir.path());
    std::fs::create_dir_all(&root).unwrap();
    let (mut remote, served) = session_with_local(dir.path(), Arc::new(AtomicU64::new(0)));
    let elsewhere = ScanSpec { directory: "other".to_owned(), ..spec("/srv/other".as_ref()) };
    let missing = ScanSpec { directory: "none".to_owned(), ..spec(&root.with_file_name("none")) };
    remote.end().unwrap();
    let watching = remote.watch(&[spec(&root), elsewhere, missing]).unwrap().roots;
    assert_eq!(watching[0], Ok(()));
    assert!(watching[1].as_ref().unwrap_err().to_string().contains("does not accept"), "{watching:?}");
    assert!(watching[2].as_ref().unwrap_err().to_string().contains("does not exist"), "{watching:?}");

    std::fs::write(root.join("a"), "x").unwrap();
    let mut seen = Vec::new();
    let complete = |name: &str| Seen::Path { root: "moh".to_owned(), path: path(name), kind: What::Complete };
    while !seen.contains(&complete("a")) {
        seen.extend(remote.changes(never().as_fd()).unwrap());
    }

    // In a run the answers come as ever, and what happens meanwhile is told afterwards.
    remote.begin("01RUN", true).unwrap();
    std::fs::write(root.join("b"), "y").unwrap();
    for _ in 0..20 {
        assert_eq!(remote.scan(&spec(&root)).unwrap().entries, 2);
    }
    remote.end().unwrap();
    let mut seen = Vec::new();
    while !seen.contains(&complete("b")) {
        seen.extend(remote.changes(never().as_fd()).unwrap());
    }

    // Nothing happens, and Main wants the session.
    let wake = eventfd(1, EventfdFlags::CLOEXEC).unwrap();
    assert_eq!(remote.changes(wake.as_fd()).unwrap(), []);
    drop(remote);
    assert_eq!(served.join().unwrap(), Ok(()));
}

#[test]
fn a_flood_of_changes_ends_the_session() {
    let (main, served) =
        super::hostile_node::telling(1000, || Changed(vec![Seen::Whole { root: "moh".to_owned() }]));
    let mut remote = handshake(&main, &hello(), LONG).unwrap();
    let error = loop {
        match remote.changes(never().as_fd()) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, NodeErrorKind::Lost);
    assert!(error.detail.contains("a flood of changes"), "{error}");
    drop((remote, main));
    served.join().unwrap();
}

#[test]
fn more_changes_than_are_kept_stand_for_the_whole_directory() {
    let (main, served) = super::hostile_node::telling(3, || {
        let seen =
            |n: usize| Seen::Path { root: "moh".to_owned(), path: path(&n.to_string()), kind: What::Removed };
        Changed((0..3000).map(seen).collect())
    });
    let mut remote = handshake(&main, &hello(), LONG).unwrap();
    // Asked only after all of it has arrived.
    remote.begin("01RUN", true).unwrap();
    let seen = remote.changes(never().as_fd()).unwrap();
    assert!(seen.contains(&Seen::Whole { root: "moh".to_owned() }) && seen.len() < 4096, "{}", seen.len());
    drop((remote, main));
    served.join().unwrap();
}
