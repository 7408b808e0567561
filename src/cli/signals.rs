//! SIGINT and SIGTERM.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::report::exit::INTERRUPTED;

static STOP: Mutex<Option<Arc<AtomicBool>>> = Mutex::new(None);

/// The flag that a signal sets, for a run to end at its next safe place. The handlers are registered once.
///
/// A signal that finds the flag set ends the process at once: the second one of a run, which loses nothing, since
/// the next run sweeps up; and any while there is no run, which is why the flag is set until [`begin_run`].
pub(super) fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let mut registered = STOP.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(stop) = &*registered {
        return Ok(Arc::clone(stop));
    }
    let stop = Arc::new(AtomicBool::new(true));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, INTERRUPTED.into(), Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)))
            .context("catching signals")?;
    }
    *registered = Some(Arc::clone(&stop));
    Ok(stop)
}

/// From now on the first signal asks the run to end.
pub(super) fn begin_run(stop: &AtomicBool) {
    stop.store(false, Ordering::Relaxed);
}
