//! `xds-sync status`.

use std::io::Write as _;

use serde::Serialize;

use super::{Context, load};
use crate::host;
use crate::report::exit::IN_STEP;
use crate::report::running::Running;
use crate::report::status::Status;
use crate::report::text::Verbosity;
use crate::report::to_json;
use crate::state::{BegunRun, StateDir};

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
    let state = StateDir::open(&config.sync.state_dir)?;
    let status = load::status(&state)?.unwrap_or_default();
    let running = running(&state);
    let mut out = Vec::new();
    if args.json {
        out = to_json(&WithRunning { status: &status, running }).into_bytes();
    } else {
        status.write(host::now(), context.ui.style(), &mut out)?;
        if let Some(running) = running.filter(|_| context.ui.verbosity() > Verbosity::Quiet) {
            writeln!(out, "{}", running.words(host::now()))?;
        }
    }
    context.ui.result(&out)?;
    Ok(status.exit_code.unwrap_or(IN_STEP))
}

/// `status.json`, and what is not in there.
#[derive(Serialize)]
struct WithRunning<'a> {
    #[serde(flatten)]
    status: &'a Status,
    running: Option<Running>,
}

fn running(state: &StateDir) -> Option<Running> {
    let BegunRun { run, started } = state.begun_run()?;
    Some(Running { run, started, pid: state.runner() })
}
