//! An agent against a Main that does not keep to the protocol. It must end the session with a word, never
//! panic, and never reach its host with what it refuses.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::fake::*;
use crate::model::{Action, RelPathBuf, Step, TrashKeep};
use crate::node::protocol::frame::{Kind, decode, read_frame, write_frame, write_value};
use crate::node::protocol::handshake::{MAGIC, MainHello, Versions};
use crate::node::protocol::limits::MAX_DATA;
use crate::node::protocol::message::{Basis, Reply, Request};
use crate::node::{Accept, Endpoint as _, NodeError, NodeErrorKind, TrashReader as _};
use crate::reload::ReloadRequest;
use crate::snapshot::{Root, ScanSpec};
use crate::transfer::Signature;

/// What an agent made of a Main that sent this behind a proper handshake.
fn after_handshake(accept: &Accept, send: impl FnOnce(&mut UnixStream)) -> (Fake, NodeError) {
    let (mut main, served) = agent(Fake::with(&[("a", b"1")]), accept.clone(), Arc::default());
    greet(&mut main, &proper());
    ask(&mut main, &begin());
    send(&mut main);
    main.shutdown(std::net::Shutdown::Write).unwrap();
    let told = last_word(&drain(&main));
    let (host, ended) = served.join().unwrap();
    let ended = ended.unwrap_err();
    assert_eq!(told, Some(ended.clone()), "Main is told why");
    (host, ended)
}

fn proper() -> MainHello {
    MainHello { versions: Versions::ours(), hello: hello(), timeout_ms: 30_000 }
}

fn begin() -> Request {
    Request::Begin { run: "01RUN".to_owned(), dry_run: false }
}

fn greet(main: &mut UnixStream, hello: &MainHello) {
    let mut magic = [0; MAGIC.len()];
    main.read_exact(&mut magic).unwrap();
    assert_eq!(magic, MAGIC);
    let mut payload = Vec::new();
    assert_eq!(read_frame(main, &mut payload).unwrap(), Some(Kind::Hello));
    write_value(main, Kind::Hello, hello).unwrap();
}

fn ask(main: &mut UnixStream, request: &Request) {
    write_value(main, Kind::Request, request).unwrap();
}

/// Signature of one byte each.
fn no_signature() -> Signature {
    let raw = (1_u32, vec![(1_u32, [0_u8; 16]); 1000]);
    postcard::from_bytes(&postcard::to_stdvec(&raw).unwrap()).unwrap()
}

/// A signature that can be that of a file.
fn signature() -> Signature {
    Signature::of_bytes(&[7; 100_000]).unwrap()
}

/// A request for one file, with these signatures.
fn send_with(bases: Vec<(u32, Signature)>) -> Request {
    let basis = |(index, signature)| Basis { index, signature: Arc::new(signature) };
    let bases = bases.into_iter().map(basis).collect();
    Request::Send { directory: "moh".to_owned(), wanted: vec![wanted("a", b"1")], bases }
}

fn last_word(mut frames: &[u8]) -> Option<NodeError> {
    let mut payload = Vec::new();
    let mut last = None;
    while let Some(kind) = read_frame(&mut frames, &mut payload).unwrap() {
        last = (kind == Kind::Failed).then(|| decode(kind, &payload).unwrap());
    }
    last
}

