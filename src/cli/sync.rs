//! `xds-sync sync`: one run, from its arguments to its exit code.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::connect::{self, Ssh};
use super::{Context, discover, exit, ha, history, init, load};
use crate::config::Config;
use crate::host;
use crate::report::exit::{DIFFERENCES, IN_STEP, INTERRUPTED};
use crate::report::status::{Scope, Status};
use crate::report::syslog::{self, Line, Severity};
use crate::report::{Report, json, text};
use crate::state::StateDir;
use crate::sync::{self, Options, Site};

const EXAMPLES: &str = "\
Examples:
  xds-sync sync                          bring every node in step
  xds-sync sync --dry-run                what that would do; touches nothing
  xds-sync sync --node mds1 mds2         only these nodes
  xds-sync sync --dir moh --checksum     only music on hold, reading every file again
  xds-sync sync --accept-deletes TOKEN   let a plan go ahead that the delete guard stopped

Exit codes:
  0  every node in step                  30  a node fell silent
  1  usage or configuration error        40  some nodes are unreachable
  2  agent missing or incompatible       41  all nodes are
  3  a root is missing or another one    42  files are right, a reload failed
 20  interrupted                         43  a conflict waits for a decision
 23  some entries failed                 70  internal error
 25  the delete guard refused            75  another run is going on";

/// All options of a run; `-i` is none.
const NOT_WITH_INIT: [&str; 9] =
    ["dry_run", "nodes", "directories", "checksum", "reload", "accept_deletes", "exit_code", "wait", "json"];

/// Bring every node in step, once
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
    #[arg(long = "node", value_name = "NAME", num_args = 1..)]
    nodes: Vec<String>,
    /// Only these directories
    #[arg(long = "dir", value_name = "NAME", num_args = 1..)]
    directories: Vec<String>,
    /// Read every file again, whatever its size and times say
    #[arg(long)]
    checksum: bool,
    /// Reload Asterisk whether due or not
    #[arg(long)]
    reload: bool,
    /// Let the halted plan with this token go ahead
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
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    if args.init {
        return init::run(context, &init::Args::default());
    }
    let log = |facility: &str, lines: &[Line]| match args.dry_run {
        true => {}
        false => log(context, facility, lines),
    };
    let failed = |facility: &str, error: &anyhow::Error| {
        log(facility, &[Line::new(Severity::Error, format!("no run: {}", exit::line_of(error)))]);
    };
    let config = load::config(context).inspect_err(|error| failed(syslog::DEFAULT_FACILITY, error))?;
    let facility = &config.sync.syslog_facility;

    if let Some(node_type) = ha::standby(Path::new(ha::PATH)).inspect_err(|error| failed(facility, error))? {
        let why = format!("this host is not the master ({} says {node_type:?}): nothing to do", ha::PATH);
        context.ui.aside(&why);
        log(facility, &[Line::new(Severity::Info, why)]);
        return Ok(exit::DONE);
    }
    let directories = config.directories.iter().map(|directory| directory.name.as_str());
    load::check_names("directory", &args.directories, directories)?;
    if !config.discovery.is_used() {
        check_nodes(args, &config)?;
    }

    let (report, code) = go(context, args, &config).inspect_err(|error| failed(facility, error))?;
    log(facility, &syslog::render(&report, code));
    // The run has happened, and its code says how; that nobody could read about it does not change that.
    if let Err(error) = print(context, args, &report, code) {
        context.ui.error(&format!("printing the report: {error}"));
    }
    Ok(code)
}

fn check_nodes(args: &Args, config: &Config) -> anyhow::Result<()> {
    load::check_names("node", &args.nodes, config.nodes.iter().map(|node| node.name.as_str()))
}

/// The run itself, and what it leaves behind in the state directory.
fn go(context: &Context, args: &Args, config: &Config) -> anyhow::Result<(Report, u8)> {
    let stop = stop_on_signals()?;
    let state = StateDir::open(&config.sync.state_dir)?;
    let _lock = load::lock(&state, || args.wait)?;
    let known = discover::nodes(context, config.clone())?;
    known.remember(context, &state);
    let config = &known.config;
    check_nodes(args, config)?;
    stop.store(false, Ordering::Relaxed);
    let progress = context.ui.progress();
    let options = Options {
        dry_run: args.dry_run,
        nodes: args.nodes.clone(),
        directories: args.directories.clone(),
        checksum: args.checksum,
        reload_always: args.reload,
        accept: args.accept_deletes.clone(),
    };
    let identity = load::identity(&state, args.dry_run)?;
    let ssh = Ssh::new(config, &state, identity)?;
    let site = Site {
        config,
        // A row that was dropped may have been a node, and be one again.
        knows_all_nodes: known.problems().is_empty(),
        state: &state,
        connect: &ssh,
        main: Mutex::new(connect::main_disk(&state)),
        now: &host::now,
        new_id: &host::ulid,
        progress: &*progress,
        stop: &stop,
    };
    let mut report = sync::run(&site, &options)?;
    report.problems.extend(known.problems());

    let code = match report.exit_code() {
        IN_STEP if args.exit_code && report.has_differences() => DIFFERENCES,
        code => code,
    };
    if !args.dry_run {
        history::remember(&state, &mut report, code);
    }
    if !args.dry_run
        && let Err(error) = remember(&state, args, &report, code)
    {
        context.ui.error(&exit::line_of(&error));
    }
    Ok((report, code))
}

/// Leaves the status for `xds-sync status`, and the stamp of a full run that went well.
fn remember(state: &StateDir, args: &Args, report: &Report, code: u8) -> anyhow::Result<()> {
    // A status that cannot be read says nothing; the one that follows replaces it.
    let before = state.status()?.and_then(|text| Status::parse(&text).ok()).unwrap_or_default();
    let scope = Scope { nodes: &args.nodes, directories: &args.directories };
    state.save_status(before.after(report, code, scope).to_json().as_bytes())?;
    if code == IN_STEP && scope.is_full() {
        state.stamp_last_success(report.started + report.duration)?;
    }
    Ok(())
}

fn print(context: &Context, args: &Args, report: &Report, code: u8) -> std::io::Result<()> {
    let mut out = Vec::new();
    if args.json {
        out = json::render(report, code).into_bytes();
    } else {
        text::write(report, context.ui.style(), &mut out)?;
    }
    context.ui.result(&out)
}

fn log(context: &Context, facility: &str, lines: &[Line]) {
    if let Err(error) = syslog::send(facility, host::pid(), lines) {
        context.ui.message(&format!("nothing was written to syslog: {error}"));
    }
}

/// The flag that SIGINT or SIGTERM sets, for a run to end at its next safe place. A signal that finds it set
/// already ends the process at once: the second one, which loses nothing either, as the next run sweeps up;
/// and the first one too as long as there is no run, which is why it begins set.
fn stop_on_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(true));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, INTERRUPTED.into(), Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)))
            .context("catching signals")?;
    }
    Ok(stop)
}
