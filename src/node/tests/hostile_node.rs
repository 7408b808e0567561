//! Main against a node that does not keep to the protocol. That node is lost for the run, with a word
//! that names the rule; nothing else happens.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::fake::*;
use crate::model::{Digest, Entry, Outcome, Owner, Pruned, RelPathBuf, Symlink, TrashKeep, Tree};
use crate::node::protocol::frame::{Kind, decode, read_frame, write_frame, write_value};
use crate::node::protocol::handshake::{MAGIC, MAX_NOISE, MainHello, Versions};
use crate::node::protocol::limits::MAX_DATA;
use crate::node::protocol::message::{Changed, Need, Reply, Request};
use crate::node::{Endpoint as _, NodeError, NodeErrorKind, Refusal, Remote, TrashReader as _};
use crate::snapshot::tree_digest;
use crate::snapshot::{Root, Scanned};
use crate::transfer::{BlobRequest, Signature, Sink};

/// A node that answers each request as it likes; the stream ends with it.
fn node(mut answer: impl FnMut(Request, &mut UnixStream) + Send + 'static) -> (UnixStream, JoinHandle<()>) {
    let (main, mut stream) = UnixStream::pair().unwrap();
    let serving = std::thread::spawn(move || {
        greet(&mut stream, &Versions::ours(), 1);
        let mut payload = Vec::new();
        while let Ok(Some(Kind::Request)) = read_frame(&mut stream, &mut payload) {
            answer(decode(Kind::Request, &payload).unwrap(), &mut stream);
        }
    });
    (main, serving)
}

/// A node that tells of changes so often, and answers each request as if a run had begun.
pub(super) fn telling(
    times: usize,
    changed: impl Fn() -> Changed + Send + 'static,
) -> (UnixStream, JoinHandle<()>) {
    let (main, mut stream) = UnixStream::pair().unwrap();
    let telling = std::thread::spawn(move || {
        greet(&mut stream, &Versions::ours(), 1);
        for _ in 0..times {
            // Main may have ended the session.
            let _ = write_value(&mut stream, Kind::Changed, &changed());
        }
        let mut payload = Vec::new();
        while let Ok(Some(Kind::Request)) = read_frame(&mut stream, &mut payload) {
            reply(&mut stream, &Reply::Begun { machine: None, read_only: false });
        }
    });
    (main, telling)
}

fn greet(stream: &mut UnixStream, versions: &Versions, welcome: u16) {
    stream.write_all(&MAGIC).unwrap();
    write_value(stream, Kind::Hello, versions).unwrap();
    let mut payload = Vec::new();
    if let Ok(Some(Kind::Hello)) = read_frame(stream, &mut payload) {
        let _: MainHello = decode(Kind::Hello, &payload).unwrap();
        reply(stream, &Reply::Welcome(welcome));
    }
}

fn reply(stream: &mut UnixStream, reply: &Reply) {
    // Main may have ended the session.
    let _ = write_value(stream, Kind::Reply, reply);
}

fn scanned(digest: Digest) -> Reply {
    let loaded = Digest([0; 32]);
    Reply::Scanned(Scanned {
        root: Root::Missing,
        digest,
        loaded,
        entries: 0,
        settled: true,
        free: Default::default(),
        mount: String::new(),
        leftovers: false,
    })
}

/// What Main makes of a node that answers its scan properly and what `ask` asks as it likes.
fn lost<T>(
    answer: impl FnMut(Request, &mut UnixStream) + Send + 'static,
    ask: impl FnOnce(&mut Remote) -> Result<T, NodeError>,
) -> NodeError {
    let (main, serving) = node(answer);
    let mut remote = handshake(&main, &hello(), LONG).unwrap();
    let error = ask(&mut remote).err().expect("it is refused");
    drop((remote, main));
    serving.join().unwrap();
    error
}