#[test]
fn requests_out_of_bounds_end_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let accept = accept(dir.path());
    let moh = || "moh".to_owned();
    let scan = Request::Scan(spec(&root(dir.path())));
    let put = |at: &str| Action { path: path(at), expected: None, step: Step::Put(file(b"x")) };
    let special = |mode: u16| {
        let mut action = put("a");
        if let Step::Put(crate::model::Entry::File(file)) = &mut action.step {
            file.meta.mode = mode;
        }
        action
    };
    for (requests, rule) in [
        (vec![Request::Tree { directory: moh(), basis: None }], "moh was not scanned"),
        (
            vec![
                Request::Scan(spec(&root(dir.path()))),
                Request::Tree { directory: moh(), basis: Some(Arc::new(no_signature())) },
            ],
            "a signature that no file can have",
        ),
        (vec![Request::Prepare { directory: moh(), trash: TrashKeep::FOREVER, root: None }], "not scanned"),
        (
            vec![Request::Commit { directory: "\x1b[2J".to_owned(), actions: vec![], last: true }],
            "directory \\x1b[2J was",
        ),
        (
            vec![Request::Scan(ScanSpec { directory: String::new(), ..spec(&root(dir.path())) })],
            "name is empty",
        ),
        (
            vec![Request::Scan(ScanSpec { exclude: vec!["*".to_owned(); 5000], ..spec(&root(dir.path())) })],
            "malformed Request",
        ),
        (
            vec![Request::Scan(ScanSpec {
                other_roots: vec![PathBuf::new(); 5000],
                ..spec(&root(dir.path()))
            })],
            "malformed Request",
        ),
        (
            (0..=256)
                .map(|n| Request::Scan(ScanSpec { directory: format!("d{n}"), ..spec(&root(dir.path())) }))
                .collect(),
            "too many directories",
        ),
        (
            vec![
                Request::Scan(spec(&root(dir.path()))),
                Request::Commit { directory: moh(), actions: vec![special(0o4755)], last: true },
            ],
            "mode 4755 has bits",
        ),
        (
            vec![
                Request::Scan(spec(&root(dir.path()))),
                Request::Commit { directory: moh(), actions: vec![put(".xds-sync/x")], last: true },
            ],
            ".xds-sync/x lies in .xds-sync",
        ),
        (
            vec![
                Request::Scan(spec(&root(dir.path()))),
                Request::Send {
                    directory: moh(),
                    wanted: vec![wanted(".xds-sync/root.json", b"")],
                    bases: vec![],
                },
            ],
            "lies in .xds-sync",
        ),
        (
            vec![Request::Scan(spec(&root(dir.path()))), send_with(vec![(0, no_signature())])],
            "a signature that no file can have",
        ),
        (
            vec![Request::Scan(spec(&root(dir.path()))), send_with(vec![(0, signature()), (0, signature())])],
            "expected at most one basis of each of 1 files, got one of 0",
        ),
        (
            vec![Request::Scan(spec(&root(dir.path()))), send_with(vec![(1, signature())])],
            "expected at most one basis of each of 1 files, got one of 1",
        ),
        (
            vec![
                Request::Scan(spec(&root(dir.path()))),
                send_with((0..9).map(|index| (index, signature())).collect()),
            ],
            "malformed Request",
        ),
        (
            vec![
                Request::Scan(spec(&root(dir.path()))),
                Request::Versions { directory: moh(), path: path("a/.xds-sync/root.json") },
            ],
            "lies in .xds-sync",
        ),
        (
            vec![
                Request::Scan(spec(&root(dir.path()))),
                Request::Versions { directory: moh(), path: path("xds_override_mds/x") },
            ],
            "xds_override_mds/x is excluded",
        ),
        (
            vec![
                Request::Scan(spec(&root(dir.path()))),
                Request::Recall { directory: moh(), id: trash_id(), paths: vec![path("ok"), path("a.bak")] },
            ],
            "a.bak is excluded",
        ),
        (
            vec![
                Request::Scan(spec(&root(dir.path()))),
                Request::SendTrashed {
                    directory: moh(),
                    id: trash_id(),
                    wanted: vec![wanted(".xds-sync/trash/index", b"")],
                },
            ],
            "lies in .xds-sync",
        ),
        (vec![Request::Versions { directory: moh(), path: path("a") }], "moh was not scanned"),
        (vec![Request::Trashed(moh())], "moh was not scanned"),
        (
            vec![Request::Begin { run: "../../x".to_owned(), dry_run: false }],
            "not of letters, digits and hyphens",
        ),
        (vec![Request::End, scan], "expected the begin of a run"),
        (
            vec![Request::Reload(ReloadRequest {
                name: "moh".to_owned(),
                roots: vec![],
                timeout: LONG * 1000,
            })],
            "may take hours",
        ),
    ] {
        let (host, error) =
            after_handshake(&accept, |main| requests.iter().for_each(|request| ask(main, request)));
        assert_eq!(error.kind, NodeErrorKind::Lost);
        assert!(error.detail.contains(rule), "{error}");
        assert_eq!(host.calls, Vec::<String>::new());
    }
}

