//! What a node writes into its own log.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use xds_sync::model::{Action, Direction, Outcome, RelPathBuf, ReloadOutcome, ReloadState, Step, TrashKeep};
use xds_sync::node::{
    Accept, Ended, Endpoint as _, Hello, Local, LocalOptions, NodeError, Peer, Refusal, Remote, agent,
};
use xds_sync::reload::ReloadRequest;
use xds_sync::snapshot::ScanSpec;

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

fn local(dir: &Path) -> Local {
    Local::new(LocalOptions {
        cache_dir: dir.join("cache"),
        clock: Box::new(|| SystemTime::now() + Duration::from_secs(3600)),
        new_id: Box::new(|| "01KQ0000000000000000000009".to_owned()),
        reload: Box::new(|request| ReloadOutcome {
            name: request.name.clone(),
            state: ReloadState::Failed,
            detail: Some("no\nAsterisk".to_owned()),
        }),
        replace_key: Box::new(|_| Err(Refusal::new("not here"))),
        progress: Arc::default(),
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
    };
    let (ours, node) = UnixStream::pair().unwrap();
    let mut host = local(dir);
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

fn spec(root: &Path) -> ScanSpec {
    ScanSpec {
        directory: "moh".to_owned(),
        root: root.to_owned(),
        direction: Direction::Push,
        exclude: Vec::new(),
        other_roots: Vec::new(),
        settle: Duration::ZERO,
        checksum: false,
    }
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
        remote.scan(&spec(&root))?;
        let tree = remote.tree("moh", None)?;
        remote.prepare("moh", &TrashKeep::FOREVER)?.unwrap();
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
            "INFO bound: this node obeys main=ma\\x0ain id=01MAIN epoch=1 from now on".to_owned(),
            format!("INFO change: run={RUN} directory=moh action=delete path=a\\x1b[2J.wav"),
            format!("WARN reload: run={RUN} name=dialplan state=failed: no\\x0aAsterisk"),
            format!(
                "WARN refused: reload: run={RUN} name=shut\\x0adown: the node has no reload shut\\x0adown \
                 (see `[reload]` in node.toml there)"
            ),
        ]
    );

    for (read_only, main, root, reason) in [
        (false, "01OTHER", &root, "the node obeys another Main, ma\\x0ain"),
        (false, "01MAIN", &base, "the node does not accept"),
        (true, "01MAIN", &root, "the node accepts no changes"),
    ] {
        let lines = log_of(&base, read_only, main, |remote| {
            remote.begin(RUN, false)?;
            remote.scan(&spec(root))?;
            remote.prepare("moh", &TrashKeep::FOREVER).map(drop)
        });
        let [line] = &lines[..] else { panic!("{lines:?}") };
        let begin = format!("WARN refused: main=ma\\x0ain id={main} epoch=1: {reason}");
        assert!(line.starts_with(&begin), "{line}");
    }

    // A dry run, and a Main that only looks, leave no line.
    let lines = log_of(&base, false, "01MAIN", |remote| {
        remote.begin(RUN, true)?;
        remote.scan(&spec(&root)).map(drop)
    });
    assert_eq!(lines, Vec::<String>::new());
}
