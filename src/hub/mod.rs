//! The small HTTPS service on Main: its public key, what a new node installs, the store for nodes that follow it, and how the
//! cluster is.
//!
//! [`routes`] has what is served, [`certificate`] the certificate, [`server`] the connections and their limits, [`places`] those of each
//! client, [`metered`] the rate at which it must take what it asked for, [`guest`] what a node may that has shown its pass,
//! [`store`] the store, [`board`] page and metrics, [`door`] who sees them, and [`token`] by which secret. It needs no other secrets,
//! and that one only for who comes from elsewhere, so it need not run as root.

mod board;
pub(crate) mod certificate;
mod door;
pub(crate) mod downloads;
mod guest;
mod metered;
mod places;
pub(crate) mod routes;
pub(crate) mod server;
mod store;
mod token;

pub(crate) use board::Board;
pub(crate) use certificate::Certificate;
pub(crate) use door::{Door, PAUSE};
pub(crate) use routes::Content;
pub(crate) use server::{Limits, Server};
pub(crate) use store::{Member, Store};
pub(crate) use token::TokenFile;

#[cfg(test)]
pub(crate) mod tests;
