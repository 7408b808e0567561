//! `xds-sync completions`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, Context, exit};

const EXAMPLES: &str = "\
Examples:
  xds-sync completions bash > /usr/share/bash-completion/completions/xds-sync
  xds-sync completions zsh > /usr/share/zsh/vendor-completions/_xds-sync
  xds-sync completions fish > /usr/share/fish/vendor_completions.d/xds-sync.fish";

/// Print a completion script
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// For this shell
    shell: Shell,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "xds-sync", &mut script);
    context.ui.result(&script)?;
    Ok(exit::DONE)
}
