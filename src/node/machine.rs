//! Which machine this is: an id that a node keeps in its state directory and tells Main, so that Main finds out when
//! two names lead to one machine.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::durable::{self, Options, sealed};

/// The file, below the state directory. Where it is missing, the next run makes another id.
pub(crate) const NAME: &str = "machine.json";

/// This host, as far as an id is bound to it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What differs between a machine and one that was copied from it, as a rule: a copy makes an id of its own.
    pub hardware: String,
    /// Makes an id, a ULID.
    pub new_id: fn() -> String,
}

/// How ids are made is the same for all.
impl PartialEq for Machine {
    fn eq(&self, other: &Machine) -> bool {
        self.hardware == other.hardware
    }
}

impl Eq for Machine {}

#[derive(Serialize, Deserialize)]
struct Kept {
    id: String,
    hardware: String,
}

impl Machine {
    /// The id in this state directory. `None` where there is none, where it cannot be read, and where it is of a machine
    /// that this one was copied from.
    pub(crate) fn id(&self, state_dir: &Path) -> Option<String> {
        let content = durable::read(&state_dir.join(NAME)).ok().flatten()?;
        let kept: Kept = sealed::open(&content).ok()?;
        (kept.hardware == self.hardware).then_some(kept.id)
    }

    /// The same; one is made where there is none.
    pub(crate) fn ensure_id(&self, state_dir: &Path) -> anyhow::Result<String> {
        if let Some(id) = self.id(state_dir) {
            return Ok(id);
        }
        let path = state_dir.join(NAME);
        let made = || -> anyhow::Result<String> {
            durable::make_dir(state_dir, 0o700)?;
            // Of two agents that come at the same time, one makes it.
            let _lock = lock(state_dir)?;
            if let Some(id) = self.id(state_dir) {
                return Ok(id);
            }
            let kept = Kept { id: (self.new_id)(), hardware: self.hardware.clone() };
            durable::replace(&path, &sealed::seal(&kept)?, Options::PRIVATE)?;
            Ok(kept.id)
        };
        made().with_context(|| format!("writing {}", path.display()))
    }
}

/// It is released with the descriptor.
fn lock(dir: &Path) -> io::Result<File> {
    let open = File::open(dir)?;
    flock(&open, FlockOperation::LockExclusive)?;
    Ok(open)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn machine(hardware: &str) -> Machine {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let new_id = || format!("01ID{}", MADE.fetch_add(1, Ordering::Relaxed));
        Machine { hardware: hardware.to_owned(), new_id }
    }

    #[test]
    fn an_id_is_made_once_and_looking_makes_none() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        assert_eq!(machine("a").id(&state), None);
        assert!(!state.exists());
        let ids: Vec<String> = std::thread::scope(|scope| {
            let agents = [(); 8].map(|()| scope.spawn(|| machine("a").ensure_id(&state).unwrap()));
            agents.map(|agent| agent.join().unwrap()).to_vec()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(machine("a").id(&state), Some(ids[0].clone()));
    }

    #[test]
    fn a_copy_and_a_damaged_file_get_another_id() {
        let dir = tempfile::tempdir().unwrap();
        let first = machine("a").ensure_id(dir.path()).unwrap();
        assert_eq!(machine("b").id(dir.path()), None);
        let copy = machine("b").ensure_id(dir.path()).unwrap();
        assert_ne!(copy, first);
        std::fs::write(dir.path().join(NAME), "{").unwrap();
        assert_ne!(machine("b").ensure_id(dir.path()).unwrap(), copy);
    }
}
