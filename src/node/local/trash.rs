//! The trash of this host's directories.

use super::{Local, in_root, sink_lost};
use crate::model::{Entry, RelPath, RelPathBuf};
use crate::node::endpoint::TrashReader;
use crate::node::error::{Attempt, NodeError, Refusal};
use crate::transfer::trash::{TrashEntry, TrashId, TrashSource, Trashed, versions};
use crate::transfer::{BlobRequest, Sink, Source as _};

impl TrashReader for Local {
    fn versions(&mut self, directory: &str, path: &RelPath) -> Result<Attempt<Vec<TrashEntry>>, NodeError> {
        // Where there is no root, there is no trash.
        let Some(held) = &self.scanned(directory)?.snapshot.held else { return Ok(Ok(Vec::new())) };
        Ok(versions(held, path).map_err(|error| {
            Refusal::from(anyhow::Error::from(error).context(in_root(held, "its trash cannot be read")))
        }))
    }

    fn recall(
        &mut self,
        directory: &str,
        id: &TrashId,
        paths: &[RelPathBuf],
    ) -> Result<Vec<Attempt<Entry>>, NodeError> {
        let held = self.held(directory)?;
        let recall = |path: &RelPathBuf| {
            let place = Trashed { id: id.clone(), path: path.clone() };
            let found = place.look(&held, &mut self.owners, &self.options.progress);
            found.map_err(|error| Refusal::from(anyhow::Error::from(error)))
        };
        Ok(paths.iter().map(recall).collect())
    }

    fn send_trashed(
        &mut self,
        directory: &str,
        id: &TrashId,
        wanted: &[BlobRequest],
        sink: &mut dyn Sink,
    ) -> Result<(), NodeError> {
        let mut source = TrashSource::new(self.held(directory)?, id.clone());
        source.send(wanted, sink).map_err(sink_lost)
    }
}
