//! `xds-sync agent`: what ssh runs on a node.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::ensure;

use super::exit;
use crate::host;
use crate::logging;
use crate::node::{Accept, EpochLimit, NodeError, NodeErrorKind, agent, widen};
use crate::site;

const NOTES: &str = "\
Speaks the protocol of xds-sync on stdin and stdout; not for use by
hand. Which directories a Main may touch, and what its reloads run,
is in /etc/xds-sync/node.toml, or in the file that the command line
names: Main may have a say in the environment.

Examples, in ~/.ssh/authorized_keys:
  restrict,command=\"/usr/bin/xds-sync agent\" ssh-ed25519 AAAA…";

/// What Main's ssh runs on a node
#[derive(clap::Args, Debug)]
#[command(after_help = NOTES)]
pub(super) struct Args {
    /// Read what this node accepts from here, not from /etc/xds-sync/node.toml
    #[arg(long, value_name = "FILE")]
    node_config: Option<PathBuf>,
}

/// Where it is written what this node accepts.
const DEFAULT_NODE_CONFIG: &str = "/etc/xds-sync/node.toml";

/// The file that says what this node accepts, for commands that an administrator types on the node: the environment may
/// name another one.
pub(super) fn node_config() -> PathBuf {
    let named = host::variable("XDS_SYNC_NODE_CONFIG").map(PathBuf::from);
    named.unwrap_or_else(|| DEFAULT_NODE_CONFIG.into())
}

pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    ensure!(
        !io::stdin().is_terminal(),
        "the agent is for Main's ssh, which speaks with it over a pipe; for people there is `xds-sync status` on Main"
    );
    logging::use_syslog(logging::DEFAULT_FACILITY);
    let file = args.node_config.clone().unwrap_or_else(|| DEFAULT_NODE_CONFIG.into());
    // The protocol has its own buffers; a second one, or a look for line ends, would only cost time.
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    widen(&input);
    widen(&output);
    let accept = match Accept::read(&file) {
        Ok(accept) => {
            Accept { max_epoch: EpochLimit::at(host::now()), machine: Some(site::machine()), ..accept }
        }
        Err(error) => {
            // Main shows it to its administrator, who does not see what is printed here.
            log::error!("session refused: {error:#}");
            let refused = NodeError::new(NodeErrorKind::Refused, exit::line_of(&error));
            agent::decline(&mut output, &refused)?;
            return Err(error);
        }
    };
    let progress = Arc::new(AtomicU64::new(0));
    let mut disk = site::node_disk(&accept, host::now, host::ulid, &progress);
    agent::serve(input, output, &mut disk, &accept, &progress)?;
    Ok(exit::DONE)
}
