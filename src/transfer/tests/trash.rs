//! What lies in the trash: told, given back, and deleted in the end.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;

use super::super::trash::{TrashKind, Trashed, prune, versions};
use super::*;
use crate::model::{TrashKeep, TrashMax};

/// The milliseconds of [`RUN`].
fn run_ms() -> u64 {
    ulid::Ulid::from_string(RUN).unwrap().timestamp_ms()
}

/// A run that has put nothing into the trash yet.
const NOW: &str = "01KQ0000000000000000000009";

fn kept_for(seconds: u64) -> TrashKeep {
    TrashKeep { seconds, min_seconds: 0, size: TrashMax::Unlimited }
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
    let entries = versions(&root, &path("a")).unwrap();
    let told: Vec<_> = entries
        .iter()
        .map(|entry| (entry.place.id.version(), entry.place.path.escaped(), entry.kind, entry.size))
        .collect();
    let text = |text: &str| text.to_owned();
    assert_eq!(
        told,
        [
            (0, text("a"), TrashKind::File, 5),
            (1, text("a"), TrashKind::File, 6),
            (2, text("a/0/x"), TrashKind::File, 5),
            (2, text("a/1"), TrashKind::File, 6),
            (3, text("a"), TrashKind::Symlink, 1),
        ]
    );
    let mut content = String::new();
    entries[2].place.open(&root).unwrap().0.read_to_string(&mut content).unwrap();
    assert_eq!(content, "third");
    assert_eq!(entries[2].place.id.to_string(), format!("{RUN}-2"));
    assert!(entries[4].place.open(&root).is_err(), "a symlink is not opened");
}

#[test]
fn a_root_without_trash_has_nothing_in_it() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(versions(&HeldRoot::open(dir.path()).unwrap(), &path("a")).unwrap(), []);
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

    let names = || -> usize {
        let names = fs::read_dir(world.at(".xds-sync/trash")).unwrap();
        names.filter(|name| name.as_ref().is_ok_and(|name| name.file_name() != "clock")).count()
    };
    for (age, keep, left) in [(10, 10, 3), (0, 0, 3), (11, 10, 2)] {
        prune(&world.own, NOW, run_ms() + age * 1000, &kept_for(keep)).unwrap();
        assert_eq!(names(), left, "{age} s old, kept {keep} s");
    }
    // A clock that went back makes nothing old.
    prune(&world.own, NOW, 0, &kept_for(0)).unwrap();
    assert!(outside.path().join("x").exists());
}

#[test]
fn trash_is_deleted_when_it_is_too_much_but_never_this_runs() {
    let world = World::new();
    world.write("a/b", [7; 100_000]).scan();
    assert_eq!(world.commit(&[world.delete("a/b")]), [Outcome::Done]);
    let at_most = |bytes| TrashKeep { seconds: u64::MAX, min_seconds: 0, size: TrashMax::Bytes(bytes) };
    let there = || world.trashed("0", "a/b").exists();
    for (run, keep, left) in [
        (NOW, TrashKeep::FOREVER, true),
        (NOW, at_most(1 << 20), true),
        (RUN, at_most(10), true),
        (NOW, TrashKeep { seconds: u64::MAX, min_seconds: 0, size: TrashMax::Percent(100) }, true),
        (NOW, at_most(10), false),
    ] {
        prune(&world.own, run, run_ms(), &keep).unwrap();
        assert_eq!(there(), left, "{run} {keep:?}");
    }
}

/// Puts a version of `a` into the trash in a run with this id.
fn trash_in(world: &World, run: &str, at: &str, bytes: usize) {
    let dir = world.at(format!(".xds-sync/trash/{run}/0"));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(at), vec![7; bytes]).unwrap();
    fs::write(dir.join("../index"), "a hint").unwrap();
}

/// The id of a run that started so many seconds after [`RUN`].
fn run_after(seconds: u64) -> String {
    ulid::Ulid::from_parts(run_ms() + seconds * 1000, 1).to_string()
}

#[test]
fn a_clock_that_is_ahead_deletes_nothing_at_once() {
    const DAY: u64 = 24 * 3600;
    let world = World::new();
    let runs: Vec<String> = (0..5).map(|day| run_after(day * DAY)).collect();
    runs.iter().for_each(|run| trash_in(&world, run, "a", 10_000));
    let left = || runs.iter().filter(|run| world.at(format!(".xds-sync/trash/{run}")).exists()).count();
    let on_day = |day: u64, keep: &TrashKeep| {
        prune(&world.own, NOW, run_ms() + day * DAY * 1000 + 1000, keep).unwrap();
        left()
    };
    // Ten years, in one run after the other: a day each is believed, beginning at the newest of the five runs.
    let keep = kept_for(6 * DAY);
    assert_eq!([3650, 3651, 3652].map(|day| on_day(day, &keep)), [5, 5, 4]);
    // Nor does want of room take what may only seem to be old.
    let little = TrashKeep { seconds: u64::MAX, min_seconds: 7 * DAY, size: TrashMax::Bytes(10) };
    assert_eq!(on_day(3653, &little), 3, "the day has gone on to the eighth");
    // The right clock again: what is believed does not go back, and ages are those that they are.
    assert_eq!([6, 7, 8, 9].map(|day| on_day(day, &keep)), [3, 3, 2, 1]);
    // A clock that is no clock begins anew at the newest run.
    fs::write(world.at(".xds-sync/trash/clock"), "\0\0\0").unwrap();
    assert_eq!(on_day(3650, &keep), 1);
}