fn stream(bytes: impl FnOnce(UnixStream) + Send + 'static) -> Result<Remote, NodeError> {
    let (main, node) = UnixStream::pair().unwrap();
    let writing = std::thread::spawn(move || bytes(node));
    let met = handshake(&main, &hello(), LONG);
    drop(main);
    writing.join().unwrap();
    met
}

#[test]
fn noise_before_the_magic_is_skipped_and_no_more() {
    let noisy = |noise: Vec<u8>| {
        stream(move |mut node| {
            if node.write_all(&noise).is_ok() {
                greet(&mut node, &Versions::ours(), 1);
            }
        })
    };
    assert!(noisy(b"Linux mds1 5.10\r\n\x1b[1mYou have mail.\r\n".to_vec()).is_ok());
    assert!(noisy(vec![b'.'; MAX_NOISE]).is_ok());
    let error = stream(|mut node| {
        let _ = node.write_all(&[&b"\nyes\x1b[2J\n"[..], &vec![b'y'; MAX_NOISE]].concat());
    });
    let error = error.err().unwrap();
    assert_eq!(error.kind, NodeErrorKind::Incompatible);
    assert!(error.detail.contains("\"yes\\x1b[2J\""), "{error}");
}

#[test]
fn a_program_that_is_no_agent_is_quoted() {
    for (words, kind, detail) in [
        (&b""[..], NodeErrorKind::Lost, "before the node's xds-sync began"),
        (b"sh: 1: xds-sync: not found\n", NodeErrorKind::AgentMissing, "install"),
        (b"\n\n\x1b]0;owned\x07 go away\n", NodeErrorKind::Incompatible, "\"\\x1b]0;owned\\x07 go away\""),
    ] {
        let error = stream(move |mut node| node.write_all(words).unwrap()).err().unwrap();
        assert_eq!(error.kind, kind);
        assert!(error.detail.contains(detail), "{error}");
    }
}

#[test]
fn a_slow_handshake_is_given_up() {
    for begin in [&b""[..], b"Welcome to", &MAGIC] {
        let (main, mut node) = UnixStream::pair().unwrap();
        node.write_all(begin).unwrap();
        let error = handshake(&main, &hello(), SHORT).err().unwrap();
        assert_eq!(error.kind, NodeErrorKind::Timeout, "{error}");
    }
    // One that says a little now and then.
    let (main, mut node) = UnixStream::pair().unwrap();
    let drip = std::thread::spawn(move || {
        while node.write_all(b".").is_ok() {
            std::thread::sleep(SHORT / 20);
        }
    });
    let error = handshake(&main, &hello(), SHORT).err().unwrap();
    assert_eq!(error.kind, NodeErrorKind::Timeout, "{error}");
    drop(main);
    drip.join().unwrap();
}

#[test]
fn versions_are_neither_guessed_nor_downgraded() {
    let ours = Versions::ours();
    for (theirs, welcome) in [
        (Versions { highest: 0, ..ours.clone() }, 0),
        (Versions { lowest: 2, highest: 3, ..ours.clone() }, 2),
        (Versions { features: 0, required: 0, ..ours.clone() }, 1),
        // It says it speaks ours, and then chooses another.
        (ours.clone(), 0),
        (ours.clone(), 2),
    ] {
        let error = stream(move |mut node| greet(&mut node, &theirs, welcome)).err().unwrap();
        assert_eq!(error.kind, NodeErrorKind::Incompatible, "{error}");
    }
}

