//! `xds-sync sync` beside a living daemon: the daemon makes the run, and this command reports and exits as if it had.

use std::path::Path;

use super::{Context, signals};
use crate::config::Config;
use crate::daemon::control::{Client, Event, Format, Request, SOCKET, SyncRequest};
use crate::daemon::digest;
use crate::report::text::Verbosity;

/// Has the daemon make the run; returns the exit code, and whether a dry run found differences. `None`: there is no daemon
/// for this configuration.
pub(super) fn run(
    context: &Context,
    config: &Config,
    json: bool,
    request: SyncRequest,
) -> anyhow::Result<Option<(u8, bool)>> {
    // A signal ends this command as it ends a run. The daemon's goes on, and loses nothing either.
    let stop = signals::stop_flag()?;
    let (config, format) = (Some(digest(config)), format(context, json));
    let request = SyncRequest { config, format, ..request };
    let Some(mut client) = Client::ask(Path::new(SOCKET), &Request::Sync(request))? else {
        return Ok(None);
    };
    let progress = context.ui.progress(&stop);
    while let Some(event) = client.next()? {
        match event {
            Event::Planned { node, bytes } => progress.planned(&node, bytes),
            Event::Moved { node, bytes } => progress.moved(&node, bytes),
            Event::Done { exit_code, differences, failures, output } => {
                drop(progress);
                failures.iter().for_each(|failure| context.ui.error(failure));
                // The run is over, and its exit code stands even where its report cannot be printed.
                if let Err(error) = context.ui.result(output.as_bytes()) {
                    context.ui.error(&format!("printing the report: {error}"));
                }
                return Ok(Some((exit_code, differences)));
            }
            Event::Refused { why } => anyhow::bail!("{why}"),
            Event::OtherConfiguration => return Ok(None),
            Event::Status(_) => {}
        }
    }
    context.ui.message("`xds-sync watch` has ended: this run is made without it");
    Ok(None)
}

fn format(context: &Context, json: bool) -> Format {
    let style = context.ui.style();
    match (json, style.verbosity, style.color) {
        (true, ..) => Format::Json,
        (_, Verbosity::Quiet, false) => Format::Quiet,
        (_, Verbosity::Normal, false) => Format::Normal,
        (_, Verbosity::Verbose, false) => Format::Verbose,
        (_, Verbosity::Quiet, true) => Format::QuietColor,
        (_, Verbosity::Normal, true) => Format::NormalColor,
        (_, Verbosity::Verbose, true) => Format::VerboseColor,
    }
}
