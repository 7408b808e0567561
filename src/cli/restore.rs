//! `xds-sync restore`: a version from a trash back on Main.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};

use super::exit::StepContext as _;
use super::restore_text::{self, FoundVersions};
use super::{Context, exit, load, named};
use crate::logging;
use crate::model::escape::{clean, escape_for_people};
use crate::model::{Change, ChangeKind, MAIN, NodeChange, Reason, Side};
use crate::record;
use crate::report::exit::{ALL_LOST, PARTIAL, SOME_LOST, USAGE};
use crate::report::node_change;
use crate::site::{self, Access, Locking, Services, Site};
use crate::state::RunRecord;
use crate::sync::Options;
use crate::sync::restore::{RestoreOutcome, Restored, RootHalted, Search, Selection, TrashedVersion, search};
use crate::transfer::trash::TrashId;

const EXAMPLES: &str = "\
Examples:
  xds-sync restore moh jazz/a.wav --dry-run       which versions there are, on which hosts
  xds-sync restore moh jazz/a.wav                 bring the newest of them back on Main
  xds-sync restore moh jazz/a.wav --id ID         that version, as 'xds-sync history' shows it
  xds-sync restore moh jazz --run RUN             a directory, as it was before that run
  xds-sync restore recordings a.wav --node mds1   what lost a conflict on mds1
  xds-sync restore moh jazz/a.wav --to /tmp/a.wav only look at it

What is in its place goes to the trash first, so that a second restore undoes the first one.
The next 'xds-sync sync' spreads what was restored.";

/// Bring a version from the trash of Main or of a node back on Main
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The directory's name
    directory: String,
    /// The path in it, as it is listed; for a directory, all that one run removed below it
    path: OsString,
    /// The version that this run replaced or deleted
    #[arg(long, alias = "from", value_name = "RUN")]
    run: Option<String>,
    /// The version with this id
    #[arg(long, value_name = "ID")]
    id: Option<TrashId>,
    /// Only from the trash of this host: `main`, or a node
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Write it to this new file instead, and leave the directory as it is
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Show the versions that there are, and which one would be restored; touch nothing
    #[arg(short = 'n', long, conflicts_with = "to")]
    dry_run: bool,
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
    let hosts = std::iter::once(MAIN).chain(config.nodes.iter().map(|node| &*node.name));
    load::check_names("node", args.node.as_slice(), hosts)?;
    let (environment, spec) = (site.environment(), site.spec(&Options::default()));
    let directory = spec.directory(&args.directory).context("the directory has just been there")?;
    let path = named::path(&args.path, Some(&directory.scan.root))?;

    let search = search(&environment, &spec, directory, &path, args.node.as_deref())?;
    show_unsearched(context, &search);
    let selection = Selection { run: args.run.clone(), id: args.id.clone() };
    let chosen: Vec<TrashedVersion> = match search.choose(&path, &selection) {
        Ok(chosen) => chosen.into_iter().cloned().collect(),
        Err(why) => {
            print_found(context, args, &search, &[], &path.for_people())?;
            context.ui.error(&format!("{}: {}: {why}", directory.name, path.for_people()));
            return Ok(code_of_not_found(&search));
        }
    };
    if args.dry_run {
        print_found(context, args, &search, &chosen, &path.for_people())?;
        return Ok(exit::DONE);
    }
    match &args.to {
        Some(to) => write_to(context, args, search, &chosen, to),
        None => put_back(context, args, &site, search, &chosen, started),
    }
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
    chosen: &[TrashedVersion],
    path: &str,
) -> anyhow::Result<()> {
    let versions = search.versions();
    let found = FoundVersions { directory: &args.directory, path, versions: &versions, chosen };
    let text = if args.json { restore_text::found_json(&found)? } else { restore_text::found(&found) };
    Ok(context.ui.result(text.as_bytes())?)
}

fn write_to(
    context: &Context,
    args: &Args,
    search: Search<'_>,
    chosen: &[TrashedVersion],
    to: &Path,
) -> anyhow::Result<u8> {
    let [version] = chosen else {
        bail!("these are {} files: name one of them to write it to a file", chosen.len());
    };
    search.write_to(version, to)?;
    context.ui.result(restore_text::written(&args.directory, version, to).as_bytes())?;
    Ok(exit::DONE)
}

/// Puts versions in place on Main, and records that beside runs.
fn put_back(
    context: &Context,
    args: &Args,
    site: &Site,
    search: Search<'_>,
    chosen: &[TrashedVersion],
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
        changes: restored.iter().filter_map(|one| change(&args.directory, one)).collect(),
    };
    record::restoration(site.state(), &record);

    let text = match args.json {
        true => restore_text::restored_json(&args.directory, &restored)?,
        false => restore_text::restored(&args.directory, &restored),
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
    let TrashedVersion { host, entry } = &restored.version;
    let change = Change {
        path: restored.path.clone(),
        to: Side::Main,
        kind: if replaced.is_some() { ChangeKind::Update } else { ChangeKind::Create },
        bytes: entry.size,
        is_dir: false,
        reason: Some(Reason::Restored { id: entry.place.id.to_string(), host: host.clone() }),
    };
    let id = replaced.as_ref().map(TrashId::to_string);
    Some(node_change(directory, host, &change, id))
}
