//! The Debian package, from nothing to a running cluster and back: on hosts that are a clean Debian each, the package
//! is built, installed, used as docs/operations.md shows it, and purged.
//!
//! What is typed is printed with what came of it: `cargo test --test package -- --nocapture`.
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

mod follow;
mod made;
mod new_cluster;
mod service;
mod xivo;
