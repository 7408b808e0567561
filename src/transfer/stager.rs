//! Blobs as they arrive → the stage.

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::Scope;

use anyhow::{bail, ensure};

use super::blobs::{publish, remove_partial};
use super::durable::Unsynced;
use super::own::OwnDir;
use super::partial::Partial;
use super::read::{Broken, Part, stream};
use super::room::{is_full, is_out_of_room};
use super::writers::{SMALL, Writers};
use super::{BlobRequest, Received, Signature, Sink};
use crate::model::Digest;

/// Takes blobs into a stage.
///
/// What is cut off stays there as `<digest>.part`, for a later run to go on with, unless it was so short that it was
/// held until it is whole. What arrives wrong is removed at once; so is what does not fit on the disk, which fails
/// alone.
#[derive(Debug)]
pub(super) struct Stager<'a> {
    own: &'a OwnDir,
    stage: BorrowedFd<'a>,
    requests: &'a [BlobRequest],
    /// What stands at the paths of the requested blobs.
    bases: Vec<Option<Basis>>,
    /// Who writes small blobs, if there are many.
    writers: Option<Writers<'a>>,
    incoming: Option<Incoming>,
    results: Received,
    /// Verified, and not on disk yet.
    verified: Vec<usize>,
    unsynced: Arc<Unsynced>,
}

/// A basis of a blob, on this host.
#[derive(Debug)]
pub(super) struct Basis {
    pub(super) file: File,
    pub(super) signature: Arc<Signature>,
}

/// The blob that is arriving.
#[derive(Debug)]
struct Incoming {
    index: usize,
    /// Where its bytes go, or why nothing more of it is taken.
    target: Result<Target, String>,
}

#[derive(Debug)]
enum Target {
    /// They are written as they come.
    Partial(Partial),
    /// They are held until a writer takes the whole.
    Writers(Vec<u8>),
}

impl Target {
    /// How many bytes of the blob there are.
    fn length(&self) -> u64 {
        match self {
            Target::Partial(partial) => partial.length(),
            Target::Writers(held) => held.len() as u64,
        }
    }
}

impl<'a> Stager<'a> {
    /// Will take the requested blobs into the stage of `own`.
    pub(super) fn new(own: &'a OwnDir, requests: &'a [BlobRequest]) -> Stager<'a> {
        Stager {
            own,
            stage: own.stage(),
            requests,
            bases: Vec::new(),
            writers: None,
            incoming: None,
            results: requests.iter().map(|_| Err("it was not sent".to_owned())).collect(),
            verified: Vec::new(),
            unsynced: Arc::default(),
        }
    }

    /// With the basis of each requested blob, where there is one.
    pub(super) fn with_bases(self, bases: Vec<Option<Basis>>) -> Stager<'a> {
        Stager { bases, ..self }
    }

    /// With threads that write small blobs.
    pub(super) fn with_writers(self, scope: &'a Scope<'a, '_>) -> Stager<'a> {
        let writers = Writers::start(scope, self.own, self.requests, &self.unsynced);
        Stager { writers, ..self }
    }

    /// The blob of `requests[index]` follows from `offset` on, which its partial file must reach already.
    pub(super) fn begin_at(&mut self, index: usize, offset: u64) -> anyhow::Result<()> {
        ensure!(self.incoming.is_none(), "a blob begins before the last one ended");
        let Some(request) = self.requests.get(index) else {
            bail!("expected one of {} requested blobs, got number {index}", self.requests.len())
        };
        let is_held = self.writers.is_some()
            && offset == 0
            && request.size <= SMALL
            && self.bases.get(index).is_none_or(Option::is_none);
        let full = is_full(self.own, request.size.saturating_sub(offset));
        let target = if let Some(why) = full {
            Err(why)
        } else if is_held {
            Ok(Target::Writers(Vec::with_capacity(usize::try_from(request.size).unwrap_or(0))))
        } else {
            let partial = match offset {
                0 => Partial::create(self.stage, &request.digest),
                _ => Partial::resume(self.own, &request.digest, offset),
            };
            partial.map(Target::Partial).map_err(|error| error.to_string())
        };
        self.incoming = Some(Incoming { index, target });
        Ok(())
    }

    /// What was verified is on disk and under its name when this returns.
    pub(super) fn finish(mut self) -> Received {
        for (index, result) in self.writers.take().into_iter().flat_map(Writers::finish).flatten() {
            if result.is_ok() {
                self.verified.push(index);
            }
            self.results[index] = result;
        }
        if self.verified.is_empty() {
            return self.results;
        }
        let digests: Vec<&Digest> = self.verified.iter().map(|index| &self.requests[*index].digest).collect();
        let published = publish(self.own, &digests, &self.unsynced);
        if published.as_ref().is_err_and(is_out_of_room) {
            // Others need the room at once.
            digests.iter().for_each(|digest| remove_partial(self.stage, digest));
        }
        let result = published.map_err(|error| format!("could not be written to disk: {error}"));
        for index in &self.verified {
            self.results[*index] = result.clone();
        }
        self.results
    }

    /// Takes in what has arrived; `None` where a writer says how that went.
    fn complete(&mut self, incoming: Incoming, sent: Result<(), String>) -> Option<Result<(), String>> {
        match (sent.and(incoming.target), &self.writers) {
            (Ok(Target::Writers(blob)), Some(writers)) => {
                writers.write(incoming.index, blob);
                None
            }
            (Ok(Target::Writers(_)), None) => Some(Err("there is no thread to write it".to_owned())),
            (Ok(Target::Partial(partial)), _) => {
                let verified = partial.verified(&self.requests[incoming.index]);
                Some(verified.map(|file| self.unsynced.add(&file)))
            }
            (Err(why), _) => Some(Err(why)),
        }
    }

    /// Writes what is held for the writers now: they cannot make holes.
    fn stop_holding(&mut self) {
        let Some(incoming) = &mut self.incoming else { return };
        let Ok(Target::Writers(held)) = &mut incoming.target else { return };
        let held = std::mem::take(held);
        let partial = Partial::create(self.stage, &self.requests[incoming.index].digest);
        incoming.target = partial.map(Target::Partial).map_err(|error| error.to_string());
        self.take(&held);
    }

    /// The next bytes of the blob that is arriving.
    fn take(&mut self, bytes: &[u8]) {
        let Some(incoming) = &mut self.incoming else { return };
        match &mut incoming.target {
            Ok(Target::Writers(held)) => held.extend_from_slice(bytes),
            Ok(Target::Partial(partial)) => {
                if let Err(error) = partial.write(bytes) {
                    incoming.target = Err(error.to_string());
                    // Others may fit into the room that it took.
                    remove_partial(self.stage, &self.requests[incoming.index].digest);
                }
            }
            Err(_) => {}
        }
    }
}

