//! How hosts come to know each other: Main's key pair and cron job, and what lets Main in on a node.

pub mod authorized_keys;
pub mod cron;
pub mod fetch;
pub mod join;
pub mod key;
