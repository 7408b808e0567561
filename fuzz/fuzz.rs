//! The targets under libFuzzer; `scripts/fuzz` builds and runs it. `FUZZ_TARGET` names the target.

#![no_main]
// `record` is for the tests alone.
#![allow(missing_docs, dead_code)]

mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

fn target() -> targets::Target {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    match targets::ALL.iter().find(|(known, _)| *known == name) {
        Some((_, target)) => *target,
        None => {
            let names: Vec<_> = targets::ALL.iter().map(|(name, _)| *name).collect();
            panic!("FUZZ_TARGET is one of {}", names.join(", "));
        }
    }
}

static TARGET: OnceLock<targets::Target> = OnceLock::new();

fuzz_target!(|bytes: &[u8]| TARGET.get_or_init(target)(bytes));
