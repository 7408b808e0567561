//! What a scan may cost, whatever others put into the directory.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use super::*;
use crate::model::EntryProblem;

impl Site {
    fn within(&mut self, limits: ScanLimits) -> Snapshot {
        let (now, progress) = (self.now, AtomicU64::new(0));
        let control = ScanControl { limits, ..control(&progress) };
        scan(&self.spec, &mut self.cache, &move || now, &control)
    }
}

fn unusable(snapshot: &Snapshot) -> &str {
    assert!(snapshot.tree.is_empty());
    match &snapshot.root {
        Root::Unusable(why) => why,
        root => panic!("{root:?}"),
    }
}

#[test]
fn more_names_than_the_budget_make_a_directory_unusable() {
    let mut site = Site::new();
    site.write("dir/ab", "x");
    symlink("0123456789", site.path("dir/link")).unwrap();
    // dir, dir/ab, dir/link and its target.
    let names = 3 + 6 + 8 + 10;
    assert_eq!(site.within(ScanLimits { names, ..ScanLimits::default() }).tree.len(), 3);
    let known = site.cache.len();
    let over = site.within(ScanLimits { names: names - 1, ..ScanLimits::default() });
    assert_eq!(
        unusable(&over),
        "more names than can be kept in step: 27 B of paths and links seen, at most 26 B"
    );
    let over = site.within(ScanLimits { entries: 2, ..ScanLimits::default() });
    assert_eq!(unusable(&over), "more names than can be kept in step: 3 entries seen, at most 2");
    assert_eq!(site.cache.len(), known, "what is known of the files stays known");
    assert_eq!(site.within(ScanLimits { entries: 3, ..ScanLimits::default() }).tree.len(), 3);
}

#[test]
fn a_directory_is_left_before_all_its_names_are_read() {
    let mut site = Site::new();
    for number in 0..5000 {
        site.write(format!("{number}"), "");
    }
    let over = site.within(ScanLimits { entries: 10, ..ScanLimits::default() });
    assert_eq!(unusable(&over), "more names than can be kept in step: 1024 entries seen, at most 10");
}

#[test]
fn holes_are_hashed_and_not_read_up_to_a_budget() {
    const SIZE: u64 = 64 << 20;
    let mut site = Site::new();
    site.write("sparse", "");
    let sparse = fs::File::options().write(true).open(site.path("sparse")).unwrap();
    sparse.set_len(SIZE).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"x", SIZE / 2).unwrap();
    assert!(site.bytes_read() < 1 << 20, "holes were read");
    let mut whole = vec![0; SIZE as usize];
    whole[SIZE as usize / 2] = b'x';
    let path = RelPath::new(b"sparse").unwrap();
    let digest = |snapshot: &Snapshot| snapshot.tree.get(path).unwrap().as_file().map(|file| file.digest);
    assert_eq!(digest(&site.snapshot()), Some(Digest(blake3::hash(&whole).into())));

    // Its content does not matter: its holes are beyond what is hashed of any file.
    site.cache = HashCache::default();
    sparse.set_len(15 << 40).unwrap();
    let snapshot = site.snapshot();
    let Some(Entry::Problem(problem @ EntryProblem::Sparse { size, allocated })) = snapshot.tree.get(path)
    else {
        panic!("{:?}", snapshot.tree)
    };
    assert_eq!(*size, 15 << 40);
    assert!(*allocated <= 1 << 20 && problem.is_standing());
    assert!(problem.to_string().ends_with("of 15.0 TiB allocated, too many holes to carry"), "{problem}");
    assert!(snapshot.settled && snapshot.stamp(path).is_some());
}

#[test]
fn holes_beyond_those_of_one_scan_have_their_turn_later() {
    let mut site = Site::new();
    for name in ["a", "b", "c"] {
        site.write(name, "");
        fs::File::options().write(true).open(site.path(name)).unwrap().set_len(1 << 20).unwrap();
    }
    let limits = ScanLimits { holes: 1 << 20, ..ScanLimits::default() };
    for files in 1..=3 {
        assert_eq!(site.within(limits).tree.files(), files);
    }
}

/// A clock that goes on by a second whenever somebody looks at it.
struct Ticking(Mutex<SystemTime>);

