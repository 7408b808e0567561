//! `xds-sync agent`: what ssh runs on a node.

use std::path::PathBuf;

use super::exit;
use crate::host;

const NOTES: &str = "\
Speaks the protocol of xds-sync on stdin and stdout; not for use by hand. Which directories a Main may
touch, and what its reloads run, is in /etc/xds-sync/node.toml, or $XDS_SYNC_NODE_CONFIG.

Examples:
  restrict,command=\"/usr/bin/xds-sync agent\" ssh-ed25519 AAAA…    in ~/.ssh/authorized_keys";

/// What Main's ssh runs on a node
#[derive(clap::Args, Debug)]
#[command(after_help = NOTES)]
pub(super) struct Args {}

/// What this node accepts, when nobody says otherwise.
const DEFAULT_NODE_CONFIG: &str = "/etc/xds-sync/node.toml";

pub(super) fn run(_: &Args) -> anyhow::Result<u8> {
    let _path =
        host::variable("XDS_SYNC_NODE_CONFIG").map_or_else(|| DEFAULT_NODE_CONFIG.into(), PathBuf::from);
    Ok(exit::DONE)
}