#[test]
fn an_id_names_a_version_in_the_trash_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let accept = accept(dir.path());
    for id in ["../../../../etc-0", "01KQ0000000000000000000000-0/../../..", "01KQ0000000000000000000000-"] {
        // As `Recall` encodes: its number, the directory, the id, one path.
        let id = [&[u8::try_from(id.len()).unwrap()], id.as_bytes()].concat();
        let payload = [&[17, 3][..], b"moh", &id, &[1, 6], b"shadow"].concat();
        let (_, error) = after_handshake(&accept, |main| {
            ask(main, &Request::Scan(spec(&root(dir.path()))));
            write_frame(main, Kind::Request, &payload).unwrap();
        });
        assert!(error.detail.contains("malformed Request"), "{error}");
    }
    let (main, served) = agent(Fake::default(), accept, Arc::default());
    let mut remote = begun(&main, &hello(), LONG).unwrap();
    remote.scan(&spec(&root(dir.path()))).unwrap();
    assert!(remote.recall("moh", &trash_id(), &[path("shadow")]).unwrap()[0].is_err(), "number 17 is Recall");
    drop((remote, main));
    served.join().unwrap().1.unwrap();
}

#[test]
fn roots_that_are_not_accepted_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let accept = accept(dir.path());
    std::fs::create_dir_all(dir.path().join("roots")).unwrap();
    std::os::unix::fs::symlink("/etc", dir.path().join("roots/etc")).unwrap();
    let inside = |name: &str| dir.path().join("roots").join(name);
    for root in
        [PathBuf::from("/etc"), PathBuf::from("moh"), inside("../secret"), inside("etc"), inside("etc/ssh")]
    {
        let request = Request::Reload(ReloadRequest {
            name: "dialplan".to_owned(),
            roots: vec![root.clone()],
            timeout: LONG,
        });
        let (host, error) = after_handshake(&accept, |main| ask(main, &request));
        assert_eq!(error.kind, NodeErrorKind::Refused);
        assert!(error.detail.contains("node.toml"), "{error}");
        assert_eq!(host.calls, Vec::<String>::new());

        // A directory is refused alone, and nothing may be asked about it.
        let (main, served) = agent(Fake::with(&[("a", b"1")]), accept.clone(), Arc::default());
        let mut remote = begun(&main, &hello(), LONG).unwrap();
        let scanned = remote.scan(&spec(&root)).unwrap();
        assert!(matches!(&scanned.root, Root::Unusable(why) if why.contains("node.toml")), "{scanned:?}");
        let other = ScanSpec { directory: "other".to_owned(), ..spec(&inside("moh")) };
        assert_eq!(remote.scan(&other).unwrap().root, Root::Unmarked);
        let error = remote.tree("moh", None).unwrap_err();
        assert!(error.detail.contains("was not scanned in this run"), "{error}");
        drop((remote, main));
        assert!(served.join().unwrap().1.is_err());
    }
}

#[test]
fn frames_out_of_bounds_end_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let accept = accept(dir.path());
    let raw = |length: u32, code: u8, payload: &[u8]| [&length.to_le_bytes()[..], &[code], payload].concat();
    for (bytes, rule) in [
        (raw(u32::MAX, 2, b""), "a Request frame of 4294967295 bytes"),
        (raw(0, 99, b""), "unknown kind 99"),
        (raw(2, 2, &[200, 1]), "malformed Request"),
        // A scan whose directory is 2^64 - 1 bytes long.
        (raw(11, 2, &[2, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]), "malformed Request"),
        // A number of eleven bytes.
        (raw(12, 2, &[2, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 1]), "malformed Request"),
        (raw(4, 7, b"data"), "expected a request, got a Data frame"),
        (raw(4, 2, &[3, 1, b'd', 0]), "was not scanned"),
        (raw(5, 2, &[3, 1, b'd', 0, 0]), "bytes follow the value"),
        (raw(100, 2, b"cut"), "ended within a frame"),
        (vec![1, 0], "ended within a frame"),
    ] {
        let (_, error) = after_handshake(&accept, |main| main.write_all(&bytes).unwrap());
        assert!(error.detail.contains(rule), "{error}");
    }
}

