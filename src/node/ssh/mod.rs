//! How a stream to a node comes about: the system's ssh, one connection for each node.
//!
//! ssh itself connects and authenticates, so that the user's ssh_config, agents and hardware keys work as
//! they do by hand. It is started as a multiplexing master of our own, and the agent's stream is opened
//! through it with the `openssh` crate, as pipes that can be polled with a deadline. tokio stays in here.

mod command;
mod options;
mod peer;
mod shell;
mod words;

pub use options::{HostKeys, NodeOptions, SshOptions};
pub use shell::Said;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use openssh::Session;
use tokio::runtime::Runtime;

use self::command::Target;
use self::peer::SshPeer;
use super::endpoint::{NodeError, NodeErrorKind};
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
        sweep(&options.control_dir)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("ssh")
            .enable_all()
            .build()
            .context("cannot start the ssh runtime")?;
        Ok(Connector { options, runtime: Arc::new(runtime), count: AtomicU64::new(0) })
    }

    /// Connects to a node and meets its agent.
    pub fn connect(&self, address: &str, node: &NodeOptions, hello: &Hello) -> Result<Remote, NodeError> {
        let target = Target::new(&self.options, address, node)?;
        let control = self.control()?;
        let session = self.runtime.block_on(self.open(&target, &control))?;
        let (peer, input, output) = SshPeer::start(&self.runtime, session, control, &self.options)?;
        Remote::new(input, output, Box::new(peer), hello, self.options.timeout)
    }

    /// A directory for one connection's socket and log.
    fn control(&self) -> Result<ControlDir, NodeError> {
        loop {
            let number = self.count.fetch_add(1, Ordering::Relaxed);
            let path = self.options.control_dir.join(format!("{}-{number}", std::process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(ControlDir(path)),
                // Of a killed run that had our process id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    let detail = format!("no control socket in {}: {error}", path.display());
                    return Err(NodeError::new(NodeErrorKind::Unreachable, detail));
                }
            }
        }
    }

    /// Starts the master, which goes into the background once it is let in.
    async fn open(&self, target: &Target<'_>, control: &ControlDir) -> Result<Session, NodeError> {
        let failed = |error: io::Error| {
            NodeError::new(NodeErrorKind::Unreachable, format!("cannot run ssh on Main: {error}"))
        };
        let log = fs::File::create(control.log()).map_err(failed)?;
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
            Ok(Ok(_)) => Err(words::judge(&control.words(), target)),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => {
                let detail = format!("{} did not let Main in within {limit:?}", target.address);
                Err(NodeError::new(NodeErrorKind::Timeout, detail))
            }
        }
    }
}

/// Removes the directories of processes that are no more.
fn sweep(control_dir: &Path) -> anyhow::Result<()> {
    let entries =
        fs::read_dir(control_dir).with_context(|| format!("cannot read {}", control_dir.display()))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid =
            name.to_str().and_then(|name| name.split_once('-')).and_then(|(pid, _)| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            // Another run may sweep as well.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// One connection's own directory; gone with it.
#[derive(Debug)]
struct ControlDir(PathBuf);

/// Most that is read of what ssh itself said.
const MAX_WORDS: u64 = 64 * 1024;

impl ControlDir {
    fn socket(&self) -> PathBuf {
        self.0.join("s")
    }

    fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// What ssh said.
    fn words(&self) -> String {
        use std::io::Read as _;
        let mut words = Vec::new();
        if let Ok(log) = fs::File::open(self.log()) {
            // What cannot be read was not said.
            let _ = log.take(MAX_WORDS).read_to_end(&mut words);
        }
        String::from_utf8_lossy(&words).into_owned()
    }
}

impl Drop for ControlDir {
    fn drop(&mut self) {
        // The next run sweeps what cannot be removed now.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits for something of ssh's that should take a moment.
const MOMENT: Duration = Duration::from_secs(2);
