//! What a local user can make longer must not make a scan grow with its square.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::sync::atomic::Ordering;

use super::*;
use crate::model::steps::assert_grows_with;

/// Makes so many.
type Make = fn(&Site, usize);

const SHAPES: [(&str, Make); 6] = [
    ("files", |site, length| {
        for number in 0..length {
            site.write(number.to_string(), "x");
        }
    }),
    ("directories", |site, length| {
        for number in 0..length {
            site.write(format!("{number}/x"), "");
        }
    }),
    ("links", |site, length| {
        for number in 0..length {
            symlink("x", site.path(number.to_string())).unwrap();
        }
    }),
    ("sockets and FIFOs", |site, length| {
        for number in 0..length {
            rustix::fs::mkfifoat(rustix::fs::CWD, site.path(number.to_string()), 0o600.into()).unwrap();
        }
    }),
    ("names of one file", |site, length| {
        let file = site.write("dir/file", vec![b'x'; 4096]);
        for number in 0..length {
            fs::hard_link(&file, site.path(format!("dir/{number}"))).unwrap();
        }
    }),
    ("what is excluded", |site, length| {
        for number in 0..length {
            site.write(format!("xds_override{number}"), "x");
        }
    }),
];

#[test]
fn a_scan_grows_with_what_it_finds_and_not_with_its_square() {
    for (name, make) in SHAPES {
        assert_grows_with(name, 150, |length| {
            let mut site = Site::new();
            make(&site, length);
            move || {
                let (now, progress) = (site.now, AtomicU64::new(0));
                // Nothing is known, then all of it, then all of it by other paths.
                for to in ["", "", "renamed"] {
                    if !to.is_empty() && site.path("dir").exists() {
                        fs::rename(site.path("dir"), site.path(to)).unwrap();
                    }
                    let snapshot =
                        scan_with(&site.spec, &mut site.cache, &move || now, &control(&progress), 1);
                    assert!(snapshot.tree.len() >= length);
                }
            }
        });
    }
}

#[test]
fn names_of_one_file_are_all_known_under_another_directory() {
    let mut site = Site::new();
    let file = site.write("dir/file", vec![b'x'; 4096]);
    for number in 0..50 {
        fs::hard_link(&file, site.path(format!("dir/{number}"))).unwrap();
    }
    site.snapshot();
    fs::rename(site.path("dir"), site.path("renamed")).unwrap();
    assert_eq!(site.bytes_read(), 0);
    assert_eq!(site.snapshot().tree.files(), 51);
}

#[test]
fn what_is_left_keeps_its_stamp_when_many_others_vanish() {
    let site = Site::new();
    for number in 0..100 {
        site.write(format!("{number:03}"), "x");
    }
    let (now, progress) = (site.now, AtomicU64::new(0));
    // Once all are listed, before any is read.
    let clock = || {
        if progress.load(Ordering::Relaxed) > 99 {
            for number in (0..100).filter(|number| number % 3 != 1) {
                let _ = fs::remove_file(site.path(format!("{number:03}")));
            }
        }
        now
    };
    let snapshot = scan_with(&site.spec, &mut HashCache::default(), &clock, &control(&progress), 1);
    assert_eq!(snapshot.tree.len(), 33);
    for (path, _) in snapshot.tree.iter() {
        let ino = fs::metadata(site.path(path.as_bytes())).unwrap().ino();
        assert_eq!(snapshot.stamp(path).map(|stamp| stamp.ino), Some(ino), "{path:?}");
    }
}
