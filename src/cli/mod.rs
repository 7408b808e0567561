//! One file for each subcommand: its arguments, and what it does with them.

mod agent;
mod by_daemon;
mod candidates;
mod completions;
mod config;
mod conflicts;
mod exit;
mod follow;
#[cfg(debug_assertions)]
mod faults;
mod history;
mod init;
mod join;
mod join_store;
mod leave;
mod load;
mod named;
mod nodes;
mod progress;
mod publish;
mod publish_key;
mod restore;
mod restore_text;
mod serve;
mod signals;
mod status;
mod steps;
mod store;
mod sync;
mod ui;
mod watch;

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgAction, Args, FromArgMatches as _, Parser, Subcommand};

use crate::host;
use crate::logging;
use crate::model::Zone;
use crate::report::exit::INTERNAL;
use crate::report::text::Verbosity;
use crate::version;
use ui::{ColorChoice, Ui};

/// The name of XiVO's script, which this program answers to as well.
const ALIAS: &str = "xivo-xds-sync";

const EXAMPLES: &str = "\
Examples:
  xds-sync init              on Main, once: key pair, markers, cron job
  xds-sync sync --dry-run    show what would be done; touches nothing
  xds-sync sync              bring every node in step
  xds-sync status            which nodes are in step, since when, and why not";

/// Keeps the files of an Asterisk telephony cluster the same on Main and all media servers.
#[derive(Debug, Parser)]
#[command(
    name = "xds-sync",
    version = version::line(),
    propagate_version = true,
    after_help = EXAMPLES,
    disable_help_flag = true,
    disable_version_flag = true
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Behind what a command has of its own.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Read this configuration [default: $XDS_SYNC_CONFIG, or /etc/xds-sync/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print more
    #[arg(short, long, global = true, action = ArgAction::SetTrue)]
    verbose: bool,
    /// Print only what went wrong
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// When to use colours: auto, always or never
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true
    )]
    color: ColorChoice,
    /// Print this help
    #[arg(short, long, global = true, action = ArgAction::Help)]
    help: Option<bool>,
    /// Print the version
    #[arg(short = 'V', long, global = true, action = ArgAction::Version)]
    version: Option<bool>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Args),
    Sync(sync::Args),
    Watch(watch::Args),
    Status(status::Args),
    History(history::Args),
    Conflicts(conflicts::Args),
    Restore(restore::Args),
    Nodes(nodes::Args),
    Config(config::Args),
    Serve(serve::Args),
    Join(join::Args),
    Leave(leave::Args),
    Follow(follow::Args),
    Agent(agent::Args),
    Publish(publish::Args),
    Store(store::Args),
    Completions(completions::Args),
}

/// What every command is run with.
struct Context {
    /// `--config`, as typed.
    config: Option<PathBuf>,
    ui: Ui,
}

impl Context {
    fn new(global: Global) -> Context {
        let verbosity = match (global.quiet, global.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        };
        Context { config: global.config, ui: Ui::new(verbosity, global.color) }
    }

    /// How times are told and typed.
    fn zone(&self) -> Zone {
        Zone::of(host::time_zone())
    }
}

/// The command line as clap knows it, for what describes it: man pages.
#[must_use]
pub fn command() -> clap::Command {
    let command = <Cli as clap::CommandFactory>::command().max_term_width(80);
    // These read no configuration of Main's.
    let without_config = ["join", "leave", "follow", "agent", "completions"];
    without_config.into_iter().fold(command, |command, name| {
        let hidden = clap::Arg::new("config").long("config").value_name("FILE").hide(true);
        command.mut_subcommand(name, |sub| sub.arg(hidden))
    })
}

/// The program, from its arguments to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    host::settle();
    let arguments = arguments(std::env::args_os());
    if completions::answer(&arguments) {
        return ExitCode::SUCCESS;
    }
    let matches = command().try_get_matches_from(arguments);
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return exit::of_usage(&error),
    };
    let context = Context::new(cli.global);
    install_logger(context.ui, &cli.command);
    #[cfg(debug_assertions)]
    if let Err(error) = faults::install() {
        return exit::of_error(&context.ui, &error);
    }
    // The panic hook has printed the panic.
    match std::panic::catch_unwind(AssertUnwindSafe(|| run(&context, cli.command))) {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(error)) => exit::of_error(&context.ui, &error),
        Err(_) => ExitCode::from(INTERNAL),
    }
}

/// Warnings and errors of the log are shown on stderr, except by the agent: what it prints there would be taken for
/// what ssh says.
fn install_logger(ui: Ui, command: &Command) {
    let console: logging::Console = match command {
        Command::Agent(_) => Box::new(|_, _| ()),
        _ => Box::new(move |level, text| ui.log(level, text)),
    };
    logging::install(host::pid(), console);
}

/// Does what a command says, and returns the exit code of the process.
fn run(context: &Context, command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Init(args) => init::run(context, &args),
        Command::Sync(args) => sync::run(context, &args),
        Command::Watch(args) => watch::run(context, &args),
        Command::Status(args) => status::run(context, &args),
        Command::History(args) => history::run(context, &args),
        Command::Conflicts(args) => conflicts::run(context, &args),
        Command::Restore(args) => restore::run(context, &args),
        Command::Nodes(args) => nodes::run(context, &args),
        Command::Config(args) => config::run(context, &args),
        Command::Serve(args) => serve::run(context, &args),
        Command::Join(args) => join::run(context, &args),
        Command::Leave(args) => leave::run(context, &args),
        Command::Follow(args) => follow::run(context, &args),
        Command::Agent(args) => agent::run(&args),
        Command::Publish(args) => publish::run(context, &args),
        Command::Store(args) => store::run(context, &args),
        Command::Completions(args) => completions::run(context, &args),
    }
}

/// The arguments; under the name of XiVO's script, with the `sync` that it stands for.
fn arguments(typed: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = typed.into_iter().collect();
    let is_alias = arguments.first().and_then(|name| Path::new(name).file_name()) == Some(ALIAS.as_ref());
    if is_alias {
        arguments.insert(1, "sync".into());
    }
    arguments
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn under_the_old_name_it_is_sync() {
        for (typed, meant) in [
            (&["/usr/bin/xivo-xds-sync"][..], &["sync"][..]),
            (&["xivo-xds-sync", "-n"], &["sync", "-n"]),
            (&["xds-sync", "status"], &["status"]),
            (&[], &[]),
        ] {
            let arguments = arguments(typed.iter().map(OsString::from));
            assert_eq!(arguments.get(1..).unwrap_or_default(), meant, "{typed:?}");
        }
        for typed in [
            &["xivo-xds-sync"][..],
            &["xivo-xds-sync", "-n"],
            &["xivo-xds-sync", "-i"],
            &["xivo-xds-sync", "-i", "--config", "other.toml", "-q"],
        ] {
            let cli = Cli::try_parse_from(arguments(typed.iter().map(OsString::from))).unwrap();
            assert!(matches!(cli.command, Command::Sync(_)), "{typed:?}");
        }
    }
}
