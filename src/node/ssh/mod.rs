//! Streams to nodes, by the system's ssh: one connection for each node.
//!
//! ssh itself connects and authenticates, so that the user's ssh_config, agents and hardware keys work as
//! they do by hand. It is started as a multiplexing master of our own, and the agent's stream is opened
//! through it with the `openssh` crate, as pipes that can be polled with a deadline. tokio is used here only.

mod command;
mod control;
mod failure;
mod keep;
mod options;
mod own_config;
mod peer;
mod shell;

pub use options::{HostKeys, NodeOptions, SshOptions};
pub use own_config::OwnConfig;
pub(crate) use shell::ShellOutput;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context as _;
use openssh::Session;
use tokio::runtime::Runtime;

use self::command::Target;
use self::control::Control;
use self::keep::KeptConnection;
use self::peer::{SshPeer, Stream};
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
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("ssh")
            .enable_all()
            .build()
            .context("cannot start the ssh runtime")?;
        if options.persist.is_none() {
            for left in keep::kept(&options.control_dir)? {
                keep::end(&runtime, &left);
            }
        }
        Ok(Connector { options, runtime: Arc::new(runtime), count: AtomicU64::new(0) })
    }

    /// Connects to a node and shakes hands with its agent.
    pub fn connect(&self, address: &str, node: &NodeOptions, hello: &Hello) -> Result<Remote, NodeError> {
        let target = Target::new(&self.options, address, node)?;
        let persist = self.options.persist.filter(|_| target.may_be_kept());
        let (peer, input, output) = match persist {
            Some(persist) => self.kept(&target, persist)?,
            None => self.fresh(&target)?,
        };
        Remote::new(input, output, Box::new(peer), hello, self.options.timeout)
    }

    /// A stream through a connection of this run alone.
    fn fresh(&self, target: &Target<'_>) -> Result<Stream, NodeError> {
        let control = Control::of_this_run(&self.options.control_dir, &self.count)
            .map_err(|error| self.no_socket(&error))?;
        let session = self.runtime.block_on(self.open(target, &control))?;
        SshPeer::start(&self.runtime, session, control, &self.options.agent, self.options.timeout)
    }

    /// A stream through a connection that outlives this run.
    fn kept(&self, target: &Target<'_>, persist: Duration) -> Result<Stream, NodeError> {
        let kept = KeptConnection::new(&self.options.control_dir, target);
        let _lock = kept.lock().map_err(|error| self.no_socket(&error))?;
        for outdated in kept.outdated().unwrap_or_default() {
            keep::end(&self.runtime, &outdated);
        }
        let start = |session, limit| {
            SshPeer::start(&self.runtime, session, kept.control(), &self.options.agent, limit)
        };
        let control = kept.control();
        if keep::is_young(&control, persist, (self.options.now)()) {
            let session = Session::resume_mux(control.socket().into(), None);
            // A node that is still connected answers at once.
            if let Ok(stream) = start(session, MOMENT) {
                return Ok(stream);
            }
        }
        keep::end(&self.runtime, &control);
        control.make().map_err(|error| self.no_socket(&error))?;
        let session = self.runtime.block_on(self.open(target, &control))?;
        start(session, self.options.timeout)
    }

    fn no_socket(&self, error: &io::Error) -> NodeError {
        let dir = self.options.control_dir.display();
        NodeError::new(NodeErrorKind::Unreachable, format!("no control socket in {dir}: {error}"))
    }

    /// Starts the master, which goes into the background once it is let in.
    async fn open(&self, target: &Target<'_>, control: &Control) -> Result<Session, NodeError> {
        let failed = |error: io::Error| {
            NodeError::new(NodeErrorKind::Unreachable, format!("cannot run ssh on Main: {error}"))
        };
        let log = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(control.log());
        let log = log.map_err(failed)?;
        let mut master = tokio::process::Command::new("ssh")
            .args(target.arguments(control))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        // ssh bounds the connection itself, but not the authentication.
        let limit = self.options.connect_timeout() + self.options.timeout;
        match tokio::time::timeout(limit, master.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(Session::resume_mux(control.socket().into(), None)),
            Ok(Ok(_)) => Err(failure::classify(&control.log_text(), target)),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => {
                let detail = format!("{} did not let Main in within {limit:?}", target.address);
                Err(NodeError::new(NodeErrorKind::Timeout, detail))
            }
        }
    }
}

/// How long something that ssh does locally may take.
const MOMENT: Duration = Duration::from_secs(2);
