//! `xds-sync sync` beside a living daemon: the daemon makes the run, and this command reports and exits as if it had.

use std::path::Path;

use super::Context;
use super::sync::Args;
use crate::config::Config;
use crate::daemon::control::{Client, Event, Format, Request, SOCKET, SyncRequest};
use crate::daemon::digest;
use crate::report::exit::{DIFFERENCES, IN_STEP};
use crate::report::text::Verbosity;

/// Has the daemon make the run; returns the exit code. `None`: there is no daemon for this configuration.
pub(super) fn run(context: &Context, args: &Args, config: &Config) -> anyhow::Result<Option<u8>> {
    let request = SyncRequest {
        config: Some(digest(config)),
        dry_run: args.dry_run,
        nodes: args.nodes.clone(),
        directories: args.directories.clone(),
        checksum: args.checksum,
        reload: args.reload,
        accept_deletes: args.accept_deletes.clone(),
        format: format(context, args),
    };
    let Some(mut client) = Client::ask(Path::new(SOCKET), &Request::Sync(request))? else {
        return Ok(None);
    };
    let progress = context.ui.progress();
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
                let code = if args.exit_code && differences && exit_code == IN_STEP {
                    DIFFERENCES
                } else {
                    exit_code
                };
                return Ok(Some(code));
            }
            Event::Refused { why } => anyhow::bail!("{why}"),
            Event::OtherConfiguration => return Ok(None),
            Event::Status(_) => {}
        }
    }
    anyhow::bail!("the daemon ended before the run was over; run `xds-sync sync` again")
}

fn format(context: &Context, args: &Args) -> Format {
    let style = context.ui.style();
    match (args.json, style.verbosity, style.color) {
        (true, ..) => Format::Json,
        (_, Verbosity::Quiet, false) => Format::Quiet,
        (_, Verbosity::Normal, false) => Format::Normal,
        (_, Verbosity::Verbose, false) => Format::Verbose,
        (_, Verbosity::Quiet, true) => Format::QuietColor,
        (_, Verbosity::Normal, true) => Format::NormalColor,
        (_, Verbosity::Verbose, true) => Format::VerboseColor,
    }
}
