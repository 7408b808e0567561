//! What a scan makes of everything that can stand in a directory.

use std::fs::FileTimes;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use super::*;
use crate::disk::marker::Marker;
use crate::disk::{HeldRoot, OWN_DIR};

/// Runs as somebody whom modes hold, which they do not root.
fn as_nobody<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    let body = || {
        if rustix::process::geteuid().is_root() {
            let nobody = rustix::process::Uid::from_raw(65534);
            // Of this thread alone.
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        }
        run()
    };
    std::thread::scope(|scope| scope.spawn(body).join().unwrap())
}

#[test]
fn every_kind_of_entry() {
    let mut site = Site::new();
    site.write("dir/file", "content");
    fs::create_dir(site.path("empty")).unwrap();
    symlink("dir/file", site.path("inside")).unwrap();
    symlink("../file", site.path("dir/dangling")).unwrap();
    symlink("/etc/passwd", site.path("absolute")).unwrap();
    symlink("../root/dir", site.path("outside")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, site.path("fifo"), fifo, 0o600.into(), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(site.path("socket")).unwrap();
    let snapshot = site.snapshot();
    assert_eq!(
        words(&snapshot),
        map(&[
            ("absolute", "EscapingLink"),
            ("dir", "dir"),
            ("dir/dangling", "-> ../file"),
            ("dir/file", "file"),
            ("empty", "dir"),
            ("fifo", "Special"),
            ("inside", "-> dir/file"),
            ("outside", "EscapingLink"),
            ("socket", "Special"),
        ])
    );
    assert!(snapshot.settled, "standing skips only");
    assert_eq!(snapshot.root, Root::Unmarked);
    assert!(snapshot.free.bytes() > 0);
    for (path, _) in snapshot.tree.iter() {
        let now = Stamp::of(&rustix::fs::lstat(site.path(path.as_bytes())).unwrap());
        assert_eq!(snapshot.stamp(path), Some(now), "{path:?}");
    }
    assert_eq!(snapshot.stamp(rel("nowhere")), None);
}

#[test]
fn a_files_content_and_metadata() {
    let mut site = Site::new();
    let path = site.write("a", "content");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o6750)).unwrap();
    set_mtime(&path, SystemTime::UNIX_EPOCH + Duration::new(5, 123_456_789));
    fs::create_dir(site.path("dir")).unwrap();
    fs::set_permissions(site.path("dir"), fs::Permissions::from_mode(0o7775)).unwrap();
    let snapshot = site.snapshot();
    let file = snapshot.tree.get(rel("a")).unwrap().as_file().unwrap();
    assert_eq!(file.digest, Digest(*blake3::hash(b"content").as_bytes()));
    assert_eq!((file.size, file.mtime, file.meta.mode), (7, 5_123_456_789, 0o750));
    let owner = fs::metadata(&path).unwrap();
    assert_eq!(file.meta.owner, crate::disk::Owners::default().of(owner.uid(), owner.gid()));
    assert_eq!(snapshot.tree.get(rel("dir")).unwrap().meta().unwrap().mode, 0o3775);
}

#[test]
fn a_pattern_with_a_slash_behind_keeps_directories_out_and_nothing_else() {
    let mut site = Site::new();
    site.spec.exclude = vec!["cache/".to_owned()];
    site.write("cache/inner", "");
    site.write("a/cache/inner", "");
    site.write("b/cache", "no directory");
    fs::create_dir(site.path("c")).unwrap();
    symlink("../cache", site.path("c/cache")).unwrap();
    let seen = site.seen();
    for (at, kind) in [("cache", "excluded"), ("a/cache", "excluded"), ("b/cache", "file")] {
        assert_eq!(seen[at], kind, "{at}");
    }
    assert_ne!(seen["c/cache"], "excluded");
    assert_eq!(seen.len(), 7, "{seen:?}");
}

