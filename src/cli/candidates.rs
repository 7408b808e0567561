//! What a shell offers for an argument: names that the configuration has.

use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use super::load;
use crate::config::Config;
use crate::model::MAIN;
use crate::state::StateDir;

/// Names of nodes.
pub(super) fn nodes() -> ArgValueCandidates {
    ArgValueCandidates::new(|| named(nodes_of))
}

/// Main, and names of nodes.
pub(super) fn hosts() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        named(|config| std::iter::once(MAIN.to_owned()).chain(nodes_of(config)).collect())
    })
}

/// Names of directories.
pub(super) fn directories() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        named(|config| config.directories.iter().map(|directory| directory.name.clone()).collect())
    })
}

/// For what no shell can know, such as the path of a file that is gone.
pub(super) fn nothing() -> ArgValueCandidates {
    ArgValueCandidates::new(Vec::new)
}

fn nodes_of(config: &Config) -> Vec<String> {
    let state = StateDir::to_read(&config.sync.state_dir);
    state.ok().and_then(|state| load::known_nodes(config, &state)).unwrap_or_default()
}

fn named(names: impl Fn(&Config) -> Vec<String>) -> Vec<CompletionCandidate> {
    // In the middle of a command line is no place for what is wrong with the configuration.
    let config = load::quietly();
    config.iter().flat_map(names).map(CompletionCandidate::new).collect()
}
