//! The contents of files, in parts.

use std::fmt;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use zstd::bulk::Decompressor;

use super::ahead::fetch_ahead;
use super::names::Area;
use super::objects::create_or_own;
use super::tree::{Part, Parts};
use super::{Created, Objects, PART, Sha256, StoreError, several};
use crate::transfer::{BlobRequest, Sink, Source};

const LEVEL: i32 = 3;

/// A stretch of content, at most [`PART`] bytes, as an object.
#[must_use]
pub fn pack(plain: &[u8]) -> (Part, Vec<u8>) {
    let plain_len = plain.len() as u64;
    let packed = zstd::bulk::compress(plain, LEVEL).ok().filter(|packed| packed.len() < plain.len());
    let zstd = packed.is_some();
    let bytes = packed.unwrap_or_else(|| plain.to_vec());
    (Part::Stored { object: Sha256::of(&bytes), len: bytes.len() as u64, plain_len, zstd }, bytes)
}

/// The object with this hash and length. `None`: there is none.
pub fn get_object(
    objects: &dyn Objects,
    area: &Area,
    hash: &Sha256,
    len: u64,
) -> Result<Option<Vec<u8>>, StoreError> {
    let name = area.object(hash);
    objects.get(&name, len)?.map(|bytes| verified(objects, &name, (hash, len), bytes)).transpose()
}

/// Puts an object of Main's under its hash. One that is there already is looked at: a disk may have kept less of it.
pub fn put_object(objects: &dyn Objects, hash: &Sha256, bytes: &[u8]) -> Result<(), StoreError> {
    let name = Area::main().object(hash);
    match create_or_own(objects, &name, bytes)? {
        Created::New => Ok(()),
        Created::There => objects.put(&name, bytes),
    }
}

/// The bytes of an object, before anything is made of them.
pub(super) fn verified(
    objects: &dyn Objects,
    name: &str,
    (hash, len): (&Sha256, u64),
    bytes: Vec<u8>,
) -> Result<Vec<u8>, StoreError> {
    if bytes.len() as u64 == len && Sha256::of(&bytes) == *hash {
        return Ok(bytes);
    }
    let place = objects.place();
    Err(StoreError::Tampered(format!("{place}: what lies at {name} is not what its name says")))
}

/// The content that an object is.
fn unpack(part: &Part, bytes: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    let Part::Stored { plain_len, zstd: true, .. } = *part else { return Ok(bytes) };
    let wrong = |why: String| StoreError::Tampered(format!("a part cannot be unpacked: {why}"));
    let most = usize::try_from(plain_len).unwrap_or(PART).min(PART);
    let mut decompressor = Decompressor::new().map_err(|error| wrong(error.to_string()))?;
    let plain = decompressor.decompress(&bytes, most).map_err(|error| wrong(error.to_string()))?;
    if plain.len() as u64 == plain_len { Ok(plain) } else { Err(wrong("it has another length".to_owned())) }
}

/// Gives files out of a store. Clones give to several sinks at a time.
#[derive(Clone)]
pub struct StoreSource {
    objects: Arc<dyn Objects>,
    area: Area,
    parts: Arc<Parts>,
}

impl StoreSource {
    /// Gives the contents of `parts`, whose objects are in `area`.
    #[must_use]
    pub fn new(objects: Arc<dyn Objects>, area: Area, parts: Arc<Parts>) -> StoreSource {
        StoreSource { objects, area, parts }
    }
}

impl fmt::Debug for StoreSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreSource").field("area", &self.area).finish_non_exhaustive()
    }
}

/// One thing to do for a sink.
enum Job {
    Begin(usize),
    /// A part, less its first bytes.
    Part(Part, u64),
    End(Result<(), String>),
}

impl Job {
    /// The object that it needs, and its length.
    fn object(&self) -> Option<(&Sha256, u64)> {
        match self {
            Job::Part(Part::Stored { object, len, .. }, _) => Some((object, *len)),
            _ => None,
        }
    }

    /// How much memory it takes.
    fn size(&self) -> u64 {
        match self {
            Job::Part(Part::Stored { len, plain_len, .. }, _) => len + plain_len,
            _ => 0,
        }
    }
}

/// Jobs in a row whose objects are asked for together.
struct Batch {
    jobs: Range<usize>,
    size: u64,
}

/// Most bytes of the objects of a batch that has several.
const BATCH: u64 = several::LONGEST;

/// Puts jobs into batches, of at most `most` objects each.
fn batches(jobs: &[Job], most: usize) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let (mut objects, mut bytes) = (0, 0);
    for (index, job) in jobs.iter().enumerate() {
        let length = job.object().map(|(_, len)| len);
        let is_full = length.is_some_and(|len| objects > 0 && (objects == most || bytes + len > BATCH));
        match batches.last_mut().filter(|_| !is_full) {
            Some(batch) => {
                batch.jobs.end = index + 1;
                batch.size += job.size();
            }
            None => {
                (objects, bytes) = (0, 0);
                batches.push(Batch { jobs: index..index + 1, size: job.size() });
            }
        }
        objects += usize::from(length.is_some());
        bytes += length.unwrap_or(0);
    }
    batches
}

