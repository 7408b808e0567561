//! Sessions as they should be, and as they end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use super::fake::*;
use crate::model::{Action, Outcome, Owner, ReloadState, Step, TrashKeep};
use crate::node::{
    Endpoint as _, Hello, KeyChange, MainKeys as _, NodeErrorKind, Refusal, TrashReader as _,
    agent as serving,
};
use crate::reload::ReloadRequest;
use crate::snapshot::Root;
use crate::transfer::{BlobRequest, Sink, Source};

#[test]
fn a_scan_and_its_tree_cross() {
    let dir = tempfile::tempdir().unwrap();
    let (mut remote, served) = session(Fake::with(&[("a", b"1"), ("d/b", b"22")]), dir.path());
    assert_eq!(remote.version(), env!("CARGO_PKG_VERSION"));
    let scanned = remote.scan(&spec(&root(dir.path()))).unwrap();
    assert_eq!((scanned.root, scanned.entries, scanned.free.bytes()), (Root::Unmarked, 2, 7));
    let tree = remote.tree("moh", None).unwrap();
    assert_eq!(tree.get(&path("d/b")), Some(&file(b"22")));
    assert_eq!(tree.len(), 2);
    drop(remote);
    let (host, ended) = served.join().unwrap();
    assert_eq!(ended, Ok(()));
    assert_eq!(host.calls, Vec::<String>::new());
}

#[test]
fn a_tree_that_main_knows_does_not_cross() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..2000).map(|n| format!("{n:04}.wav")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
    let known = Arc::new(Fake::with(&files).snapshot());
    for (files, asked) in [(&files[..], 0), (&files[1..], 1), (&[], 1)] {
        let (mut remote, served) = session(Fake::with(files), dir.path());
        remote.scan(&spec(&root(dir.path()))).unwrap();
        let tree = remote.tree("moh", Some(&known)).unwrap();
        drop(remote);
        let (host, ended) = served.join().unwrap();
        assert_eq!(ended, Ok(()));
        assert_eq!(*tree, host.snapshot());
        assert_eq!(host.trees, asked, "{} files", files.len());
    }
}

#[test]
fn what_lies_in_the_trash_crosses() {
    let dir = tempfile::tempdir().unwrap();
    // More than fit into one answer, by their number or by their length.
    let long = ["n".repeat(250).as_str(); 11].join("/");
    let many = (0..20_000).map(|n| (path(&format!("d/{n}")), b"x".to_vec()));
    let long = (0..2_000).map(|n| (path(&format!("{long}/{n}")), b"y".to_vec()));
    let host = Fake { trash: many.chain(long).collect(), ..Fake::default() };
    let (mut remote, served) = session(host, dir.path());
    remote.scan(&spec(&root(dir.path()))).unwrap();

    assert_eq!(remote.versions("moh", &path("d")).unwrap().unwrap().len(), 20_000);
    assert_eq!(remote.versions("moh", &path("d/7")).unwrap().unwrap(), [trash_entry(&path("d/7"), b"x")]);
    assert_eq!(remote.versions("moh", &path("n".repeat(250).as_str())).unwrap().unwrap().len(), 2_000);
    assert_eq!(remote.versions("moh", &path("none")).unwrap().unwrap(), []);
    assert_eq!(remote.versions("moh", &path("unreadable")).unwrap().unwrap_err().to_string(), "no\\x0away");

    let paths: Vec<_> = (0..1_000).map(|n| path(&format!("d/{n}"))).chain([path("gone")]).collect();
    let recalled = remote.recall("moh", &trash_id(), &paths).unwrap();
    assert_eq!(recalled[999], Ok(file(b"x")));
    assert_eq!(recalled[1_000], Err(Refusal::new("it is\\x0agone")));

    let mut got = Gathered::default();
    let contents = [wanted("d/1", b"x"), wanted("gone", b"z")];
    remote.send_trashed("moh", &trash_id(), &contents, &mut got).unwrap();
    assert_eq!(got.0, [(b"x".to_vec(), Some(Ok(()))), (Vec::new(), Some(Err("it is gone".to_owned())))]);
    drop(remote);
    assert_eq!(served.join().unwrap().1, Ok(()));
}

