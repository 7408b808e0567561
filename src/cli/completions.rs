//! `xds-sync completions`, and what the scripts that it prints ask this program for.

use std::ffi::OsString;

use anyhow::Context as _;
use clap::ValueEnum;
use clap_complete::env::{CompleteEnv, Shells};

use super::{Context, command, exit};

const EXAMPLES: &str = "\
Examples:
  xds-sync completions bash > /etc/bash_completion.d/xds-sync
  xds-sync completions zsh > /usr/local/share/zsh/site-functions/_xds-sync
  xds-sync completions fish > /etc/fish/completions/xds-sync.fish

The package has them already. They know the names of nodes and directories.";

/// Print a completion script
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// For this shell
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// The variable by which a script asks.
const ASKED: &str = "XDS_SYNC_COMPLETE";
const NAME: &str = "xds-sync";

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let name = match args.shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let shells = Shells::builtins();
    let shell = shells.completer(name).context("this shell is not known")?;
    let mut script = Vec::new();
    shell.write_registration(ASKED, NAME, NAME, NAME, &mut script)?;
    if matches!(args.shell, Shell::Zsh) {
        script.extend(AUTOLOADED.bytes());
    }
    context.ui.result(&script)?;
    Ok(exit::DONE)
}

/// zsh loads the script when it is to complete for the first time: then it also has to do that.
const AUTOLOADED: &str = r#"if [ "$funcstack[1]" = "_xds-sync" ]; then
    _clap_dynamic_completer_xds_sync "$@"
fi
"#;

/// Answers what a completion script asks. `false`: nothing was asked.
pub(super) fn answer(arguments: &[OsString]) -> bool {
    // Only a script asks with these first words, so that nobody who may set variables keeps the agent from its work.
    if arguments.get(1).is_none_or(|first| first != "--") {
        return false;
    }
    let here = std::env::current_dir().ok();
    let asked = CompleteEnv::with_factory(command).var(ASKED).try_complete(arguments, here.as_deref());
    asked.unwrap_or(true)
}
