//! The hosts that stages 2, 4 and 5 run on: behind one trait, this host or another.
//!
//! [`Local`] is this host. [`Remote`] is an [`Endpoint`] whose host is at the other end of a stream, and [`agent`]
//! serves one there. How the stream comes about is the business of [`ssh`] alone.

mod accept;
pub mod agent;
mod banner;
mod binding;
mod byte_stream;
mod connection;
mod endpoint;
pub(crate) mod epoch;
mod error;
mod heartbeat;
mod local;
mod machine;
mod peer;
mod protocol;
mod remote;
mod seen;
pub mod ssh;
mod trashless;

pub use accept::Accept;
pub(crate) use accept::READ_ONLY;
pub(crate) use binding::{forget as forget_main, obeyed as obeyed_main};
pub(crate) use byte_stream::widen;
pub use endpoint::{
    Describe, Description, Endpoint, KeyChange, MainKeys, News, NodeSession, PreparedRoot, RootDescription,
    TrashReader, Watching,
};
pub use epoch::Limit as EpochLimit;
pub use error::{Attempt, NodeError, NodeErrorKind, Refusal};
pub(crate) use local::LocalStaging;
pub use local::{Local, LocalOptions, ReplaceKey};
pub use machine::Machine;
pub(crate) use machine::NAME as MACHINE_FILE;
pub use peer::{Ended, Peer};
pub use protocol::handshake::Hello;
pub use remote::Remote;
pub use seen::{MainSeen, Visit};
pub use trashless::Trashless;

#[cfg(test)]
mod tests;
