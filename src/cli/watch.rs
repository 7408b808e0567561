//! `xds-sync watch`: the daemon.

use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Context, exit, load};
use crate::daemon::control::SOCKET;
use crate::daemon::{Daemon, ENDING, Machine, Message};
use crate::host;
use crate::logging;
use crate::record;
use crate::site;

const EXAMPLES: &str = "\
Examples:
  systemctl enable --now xds-sync-watch    as a service; `xds-sync init --watch` does that
  xds-sync watch                           in a terminal, until Ctrl-C
  xds-sync watch --once                    bring every node in step once, as the service does when it starts

SIGHUP has it read the configuration again; a bad one is logged, and the old one stays.";

/// Stay, and bring every change to every node as soon as it is made
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// End once everything is in step; the exit code is the first run's
    #[arg(long)]
    once: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    logging::use_syslog(logging::DEFAULT_FACILITY);
    let config = load::config(context).inspect_err(no_run)?;
    logging::use_syslog(&config.sync.syslog_facility);
    let (outbox, inbox) = channel();
    take_signals(outbox.clone())?;
    let daemon = Daemon {
        machine: machine(),
        load: &|| {
            let config = load::config(context)?;
            logging::use_syslog(&config.sync.syslog_facility);
            Ok(config)
        },
        inbox,
        outbox,
        once: args.once,
    };
    let code = daemon.serve(config, Path::new(SOCKET)).inspect_err(no_run)?;
    if code == exit::DONE {
        context.ui.aside("ended");
    }
    Ok(code)
}

/// Says in the log why nothing is done.
fn no_run(error: &anyhow::Error) {
    record::no_run(&exit::line_of(error));
}

fn machine() -> Machine {
    Machine {
        now: host::now,
        new_id: host::ulid,
        monotonic: host::monotonic,
        chance: host::chance,
        pid: host::pid(),
        notify: host::notify_systemd,
        standby: || site::standby(Path::new(site::HA_CONFIG)),
    }
}

/// Hands signals to the daemon. Whatever it is about, it has ended a little later.
fn take_signals(outbox: Sender<Message>) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("catching signals")?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            let message = if signal == SIGHUP { Message::Reload } else { Message::End };
            // A daemon that has ended needs no more.
            let _ = outbox.send(message);
            if signal != SIGHUP {
                thread::sleep(ENDING);
                std::process::exit(exit::DONE.into());
            }
        }
    })?;
    Ok(())
}