#[test]
fn excluded_names_of_every_kind_are_not_looked_into() {
    let mut site = Site::new();
    site.spec.exclude = vec!["*.bak".to_owned(), "conf/*.tmp".to_owned()];
    site.write("xds_override.d/inner", "");
    site.write("a/xds_override_sip.conf", "");
    symlink("/etc", site.path("xds_override_link")).unwrap();
    site.write("old.bak/inner", "");
    site.write("conf/x.tmp", "");
    site.write("x.tmp", "");
    site.write(b"caf\xe9.bak", "");
    site.write(format!("{OWN_DIR}/trash/x"), "");
    site.write(format!("a/{OWN_DIR}/x"), "");
    assert_eq!(
        site.seen(),
        map(&[
            ("a", "dir"),
            ("a/.xds-sync", "excluded"),
            ("a/xds_override_sip.conf", "excluded"),
            (r"caf\xe9.bak", "excluded"),
            ("conf", "dir"),
            ("conf/x.tmp", "excluded"),
            ("old.bak", "excluded"),
            ("x.tmp", "file"),
            ("xds_override.d", "excluded"),
            ("xds_override_link", "excluded"),
        ])
    );
}

#[test]
fn other_roots_are_carved_out_and_the_root_may_be_a_symlink() {
    let mut site = Site::new();
    let base = site.dir.path().to_owned();
    site.write("fr/hello.wav", "RIFF");
    fs::create_dir(base.join("custom")).unwrap();
    symlink(base.join("custom"), site.path("recordings")).unwrap();
    symlink(base.join("custom"), site.path("monitor")).unwrap();
    site.write("inner/x", "");
    symlink(&site.spec.root, base.join("sounds")).unwrap();
    let real = std::mem::replace(&mut site.spec.root, base.join("sounds"));
    site.spec.other_roots = vec![base.join("sounds/recordings"), real.join("inner"), base.join("sounds")];
    assert_eq!(
        site.seen(),
        map(&[
            ("fr", "dir"),
            ("fr/hello.wav", "file"),
            ("inner", "excluded"),
            ("monitor", "EscapingLink"),
            ("recordings", "excluded"),
        ])
    );
}

#[test]
fn the_states_of_a_root() {
    let mut site = Site::new();
    let marker = Marker { id: "01R".to_owned(), generation: None };
    marker.write(&HeldRoot::open(&site.spec.root).unwrap()).unwrap();
    assert_eq!(site.snapshot().root, Root::Marked(marker));

    site.write(format!("{OWN_DIR}/root.json"), "{");
    let snapshot = site.snapshot();
    assert!(matches!(&snapshot.root, Root::Unusable(why) if why.contains("marker")), "{:?}", snapshot.root);
    assert!(snapshot.held.is_none());

    site.spec.exclude = vec!["[".to_owned()];
    fs::remove_file(site.path(format!("{OWN_DIR}/root.json"))).unwrap();
    let root = site.snapshot().root;
    assert!(matches!(&root, Root::Unusable(why) if why.contains("\"[\"")), "{root:?}");

    site.spec.root = site.dir.path().join("not/there");
    let snapshot = site.snapshot();
    assert_eq!(snapshot.root, Root::Missing);
    assert!(snapshot.free.bytes() > 0, "of the filesystem it would be made on");

    site.spec.root = site.dir.path().join("file");
    fs::write(&site.spec.root, "").unwrap();
    let root = site.snapshot().root;
    assert!(matches!(&root, Root::Unusable(why) if why.contains("Not a directory")), "{root:?}");
}

#[test]
fn what_cannot_be_read_is_a_problem_and_covers_all_below() {
    let mut site = Site::new();
    fs::set_permissions(site.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let file = site.write("file", "x");
    site.write("closed/inner", "x");
    site.write("fine", "x");
    site.write("listed/inner", "x");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o0)).unwrap();
    fs::set_permissions(site.path("closed"), fs::Permissions::from_mode(0o0)).unwrap();
    fs::set_permissions(site.path("listed"), fs::Permissions::from_mode(0o444)).unwrap();
    let denied = "Unreadable(\"Permission denied\")";
    let snapshot = as_nobody(|| {
        let now = site.now;
        scan_with(&site.spec, &mut site.cache, &move || now, &control(&AtomicU64::new(0)), 1)
    });
    assert_eq!(
        words(&snapshot),
        map(&[
            ("closed", denied),
            ("file", denied),
            ("fine", "file"),
            ("listed", "dir"),
            ("listed/inner", denied),
        ])
    );
    assert!(!snapshot.settled);

    fs::set_permissions(&site.spec.root, fs::Permissions::from_mode(0o0)).unwrap();
    let root = as_nobody(|| site.snapshot().root);
    assert!(matches!(&root, Root::Unusable(why) if why.contains("Permission denied")), "{root:?}");
}

