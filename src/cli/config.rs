//! `xds-sync config`.

use clap::Subcommand;

use super::{Context, exit, load};
use crate::config::{Loaded, Mistakes};
use crate::model::escape::clean;
use crate::report::exit::USAGE;

const EXAMPLES: &str = "\
Examples:
  xds-sync config check                  every mistake, with file and line
  xds-sync config show                   every value, and where it is from
  xds-sync config show | grep '^sync'    the values of one section";

/// Show or check the configuration
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print every value and where it comes from; secrets are masked
    #[command(after_help = EXAMPLES)]
    Show,
    /// Name all mistakes, with file and line
    #[command(after_help = EXAMPLES)]
    Check,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    match args.action {
        Action::Show => show(context),
        Action::Check => check(context),
    }
}

fn show(context: &Context) -> anyhow::Result<u8> {
    let lines: String =
        load::config_with_origins(context)?.show().iter().map(|line| clean(line) + "\n").collect();
    context.ui.result(lines.as_bytes())?;
    Ok(exit::DONE)
}

fn check(context: &Context) -> anyhow::Result<u8> {
    match load::config_with_origins(context) {
        Ok(Loaded { config, warnings, .. }) => {
            warnings.iter().for_each(|warning| context.ui.message(&clean(warning)));
            let (directories, nodes) =
                (config.directories.len(), config.nodes.len() + config.followers.len());
            let found = match config.discovery.is_used() {
                true => ", and those that 'xds-sync nodes list' finds",
                false => "",
            };
            context.ui.message(&format!("no mistake; directories: {directories}, nodes: {nodes}{found}"));
            Ok(exit::DONE)
        }
        // Here the mistakes are the result.
        Err(error) => match error.downcast::<Mistakes>() {
            Ok(mistakes) => {
                let lines: String =
                    mistakes.0.iter().map(|mistake| clean(&mistake.to_string()) + "\n").collect();
                context.ui.result(lines.as_bytes())?;
                Ok(USAGE)
            }
            Err(error) => Err(error),
        },
    }
}
