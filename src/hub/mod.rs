//! The small HTTPS service on Main: its public key, and what a new node installs.
//!
//! [`routes`] says what is there, [`certificate`] with which certificate, [`server`] how much a caller may
//! ask for. Nothing here needs to be root: it reads the public key alone.

pub mod certificate;
pub mod downloads;
pub mod routes;
pub mod server;

pub use certificate::Certificate;
pub use downloads::Download;
pub use routes::Content;
pub use server::{Limits, Server};

#[cfg(test)]
mod tests;
