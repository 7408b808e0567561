//! Running a command with a limit, and what came of it.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::wait::{LIMIT, ends_within, eventually};

/// What a finished command wrote, and how it ended.
#[derive(Clone)]
pub struct Output {
    /// The command, for messages.
    pub command: String,
    /// The exit code; as in a shell, 128 + N when a signal ended it.
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub took: Duration,
}

impl Output {
    /// stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// stderr as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    pub fn success(&self) -> bool {
        self.code == 0
    }

    /// Demands exit code 0; gives stdout.
    #[track_caller]
    pub fn ok(&self) -> String {
        self.exits(0).text()
    }

    /// Demands this exit code.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert!(self.code == code, "expected exit code {code}:\n{self:?}");
        self
    }

    /// stdout as one JSON document.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|why| panic!("no JSON on stdout: {why}\n{self:?}"))
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "$ {}\n{}{}(exit code {}, {:?})",
            self.command,
            self.text(),
            self.err(),
            self.code,
            self.took
        )
    }
}

/// A command that is running on a host. Dropped, it is killed.
pub struct Running {
    name: String,
    child: Child,
    started: Instant,
    /// Files and no pipes: a daemon that inherits a pipe would make us wait for the daemon.
    stdout: File,
    stderr: File,
}

impl Running {
    /// Starts `command`; `name` is for messages.
    pub(crate) fn start(mut command: Command, name: String) -> Self {
        let stdout = tempfile::tempfile().expect("a temporary file");
        let stderr = tempfile::tempfile().expect("a temporary file");
        let child = command
            .stdout(stdout.try_clone().expect("dup"))
            .stderr(stderr.try_clone().expect("dup"))
            .spawn()
            .unwrap_or_else(|why| panic!("cannot start {name}: {why}"));
        Self { name, child, started: Instant::now(), stdout, stderr }
    }

    /// What the command itself has as its number in the machine's PID namespace: `nsenter`, which was
    /// started, forks it. None when it is not there yet, or no more.
    pub fn pid(&self) -> Option<Pid> {
        let outer = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).ok()?;
        Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
    }

    /// Sends a signal to the command itself.
    pub fn signal(&self, signal: Signal) {
        let mut pid = None;
        eventually("the command to be there to be signalled", LIMIT, || {
            pid = self.pid();
            pid.is_some()
        });
        let _ = kill_process(pid.expect("just seen"), signal); // it may have ended in this moment
    }

    /// What it has written to stdout so far.
    pub fn stdout(&self) -> Vec<u8> {
        content(&self.stdout)
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> Vec<u8> {
        content(&self.stderr)
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it ends; panics when it does not within [`LIMIT`].
    #[track_caller]
    pub fn wait(self) -> Output {
        self.wait_for(LIMIT)
    }

    /// Waits until it ends; panics when it does not within `limit`.
    #[track_caller]
    pub fn wait_for(mut self, limit: Duration) -> Output {
        if !ends_within(&mut self.child, limit) {
            let so_far = self.output(-1);
            panic!("still running after {limit:?}:\n{so_far:?}");
        }
        let status = self.child.wait().expect("wait");
        let code = {
            use std::os::unix::process::ExitStatusExt;
            status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
        };
        self.output(code)
    }

    fn output(&self, code: i32) -> Output {
        Output {
            command: self.name.clone(),
            code,
            stdout: self.stdout(),
            stderr: self.stderr(),
            took: self.started.elapsed(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        match (self.child.try_wait(), self.pid()) {
            // `nsenter` ends with what it started, and not before that has gone.
            (Ok(None), Some(pid)) => _ = kill_process(pid, Signal::KILL),
            _ => _ = self.child.kill(),
        }
        let _ = self.child.wait();
    }
}

/// Everything in a file that others write to, from its start, without moving their position.
fn content(file: &File) -> Vec<u8> {
    use std::os::fd::AsRawFd;
    // Opened anew: a duplicate shares its position with the writer.
    let mut own = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("reopen");
    own.rewind().expect("rewind");
    let mut bytes = Vec::new();
    own.read_to_end(&mut bytes).expect("read");
    bytes
}

/// No terminal, no input, and nothing of the environment that the tests were started with.
pub(crate) fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).env_clear().envs([
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("USER", "root"),
        ("LOGNAME", "root"),
        ("SHELL", "/bin/bash"),
        ("LANG", "C.UTF-8"),
        ("TERM", "dumb"),
    ])
}
