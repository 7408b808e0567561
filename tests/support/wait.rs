//! Waiting, with a limit.

use std::process::Child;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// What nothing in a test may take longer than. Only a hang comes near it.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Waits until `condition` holds; panics, naming what was awaited, when it does not within `limit`.
#[track_caller]
pub fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for {what}");
        // The only pause in the tests: between two looks at something that cannot be subscribed to.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether `child` ends before the limit.
pub(crate) fn ends_within(child: &mut Child, limit: Duration) -> bool {
    let pid = Pid::from_child(child);
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let limit = Timespec::try_from(limit).expect("a limit of seconds");
    let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)).expect("poll");
    ended > 0
}

/// The exit code of a child that ends within [`LIMIT`]; `None` when a signal ended it.
#[track_caller]
pub(crate) fn exit_code(child: &mut Child) -> Option<i32> {
    assert!(ends_within(child, LIMIT), "still running after {LIMIT:?}: process {}", child.id());
    child.wait().expect("wait").code()
}
