//! `xds-sync publish`: what Main has, into its store.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::{Context, exit, load, signals};
use crate::logging;
use crate::model::Size;
use crate::model::escape::clean;
use crate::record;
use crate::report::exit::IN_STEP;
use crate::report::status::Scope;
use crate::report::{NodeReport, Problem, Report, Stage, words};
use crate::site::store::{Asked, Publication, held_back, holder_of, tell_tokens_once};
use crate::site::{self, Access, Locking, Services, Site};
use crate::sync::Options;

const EXAMPLES: &str = "\
Examples:
  xds-sync publish              publish what Main has now; where
                                nothing is new, nothing is made
  xds-sync publish --dry-run    show what would be new
  xds-sync publish --accept-deletes TOKEN
                                publish deletions that a guard
                                stopped

Exit codes:
  0  published, or nothing is new
  1  usage or configuration error
  3  a root is missing or another one
  4  the lease is another Main's
 20  interrupted by a signal
 23  some entries failed
 25  the delete guard refused
 41  there is no store, or it refuses
 50  the store was tampered with
 75  another run is going on";

/// Publish what Main has, for nodes that fetch it by themselves
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Show what would be new; write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Publish the deletions of this token, which a guard stopped
    #[arg(long, value_name = "TOKEN", num_args = 1..)]
    accept_deletes: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    store: Store<'a>,
    published: bool,
    dry_run: bool,
    exit_code: u8,
    directories: Vec<Directory<'a>>,
    halted: Vec<PrintedHalt<'a>>,
    problems: Vec<String>,
}

/// The store, as all commands print it.
#[derive(Serialize)]
pub(super) struct Store<'a> {
    pub(super) holder: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seq: Option<u64>,
}

#[derive(Serialize)]
struct Directory<'a> {
    name: &'a str,
    files: u64,
    bytes: u64,
    created: u64,
    updated: u64,
    deleted: u64,
    held: u64,
}

#[derive(Serialize)]
struct PrintedHalt<'a> {
    directory: &'a str,
    guard: &'static str,
    detail: &'a str,
    token: Option<&'a str>,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    if !args.dry_run {
        logging::use_syslog(logging::DEFAULT_FACILITY);
    }
    if let Some(role) = site::standby(Path::new(site::HA_CONFIG))? {
        context.ui.aside(&format!(
            "this host is not the master ({} says {role:?}): nothing to do",
            site::HA_CONFIG
        ));
        return Ok(exit::DONE);
    }
    let published = publish(context, args);
    let (name, publication) = match published {
        Ok(published) => published,
        Err(error) => return tell_holder(context, args.json, error),
    };
    let code = code_of(&publication);
    let text = match args.json {
        true => json(&name, args.dry_run, &publication, code)?,
        false => text(args.dry_run, &publication),
    };
    log::info!("{}", summary(args.dry_run, &publication));
    publication.warnings.iter().for_each(|warning| context.ui.message(&format!("warning: {warning}")));
    if !args.json {
        publication.halted.iter().for_each(|halted| context.ui.error(&held_back(halted)));
        for problem in &publication.problems {
            match clean(&problem.detail) {
                detail if problem.fails => context.ui.error(&detail),
                detail => context.ui.message(&format!("warning: {detail}")),
            }
        }
    }
    context.ui.result(text.as_bytes())?;
    Ok(code)
}

/// Where the lease is another Main's, machines are told whose.
pub(super) fn tell_holder(context: &Context, is_json: bool, error: anyhow::Error) -> anyhow::Result<u8> {
    if is_json && let Some(holder) = holder_of(&error) {
        let store = Store { holder, epoch: None, seq: None };
        let text = serde_json::to_string(&BTreeMap::from([("store", store)]))? + "\n";
        context.ui.result(text.as_bytes())?;
    }
    Err(error)
}

fn publish(context: &Context, args: &Args) -> anyhow::Result<(String, Publication)> {
    let config = load::config(context)?;
    site::store::spec_of(&config)?;
    let stop = signals::stop_flag()?;
    let services = Services { stop: stop.clone(), ..load::services() };
    let access = if args.dry_run { Access::ReadOnly } else { Access::Change };
    let mut site = Site::open(config, Locking::Try, access, services)?;
    site.join_followers()?;
    signals::begin_run(&stop);
    let options =
        Options { dry_run: args.dry_run, accept: args.accept_deletes.clone(), ..Options::default() };
    // What nodes have uploaded is taken in here first, as edges of a run like any other.
    let mut taken_in = site.take_in(&options)?;
    // Where nothing is taken in, nothing is noted of it either.
    let taken = if args.dry_run { None } else { site.settle_uploads()? };
    let mut published = site.publish(&options, Asked::ByHand, taken.as_ref());
    if let (Some(report), Ok(published)) = (&mut taken_in, &mut published) {
        tell_tokens_once(&args.accept_deletes, &mut report.problems, &mut published.problems);
    }
    if let (Ok(published), false) = (&published, args.dry_run) {
        record::publication(site.state(), &published.problems());
    }
    if let Some(report) = &mut taken_in {
        // What was taken in stands, whatever becomes of the publication.
        let code = report.exit_code();
        let nodes: Vec<String> = report.nodes.iter().map(|node| node.name.clone()).collect();
        record::run(site.state(), report, code, Scope { nodes: &nodes, ..Scope::default() });
    }
    let mut published = published?;
    if let Some(report) = &mut taken_in {
        published.problems.extend(lost(report));
        published.problems.append(&mut report.problems);
        published.halted.append(&mut report.halted);
    }
    Ok((site.config().main.name.clone(), published))
}