#[test]
fn a_host_is_changed_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let main = Fake::with(&[("new", b"content"), ("sparse", &[&b"x"[..], &[0; 500_000], b"y"].concat())]);
    let (mut remote, served) = session(Fake::with(&[("old", b"has it")]), dir.path());
    remote.scan(&spec(&root(dir.path()))).unwrap();

    let owners = [Owner::new(Some("asterisk"), Some("www-data")), Owner::new(None, None)];
    let known = [Owner::new(Some("asterisk"), None), Owner::new(None, None)];
    assert_eq!(remote.known_owners(&owners).unwrap(), known);

    assert_eq!(
        remote
            .prepare("moh", &TrashKeep { seconds: 60, ..TrashKeep::FOREVER }, None)
            .unwrap()
            .map(|root| root.id),
        Ok("01MARKER".to_owned())
    );
    assert_eq!(remote.clear_stage("moh").unwrap(), Err(Refusal::new("no\\x0away")));
    let sparse = main.files[&path("sparse")].clone();
    let contents = [
        wanted("new", b"content"),
        wanted("gone", b"?"),
        wanted("here", b"has it"),
        wanted("sparse", &sparse),
    ];
    let received = remote.stage("moh", &contents, &mut &main).unwrap();
    assert_eq!(received, [Ok(()), Err("it is gone".to_owned()), Ok(()), Ok(())]);

    let put = Action { path: path("new"), expected: None, step: Step::Put(file(b"content")) };
    let delete = Action { path: path("old"), expected: Some(file(b"has it")), step: Step::Delete };
    let fails = Action { expected: None, ..delete.clone() };
    let outcomes = remote.commit("moh", &[put, delete, fails]).unwrap();
    assert_eq!(outcomes, [Outcome::Done, Outcome::Changed, Outcome::Failed("two\\x0alines".to_owned())]);
    assert_eq!(remote.agree("moh", "01GEN").unwrap(), Err(Refusal::new("no space left")));

    let roots = vec![root(dir.path())];
    let mut reload = ReloadRequest { name: "dialplan".to_owned(), roots, timeout: LONG };
    assert_eq!(remote.reload(&reload).unwrap().state, ReloadState::Done);
    reload.name = "shutdown".to_owned();
    let outcome = remote.reload(&reload).unwrap();
    assert_eq!(outcome.state, ReloadState::Failed);
    assert!(outcome.detail.unwrap().contains("node.toml"));

    let change = key_change();
    assert_eq!(remote.replace_key(&change).unwrap(), Err(Refusal::new("not\\x0ain there")));
    let lines = Ok(vec!["a\\x0aline".to_owned()]);
    assert_eq!(remote.replace_key(&KeyChange { drop_old: true, ..change }).unwrap(), lines);

    drop(remote);
    let (host, ended) = served.join().unwrap();
    assert_eq!(ended, Ok(()));
    let calls: Vec<&str> = host.calls.iter().filter_map(|call| call.split(' ').next()).collect();
    assert_eq!(
        calls,
        ["prepare", "clear_stage", "stage", "commit", "agree", "reload", "replace_key", "replace_key"]
    );
    assert!(host.staged[&digest(&sparse)] == sparse);
    assert!(!host.staged.contains_key(&digest(b"has it")), "what the node has is not sent");
}

fn key_change() -> KeyChange {
    let text = str::to_owned;
    KeyChange { old: text("old"), new: text("new"), signature: text("by old"), drop_old: false }
}

#[test]
fn contents_are_pulled() {
    let dir = tempfile::tempdir().unwrap();
    let long: Vec<u8> = (0..1_000_000u32).map(|n| n.to_le_bytes()[1]).collect();
    let (mut remote, _served) = session(Fake::with(&[("a", &long), ("b", b"tail")]), dir.path());
    remote.scan(&spec(&root(dir.path()))).unwrap();
    let contents =
        [wanted("a", &long), wanted("gone", b"?"), BlobRequest { offset: 2, ..wanted("b", b"tail") }];
    let mut gathered = Gathered::default();
    remote.send("moh", &contents, &mut gathered).unwrap();
    let [(a, a_end), (_, gone), (b, _)] = gathered.0.try_into().unwrap();
    assert!(a == long && a_end == Some(Ok(())));
    assert_eq!(gone, Some(Err("it is gone".to_owned())));
    assert_eq!(b, b"il");
}