/// What was fetched for it.
enum Fetched {
    Nothing,
    Plain(Vec<u8>),
    Missing(String),
}

impl StoreSource {
    /// All that is to be done for these requests.
    fn jobs(&self, requests: &[BlobRequest]) -> Vec<Job> {
        let mut jobs = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            jobs.push(Job::Begin(index));
            let parts = self.parts.get(&request.digest).map(|parts| &**parts);
            let parts = if request.size == 0 { Some(&[][..]) } else { parts };
            let Some(parts) = parts else {
                jobs.push(Job::End(Err("it is not in the store".to_owned())));
                continue;
            };
            let mut at = 0;
            for part in parts {
                let end = at + part.plain_len();
                if end > request.offset {
                    jobs.push(Job::Part(*part, request.offset.saturating_sub(at)));
                }
                at = end;
            }
            jobs.push(Job::End(Ok(())));
        }
        jobs
    }

    /// What each of these jobs needs.
    fn fetch(&self, jobs: &[Job]) -> Vec<Result<Fetched, StoreError>> {
        let named = jobs.iter().filter_map(Job::object);
        let named: Vec<(String, u64)> = named.map(|(hash, len)| (self.area.object(hash), len)).collect();
        let wanted: Vec<(&str, u64)> = named.iter().map(|(name, len)| (&**name, *len)).collect();
        let got = match wanted[..] {
            [] => Ok(Vec::new()),
            [(name, len)] => self.objects.get(name, len).map(|got| vec![got]),
            _ => self.objects.get_all(&wanted),
        };
        let mut got =
            got.map(|got| wanted.iter().map(|(name, _)| *name).zip(got).collect::<Vec<_>>().into_iter());
        let fetched = jobs.iter().map(|job| {
            let (Some(object), Job::Part(part, _)) = (job.object(), job) else { return Ok(Fetched::Nothing) };
            match got.as_mut().map_err(|error| error.clone())?.next() {
                Some((name, Some(bytes))) => {
                    let bytes = verified(&*self.objects, name, object, bytes)?;
                    unpack(part, bytes).map(Fetched::Plain)
                }
                _ => Ok(Fetched::Missing(format!("{} is not in the store", self.area.object(object.0)))),
            }
        });
        fetched.collect()
    }
}

