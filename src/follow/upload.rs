//! Contents on their way from this node into the store.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{bail, ensure};

use crate::model::Digest;
use crate::store::blobs::pack;
use crate::store::names::Area;
use crate::store::tree::{Part, Parts};
use crate::store::{Objects, PART, StoreError};
use crate::sync::MainStage;
use crate::transfer::{BlobRequest, Received, Sink, Source};

/// The area of this node in the store, as the stage of a Main.
pub(super) struct Uploading {
    pub(super) objects: Arc<dyn Objects>,
    pub(super) area: Area,
    /// Where each content is that has been uploaded in this run.
    pub(super) uploaded: Arc<Mutex<Parts>>,
}

impl MainStage for Uploading {
    fn stage(&self, wanted: &[BlobRequest], source: &mut dyn Source) -> Received {
        let mut sink = Packer {
            to: self,
            wanted,
            results: wanted.iter().map(|_| Err("it was not sent".to_owned())).collect(),
            incoming: None,
            lost: None,
        };
        let sent = source.send(wanted, &mut sink);
        let results = sink.results;
        match sent {
            Ok(()) => results,
            Err(lost) => {
                results.into_iter().map(|one| one.map_err(|why| format!("{why}: {lost:#}"))).collect()
            }
        }
    }
}

/// A content that is arriving.
struct Incoming {
    index: usize,
    hasher: blake3::Hasher,
    length: u64,
    /// What is no part yet.
    held: Vec<u8>,
    parts: Vec<Part>,
}

/// Cuts contents into parts, and puts these into the store as they come.
struct Packer<'a> {
    to: &'a Uploading,
    wanted: &'a [BlobRequest],
    results: Received,
    incoming: Option<Incoming>,
    /// Why nothing more can be put there.
    lost: Option<StoreError>,
}

impl Packer<'_> {
    /// Makes a part of what is held.
    fn flush(&mut self) {
        let Some(incoming) = self.incoming.as_mut().filter(|incoming| !incoming.held.is_empty()) else {
            return;
        };
        let (part, bytes) = pack(&incoming.held);
        incoming.held.clear();
        incoming.parts.push(part);
        if self.lost.is_none()
            && let Part::Stored { object, .. } = part
            && let Err(error) = self.to.objects.create(&self.to.area.object(&object), &bytes)
        {
            self.lost = Some(error);
        }
    }

    fn checked(&self, incoming: &Incoming) -> Result<(), String> {
        let wanted = &self.wanted[incoming.index];
        if let Some(lost) = &self.lost {
            return Err(lost.to_string());
        }
        let digest = Digest(incoming.hasher.finalize().into());
        match (incoming.length, digest) == (wanted.size, wanted.digest) {
            true => Ok(()),
            false => Err("it is not what was scanned".to_owned()),
        }
    }
}

impl Sink for Packer<'_> {
    fn begin(&mut self, index: usize) -> anyhow::Result<()> {
        ensure!(self.incoming.is_none(), "a blob begins before the last one ended");
        ensure!(index < self.wanted.len(), "a blob that was not asked for");
        let hasher = blake3::Hasher::new();
        self.incoming = Some(Incoming { index, hasher, length: 0, held: Vec::new(), parts: Vec::new() });
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(incoming) = &mut self.incoming else { bail!("data outside of a blob") };
            let (taken, left) = rest.split_at(rest.len().min(PART - incoming.held.len()));
            incoming.hasher.update(taken);
            incoming.length += taken.len() as u64;
            incoming.held.extend_from_slice(taken);
            rest = left;
            if incoming.held.len() == PART {
                self.flush();
            }
        }
        Ok(())
    }

    fn hole(&mut self, length: u64) -> anyhow::Result<()> {
        self.flush();
        let Some(incoming) = &mut self.incoming else { bail!("a hole outside of a blob") };
        let size = self.wanted[incoming.index].size;
        ensure!(length <= size.saturating_sub(incoming.length), "a hole beyond the end");
        let zeros = vec![0; 64 << 10];
        let mut left = length;
        while left > 0 {
            let now = usize::try_from(left).unwrap_or(zeros.len()).min(zeros.len());
            incoming.hasher.update(&zeros[..now]);
            left -= now as u64;
        }
        incoming.length += length;
        incoming.parts.push(Part::Zeros(length));
        Ok(())
    }

    fn end(&mut self, result: Result<(), String>) -> anyhow::Result<()> {
        self.flush();
        let Some(incoming) = self.incoming.take() else { bail!("the end of a blob that did not begin") };
        let result = result.and_then(|()| self.checked(&incoming));
        if result.is_ok() {
            let digest = self.wanted[incoming.index].digest;
            let mut uploaded = self.to.uploaded.lock().unwrap_or_else(PoisonError::into_inner);
            uploaded.insert(digest, incoming.parts);
        }
        self.results[incoming.index] = result;
        Ok(())
    }
}
