//! Where stages 2, 4 and 5 run: behind one trait, on this host or on another.
//!
//! [`Local`] is this host. [`Remote`] is an [`Endpoint`] whose host is at the other end of a stream, [`agent`]
//! serves one there. How the stream comes about is [`ssh`]'s business alone.

pub mod accept;
pub mod agent;
mod binding;
mod banner;
pub mod endpoint;
pub mod local;
mod link;
mod protocol;
mod pulse;
pub mod remote;
pub mod ssh;
mod upstream;
mod wire;

pub use accept::Accept;
pub use binding::forget as forget_main;
pub use endpoint::{Endpoint, KeyChange, NodeError, NodeErrorKind};
pub use link::{Ended, Peer};
pub use local::{Local, LocalOptions, ReplaceKey};
pub use protocol::handshake::Hello;
pub use remote::Remote;
pub use wire::widen;

#[cfg(test)]
mod tests;