#[test]
fn contents_that_were_not_asked_for_end_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let accept = accept(dir.path());
    type Send = fn(&mut UnixStream);
    let attacks: [(Send, &str); 10] = [
        (|main| write_value(main, Kind::Begin, &1u64).unwrap(), "expected the begin of blob 0"),
        (|main| write_frame(main, Kind::Data, b"x").unwrap(), "expected the begin of blob 0"),
        (
            |main| {
                write_value(main, Kind::Begin, &0u64).unwrap();
                write_frame(main, Kind::Data, b"too long").unwrap();
            },
            "more bytes than new has",
        ),
        (
            |main| {
                write_value(main, Kind::Begin, &0u64).unwrap();
                write_value(main, Kind::Hole, &u64::MAX).unwrap();
            },
            "more bytes than new has",
        ),
        (
            |main| {
                write_value(main, Kind::Begin, &0u64).unwrap();
                write_frame(main, Kind::Data, b"").unwrap();
            },
            "more bytes than new has",
        ),
        (
            |main| {
                write_value(main, Kind::Begin, &0u64).unwrap();
                write_value(main, Kind::Begin, &1u64).unwrap();
            },
            "expected more of a blob or its end, got a Begin frame",
        ),
        (
            |main| {
                write_value(main, Kind::Begin, &0u64).unwrap();
                write_value(main, Kind::Copy, &(0u64, 4u64)).unwrap();
            },
            "a copy from beyond the end of the basis",
        ),
        (
            |main| {
                write_value(main, Kind::Begin, &0u64).unwrap();
                write_frame(main, Kind::Packed, b"x").unwrap();
            },
            "packed data that cannot be unpacked",
        ),
        (
            |main| {
                write_value(main, Kind::Begin, &0u64).unwrap();
                let bomb = zstd::bulk::compress(&vec![0; 32 << 20], 3).unwrap();
                write_frame(main, Kind::Packed, &bomb).unwrap();
            },
            "packed data that cannot be unpacked",
        ),
        (|main| write_value(main, Kind::Begin, &0u64).unwrap(), "unexpected end of file"),
    ];
    for (attack, rule) in attacks {
        let (host, error) = after_handshake(&accept, |main| {
            ask(main, &Request::Scan(spec(&root(dir.path()))));
            ask(main, &Request::Stage { directory: "moh".to_owned(), wanted: vec![wanted("new", b"four")] });
            attack(main);
        });
        assert!(error.detail.contains(rule), "{error}");
        assert!(host.staged.is_empty());
    }
}

#[test]
fn a_main_of_another_version_is_told_both() {
    let dir = tempfile::tempdir().unwrap();
    let newer = |versions: &mut Versions| {
        versions.lowest = 7;
        versions.highest = 9;
    };
    let older = |versions: &mut Versions| versions.highest = 0;
    let lacking = |versions: &mut Versions| versions.features = 0;
    let demanding = |versions: &mut Versions| versions.required = 1 << 63;
    let cases: [&dyn Fn(&mut Versions); 4] = [&newer, &older, &lacking, &demanding];
    for change in cases {
        let (mut main, served) = agent(Fake::default(), accept(dir.path()), Arc::default());
        let mut hello = proper();
        hello.versions.package = "9.9.9".to_owned();
        change(&mut hello.versions);
        greet(&mut main, &hello);
        let error = last_word(&drain(&main)).unwrap();
        assert_eq!(error.kind, NodeErrorKind::Incompatible);
        for version in ["9.9.9", env!("CARGO_PKG_VERSION")] {
            assert!(error.detail.contains(version), "{error}");
        }
        assert_eq!(served.join().unwrap().1, Err(error));
    }
}

#[test]
fn what_is_no_hello_gets_no_answer_but_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut odd = proper();
    odd.hello.main = "../../etc".to_owned();
    let hellos = [
        postcard::to_stdvec(&odd).unwrap(),
        postcard::to_stdvec(&Versions::ours()).unwrap(),
        vec![],
        vec![0xff; 4096],
    ];
    for hello in hellos {
        let (main, served) = agent(Fake::default(), accept(dir.path()), Arc::default());
        write_frame(&mut &main, Kind::Hello, &hello).unwrap();
        let (_, ended) = served.join().unwrap();
        assert_eq!(ended.unwrap_err().kind, NodeErrorKind::Lost);
    }
    // Nobody there is no error: a connection that was only tried.
    let (main, served) = agent(Fake::default(), accept(dir.path()), Arc::default());
    main.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(served.join().unwrap().1, Ok(()));
}

