//! Which files are read, and which are known.

use super::*;

#[test]
fn a_file_is_hashed_once() {
    let mut site = Site::new();
    site.write("a/b", "0123456789");
    assert_eq!(site.bytes_read(), 10);
    assert_eq!(site.bytes_read(), 0);
    site.spec.checksum = true;
    assert_eq!(site.bytes_read(), 10);
}

#[test]
fn a_known_digest_is_believed_until_the_file_changes() {
    let mut site = Site::new();
    let path = site.write_aged("a", "one", 60.0);
    let mtime = fs::metadata(&path).unwrap().modified().unwrap();
    site.lie("a");
    assert!(site.believes_the_lie("a"));

    // As many bytes, and the same mtime: the ctime tells, as soon as the kernel's clock has moved.
    let ctime = || rustix::fs::lstat(&path).map(|stat| (stat.st_ctime, stat.st_ctime_nsec)).unwrap();
    let before = ctime();
    while ctime() == before {
        fs::write(&path, "two").unwrap();
        set_mtime(&path, mtime);
    }
    assert!(!site.believes_the_lie("a"));

    site.lie("a");
    assert!(site.believes_the_lie("a"));
    site.spec.checksum = true;
    assert!(!site.believes_the_lie("a"));
    site.spec.checksum = false;
    assert!(!site.believes_the_lie("a"), "reading everything corrects the cache");
}

#[test]
fn a_file_in_a_renamed_directory_is_known() {
    let mut site = Site::new();
    let path = site.write_aged("a/b/c.wav", [1; 1000], 60.0);
    site.lie("a/b/c.wav");
    fs::rename(site.path("a"), site.path("z")).unwrap();
    assert!(site.believes_the_lie("z/b/c.wav"));
    assert_eq!(site.cache.len(), 1, "what is no longer there is forgotten");
    assert!(site.believes_the_lie("z/b/c.wav"));

    // Its own rename shows in its ctime, as soon as the kernel's clock has moved.
    let path = site.path("z").join(path.strip_prefix(site.path("a")).unwrap());
    let ctime =
        |path: &Path| rustix::fs::lstat(path).map(|stat| (stat.st_ctime, stat.st_ctime_nsec)).unwrap();
    let (before, other) = (ctime(&path), path.with_extension("other"));
    while ctime(&path) == before {
        fs::rename(&path, &other).unwrap();
        fs::rename(&other, &path).unwrap();
    }
    fs::rename(&path, site.path("d.wav")).unwrap();
    assert!(!site.believes_the_lie("d.wav"));
}

#[test]
fn few_bytes_are_read_rather_than_looked_for() {
    let mut site = Site::new();
    for name in 0..100 {
        site.write(format!("many/{name}"), "0123456789");
    }
    site.snapshot();
    site.write_aged("a/b", "0123456789", 60.0);
    site.lie("a/b");
    fs::rename(site.path("a"), site.path("z")).unwrap();
    assert!(!site.believes_the_lie("z/b"));
}

#[test]
fn a_file_written_just_now_is_hashed_again() {
    let mut site = Site::new();
    let path = site.write("a", "0123456789");
    site.now = fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!(site.bytes_read(), 10);
    assert_eq!(site.bytes_read(), 10);
    site.now += Duration::from_secs(1);
    assert_eq!(site.bytes_read(), 10);
    assert_eq!(site.bytes_read(), 0);
}

#[test]
fn the_cache_forgets_what_is_gone() {
    let mut site = Site::new();
    site.write("a/b", "x");
    site.write("c", "x");
    site.snapshot();
    assert_eq!(site.cache.len(), 2);
    fs::remove_dir_all(site.path("a")).unwrap();
    site.snapshot();
    assert_eq!(site.cache.len(), 1);
}
