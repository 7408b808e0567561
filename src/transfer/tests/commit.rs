//! Every step, on what it may meet.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const DONE: Outcome = Outcome::Done;
const CHANGED: Outcome = Outcome::Changed;

#[test]
fn a_new_file_has_content_mode_and_time() {
    let world = World::new();
    world.scan().stage_all(&["new"]);
    let committed = world.commit_all(&[world.put("d.wav", file("new"))]);
    assert_eq!(committed.outcomes, [DONE]);
    let stat = fs::metadata(world.at("d.wav")).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.mtime(), stat.mtime_nsec()), (0o640, 1_600_000_000, 123_456_789));
    assert_eq!(world.read("d.wav"), b"new");
    assert_eq!(world.own_files().len(), 0, "nothing is left over");

    let [placed] = &committed.placed[..] else { unreachable!("{committed:?}") };
    world.scan();
    assert_eq!((placed.digest, Some(&placed.stamp)), (digest(b"new"), world.stamp(&path("d.wav")).as_ref()));
}

#[test]
fn a_replaced_file_lies_in_the_trash_as_it_was() {
    let world = World::new();
    world.write("d/a.wav", "old").scan().stage_all(&["new"]);
    let before = fs::metadata(world.at("d/a.wav")).unwrap();
    assert_eq!(world.commit(&[world.put("d/a.wav", file("new"))]), [DONE]);
    assert_eq!(world.read("d/a.wav"), b"new");
    let trashed = fs::metadata(world.trashed("0", "d/a.wav")).unwrap();
    assert_eq!((trashed.ino(), trashed.mtime_nsec()), (before.ino(), before.mtime_nsec()));
    assert_eq!(fs::read(world.trashed("0", "d/a.wav")).unwrap(), b"old");
}

#[test]
fn names_arrive_byte_for_byte() {
    let names: [&[u8]; 7] =
        [b"-rf", b"a\nb", b"\xff\xfe", &[b'n'; 255], b"$(id) '\"", b"...", b"two  spaces "];
    let world = World::new();
    world.scan().stage_all(&["x"]);
    let create: Vec<Action> = names.iter().map(|name| world.put(name, file("x"))).collect();
    assert_eq!(world.commit(&create), vec![DONE; 7]);
    world.scan();
    let mut found: Vec<_> = world.tree().iter().map(|(path, _)| path.to_owned()).collect();
    let mut expected: Vec<_> = names.iter().map(path).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);

    let delete: Vec<Action> = names.iter().map(|name| world.delete(name)).collect();
    assert_eq!(world.commit(&delete), vec![DONE; 7]);
    assert!(world.scan().tree().is_empty());
}

#[test]
fn of_many_files_each_is_done_by_itself() {
    let world = World::new();
    let text = |n: usize| format!("content {}", n % 5);
    for n in (0..200).step_by(3) {
        world.write(format!("{n}"), "old");
    }
    world.scan().stage_all(&["content 0", "content 1", "content 2", "content 3"]);
    let actions: Vec<Action> = (0..200).map(|n| world.put(format!("{n}"), file(text(n)))).collect();
    for n in (0..200).step_by(7) {
        world.write(format!("{n}"), "changed meanwhile");
    }
    let outcomes = world.commit(&actions);
    for (n, outcome) in outcomes.iter().enumerate() {
        let stands = String::from_utf8(fs::read(world.at(format!("{n}"))).unwrap_or_default()).unwrap();
        match (n % 7, n % 5) {
            (0, 4) => {
                assert!(*outcome == CHANGED || is_failed(outcome, "did not arrive"), "{n}: {outcome:?}");
                assert_eq!(stands, "changed meanwhile", "{n}");
            }
            (0, _) => assert_eq!((outcome, &*stands), (&CHANGED, "changed meanwhile"), "{n}"),
            (_, 4) => {
                assert!(is_failed(outcome, "did not arrive"), "{n}: {outcome:?}");
                assert_eq!(stands, if n % 3 == 0 { "old" } else { "" }, "{n}");
            }
            _ => assert_eq!((outcome, stands), (&DONE, text(n)), "{n}"),
        }
    }
}

