//! Setting up Main and nodes: Main's key pair, its cron job, publishing its public key, and allowing Main to log in
//! on a node.

pub mod authorized_keys;
pub(crate) mod cron;
pub(crate) mod handover;
pub(crate) mod install;
pub mod join;
pub(crate) mod key;
pub mod nodes_file;
pub(crate) mod publish;
pub(crate) mod roots;
pub(crate) mod service;
pub(crate) mod rotate;
pub(crate) mod sshd;
pub(crate) mod takeover;
pub(crate) mod waiting;
