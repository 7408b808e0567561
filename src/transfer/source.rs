//! Blobs from a root on this host's disk.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;

use super::read::{Broken, Part, is_sparse, open_file, stream};
use super::{BlobRequest, Signature, Sink, Source};
use crate::disk::{HeldRoot, Stamp};
use crate::model::RelPath;

/// How the files that a scan saw looked then; `None` for all else.
pub type Stamps = Arc<dyn Fn(&RelPath) -> Option<Stamp> + Send + Sync>;

/// Gives files of a root, as they were scanned. Clones give to several sinks at a time.
#[derive(Clone)]
pub struct LocalSource {
    root: HeldRoot,
    stamps: Stamps,
}

impl LocalSource {
    /// Gives what is below `root` and in `stamps`; not what was not scanned or is excluded.
    #[must_use]
    pub fn new(root: HeldRoot, stamps: Stamps) -> LocalSource {
        LocalSource { root, stamps }
    }

    fn open(&self, path: &RelPath) -> Result<(File, Stamp), String> {
        let seen = (self.stamps)(path).ok_or("it is not in the directory")?;
        let (file, stamp) = open_file(&self.root, path.as_bytes()).map_err(|error| error.to_string())?;
        if stamp == seen { Ok((file, stamp)) } else { Err("changed since it was scanned".to_owned()) }
    }
}

impl fmt::Debug for LocalSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSource").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Source for LocalSource {
    fn send(&mut self, requests: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        for (index, request) in requests.iter().enumerate() {
            sink.begin(index)?;
            let sent = match self.open(&request.path) {
                Ok((file, stamp)) => match sink.basis(index).filter(|_| !is_sparse(&file, request.size)) {
                    Some(basis) => send_changed(&file, stamp, request, &basis, sink)?,
                    None => send_open(&file, stamp, request, sink)?,
                },
                Err(why) => Err(why),
            };
            sink.end(sent)?;
        }
        Ok(())
    }
}

/// Streams an open file between the sink's `begin` and `end`; returns what the end shall be.
/// `Err` means that the sink is lost.
pub(super) fn send_open(
    file: &File,
    before: Stamp,
    request: &BlobRequest,
    sink: &mut dyn Sink,
) -> anyhow::Result<Result<(), String>> {
    send_by(file, before, request, &mut || {
        stream(file, request.offset, request.size, &mut |part| match part {
            Part::Data(bytes) => sink.data(bytes).map_err(Broken::Sink),
            Part::Hole(length) => sink.hole(length).map_err(Broken::Sink),
        })
    })
}

/// The same, for a sink that has a basis of it.
fn send_changed(
    file: &File,
    before: Stamp,
    request: &BlobRequest,
    basis: &Signature,
    sink: &mut dyn Sink,
) -> anyhow::Result<Result<(), String>> {
    send_by(file, before, request, &mut || basis.send(file, request, sink))
}

fn send_by(
    file: &File,
    before: Stamp,
    request: &BlobRequest,
    send: &mut dyn FnMut() -> Result<(), Broken>,
) -> anyhow::Result<Result<(), String>> {
    if before.size != request.size {
        return Ok(Err("changed since it was scanned".to_owned()));
    }
    match send() {
        Ok(()) => {}
        Err(Broken::Source(error)) => return Ok(Err(error.to_string())),
        Err(Broken::Sink(error)) => return Err(error),
    }
    match rustix::fs::fstat(file) {
        Ok(after) if Stamp::of(&after) == before => Ok(Ok(())),
        Ok(_) => Ok(Err("changed while it was sent".to_owned())),
        Err(error) => Ok(Err(io::Error::from(error).to_string())),
    }
}
