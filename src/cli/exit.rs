//! How the process ends.

use std::process::ExitCode;

use super::load::Locked;
use super::ui::Ui;
use crate::config::Mistakes;
use crate::model::escape::clean;
use crate::report::exit::{IN_STEP, LOCKED, USAGE};

/// Of a command that did what it was asked to.
pub(super) const DONE: u8 = IN_STEP;

/// What becomes of arguments that cannot be parsed, and of `--help` and `--version`, which clap treats
/// alike. clap's own code for the previous, 2, means something else here.
pub(super) fn of_usage(error: &clap::Error) -> ExitCode {
    // A reader that has gone has had enough.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { USAGE } else { IN_STEP })
}

/// Tells why a command could not do what it was asked to. A run's own failures are in its report and never
/// come here: whatever does, happened before anything was touched.
pub(super) fn of_error(ui: &Ui, error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<Mistakes>() {
        // Each has its own line, in the form that editors jump to.
        Some(mistakes) => mistakes.0.iter().for_each(|mistake| ui.complain(&clean(&mistake.to_string()))),
        None => ui.error(&line_of(error)),
    }
    ExitCode::from(if error.is::<Locked>() { LOCKED } else { USAGE })
}

/// An error and its causes in one line.
pub(super) fn line_of(error: &anyhow::Error) -> String {
    clean(&format!("{error:#}"))
}
