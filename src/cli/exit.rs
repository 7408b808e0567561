//! How the process ends.

use std::process::ExitCode;

use crate::report::exit::{IN_STEP, USAGE};

/// Ends a command that did what it was asked to.
pub(super) const DONE: u8 = IN_STEP;

/// What becomes of arguments that cannot be parsed, and of `--help` and `--version`, which clap treats
/// alike. clap's own code for the former, 2, means something else here.
pub(super) fn of_usage(error: &clap::Error) -> ExitCode {
    // A reader that has gone has had enough.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { USAGE } else { IN_STEP })
}
