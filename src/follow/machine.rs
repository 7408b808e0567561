//! What a follower needs of its machine, and the store that it finds by that.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::store::{Asker, Objects, StoreError, StoreSpec};

/// Opens a store for a node.
pub type OpenFn = Arc<dyn Fn(&StoreSpec, Asker<'_>) -> Result<Arc<dyn Objects>, StoreError> + Send + Sync>;

/// What a follower needs of its machine.
#[derive(Clone)]
pub struct Machine {
    /// The clock.
    pub now: fn() -> SystemTime,
    /// Makes ULIDs.
    pub new_id: fn() -> String,
    /// The way to its store.
    pub open: OpenFn,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
    }
}

/// A store that a pass has opened.
#[derive(Clone)]
pub(super) struct OpenStore(pub(super) Arc<dyn Objects>);

impl fmt::Debug for OpenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OpenStore").field(&self.0.place()).finish()
    }
}
