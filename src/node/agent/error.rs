//! The errors with which an agent ends a session.

use crate::node::error::{NodeError, NodeErrorKind};
use crate::node::protocol::frame::FrameError;

/// The stream failed, or Main broke the protocol.
pub(super) fn lost(error: impl Into<FrameError>) -> NodeError {
    let detail = match error.into() {
        FrameError::Io(error) => format!("the stream to Main has failed: {error}"),
        FrameError::Broken(rule) => format!("Main broke the protocol: {rule}"),
    };
    NodeError::new(NodeErrorKind::Lost, detail)
}

/// Main broke this rule of the protocol.
pub(super) fn broken(rule: impl Into<String>) -> NodeError {
    lost(FrameError::broken(rule))
}

/// The node does not let this Main do what it asked for.
pub(super) fn refused(detail: impl Into<String>) -> NodeError {
    NodeError::new(NodeErrorKind::Refused, detail)
}
