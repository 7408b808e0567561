//! What a node can tell of its Main: whom it obeys since when, and what that did here last.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::binding;
use super::protocol::check;
use super::protocol::handshake::Hello;
use crate::durable::{self, Options, sealed};
use crate::model::{ReloadOutcome, ReloadState, rfc3339};

/// The last run of a Main on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    /// The run.
    pub run: String,
    /// That Main's name.
    pub name: String,
    /// Whether the run came to its end here.
    pub whole: bool,
    /// Directory → what was done → how often.
    pub changes: BTreeMap<String, BTreeMap<String, u64>>,
    /// The reloads that it asked for, and how they went.
    pub reloads: BTreeMap<String, ReloadState>,
}

/// Whose media server this host is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MainSeen {
    /// The name of the Main that the node obeys; `None`: of none yet.
    pub name: Option<String>,
    /// Since when, in RFC 3339.
    pub since: Option<String>,
    /// When its last run ended here, in RFC 3339.
    pub last: Option<String>,
    /// What that did.
    pub visit: Option<Visit>,
}

/// Beside the binding to Main. Lost, it is written by the next run; so it is not synced.
const NAME: &str = "visit.json";
/// Most reloads that are remembered; sites have two.
const MAX_RELOADS: usize = 64;

impl Visit {
    /// A run that begins.
    pub(super) fn new(run: &str, main: &Hello) -> Visit {
        Visit {
            run: run.to_owned(),
            name: main.name.clone(),
            whole: false,
            changes: BTreeMap::new(),
            reloads: BTreeMap::new(),
        }
    }

    /// Counts one change.
    pub(super) fn count(&mut self, directory: &str, what: &str) {
        let directory = self.changes.entry(check::text(directory)).or_default();
        *directory.entry(what.to_owned()).or_default() += 1;
    }

    /// Notes how a reload went.
    pub(super) fn reloaded(&mut self, outcome: &ReloadOutcome) {
        let name = check::text(&outcome.name);
        if self.reloads.len() < MAX_RELOADS || self.reloads.contains_key(&name) {
            self.reloads.insert(name, outcome.state);
        }
    }

    /// Remembers it. That it cannot be is no reason to fail a run that is over.
    pub(super) fn save(&self, state_dir: &Path) {
        let options = Options { sync: false, ..Options::PRIVATE };
        let saved = sealed::seal(self).and_then(|text| {
            durable::make_dir(state_dir, 0o700)?;
            Ok(durable::replace(&state_dir.join(NAME), &text, options)?)
        });
        if let Err(error) = saved {
            log::warn!("what Main did cannot be noted in {}: {error:#}", state_dir.join(NAME).display());
        }
    }
}

impl MainSeen {
    /// What is known on this host; `None`: it is no media server.
    #[must_use]
    pub fn read(state_dir: &Path) -> Option<MainSeen> {
        let path = state_dir.join(NAME);
        let visit: Option<Visit> =
            durable::read(&path).ok().flatten().and_then(|content| sealed::open(&content).ok());
        let bound = binding::main_of(state_dir);
        if visit.is_none() && bound.is_none() {
            return None;
        }
        let last = visit.as_ref().and_then(|_| binding::modified(&path)).map(rfc3339);
        let (name, since) = match bound {
            Some((name, since)) => (Some(name), since.map(rfc3339)),
            None => (None, None),
        };
        Some(MainSeen { name, since, last, visit })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    fn hello() -> Hello {
        Hello { main: "01A".to_owned(), epoch: 1, name: "main".to_owned() }
    }

    #[test]
    fn a_node_knows_its_main_and_what_that_did_last() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        assert_eq!(MainSeen::read(&state), None);
        let mut visit = Visit::new("01R", &hello());
        for what in ["create", "create", "delete"] {
            visit.count("moh\n", what);
        }
        for name in 0..10 * MAX_RELOADS {
            visit.reloaded(&ReloadOutcome { name: name.to_string(), state: ReloadState::Done, detail: None });
        }
        visit.save(&state);
        let seen = MainSeen::read(&state).unwrap();
        assert_eq!((seen.name, seen.visit.as_ref()), (None, Some(&visit)));
        assert!(seen.last.is_some());
        assert_eq!(visit.changes["moh"]["create"], 2);
        assert_eq!(visit.reloads.len(), MAX_RELOADS);

        binding::bind(&state, &hello()).unwrap();
        let seen = MainSeen::read(&state).unwrap();
        assert_eq!((seen.name.as_deref(), seen.since.is_some()), (Some("main"), true));

        // A damaged one says nothing, and is no obstacle.
        fs::write(state.join(NAME), "{").unwrap();
        assert_eq!(MainSeen::read(&state).unwrap().visit, None);
    }
}
