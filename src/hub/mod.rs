//! The small HTTPS service on Main: its public key, and what a new node installs.
//!
//! [`routes`] says what is there, [`certificate`] with which certificate, [`server`] how much a caller may
//! ask for. Nothing here needs to be root: it reads the public key alone.

pub(crate) mod certificate;
pub(crate) mod downloads;
pub(crate) mod routes;
pub(crate) mod server;

pub(crate) use certificate::Certificate;
pub(crate) use routes::Content;
pub(crate) use server::{Limits, Server};

#[cfg(test)]
mod tests;