#[test]
fn answers_that_nobody_asked_for_end_the_session() {
    let scan = |remote: &mut Remote| remote.scan(&spec("/srv/moh".as_ref()));
    for (unasked, rule) in [
        (Reply::Sent, "expected a scan, got the end of blobs"),
        (Reply::Welcome(1), "expected a scan, got a welcome"),
        (Reply::Outcomes(vec![]), "expected a scan, got outcomes"),
        (Reply::Need(vec![Need { index: 0, offset: 0, basis: None }]), "expected a scan, got a need"),
    ] {
        let mut unasked = Some(unasked);
        let error = lost(
            move |_, stream| {
                if let Some(unasked) = unasked.take() {
                    reply(stream, &unasked);
                }
            },
            scan,
        );
        assert_eq!(error.kind, NodeErrorKind::Lost);
        assert!(error.detail.contains(rule), "{error}");
    }
    for (kind, payload) in [(Kind::Data, &b"x"[..]), (Kind::Request, &[1, 1, b'x']), (Kind::Copy, &[0, 1])] {
        let error = lost(move |_, stream| write_frame(stream, kind, payload).unwrap(), scan);
        assert!(error.detail.contains(&format!("expected an answer, got a {kind:?} frame")), "{error}");
    }
}

#[test]
fn a_node_that_never_stops_talking_is_given_up() {
    // It takes nothing any more, and goes on: Main waits for its last word, but not for ever.
    let (main, serving) = node(|_, stream| {
        stream.shutdown(std::net::Shutdown::Read).unwrap();
        reply(stream, &scanned(Digest([0; 32])));
        while write_frame(stream, Kind::Data, &[b'x'; 4096]).is_ok() {}
    });
    let mut remote = handshake(&main, &hello(), SHORT).unwrap();
    remote.scan(&spec("/srv/moh".as_ref())).unwrap();
    let error = remote.agree("moh", "01GEN").unwrap_err();
    drop((remote, main));
    serving.join().unwrap();
    assert!(error.detail.contains("Broken pipe"), "{error}");
}

#[test]
fn a_node_that_trickles_is_waited_for_only_so_long_in_a_run() {
    // Never silent, and never done: a content of as many bytes as were asked for, one by one.
    let (main, serving) = node(|_, stream| {
        write_value(stream, Kind::Begin, &0u64).unwrap();
        while write_frame(stream, Kind::Data, b"x").is_ok() {
            std::thread::sleep(SHORT / 100);
        }
    });
    let mut remote = handshake(&main, &hello(), LONG).unwrap();
    remote.set_patience(SHORT);
    let huge = BlobRequest { size: 1 << 40, ..wanted("huge", b"") };
    let error = remote.send("moh", &[huge], &mut Gathered::default()).unwrap_err();
    drop((remote, main));
    serving.join().unwrap();
    assert_eq!(error.kind, NodeErrorKind::Timeout);
    assert!(error.detail.starts_with("Main has waited for the node for 200ms in this run"), "{error}");
}

#[test]
fn too_many_or_too_few_answers_end_the_session() {
    for count in [0, 2] {
        let outcomes =
            move |_, stream: &mut UnixStream| reply(stream, &Reply::Outcomes(vec![Outcome::Done; count]));
        let action =
            crate::model::Action { path: path("a"), expected: None, step: crate::model::Step::Delete };
        let error = lost(outcomes, |remote| remote.commit("moh", &[action]));
        assert!(error.detail.contains(&format!("expected 1 answers, got {count}")), "{error}");
    }
}

#[test]
fn an_owner_is_only_ever_taken_away() {
    let asked = Owner::new(Some("asterisk"), None);
    for answer in [Owner::new(Some("root"), None), Owner::new(Some("asterisk"), Some("root"))] {
        let error = lost(
            move |_, stream| reply(stream, &Reply::Owners(vec![answer.clone()])),
            |remote| remote.known_owners(std::slice::from_ref(&asked)),
        );
        assert!(error.detail.contains("an owner that was not asked about"), "{error}");
    }
}

