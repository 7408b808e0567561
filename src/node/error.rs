//! How a call to a host fails: the session is over ([`NodeError`]), or the host declines ([`Refusal`]).

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::model::escape::plain;

/// Why a session is over, and with it the host's part in a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeError {
    /// What callers choose by: it decides the node's state and the exit code.
    pub kind: NodeErrorKind,
    /// What happened and what to do about it, in one line.
    pub detail: String,
    /// The epoch that the node knows, where it refuses a Main for its epoch.
    pub epoch: Option<u64>,
}

/// The classes of [`NodeError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeErrorKind {
    /// There is no connection: name, route or port.
    Unreachable,
    /// The node's sshd or agent refuses this Main: its key, host key, epoch, or a root that is not accepted.
    Refused,
    /// `xds-sync` is not installed on the node.
    AgentMissing,
    /// Both ends speak, but have no version of the protocol in common.
    Incompatible,
    /// The node was silent for too long.
    Timeout,
    /// The connection ended, or the peer broke the protocol.
    Lost,
}

impl NodeError {
    /// An error of this kind.
    pub fn new(kind: NodeErrorKind, detail: impl Into<String>) -> NodeError {
        NodeError { kind, detail: plain(&detail.into()), epoch: None }
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for NodeError {}

/// Why a host did not do one thing that it was asked for. The session goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    detail: String,
    /// The system's error number, where the system refused. It is the same on every Linux host.
    errno: Option<i32>,
}

/// What came of one thing that a host was asked for.
pub type Attempt<T> = Result<T, Refusal>;

impl Refusal {
    /// A refusal with this reason, in one line.
    pub fn new(detail: impl Into<String>) -> Refusal {
        Refusal { detail: plain(&detail.into()), errno: None }
    }

    /// The class of the system's error, where the system refused.
    #[must_use]
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        self.errno.map(|errno| io::Error::from_raw_os_error(errno).kind())
    }

    /// The same refusal with its reason changed, e.g. cut or escaped.
    pub(super) fn map_detail(self, change: impl FnOnce(&str) -> String) -> Refusal {
        Refusal { detail: change(&self.detail), ..self }
    }
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Refusal {
        let errno = error.chain().find_map(|cause| {
            let io = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
            io.or_else(|| cause.downcast_ref::<rustix::io::Errno>().map(|errno| errno.raw_os_error()))
        });
        Refusal { detail: plain(&format!("{error:#}")), errno }
    }
}

impl From<Refusal> for String {
    fn from(refusal: Refusal) -> String {
        refusal.detail
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_the_kind_of_the_systems_error() {
        let full = io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
        for (error, kind) in [
            (anyhow::Error::new(full).context("/srv").context("its marker"), true),
            (anyhow::Error::new(rustix::io::Errno::NOSPC).context("/srv"), true),
            (anyhow::anyhow!("its marker is gone"), false),
        ] {
            let text = plain(&format!("{error:#}"));
            let refusal = Refusal::from(error);
            assert_eq!(refusal.io_kind(), kind.then_some(io::ErrorKind::StorageFull), "{refusal}");
            assert_eq!(refusal.to_string(), text);
        }
    }
}