#[test]
fn of_a_changed_file_a_pull_sends_only_what_changed() {
    let (main_dir, node_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut old = vec![0; 3 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut old);
    let new = [&old[..], &[7; 5000]].concat();
    let (main_root, node_root) = (root(main_dir.path()), root(node_dir.path()));
    for (dir, content) in [(&main_root, &old), (&node_root, &new)] {
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join("a.wav"), content).unwrap();
        std::fs::write(dir.join("z.wav"), &content[1 << 20..]).unwrap();
    }
    // Between two files that Main has a basis of, one that it has not.
    std::fs::write(node_root.join("new"), b"small").unwrap();

    let sent = Arc::new(AtomicU64::new(0));
    let (mut remote, served) = session_with_local(node_dir.path(), Arc::clone(&sent));
    remote.scan(&spec(&node_root)).unwrap();
    let mut main = local(&main_dir.path().join("host"));
    main.begin("01KQ0000000000000000000000", false).unwrap();
    main.scan(&spec(&main_root)).unwrap();
    main.prepare("moh", &TrashKeep::FOREVER, None).unwrap().unwrap();
    let staging = main.staging("moh").unwrap();
    let requests = [wanted("a.wav", &new), wanted("new", b"small"), wanted("z.wav", &new[1 << 20..])];
    let before = sent.load(Ordering::Relaxed);
    assert_eq!(staging.stage(&requests, &mut Pull(&mut remote)), vec![Ok(()); 3]);
    let sent = sent.load(Ordering::Relaxed) - before;
    assert!(sent < 128 * 1024, "{sent} bytes of two files of which 5,000 bytes each are new");
    drop(remote);
    assert_eq!(served.join().unwrap(), Ok(()));
}

/// The directory of a node as a source.
struct Pull<'a>(&'a mut crate::node::Remote);

impl Source for Pull<'_> {
    fn send(&mut self, wanted: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        Ok(self.0.send("moh", wanted, sink)?)
    }
}

#[test]
fn lists_beyond_one_message_cross_in_batches() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..40_000).map(|n| format!("{n}")).collect();
    let host = Fake {
        files: names.iter().map(|name| (path(name), name.clone().into())).collect(),
        ..Fake::default()
    };
    let (mut remote, served) = session(host, dir.path());
    remote.scan(&spec(&root(dir.path()))).unwrap();
    let contents: Vec<BlobRequest> = names.iter().map(|name| wanted(name, name.as_bytes())).collect();
    let mut gathered = Gathered::default();
    remote.send("moh", &contents, &mut gathered).unwrap();
    assert!(gathered.0.iter().map(|(content, _)| content).eq(names.iter().map(String::as_bytes)));
    let actions: Vec<Action> = names
        .iter()
        .map(|name| Action { path: path(name), expected: None, step: Step::Put(file(b"x")) })
        .collect();
    assert_eq!(remote.commit("moh", &actions).unwrap(), vec![Outcome::Done; actions.len()]);
    drop(remote);
    let (host, _) = served.join().unwrap();
    let commits = host.calls.iter().filter(|call| call.starts_with("commit")).count();
    assert_eq!(
        commits, 1,
        "a commit in parts could not see that its actions belong together: {:?}",
        host.calls
    );
}