#[test]
fn only_what_was_offered_is_given() {
    let main = Fake::with(&[("a", b"content"), ("secret", b"secret")]);
    for needs in [
        vec![Need { index: 1, offset: 0, basis: None }],
        vec![Need { index: u32::MAX, offset: 0, basis: None }],
        vec![Need { index: 0, offset: 8, basis: None }],
        vec![Need { index: 0, offset: u64::MAX, basis: None }],
        vec![Need { index: 0, offset: 0, basis: None }, Need { index: 0, offset: 0, basis: None }],
        vec![],
    ] {
        let error = lost(
            move |_, stream| reply(stream, &Reply::Need(needs.clone())),
            |remote| remote.stage("moh", &[wanted("a", b"content")], &mut &main),
        );
        assert_eq!(error.kind, NodeErrorKind::Lost);
        assert!(error.detail.contains("expected needs of what was offered"), "{error}");
    }
}

#[test]
fn pulled_contents_are_bounded_by_what_was_wanted() {
    type Answer = fn(&mut UnixStream);
    let attacks: [(Answer, &str); 5] = [
        (|stream| write_value(stream, Kind::Begin, &7u64).unwrap(), "expected the begin of blob 0"),
        (
            |stream| {
                write_value(stream, Kind::Begin, &0u64).unwrap();
                write_frame(stream, Kind::Data, b"12345").unwrap();
            },
            "more bytes than a has",
        ),
        (
            |stream| {
                write_value(stream, Kind::Begin, &0u64).unwrap();
                write_value(stream, Kind::Hole, &(1u64 << 63)).unwrap();
            },
            "more bytes than a has",
        ),
        (
            |stream| {
                write_value(stream, Kind::Begin, &0u64).unwrap();
                write_value(stream, Kind::End, &Ok::<(), String>(())).unwrap();
                write_value(stream, Kind::Begin, &1u64).unwrap();
            },
            "expected an answer, got a Begin frame",
        ),
        (|stream| reply(stream, &Reply::Sent), "expected the begin of blob 0, got a Reply frame"),
    ];
    for (attack, rule) in attacks {
        let error = lost(
            move |_, stream| attack(stream),
            |remote| remote.send("moh", &[wanted("a", b"1234")], &mut Gathered::default()),
        );
        assert_eq!(error.kind, NodeErrorKind::Lost);
        assert!(error.detail.contains(rule), "{error}");
    }
}

#[test]
fn a_pull_copies_nothing_but_of_the_basis_that_went_with_the_request() {
    /// Has a basis of the second file that it asks for.
    #[derive(Default)]
    struct WithBasis(Gathered);
    impl Sink for WithBasis {
        fn begin(&mut self, index: usize) -> anyhow::Result<()> {
            self.0.begin(index)
        }
        fn data(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
            self.0.data(bytes)
        }
        fn hole(&mut self, length: u64) -> anyhow::Result<()> {
            self.0.hole(length)
        }
        fn basis(&self, index: usize) -> Option<Arc<Signature>> {
            (index == 1).then(|| Arc::new(Signature::of_bytes(&[7; 100_000]).unwrap()))
        }
        fn copy(&mut self, from: u64, length: u64) -> anyhow::Result<()> {
            self.0.data(&[7; 200_000][usize::try_from(from)?..][..usize::try_from(length)?])
        }
        fn end(&mut self, result: Result<(), String>) -> anyhow::Result<()> {
            self.0.end(result)
        }
    }
    type Copy = Option<(u64, u64)>;
    let new = [7; 200_000];
    let attempts: [(Copy, Copy, &str); 6] = [
        (Some((0, 1)), None, "a copy from beyond the end of the basis"),
        (None, Some((0, 100_001)), "a copy from beyond the end of the basis"),
        (None, Some((100_000, 1)), "a copy from beyond the end of the basis"),
        (None, Some((u64::MAX, 2)), "a copy from beyond the end of the basis"),
        (None, Some((0, 0)), "more bytes than b has"),
        (None, Some((50_000, 50_000)), ""),
    ];
    for (first, second, rule) in attempts {
        let answer = move |request, stream: &mut UnixStream| {
            let Request::Send { bases, .. } = request else { return };
            assert_eq!(bases.iter().map(|basis| basis.index).collect::<Vec<_>>(), [1]);
            for (index, copy) in [(0_u64, first), (1, second)] {
                // Main may have ended the session by then.
                let _ = write_value(stream, Kind::Begin, &index);
                if let Some(copy) = copy {
                    let _ = write_value(stream, Kind::Copy, &copy);
                }
                let _ = write_value(stream, Kind::End, &Ok::<(), String>(()));
            }
            let _ = write_value(stream, Kind::Reply, &Reply::Sent);
        };
        let (main, served) = node(answer);
        let mut remote = handshake(&main, &hello(), LONG).unwrap();
        let mut sink = WithBasis::default();
        let sent = remote.send("moh", &[wanted("a", &new), wanted("b", &new)], &mut sink);
        match sent {
            Ok(()) => assert_eq!((rule, &sink.0.0[1].0[..]), ("", &new[..50_000])),
            Err(error) => assert!(!rule.is_empty() && error.detail.contains(rule), "{error}"),
        }
        drop((remote, main));
        served.join().unwrap();
    }
    // What lies in a trash is asked for without any.
    let error = lost(
        |_, stream| {
            write_value(stream, Kind::Begin, &0u64).unwrap();
            write_value(stream, Kind::Copy, &(0_u64, 1_u64)).unwrap();
        },
        |remote| {
            let wanted = [wanted("a", &[7; 200_000]), wanted("b", &[7; 200_000])];
            remote.send_trashed("moh", &trash_id(), &wanted, &mut WithBasis::default())
        },
    );
    assert!(error.detail.contains("a copy from beyond the end of the basis"), "{error}");
}

