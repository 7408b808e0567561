//! How a node is, as it tells Main: signed by the node, in its own area of the store.

use serde::{Deserialize, Serialize};

use super::envelope::Signed;

/// What a node tells of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeStatus {
    /// The format.
    pub v: u32,
    /// The store's ULID.
    pub cluster: String,
    /// The node's name.
    pub node: String,
    /// When, in RFC 3339.
    pub time: String,
    /// The node's xds-sync.
    pub agent: String,
    /// `starting`, `current`, `degraded`, `stale` or `refused`, as in its `follow.json`.
    pub state: String,
    /// The publication that it has, wholly; 0: none.
    pub epoch: u64,
    pub seq: u64,
    /// Its last upload.
    pub uploaded: u64,
    /// Why it is not current.
    pub error: Option<String>,
}

impl Signed for NodeStatus {
    const NAMESPACE: &'static str = "xds-sync-node@v1";
    const WHAT: &'static str = "the status";
}
