//! What is fuzzed: every place that takes in bytes from elsewhere, with the law that must hold there.
//!
//! A target panics where its law is broken. `fuzz/corpus/TARGET` has its seeds and what was once found;
//! `cargo test --test fuzz` tries these and some thousand mutations of them, the same each time;
//! `scripts/fuzz` goes on from there with libFuzzer, which looks for new ways through the code.

mod agent;
mod config;
mod host;
mod keys;
pub(crate) mod record;
mod remote;
mod state;
mod trees;
mod workers;

/// Takes any bytes.
pub(crate) type Target = fn(&[u8]);

/// All targets, by name.
pub(crate) const ALL: [(&str, Target); 8] = [
    ("agent", agent::serve),
    ("remote", remote::ask),
    ("tree", trees::decode),
    ("config", config::load),
    ("authorized_keys", keys::edit),
    ("workers_list", workers::read),
    ("state", state::read),
    ("node_toml", config::accept),
];

/// Splits off the first byte, which chooses.
fn choice(bytes: &[u8]) -> Option<(u8, &[u8])> {
    bytes.split_first().map(|(first, rest)| (*first, rest))
}
