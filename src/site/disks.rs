//! This host's own disk, as Main's end of an edge or as a node's.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use anyhow::Context as _;

use crate::enroll::{authorized_keys, rotate};
use crate::host;
use crate::model::{ReloadOutcome, ReloadState};
use crate::node::{Accept, KeyChange, Local, LocalOptions, Refusal, ReplaceKey};
use crate::reload::{self, ReloadRequest};
use crate::site::{NewIdFn, NowFn, line_of};
use crate::state::StateDir;

/// What a node's own commands get of the agent's environment. Left out is what Main's ssh can put there:
/// `SSH_ORIGINAL_COMMAND`, and `LANG` and `LC_*` where sshd accepts them.
const FOR_COMMANDS: [&str; 6] = ["HOME", "LOGNAME", "PATH", "SHELL", "TZ", "USER"];

/// Main's disk. Main's Asterisk is not reloaded: the administrator edits there and reloads there.
pub(super) fn main_disk(state: &StateDir, now: &NowFn, new_id: &NewIdFn) -> Local {
    let not_needed = |request: &ReloadRequest| ReloadOutcome {
        name: request.name.clone(),
        state: ReloadState::NotNeeded,
        detail: None,
    };
    let no_keys = |_: &KeyChange| Err(Refusal::new("Main has no key of a Main to replace"));
    disk(&state.cache_dir(), (now, new_id), Box::new(not_needed), Box::new(no_keys), &Arc::default())
}

/// A node's disk, as its agent serves it; `progress` grows with whatever it does.
pub(crate) fn node_disk(
    accept: &Accept,
    now: fn() -> SystemTime,
    new_id: fn() -> String,
    progress: &Arc<AtomicU64>,
) -> Local {
    let commands = accept.reload.clone();
    let set = |name: &str| Some((name.into(), host::variable(name)?));
    let environment: Vec<(OsString, OsString)> = FOR_COMMANDS.into_iter().filter_map(set).collect();
    let reload = move |request: &ReloadRequest| reload::run(request, &commands, &environment);
    let replace_key = |change: &KeyChange| replace_key(change).map_err(|error| Refusal::new(line_of(&error)));
    let (now, new_id): (NowFn, NewIdFn) = (Arc::new(now), Arc::new(new_id));
    let cache_dir = accept.state_dir.join("cache");
    disk(&cache_dir, (&now, &new_id), Box::new(reload), Box::new(replace_key), progress)
}

fn replace_key(change: &KeyChange) -> anyhow::Result<Vec<String>> {
    let home = host::home().context("HOME is not set")?;
    rotate::accept(&authorized_keys::path_below(&home), change)
}

type Reload = Box<dyn FnMut(&ReloadRequest) -> ReloadOutcome + Send>;

fn disk(
    cache_dir: &Path,
    (now, new_id): (&NowFn, &NewIdFn),
    reload: Reload,
    replace_key: ReplaceKey,
    progress: &Arc<AtomicU64>,
) -> Local {
    let (now, new_id) = (Arc::clone(now), Arc::clone(new_id));
    Local::new(LocalOptions {
        cache_dir: cache_dir.to_owned(),
        clock: Box::new(move || now()),
        new_id: Box::new(move || new_id()),
        reload,
        replace_key,
        progress: Arc::clone(progress),
    })
}
