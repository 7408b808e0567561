//! Streams to nodes, by the system's ssh: one connection for each node.
//!
//! ssh itself connects and authenticates, so that the user's ssh_config works as it does by hand. The key is the
//! configured one and no other: who calls, with which ssh-agent, makes no difference. ssh is started as a multiplexing master of our own, and the agent's stream is opened
//! through it with the `openssh` crate, as pipes that can be polled with a deadline. tokio is used here only.

mod command;
mod control;
mod failure;
mod options;
mod own_config;
mod peer;
mod shell;

pub use options::{HostKeys, NodeOptions, SshOptions};
pub use own_config::OwnConfig;
pub(crate) use shell::ShellOutput;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context as _;
use openssh::Session;
use tokio::io::AsyncReadExt as _;
use tokio::process::ChildStderr;
use tokio::runtime::Runtime;

use self::command::Target;
use self::control::Control;
use self::peer::SshPeer;
use super::error::{NodeError, NodeErrorKind};
use super::protocol::handshake::Hello;
use super::remote::Remote;

/// Longest path of a control socket: 108 bytes of `sockaddr_un`, less what ssh appends while it binds.
const MAX_CONTROL: usize = 108 - 18;

/// Connects to nodes. Many threads may do so at once; none of them may be one of tokio's.
#[derive(Debug)]
pub struct Connector {
    options: SshOptions,
    runtime: Arc<Runtime>,
    count: AtomicU64,
}

impl Connector {
    /// Checks the options and makes what they need: the directory of control sockets, which is swept of
    /// what killed runs left, and the one of known_hosts.
    pub fn new(options: SshOptions) -> anyhow::Result<Connector> {
        options.check()?;
        let private = |dir: &Path| {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.with_context(|| format!("cannot make {}", dir.display()))
        };
        private(&options.control_dir)?;
        options.known_hosts.parent().map_or(Ok(()), private)?;
        // Made here, because ssh would make it readable for all. ssh reports a path that cannot be written to.
        let _ = fs::File::options().append(true).create(true).mode(0o600).open(&options.known_hosts);
        control::sweep(&options.control_dir)?;
        let count = AtomicU64::new(0);
        // A disk that is full or read-only is Main's trouble, and not that of each node.
        Control::new(&options.control_dir, &count).with_context(|| {
            format!("no control socket of ssh can be made on Main in {}", options.control_dir.display())
        })?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("ssh")
            .enable_all()
            .build()
            .context("cannot start the ssh runtime")?;
        Ok(Connector { options, runtime: Arc::new(runtime), count })
    }

    /// Connects to a node and shakes hands with its agent.
    pub fn connect(&self, address: &str, node: &NodeOptions, hello: &Hello) -> Result<Remote, NodeError> {
        let target = Target::new(&self.options, address, node)?;
        let control =
            Control::new(&self.options.control_dir, &self.count).map_err(|error| self.no_socket(&error))?;
        let session = self.runtime.block_on(self.open(&target, &control))?;
        let (peer, input, output) =
            SshPeer::start(&self.runtime, session, control, &self.options.agent, self.options.timeout)?;
        Remote::new(input, output, Box::new(peer), hello, self.options.timeout)
    }

    fn no_socket(&self, error: &io::Error) -> NodeError {
        let dir = self.options.control_dir.display();
        NodeError::new(NodeErrorKind::Unreachable, format!("no control socket in {dir}: {error}"))
    }

    /// Starts the master, which goes into the background once it is let in.
    async fn open(&self, target: &Target<'_>, control: &Control) -> Result<Session, NodeError> {
        let log = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(control.log());
        log.map_err(no_ssh)?;
        // ssh bounds the connection itself, but not the authentication.
        let limit = self.options.connect_timeout() + self.options.timeout;
        let ended = tokio::time::timeout(limit, run_ssh(target.arguments(control))).await;
        let Ok(ended) = ended else {
            let detail = format!("{} did not let Main in within {limit:?}", target.address);
            return Err(NodeError::new(NodeErrorKind::Timeout, detail));
        };
        let (status, printed) = ended.map_err(no_ssh)?;
        if status.success() {
            return Ok(Session::resume_mux(control.socket().into(), None));
        }
        let log = control.log_text();
        if log.is_empty() && !printed.is_empty() {
            return Err(failure::of_options(&printed));
        }
        if failure::is_of_proxy(&log) {
            // A master discards what its proxy says. Without one the connection fails again, and the reason is told.
            let again = tokio::time::timeout(limit, run_ssh(target.arguments_without_master(control))).await;
            if let Ok(Ok((_, words))) = again
                && !words.trim().is_empty()
            {
                return Err(failure::of_proxy(&words, target));
            }
        }
        Err(failure::classify(&log, target))
    }
}

fn no_ssh(error: io::Error) -> NodeError {
    NodeError::new(NodeErrorKind::Unreachable, format!("cannot run ssh on Main: {error}"))
}

/// Runs ssh until it ends or is in the background. Also gives the beginning of its stderr: what it says before it opens
/// its log, the node's banner, and the words of a proxy.
async fn run_ssh(arguments: Vec<OsString>) -> io::Result<(ExitStatus, String)> {
    let mut ssh = tokio::process::Command::new("ssh")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut printed = Vec::new();
    let stderr = ssh.stderr.take();
    let status = {
        let read = read_some(stderr, &mut printed);
        tokio::pin!(read);
        let status = tokio::select! {
            status = ssh.wait() => Some(status?),
            () = &mut read => None,
        };
        match status {
            // Something that ssh has started may hold its stderr.
            Some(status) if !status.success() => {
                let _ = tokio::time::timeout(MOMENT, read).await;
                status
            }
            Some(status) => status,
            None => ssh.wait().await?,
        }
    };
    Ok((status, String::from_utf8_lossy(&printed).into_owned()))
}

/// Reads to the end, and keeps the beginning: a node may send as much as it likes.
async fn read_some(stream: Option<ChildStderr>, kept: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let room = MAX_PRINTED.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..count.min(room)]);
    }
}

/// Most bytes of ssh's stderr that are kept.
const MAX_PRINTED: usize = 64 * 1024;
/// How long something that ssh does locally may take.
const MOMENT: Duration = Duration::from_secs(2);