#[test]
fn signatures_beyond_reason_end_the_session() {
    let signature = |average: u32, lengths: &[u32]| -> Arc<Signature> {
        let raw = (average, lengths.iter().map(|length| (*length, [0_u8; 16])).collect::<Vec<_>>());
        postcard::from_bytes(&postcard::to_stdvec(&raw).unwrap()).unwrap()
    };
    let sound = signature(4096, &[4096; 256]);
    for (bases, rule) in [
        (vec![sound; 9], "more than 8 signatures"),
        (vec![signature(4096, &[1 << 20])], "expected needs of what was offered"),
        (vec![signature(4096, &[0; 10])], "expected needs of what was offered"),
    ] {
        let files: Vec<BlobRequest> = (0..9).map(|n| wanted(&n.to_string(), b"1")).collect();
        let need = |(index, basis)| Need { index, offset: 0, basis: Some(basis) };
        let needs: Vec<Need> = (0..).zip(bases).map(need).collect();
        let error = lost(
            move |_, stream| reply(stream, &Reply::Need(needs.clone())),
            |remote| remote.stage("moh", &files, &mut &Fake::default()).map(drop),
        );
        assert!(error.detail.contains(rule), "{error}");
    }
}

fn send_tree(stream: &mut UnixStream, encoded: &[u8]) {
    reply(stream, &Reply::Tree(encoded.len() as u64));
    for (kind, payload) in [(Kind::Begin, &[0][..]), (Kind::Data, encoded), (Kind::End, &[0])] {
        // Main may have had enough.
        let _ = write_frame(stream, kind, payload);
    }
    let _ = write_value(stream, Kind::Reply, &Reply::Sent);
}

#[test]
fn a_tree_must_be_the_one_that_was_scanned_and_lead_nowhere() {
    let tree = |at: &str, entry: Entry| -> Tree {
        std::iter::once((RelPathBuf::new(at.as_bytes()).unwrap(), entry)).collect()
    };
    let link = Entry::Symlink(Symlink { target: b"../../etc"[..].into() });
    for (scanned_tree, sent, rule) in [
        (tree("a", file(b"1")), tree("a", file(b"2")), "is not the one it scanned"),
        (tree("d/l", link.clone()), tree("d/l", link), "leads out"),
        (tree(".xds-sync/x", file(b"1")), tree(".xds-sync/x", file(b"1")), "lies in .xds-sync"),
    ] {
        let error = lost(
            move |request, stream| match request {
                Request::Scan(_) => reply(stream, &scanned(tree_digest(&scanned_tree))),
                _ => send_tree(stream, &sent.encode()),
            },
            |remote| {
                remote.scan(&spec("/srv/moh".as_ref())).unwrap();
                remote.tree("moh", None)
            },
        );
        assert!(error.detail.contains(rule), "{error}");
    }
}