#[test]
fn one_content_for_several_paths() {
    let world = World::new();
    world.write("b", "old").scan().stage_all(&["same"]);
    let actions = ["a", "b", "c"].map(|name| world.put(name, file("same")));
    assert_eq!(world.commit(&actions), vec![DONE; 3]);
    let inodes: std::collections::HashSet<u64> =
        ["a", "b", "c"].iter().map(|name| fs::metadata(world.at(name)).unwrap().ino()).collect();
    assert_eq!(inodes.len(), 3, "an edit of one must not edit the others");
    for name in ["a", "b", "c"] {
        assert_eq!(world.read(name), b"same");
        assert_eq!(fs::metadata(world.at(name)).unwrap().mtime(), 1_600_000_000);
    }
}

#[test]
fn a_content_that_did_not_arrive_fails_its_path_alone() {
    let world = World::new();
    world.write("b", "old").scan().stage_all(&["here"]);
    let outcomes = world.commit(&[
        world.put("a", file("here")),
        world.put("b", file("lost")),
        world.put("c", dir(0o755)),
    ]);
    assert!(is_failed(&outcomes[1], "did not arrive"), "{outcomes:?}");
    assert_eq!((&outcomes[0], &outcomes[2]), (&DONE, &DONE));
    assert_eq!(world.read("b"), b"old");
}

#[test]
fn directories_get_their_mode_with_setgid() {
    let world = World::new();
    fs::create_dir(world.at("old")).unwrap();
    chmod(world.at("old"), 0o700);
    world.scan().stage_all(&["x"]);
    let actions = [
        world.put("new", dir(0o2775)),
        world.put("new/sub", dir(0o755)),
        world.put("new/sub/x", file("x")),
        world.put("old", dir(0o2750)),
    ];
    assert_eq!(world.commit(&actions), vec![DONE; 4]);
    for (name, mode) in [("new", 0o2775), ("new/sub", 0o755), ("old", 0o2750)] {
        assert_eq!(fs::metadata(world.at(name)).unwrap().mode() & 0o7777, mode, "{name}");
    }
}

#[test]
fn setuid_never_arrives() {
    let world = World::new();
    world.scan().stage_all(&["x"]);
    let Entry::File(mut entry) = file("x") else { unreachable!() };
    entry.meta.mode = 0o6777;
    assert_eq!(world.commit(&[world.put("x", Entry::File(entry))]), [DONE]);
    assert_eq!(fs::metadata(world.at("x")).unwrap().mode() & 0o7777, 0o777);
}

#[test]
fn an_owner_nobody_named_is_that_of_the_old_file_or_of_the_directory() {
    assert!(rustix::process::geteuid().is_root(), "needs root, as the program does");
    let world = World::new();
    world.write("d/old", "old");
    std::os::unix::fs::chown(world.at("d"), Some(7), Some(8)).unwrap();
    std::os::unix::fs::chown(world.at("d/old"), Some(9), Some(10)).unwrap();
    world.scan().stage_all(&["x"]);
    let Entry::File(mut named) = file("x") else { unreachable!() };
    named.meta.owner = Owner::new(Some("daemon"), Some("nobody-knows-this-group"));
    let actions = [
        world.put("d/named", Entry::File(named)),
        world.put("d/new", file("x")),
        world.put("d/old", file("x")),
        world.put("d/sub", dir(0o755)),
    ];
    assert_eq!(world.commit(&actions), vec![DONE; 4]);
    for (name, owner) in [("d/named", (1, 8)), ("d/new", (7, 8)), ("d/old", (9, 10)), ("d/sub", (7, 8))] {
        let stat = fs::metadata(world.at(name)).unwrap();
        assert_eq!((stat.uid(), stat.gid()), owner, "{name}");
    }
}

