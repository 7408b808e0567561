//! Where stages 2, 4 and 5 run: behind one trait, on this host or on another.

pub mod endpoint;
pub mod local;

pub use endpoint::{Endpoint, NodeError, NodeErrorKind};
pub use local::{Local, LocalOptions};
