//! The small HTTPS service on Main: its public key, and what a new node installs.
//!
//! [`routes`] has what is served, [`certificate`] the certificate, [`server`] the connections and their limits, [`places`] those of each
//! client and [`metered`] the rate at which it must take what it asked for. It
//! reads only the public key, so it need not run as root.

pub(crate) mod certificate;
pub(crate) mod downloads;
mod metered;
mod places;
pub(crate) mod routes;
pub(crate) mod server;

pub(crate) use certificate::Certificate;
pub(crate) use routes::Content;
pub(crate) use server::{Limits, Server};

#[cfg(test)]
mod tests;
