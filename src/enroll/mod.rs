//! How hosts come to know each other: Main's key pair, its cron job, where its public key is published, and
//! how a node lets Main in.

pub mod authorized_keys;
pub(crate) mod cron;
pub(crate) mod handover;
pub(crate) mod install;
pub mod join;
pub(crate) mod key;
pub mod nodes_file;
pub(crate) mod publish;
pub(crate) mod roots;
pub(crate) mod rotate;
mod ssh_keygen;
pub(crate) mod takeover;
