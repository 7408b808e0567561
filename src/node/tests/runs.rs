//! Several runs over one session, with a real disk behind the agent.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::fake::{LONG, accept, handshake, hello, root, spec};
use crate::disk::HeldRoot;
use crate::model::{Outcome, ReloadOutcome, ReloadState, TrashKeep};
use crate::node::binding;
use crate::node::{Endpoint as _, Hello, Local, LocalOptions, NodeErrorKind, Refusal, Remote, agent};
use crate::snapshot::Root;
use crate::transfer::OwnDir;

const RUNS: [&str; 2] = ["01KQ0000000000000000000001", "01KQ0000000000000000000002"];

fn local(dir: &Path) -> Local {
    Local::new(LocalOptions {
        cache_dir: dir.join("cache"),
        clock: Box::new(|| SystemTime::now() + Duration::from_secs(3600)),
        new_id: Box::new(|| "01KQ0000000000000000000009".to_owned()),
        reload: Box::new(|request| ReloadOutcome {
            name: request.name.clone(),
            state: ReloadState::Done,
            detail: None,
        }),
        replace_key: Box::new(|_| Err(Refusal::new("not here"))),
        progress: Arc::default(),
    })
}

/// A session in which no run has begun, with an agent that ends when it does.
fn session(dir: &Path) -> Remote {
    let (main, node) = UnixStream::pair().unwrap();
    let (mut local, accept) = (local(dir), accept(dir));
    std::thread::spawn(move || {
        let progress = Arc::default();
        agent::serve(&node, &node, &mut local, &accept, &progress)
    });
    handshake(&main, &hello(), LONG).unwrap()
}

/// Whether another process could work in the root now; it does not wait.
fn is_free(root: &Path) -> bool {
    let own = fs::File::open(root.join(".xds-sync")).unwrap();
    rustix::fs::flock(&own, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
}

#[test]
fn between_two_runs_of_a_session_another_process_may_work() {
    let dir = tempfile::tempdir().unwrap();
    let root = root(dir.path());
    let mut remote = session(dir.path());
    remote.begin(RUNS[0], false).unwrap();
    assert_eq!(remote.scan(&spec(&root)).unwrap().root, Root::Missing);
    let id = remote.prepare("moh", &TrashKeep::FOREVER).unwrap().unwrap();
    assert!(!is_free(&root), "during the run it is locked");
    assert_eq!(remote.commit("moh", &[]).unwrap(), Vec::<Outcome>::new());
    remote.end().unwrap();

    // It makes something in the stage, and leaves it there.
    let held = HeldRoot::open(&root).unwrap();
    let other = OwnDir::ready(&held, &Arc::default()).unwrap();
    fs::write(root.join(".xds-sync/stage/making.7"), "cut off").unwrap();
    drop(other);

    remote.begin(RUNS[1], false).unwrap();
    let scanned = remote.scan(&spec(&root)).unwrap();
    assert!(matches!(&scanned.root, Root::Marked(marker) if marker.id == id), "{:?}", scanned.root);
    assert!(scanned.leftovers);
    assert_eq!(remote.prepare("moh", &TrashKeep::FOREVER).unwrap().unwrap(), id);
    assert!(!root.join(".xds-sync/stage/making.7").exists());
    remote.agree("moh", "01GEN").unwrap().unwrap();
    assert!(!is_free(&root));
    remote.end().unwrap();
    assert!(is_free(&root));
}

#[test]
fn what_a_run_knew_is_forgotten_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut remote = session(dir.path());
    remote.begin(RUNS[0], false).unwrap();
    remote.scan(&spec(&root(dir.path()))).unwrap();
    remote.prepare("moh", &TrashKeep::FOREVER).unwrap().unwrap();
    // A run that was not ended ends with the begin of the next.
    remote.begin(RUNS[1], false).unwrap();
    assert!(is_free(&root(dir.path())));
    let error = remote.prepare("moh", &TrashKeep::FOREVER).unwrap_err();
    assert!(error.detail.contains("moh was not scanned in this run"), "{error}");
}

#[test]
fn each_run_of_a_session_says_whether_it_is_a_dry_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut remote = session(dir.path());
    for dry_run in [true, false, true] {
        remote.begin(RUNS[0], dry_run).unwrap();
        remote.scan(&spec(&root(dir.path()))).unwrap();
        match remote.prepare("moh", &TrashKeep::FOREVER) {
            Ok(prepared) => {
                assert!(!dry_run);
                prepared.unwrap();
                remote.end().unwrap();
            }
            Err(error) => {
                assert!(dry_run && error.kind == NodeErrorKind::Refused, "{error}");
                remote = session(dir.path());
            }
        }
    }
}

#[test]
fn a_session_that_was_idle_during_a_takeover_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut remote = session(dir.path());
    remote.begin(RUNS[0], false).unwrap();
    remote.end().unwrap();
    let taker = Hello { main: "01TAKER".to_owned(), epoch: 2, name: "taker".to_owned() };
    binding::bind(&accept(dir.path()).state_dir, &taker).unwrap();
    let error = remote.begin(RUNS[1], true).unwrap_err();
    assert_eq!(error.kind, NodeErrorKind::Refused);
    assert!(error.detail.contains("taker"), "{error}");
}
