//! Somebody else works in the root at the same time, and means no good.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{CWD, RenameFlags};

use super::*;

/// Lets `other` run again and again while `ours` runs `times` times.
fn race(times: usize, other: impl Fn() + Sync, mut ours: impl FnMut(usize)) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                other();
            }
        });
        // A failed assertion must stop the other thread too, or the scope never ends.
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (0..times).for_each(&mut ours)));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn a_parent_that_flips_to_a_symlink_leads_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("passwd"), "root").unwrap();
    let world = World::new();
    world.write("d/passwd", "a").scan();
    let flip = world.at("d");
    let away = world.at("d.away");
    let target = outside.path().to_owned();
    let other = move || {
        let _ = fs::rename(&flip, &away);
        let _ = symlink(&target, &flip);
        let _ = fs::remove_file(&flip);
        let _ = fs::rename(&away, &flip);
    };
    race(500, other, |round| {
        let content = format!("new {round}");
        world.stage_all(&[&content]);
        world.commit(&[
            world.put("d/passwd", file(&content)),
            world.create(format!("d/new{round}"), file(&content)),
            world.put("d", dir(0o700)),
            world.delete("d/passwd"),
        ]);
    });
    let left: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["passwd"]);
    assert_eq!(fs::read(outside.path().join("passwd")).unwrap(), b"root");
    assert_ne!(fs::metadata(&outside).unwrap().permissions().mode() & 0o777, 0);
}

#[test]
fn no_version_of_a_file_that_others_replace_is_lost() {
    const ROUNDS: usize = 300;
    let world = World::new();
    world.write("a", "first");
    let theirs = AtomicUsize::new(0);
    let replaced = Mutex::new(Vec::new());
    let (aside, at) = (world.at("aside"), world.at("a"));
    let other = || {
        // As an editor saves: a whole new file takes the old one's place.
        let number = theirs.load(Ordering::Relaxed);
        fs::write(&aside, format!("theirs {number}")).unwrap();
        if rustix::fs::renameat_with(CWD, &aside, CWD, &at, RenameFlags::EXCHANGE).is_ok() {
            theirs.store(number + 1, Ordering::Relaxed);
            replaced.lock().unwrap().push(fs::read(&aside).unwrap());
        }
    };
    let mut done = Vec::new();
    race(ROUNDS, other, |round| {
        let content = format!("ours {round}");
        world.stage_all(&[&content]);
        world.scan_one("a");
        if world.commit(&[world.put("a", file(&content))]) == [Outcome::Done] {
            done.push(content);
        }
    });
    let replaced = replaced.into_inner().unwrap();
    let kept: HashSet<Vec<u8>> =
        world.own_files().into_values().chain(replaced).chain([world.read("a")]).collect();
    let theirs = (0..theirs.into_inner()).map(|number| format!("theirs {number}"));
    for version in done.into_iter().chain(theirs) {
        assert!(kept.contains(version.as_bytes()), "{version} is nowhere");
    }
}

#[test]
fn a_directory_that_came_in_is_not_swept_into_the_trash() {
    let world = World::new();
    world.write("a", "old").write("full/precious", "precious").scan();
    let (a, full) = (world.at("a"), world.at("full"));
    let other = || {
        let _ = rustix::fs::renameat_with(CWD, &a, CWD, &full, RenameFlags::EXCHANGE);
    };
    race(300, other, |round| {
        let content = format!("new {round}");
        world.stage_all(&[&content]);
        world.scan_one("a");
        world.commit(&[world.put("a", file(&content))]);
        world.scan_one("a");
        world.commit(&[world.delete("a")]);
        if !world.at("a").exists() {
            let _ = fs::write(world.at("a"), "again");
        }
    });
    let swept: Vec<_> = world.own_files().into_keys().filter(|name| name.ends_with("/precious")).collect();
    assert_eq!(swept, [""; 0]);
}

#[test]
fn what_is_planted_in_our_directory_is_refused() {
    let outside = tempfile::tempdir().unwrap();
    for part in [".xds-sync", ".xds-sync/stage", ".xds-sync/trash"] {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join(part);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        symlink(outside.path(), &at).unwrap();
        let root = HeldRoot::open(dir.path()).unwrap();
        assert!(OwnDir::ready(&root, &Arc::default()).is_err(), "{part}");
        assert!(
            super::super::trash::versions(&root, &path("a")).is_err() || part.ends_with("stage"),
            "{part}"
        );
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn our_directory_is_ours_alone() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join(".xds-sync");
    fs::create_dir(&own).unwrap();
    chmod(&own, 0o777);
    let root = HeldRoot::open(dir.path()).unwrap();
    OwnDir::ready(&root, &Arc::default()).unwrap();
    for part in ["", "stage", "trash"] {
        assert_eq!(fs::metadata(own.join(part)).unwrap().permissions().mode() & 0o7777, 0o700);
    }
    assert!(rustix::process::geteuid().is_root(), "needs root, as the program does");
    std::os::unix::fs::chown(&own, Some(7), Some(7)).unwrap();
    assert!(OwnDir::ready(&root, &Arc::default()).unwrap_err().to_string().contains("belongs to user id 7"));
}

#[test]
fn symlinks_in_stage_and_trash_lead_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let world = World::new();
    world.write("d/a", "old").scan();
    let staged = digest(b"new").to_string();
    symlink(&secret, world.in_stage(format!("{staged}.part"))).unwrap();
    symlink(&secret, world.in_stage(&staged)).unwrap();
    world.stage_all(&["new"]);
    fs::create_dir_all(world.trashed("0", "")).unwrap();
    symlink(outside.path(), world.trashed("0", "d")).unwrap();
    symlink(&secret, world.at(format!(".xds-sync/trash/{RUN}/index"))).unwrap();
    assert_eq!(world.commit(&[world.put("d/a", file("new"))]), [Outcome::Done]);
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read(world.trashed("1", "d/a")).unwrap(), b"old");
}