impl Source for StoreSource {
    fn send(&mut self, requests: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        let jobs = self.jobs(requests);
        // Why the blob that is being given cannot be given whole.
        let mut missing = None;
        let mut give = |job: &Job, fetched: Result<Fetched, StoreError>| -> anyhow::Result<()> {
            match (job, fetched?) {
                (Job::Begin(index), _) => {
                    missing = None;
                    sink.begin(*index)
                }
                (Job::Part(..), _) if missing.is_some() => Ok(()),
                (Job::Part(_, skip), Fetched::Plain(plain)) => {
                    sink.data(&plain[usize::try_from(*skip)?.min(plain.len())..])
                }
                (Job::Part(..), Fetched::Missing(why)) => {
                    missing = Some(why);
                    Ok(())
                }
                (Job::Part(part, skip), Fetched::Nothing) => sink.hole(part.plain_len() - skip),
                (Job::End(result), _) => sink.end(missing.take().map_or_else(|| result.clone(), Err)),
            }
        };
        let broken = fetch_ahead(
            &batches(&jobs, self.objects.at_once()),
            |batch| batch.size,
            |batch| self.fetch(&jobs[batch.jobs.clone()]),
            |batch, fetched| {
                let mut each = jobs[batch.jobs.clone()].iter().zip(fetched);
                match each.try_for_each(|(job, fetched)| give(job, fetched)) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => ControlFlow::Break(error),
                }
            },
        );
        broken.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Digest, RelPathBuf};
    use crate::store::objects::memory::Memory;

    /// The index of a request, its bytes, and how it ended.
    type Blob = (usize, Vec<u8>, Option<Result<(), String>>);

    /// Keeps what it is given.
    #[derive(Default)]
    pub(crate) struct Kept(pub(crate) Vec<Blob>);

    impl Sink for Kept {
        fn begin(&mut self, index: usize) -> anyhow::Result<()> {
            self.0.push((index, Vec::new(), None));
            Ok(())
        }

        fn data(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
            self.0.last_mut().unwrap().1.extend_from_slice(bytes);
            Ok(())
        }

        fn hole(&mut self, length: u64) -> anyhow::Result<()> {
            let kept = &mut self.0.last_mut().unwrap().1;
            kept.resize(kept.len() + length as usize, 0);
            Ok(())
        }

        fn end(&mut self, result: Result<(), String>) -> anyhow::Result<()> {
            self.0.last_mut().unwrap().2 = Some(result);
            Ok(())
        }
    }

    /// A content in pieces, stored; an empty piece stands for ten zeros.
    fn stored(pieces: &[Vec<u8>]) -> (Arc<Memory>, Arc<Parts>, Vec<u8>, BlobRequest) {
        let objects = Memory::default();
        let (mut parts, mut whole) = (Vec::new(), Vec::new());
        for piece in pieces {
            if piece.is_empty() {
                parts.push(Part::Zeros(10));
                whole.extend([0; 10]);
                continue;
            }
            let (part, bytes) = pack(piece);
            let Part::Stored { object, .. } = part else { unreachable!() };
            objects.put(&Area::main().object(&object), &bytes).unwrap();
            parts.push(part);
            whole.extend_from_slice(piece);
        }
        let digest = Digest(blake3::hash(&whole).into());
        let mut all = Parts::default();
        all.insert(digest, parts);
        let path = RelPathBuf::new(b"a".to_vec()).unwrap();
        let request = BlobRequest { path, digest, size: whole.len() as u64, offset: 0 };
        (Arc::new(objects), Arc::new(all), whole, request)
    }

    fn give(
        objects: &Arc<Memory>,
        parts: &Arc<Parts>,
        requests: &[BlobRequest],
    ) -> (Kept, anyhow::Result<()>) {
        let mut kept = Kept::default();
        let objects: Arc<dyn Objects> = Arc::<Memory>::clone(objects);
        let sent = StoreSource::new(objects, Area::main(), Arc::clone(parts)).send(requests, &mut kept);
        (kept, sent)
    }

    #[test]
    fn what_is_missing_fails_alone() {
        let (objects, parts, whole, request) = stored(&[vec![1; 100], b"abc".to_vec()]);
        let unknown = BlobRequest { digest: Digest([9; 32]), ..request.clone() };
        let (kept, sent) = give(&objects, &parts, &[unknown.clone(), request.clone()]);
        sent.unwrap();
        assert!(kept.0[0].2.as_ref().unwrap().is_err());
        assert_eq!((&kept.0[1].1, &kept.0[1].2), (&whole, &Some(Ok(()))));
        objects.0.lock().unwrap().pop_first();
        let (kept, sent) = give(&objects, &parts, &[request, unknown]);
        sent.unwrap();
        assert!(kept.0[0].2.as_ref().unwrap().as_ref().unwrap_err().contains("is not in the store"));
        assert_eq!(kept.0.len(), 2);
    }

    #[test]
    fn small_objects_are_asked_for_together_and_large_ones_alone() {
        let job = |len: u64| {
            let part = Part::Stored { object: Sha256([0; 32]), len, plain_len: len, zstd: false };
            [Job::Begin(0), Job::Part(part, 0), Job::End(Ok(()))]
        };
        let jobs: Vec<Job> = [1, 2, 3, BATCH, 4, 5, BATCH - 8, 9].into_iter().flat_map(job).collect();
        let lengths = |most| {
            let of = |batch: &Batch| {
                jobs[batch.jobs.clone()].iter().filter_map(Job::object).map(|(_, len)| len).collect()
            };
            let all = batches(&jobs, most);
            assert_eq!(
                all.iter().flat_map(|batch| batch.jobs.clone()).collect::<Vec<_>>(),
                (0..jobs.len()).collect::<Vec<_>>()
            );
            all.iter().map(of).collect::<Vec<Vec<u64>>>()
        };
        assert_eq!(lengths(3), [vec![1, 2, 3], vec![BATCH], vec![4, 5], vec![BATCH - 8], vec![9]]);
        assert_eq!(lengths(2)[0], [1, 2]);
        assert!(lengths(1).iter().all(|lengths| lengths.len() == 1));
        assert!(batches(&[], 3).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn content_comes_back_from_any_offset(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            at in any::<proptest::sample::Index>(),
        ) {
            let (objects, parts, whole, request) = stored(&pieces);
            let offset = at.index(whole.len() + 1);
            let (kept, sent) = give(&objects, &parts, &[BlobRequest { offset: offset as u64, ..request }]);
            sent.unwrap();
            prop_assert_eq!(&kept.0[0].1, &whole[offset..]);
            prop_assert_eq!(&kept.0[0].2, &Some(Ok(())));
        }

        #[test]
        fn any_flipped_bit_is_refused(
            piece in prop::collection::vec(0..4u8, 1..200),
            at in any::<proptest::sample::Index>(),
            bit in 0..8u32,
        ) {
            let (objects, parts, _, request) = stored(&[piece]);
            {
                let mut all = objects.0.lock().unwrap();
                let bytes = all.values_mut().next().unwrap();
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            let (kept, sent) = give(&objects, &parts, &[request]);
            let error = sent.unwrap_err();
            prop_assert!(matches!(error.downcast_ref(), Some(StoreError::Tampered(_))), "{:#}", error);
            prop_assert!(kept.0[0].1.is_empty());
        }
    }
}
