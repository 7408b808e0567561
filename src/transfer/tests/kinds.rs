//! What changed since the scan is left alone: every sort of change, before every step.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

type Change = fn(&World);

/// Changes of the file `d/a` that a scan saw with the content "scanned".
const CHANGES: [(&str, Change); 8] = [
    ("content of another size", |world| _ = world.write("d/a", "changed since")),
    ("content of the same size", |world| _ = world.write("d/a", "SCANNED")),
    ("content with its time set back", |world| {
        let before = fs::metadata(world.at("d/a")).unwrap().modified().unwrap();
        world.write("d/a", "SCANNED");
        fs::File::options().write(true).open(world.at("d/a")).unwrap().set_modified(before).unwrap();
    }),
    ("mode", |world| chmod(world.at("d/a"), 0o600)),
    ("another file of the same content", |world| {
        world.write("d/b", "scanned");
        fs::rename(world.at("d/b"), world.at("d/a")).unwrap();
    }),
    ("gone", |world| fs::remove_file(world.at("d/a")).unwrap()),
    ("a directory", |world| {
        fs::remove_file(world.at("d/a")).unwrap();
        world.write("d/a/x", "x");
    }),
    ("a symlink", |world| {
        fs::remove_file(world.at("d/a")).unwrap();
        symlink("b", world.at("d/a")).unwrap();
    }),
];

#[test]
fn no_step_touches_what_changed_since_the_scan() {
    for (change, apply) in CHANGES {
        for step in ["put", "link", "meta", "delete", "move"] {
            let world = World::new();
            world.write("d/a", "scanned").scan().stage_all(&["new"]);
            let action = match step {
                "put" => world.put("d/a", file("new")),
                "link" => world.put("d/a", link("b")),
                "meta" => world.action("d/a", Step::SetMeta(file("scanned"))),
                "delete" => world.delete("d/a"),
                _ => world.move_from("d/a", "moved", file("scanned")),
            };
            apply(&world);
            let before = look(&world);
            assert_eq!(world.commit(&[action]), [Outcome::Changed], "{change}, {step}");
            assert_eq!(look(&world), before, "{change}, {step}");
        }
    }
}

#[test]
fn nothing_is_put_where_something_has_come() {
    let comes: [(&str, Change); 3] = [
        ("file", |world| _ = world.write("a", "mine")),
        ("directory", |world| fs::create_dir(world.at("a")).unwrap()),
        ("symlink", |world| symlink("nowhere", world.at("a")).unwrap()),
    ];
    for (come, apply) in comes {
        for step in ["file", "link", "dir", "move"] {
            let world = World::new();
            world.write("from", "sound").scan().stage_all(&["new"]);
            let action = match step {
                "file" => world.put("a", file("new")),
                "link" => world.put("a", link("b")),
                "dir" => world.put("a", dir(0o755)),
                _ => world.move_from("from", "a", file("sound")),
            };
            apply(&world);
            let before = look(&world);
            assert_eq!(world.commit(&[action]), [Outcome::Changed], "{come}, {step}");
            assert_eq!(look(&world), before, "{come}, {step}");
        }
    }
}

#[test]
fn nothing_is_done_in_a_directory_that_is_another_by_now() {
    let others: [(&str, Change); 3] = [
        ("gone", |_| {}),
        ("a symlink", |world| symlink("elsewhere", world.at("d")).unwrap()),
        ("a file", |world| _ = world.write("d", "x")),
    ];
    for (other, apply) in others {
        for step in ["new", "put", "delete", "rmdir"] {
            let world = World::new();
            world.write("d/a", "scanned").write("elsewhere/a", "elsewhere").scan().stage_all(&["new"]);
            let action = match step {
                "new" => world.put("d/new", file("new")),
                "put" => world.put("d/a", file("new")),
                "delete" => world.delete("d/a"),
                _ => world.delete("d"),
            };
            fs::remove_dir_all(world.at("d")).unwrap();
            apply(&world);
            let before = look(&world);
            assert_eq!(world.commit(&[action]), [Outcome::Changed], "{other}, {step}");
            assert_eq!(look(&world), before, "{other}, {step}");
        }
    }
}

/// Every path with its inode, mode, size and time.
fn look(world: &World) -> Vec<(PathBuf, u64, u32, u64, i64)> {
    use std::os::unix::fs::MetadataExt as _;

    let mut found = Vec::new();
    let mut dirs = vec![world.dir.path().to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let stat = fs::symlink_metadata(entry.path()).unwrap();
            if stat.is_dir() && entry.file_name() != ".xds-sync" {
                dirs.push(entry.path());
            }
            if entry.file_name() != ".xds-sync" {
                found.push((entry.path(), stat.ino(), stat.mode(), stat.len(), stat.mtime_nsec()));
            }
        }
    }
    found.sort();
    found
}
