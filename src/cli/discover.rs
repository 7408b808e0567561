//! All nodes there are: those that are configured, and those that are found.

use super::Context;
use crate::config::Config;
use crate::enroll::discover::{Discovered, Found, Machine, discover};
use crate::host;
use crate::report::exit::{ALL_LOST, IN_STEP, SOME_LOST};
use crate::report::{Problem, Stage};
use crate::state::{Answers, StateDir};

/// What every host calls itself.
const LOCALHOST: &str = "localhost";

/// A configuration with every node that is known, and how they came to be.
pub(super) struct Known {
    /// With the nodes that were found behind those that are configured.
    pub(super) config: Config,
    discovered: Discovered,
}

/// Finds nodes where `[discovery]` says so, and tells on stderr what has failed. Without it, nothing is done.
pub(super) fn nodes(context: &Context, mut config: Config) -> anyhow::Result<Known> {
    if !config.discovery.is_used() {
        return Ok(Known { config, discovered: Discovered::default() });
    }
    let (last, damage) = match StateDir::open(&config.sync.state_dir)?.answers() {
        Ok(answers) => (answers, None),
        Err(corrupt) => (Answers::default(), Some(corrupt.to_string())),
    };
    let own = &config.main;
    let names = vec![own.name.clone(), own.host.clone(), host::name(), LOCALHOST.to_owned()];
    let mut addresses = host::addresses();
    // What nodes reach Main by may be an address that no interface of it has.
    addresses.extend(host::lookup(&own.host));
    let machine = Machine { names, addresses, lookup: &host::lookup, now: host::now() };
    let mut discovered = discover(&config, &machine, &last);
    discovered.warnings.extend(damage);
    discovered.failures.iter().for_each(|failure| context.ui.error(failure));
    config.nodes.extend(discovered.nodes.iter().map(|found| found.node.clone()));
    Ok(Known { config, discovered })
}

impl Known {
    /// Whether every source has answered: otherwise there may be nodes that nobody knows of now.
    pub(super) fn is_complete(&self) -> bool {
        self.discovered.failures.is_empty()
    }

    /// What a run's report says of it.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let failures =
            self.discovered.failures.iter().map(|failure| Problem::failure(Stage::Discovery, failure));
        let warnings =
            self.discovered.warnings.iter().map(|warning| Problem::warning(Stage::Discovery, warning));
        failures.chain(warnings).collect()
    }

    /// Tells on stderr what was passed over, where no report does.
    pub(super) fn warn(&self, context: &Context) {
        self.discovered.warnings.iter().for_each(|warning| context.ui.message(warning));
    }

    /// The exit code of a command that ended with `code`, if only finding nodes went wrong.
    pub(super) fn exit_code(&self, code: u8) -> u8 {
        match code {
            _ if self.is_complete() => code,
            IN_STEP if self.config.nodes.is_empty() => ALL_LOST,
            IN_STEP => SOME_LOST,
            code => code,
        }
    }

    /// How a node was found; none: it is configured.
    pub(super) fn found(&self, name: &str) -> Option<&Found> {
        self.discovered.nodes.iter().find(|found| found.node.name == name)
    }

    /// Keeps what was found for when nobody answers. The caller holds the lock.
    pub(super) fn remember(&self, context: &Context, state: &StateDir) {
        if !self.config.discovery.is_used() {
            return;
        }
        // The nodes are known all the same.
        if let Err(error) = state.save_answers(&self.discovered.answers) {
            context.ui.error(&super::exit::line_of(&error));
        }
    }
}
