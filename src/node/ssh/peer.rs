//! An agent at the other end of an ssh connection.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openssh::{Child, Session, Stdio};
use tokio::io::AsyncReadExt as _;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::control::Control;
use super::{MOMENT, failure};
use crate::node::{Ended, NodeError, NodeErrorKind, Peer};

/// Most bytes that are kept of an agent's stderr: its end.
const MAX_STDERR: usize = 64 * 1024;

/// An agent with its stdout and its stdin.
pub(super) type Stream = (SshPeer, OwnedFd, OwnedFd);

/// The agent, and its connection, which ends with it.
pub(super) struct SshPeer {
    runtime: Arc<Runtime>,
    child: Option<Child<Arc<Session>>>,
    session: Option<Arc<Session>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    control: Control,
}

impl SshPeer {
    /// Starts the agent; the node takes no longer than `limit` to open a session for it.
    pub(super) fn start(
        runtime: &Arc<Runtime>,
        session: Session,
        control: Control,
        agent: &str,
        limit: Duration,
    ) -> Result<Stream, NodeError> {
        // From here on the session belongs to the peer, which closes it whatever fails.
        let session = Arc::new(session);
        let mut peer = SshPeer {
            runtime: Arc::clone(runtime),
            child: None,
            session: Some(Arc::clone(&session)),
            stderr: Arc::default(),
            reader: None,
            control,
        };
        let started = runtime.block_on(async { timeout(limit, spawn(session, agent)).await });
        let lost =
            |detail: String| NodeError::new(NodeErrorKind::Lost, format!("no stream to the node: {detail}"));
        let (child, stdin, stdout, stderr) = match started {
            Ok(Ok(started)) => started,
            Ok(Err(error)) => return Err(lost(format!("{:#}", anyhow::Error::new(error)))),
            Err(_) => return Err(NodeError::new(NodeErrorKind::Timeout, "the node opened no session")),
        };
        peer.child = Some(child);
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(lost("it has no pipes".to_owned()));
        };
        peer.reader = Some(runtime.spawn(keep_tail(stderr, Arc::clone(&peer.stderr))));
        let input = stdout.into_owned_fd().map_err(|error| lost(error.to_string()))?;
        let output = stdin.into_owned_fd().map_err(|error| lost(error.to_string()))?;
        Ok((peer, input, output))
    }
}

/// An agent, and its stdin, stdout and stderr.
type Spawned = (
    Child<Arc<Session>>,
    Option<openssh::ChildStdin>,
    Option<openssh::ChildStdout>,
    Option<openssh::ChildStderr>,
);

async fn spawn(session: Arc<Session>, agent: &str) -> Result<Spawned, openssh::Error> {
    let mut command = session.arc_raw_command(agent);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().await?;
    let (stdin, stdout, stderr) = (child.stdin().take(), child.stdout().take(), child.stderr().take());
    Ok((child, stdin, stdout, stderr))
}

async fn keep_tail(mut stderr: openssh::ChildStderr, tail: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(&buffer[..count]);
        let excess = tail.len().saturating_sub(MAX_STDERR);
        tail.drain(..excess);
    }
}

impl Peer for SshPeer {
    fn ended(&mut self) -> Ended {
        let (child, reader) = (self.child.take(), self.reader.take());
        let status = self.runtime.block_on(async {
            let status = match child {
                Some(child) => timeout(MOMENT, child.wait()).await.ok(),
                None => None,
            };
            if let Some(reader) = reader {
                // What has not arrived by then is lost.
                let _ = timeout(MOMENT, reader).await;
            }
            status
        });
        let status = match status {
            Some(Ok(status)) => status.code(),
            // How the crate reports that the shell found no command.
            Some(Err(openssh::Error::Remote(error))) if error.kind() == std::io::ErrorKind::NotFound => {
                Some(127)
            }
            _ => None,
        };
        let tail = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stderr = String::from_utf8_lossy(&tail).into_owned();
        if stderr.trim().is_empty() && status.is_none() {
            // The connection itself broke: ssh may have logged why.
            stderr = failure::last_lines(&self.control.log_text()).unwrap_or_default();
        }
        Ended { status, stderr }
    }
}

impl Drop for SshPeer {
    fn drop(&mut self) {
        // The stream is closed first: a master without streams ends as soon as it is told to.
        drop(self.child.take());
        if let Some(reader) = self.reader.take() {
            reader.abort();
        }
        if let Some(session) = self.session.take().and_then(Arc::into_inner) {
            // A master that does not answer ends by itself, see `LINGER`.
            let _ = self.runtime.block_on(async { timeout(MOMENT, session.close()).await });
        }
    }
}
