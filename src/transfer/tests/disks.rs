//! Disks that do not keep what they are given, and what a place gives to what is made in it: real ones, mounted for the
//! test.

use std::process::Command;

use rustix::fs::XattrFlags;

use super::*;
use crate::model::{Kept, Lacks};

/// A world on a disk of its own.
struct Disk {
    world: World,
    /// Beside it: the image of the disk, or what is behind it.
    _behind: tempfile::TempDir,
}

impl Disk {
    /// `mount` is a script that mounts something at `$AT`, whose image or source is in `$BEHIND`.
    fn new(mount: &str) -> Disk {
        let (dir, behind) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut script = Command::new("sh");
        script.args(["-ec", mount]).env("AT", dir.path()).env("BEHIND", behind.path());
        let done = script.output().unwrap();
        assert!(done.status.success(), "needs root, bindfs and loop devices: {done:?}");
        Disk { world: World::in_dir(dir), _behind: behind }
    }

    /// One that refuses or ignores something, as network filesystems do.
    fn bindfs(options: &str) -> Disk {
        Disk::new(&format!("bindfs {options} \"$BEHIND\" \"$AT\""))
    }

    /// Whole seconds until 2038.
    fn whole_seconds() -> Disk {
        Disk::new(
            "truncate -s 8M $BEHIND/i; mkfs.ext4 -q -I 128 $BEHIND/i 2>&1; mount -o loop $BEHIND/i \"$AT\"",
        )
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.world.dir.path()).status();
    }
}

fn games(mode: u16) -> Meta {
    Meta { mode, owner: Owner::new(Some("games"), Some("games")) }
}

fn of_games(content: &str, mtime: i64) -> Entry {
    match file(content) {
        Entry::File(file) => Entry::File(File { meta: games(0o640), mtime, ..file }),
        other => other,
    }
}

