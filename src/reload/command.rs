//! A program run to its end, or to a deadline.

use std::ffi::OsString;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::model::escape::plain;

/// What a program said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// How it ended.
    pub(super) status: ExitStatus,
    /// Its output, as far as it was wanted.
    pub(super) stdout: Vec<u8>,
    /// The beginning of its errors.
    pub(super) stderr: Vec<u8>,
}

/// What of a line of the output is wanted; nothing of it when that is empty.
pub(super) type Keep = fn(&[u8]) -> &[u8];

/// Most bytes of output that are kept: the names of some hundred thousand files of music.
const MAX_STDOUT: usize = 32 << 20;
/// Most bytes of errors that are kept; only the first line is ever shown.
const MAX_STDERR: usize = 4 << 10;
/// Where Asterisk is, for users whose search path has no system programs: sshd gives only root's one.
const SYSTEM: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// Runs a program in a process group of its own, which is killed at the deadline. An error says in one line
/// why there is no answer.
pub(super) fn run(
    command: &[String],
    environment: &[(OsString, OsString)],
    keep: Keep,
    deadline: Instant,
) -> Result<Answer, String> {
    let (program, arguments) = command.split_first().ok_or("the command is empty")?;
    let child = spawn(program, arguments, environment)
        .map_err(|error| plain(&format!("cannot run {program}: {error}")))?;
    let mut running =
        Running { child, ended: false, keep, stdout: Vec::new(), line: Vec::new(), stderr: Vec::new() };
    match running.wait(deadline) {
        Ok(Some(status)) => Ok(running.answer(status)),
        Ok(None) => Err("it did not end in time and was killed".to_owned()),
        Err(error) => Err(format!("cannot read what it says: {error}")),
    }
}

fn spawn(program: &str, arguments: &[String], environment: &[(OsString, OsString)]) -> io::Result<Child> {
    let start = |program: &str| {
        Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
    };
    let mut started = start(program);
    for directory in SYSTEM {
        match &started {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !program.contains('/') => {
                started = start(&format!("{directory}/{program}")).or(started);
            }
            _ => break,
        }
    }
    started
}

/// A child that does not outlive this value, and what it has said.
struct Running {
    child: Child,
    ended: bool,
    keep: Keep,
    stdout: Vec<u8>,
    /// What has come of the line after `stdout`.
    line: Vec<u8>,
    stderr: Vec<u8>,
}

/// What there is to wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Output,
    Errors,
    /// The end of output does not do: whatever the program leaves running may hold it open.
    End,
}

