//! All nodes there are: those that are configured, and those that discovery finds.

use std::time::SystemTime;

use crate::config::Config;
use crate::discovery::{Discovered, DiscoveredNode, Machine, discover};
use crate::host;
use crate::model::Zone;
use crate::report::exit::{ALL_LOST, IN_STEP, SOME_LOST};
use crate::report::{Problem, Stage};
use crate::state::{Answers, StateDir};

/// What every host calls itself.
const LOCALHOST: &str = "localhost";

/// A configuration with every node that is known, and how they came to be known.
pub struct KnownNodes {
    /// Has the nodes that were found behind those that are configured.
    config: Config,
    discovered: Discovered,
}

impl KnownNodes {
    /// Asks the sources in `[discovery]`. Without any, nothing is done.
    pub fn find(mut config: Config, now: SystemTime) -> anyhow::Result<KnownNodes> {
        if !config.discovery.is_used() {
            return Ok(KnownNodes { config, discovered: Discovered::default() });
        }
        let (last, damage) = match StateDir::open(&config.sync.state_dir)?.answers() {
            Ok(answers) => (answers, None),
            Err(corrupt) => (Answers::default(), Some(corrupt.to_string())),
        };
        let own = &config.main;
        let names = vec![own.name.clone(), own.host.clone(), host::name(), LOCALHOST.to_owned()];
        let mut addresses = host::addresses();
        // Nodes may reach Main by an address that none of its interfaces has.
        addresses.extend(host::lookup(&own.host));
        let machine =
            Machine { names, addresses, lookup: &host::lookup, now, zone: Zone::of(host::time_zone()) };
        let mut discovered = discover(&config, &machine, &last);
        discovered.warnings.extend(damage);
        config.nodes.extend(discovered.nodes.iter().map(|found| found.node.clone()));
        Ok(KnownNodes { config, discovered })
    }

    /// The configuration, with the nodes that were found.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Why sources failed, one line each. Their last good answers were used.
    #[must_use]
    pub fn failures(&self) -> &[String] {
        &self.discovered.failures
    }

    /// What was passed over, one line each.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.discovered.warnings
    }

    /// Whether every source answered. Otherwise there may be nodes that are unknown now.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.discovered.failures.is_empty()
    }

    /// Failures and warnings as problems of a report.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let failures = self.failures().iter().map(|detail| Problem::failure(Stage::Discovery, detail));
        failures
            .chain(self.warnings().iter().map(|detail| Problem::warning(Stage::Discovery, detail)))
            .collect()
    }

    /// The exit code of a command that ended with `code`, if only finding nodes went wrong.
    pub(crate) fn exit_code(&self, code: u8) -> u8 {
        match code {
            _ if self.is_complete() => code,
            IN_STEP if self.config.nodes.is_empty() => ALL_LOST,
            IN_STEP => SOME_LOST,
            code => code,
        }
    }

    /// How a node was found; `None`: it is configured.
    pub(crate) fn found(&self, name: &str) -> Option<&DiscoveredNode> {
        self.discovered.nodes.iter().find(|found| found.node.name == name)
    }

    /// Keeps what was found for the time when a source does not answer. The caller holds the lock.
    pub(crate) fn remember(&self, state: &StateDir) {
        if !self.config.discovery.is_used() {
            return;
        }
        // The nodes are known all the same.
        if let Err(error) = state.save_answers(&self.discovered.answers) {
            log::error!("the answers of discovery cannot be kept: {error:#}");
        }
    }
}