#[test]
fn a_source_that_is_lost_ends_the_session() {
    struct Lost;
    impl Source for Lost {
        fn send(&mut self, _: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
            sink.begin(0)?;
            anyhow::bail!("Main's disk is gone")
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut remote, served) = session(Fake::default(), dir.path());
    remote.scan(&spec(&root(dir.path()))).unwrap();
    let error = remote.stage("moh", &[wanted("a", b"1")], &mut Lost).unwrap_err();
    assert_eq!(error.kind, NodeErrorKind::Lost);
    assert!(error.detail.contains("Main's disk is gone"), "{error}");
    assert_eq!(remote.agree("moh", "01GEN").unwrap_err(), error, "what follows is answered alike");
    drop(remote);
    let (host, ended) = served.join().unwrap();
    assert!(ended.is_err());
    assert!(host.staged.is_empty());
}

#[test]
fn what_the_agent_says_last_is_what_main_hears() {
    struct Full;
    impl Source for Full {
        fn send(&mut self, _: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
            sink.begin(0)?;
            // More than any pipe holds: Main is writing when the agent ends the session.
            for _ in 0..10_000 {
                sink.data(&[1; 64 * 1024])?;
            }
            sink.end(Ok(()))
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut remote, _served) = session(Fake::default(), dir.path());
    remote.scan(&spec(&root(dir.path()))).unwrap();
    let error = remote.stage("moh", &[wanted("a", b"1")], &mut Full).unwrap_err();
    assert!(error.detail.contains("more bytes than a has"), "{error}");
}

#[test]
fn a_node_that_cannot_serve_says_why() {
    let (main, node) = std::os::unix::net::UnixStream::pair().unwrap();
    let why =
        crate::node::NodeError::new(NodeErrorKind::Refused, "/etc/xds-sync/node.toml:3: unknown key `root`");
    serving::decline(&mut &node, &why).unwrap();
    drop(node);
    assert_eq!(handshake(&main, &hello(), LONG).err(), Some(why));
}

#[test]
fn a_hanging_filesystem_shows_as_silence() {
    let dir = tempfile::tempdir().unwrap();
    let (release, hang) = mpsc::channel::<()>();
    let host = Fake { scanning: Some(Box::new(move |_| _ = hang.recv())), ..Fake::default() };
    let (main, served) = agent(host, accept(dir.path()), Arc::default());
    let mut remote = begun(&main, &hello(), SHORT).unwrap();
    let error = remote.scan(&spec(&root(dir.path()))).unwrap_err();
    assert_eq!(error.kind, NodeErrorKind::Timeout);
    drop((release, remote, main));
    served.join().unwrap().1.unwrap_err();
}

#[test]
fn a_dry_run_and_a_read_only_node_change_nothing() {
    for (dry_run, read_only, words) in [(true, false, "dry run"), (false, true, "`read_only` in")] {
        let dir = tempfile::tempdir().unwrap();
        let accept = crate::node::Accept { read_only, ..accept(dir.path()) };
        for attempt in 0..7 {
            let (main, served) = agent(Fake::with(&[("a", b"1")]), accept.clone(), Arc::default());
            let mut remote = handshake(&main, &hello(), LONG).unwrap();
            remote.begin("01RUN", dry_run).unwrap();
            remote.scan(&spec(&root(dir.path()))).unwrap();
            remote.tree("moh", None).unwrap();
            let reload = ReloadRequest { name: "dialplan".to_owned(), roots: vec![], timeout: LONG };
            let error = match attempt {
                0 => remote.prepare("moh", &TrashKeep::FOREVER, None).map(drop).unwrap_err(),
                1 => remote.stage("moh", &[wanted("a", b"1")], &mut &Fake::default()).map(drop).unwrap_err(),
                2 => {
                    let delete = Action { path: path("a"), expected: None, step: Step::Delete };
                    remote.commit("moh", &[delete]).map(drop).unwrap_err()
                }
                3 => remote.agree("moh", "01GEN").map(drop).unwrap_err(),
                4 => remote.clear_stage("moh").map(drop).unwrap_err(),
                5 => remote.replace_key(&key_change()).map(drop).unwrap_err(),
                _ => remote.reload(&reload).map(drop).unwrap_err(),
            };
            assert_eq!(error.kind, NodeErrorKind::Refused);
            assert!(error.detail.contains(words), "{error}");
            drop((remote, main));
            assert_eq!(served.join().unwrap().0.calls, Vec::<String>::new());
            assert!(!dir.path().join("state").exists(), "it is not even bound to its Main");
        }
    }
}

#[test]
fn an_older_main_is_refused_before_it_sees_anything() {
    let dir = tempfile::tempdir().unwrap();
    let (main, served) = agent(Fake::default(), accept(dir.path()), Arc::default());
    let mut remote = begun(&main, &Hello { epoch: 2, ..hello() }, LONG).unwrap();
    remote.scan(&spec(&root(dir.path()))).unwrap();
    remote.prepare("moh", &TrashKeep::FOREVER, None).unwrap().unwrap();
    drop((remote, main));
    served.join().unwrap().1.unwrap();
    for (hello, refused) in [
        (hello(), true),
        (Hello { epoch: 2, main: "01OTHER".to_owned(), ..hello() }, true),
        (Hello { epoch: 2, ..hello() }, false),
    ] {
        let (main, _served) = agent(Fake::default(), accept(dir.path()), Arc::default());
        let met = handshake(&main, &hello, LONG);
        assert_eq!(met.is_err(), refused);
        if let Err(error) = met {
            assert_eq!(error.kind, NodeErrorKind::Refused);
            assert!(error.detail.contains("xds-sync init --takeover"), "{error}");
        }
    }
}