#[test]
fn symlinks_are_made_and_replaced_never_followed() {
    let world = World::new();
    world.write("target", "t").write("file", "old");
    symlink("target", world.at("link")).unwrap();
    world.scan().stage_all(&["new"]);
    let actions = [
        world.put("file", link("target")),
        world.put("link", file("new")),
        world.put("made", link("./d/target")),
        world.put("out", link("../etc")),
        world.put("chain", link("d/../target")),
        world.put("root", link("/etc")),
    ];
    let outcomes = world.commit(&actions);
    assert_eq!(outcomes[..3], [DONE, DONE, DONE]);
    assert!(outcomes[3..].iter().all(|outcome| is_failed(outcome, "lead out")), "{outcomes:?}");
    assert_eq!(fs::read_link(world.at("file")).unwrap().to_str(), Some("target"));
    assert_eq!(fs::read_link(world.at("made")).unwrap().to_str(), Some("./d/target"));
    assert_eq!((world.read("link"), world.read("target")), (b"new".to_vec(), b"t".to_vec()));
    assert_eq!(fs::read(world.trashed("0", "file")).unwrap(), b"old");
    assert_eq!(fs::read_link(world.trashed("0", "link")).unwrap().to_str(), Some("target"));
    assert!(!world.at("out").is_symlink());
}

#[test]
fn what_may_not_stand_there_goes_to_the_trash_as_it_is() {
    let world = World::new();
    world.write("outside.txt", "secret");
    symlink(world.at("outside.txt"), world.at("escape")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        world.at("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    world.scan().stage_all(&["new"]);
    let actions = ["escape", "fifo"].map(|name| world.put(name, file("new")));
    assert_eq!(world.commit(&actions), [DONE, DONE]);
    assert_eq!(world.read("outside.txt"), b"secret");
    for name in ["escape", "fifo"] {
        assert_eq!(world.read(name), b"new");
    }
    assert!(world.trashed("0", "escape").is_symlink());
    assert!(!fs::symlink_metadata(world.trashed("0", "fifo")).unwrap().is_file());
}

#[test]
fn a_type_changes_by_removal_and_return() {
    let world = World::new();
    world.write("dir/sub/a", "a").write("file", "f").scan().stage_all(&["new"]);
    let actions = [
        world.delete("file"),
        world.delete("dir/sub/a"),
        world.delete("dir/sub"),
        world.delete("dir"),
        world.create("dir", file("new")),
        world.create("file", dir(0o755)),
        world.create("file/x", file("new")),
    ];
    assert_eq!(world.commit(&actions), vec![DONE; 7]);
    assert_eq!((world.read("dir"), world.read("file/x")), (b"new".to_vec(), b"new".to_vec()));
    assert_eq!(fs::read(world.trashed("0", "dir/sub/a")).unwrap(), b"a");
    assert_eq!(fs::read(world.trashed("0", "file")).unwrap(), b"f");
}

#[test]
fn a_directory_with_something_left_in_it_stays() {
    let world = World::new();
    world.write("dir/a", "a").write("dir/xds_override.conf", "mine").scan();
    world.pretend("dir/xds_override.conf", Entry::Excluded);
    let outcomes =
        world.commit(&[world.delete("dir/a"), world.delete("dir"), world.create("dir", file("x"))]);
    assert_eq!(outcomes[..2], [DONE, CHANGED]);
    assert_ne!(outcomes[2], DONE);
    assert_eq!(world.read("dir/xds_override.conf"), b"mine");
}

#[test]
fn nothing_is_done_where_nothing_may_be_done() {
    let world = World::new();
    world.write("no/sub/x", "mine").write("busy", "mine").write("d/.xds-sync/x", "mine").scan();
    world.pretend("no", Entry::Excluded);
    world.pretend("busy", busy());
    world.stage_all(&["new"]);
    for at in ["no/sub/x", "no/new", "busy", "d/.xds-sync/x", ".xds-sync/root.json", ".xds-sync/stage/x"] {
        for action in [world.put(at, file("new")), world.delete(at), world.create(at, file("new"))] {
            let outcomes = world.commit(&[action]);
            assert!(!outcomes.contains(&DONE), "{at}: {outcomes:?}");
        }
    }
    for at in ["no/sub/x", "busy", "d/.xds-sync/x"] {
        assert_eq!(world.read(at), b"mine");
    }
    assert!(!world.at("no/new").exists());
}

#[test]
fn what_the_peer_claims_must_be_what_this_host_saw() {
    let world = World::new();
    world.write("a", "mine").scan().stage_all(&["new"]);
    for expected in [None, Some(file("other")), Some(dir(0o755))] {
        let action = Action { path: path("a"), expected, step: Step::Put(file("new")) };
        assert_eq!(world.commit(&[action]), [CHANGED]);
    }
    assert_eq!(world.read("a"), b"mine");
}

#[test]
fn a_path_that_comes_twice_in_a_commit_is_done_once() {
    let world = World::new();
    world.write("f", "mine").scan().stage_all(&["new", "more"]);
    let outcomes = world.commit(&[
        world.create("d", dir(0o755)),
        world.create("d", file("new")),
        world.create("d", link("f")),
        world.put("f", file("new")),
        world.create("f/x", file("more")),
        world.delete("f"),
        world.delete("f"),
    ]);
    assert_eq!(outcomes[..3], [DONE, CHANGED, CHANGED]);
    assert_ne!(outcomes[4], DONE, "below a file");
    assert_eq!(outcomes[6], CHANGED);
    assert!(world.at("d").is_dir() && !world.at("d").is_symlink());
    assert!(world.own_files().into_values().any(|kept| kept == b"mine"), "what was there is kept");
}

#[test]
fn metadata_alone() {
    let world = World::new();
    world.write("a", "same").write("d/x", "x").scan();
    let outcomes = world.commit(&[
        world.action("a", Step::SetMeta(file("same"))),
        world.action("d", Step::SetMeta(dir(0o2770))),
        world.action("d/x", Step::SetMeta(file("other"))),
    ]);
    assert_eq!(outcomes[..2], [DONE, DONE]);
    assert!(is_failed(&outcomes[2], "content"), "{outcomes:?}");
    let stat = fs::metadata(world.at("a")).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.mtime(), stat.mtime_nsec()), (0o640, 1_600_000_000, 123_456_789));
    assert_eq!(fs::metadata(world.at("d")).unwrap().mode() & 0o7777, 0o2770);
    assert_eq!(world.own_files().len(), 0);
}

