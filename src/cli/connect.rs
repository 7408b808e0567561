//! The way to Main's own disk, and to the nodes.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::config::{Config, Node};
use crate::node::{Accept, Endpoint, Hello, NodeError, NodeErrorKind};
use crate::report::NodeState;
use crate::state::{Identity, StateDir};
use crate::sync::Connect;

/// Reaches nodes over ssh.
pub(super) struct Ssh<'a> {
    pub(super) config: &'a Config,
    /// Who this Main is.
    pub(super) identity: Identity,
    /// Whether the nodes are to be told that nothing will be changed.
    pub(super) dry_run: bool,
}

impl Connect for Ssh<'_> {
    fn connect(&self, node: &Node, run: &str) -> Result<Box<dyn Endpoint>, NodeError> {
        let _hello = Hello {
            main: self.identity.id.clone(),
            epoch: self.identity.epoch,
            name: self.config.main.name.clone(),
            run: run.to_owned(),
            dry_run: self.dry_run,
        };
        Err(NodeError::new(NodeErrorKind::Unreachable, format!("{}: no ssh yet", node.address)))
    }
}

/// Main's own disk.
pub(super) fn main(_state: &StateDir) -> Box<dyn Endpoint> {
    todo!("the local endpoint is not there yet")
}

/// A node's own disk, as its agent serves it.
pub(super) fn node_disk(_accept: &Accept, _progress: &Arc<AtomicU64>) -> Box<dyn Endpoint> {
    todo!("the local endpoint is not there yet")
}

/// The state that an error puts a node in.
pub(super) fn state_of(kind: NodeErrorKind) -> NodeState {
    match kind {
        NodeErrorKind::Unreachable | NodeErrorKind::Lost => NodeState::Unreachable,
        NodeErrorKind::Refused => NodeState::Refused,
        NodeErrorKind::AgentMissing => NodeState::AgentMissing,
        NodeErrorKind::Incompatible => NodeState::Incompatible,
        NodeErrorKind::Timeout => NodeState::Timeout,
    }
}