#[test]
fn a_tree_is_no_longer_than_announced() {
    let bomb = zstd::bulk::compress(&vec![0; MAX_DATA], 3).unwrap();
    let like = Arc::new((0..12_000).map(|n| (path(&format!("{n:08}")), Entry::Excluded)).collect::<Tree>());
    let length = like.encode().len() as u64;
    let copy = postcard::to_stdvec(&(0_u64, length)).unwrap();
    let beyond = postcard::to_stdvec(&(1_u64, length)).unwrap();
    for (announced, (kind, payload), rule) in [
        (1000, (Kind::Packed, &bomb), "more bytes than its tree has"),
        (u64::MAX, (Kind::Packed, &bomb), "a tree of 18446744073709551615 bytes"),
        (2 * length - 1, (Kind::Copy, &copy), "more bytes than its tree has"),
        (2 * length, (Kind::Copy, &beyond), "a copy from beyond the end of the basis"),
    ] {
        let (payload, like) = (payload.clone(), Arc::clone(&like));
        let error = lost(
            move |_, stream| {
                reply(stream, &Reply::Tree(announced));
                let _ = write_value(stream, Kind::Begin, &0_u64);
                while write_frame(stream, kind, &payload).is_ok() {}
            },
            |remote| remote.tree("moh", Some(&like)),
        );
        assert!(error.detail.contains(rule), "{error}");
    }
}

#[test]
fn trash_that_nobody_asked_for_ends_the_session() {
    let entry = |at: &str| trash_entry(&path(at), b"x");
    let trash = |entries: Vec<crate::transfer::trash::TrashEntry>, more| Reply::Trash { entries, more };
    for (answer, rule) in [
        (trash(vec![entry("other")], false), "other, which was not asked for"),
        (trash(vec![entry("asked.wav")], false), "asked.wav, which was not asked for"),
        (trash(vec![entry("asked/.xds-sync/x")], false), "lies in .xds-sync"),
        // It never ends, with and without entries.
        (trash(vec![entry("asked"); 10_000], true), "expected at most 100000 entries of its trash"),
        (trash(vec![], true), "got none although there are more"),
        (Reply::Sent, "expected entries of its trash, got the end of blobs"),
    ] {
        let answer = Arc::new(answer);
        let error =
            lost(move |_, stream| reply(stream, &answer), |remote| remote.versions("moh", &path("asked")));
        assert!(error.detail.contains(rule), "{error}");
    }
    // After no commit there is nothing that it put there.
    let error =
        lost(move |_, stream| reply(stream, &trash(vec![entry("a")], false)), |remote| remote.trashed("moh"));
    assert!(error.detail.contains("expected at most 0 entries"), "{error}");
}

#[test]
fn what_it_recalls_is_a_file_that_may_stand_there() {
    let directory = Entry::Dir(crate::model::Meta { mode: 0o755, owner: Owner::default() });
    let link = |target: &str| Entry::Symlink(Symlink { target: target.as_bytes().into() });
    let mut setuid = file(b"x");
    if let Entry::File(file) = &mut setuid {
        file.meta.mode = 0o4755;
    }
    for (answer, rule) in [
        (vec![Ok(directory)], "expected a file or symlink in the trash"),
        (vec![Ok(Entry::Excluded)], "expected a file or symlink in the trash"),
        (vec![Ok(link("../../etc/passwd"))], "leads out"),
        (vec![Ok(setuid)], "mode 4755"),
        (vec![], "expected 1 answers, got 0"),
        (vec![Ok(file(b"x")), Ok(file(b"x"))], "expected 1 answers, got 2"),
    ] {
        let error = lost(
            move |_, stream| reply(stream, &Reply::Recalled(answer.clone())),
            |remote| remote.recall("moh", &trash_id(), &[path("d/a")]),
        );
        assert!(error.detail.contains(rule), "{error}");
    }
}

