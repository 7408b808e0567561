//! What a node writes into its own log.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/local.rs"]
mod local;

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use xds_sync::model::{Action, Outcome, RelPathBuf, ReloadOutcome, ReloadState, Step, TrashKeep};
use xds_sync::node::{
    Accept, Ended, Endpoint as _, EpochLimit, Hello, Local, LocalOptions, NodeError, Peer, Remote, agent,
};
use xds_sync::reload::ReloadRequest;

const RUN: &str = "01KQ0000000000000000000000";

/// Keeps what is logged.
struct Kept(Mutex<Vec<String>>);

static LOG: Kept = Kept(Mutex::new(Vec::new()));

impl log::Log for Kept {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target().starts_with("xds_sync") {
            self.0.lock().unwrap().push(format!("{} {}", record.level(), record.args()));
        }
    }

    fn flush(&self) {}
}

struct Nobody;

impl Peer for Nobody {
    fn ended(&mut self) -> Ended {
        Ended::default()
    }
}

/// A host whose Asterisk does not answer.
fn host(dir: &Path) -> Local {
    Local::new(LocalOptions {
        reload: Box::new(|request| ReloadOutcome {
            name: request.name.clone(),
            state: ReloadState::Failed,
            detail: Some("no\nAsterisk".to_owned()),
        }),
        ..local::options(dir)
    })
}

/// What is logged of a session in which Main does this.
fn log_of(
    dir: &Path,
    read_only: bool,
    main: &str,
    session: impl FnOnce(&mut Remote) -> Result<(), NodeError>,
) -> Vec<String> {
    let accept = Accept {
        file: "node.toml".into(),
        roots: vec![dir.join("roots")],
        read_only,
        reload: [("dialplan".to_owned(), vec!["true".to_owned()])].into(),
        state_dir: dir.join("state"),
        machine: None,
        max_epoch: EpochLimit::NONE,
    };
    let (ours, node) = UnixStream::pair().unwrap();
    let mut host = host(dir);
    let agent = std::thread::spawn(move || {
        let _ = agent::serve(&node, &node, &mut host, &accept, &Arc::default());
    });
    let end = || ours.try_clone().unwrap().into();
    let hello = Hello { main: main.to_owned(), epoch: 1, name: "ma\nin".to_owned() };
    if let Ok(mut remote) = Remote::new(end(), end(), Box::new(Nobody), &hello, Duration::from_secs(60)) {
        let _ = session(&mut remote);
    }
    drop(ours);
    agent.join().unwrap();
    std::mem::take(&mut *LOG.0.lock().unwrap())
}

fn reload(name: &str) -> ReloadRequest {
    ReloadRequest { name: name.to_owned(), roots: Vec::new(), timeout: Duration::from_secs(1) }
}

#[test]
fn changes_reloads_and_refusals_are_one_line_each() {
    log::set_logger(&LOG).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    let root = base.join("roots/moh");
    fs::create_dir_all(&root).unwrap();
    fs::write(root.join("a\x1b[2J.wav"), "a").unwrap();

    let lines = log_of(&base, false, "01MAIN", |remote| {
        remote.begin(RUN, false)?;
        remote.scan(&local::spec("moh", &root))?;
        let tree = remote.tree("moh", None)?;
        remote.prepare("moh", &TrashKeep::FOREVER, None)?.unwrap();
        let path = RelPathBuf::new(&b"a\x1b[2J.wav"[..]).unwrap();
        let delete = |expected| Action { path: path.clone(), expected, step: Step::Delete };
        let outcomes = remote.commit("moh", &[delete(tree.get(&path).cloned())])?;
        assert_eq!(outcomes, [Outcome::Done]);
        // It is gone already: what is not done is not logged.
        assert_ne!(remote.commit("moh", &[delete(tree.get(&path).cloned())])?, [Outcome::Done]);
        remote.reload(&reload("dialplan"))?;
        remote.reload(&reload("shut\ndown"))?;
        remote.end()
    });
    assert_eq!(
        lines,
        [
            "INFO auth: bound: this node obeys main=ma\\x0ain id=01MAIN epoch=1 from now on".to_owned(),
            format!("INFO change: run={RUN} directory=moh action=delete path=a\\x1b[2J.wav"),
            format!("WARN reload: run={RUN} name=dialplan state=failed: no\\x0aAsterisk"),
            format!(
                "WARN refused: reload: run={RUN} name=shut\\x0adown: the node has no reload shut\\x0adown \
                 (see `[reload]` in node.toml there)"
            ),
        ]
    );

    // A run is refused as a whole by what Main it is from, and a directory by its root.
    let run = |id| format!("main=ma\\x0ain id={id} epoch=1");
    let directory = format!("scan: run={RUN} directory=moh");
    for (read_only, main, root, what, reason) in [
        (false, "01OTHER", &root, run("01OTHER"), "the node obeys another Main of the same name, ma\\x0ain"),
        (false, "01MAIN", &base, directory, "the node does not accept"),
        (true, "01MAIN", &root, run("01MAIN"), "the node accepts no changes"),
    ] {
        let lines = log_of(&base, read_only, main, |remote| {
            remote.begin(RUN, false)?;
            remote.scan(&local::spec("moh", root))?;
            remote.prepare("moh", &TrashKeep::FOREVER, None).map(drop)
        });
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert!(line.starts_with(&format!("WARN refused: {what}: {reason}")), "{line}");
    }

    // A dry run, and a Main that only looks, leave no line.
    let lines = log_of(&base, false, "01MAIN", |remote| {
        remote.begin(RUN, true)?;
        remote.scan(&local::spec("moh", &root)).map(drop)
    });
    assert_eq!(lines, Vec::<String>::new());
}