impl Clock for Ticking {
    fn now(&self) -> SystemTime {
        let mut now = self.0.lock().unwrap();
        *now += Duration::from_secs(1);
        *now
    }
}

impl Site {
    fn ticking(&mut self, limits: ScanLimits, threads: usize) -> Snapshot {
        let (clock, progress) = (Ticking(Mutex::new(self.now)), AtomicU64::new(0));
        scan_with(&self.spec, &mut self.cache, &clock, &ScanControl { limits, ..control(&progress) }, threads)
    }
}

#[test]
fn files_that_there_is_no_time_to_read_have_their_turn_later() {
    let mut site = Site::new();
    for number in 0..9 {
        site.write(format!("{number}"), "x");
    }
    // More than is read in that time; it comes first in tree order, and last all the same.
    fs::File::create(site.path("0")).unwrap().set_len(65 << 20).unwrap();
    let limits =
        ScanLimits { reading: Duration::from_secs(20), holes_in_file: u64::MAX, ..ScanLimits::default() };
    let mut read = 0;
    for _ in 0..20 {
        let snapshot = site.ticking(limits, 1);
        let files = usize::try_from(snapshot.tree.files()).unwrap();
        assert!(files > read || files == 9, "no progress beyond {read}");
        assert_eq!(snapshot.settled, files == 9);
        let unread = words(&snapshot).values().filter(|word| **word == "Unread").count();
        assert_eq!(files + unread, 9, "{:?}", snapshot.tree);
        assert!(unread == 0 || words(&snapshot)["0"] == "Unread");
        read = files;
        if read == 9 {
            break;
        }
    }
    assert_eq!(read, 9);
    // Who asks for all of it to be read gets all of it.
    site.spec.checksum = true;
    assert_eq!(site.ticking(ScanLimits { reading: Duration::ZERO, ..limits }, 1).tree.files(), 9);
}

#[test]
fn a_directory_that_is_not_listed_in_time_is_unusable() {
    let mut site = Site::new();
    for number in 0..50 {
        site.write(format!("{number}"), "");
    }
    let limits = ScanLimits { listing: Duration::from_secs(2), ..ScanLimits::default() };
    let over = site.ticking(limits, 1);
    assert_eq!(
        unusable(&over),
        "its names could not be listed within 2s, 50 entries were: is its disk that slow?"
    );
    assert_eq!(site.ticking(ScanLimits { listing: Duration::from_secs(200), ..limits }, 1).tree.len(), 50);
}

#[test]
fn a_scan_that_nobody_waits_for_ends_and_leaves_the_cache_alone() {
    let mut site = Site::new();
    site.write("a", "a");
    site.snapshot();
    site.write("b", vec![1; 1 << 20]);
    let (now, progress, stop) = (site.now, AtomicU64::new(0), AtomicBool::new(false));
    let control = ScanControl { stop: &stop, ..control(&progress) };
    // Asked for when the first file is hashed, once both are listed.
    let clock = || {
        stop.fetch_or(progress.load(Ordering::Relaxed) > 2, Ordering::Relaxed);
        now
    };
    let stopped = scan(&site.spec, &mut site.cache, &clock, &control);
    assert_eq!(unusable(&stopped), "the scan was broken off");
    assert_eq!(site.cache.len(), 1);
    let listed = scan(&site.spec, &mut site.cache, &move || now, &control);
    assert_eq!(unusable(&listed), "the scan was broken off");
    assert_eq!(site.snapshot().tree.files(), 2);
}

#[test]
fn a_file_under_a_lease_is_busy_and_nothing_waits_for_it() {
    let mut site = Site::new();
    site.write("other.wav", "x");
    let leased = site.write("leased.wav", "x");
    // F_SETLEASE, F_WRLCK; the signal that somebody wants it is ignored.
    let take = r#"$SIG{IO} = "IGNORE"; open(F, "+<", $ARGV[0]) or die; fcntl(F, 1024, 1) or die "lease: $!";
        $| = 1; print "held\n"; <STDIN>"#;
    let mut holder = Command::new("perl")
        .args(["-e", take])
        .arg(leased)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    // The kernel lets an open wait 45 s for the holder.
    assert_eq!(site.seen(), map(&[("leased.wav", "Open"), ("other.wav", "file")]));
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert_eq!(site.seen(), map(&[("leased.wav", "file"), ("other.wav", "file")]));
}