#[test]
fn a_path_too_long_to_carry_makes_its_directory_a_problem() {
    let mut site = Site::new();
    let name = "d".repeat(250);
    // Eleven of them make 2760 bytes, the twelfth 3011; a name of 61 more is one too many.
    let deep = [&*name; 12].join("/");
    fs::create_dir_all(site.path(&deep)).unwrap();
    fs::write(site.path(format!("{deep}/{}", "f".repeat(60))), "").unwrap();
    let last = deep.as_str();
    assert_eq!(site.seen()[last], "dir");
    assert_eq!(site.seen()[&format!("{deep}/{}", "f".repeat(60))], "file");

    fs::write(site.path(format!("{deep}/{}", "f".repeat(61))), "").unwrap();
    assert_eq!(site.seen()[last], "TooLong");
    assert_eq!(site.seen().len(), 12);
}

#[test]
fn a_renamed_own_directory_is_no_content() {
    let mut site = Site::new();
    let marker = Marker { id: "01R".to_owned(), generation: None };
    marker.write(&HeldRoot::open(&site.spec.root).unwrap()).unwrap();
    for part in ["stage", "trash"] {
        fs::create_dir(site.path(format!("{OWN_DIR}/{part}"))).unwrap();
        site.write(format!("{OWN_DIR}/{part}/secret"), "");
    }
    fs::rename(site.path(OWN_DIR), site.path("x0")).unwrap();
    assert_eq!(site.seen(), map(&[("x0", "OwnDir")]));
    site.write("x0/not-ours", "");
    assert_eq!(site.seen()["x0"], "dir");
}

#[test]
fn a_hard_link_to_a_file_of_somebody_else_is_not_carried() {
    let mut site = Site::new();
    assert!(rustix::process::geteuid().is_root(), "needs root, as the program does");
    let secret = site.path("secret");
    fs::write(&secret, "root's").unwrap();
    fs::create_dir(site.path("of-other")).unwrap();
    std::os::unix::fs::chown(site.path("of-other"), Some(1234), None).unwrap();
    fs::hard_link(&secret, site.path("of-other/link")).unwrap();
    site.write("of-other/root-made-it", "");
    site.write("of-other/own", "");
    std::os::unix::fs::chown(site.path("of-other/own"), Some(1234), None).unwrap();
    fs::hard_link(site.path("of-other/own"), site.path("of-other/twin")).unwrap();
    assert_eq!(
        site.seen(),
        map(&[
            ("of-other", "dir"),
            ("of-other/link", "HardLink"),
            ("of-other/own", "file"),
            ("of-other/root-made-it", "file"),
            ("of-other/twin", "file"),
            ("secret", "file"),
        ])
    );
}

#[test]
fn what_is_mounted_below_is_not_entered() {
    let mut site = Site::new();
    for dir in ["tmpfs", "bound", "source"] {
        fs::create_dir(site.path(dir)).unwrap();
    }
    site.write("source/inner", "");
    site.write("file", "");
    // In a mount namespace of its own, seen through the process that holds it.
    let script = r#"mount -t tmpfs none "$0/tmpfs" && mount --bind "$0/source" "$0/bound" &&
        mount --bind "$0/source/inner" "$0/file" && echo mounted && read line"#;
    let mut holder = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(&site.spec.root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "mounted\n");
    let seen_by_holder = format!("/proc/{}/root{}", holder.id(), site.spec.root.display());
    let root = HeldRoot::of(fs::File::open(&seen_by_holder).unwrap(), seen_by_holder.as_ref());
    let progress = AtomicU64::new(0);
    let now = site.now;
    let snapshot = super::super::scan(
        &site.spec,
        Ok(Found::Root(root)),
        &mut site.cache,
        &move || now,
        &control(&progress),
    );
    let seen = words(&snapshot);
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert_eq!(
        seen,
        map(&[
            ("bound", "Mount"),
            ("file", "Mount"),
            ("source", "dir"),
            ("source/inner", "file"),
            ("tmpfs", "Mount")
        ])
    );
}

