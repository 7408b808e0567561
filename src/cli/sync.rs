//! `xds-sync sync`: one run, from its arguments to its exit code.

mod cron;

use std::path::Path;
use std::sync::Arc;

use super::{Context, by_daemon, candidates, exit, init, load, publish, signals};
use crate::config::{Config, Mistakes};
use crate::daemon::control::SyncRequest;
use crate::logging;
use crate::record;
use crate::report::exit::{DIFFERENCES, IN_STEP, LOCKED, first_of};
use crate::report::status::Scope;
use crate::report::text::Verbosity;
use crate::report::{Report, json, text};
use crate::site::{self, Access, Locked, Locking, Services, Site};
use crate::sync::Options;

const EXAMPLES: &str = "\
Examples:
  xds-sync sync                      bring every node in step
  xds-sync sync --dry-run            show what that would do
  xds-sync sync --node mds1 mds2     only these nodes
  xds-sync sync --dir moh --checksum
                                     only music on hold, reading
                                     every file again
  xds-sync sync --accept-deletes TOKEN
                                     carry out a plan that a
                                     guard stopped

Exit codes:
  0  every node in step
  1  usage or configuration error
  2  agent missing or incompatible
  3  a root is missing or another one
  4  the store's lease is another Main's
  6  -n --exit-code: differences
 20  interrupted by a signal
 23  some entries failed
 25  the delete guard refused
 30  a node fell silent
 40  some nodes are unreachable
 41  all nodes are unreachable
 42  files are right, a reload failed
 43  a conflict waits for a decision
 50  the store was tampered with
 70  internal error
 75  another run is going on";

/// All options of a run; `-i` is none.
const NOT_WITH_INIT: [&str; 10] = [
    "dry_run",
    "nodes",
    "directories",
    "checksum",
    "reload",
    "accept_deletes",
    "exit_code",
    "wait",
    "json",
    "cron",
];

/// Where a configuration that cannot be read would most likely have its state.
const STATE_DIR: &str = "/var/lib/xds-sync";

/// Of a node that follows the store.
const INSTEAD: &str = "`xds-sync publish` here brings it what is new at its next look, and `xds-sync follow --once` there at once";

/// Bring every node in step with Main, once
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Do what `xds-sync init` does
    #[arg(short = 'i', conflicts_with_all = NOT_WITH_INIT)]
    init: bool,
    /// Show what would be done, one line per change; touch nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Only these nodes
    #[arg(long = "node", value_name = "NAME", num_args = 1.., add = candidates::nodes())]
    nodes: Vec<String>,
    /// Only these directories
    #[arg(long = "dir", value_name = "NAME", num_args = 1.., add = candidates::directories())]
    directories: Vec<String>,
    /// Read every file again, whatever its size and times say
    #[arg(long)]
    checksum: bool,
    /// Reload Asterisk even where no reload is due
    #[arg(long)]
    reload: bool,
    /// Carry out the plan with this token, which a guard stopped
    #[arg(long, value_name = "TOKEN", num_args = 1..)]
    accept_deletes: Vec<String>,
    /// With --dry-run: exit with 6 when there are differences
    #[arg(long, requires = "dry_run")]
    exit_code: bool,
    /// Wait while another run is going on
    #[arg(long)]
    wait: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// As the cron job does: tell a problem when it begins, when it changes, once a day, and when it is over
    #[arg(long, conflicts_with_all = ["dry_run", "json", "nodes", "directories"])]
    cron: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    if args.init {
        return init::run(context, &init::Args::default());
    }
    // A dry run leaves nothing in syslog.
    let use_syslog = |facility: &str| {
        if !args.dry_run {
            logging::use_syslog(facility);
        }
    };
    use_syslog(logging::DEFAULT_FACILITY);
    let loaded = load::config(context);
    let config = match loaded {
        Ok(config) => config,
        Err(error) => return no_run(context, args, Path::new(STATE_DIR), error),
    };
    use_syslog(&config.sync.syslog_facility);
    let state = config.sync.state_dir.clone();
    match site::standby(Path::new(site::HA_CONFIG)) {
        Ok(None) => {}
        Ok(Some(role)) => {
            let why =
                format!("this host is not the master ({} says {role:?}): nothing to do", site::HA_CONFIG);
            context.ui.aside(&why);
            record::not_this_host(&why);
            return Ok(exit::DONE);
        }
        Err(error) => return no_run(context, args, &state, error),
    }
    load::check_directories(&args.directories, &config)?;
    if !config.discovery.is_used() {
        load::check_nodes(&args.nodes, &config, INSTEAD)?;
    }
    match by_daemon::run(context, &config, args.json, request(args)) {
        Ok(None) => {}
        Ok(Some((code, differences))) => {
            let is_told = args.exit_code && differences && code == IN_STEP;
            return Ok(if is_told { DIFFERENCES } else { code });
        }
        Err(error) => return no_run(context, args, &state, error),
    }
    match perform(context, args, config) {
        Err(error) => no_run(context, args, &state, error),
        Ok((report, code)) => {
            // The run is over, and its exit code stands even where its report cannot be printed.
            if let Err(error) = print(context, args, &report, code) {
                context.ui.error(&format!("printing the report: {error}"));
            }
            Ok(code)
        }
    }
}

