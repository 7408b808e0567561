//! File contents to a node and from it.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Remote, check_count};
use crate::node::error::NodeError;
use crate::node::protocol::check;
use crate::node::protocol::content::{self, StreamError};
use crate::node::protocol::frame::FrameError;
use crate::node::protocol::message::{Basis, Need, Reply, Request, batches};
use crate::transfer::trash::TrashId;
use crate::transfer::{BlobRequest, MAX_BASES, Received, Signature, Sink, Source};

impl Remote {
    /// Offers blobs to the node and sends it those that it needs.
    pub(super) fn stage_blobs(
        &mut self,
        directory: &str,
        wanted: &[BlobRequest],
        source: &mut dyn Source,
    ) -> Result<Received, NodeError> {
        let mut received = Received::with_capacity(wanted.len());
        for batch in batches(wanted) {
            let request = Request::Stage { directory: directory.to_owned(), wanted: batch.to_vec() };
            let mut reply = self.connection.call(&request)?;
            let mut sent = HashSet::new();
            let answer = loop {
                match reply {
                    Reply::Need(needs) => {
                        let needed = self.connection.check(needed(batch, &needs, &mut sent))?;
                        let signatures = needs.into_iter().map(|need| need.basis).collect();
                        self.connection.send_blobs(source, &needed, signatures)?;
                    }
                    Reply::Received(answer) => break answer,
                    other => return self.connection.unexpected(&other, "results of a stage"),
                }
                reply = self.connection.answer()?;
            };
            self.connection.check(check_count(&answer, batch.len()))?;
            received.extend(answer.into_iter().map(|item| item.map_err(|why| check::text(&why))));
        }
        Ok(received)
    }

    /// Requests blobs of a directory and receives them. Of a blob of which `sink` has a basis, the node sends only what the
    /// basis does not have.
    pub(super) fn request_blobs(
        &mut self,
        directory: &str,
        wanted: &[BlobRequest],
        sink: &mut dyn Sink,
    ) -> Result<(), NodeError> {
        let mut first = 0;
        for batch in batches(wanted) {
            let bases = bases(sink, first, batch.len());
            let mut signatures = vec![None; batch.len()];
            for Basis { index, signature } in &bases {
                signatures[*index as usize] = Some(Arc::clone(signature));
            }
            let request = Request::Send { directory: directory.to_owned(), wanted: batch.to_vec(), bases };
            self.receive_blobs(&request, batch, &mut ShiftedSink { sink: &mut *sink, first, signatures })?;
            first += batch.len();
        }
        Ok(())
    }

    /// Requests blobs from the trash of a directory and receives them.
    pub(super) fn request_trashed_blobs(
        &mut self,
        directory: &str,
        id: &TrashId,
        wanted: &[BlobRequest],
        sink: &mut dyn Sink,
    ) -> Result<(), NodeError> {
        let mut first = 0;
        for batch in batches(wanted) {
            let (directory, id, wanted) = (directory.to_owned(), id.clone(), batch.to_vec());
            let request = Request::SendTrashed { directory, id, wanted };
            let mut sink = ShiftedSink { sink: &mut *sink, first, signatures: Vec::new() };
            self.receive_blobs(&request, batch, &mut sink)?;
            first += batch.len();
        }
        Ok(())
    }

    /// Sends one request for blobs and receives them.
    fn receive_blobs(
        &mut self,
        request: &Request,
        wanted: &[BlobRequest],
        sink: &mut ShiftedSink<'_>,
    ) -> Result<(), NodeError> {
        self.connection.request(request)?;
        match content::receive(wanted, sink, &mut |payload| self.connection.next_frame(payload)) {
            Ok(()) => {}
            Err(StreamError::Frame(error)) => return Err(self.connection.fail(error)),
            Err(StreamError::Own(error)) => return Err(self.connection.abort(&error)),
        }
        match self.connection.answer()? {
            Reply::Sent => Ok(()),
            other => self.connection.unexpected(&other, "the end of blobs"),
        }
    }
}

/// The blobs among `wanted` that the agent needs. No blob is sent twice: `sent` has the indexes of those that were.
fn needed(
    wanted: &[BlobRequest],
    needs: &[Need],
    sent: &mut HashSet<u32>,
) -> Result<Vec<BlobRequest>, FrameError> {
    if needs.iter().filter(|need| need.basis.is_some()).count() > MAX_BASES {
        return Err(FrameError::broken(format!("more than {MAX_BASES} signatures at a time")));
    }
    let needed: Option<Vec<BlobRequest>> = needs
        .iter()
        .map(|need| {
            if need.basis.as_ref().is_some_and(|basis| !basis.is_sound()) {
                return None;
            }
            let blob = wanted.get(need.index as usize).filter(|blob| need.offset <= blob.size)?;
            sent.insert(need.index).then(|| BlobRequest { offset: need.offset, ..blob.clone() })
        })
        .collect();
    needed
        .filter(|needed| !needed.is_empty())
        .ok_or_else(|| FrameError::broken("expected needs of what was offered, got others"))
}

/// The signatures that `sink` has for blobs of a batch, as many as a request may have.
fn bases(sink: &dyn Sink, first: usize, count: usize) -> Vec<Basis> {
    let basis = |(at, index): (usize, u32)| Some(Basis { index, signature: sink.basis(at)? });
    (first..first + count).zip(0..).filter_map(basis).take(MAX_BASES).collect()
}

/// Passes on the blobs of a batch with their indexes in the whole list.
struct ShiftedSink<'a> {
    sink: &'a mut dyn Sink,
    first: usize,
    /// Those that went with the request, by index in the batch: the node may refer to these bases and to no others.
    signatures: Vec<Option<Arc<Signature>>>,
}

impl Sink for ShiftedSink<'_> {
    fn begin(&mut self, index: usize) -> anyhow::Result<()> {
        self.sink.begin(self.first + index)
    }

    fn data(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.sink.data(bytes)
    }

    fn hole(&mut self, length: u64) -> anyhow::Result<()> {
        self.sink.hole(length)
    }

    fn basis(&self, index: usize) -> Option<Arc<Signature>> {
        self.signatures.get(index)?.clone()
    }

    fn copy(&mut self, from: u64, length: u64) -> anyhow::Result<()> {
        self.sink.copy(from, length)
    }

    fn end(&mut self, result: Result<(), String>) -> anyhow::Result<()> {
        self.sink.end(result)
    }
}
