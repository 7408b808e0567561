//! `xds-sync status`.

use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::{Context, load};
use crate::config::Config;
use crate::daemon::control::{Client, Event, Request, SOCKET};
use crate::daemon::live::Live;
use crate::host;
use crate::report::exit::IN_STEP;
use crate::report::running::Running;
use crate::report::status::Status;
use crate::report::text::Verbosity;
use crate::state::{BegunRun, StateDir};

const EXAMPLES: &str = "\
Examples:
  xds-sync status             who is in step, since when, and why not
  xds-sync status --quiet     only who is not; nothing when all are
  xds-sync status --json      the same for machines
  xds-sync status --follow    keep showing it, with what the service is about

The exit code is the last run's, so a monitor can call this as it would call the run.";

/// Between two looks of `--follow`.
const FOLLOW: Duration = Duration::from_secs(1);

/// Show who is in step, since when, and what is held or owed
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Print one JSON object; with --follow one a second, each on a line
    #[arg(long)]
    json: bool,
    /// Show it again every second, until Ctrl-C
    #[arg(long)]
    follow: bool,
}

/// The last run, and the daemon.
#[derive(Serialize)]
struct Both<'a> {
    #[serde(flatten)]
    status: &'a Status,
    /// The run that is going on, or was cut off.
    running: Option<Running>,
    /// `null`: none is running.
    daemon: Option<&'a Live>,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let config = load::config(context)?;
    loop {
        let code = show(context, args, &config)?;
        if !args.follow {
            return Ok(code);
        }
        thread::sleep(FOLLOW);
        if !args.json {
            context.ui.result(b"\n")?;
        }
    }
}

fn show(context: &Context, args: &Args, config: &Config) -> anyhow::Result<u8> {
    let state = StateDir::open(&config.sync.state_dir)?;
    let status = load::status(&state)?.unwrap_or_default();
    let running = running(&state);
    let live = live()?;
    let mut out = Vec::new();
    if args.json {
        serde_json::to_writer(&mut out, &Both { status: &status, running, daemon: live.as_ref() })?;
        out.push(b'\n');
    } else {
        status.write(host::now(), context.ui.style(), &mut out)?;
        if let Some(running) = running.filter(|_| context.ui.verbosity() > Verbosity::Quiet) {
            writeln!(out, "{}", running.words(host::now()))?;
        }
        if let Some(live) = &live {
            live.write(host::now(), context.ui.style(), &mut out)?;
        }
    }
    context.ui.result(&out)?;
    Ok(status.exit_code.unwrap_or(IN_STEP))
}

/// How the daemon is; `None`: none is running.
fn live() -> anyhow::Result<Option<Live>> {
    let request = Request::Status { follow: false };
    let Some(mut client) = Client::ask(Path::new(SOCKET), &request)? else { return Ok(None) };
    while let Some(event) = client.next()? {
        if let Event::Status(live) = event {
            return Ok(Some(live));
        }
    }
    Ok(None)
}

fn running(state: &StateDir) -> Option<Running> {
    let BegunRun { run, started } = state.begun_run()?;
    Some(Running { run, started, pid: state.runner() })
}