fn kept(outcome: &Outcome) -> &Kept {
    match outcome {
        Outcome::Kept(kept) => kept,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn what_a_disk_refuses_or_ignores_costs_no_content() {
    let (owner, mode) = (Lacks { owner: true, ..Lacks::default() }, Lacks { mode: true, ..Lacks::default() });
    for (options, lacks) in [
        ("--chown-deny --chgrp-deny", owner),
        ("--chown-ignore --chgrp-ignore", owner),
        ("--chmod-deny", mode),
        ("--chmod-ignore", mode),
    ] {
        let disk = Disk::bindfs(options);
        let world = &disk.world;
        world.write("old", "old").write("moved", "moved").scan();
        world.stage_all(&["new", "more"]);
        let moved = of_games("moved", MTIME);
        let outcomes = world.commit(&[
            world.put("old", of_games("new", MTIME)),
            world.put("d", Entry::Dir(games(0o750))),
            world.put("d/more", of_games("more", MTIME)),
            world.move_from("moved", "d/moved", moved),
        ]);
        for outcome in &outcomes {
            assert_eq!(kept(outcome).lacks, lacks, "{options}: {outcomes:?}");
        }
        let contents = ["old", "d/more", "d/moved"].map(|at| world.read(at));
        assert_eq!(
            contents,
            ["new", "more", "moved"].map(|content| content.as_bytes().to_vec()),
            "{options}"
        );
        // What is told to be kept is what the next scan sees.
        world.scan();
        let seen = world.tree().get(&path("d/more")).unwrap().as_file().unwrap().clone();
        let told = kept(&outcomes[2]);
        assert_eq!((&seen.meta, seen.mtime / 1000), (&told.meta, told.mtime / 1000), "{options}");
        let again = world.commit(&[world.action("d/more", Step::SetMeta(of_games("more", MTIME)))]);
        assert_eq!(kept(&again[0]).lacks, lacks, "{options}: {again:?}");
    }
}

#[test]
fn a_time_that_a_disk_rounds_is_told_as_it_keeps_it() {
    let disk = Disk::whole_seconds();
    let world = &disk.world;
    world.scan();
    world.stage_all(&["a", "b"]);
    let whole = MTIME - MTIME % 1_000_000_000;
    let in_2040 = 2_209_032_000_000_000_000;
    let committed =
        world.commit_all(&[world.put("a", of_games("a", MTIME)), world.put("b", of_games("b", in_2040))]);
    let told = kept(&committed.outcomes[0]);
    assert_eq!((told.mtime, told.lacks), (whole, Lacks::default()), "rounding is no lack");
    assert!(kept(&committed.outcomes[1]).lacks.time, "2038 is not 2040");
    world.scan();
    let seen = world.tree().get(&path("a")).unwrap().as_file().unwrap().clone();
    assert_eq!((seen.mtime, &seen.meta), (whole, &games(0o640)));
    assert_eq!(committed.placed.len(), 2, "a cache may know it all the same");
    let again = world.commit(&[world.move_from("a", "c", of_games("a", MTIME))]);
    assert_eq!(kept(&again[0]).mtime, whole);
    assert_eq!(world.read("c"), b"a");
}

#[test]
fn a_disk_that_takes_no_files_is_known_before_anything_is_sent() {
    for (mount, why) in [
        (
            "mount -t tmpfs -o nr_inodes=8 none $AT; mkdir -p $AT/.xds-sync/stage $AT/.xds-sync/trash; touch $AT/1 $AT/2 $AT/3 $AT/4 2>/dev/null || true",
            "No space left",
        ),
        (
            "mount -t tmpfs none $AT; mkdir -p $AT/.xds-sync/stage $AT/.xds-sync/trash; chmod -R 700 $AT/.xds-sync; mount -o remount,ro $AT",
            "Read-only",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let done = Command::new("sh").args(["-ec", mount]).env("AT", dir.path()).status().unwrap();
        assert!(done.success());
        let root = HeldRoot::open(dir.path()).unwrap();
        let refused = OwnDir::ready(&root, &Arc::default()).map(drop);
        drop(root);
        let _ = Command::new("umount").arg("--lazy").arg(dir.path()).status();
        let refused = format!("{:#}", refused.unwrap_err());
        assert!(refused.contains("takes no files") && refused.contains(why), "{refused}");
    }
}

/// What a commit was making, a directory too, when its process was killed.
#[test]
fn what_was_left_in_a_stage_does_not_make_a_disk_that_takes_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let root = HeldRoot::open(dir.path()).unwrap();
    drop(OwnDir::ready(&root, &Arc::default()).unwrap());
    let stage = dir.path().join(".xds-sync/stage");
    for name in ["making.0", "making.1", "probe"] {
        fs::create_dir(stage.join(name)).unwrap();
    }
    drop(OwnDir::ready(&root, &Arc::default()).unwrap());
    fs::remove_dir(stage.join("probe")).unwrap();
    fs::write(stage.join("probe"), "").unwrap();
    drop(OwnDir::ready(&root, &Arc::default()).unwrap());
    assert!(!stage.join("probe").exists());
}

fn setfacl(at: &Path, list: &str) {
    let done = Command::new("setfacl").args(["-m", list]).arg(at).output().unwrap();
    assert!(done.status.success(), "needs setfacl and a disk with access lists: {done:?}");
}

/// The lines of a list that speak of a user by name, of the mask and of the owning group.
fn getfacl(at: &Path) -> Vec<String> {
    let said = Command::new("getfacl").args(["-pcE"]).arg(at).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let is_told = |line: &&str| {
        ["user:games", "mask", "group:", "default:user:games"].iter().any(|of| line.starts_with(of))
    };
    said.lines().filter(is_told).map(str::to_owned).collect()
}

#[test]
fn a_file_gets_what_its_place_gives_to_new_ones() {
    let world = World::new();
    world.write("d/x", "x").scan();
    setfacl(&world.at("d"), "d:u:games:rX");
    world.stage_all(&["new"]);
    let outcomes = world.commit(&[
        world.create("d/new", file("new")),
        world.create("d/sub", dir(0o2775)),
        world.create("plain", dir(0o755)),
    ]);
    assert_eq!(outcomes, vec![Outcome::Done; 3]);
    assert_eq!(getfacl(&world.at("d/new")), ["user:games:r-x", "group::r--", "mask::r--"], "as by rsync");
    assert_eq!(fs::metadata(world.at("d/new")).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(
        getfacl(&world.at("d/sub")),
        ["user:games:r-x", "group::rwx", "mask::rwx", "default:user:games:r-x"]
    );
    assert_eq!(fs::metadata(world.at("d/sub")).unwrap().mode() & 0o7777, 0o2775);
    assert_eq!(getfacl(&world.at("plain")), ["group::r-x"]);
}

#[test]
fn a_root_that_gives_lists_gives_them_to_what_comes_into_it_and_not_to_what_is_ours() {
    let dir = tempfile::tempdir().unwrap();
    setfacl(dir.path(), "d:u:games:rwX");
    let world = World::in_dir(dir);
    world.write("d/x", "x").scan();
    Command::new("setfacl").arg("-b").arg(world.at("d")).status().unwrap();
    for own in ["", "/stage", "/trash"] {
        assert_eq!(getfacl(&world.at(format!(".xds-sync{own}"))), ["group::---"], "{own}");
    }
    world.scan();
    world.stage_all(&["a", "b"]);
    assert_eq!(
        world.commit(&[world.put("a", file("a")), world.put("d/b", file("b"))]),
        vec![Outcome::Done; 2]
    );
    assert_eq!(getfacl(&world.at("a")), ["user:games:rwx", "group::r--", "mask::r--"]);
    assert_eq!(getfacl(&world.at("d/b")), ["group::r--"]);
}

#[test]
fn a_replaced_file_keeps_its_list_and_a_mask_is_no_mode() {
    let world = World::new();
    world.write("a", "old").write("d/x", "x");
    chmod(world.at("a"), 0o600);
    chmod(world.at("d"), 0o750);
    setfacl(&world.at("a"), "u:games:rw");
    setfacl(&world.at("d"), "u:games:rwx");
    world.scan();
    world.stage_all(&["new"]);
    let outcomes = world.commit(&[world.put("a", file("new"))]);
    assert_eq!(getfacl(&world.at("a")), ["user:games:rw-", "group::r--", "mask::rw-"]);
    // The mode says what the list widens, and no disk is to blame.
    assert_eq!((kept(&outcomes[0]).meta.mode, kept(&outcomes[0]).lacks), (0o660, Lacks::default()));
    world.scan();
    let outcomes = world.commit(&[world.action("d", Step::SetMeta(dir(0o700)))]);
    assert_eq!(outcomes, [Outcome::Done]);
    assert_eq!(getfacl(&world.at("d")), ["user:games:rwx", "group::---", "mask::rwx"]);
}

#[test]
fn a_file_gets_the_label_of_its_place_or_of_the_one_it_replaces() {
    let world = World::new();
    world.write("d/old", "old").scan();
    let set = |at: &str, label: &[u8]| {
        rustix::fs::setxattr(world.at(at), "security.selinux", label, XattrFlags::empty()).unwrap();
    };
    set("d", b"u:object_r:asterisk_var_lib_t:s0");
    set("d/old", b"u:object_r:another_t:s0");
    world.scan();
    world.stage_all(&["a", "b"]);
    let outcomes = world.commit(&[world.put("d/old", file("a")), world.put("d/new", file("b"))]);
    assert_eq!(outcomes, vec![Outcome::Done; 2]);
    let label = |at: &str| {
        let mut value = vec![0; 100];
        let length = rustix::fs::getxattr(world.at(at), "security.selinux", &mut value).unwrap();
        String::from_utf8(value[..length].to_vec()).unwrap()
    };
    assert!(label("d/old").contains("another_t"), "{}", label("d/old"));
    assert!(label("d/new").contains("asterisk_var_lib_t"), "{}", label("d/new"));
}

#[test]
fn what_lies_in_a_directory_that_cannot_be_made_tells_its_reason() {
    let world = World::new();
    world.write("shut/x", "x").scan();
    let chattr = |how: &str| {
        assert!(Command::new("chattr").arg(how).arg(world.at("shut")).status().unwrap().success());
    };
    chattr("+i");
    world.stage_all(&["a", "b"]);
    let outcomes = world.commit(&[
        world.create("shut/d", dir(0o755)),
        world.create("shut/d/e", dir(0o755)),
        world.create("shut/d/e/a", file("a")),
        world.create("b", file("b")),
    ]);
    chattr("-i");
    assert!(is_failed(&outcomes[0], "not permitted"), "{outcomes:?}");
    for outcome in &outcomes[1..3] {
        assert!(
            is_failed(outcome, "could not make the directory shut/d: Operation not permitted"),
            "{outcomes:?}"
        );
    }
    assert_eq!(outcomes[3], Outcome::Done);
}
