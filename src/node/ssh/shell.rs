//! A command of the node's shell, for nodes that have no agent yet.

use openssh::{Session, Stdio};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::command::Target;
use super::control::Control;
use super::options::NodeOptions;
use super::{Connector, MOMENT};
use crate::node::{NodeError, NodeErrorKind};

/// Most that is kept of what a command says, on each of its two streams.
const MAX_SAID: u64 = 64 * 1024;
/// One command may take so many times [`super::SshOptions::timeout`]: a program has to cross slow lines.
const PATIENCE: u32 = 20;

/// What a command of the node's shell had to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Whether it ended well.
    pub success: bool,
    /// Its stdout.
    pub out: Vec<u8>,
    /// Its stderr.
    pub err: Vec<u8>,
}

impl Connector {
    /// Lets the node's shell run `command` with `input` as its stdin. Where the key runs nothing but the
    /// agent, it is the agent that answers.
    pub fn shell(
        &self,
        address: &str,
        node: &NodeOptions,
        command: &str,
        input: &[u8],
    ) -> Result<Said, NodeError> {
        let target = Target::new(&self.options, address, node)?;
        let control = Control::of_this_run(&self.options.control_dir, &self.count)
            .map_err(|error| self.no_socket(&error))?;
        let session = self.runtime.block_on(self.open(&target, &control))?;
        let limit = self.options.timeout.saturating_mul(PATIENCE);
        let said = self.runtime.block_on(async {
            let said = timeout(limit, run(&session, command, input)).await;
            // A master that does not answer ends by itself.
            let _ = timeout(MOMENT, session.close()).await;
            said
        });
        match said {
            Ok(Ok(said)) => Ok(said),
            Ok(Err(error)) => {
                let detail = format!("the node's shell: {:#}", anyhow::Error::new(error));
                Err(NodeError::new(NodeErrorKind::Lost, detail))
            }
            Err(_) => {
                let detail = format!("the node's shell was not done within {limit:?}");
                Err(NodeError::new(NodeErrorKind::Timeout, detail))
            }
        }
    }
}

async fn run(session: &Session, command: &str, input: &[u8]) -> Result<Said, openssh::Error> {
    let mut command = session.raw_command(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().await?;
    let (stdin, stdout, stderr) = (child.stdin().take(), child.stdout().take(), child.stderr().take());
    let give = async {
        if let Some(mut stdin) = stdin {
            // One that reads no more says why, and ends.
            let _ = stdin.write_all(input).await;
        }
    };
    let ((), out, err) = tokio::join!(give, keep(stdout), keep(stderr));
    let success = match child.wait().await {
        Ok(status) => status.success(),
        // How the crate reports that the shell found no command.
        Err(openssh::Error::Remote(error)) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    Ok(Said { success, out, err })
}

/// The beginning of a stream; the rest is read and thrown away, so that its writer ends.
async fn keep(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        // What cannot be read was not said.
        let _ = (&mut stream).take(MAX_SAID).read_to_end(&mut kept).await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    kept
}
