//! Making a Main, and making it known: its key pair and its cron job.

pub mod cron;
pub mod install;
pub mod key;
pub mod nodes_file;