#[test]
fn a_move_is_a_rename() {
    let world = World::new();
    world.write("old/a.wav", "sound").scan();
    let inode = fs::metadata(world.at("old/a.wav")).unwrap().ino();
    let outcomes = world.commit(&[
        world.put("new", dir(0o755)),
        world.move_from("old/a.wav", "new/b.wav", file("sound")),
        world.delete("old"),
    ]);
    assert_eq!(outcomes, vec![DONE; 3]);
    let stat = fs::metadata(world.at("new/b.wav")).unwrap();
    assert_eq!((stat.ino(), stat.mode() & 0o777, stat.mtime()), (inode, 0o640, 1_600_000_000));
    assert!(!world.at("old").exists());
    assert_eq!(world.own_files().len(), 0);
}

#[test]
fn a_move_over_something_keeps_what_was_there() {
    let world = World::new();
    world.write("from", "sound").write("to", "old").scan();
    assert_eq!(world.commit(&[world.move_from("from", "to", file("sound"))]), [DONE]);
    assert_eq!(world.read("to"), b"sound");
    assert!(!world.at("from").exists());
    assert_eq!(fs::read(world.trashed("0", "to")).unwrap(), b"old");
}

#[test]
fn other_names_of_a_file_keep_what_they_have() {
    let world = World::new();
    let outside = tempfile::tempdir_in(world.dir.path().parent().unwrap()).unwrap();
    let other = outside.path().join("other");
    for (name, step) in [("meta", 0), ("move", 1), ("replace", 2), ("delete", 3)] {
        world.write(name, "shared");
        fs::hard_link(world.at(name), &other).unwrap();
        let before = fs::metadata(&other).unwrap();
        world.scan().stage_all(&["new"]);
        let action = match step {
            0 => world.action(name, Step::SetMeta(file("shared"))),
            1 => world.move_from(name, "moved", file("shared")),
            2 => world.put(name, file("new")),
            _ => world.delete(name),
        };
        assert_eq!(world.commit(&[action]), [DONE], "{name}");
        let after = fs::metadata(&other).unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"shared");
        assert_eq!((before.mode(), before.mtime_nsec()), (after.mode(), after.mtime_nsec()), "{name}");
        fs::remove_file(&other).unwrap();
    }
    assert_eq!(fs::metadata(world.at("meta")).unwrap().mode() & 0o777, 0o640);
    assert_eq!(fs::metadata(world.at("moved")).unwrap().mode() & 0o777, 0o640);
}

