//! What a simulation does at the fail points of the product.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt as _;
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
    /// Whether filesystems can exchange two names.
    exchange: bool,
    /// Files whose content is not on disk, by host and inode.
    unsynced: BTreeSet<(usize, u64)>,
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

/// From now on these faults happen.
pub fn begin(faults: Vec<Fault>, exchange: bool, edit: Edit, hang_up: Box<dyn Fn() + Send>) {
    let mut now = now();
    let met = now.take().map(|before| before.met).unwrap_or_default();
    *now = Some(Now { faults, exchange, edit: Some(edit), hang_up: Some(hang_up), met, ..Now::default() });
}

/// Whether a host's process was killed in this run.
pub fn was_killed(host: usize) -> bool {
    now().as_ref().is_some_and(|now| now.killed.contains(&host))
}

/// No more faults. Of each host that lost its power: the inodes of files whose content is gone.
pub fn end() -> Vec<(usize, BTreeSet<u64>)> {
    let mut now = now();
    let Some(now) = now.as_mut() else { return Vec::new() };
    now.faults.clear();
    now.edit = None;
    now.hang_up = None;
    let gone =
        |host: usize| now.unsynced.iter().filter(|(of, _)| *of == host).map(|(_, inode)| *inode).collect();
    now.dark.iter().map(|host| (*host, gone(*host))).collect()
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
        let Some(at) = due else {
            let can = now.exchange || point != Point::Exchange;
            return if can { Ok(()) } else { Err(rustix::io::Errno::INVAL.into()) };
        };
        let fault = now.faults.remove(at);
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

    fn wrote(&self, file: BorrowedFd<'_>) {
        if let Some(now) = now().as_mut() {
            now.unsynced.insert((HOST.get(), inode(file)));
        }
    }

    fn thread_init(&self) -> Box<dyn FnOnce() + Send> {
        let host = HOST.get();
        Box::new(move || become_host(host))
    }

    fn synced(&self, file: Option<BorrowedFd<'_>>) {
        if let Some(now) = now().as_mut() {
            let host = HOST.get();
            match file {
                Some(file) => _ = now.unsynced.remove(&(host, inode(file))),
                None => now.unsynced.retain(|(of, _)| *of != host),
            }
        }
    }
}

fn inode(file: BorrowedFd<'_>) -> u64 {
    File::from(file.try_clone_to_owned().unwrap()).metadata().unwrap().ino()
}