#[test]
fn names_are_bytes_and_the_order_is_the_trees() {
    let mut site = Site::new();
    let long = "n".repeat(255);
    for name in [&b"\xff\xfe"[..], b" space ", b"new\nline", b"-rf", b"a/b", b"a.c", b"$(x)", long.as_bytes()]
    {
        site.write(name, "");
    }
    let snapshot = site.snapshot();
    let paths: Vec<&[u8]> = snapshot.tree.iter().map(|(path, _)| path.as_bytes()).collect();
    let mut expected: Vec<&[u8]> =
        vec![b" space ", b"$(x)", b"-rf", b"a", b"a/b", b"a.c", b"new\nline", long.as_bytes(), b"\xff\xfe"];
    expected.sort_by_key(|path| RelPath::new(path).unwrap());
    assert_eq!(paths, expected);
}

#[test]
fn several_threads_see_what_one_sees() {
    let site = Site::new();
    for number in 0..600 {
        site.write(format!("{}/{}/{number}", number % 40, number % 3), number.to_string());
        site.write(format!("flat/{number}"), vec![b'x'; number * 40]);
    }
    let now = site.now;
    let scanned = |threads| {
        let progress = AtomicU64::new(0);
        let snapshot =
            scan_with(&site.spec, &mut HashCache::default(), &move || now, &control(&progress), threads);
        (snapshot, progress.load(Ordering::Relaxed))
    };
    let (serial, moved) = scanned(1);
    assert_eq!(serial.tree.files(), 1200);
    for threads in [2, 5] {
        let (parallel, moved_too) = scanned(threads);
        assert_eq!(parallel.tree, serial.tree);
        assert_eq!(moved, moved_too);
        for (path, _) in serial.tree.iter() {
            assert_eq!(parallel.stamp(path), serial.stamp(path));
        }
    }
}

#[test]
fn a_directory_that_is_taken_apart_meanwhile_harms_no_scan() {
    let site = Site::new();
    let make = || {
        for number in 0..50 {
            site.write(format!("{number}/sub/file"), "x");
        }
    };
    make();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for number in 0..50 {
                    let _ = fs::remove_dir_all(site.path(number.to_string()));
                }
                make();
            }
        });
        for _ in 0..30 {
            let now = site.now;
            let mut cache = HashCache::default();
            let snapshot = scan_with(&site.spec, &mut cache, &move || now, &control(&AtomicU64::new(0)), 3);
            for (path, entry) in snapshot.tree.iter() {
                assert!(!matches!(entry, Entry::Problem(_)), "{path:?}: {entry:?}");
                let is_dir = |dir| matches!(snapshot.tree.get(dir), Some(Entry::Dir(_)));
                assert!(path.ancestors().all(is_dir), "{path:?}");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_scan_changes_nothing_not_even_access_times() {
    let mut site = Site::new();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    let paths = [site.write("dir/file", "x"), site.path("dir"), site.spec.root.clone()];
    for path in &paths {
        let times = FileTimes::new().set_accessed(old).set_modified(old + Duration::from_secs(1));
        fs::File::open(path).unwrap().set_times(times).unwrap();
    }
    let look = || {
        paths.each_ref().map(|path| {
            let stat = rustix::fs::lstat(path).unwrap();
            (stat.st_atime, stat.st_atime_nsec, Stamp::of(&stat))
        })
    };
    let before = look();
    site.snapshot();
    assert_eq!(look(), before);
}

#[test]
fn files_that_fail_or_are_longer_than_they_say_are_not_taken_for_read() {
    // Files of the kernel's: one says EIO when it is read, the other size 0, and has more.
    let mut site = Site::new();
    site.spec.root = "/proc/self".into();
    site.spec.exclude = ["[!mc]*", "m[!e]*", "c[!o]*", "co[!m]*"].map(str::to_owned).to_vec();
    let seen = site.seen();
    assert_eq!(seen["mem"], "Unreadable(\"Input/output error\")");
    assert_eq!(seen["comm"], "Changing");
}
