//! Whole clusters by chance: administrators at work, nodes that come and go, processes that are killed, disks that
//! fail. The real planner, sessions, protocol, agents and disks run; what must never be is looked for after every step.
//!
//! A seed that fails is printed, and made as short as it can be:
//! `XDS_SIM_SEED=4711 cargo test --test simulation -- --nocapture`.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout
)]

#[path = "simulation/check.rs"]
mod check;
#[path = "simulation/daemon.rs"]
mod daemon;
#[path = "simulation/disk.rs"]
mod disk;
#[path = "simulation/history.rs"]
mod history;
#[path = "simulation/named.rs"]
mod named;
#[path = "simulation/net.rs"]
mod net;
#[path = "simulation/random.rs"]
mod random;
#[path = "simulation/script.rs"]
mod script;
#[path = "simulation/watch.rs"]
mod watch;
#[path = "simulation/workers.rs"]
mod workers;
#[path = "simulation/world.rs"]
mod world;

#[test]
fn nothing_is_lost_in_any_history() {
    workers::run();
}
