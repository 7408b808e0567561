//! What a command did step by step, a line each.

use super::{Context, exit};
use crate::logging::SYSLOG_ONLY;
use crate::report::text::Verbosity;

/// Lines of what was done. They are printed at the end; what changed something is also logged at once.
pub(super) struct Steps {
    command: &'static str,
    text: String,
    /// The lines of it that tell what went wrong.
    wrong: String,
    /// Whether what was kept as it was is left out.
    only_changes: bool,
}

impl Steps {
    /// Carries out `command`, and prints what was done, also when it fails midway; under `--quiet` only what went wrong.
    pub(super) fn run(
        context: &Context,
        command: &'static str,
        perform: impl FnOnce(&mut Steps) -> anyhow::Result<u8>,
    ) -> anyhow::Result<u8> {
        let mut steps = Steps { command, text: String::new(), wrong: String::new(), only_changes: false };
        let result = perform(&mut steps);
        if context.ui.verbosity() == Verbosity::Quiet {
            steps.wrong.lines().for_each(|line| context.ui.plain(line));
        } else if let Err(error) = context.ui.result(steps.text.as_bytes()) {
            // It was done all the same.
            context.ui.error(&format!("printing what was done: {error}"));
        }
        result
    }

    /// A thing that had to be there: it was made, or it was there already.
    pub(super) fn ensured(&mut self, what: &str, made: bool, which: &str) {
        if made {
            self.changed(what, &format!("made {which}"));
        } else {
            self.note(what, &format!("kept {which}"));
        }
    }

    /// Something was changed.
    pub(super) fn changed(&mut self, what: &str, text: &str) {
        log::info!("{}: {what}: {text}", self.command);
        self.tell(what, text);
    }

    /// Nothing was changed.
    pub(super) fn note(&mut self, what: &str, text: &str) {
        if !self.only_changes {
            self.tell(what, text);
        }
    }

    /// Something went wrong, and the command goes on.
    pub(super) fn wrong(&mut self, what: &str, text: &str) {
        log::error!(target: SYSLOG_ONLY, "{}: {what}: {text}", self.command);
        self.wrong.push_str(&format!("{what:<9} {text}\n"));
        self.tell(what, text);
    }

    /// A step that others do not depend on: where it failed, that is told, and the command goes on.
    pub(super) fn attempt<T>(&mut self, what: &str, done: anyhow::Result<T>) -> Option<T> {
        done.inspect_err(|error| self.wrong(what, &format!("FAILED: {}", exit::line_of(error)))).ok()
    }

    /// Whether anything went wrong.
    pub(super) fn has_failed(&self) -> bool {
        !self.wrong.is_empty()
    }

    /// Leaves out what was kept as it was, and hints, from here on.
    pub(super) fn only_changes(&mut self, only: bool) {
        self.only_changes = only;
    }

    fn tell(&mut self, what: &str, text: &str) {
        self.text.push_str(&format!("{what:<9} {text}\n"));
    }
}
