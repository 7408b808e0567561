//! `xds-sync status`.

use super::{Context, load};
use crate::host;
use crate::report::exit::IN_STEP;
use crate::state::StateDir;

const EXAMPLES: &str = "\
Examples:
  xds-sync status            who is in step, since when, and why not
  xds-sync status --quiet    only who is not; nothing when all are
  xds-sync status --json     the same for machines

The exit code is the last run's, so a monitor can call this as it would call the run.";

/// Show who is in step, since when, and what is held or owed
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let config = load::config(context)?;
    let status = load::status(&StateDir::open(&config.sync.state_dir)?)?.unwrap_or_default();
    let mut out = Vec::new();
    if args.json {
        out = status.to_json().into_bytes();
    } else {
        status.write(host::now(), context.ui.style(), &mut out)?;
    }
    context.ui.result(&out)?;
    Ok(status.exit_code.unwrap_or(IN_STEP))
}
