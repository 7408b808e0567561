//! `xds-sync follow`: on a node, what Main has published, and back what is recorded here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Context, agent, exit, signals};
use crate::follow::{Asked, Clock, Follower, Machine, Message, Passed, Service};
use crate::host;
use crate::logging;
use crate::record;
use crate::report::{json, text};
use crate::site::Locked;
use crate::store;
use crate::sync::{Progress, Silent};

const EXAMPLES: &str = "\
What is followed is in [store] and [follow] of /etc/xds-sync/node.toml,
and what may be touched is what the same file allows any Main. How this
node follows is in follow.json, in its state directory. SIGHUP has the
service look at the store at once.

Examples:
  systemctl enable --now xds-sync-follow
                  as a service, for which Asterisk waits when this
                  host starts
  xds-sync follow --once
                  once, as for cron
  xds-sync follow --once --dry-run
                  show what would be done; touches nothing

Exit codes with --once: those of `sync`, and
 30  nobody renews what is published
 41  there is no store, or it refuses
 50  the store was tampered with
 75  another one is at it";

/// How long a pass may take to end at its next safe place.
const ENDING: Duration = Duration::from_secs(4);

/// On a node: bring here what Main has published in a store, and upload what is recorded here
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Do it once, and end with the exit code that `sync` would have
    #[arg(long)]
    once: bool,
    /// Show what would be done, one line per change; touch nothing
    #[arg(short = 'n', long, requires = "once")]
    dry_run: bool,
    /// Carry out the plan with this token, which a guard stopped
    #[arg(long, value_name = "TOKEN", num_args = 1.., requires = "once")]
    accept_deletes: Vec<String>,
    /// Print one JSON object
    #[arg(long, requires = "once")]
    json: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    if !args.dry_run {
        logging::use_syslog(logging::DEFAULT_FACILITY);
    }
    let file = agent::node_config();
    let machine = Machine { now: host::now, new_id: host::ulid, open: Arc::new(store::open_for_node) };
    let follower = |progress, stop| {
        let opened = Follower::open(&file, machine, progress, stop);
        opened.inspect_err(|error| record::no_run(&exit::line_of(error)))
    };
    if args.once {
        let stop = signals::stop_flag()?;
        let follower = follower(context.ui.progress(&stop), Arc::clone(&stop))?;
        signals::begin_run(&stop);
        return once(context, args, &follower);
    }
    let stop: Arc<AtomicBool> = Arc::default();
    let progress: Arc<dyn Progress + Send> = Arc::new(Silent);
    let follower = follower(progress, Arc::clone(&stop))?;
    let (outbox, inbox) = channel();
    take_signals(outbox.clone(), stop)?;
    let clock = Clock {
        monotonic: host::monotonic,
        chance: host::chance,
        pid: host::pid(),
        notify: host::notify_systemd,
    };
    let service = Service { follower, clock, inbox, outbox };
    let served = service.serve();
    served.or_else(locked)
}

fn once(context: &Context, args: &Args, follower: &Follower) -> anyhow::Result<u8> {
    let asked = Asked { dry_run: args.dry_run, accept: args.accept_deletes.clone() };
    let passed = follower.once(&asked).inspect_err(|error| record::no_run(&exit::line_of(error)))?;
    // The pass is over, and its exit code stands even where its report cannot be printed.
    if let Err(error) = print(context, args, &passed) {
        context.ui.error(&format!("printing the report: {error}"));
    }
    Ok(passed.exit_code)
}

fn print(context: &Context, args: &Args, passed: &Passed) -> std::io::Result<()> {
    let mut out = Vec::new();
    if args.json {
        out = json::render(&passed.report, passed.exit_code).into_bytes();
    } else {
        text::write(&passed.report, context.ui.style(), &mut out)?;
    }
    context.ui.result(&out)
}

/// Another process is at it.
fn locked(error: anyhow::Error) -> anyhow::Result<u8> {
    if error.is::<Locked>() {
        record::no_run(&exit::line_of(&error));
    }
    Err(error)
}

/// Hands signals to the service. Whatever it is about, it has ended a little later.
fn take_signals(outbox: Sender<Message>, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("catching signals")?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            let is_end = signal != SIGHUP;
            stop.fetch_or(is_end, Ordering::Relaxed);
            // A service that has ended needs no more.
            let _ = outbox.send(if is_end { Message::End } else { Message::Hint });
            if is_end {
                thread::sleep(ENDING);
                std::process::exit(exit::DONE.into());
            }
        }
    })?;
    Ok(())
}