/// Nodes whose uploads were not taken in, and why.
fn lost(report: &Report) -> Vec<Problem> {
    let lost = |node: &NodeReport| {
        let detail = format!("what {} uploaded is not taken in: {}", node.name, node.error.as_ref()?);
        Some(Problem { node: Some(node.name.clone()), ..Problem::failure(Stage::Connect, detail) })
    };
    report.nodes.iter().filter_map(lost).collect()
}

/// The exit code of a publication that did not fail as a whole.
pub(super) fn code_of(publication: &Publication) -> u8 {
    let report = Report {
        run: String::new(),
        started: std::time::SystemTime::UNIX_EPOCH,
        duration: std::time::Duration::ZERO,
        dry_run: false,
        nodes: Vec::new(),
        changes: Vec::new(),
        halted: publication.halted.clone(),
        problems: publication.problems.clone(),
        interrupted: publication.interrupted,
    };
    report.exit_code()
}

fn json(name: &str, dry_run: bool, publication: &Publication, exit_code: u8) -> anyhow::Result<String> {
    let directories = publication.directories.iter().map(|outcome| Directory {
        name: &outcome.name,
        files: outcome.files,
        bytes: outcome.bytes,
        created: outcome.created,
        updated: outcome.updated,
        deleted: outcome.deleted,
        held: outcome.held,
    });
    let halted = publication.halted.iter().map(|halted| PrintedHalt {
        directory: &halted.directory,
        guard: halted.guard.into(),
        detail: &halted.detail,
        token: halted.token.as_deref(),
    });
    let printed = Printed {
        store: Store { holder: name, epoch: Some(publication.epoch), seq: Some(publication.seq) },
        published: publication.is_new && !dry_run,
        dry_run,
        exit_code,
        directories: directories.collect(),
        halted: halted.collect(),
        problems: publication.problems.iter().map(|problem: &Problem| problem.detail.clone()).collect(),
    };
    Ok(serde_json::to_string(&printed)? + "\n")
}

fn text(dry_run: bool, publication: &Publication) -> String {
    let mut text = String::new();
    for outcome in &publication.directories {
        let changes = outcome.created + outcome.updated + outcome.deleted;
        if changes + outcome.held == 0 {
            continue;
        }
        let held = if outcome.held > 0 { format!(", {} held back", outcome.held) } else { String::new() };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{}: {} created, {} updated, {} deleted{held}; {} with {}",
            outcome.name,
            outcome.created,
            outcome.updated,
            outcome.deleted,
            words::count(outcome.files, "file", "files"),
            Size(outcome.bytes)
        );
    }
    text + &summary(dry_run, publication) + "\n"
}

/// One line.
pub(super) fn summary(dry_run: bool, publication: &Publication) -> String {
    if publication.interrupted {
        return format!("interrupted: publication {} stands", publication.seq);
    }
    match (publication.is_new, dry_run) {
        (true, true) => format!("publication {} would be made", publication.seq + 1),
        (true, false) => format!("publication {} is made", publication.seq),
        (false, _) if publication.seq == 0 => "nothing was published yet".to_owned(),
        (false, _) => format!("nothing is new: publication {} stands", publication.seq),
    }
}

/// Publishes after a run, where there is a store. Tokens that were `accepted` for the run release the same deletions here.
/// Returns the code that this adds to the run's.
pub(super) fn after_run(site: &Site, report: &mut Report, accepted: &[String]) -> u8 {
    if site.config().store.is_none() {
        return IN_STEP;
    }
    let taken = site.settle_uploads();
    let options = Options { accept: accepted.to_vec(), ..Options::default() };
    match taken.and_then(|taken| site.publish(&options, Asked::AfterRun, taken.as_ref())) {
        Ok(mut publication) => {
            log::info!("{}", summary(false, &publication));
            tell_tokens_once(accepted, &mut report.problems, &mut publication.problems);
            publication.tell(report)
        }
        Err(error) => {
            let detail = format!("nothing was published: {}", exit::line_of(&error));
            report.problems.push(Problem::failure(Stage::Publish, detail));
            exit::code_of(&error)
        }
    }
}
