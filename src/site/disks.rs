//! This host's own disk, as Main's end of an edge or as a node's.

use std::ffi::OsString;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;

use crate::enroll::{authorized_keys, rotate};
use crate::host;
use crate::model::{ReloadOutcome, ReloadState};
use crate::node::{Accept, KeyChange, Local, LocalOptions, Refusal, ReplaceKey};
use crate::reload::{self, ReloadRequest};
use crate::site::{NewIdFn, NowFn, line_of};
use crate::snapshot::ScanLimits;
use crate::state::StateDir;
use crate::watch::WatchLimits;

/// What a node's own commands get of the agent's environment. Left out is what Main's ssh can put there:
/// `SSH_ORIGINAL_COMMAND`, and `LANG` and `LC_*` where sshd accepts them.
const FOR_COMMANDS: [&str; 6] = ["HOME", "LOGNAME", "PATH", "SHELL", "TZ", "USER"];

/// Main's disk. Main's Asterisk is not reloaded: the administrator edits there and reloads there.
/// Once `stop` is set, a scan ends.
pub(super) fn main_disk(state: &StateDir, now: &NowFn, new_id: &NewIdFn, stop: &Arc<AtomicBool>) -> Local {
    let not_needed = |request: &ReloadRequest| ReloadOutcome {
        name: request.name.clone(),
        state: ReloadState::NotNeeded,
        detail: None,
    };
    let no_keys = |_: &KeyChange| Err(Refusal::new("Main has no key of a Main to replace"));
    Local::new(LocalOptions {
        stop: Arc::clone(stop),
        ..options(&state.cache_dir(), (now, new_id), Box::new(not_needed), Box::new(no_keys))
    })
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
    Local::new(LocalOptions {
        progress: Arc::clone(progress),
        ..options(&cache_dir, (&now, &new_id), Box::new(reload), Box::new(replace_key))
    })
    .accepting(accept.clone())
}

fn replace_key(change: &KeyChange) -> anyhow::Result<Vec<String>> {
    let home = host::home().context("HOME is not set")?;
    rotate::accept(&authorized_keys::path_below(&home), change)
}

type Reload = Box<dyn FnMut(&ReloadRequest) -> ReloadOutcome + Send>;

fn options(
    cache_dir: &Path,
    (now, new_id): (&NowFn, &NewIdFn),
    reload: Reload,
    replace_key: ReplaceKey,
) -> LocalOptions {
    let (now, new_id) = (Arc::clone(now), Arc::clone(new_id));
    LocalOptions {
        cache_dir: cache_dir.to_owned(),
        clock: Box::new(move || now()),
        new_id: Box::new(move || new_id()),
        reload,
        replace_key,
        progress: Arc::default(),
        stop: Arc::default(),
        limits: limits(),
        watch_limits: watch_limits(),
    }
}

/// What a scan may cost.
fn limits() -> ScanLimits {
    let usual = ScanLimits::default();
    ScanLimits {
        names: limit("names").unwrap_or(usual.names),
        entries: limit("entries").unwrap_or(usual.entries),
        holes_in_file: limit("holes").unwrap_or(usual.holes_in_file),
        reading: limit("reading").map_or(usual.reading, Duration::from_millis),
        ..usual
    }
}

/// What watching may cost.
fn watch_limits() -> WatchLimits {
    let usual = WatchLimits::default();
    WatchLimits {
        watches: limit("watches").unwrap_or(usual.watches),
        events: limit("events").unwrap_or(usual.events),
        ..usual
    }
}

/// `XDS_LIMITS=names=BYTES,entries=N,holes=BYTES,reading=MS,watches=N,events=N` lets a debug build come to the ends
/// of its budgets with little; a release build ignores it.
fn limit<T: FromStr>(name: &str) -> Option<T> {
    let asked = host::variable("XDS_LIMITS").filter(|_| cfg!(debug_assertions))?;
    let asked = asked.to_string_lossy().into_owned();
    let mut items = asked.split(',').filter_map(|item| item.split_once('='));
    items.find(|(asked, _)| *asked == name)?.1.parse().ok()
}
