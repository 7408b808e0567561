//! File contents to a node and from it.

use std::collections::HashSet;

use super::{Remote, check_count};
use crate::node::error::NodeError;
use crate::node::protocol::check;
use crate::node::protocol::content::{self, StreamError};
use crate::node::protocol::frame::FrameError;
use crate::node::protocol::message::{Need, Reply, Request, batches};
use crate::transfer::{BlobRequest, Received, Sink, Source};

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

    /// Requests blobs and receives them.
    pub(super) fn receive_blobs(
        &mut self,
        wanted: &[BlobRequest],
        sink: &mut dyn Sink,
        request: impl Fn(Vec<BlobRequest>) -> Request,
    ) -> Result<(), NodeError> {
        let mut first = 0;
        for batch in batches(wanted) {
            self.connection.request(&request(batch.to_vec()))?;
            let mut sink = ShiftedSink { sink: &mut *sink, first };
            let received =
                content::receive(batch, &mut sink, &mut |payload| self.connection.next_frame(payload));
            match received {
                Ok(()) => {}
                Err(StreamError::Frame(error)) => return Err(self.connection.fail(error)),
                Err(StreamError::Own(error)) => return Err(self.connection.abort(&error)),
            }
            match self.connection.answer()? {
                Reply::Sent => {}
                other => return self.connection.unexpected(&other, "the end of blobs"),
            }
            first += batch.len();
        }
        Ok(())
    }
}

/// The blobs among `wanted` that the agent needs. No blob is sent twice: `sent` has the indexes of those that were.
fn needed(
    wanted: &[BlobRequest],
    needs: &[Need],
    sent: &mut HashSet<u32>,
) -> Result<Vec<BlobRequest>, FrameError> {
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

/// Passes on the blobs of a batch with their indexes in the whole list.
struct ShiftedSink<'a> {
    sink: &'a mut dyn Sink,
    first: usize,
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

    fn end(&mut self, result: Result<(), String>) -> anyhow::Result<()> {
        self.sink.end(result)
    }
}