impl Incoming {
    /// Whether `length` more bytes may follow; takes nothing more of it where they may not.
    fn may_take(&mut self, length: u64, size: u64) -> bool {
        let Ok(target) = &self.target else { return false };
        let fits = length <= size.saturating_sub(target.length());
        if !fits {
            self.target = Err(format!("expected {size} bytes, got more"));
        }
        fits
    }
}

impl Sink for Stager<'_> {
    fn begin(&mut self, index: usize) -> anyhow::Result<()> {
        let offset = self.requests.get(index).map_or(0, |request| request.offset);
        self.begin_at(index, offset)
    }

    fn data(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let Some(incoming) = &mut self.incoming else { bail!("data outside of a blob") };
        let size = self.requests[incoming.index].size;
        if incoming.may_take(bytes.len() as u64, size) {
            self.take(bytes);
            self.own.progress().fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn hole(&mut self, length: u64) -> anyhow::Result<()> {
        self.stop_holding();
        let Some(incoming) = &mut self.incoming else { bail!("a hole outside of a blob") };
        let size = self.requests[incoming.index].size;
        if incoming.may_take(length, size)
            && let Ok(Target::Partial(partial)) = &mut incoming.target
        {
            partial.skip(length);
        }
        Ok(())
    }

    fn basis(&self, index: usize) -> Option<Arc<Signature>> {
        Some(Arc::clone(&self.bases.get(index)?.as_ref()?.signature))
    }

    fn copy(&mut self, from: u64, length: u64) -> anyhow::Result<()> {
        let Some(index) = self.incoming.as_ref().map(|incoming| incoming.index) else {
            bail!("a copy outside of a blob")
        };
        let Some(basis) = self.bases.get_mut(index).and_then(Option::take) else {
            bail!("a copy of what this host has not")
        };
        let copied = stream(&basis.file, from, from.saturating_add(length), &mut |part| match part {
            Part::Data(bytes) => self.data(bytes).map_err(Broken::Sink),
            Part::Hole(length) => self.hole(length).map_err(Broken::Sink),
        });
        self.bases[index] = Some(basis);
        match copied {
            Err(Broken::Sink(error)) => return Err(error),
            Err(Broken::Source(error)) => {
                if let Some(incoming) = &mut self.incoming {
                    incoming.target = Err(format!("its basis {error}"));
                }
            }
            Ok(()) => {}
        }
        Ok(())
    }

    fn end(&mut self, sent: Result<(), String>) -> anyhow::Result<()> {
        let Some(incoming) = self.incoming.take() else { bail!("the end of a blob that did not begin") };
        let index = incoming.index;
        let Some(result) = self.complete(incoming, sent) else { return Ok(()) };
        match &result {
            Ok(()) => self.verified.push(index),
            // Nothing can be built on it: the next run would have to find out anew that it is wrong.
            Err(_) => remove_partial(self.stage, &self.requests[index].digest),
        }
        self.results[index] = result;
        Ok(())
    }
}
