//! `xds-sync restore`: a version from a trash back on Main.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};

use super::connect::{self, Ssh};
use super::restore_text::{self as told, Found};
use super::{Context, discover, exit, ha, load, named};
use crate::config::{Config, Directory};
use crate::host;
use crate::model::escape::{clean, escape_for_people};
use crate::model::{Change, ChangeKind, NodeChange, Side};
use crate::report::exit::{ALL_LOST, PARTIAL, SOME_LOST, USAGE};
use crate::report::syslog::{self, Line, Severity};
use crate::report::words;
use crate::state::{RunRecord, StateDir};
use crate::sync::Site;
use crate::sync::restore::{Asked, Came, MAIN, Restored, RootHalted, Search, Version, search};
use crate::transfer::trash::TrashId;

const EXAMPLES: &str = "\
Examples:
  xds-sync restore moh jazz/a.wav --dry-run       which versions there are, on which hosts
  xds-sync restore moh jazz/a.wav                 the newest of them back on Main
  xds-sync restore moh jazz/a.wav --id ID         that version, as 'xds-sync history' tells it
  xds-sync restore moh jazz --run RUN             a directory, as that run took it away
  xds-sync restore recordings a.wav --node mds1   what lost a conflict on mds1
  xds-sync restore moh jazz/a.wav --to /tmp/a.wav only to look at it

What stands there goes to the trash first, so that a second restore takes the first one back.
The next 'xds-sync sync' spreads what was restored.";

/// Bring a version from the trash of Main or of a node back on Main
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The directory's name
    directory: String,
    /// The path in it, as it is listed; of a directory, all that one run took away below it
    path: OsString,
    /// What this run replaced or deleted
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
    /// Show the versions that there are, and which is meant; touch nothing
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
    if let Some(node_type) = ha::standby(Path::new(ha::PATH))? {
        bail!("this host is not the master ({} says {node_type:?}): restore on the master", ha::PATH);
    }
    let directories = config.directories.iter().map(|directory| &*directory.name);
    load::check_names("directory", std::slice::from_ref(&args.directory), directories)?;
    let directory = config.directories.iter().find(|known| known.name == args.directory);
    let directory = directory.context("just seen")?;
    go(context, args, &config, directory)
}

fn go(context: &Context, args: &Args, config: &Config, directory: &Directory) -> anyhow::Result<u8> {
    let path = named::path(&args.path, Some(&directory.path))?;
    let state = StateDir::open(&config.sync.state_dir)?;
    let _lock = load::lock(&state, || args.wait)?;
    let started = host::now();
    let known = discover::nodes(context, config.clone())?;
    known.warn(context);
    let config = &known.config;
    let hosts = std::iter::once(MAIN).chain(config.nodes.iter().map(|node| &*node.name));
    load::check_names("node", args.node.as_slice(), hosts)?;
    let ssh = Ssh::new(config, &state, load::identity(&state, true)?)?;
    let progress = context.ui.progress();
    let stop = AtomicBool::new(false);
    let site = Site {
        config,
        knows_all_nodes: false,
        state: &state,
        connect: &ssh,
        main: Mutex::new(connect::main_disk(&state)),
        now: &host::now,
        new_id: &host::ulid,
        progress: &*progress,
        stop: &stop,
    };
    let search = search(&site, directory, &path, args.node.as_deref())?;
    tell_who_was_not_asked(context, &search);
    let asked = Asked { run: args.run.clone(), id: args.id.clone() };
    let chosen: Vec<Version> = match search.choose(&path, &asked) {
        Ok(chosen) => chosen.into_iter().cloned().collect(),
        Err(nothing) => {
            print_found(context, args, &search, &[], &path.for_people())?;
            context.ui.error(&format!("{}: {}: {nothing}", directory.name, path.for_people()));
            return Ok(not_found(&search));
        }
    };
    if args.dry_run {
        print_found(context, args, &search, &chosen, &path.for_people())?;
        return Ok(exit::DONE);
    }
    if let Some(to) = &args.to {
        return write_to(context, args, search, &chosen, to);
    }
    let run = search.run().to_owned();
    let restored = match search.restore(&chosen) {
        Ok(restored) => restored,
        Err(error) => {
            let Some(RootHalted(guard, _)) = error.downcast_ref() else { return Err(error) };
            context.ui.error(&exit::line_of(&error));
            return Ok(guard.exit_code());
        }
    };
    let failed = restored.iter().any(|restored| matches!(restored.outcome, Came::Not(_)));
    let code = if failed { PARTIAL } else { exit::DONE };
    remember(context, config, &state, directory, &run, started, &restored, code);
    let text = match args.json {
        true => told::restored_json(&directory.name, &restored)?,
        false => told::restored(&directory.name, &restored),
    };
    context.ui.result(text.as_bytes())?;
    if restored.iter().any(|restored| matches!(restored.outcome, Came::Back(_))) {
        context.ui.message("the next 'xds-sync sync' spreads it");
    }
    Ok(code)
}