#[test]
fn more_trashed_content_than_was_announced_ends_the_session() {
    let error = lost(
        |_, stream| {
            let _ = write_value(stream, Kind::Begin, &0u64);
            while write_frame(stream, Kind::Data, &[7; 1000]).is_ok() {}
        },
        |remote| remote.send_trashed("moh", &trash_id(), &[wanted("a", b"four")], &mut Gathered::default()),
    );
    assert!(error.detail.contains("more bytes than a has"), "{error}");
}

#[test]
fn a_node_that_is_at_work_is_waited_for() {
    let (main, serving) = node(|_, stream| {
        for _ in 0..10 {
            write_frame(stream, Kind::Alive, b"").unwrap();
        }
        reply(stream, &scanned(Digest([0; 32])));
    });
    let mut remote = handshake(&main, &hello(), LONG).unwrap();
    assert_eq!(remote.scan(&spec("/srv/moh".as_ref())).unwrap().entries, 0);
    drop((remote, main));
    serving.join().unwrap();
}

#[test]
fn a_flood_of_keep_alives_ends_the_session() {
    let error = lost(
        |_, stream| while write_frame(stream, Kind::Alive, b"").is_ok() {},
        |remote| remote.scan(&spec("/srv/moh".as_ref())),
    );
    assert_eq!(error.kind, NodeErrorKind::Lost);
    assert!(error.detail.contains("a flood of keep-alives"), "{error}");
}

#[test]
fn a_node_that_stops_reading_times_out() {
    let (main, mut stream) = UnixStream::pair().unwrap();
    let held = std::thread::spawn(move || {
        greet(&mut stream, &Versions::ours(), 1);
        let mut payload = Vec::new();
        read_frame(&mut stream, &mut payload).unwrap();
        reply(&mut stream, &Reply::Need(vec![Need { index: 0, offset: 0, basis: None }]));
        stream
    });
    let mut remote = handshake(&main, &hello(), SHORT).unwrap();
    let content = vec![1; 8 * 1024 * 1024];
    let host = Fake::with(&[("a", &content)]);
    let error = remote.stage("moh", &[wanted("a", &content)], &mut &host).unwrap_err();
    assert_eq!(error.kind, NodeErrorKind::Timeout, "{error}");
    held.join().unwrap();
}

#[test]
fn its_words_are_harmless() {
    let words = "go\x1b[31m away\nnow\u{202e}".to_owned();
    let failed = NodeError::new(NodeErrorKind::Refused, words.clone());
    let error = lost(
        move |_, stream| write_value(stream, Kind::Failed, &failed).unwrap(),
        |remote| remote.scan(&spec("/srv/moh".as_ref())),
    );
    assert_eq!(error.kind, NodeErrorKind::Refused);
    assert_eq!(error.detail, "go\\x1b[31m away\\x0anow\\xe2\\x80\\xae");
    let error = lost(
        move |request, stream| match request {
            Request::Prepare { .. } => reply(stream, &Reply::Prepared(Err(Refusal::new(words.clone())))),
            _ => reply(
                stream,
                &Reply::Prepared(Ok(crate::node::PreparedRoot {
                    id: "\x1b[31m".to_owned(),
                    pruned: Pruned::default(),
                })),
            ),
        },
        |remote| {
            let why = remote.prepare("moh", &TrashKeep::FOREVER, None).unwrap().unwrap_err();
            assert_eq!(why.to_string(), error.detail);
            remote.agree("moh", "01GEN")
        },
    );
    assert!(error.detail.contains("expected an agreement, got a marker"), "{error}");
}
