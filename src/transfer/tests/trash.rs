//! What lies in the trash: told, given back, and deleted in the end.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;

use super::super::trash::{TrashKind, list, prune};
use super::*;

/// The milliseconds of [`RUN`].
fn run_ms() -> u64 {
    ulid::Ulid::from_string(RUN).unwrap().timestamp_ms()
}

#[test]
fn versions_of_a_path_do_not_get_in_each_others_way() {
    let world = World::new();
    // What goes at `a` in one run: a file, a file, a directory with files, a symlink.
    world.write("a", "first").scan();
    assert_eq!(world.commit(&[world.delete("a")]), [Outcome::Done]);
    world.write("a", "second").scan();
    assert_eq!(world.commit(&[world.delete("a")]), [Outcome::Done]);
    world.write("a/0/x", "third").write("a/1", "fourth").scan();
    let all = ["a/1", "a/0/x", "a/0", "a"].map(|at| world.delete(at));
    assert_eq!(world.commit(&all), vec![Outcome::Done; 4]);
    symlink("x", world.at("a")).unwrap();
    world.scan();
    assert_eq!(world.commit(&[world.delete("a")]), [Outcome::Done]);

    let root = HeldRoot::open(world.dir.path()).unwrap();
    let entries = list(&root).unwrap();
    let told: Vec<_> = entries
        .iter()
        .map(|entry| (entry.place.version.as_str(), entry.place.path.escaped(), entry.kind, entry.size))
        .collect();
    let text = |text: &str| text.to_owned();
    assert_eq!(
        told,
        [
            ("0", text("a"), TrashKind::File, 5),
            ("1", text("a"), TrashKind::File, 6),
            ("2", text("a/0/x"), TrashKind::File, 5),
            ("2", text("a/1"), TrashKind::File, 6),
            ("3", text("a"), TrashKind::Symlink, 1),
        ]
    );
    let mut content = String::new();
    entries[2].place.open(&root).unwrap().0.read_to_string(&mut content).unwrap();
    assert_eq!(content, "third");
    assert_eq!(entries[2].place.id(), format!("{RUN}-2"));
    assert!(entries[4].place.open(&root).is_err(), "a symlink is not opened");
}

#[test]
fn a_root_without_trash_has_nothing_in_it() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(list(&HeldRoot::open(dir.path()).unwrap()).unwrap(), []);
}

#[test]
fn trash_is_deleted_when_it_is_old_and_ours() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("x"), "x").unwrap();
    let world = World::new();
    let deep = "deep/".repeat(600) + "x";
    world.write("a/b", "x").write(&deep, "x").scan();
    symlink(outside.path(), world.at("link")).unwrap();
    world.scan();
    let all = ["a/b", "link", &deep].map(|at| world.delete(at));
    assert_eq!(world.commit(&all), vec![Outcome::Done; 3]);
    fs::create_dir(world.at(".xds-sync/trash/lost+found")).unwrap();
    symlink(outside.path(), world.at(".xds-sync/trash/01KQ0000000000000000000001")).unwrap();

    let names = || -> usize { fs::read_dir(world.at(".xds-sync/trash")).unwrap().count() };
    for (age, keep, left) in [(10, 10, 3), (0, 0, 3), (11, 10, 2)] {
        prune(&world.own, run_ms() + age * 1000, keep).unwrap();
        assert_eq!(names(), left, "{age} s old, kept {keep} s");
    }
    // A clock that went back makes nothing old.
    prune(&world.own, 0, 0).unwrap();
    assert!(outside.path().join("x").exists());
}

#[test]
fn only_a_run_has_a_trash() {
    let world = World::new();
    let stamps = |_: &RelPath| None;
    let seen = Seen { tree: &Tree::default(), stamps: &stamps };
    for run in ["", "..", "../x", "01kq0000000000000000000000", "x"] {
        assert!(super::super::commit(&world.own, run, &seen, &[], &mut Owners::default()).is_err(), "{run}");
    }
}
