//! Main's end of a run's edges: its own disk, or what stands for it where a run is made without Main.

use std::sync::Arc;

use crate::model::Meta;
use crate::node::{Endpoint, Local, LocalStaging, NodeError, TrashReader};
use crate::transfer::{BlobRequest, Received, Source};

/// Makes a source of a directory's blobs; each node that is served has one of its own.
pub type BlobSource = Arc<dyn Fn() -> Box<dyn Source + Send> + Send + Sync>;

/// What a run asks of Main beside what it asks of every host. Nodes are served side by side, and none of them may keep the
/// others from Main: what takes long is done by values that are taken out of it.
pub trait MainSide: Endpoint + TrashReader {
    /// The contents of a directory as it was scanned.
    fn source(&self, directory: &str) -> Result<BlobSource, NodeError>;

    /// The stage of a prepared directory. It stays valid when the directory is scanned or prepared again.
    fn staging(&self, directory: &str) -> Result<Box<dyn MainStage>, NodeError>;

    /// Mode and owner of a scanned directory's root, if there is one.
    fn root_meta(&mut self, directory: &str) -> Option<Meta>;

    /// Whether the tree of a scanned directory can be had in no time. One that cannot is asked for where it is needed.
    fn has_tree_at_hand(&self, _directory: &str) -> bool {
        true
    }
}

/// Receives contents without holding up anybody else who needs Main.
pub trait MainStage: Send {
    /// See [`Endpoint::stage`]. No two callers may want the same content at the same time.
    fn stage(&self, wanted: &[BlobRequest], source: &mut dyn Source) -> Received;
}

impl MainSide for Local {
    fn source(&self, directory: &str) -> Result<BlobSource, NodeError> {
        let source = Local::source(self, directory)?;
        Ok(Arc::new(move || Box::new(source.clone())))
    }

    fn staging(&self, directory: &str) -> Result<Box<dyn MainStage>, NodeError> {
        Ok(Box::new(Local::staging(self, directory)?))
    }

    fn root_meta(&mut self, directory: &str) -> Option<Meta> {
        Local::root_meta(self, directory)
    }
}

impl MainStage for LocalStaging {
    fn stage(&self, wanted: &[BlobRequest], source: &mut dyn Source) -> Received {
        LocalStaging::stage(self, wanted, source)
    }
}
