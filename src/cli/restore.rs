//! `xds-sync restore`: a version from a trash back on Main.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};

use super::exit::StepContext as _;
use super::restore_text::{self, FoundVersions};
use super::{Context, candidates, exit, load, named};
use crate::logging;
use crate::model::escape::{clean, escape_for_people};
use crate::model::{Change, ChangeKind, NodeChange, Reason, Side};
use crate::record;
use crate::report::Wording;
use crate::report::exit::{ALL_LOST, PARTIAL, SOME_LOST, USAGE};
use crate::report::text::Verbosity;
use crate::site::{self, Access, Locking, Services, Site};
use crate::state::RunRecord;
use crate::sync::Options;
use crate::sync::restore::{
    IdStart, RestoreOutcome, Restored, RootHalted, Search, Selection, Version, search,
};
use crate::transfer::trash::TrashId;

const EXAMPLES: &str = "\
Examples:
  xds-sync restore moh a.wav -n         which versions there are, and where
  xds-sync restore moh a.wav            bring the newest back on Main
  xds-sync restore moh a.wav --id ID    that version: see 'xds-sync history'
  xds-sync restore moh jazz --run RUN   a directory, as before that run
  xds-sync restore moh a.wav --node mds1        only what mds1 has
  xds-sync restore moh a.wav --to /tmp/a.wav    only look at it

What Main has lost since its last run still stands on the
nodes, and comes back from there; what a run has carried
comes back from a trash. What is in its place on Main goes to
the trash first, so that a second restore undoes the first.
The next 'xds-sync sync' spreads what was restored.

Exit codes:
  0  it is back
  1  there is no such version
  3  Main's root is missing or another
 23  something is in the way, or failed
 40  not found, and some nodes are away
 41  not found, and all nodes are away
 75  a run is going on (see --wait)";

/// Bring a file or directory back on Main, from nodes or from a trash
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The directory's name
    #[arg(add = candidates::directories())]
    directory: String,
    /// The path in it, as it is listed; of a directory all that was lost last
    #[arg(add = candidates::nothing())]
    path: OsString,
    /// What this run replaced or deleted: its id, or the beginning of it
    #[arg(long, alias = "from", value_name = "RUN")]
    run: Option<IdStart>,
    /// The version with this id, or the beginning of it
    #[arg(long, value_name = "ID")]
    id: Option<IdStart>,
    /// Only from this host: `main`, or a node
    #[arg(long, value_name = "NAME", add = candidates::hosts())]
    node: Option<String>,
    /// Write it to this new file instead, and leave the directory as it is
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Show what there is, and what would come back; touch nothing
    #[arg(short = 'n', long, conflicts_with = "to")]
    dry_run: bool,
    /// Do not ask before many files come back
    #[arg(short, long)]
    yes: bool,
    /// Wait while a run is going on
    #[arg(long)]
    wait: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let config = load::config(context)?;
    if let Some(role) = site::standby(Path::new(site::HA_CONFIG))? {
        bail!("this host is not the master ({} says {role:?}): restore on the master", site::HA_CONFIG);
    }
    load::check_directories(std::slice::from_ref(&args.directory), &config)?;
    let services = load::services();
    let services = Services { progress: context.ui.progress(&services.stop), ..services };
    let started = (services.now)();
    let locking = if args.wait { Locking::Wait } else { Locking::Try };
    // Nodes are only searched: as in a dry run, they refuse to be changed.
    let site = Site::open(config, locking, Access::ReadOnly, services)?;
    load::show_discovery(context, site.nodes());
    let config = site.config();
    let instead = "what it has replaced or deleted is in .xds-sync/trash of the directory there, by the run that did it";
    load::check_hosts("node", args.node.as_slice(), config, instead)?;
    let (environment, spec) = (site.environment(), site.spec(&Options::default()));
    let directory = spec.directory(&args.directory).context("the directory has just been there")?;
    let path = named::path(&args.path, Some(&directory.scan.root))?;

    let search = search(&environment, &spec, directory, &path, args.node.as_deref())?;
    show_unsearched(context, &search);
    let selection = Selection { run: args.run.clone(), id: args.id.clone() };
    let chosen: Vec<Version> = match search.choose(&path, &selection) {
        Ok(chosen) => chosen.into_iter().cloned().collect(),
        Err(why) => {
            print_found(context, args, &search, &[], &path.for_people())?;
            context.ui.error(&format!("{}: {}: {why}", directory.name, path.for_people()));
            for host in search.busy() {
                let host = escape_for_people(host.as_bytes());
                context.ui.error(&format!("{host} has it, but it is being written there: try again later"));
            }
            return Ok(code_of_not_found(&search));
        }
    };
    if args.dry_run {
        print_found(context, args, &search, &chosen, &path.for_people())?;
        return Ok(exit::DONE);
    }
    if args.to.is_none() {
        confirm(context, args, &search, &chosen, &path.for_people())?;
    }
    match &args.to {
        Some(to) => write_to(context, args, search, &chosen, to),
        None => put_back(context, args, &site, search, &chosen, started),
    }
}

/// More files than this do not come back without a question.
const MANY: usize = 10;

