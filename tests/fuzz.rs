//! The targets of `fuzz/`, each with its corpus and some thousand mutations of it: the same ones each time, so
//! that what fails here fails again. `scripts/fuzz` looks further.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Mutations of each target: all of them together take seconds.
const TRIES: usize = 1500;
/// Longest input.
const MOST: usize = 8192;

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new("fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no seeds", dir.display());
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Marsaglia's xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// What breaks parsers.
const BAD: [&[u8]; 14] = [
    &[0],
    &[0xff],
    &[0x80],
    &[0xff, 0xff, 0x7f],
    &[0xff; 9],
    &[0, 0, 0, 0x80],
    &[0xff, 0xff, 0xff, 0xff],
    b"\n",
    b"..",
    b"/",
    b"\x1b[2J",
    b"\"",
    b".xds-sync",
    b"xds_override.conf",
];

/// One of an input's neighbours.
fn mutate(random: &mut Random, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(32)).min(bytes.len());
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.next() as u8,
            2 => drop(bytes.splice(at..at, [random.next() as u8])),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let again = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, again));
            }
            5 => drop(bytes.splice(at..end, BAD[random.below(BAD.len())].iter().copied())),
            6 => {
                let from = random.below(other.len() + 1);
                let to = (from + random.below(64)).min(other.len());
                drop(bytes.splice(at..end, other[from..to].iter().copied()));
            }
            _ => bytes.truncate(at),
        }
    }
    bytes.truncate(MOST);
    bytes
}

fn attempt(name: &str, target: targets::Target, bytes: &[u8], from: &Path) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
        let found = std::env::temp_dir().join(format!("xds-sync-fuzz-{name}"));
        fs::write(&found, bytes).unwrap();
        eprintln!("{name} fails on a neighbour of {}: it is in {}", from.display(), found.display());
        std::panic::resume_unwind(panic);
    }
}

fn try_target(name: &str) {
    let (_, target) = targets::ALL.into_iter().find(|(known, _)| *known == name).unwrap();
    let corpus = corpus(name);
    for (path, bytes) in &corpus {
        attempt(name, target, bytes, path);
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..TRIES {
        let (path, input) = &corpus[random.below(corpus.len())];
        let (_, other) = &corpus[random.below(corpus.len())];
        attempt(name, target, &mutate(&mut random, input, other), path);
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            try_target(stringify!($name));
        })*

        #[test]
        fn every_target_is_tried() {
            let tried = [$(stringify!($name)),*];
            assert!(targets::ALL.iter().map(|(name, _)| *name).eq(tried));
        }
    };
}

targets! { agent remote tree config authorized_keys workers_list state node_toml }

/// What the seeds were recorded from is still spoken and written: else they teach nothing.
#[test]
fn the_recorded_seeds_are_of_this_version() {
    let (main, agent) = targets::record::session();
    let mut recorded = vec![
        ("agent/session".to_owned(), main),
        ("remote/session".to_owned(), agent),
        ("tree/scanned".to_owned(), targets::record::tree()),
    ];
    recorded
        .extend(targets::record::files().into_iter().map(|(name, bytes)| (format!("state/{name}"), bytes)));
    for (name, now) in recorded {
        let seed = Path::new("fuzz/corpus").join(name);
        if std::env::var_os("XDS_SYNC_RECORD").is_some() {
            fs::write(&seed, &now).unwrap();
        }
        // Inodes and times differ, and with them digests; not what is there, and how long it is.
        let then = fs::read(&seed).unwrap();
        assert!(
            then.len() == now.len() && then[..8] == now[..8],
            "{} is of another version: run XDS_SYNC_RECORD=1 cargo test --test fuzz recorded",
            seed.display()
        );
    }
}
