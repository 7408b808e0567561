//! Several runs over one session, with a real disk behind the agent.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::fake::{Fake, LONG, accept, digest, handshake, hello, local, options, root, spec, wanted};
use crate::disk::HeldRoot;
use crate::model::{Outcome, TrashKeep};
use crate::node::binding;
use crate::node::protocol::frame::{Kind, write_value};
use crate::node::protocol::message::Request;
use crate::node::{Endpoint as _, Hello, Local, NodeErrorKind, Remote, agent};
use crate::snapshot::{Root, ScanSpec};
use crate::transfer::OwnDir;

const RUN: &str = "01KQ0000000000000000000001";
const NEXT_RUN: &str = "01KQ0000000000000000000002";

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
    remote.begin(RUN, false).unwrap();
    assert_eq!(remote.scan(&spec(&root)).unwrap().root, Root::Missing);
    let id = remote.prepare("moh", &TrashKeep::FOREVER, None).unwrap().unwrap().id;
    assert!(!is_free(&root), "during the run it is locked");
    assert_eq!(remote.commit("moh", &[]).unwrap(), Vec::<Outcome>::new());
    remote.end().unwrap();

    // It makes something in the stage, and leaves it there.
    let held = HeldRoot::open(&root).unwrap();
    let other = OwnDir::ready(&held, &Arc::default()).unwrap();
    fs::write(root.join(".xds-sync/stage/making.7"), "cut off").unwrap();
    drop(other);

    remote.begin(NEXT_RUN, false).unwrap();
    let scanned = remote.scan(&spec(&root)).unwrap();
    assert!(matches!(&scanned.root, Root::Marked(marker) if marker.id == id), "{:?}", scanned.root);
    assert!(scanned.leftovers);
    assert_eq!(remote.prepare("moh", &TrashKeep::FOREVER, None).unwrap().unwrap().id, id);
    assert!(!root.join(".xds-sync/stage/making.7").exists());
    remote.agree("moh", "01GEN").unwrap().unwrap();
    assert!(!is_free(&root));
    remote.end().unwrap();
    assert!(is_free(&root));
}

#[test]
fn a_stage_is_cleared_whatever_its_age() {
    let dir = tempfile::tempdir().unwrap();
    let root = root(dir.path());
    let stage = root.join(".xds-sync/stage");
    let staged = || fs::read_dir(&stage).unwrap().count();
    let mut remote = session(dir.path());
    remote.begin(RUN, false).unwrap();
    remote.scan(&spec(&root)).unwrap();
    remote.prepare("moh", &TrashKeep::FOREVER, None).unwrap().unwrap();
    let content = Fake::with(&[("a", b"1")]);
    assert_eq!(remote.stage("moh", &[wanted("a", b"1")], &mut &content).unwrap(), [Ok(())]);
    fs::write(stage.join(format!("{}.part", digest(b"2"))), "2").unwrap();
    fs::write(stage.join("foreign"), "precious").unwrap();
    assert_eq!(staged(), 3);
    remote.clear_stage("moh").unwrap().unwrap();
    assert_eq!(staged(), 0);
    assert_eq!(fs::read(root.join(format!(".xds-sync/trash/{RUN}/found/foreign"))).unwrap(), b"precious");

    // Only of a directory that this run has prepared.
    remote.begin(NEXT_RUN, false).unwrap();
    remote.scan(&spec(&root)).unwrap();
    let error = remote.clear_stage("moh").unwrap_err();
    assert!(error.detail.contains("moh was not prepared"), "{error}");
}

#[test]
fn what_a_run_knew_is_forgotten_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut remote = session(dir.path());
    remote.begin(RUN, false).unwrap();
    remote.scan(&spec(&root(dir.path()))).unwrap();
    remote.prepare("moh", &TrashKeep::FOREVER, None).unwrap().unwrap();
    // A run that was not ended ends with the begin of the next.
    remote.begin(NEXT_RUN, false).unwrap();
    assert!(is_free(&root(dir.path())));
    let error = remote.prepare("moh", &TrashKeep::FOREVER, None).unwrap_err();
    assert!(error.detail.contains("moh was not scanned in this run"), "{error}");
}

#[test]
fn each_run_of_a_session_says_whether_it_is_a_dry_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut remote = session(dir.path());
    for dry_run in [true, false, true] {
        remote.begin(RUN, dry_run).unwrap();
        remote.scan(&spec(&root(dir.path()))).unwrap();
        let prepared = remote.prepare("moh", &TrashKeep::FOREVER, None);
        assert_eq!(prepared.is_err(), dry_run, "{prepared:?}");
        if !dry_run {
            remote.end().unwrap();
            continue;
        }
        assert_eq!(prepared.unwrap_err().kind, NodeErrorKind::Refused);
        remote = session(dir.path());
    }
}

#[test]
fn a_session_that_was_idle_during_a_takeover_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut remote = session(dir.path());
    remote.begin(RUN, false).unwrap();
    remote.end().unwrap();
    let taker = Hello { main: "01TAKER".to_owned(), epoch: 2, name: "taker".to_owned() };
    binding::bind(&accept(dir.path()).state_dir, &taker).unwrap();
    let error = remote.begin(NEXT_RUN, true).unwrap_err();
    assert_eq!(error.kind, NodeErrorKind::Refused);
    assert!(error.detail.contains("taker"), "{error}");
}

#[test]
fn a_scan_ends_when_main_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let root = root(dir.path());
    fs::create_dir_all(&root).unwrap();
    fs::write(root.join("young.wav"), "x").unwrap();
    let (main, node) = UnixStream::pair().unwrap();
    let (options, accept) = (options(dir.path()), accept(dir.path()));
    let progress = Arc::clone(&options.progress);
    let mut local = Local::new(options);
    let (ended, has_ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let served = agent::serve(&node, &node, &mut local, &accept, &progress);
        let _ = ended.send(served);
    });
    // Keep-alives every 50 ms: the first one after Main is gone finds that out.
    let mut remote = handshake(&main, &hello(), Duration::from_millis(200)).unwrap();
    remote.begin(RUN, false).unwrap();
    // The scan waits two hours for the file to settle.
    let scan = ScanSpec { settle: Duration::from_secs(3 * 3600), ..spec(&root) };
    write_value(&mut &main, Kind::Request, &Request::Scan(scan)).unwrap();
    drop((remote, main));
    let served = has_ended.recv_timeout(Duration::from_secs(60)).expect("the scan goes on for nobody");
    assert!(served.is_err(), "{served:?}");
}