#[test]
fn any_bytes_end_the_session() {
    use proptest::prelude::*;
    let dir = tempfile::tempdir().unwrap();
    let accept = accept(dir.path());
    proptest!(ProptestConfig::with_cases(64), |(frames in proptest::collection::vec((1u8..12, any::<Vec<u8>>()), 0..8))| {
        let (mut main, served) = agent(Fake::default(), accept.clone(), Arc::default());
        greet(&mut main, &proper());
        for (kind, payload) in &frames {
            let length = u32::try_from(payload.len()).unwrap();
            // The agent may have ended the session by then.
            let frame = [&length.to_le_bytes()[..], &[*kind], payload].concat();
            let _ = main.write_all(&frame);
        }
        drop(main);
        let (host, _) = served.join().unwrap();
        prop_assert_eq!(host.calls, Vec::<String>::new());
    });
}

#[test]
fn a_link_cannot_be_put_where_it_leads_out() {
    let dir = tempfile::tempdir().unwrap();
    let accept = accept(dir.path());
    for (at, target) in [("d", "/etc"), ("d", "../.."), ("d/e", "x/../../../etc")] {
        let link = crate::model::Symlink { target: target.as_bytes().into() };
        let action = Action {
            path: RelPathBuf::new(at.as_bytes()).unwrap(),
            expected: None,
            step: Step::Put(crate::model::Entry::Symlink(link)),
        };
        let (host, error) = after_handshake(&accept, |main| {
            ask(main, &Request::Scan(spec(&root(dir.path()))));
            ask(main, &Request::Commit { directory: "moh".to_owned(), actions: vec![action], last: true });
        });
        assert!(error.detail.contains("leads out"), "{error}");
        assert_eq!(host.calls, Vec::<String>::new());
    }
}

#[test]
fn keep_alives_come_between_frames_only() {
    // A node that streams while it is at work: what arrives is frames, and the content is whole.
    let dir = tempfile::tempdir().unwrap();
    let mut content = vec![0; 4 * MAX_DATA];
    // What cannot be packed.
    blake3::Hasher::new().finalize_xof().fill(&mut content);
    let (mut main, _served) = agent(Fake::with(&[("a", &content)]), accept(dir.path()), Arc::default());
    // With this, a keep-alive is due every 10 ms.
    greet(&mut main, &MainHello { timeout_ms: 1, ..proper() });
    ask(&mut main, &begin());
    ask(&mut main, &Request::Scan(spec(&root(dir.path()))));
    for _ in 0..50 {
        let wanted = vec![wanted("a", &content)];
        ask(&mut main, &Request::Send { directory: "moh".to_owned(), wanted, bases: vec![] });
        let mut payload = Vec::new();
        let mut got = 0;
        loop {
            match read_frame(&mut main, &mut payload).unwrap().unwrap() {
                Kind::Data => got += payload.len(),
                Kind::Reply if matches!(decode(Kind::Reply, &payload), Ok(Reply::Sent)) => break,
                _ => {}
            }
        }
        assert_eq!(got, content.len());
    }
}

#[test]
fn a_host_that_is_at_work_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let progress = Arc::new(AtomicU64::new(0));
    let (counter, done) = (Arc::clone(&progress), Arc::new(AtomicBool::new(false)));
    let is_done = Arc::clone(&done);
    let host = Fake {
        scanning: Some(Box::new(move |_| {
            while !is_done.load(Ordering::Relaxed) {
                count(&counter);
                std::thread::yield_now();
            }
        })),
        ..Fake::default()
    };
    let (mut main, _served) = agent(host, accept(dir.path()), progress);
    // With this, a keep-alive is due every 10 ms.
    greet(&mut main, &MainHello { timeout_ms: 1, ..proper() });
    ask(&mut main, &begin());
    ask(&mut main, &Request::Scan(spec(&root(dir.path()))));
    let (mut payload, mut keep_alives) = (Vec::new(), 0);
    loop {
        match read_frame(&mut main, &mut payload).unwrap().unwrap() {
            Kind::Alive => keep_alives += 1,
            Kind::Reply if matches!(decode(Kind::Reply, &payload), Ok(Reply::Scanned(_))) => break,
            _ => {}
        }
        done.store(keep_alives >= 3, Ordering::Relaxed);
    }
    assert!(keep_alives >= 3, "{keep_alives}");
}
