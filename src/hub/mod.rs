//! The small HTTPS service on Main: its public key, what a new node installs, and the store for nodes that follow it.
//!
//! [`routes`] has what is served, [`certificate`] the certificate, [`server`] the connections and their limits, [`places`] those of each
//! client, [`metered`] the rate at which it must take what it asked for, [`guest`] what a node may that has shown its pass, and
//! [`store`] the store. It needs no secrets, so it need not run as root.

pub(crate) mod certificate;
pub(crate) mod downloads;
mod guest;
mod metered;
mod places;
pub(crate) mod routes;
pub(crate) mod server;
mod store;

pub(crate) use certificate::Certificate;
pub(crate) use routes::Content;
pub(crate) use server::{Limits, Server};
pub(crate) use store::{Member, Store};

#[cfg(test)]
pub(crate) mod tests;
