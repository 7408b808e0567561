//! A command of the node's shell, for nodes that have no agent yet.

use openssh::{Session, Stdio};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::command::Target;
use super::control::Control;
use super::options::NodeOptions;
use super::{Connector, MOMENT};
use crate::node::{NodeError, NodeErrorKind};

/// Most bytes that are kept of a command's stdout and of its stderr.
const MAX_OUTPUT: u64 = 64 * 1024;
/// How many times [`super::SshOptions::timeout`] one command may take: a program has to be sent over slow lines.
const TIMEOUTS: u32 = 20;

/// How a command of the node's shell ended, and what it printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShellOutput {
    /// Whether its exit status was 0.
    pub(crate) success: bool,
    /// Its stdout.
    pub(crate) out: Vec<u8>,
    /// Its stderr.
    pub(crate) err: Vec<u8>,
}

impl Connector {
    /// Runs `command` in the node's shell, with `input` as its stdin. Where the key allows nothing but the
    /// agent, the agent runs instead.
    pub(crate) fn shell(
        &self,
        address: &str,
        node: &NodeOptions,
        command: &str,
        input: &[u8],
    ) -> Result<ShellOutput, NodeError> {
        let target = Target::new(&self.options, address, node)?;
        let control =
            Control::new(&self.options.control_dir, &self.count).map_err(|error| self.no_socket(&error))?;
        let session = self.runtime.block_on(self.open(&target, &control))?;
        let limit = self.options.timeout.saturating_mul(TIMEOUTS);
        let ran = self.runtime.block_on(async {
            let ran = timeout(limit, run(&session, command, input)).await;
            // A master that does not answer ends by itself.
            let _ = timeout(MOMENT, session.close()).await;
            ran
        });
        match ran {
            Ok(Ok(output)) => Ok(output),
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

async fn run(session: &Session, command: &str, input: &[u8]) -> Result<ShellOutput, openssh::Error> {
    let mut command = session.raw_command(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().await?;
    let (stdin, stdout, stderr) = (child.stdin().take(), child.stdout().take(), child.stderr().take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A command that stops reading says why on its stderr.
            let _ = stdin.write_all(input).await;
        }
    };
    let ((), out, err) = tokio::join!(write, read_limited(stdout), read_limited(stderr));
    let success = match child.wait().await {
        Ok(status) => status.success(),
        // How the crate reports that the shell found no command.
        Err(openssh::Error::Remote(error)) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    Ok(ShellOutput { success, out, err })
}

/// The beginning of a stream. The rest is read and discarded, so that the writer can end.
async fn read_limited(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        // An error ends the output early.
        let _ = (&mut stream).take(MAX_OUTPUT).read_to_end(&mut kept).await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    kept
}
