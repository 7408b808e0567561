//! What a command did step by step, a line each.

use std::io;

use super::ui::Ui;
use crate::report::text::Verbosity;

/// Lines of what was done, told at the end; nothing under `--quiet`.
#[derive(Default)]
pub(super) struct Steps(String);

impl Steps {
    /// A thing that had to be there: made, or kept as it was.
    pub(super) fn tell(&mut self, what: &str, made: bool, which: &str) {
        self.note(what, &format!("{} {which}", if made { "made" } else { "kept" }));
    }

    pub(super) fn note(&mut self, what: &str, text: &str) {
        self.0.push_str(&format!("{what:<9} {text}\n"));
    }

    /// Tells them all, as the command's result.
    pub(super) fn print(&self, ui: &Ui) -> io::Result<()> {
        if ui.verbosity() > Verbosity::Quiet {
            ui.result(self.0.as_bytes())?;
        }
        Ok(())
    }
}
