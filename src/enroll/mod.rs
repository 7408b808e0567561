//! How hosts come to know each other: Main's key pair, its cron job, where its public key is published, and
//! how a node lets Main in.

pub mod authorized_keys;
pub mod cron;
pub mod discover;
pub mod fetch;
pub mod handover;
pub mod install;
pub mod join;
pub mod key;
pub mod nodes_file;
pub mod publish;
pub(crate) mod roots;
pub mod rotate;
pub(crate) mod takeover;
#[cfg(test)]
mod test_tls;
pub mod workers_list;