#[test]
fn two_names_of_one_file_are_both_replaced_in_one_run() {
    let world = World::new();
    world.write("a", "old");
    fs::hard_link(world.at("a"), world.at("b")).unwrap();
    fs::hard_link(world.at("a"), world.at("c")).unwrap();
    world.scan().stage_all(&["new"]);
    let actions = [world.put("a", file("new")), world.put("b", file("new")), world.delete("c")];
    assert_eq!(world.commit(&actions), vec![DONE; 3]);
    for name in ["a", "b", "c"] {
        assert_eq!(fs::read(world.trashed("0", name)).unwrap(), b"old");
    }
}

#[test]
fn a_failing_entry_fails_alone_in_the_systems_words() {
    let world = World::new();
    world.write("a", "old").scan().stage_all(&["new"]);
    let mut deep = world.create("missing/x", file("new"));
    deep.expected = None;
    let outcomes = world.commit(&[deep, world.put("a", file("new"))]);
    assert!(is_failed(&outcomes[0], "No such file"), "{outcomes:?}");
    assert_eq!(outcomes[1], DONE);
}

#[test]
fn without_exchange_a_link_keeps_the_old_one() {
    use super::super::live::TreeName;
    use super::super::swap::Name;
    use super::super::tree_writer::TreeWriter;

    let world = World::new();
    world.write("a", "old").scan();
    world.stage_all(&["new"]);
    let staged = digest(b"new").to_string();
    let stamps = |path: &RelPath| world.stamp(path);
    let seen = ScannedTree { tree: &world.tree(), stamps: &stamps };
    let mut owners = Owners::default();
    let mut commit = TreeWriter::new(&world.own, RUN, &seen, &mut owners).unwrap();
    let new = Name::new(world.own.stage(), staged.as_ref());
    let a = path("a");
    let at = TreeName::open(world.own.root(), &a).unwrap();
    let old = Stamp::of(&at.name().stat().unwrap().unwrap());

    // Somebody writes between the look and the link.
    world.write("a", "raced");
    assert_eq!(commit.replace_by_link(new, &at, &old, &a, None).unwrap(), CHANGED);
    assert_eq!(world.read("a"), b"raced");

    let at = TreeName::open(world.own.root(), &a).unwrap();
    let old = Stamp::of(&at.name().stat().unwrap().unwrap());
    assert_eq!(commit.replace_by_link(new, &at, &old, &a, None).unwrap(), DONE);
    assert_eq!(world.read("a"), b"new");
    assert_eq!(fs::read(world.trashed("1", "a")).unwrap(), b"raced");
}

#[test]
fn what_an_earlier_commit_left_half_made_is_in_nobodys_way() {
    let world = World::new();
    world.write("from", "sound");
    fs::hard_link(world.at("from"), world.at("other")).unwrap();
    world.scan();
    fs::write(world.in_stage("making.0"), "half").unwrap();
    fs::create_dir(world.in_stage("making.1")).unwrap();
    fs::write(world.in_stage("making.2"), "half").unwrap();
    let actions = [
        world.move_from("from", "moved", file("sound")),
        world.put("dir", dir(0o755)),
        world.put("link", link("dir")),
    ];
    assert_eq!(world.commit(&actions), vec![DONE; 3]);
    assert_eq!(world.read("moved"), b"sound");
    assert_eq!(fs::read_dir(world.in_stage("")).unwrap().count(), 0);
}

#[test]
fn who_comes_while_another_is_at_work_in_the_root_waits_until_it_has_ended() {
    let World { dir, own, .. } = World::new();
    let root = HeldRoot::open(dir.path()).unwrap();
    let progress = Arc::new(AtomicU64::new(0));
    std::thread::scope(|scope| {
        let next = scope.spawn(|| OwnDir::ready(&root, &progress).map(drop));
        while progress.load(Ordering::Relaxed) == 0 {
            assert!(!next.is_finished(), "two are at work in one root");
            std::thread::yield_now();
        }
        drop(own);
        next.join().unwrap().unwrap();
    });
}