/// A newer version may lie on a host that could not be asked.
fn tell_who_was_not_asked(context: &Context, search: &Search<'_>) {
    for (node, error) in search.unasked() {
        context.ui.error(&format!(
            "{} was not asked: {}",
            escape_for_people(node.as_bytes()),
            clean(&error.detail)
        ));
    }
    for (host, why) in search.unread() {
        context.ui.error(&format!("{} was not asked: {}", escape_for_people(host.as_bytes()), clean(why)));
    }
}

/// That nothing was found means little as long as not everybody was asked.
fn not_found(search: &Search<'_>) -> u8 {
    match (search.unasked(), search.asked_nodes()) {
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
    let versions = search.versions();
    let found = Found { directory: &args.directory, path, versions: &versions, chosen };
    let text = if args.json { told::found_json(&found)? } else { told::found(&found) };
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
    let written = told::written(&args.directory, version, to);
    context.ui.result(written.as_bytes())?;
    Ok(exit::DONE)
}

/// A restoration is a change of Main's, and stands in the history and in syslog beside those of runs.
#[allow(clippy::too_many_arguments)]
fn remember(
    context: &Context,
    config: &Config,
    state: &StateDir,
    directory: &Directory,
    run: &str,
    started: SystemTime,
    restored: &[Restored],
    exit_code: u8,
) {
    let changes: Vec<NodeChange> = restored.iter().filter_map(|one| change(&directory.name, one)).collect();
    let lines: Vec<Line> = changes.iter().map(|of| Line::new(Severity::Info, words::change(of))).collect();
    if let Err(error) = syslog::send(&config.sync.syslog_facility, host::pid(), &lines) {
        context.ui.message(&format!("nothing was written to syslog: {error}"));
    }
    let record = RunRecord {
        run: run.to_owned(),
        started,
        duration: host::now().duration_since(started).unwrap_or(Duration::ZERO),
        exit_code,
        changes,
    };
    match state.history().record(&record) {
        Ok(None) => {}
        Ok(Some(told)) => context.ui.error(&told),
        Err(error) => context.ui.error(&exit::line_of(&error)),
    }
}

fn change(directory: &str, restored: &Restored) -> Option<NodeChange> {
    let Came::Back(replaced) = &restored.outcome else { return None };
    let Version { host, entry } = &restored.version;
    let change = Change {
        path: restored.path.clone(),
        to: Side::Main,
        kind: if replaced.is_some() { ChangeKind::Update } else { ChangeKind::Create },
        bytes: entry.size,
        reason: Some(format!("restored: {} of {host}", entry.place.id)),
    };
    let id = replaced.as_ref().map(TrashId::to_string);
    Some(NodeChange { directory: directory.to_owned(), node: host.clone(), change, id })
}
