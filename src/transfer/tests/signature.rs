//! Changed files: only what their basis has not is sent.

use std::fs;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::{BlobRequest, LocalSource, Signature, Sink, Source};
use super::*;

/// Bytes that nobody compresses or finds twice.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Counts what a source gives.
struct Counted<'a> {
    source: LocalSource,
    sent: &'a mut u64,
}

impl Source for Counted<'_> {
    fn send(&mut self, wanted: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        self.source.send(wanted, &mut Counter { sink, sent: self.sent })
    }
}

struct Counter<'a> {
    sink: &'a mut dyn Sink,
    sent: &'a mut u64,
}

impl Sink for Counter<'_> {
    fn begin(&mut self, index: usize) -> anyhow::Result<()> {
        self.sink.begin(index)
    }
    fn data(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        *self.sent += bytes.len() as u64;
        self.sink.data(bytes)
    }
    fn hole(&mut self, length: u64) -> anyhow::Result<()> {
        self.sink.hole(length)
    }
    fn basis(&self, index: usize) -> Option<Arc<Signature>> {
        self.sink.basis(index)
    }
    fn copy(&mut self, from: u64, length: u64) -> anyhow::Result<()> {
        self.sink.copy(from, length)
    }
    fn end(&mut self, result: Result<(), String>) -> anyhow::Result<()> {
        self.sink.end(result)
    }
}

/// How many bytes of `new` cross to a host that has `old` in its place.
fn sent(old: &[u8], new: &[u8]) -> u64 {
    let (from, to) = (World::new(), World::new());
    from.write("song", new).scan();
    to.write("song", old).scan();
    let mut sent = 0;
    let wanted = [BlobRequest { path: path("song"), digest: digest(new), size: new.len() as u64, offset: 0 }];
    let received = to.stage(&wanted, &mut Counted { source: source_of(&from), sent: &mut sent });
    assert_eq!(received, [Ok(())]);
    assert_eq!(fs::read(to.in_stage(wanted[0].digest.to_string())).unwrap(), new);
    sent
}

#[test]
fn only_what_changed_is_sent() {
    let old = noise(1, 4 << 20);
    let chunk = 5 * 16 * 1024;
    let edited = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut new = old.clone();
        edit(&mut new);
        new
    };
    for (name, new, most) in [
        ("touched", old.clone(), 0),
        ("one byte", edited(&|new| new[2 << 20] ^= 1), 2 * chunk),
        ("one byte more at the beginning", edited(&|new| new.insert(0, 7)), 2 * chunk),
        ("a chunk less in the middle", edited(&|new| drop(new.drain(1 << 20..1_100_000))), 2 * chunk),
        ("more at the end", edited(&|new| new.extend(noise(2, 1000))), 2 * chunk),
        ("cut short", edited(&|new| new.truncate(3 << 20)), chunk),
        ("another one", noise(3, 4 << 20), 4 << 20),
    ] {
        let sent = sent(&old, &new);
        assert!(sent <= most as u64, "{name}: {sent} of {} bytes", new.len());
    }
}

/// Several threads cut a file as long as this.
#[test]
fn moved_bytes_are_found_again_behind_every_segment() {
    let old = noise(4, 130 << 20);
    let mut new = old.clone();
    new.insert(0, 7);
    let sent = sent(&old, &new);
    // At the beginning, and at two borders: each time what is there, and until the cuts are found again.
    assert!(sent <= 3 * 2 * 5 * 16 * 1024, "{sent}");
}

#[test]
fn a_basis_that_changes_meanwhile_spoils_nothing() {
    let (from, to) = (World::new(), World::new());
    let (old, mut new) = (noise(1, 2 << 20), noise(1, 2 << 20));
    new[1 << 20] ^= 1;
    from.write("song", &new).scan();
    to.write("song", &old).scan();
    let wanted =
        [BlobRequest { path: path("song"), digest: digest(&new), size: new.len() as u64, offset: 0 }];
    /// Writes into the basis before anything of it is copied.
    struct Late<'a>(LocalSource, &'a World);
    impl Source for Late<'_> {
        fn send(&mut self, wanted: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
            fs::write(self.1.at("song"), "short").unwrap();
            self.0.send(wanted, sink)
        }
    }
    let received = to.stage(&wanted, &mut Late(source_of(&from), &to));
    assert!(received[0].is_err(), "what is not whole is not staged");
    assert!(!to.in_stage(wanted[0].digest.to_string()).exists());
    // Sent whole, as nothing of it stands there any more.
    to.scan();
    let mut sent = 0;
    let received = to.stage(&wanted, &mut Counted { source: source_of(&from), sent: &mut sent });
    assert_eq!((received, sent), (vec![Ok(())], new.len() as u64));
}

#[test]
fn what_was_cut_goes_on_with_what_changed_behind() {
    let (from, to) = (World::new(), World::new());
    let old = noise(1, 4 << 20);
    let mut new = old.clone();
    new[100] ^= 1;
    from.write("song", &new).scan();
    to.write("song", &old).scan();
    let wanted =
        [BlobRequest { path: path("song"), digest: digest(&new), size: new.len() as u64, offset: 0 }];
    fs::write(to.in_stage(format!("{}.part", wanted[0].digest)), &new[..1_234_567]).unwrap();
    let mut sent = 0;
    let received = to.stage(&wanted, &mut Counted { source: source_of(&from), sent: &mut sent });
    assert_eq!(received, [Ok(())]);
    assert!(sent <= 5 * 16 * 1024, "{sent}: the cuts are found again");
}

#[test]
fn a_signature_of_no_file_is_refused() {
    #[derive(serde::Serialize)]
    struct Raw(u32, Vec<(u32, [u8; 16])>);
    let sound = |average: u32, lengths: &[u32]| {
        let raw = Raw(average, lengths.iter().map(|length| (*length, [0; 16])).collect());
        let chunks: Signature = postcard::from_bytes(&postcard::to_stdvec(&raw).unwrap()).unwrap();
        chunks.is_sound()
    };
    assert!(sound(4 * 1024, &[4 * 1024; 256]));
    for (average, lengths) in [
        (0, vec![1 << 20]),
        (1, vec![1 << 20]),
        (100_000, vec![1 << 20]),
        (1 << 12, vec![u32::MAX; 100]),
        (1 << 31, vec![1 << 20]),
        (1 << 12, vec![1; 1 << 20]),
    ] {
        assert!(!sound(average, &lengths), "{average}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever was done to a file, what arrives is what was sent.
    #[test]
    fn any_edit_arrives(edits in proptest::collection::vec((any::<u32>(), 0_usize..300_000, 0_usize..300_000, any::<u64>()), 0..5)) {
        let old = noise(9, 3 << 20);
        let mut new = old.clone();
        for (at, removed, inserted, seed) in edits {
            let at = at as usize % (new.len() + 1);
            let end = (at + removed).min(new.len());
            new.splice(at..end, noise(seed, inserted));
        }
        prop_assert!(sent(&old, &new) <= new.len() as u64);
    }
}