/// Shows what is about to come back, where that is much, and asks for a yes.
fn confirm(
    context: &Context,
    args: &Args,
    search: &Search<'_>,
    chosen: &[Version],
    path: &str,
) -> anyhow::Result<()> {
    if args.yes || chosen.len() <= MANY {
        return Ok(());
    }
    let zone = context.zone();
    let versions = search.versions();
    let found = FoundVersions { directory: &args.directory, path, versions: &versions, chosen, zone: &zone };
    restore_text::in_groups(&found).lines().for_each(|line| context.ui.plain(line));
    let count = chosen.len();
    if !std::io::stdin().is_terminal() {
        bail!("nothing was restored: with --yes these {count} files come back (-n -v lists them)");
    }
    if !context.ui.is_agreed(&format!("Bring these {count} files back on Main?"))? {
        bail!("nothing was restored");
    }
    Ok(())
}

/// A newer version may be on a host that could not be searched.
fn show_unsearched(context: &Context, search: &Search<'_>) {
    let unreachable = search.unreachable().iter().map(|(node, error)| (node, &error.detail));
    let unreadable = search.unreadable().iter().map(|(host, why)| (host, why));
    for (host, why) in unreachable.chain(unreadable) {
        let host = escape_for_people(host.as_bytes());
        context.ui.error(&format!("{host} was not asked: {}", clean(why)));
    }
}

/// That nothing was found means little where not every node could be searched.
fn code_of_not_found(search: &Search<'_>) -> u8 {
    match (search.unreachable(), search.searched_nodes()) {
        ([], _) => USAGE,
        (_, 0) => ALL_LOST,
        _ => SOME_LOST,
    }
}

fn print_found(
    context: &Context,
    args: &Args,
    search: &Search<'_>,
    chosen: &[Version],
    path: &str,
) -> anyhow::Result<()> {
    let zone = context.zone();
    let versions = search.versions();
    let found = FoundVersions { directory: &args.directory, path, versions: &versions, chosen, zone: &zone };
    let is_long = versions.len() > restore_text::MANY_LINES && context.ui.verbosity() < Verbosity::Verbose;
    let text = match args.json {
        true => restore_text::found_json(&found)?,
        false if is_long => restore_text::in_groups(&found),
        false => restore_text::found(&found),
    };
    Ok(context.ui.result(text.as_bytes())?)
}

fn write_to(
    context: &Context,
    args: &Args,
    search: Search<'_>,
    chosen: &[Version],
    to: &Path,
) -> anyhow::Result<u8> {
    let [version] = chosen else {
        bail!("these are {} files: name one of them to write it to a file", chosen.len());
    };
    search.write_to(version, to)?;
    context.ui.result(restore_text::written(&args.directory, version, to, &context.zone()).as_bytes())?;
    Ok(exit::DONE)
}

/// Puts versions in place on Main, and records that beside runs.
fn put_back(
    context: &Context,
    args: &Args,
    site: &Site,
    search: Search<'_>,
    chosen: &[Version],
    started: SystemTime,
) -> anyhow::Result<u8> {
    let run = search.run().to_owned();
    let restored = match search.restore(chosen) {
        Ok(restored) => restored,
        Err(error) => {
            let Some(RootHalted(guard, _)) = error.downcast_ref() else { return Err(error).step("restore") };
            context.ui.error(&exit::line_of(&error));
            return Ok(guard.exit_code());
        }
    };
    let failed = restored.iter().any(|one| matches!(one.outcome, RestoreOutcome::Failed(_)));
    let exit_code = if failed { PARTIAL } else { exit::DONE };
    logging::use_syslog(&site.config().sync.syslog_facility);
    let record = RunRecord {
        run,
        started,
        duration: site.now().duration_since(started).unwrap_or(Duration::ZERO),
        exit_code,
        wrong: restore_text::wrong(&args.directory, &restored),
        changes: restored.iter().filter_map(|one| change(&args.directory, one)).collect(),
    };
    record::restoration(site.state(), &record);

    let text = match args.json {
        true => restore_text::restored_json(&args.directory, &restored)?,
        false => {
            let with_files = context.ui.verbosity() == Verbosity::Verbose;
            restore_text::restored(&args.directory, &restored, with_files, &context.zone())
        }
    };
    if let Err(error) = context.ui.result(text.as_bytes()) {
        context.ui.error(&format!("printing what was restored: {error}"));
    }
    if !record.changes.is_empty() {
        context.ui.message("the next 'xds-sync sync' spreads it");
    }
    Ok(exit_code)
}

fn change(directory: &str, restored: &Restored) -> Option<NodeChange> {
    let RestoreOutcome::Done(replaced) = &restored.outcome else { return None };
    let Version { host, size, .. } = &restored.version;
    let change = Change {
        path: restored.path.clone(),
        to: Side::Main,
        kind: if replaced.is_some() { ChangeKind::Update } else { ChangeKind::Create },
        bytes: *size,
        is_dir: false,
        reason: Some(Reason::Restored {
            id: restored.version.id().map(TrashId::to_string),
            host: host.clone(),
        }),
    };
    let id = replaced.as_ref().map(TrashId::to_string);
    Some(Wording::new(directory, host).change(change, id.as_deref()))
}
