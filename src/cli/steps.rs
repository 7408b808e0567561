//! What a command did step by step, a line each.

use super::Context;
use crate::report::text::Verbosity;

/// Lines of what was done. They are printed at the end; what changed something is also logged at once.
pub(super) struct Steps {
    command: &'static str,
    text: String,
}

impl Steps {
    /// Carries out `command`, and prints what was done, also when it fails midway; nothing under `--quiet`.
    pub(super) fn run(
        context: &Context,
        command: &'static str,
        perform: impl FnOnce(&mut Steps) -> anyhow::Result<u8>,
    ) -> anyhow::Result<u8> {
        let mut steps = Steps { command, text: String::new() };
        let result = perform(&mut steps);
        if context.ui.verbosity() > Verbosity::Quiet
            && let Err(error) = context.ui.result(steps.text.as_bytes())
        {
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
        self.note(what, text);
    }

    /// Nothing was changed.
    pub(super) fn note(&mut self, what: &str, text: &str) {
        self.text.push_str(&format!("{what:<9} {text}\n"));
    }
}