/// The run as the daemon is asked for it.
fn request(args: &Args) -> SyncRequest {
    SyncRequest {
        dry_run: args.dry_run,
        nodes: args.nodes.clone(),
        directories: args.directories.clone(),
        checksum: args.checksum,
        reload: args.reload,
        accept_deletes: args.accept_deletes.clone(),
        cron: args.cron,
        ..SyncRequest::default()
    }
}

/// There was no run: says why in the log, and in the way that this one's user asked for.
fn no_run(context: &Context, args: &Args, state: &Path, error: anyhow::Error) -> anyhow::Result<u8> {
    let lines = match error.downcast_ref::<Mistakes>() {
        Some(mistakes) => mistakes.0.iter().map(ToString::to_string).collect(),
        None => vec![exit::line_of(&error)],
    };
    lines.iter().for_each(|line| record::no_run(line));
    let is_locked = error.is::<Locked>();
    match (args.cron, is_locked) {
        // A first copy takes hours, and nothing is wrong.
        (true, true) => Ok(LOCKED),
        (true, false) => {
            cron::say_no_run(context, state, &lines);
            Ok(exit::code_of(&error))
        }
        (false, true) => {
            context.ui.error(&format!("{}; --wait waits for its end", lines.join("; ")));
            Ok(LOCKED)
        }
        (false, false) => Err(error),
    }
}

/// The run itself, and what it leaves behind.
fn perform(context: &Context, args: &Args, config: Config) -> anyhow::Result<(Report, u8)> {
    let stop = signals::stop_flag()?;
    let progress = context.ui.progress(&stop);
    let services = Services { progress, stop: Arc::clone(&stop), ..load::services() };
    let access = if args.dry_run { Access::ReadOnly } else { Access::Change };
    let open = |locking| Site::open(config.clone(), locking, access, services.clone());
    let mut site = match open(Locking::Try) {
        Err(error) if args.wait && error.is::<Locked>() => {
            context.ui.message(&format!("{error}; waiting for its end"));
            open(Locking::Wait)?
        }
        opened => opened?,
    };
    if !args.cron {
        load::show_failures(context, site.nodes());
    }
    load::check_nodes(&args.nodes, site.config(), INSTEAD)?;
    load::check_any_node(context, site.nodes())?;

    // Where the store does not answer, nothing can be published either, and that is told.
    if let Err(error) = site.join_followers() {
        log::warn!("what nodes uploaded is not taken in: {error:#}");
    }
    signals::begin_run(&stop);
    let mut report = site.sync(&Options {
        dry_run: args.dry_run,
        nodes: args.nodes.clone(),
        directories: args.directories.clone(),
        checksum: args.checksum,
        reload_always: args.reload,
        accept: args.accept_deletes.clone(),
        ..Options::default()
    })?;
    // What one node or directory was asked for says nothing of the rest.
    let is_full = args.nodes.is_empty() && args.directories.is_empty() && !report.interrupted;
    let published = match is_full && !args.dry_run {
        true => publish::after_run(&site, &mut report, &args.accept_deletes),
        false => IN_STEP,
    };
    let code = match first_of(&[report.exit_code(), published]) {
        IN_STEP if args.exit_code && report.has_differences() => DIFFERENCES,
        code => code,
    };
    if context.ui.verbosity() == Verbosity::Verbose
        && let Ok(Some(known)) = load::status(site.state())
    {
        known.fill_in(&mut report);
    }
    let scope = Scope { nodes: &args.nodes, directories: &args.directories, newer: None };
    record::run(site.state(), &mut report, code, scope);
    if args.cron
        && let Err(error) = cron::say(context, site.state(), &report)
    {
        log::error!("{error:#}");
    }
    Ok((report, code))
}

fn print(context: &Context, args: &Args, report: &Report, code: u8) -> std::io::Result<()> {
    if args.cron {
        return Ok(());
    }
    let mut out = Vec::new();
    if args.json {
        out = json::render(report, code).into_bytes();
    } else {
        text::write(report, context.ui.style(), &mut out)?;
    }
    context.ui.result(&out)
}
