//! `xds-sync status`.

use std::path::Path;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::{Context, agent, load};
use crate::daemon::control::{Client, Event, Request, SOCKET};
use crate::daemon::live::Live;
use crate::enroll::rotate;
use crate::host;
use crate::model::ReloadOutcome;
use crate::node::{Accept, MainSeen};
use crate::report::exit::USAGE;
use crate::report::running::Running;
use crate::report::status::Status;
use crate::report::status_text::Reader;
use crate::report::text::Verbosity;
use crate::report::words;
use crate::state::{BegunRun, StateDir};

const EXAMPLES: &str = "\
Examples:
  xds-sync status            who is in step, since when, and why not
  xds-sync status --verbose  every directory, and what only a node has
  xds-sync status --quiet    only who is not; nothing when all are
  xds-sync status --json     the same for machines
  xds-sync status --follow   keep showing it, with what the
                             service is about

The exit code is that of a run that finds all of this:
'xds-sync sync --help' lists them. It is 1 while the
configuration has a mistake. On a media server the status
tells which Main it obeys, and what that did here last.";

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

/// What `--json` prints.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    status: &'a Status,
    /// Which Main this host obeys, if it is a media server.
    main: Option<&'a MainSeen>,
    /// A run that has begun and has not ended.
    running: Option<Running>,
    /// How the daemon is, where one runs.
    daemon: Option<&'a Live>,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    loop {
        let code = show(context, args)?;
        if !args.follow {
            return Ok(code);
        }
        thread::sleep(FOLLOW);
        if !args.json {
            context.ui.result(b"\n")?;
        }
    }
}

fn show(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let looked = load::to_look(context)?;
    let main = Accept::read(&agent::node_config()).ok().and_then(|accept| MainSeen::read(&accept.state_dir));
    let mut status = load::status(&looked.state)?.unwrap_or_default();
    if let Some(config) = &looked.config
        && let Some(known) = load::known_nodes(config, &looked.state)
    {
        status = status.of_nodes(&known.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let running = running(&looked.state);
    let live = live()?;
    let mut out = Vec::new();
    if args.json {
        out = crate::report::to_json(&Shown {
            status: &status,
            main: main.as_ref(),
            running,
            daemon: live.as_ref(),
        })
        .into_bytes();
    } else {
        let zone = context.zone();
        let reader = Reader { now: host::now(), zone: &zone, style: context.ui.style() };
        if let Some(main) = &main
            && context.ui.verbosity() > Verbosity::Quiet
        {
            out.extend(media_server(main, &reader).bytes());
        }
        // A media server has no runs of its own.
        if status.run.is_some() || main.is_none() {
            status.write(reader, &mut out)?;
        }
        if let Some(running) = running.filter(|_| context.ui.verbosity() > Verbosity::Quiet) {
            out.extend(running.words(&reader).bytes().chain(*b"\n"));
        }
        if let Some(config) = &looked.config
            && rotate::previous(&config.ssh.identity).exists()
        {
            out.extend(rotate::UNFINISHED.bytes().chain(*b"\n"));
        }
        if let Some(live) = &live {
            live.write(&reader, &mut out)?;
        }
    }
    context.ui.result(&out)?;
    Ok(if looked.config.is_some() { status.status_code } else { USAGE })
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

/// What a media server knows of its Main.
fn media_server(main: &MainSeen, reader: &Reader<'_>) -> String {
    let name = main.name.as_ref().or_else(|| main.visit.as_ref().map(|visit| &visit.name));
    let name = name.map(|name| words::name(name)).unwrap_or_default();
    let since = main.since.as_ref().map(|since| format!(", since {}", reader.ago(since)));
    let mut text = format!("this host is a media server of {name}{}\n", since.unwrap_or_default());
    if let (Some(visit), Some(last)) = (&main.visit, &main.last) {
        let cut_off = if visit.whole { "" } else { ", which was cut off" };
        text += &format!("last run of {} {}{cut_off}:\n", words::name(&visit.name), reader.ago(last));
        if visit.changes.is_empty() && visit.reloads.is_empty() {
            text += "  changed nothing here\n";
        }
        for (directory, counts) in &visit.changes {
            let counts: Vec<String> = counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
            text += &format!("  {}: {}\n", words::name(directory), counts.join(", "));
        }
        for (reload, state) in &visit.reloads {
            let outcome = ReloadOutcome { name: reload.clone(), state: *state, detail: None };
            text.extend(words::reload(&outcome).map(|reload| format!("  {reload}\n")));
        }
    }
    text + "how the whole cluster is, the status on Main tells\n"
}

fn running(state: &StateDir) -> Option<Running> {
    let BegunRun { run, started } = state.begun_run()?;
    Some(Running { run, started, pid: state.runner() })
}
