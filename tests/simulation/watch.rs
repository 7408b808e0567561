//! What a simulation does at the fail points of the product.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::panic::resume_unwind;
use std::sync::{Mutex, MutexGuard, PoisonError};

use xds_sync::fault::{self, Point, Watch};

use super::script::{Act, Fault, Op};

/// What a thread of a killed process ends with.
pub struct Killed;

/// Changes a host's file while a run is at a point.
pub type Edit = Box<dyn Fn(usize, usize, &Op) + Send>;

/// What shall happen in the run that is on its way; there is one at a time in a process.
#[derive(Default)]
struct Now {
    faults: Vec<Fault>,
    /// Hosts whose process was killed in this run.
    killed: Vec<usize>,
    /// Hosts that lost their power in this run.
    dark: Vec<usize>,
    happened: usize,
    edit: Option<Edit>,
    hang_up: Option<Box<dyn Fn() + Send>>,
    met: BTreeMap<(bool, Point), u64>,
}

static NOW: Mutex<Option<Now>> = Mutex::new(None);

thread_local! {
    /// The host whose process this thread belongs to; Main, whose threads nobody here starts, is 0.
    static HOST: Cell<usize> = const { Cell::new(0) };
}

struct Simulated;

pub fn install() {
    fault::install(Box::new(Simulated));
}

fn now() -> MutexGuard<'static, Option<Now>> {
    NOW.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets this thread be of a host's process.
pub fn become_host(host: usize) {
    HOST.set(host);
}

/// What happened in a run.
#[derive(Default)]
pub struct Happened {
    pub killed: Vec<usize>,
    pub dark: Vec<usize>,
    pub faults: usize,
}

/// From now on these faults happen.
pub fn begin(faults: Vec<Fault>, edit: Edit, hang_up: Box<dyn Fn() + Send>) {
    let mut now = now();
    let met = now.take().map(|before| before.met).unwrap_or_default();
    *now = Some(Now { faults, edit: Some(edit), hang_up: Some(hang_up), met, ..Now::default() });
}

/// No more faults.
pub fn end() -> Happened {
    let mut now = now();
    let Some(now) = now.as_mut() else { return Happened::default() };
    now.faults.clear();
    now.edit = None;
    now.hang_up = None;
    let (killed, dark) = (std::mem::take(&mut now.killed), std::mem::take(&mut now.dark));
    Happened { killed, dark, faults: std::mem::take(&mut now.happened) }
}

/// How often each point was met, on Main and on nodes.
pub fn met() -> BTreeMap<(bool, Point), u64> {
    now().as_ref().map(|now| now.met.clone()).unwrap_or_default()
}

impl Watch for Simulated {
    fn reach(&self, point: Point) -> io::Result<()> {
        let host = HOST.get();
        let mut guard = now();
        let Some(now) = guard.as_mut() else { return Ok(()) };
        *now.met.entry((host == 0, point)).or_default() += 1;
        if now.killed.contains(&host) {
            // Another thread of a process that is gone.
            drop(guard);
            resume_unwind(Box::new(Killed));
        }
        let mut due = None;
        for (at, fault) in now.faults.iter_mut().enumerate() {
            if fault.host == host && fault.point == point {
                fault.nth -= 1;
                if fault.nth == 0 {
                    due = Some(at);
                    break;
                }
            }
        }
        let Some(at) = due else { return Ok(()) };
        let fault = now.faults.remove(at);
        now.happened += 1;
        match fault.act {
            Act::Crash | Act::PowerCut => {
                now.killed.push(host);
                if matches!(fault.act, Act::PowerCut) {
                    now.dark.push(host);
                }
                if host == 0
                    && let Some(hang_up) = &now.hang_up
                {
                    hang_up();
                }
                drop(guard);
                resume_unwind(Box::new(Killed))
            }
            Act::Fails(errno) => Err(io::Error::from_raw_os_error(errno)),
            Act::Change { dir, op } => {
                if let Some(edit) = &now.edit {
                    edit(host, dir, &op);
                }
                Ok(())
            }
        }
    }
}
