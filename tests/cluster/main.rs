//! Stories of whole clusters: Main and nodes with real sshd, syslog and Asterisk, one story per file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

#[path = "../support/mod.rs"]
mod support;

mod bed;
mod budgets;
mod confirmed;
mod conflicts;
mod crash;
mod damage;
mod disks;
mod discovery;
mod failures;
mod first_run;
mod first_sync;
mod follow;
mod from_lsyncd;
mod guards;
mod history;
mod install;
mod join;
mod panics;
mod places;
mod points;
mod pushed;
mod recordings;
mod reloads;
mod roots;
mod slow_node;
mod terminal;
mod told;
mod watch;
mod whose_fault;