impl Running {
    /// Reads until the child has ended; `None` when the deadline comes first.
    fn wait(&mut self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        let end = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty())?;
        let mut open = vec![(Event::End, end)];
        open.extend(self.child.stdout.take().map(|pipe| (Event::Output, pipe.into())));
        open.extend(self.child.stderr.take().map(|pipe| (Event::Errors, pipe.into())));
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // What it said before its end is there already.
            let timeout = if self.ended { Duration::ZERO } else { left };
            let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
            let mut fds: Vec<PollFd<'_>> =
                open.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::IN)).collect();
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => break,
                Ok(_) if left.is_zero() => break,
                Err(rustix::io::Errno::INTR) => continue,
                outcome => outcome?,
            };
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            let mut still_open = Vec::new();
            for ((event, fd), ready) in open.into_iter().zip(ready) {
                if !ready || self.happened(event, &fd)? {
                    still_open.push((event, fd));
                }
            }
            open = still_open;
        }
        if self.ended { self.child.wait().map(Some) } else { Ok(None) }
    }

    /// Whether more of this can come.
    fn happened(&mut self, event: Event, fd: &OwnedFd) -> io::Result<bool> {
        if event == Event::End {
            self.ended = true;
            return Ok(false);
        }
        let mut buffer = [0; 16 << 10];
        let count = rustix::io::read(fd, &mut buffer)?;
        let said = &buffer[..count];
        if event == Event::Errors {
            let room = MAX_STDERR - self.stderr.len();
            self.stderr.extend_from_slice(&said[..count.min(room)]);
            return Ok(count > 0);
        }
        for part in said.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.end_line();
            }
        }
        if self.stdout.len() + self.line.len() > MAX_STDOUT {
            return Err(io::Error::other(format!("more than {} MiB", MAX_STDOUT >> 20)));
        }
        Ok(count > 0)
    }

    fn end_line(&mut self) {
        self.stdout.extend_from_slice((self.keep)(&self.line));
        self.line.clear();
    }

    fn answer(mut self, status: ExitStatus) -> Answer {
        self.end_line();
        Answer { status, stdout: mem::take(&mut self.stdout), stderr: mem::take(&mut self.stderr) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            // It may just have ended by itself.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rustix::fs::{CWD, Mode, OFlags, mkfifoat};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str, keep: Keep, timeout: Duration) -> Result<Answer, String> {
        run(&["sh", "-c", script].map(str::to_owned), &[], keep, Instant::now() + timeout)
    }

    #[test]
    fn what_was_said_and_how_it_ended() {
        let answer = shell("echo out; echo err >&2; printf rest; exit 3", |line| line, LONG).unwrap();
        assert_eq!(answer.status.code(), Some(3));
        assert_eq!(answer.stdout, b"out\nrest");
        assert_eq!(answer.stderr, b"err\n");
    }

    #[test]
    fn only_wanted_lines_are_kept() {
        let script = "seq 100000; echo '[ a'; seq 100000; printf '[ b'";
        let answer = shell(script, |line| if line.starts_with(b"[") { line } else { b"" }, LONG).unwrap();
        assert_eq!(answer.stdout, b"[ a\n[ b");
    }

    #[test]
    fn output_has_a_bound() {
        let why = shell("yes", |line| line, LONG).unwrap_err();
        assert!(why.contains("more than 32 MiB"), "{why}");
        let why = shell("tr '\\0' x </dev/zero", |_| b"", LONG).unwrap_err();
        assert!(why.contains("more than 32 MiB"), "{why}");
        let answer = shell("seq 10000 >&2", |line| line, LONG).unwrap();
        assert_eq!(answer.stderr.len(), MAX_STDERR);
    }

    #[test]
    fn the_whole_group_is_killed_at_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        mkfifoat(CWD, &fifo, 0o600.into()).unwrap();
        // The grandchild holds the FIFO open for writing as long as it lives.
        let script = format!("sh -c 'exec sleep 600' >{0} & cat {0}; wait", fifo.display());
        let why = shell(&script, |line| line, Duration::from_millis(300)).unwrap_err();
        assert!(why.contains("was killed"), "{why}");
        let reader = rustix::fs::open(&fifo, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
        let end = || rustix::io::read(&reader, &mut [0; 8]);
        if end() == Err(rustix::io::Errno::AGAIN) {
            // It is on its way out: the kernel tells when the last writer is gone.
            let patience = Timespec::try_from(LONG).unwrap();
            poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&patience)).unwrap();
        }
        assert_eq!(end(), Ok(0));
    }

    #[test]
    fn what_it_leaves_running_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let answer =
            shell(&format!("sleep 600 & echo $! >{}; echo done", pid.display()), |line| line, LONG).unwrap();
        assert_eq!(answer.stdout, b"done\n");
        let pid: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        // Not ours to end, but for this test.
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }

    #[test]
    fn a_program_has_the_environment_that_it_is_given() {
        let environment = [("HOME".into(), "/root".into())];
        let answer =
            run(&["/usr/bin/env".to_owned()], &environment, |line| line, Instant::now() + LONG).unwrap();
        assert_eq!(answer.stdout, b"HOME=/root\n");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let command = ["xds-sync-no-such-program".to_owned()];
        let why = run(&command, &[], |line| line, Instant::now() + LONG).unwrap_err();
        assert_eq!(why, "cannot run xds-sync-no-such-program: No such file or directory");
    }
}