#[test]
fn the_oldest_versions_go_until_little_enough_is_left_and_never_young_ones() {
    let world = World::new();
    let (old, young) = (run_after(0), run_after(100));
    for (run, at) in [(&old, "a"), (&old, "b"), (&young, "c")] {
        trash_in(&world, run, at, 100_000);
    }
    let there = || -> Vec<bool> {
        let at = |(run, name): (&String, &str)| world.at(format!(".xds-sync/trash/{run}/0/{name}")).exists();
        [(&old, "a"), (&old, "b"), (&young, "c")].map(at).to_vec()
    };
    let keep = |bytes| TrashKeep { seconds: u64::MAX, min_seconds: 50, size: TrashMax::Bytes(bytes) };
    let prune = |bytes| prune(&world.own, NOW, run_ms() + 120_000, &keep(bytes)).unwrap();

    let first = prune(250_000);
    assert_eq!(there(), [false, true, true], "one version is enough");
    assert_eq!((first.files, first.oldest_ms, first.excess), (1, run_ms(), 0));
    assert!(first.bytes >= 100_000, "{first:?}");
    let second = prune(10);
    assert_eq!(there(), [false, false, true], "the run of what is too young stays");
    assert_eq!(second.files, 1);
    assert!(second.excess > 90_000, "{second:?}");
    assert!(
        !world.at(format!(".xds-sync/trash/{old}")).exists(),
        "nothing is left of a run without versions"
    );
    assert_eq!(prune(10).files, 0);
}

#[test]
fn what_is_trashed_is_told_and_can_be_looked_at_and_given() {
    let world = World::new();
    world.write("file", "old").write("gone", "gone").scan();
    symlink("file", world.at("link")).unwrap();
    symlink("/etc/shadow", world.at("out")).unwrap();
    chmod(world.at("gone"), 0o4750);
    world.scan();
    world.stage_all(&["new"]);
    let actions =
        [world.put("file", file("new")), world.delete("gone"), world.delete("link"), world.delete("out")];
    let committed = world.commit_all(&actions);
    assert_eq!(committed.outcomes, vec![Outcome::Done; 4]);
    let told: BTreeMap<_, _> =
        committed.trashed.iter().map(|entry| (entry.place.path.escaped(), entry.kind)).collect();
    let (file_kind, link_kind) = (TrashKind::File, TrashKind::Symlink);
    let expected = [("file", file_kind), ("gone", file_kind), ("link", link_kind), ("out", link_kind)];
    assert_eq!(told, expected.map(|(path, kind)| (path.to_owned(), kind)).into());

    let root = HeldRoot::open(world.dir.path()).unwrap();
    let look = |at: &str| {
        let id = format!("{RUN}-0").parse().unwrap();
        Trashed { id, path: path(at) }.look(&root, &mut Owners::default(), &Default::default())
    };
    let gone = look("gone").unwrap().as_file().unwrap().clone();
    assert_eq!(
        (gone.size, gone.digest, gone.meta.mode),
        (4, digest(b"gone"), 0o750),
        "setuid is not carried"
    );
    assert_eq!(look("link").unwrap(), link("file"));
    assert!(look("out").unwrap_err().to_string().contains("leads out"));
    assert!(look("never").is_err() && look("gone/below").is_err());

    let id: super::super::trash::TrashId = format!("{RUN}-0").parse().unwrap();
    let mut source = super::super::trash::TrashSource::new(root, id);
    let wanted = BlobRequest { path: path("gone"), digest: gone.digest, size: 4, offset: 0 };
    let other = World::new();
    assert_eq!(other.stage(std::slice::from_ref(&wanted), &mut source), [Ok(())]);
    assert_eq!(fs::read(other.in_stage(gone.digest.to_string())).unwrap(), b"gone");
    // What is announced is what must come.
    let lied = BlobRequest { digest: digest(b"else"), ..wanted };
    assert!(World::new().stage(&[lied], &mut source)[0].is_err());
}

#[test]
fn only_a_run_has_a_trash() {
    let world = World::new();
    let stamps = |_: &RelPath| None;
    let seen = ScannedTree { tree: &Tree::default(), stamps: &stamps };
    for run in ["", "..", "../x", "01kq0000000000000000000000", "x"] {
        assert!(super::super::commit(&world.own, run, &seen, &[], &mut Owners::default()).is_err(), "{run}");
    }
}
