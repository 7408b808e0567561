//! The only place that prints: results to stdout, everything else to stderr.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::ValueEnum;
use log::Level;

use super::progress::{self, Live};
use crate::host;
use crate::report::text::{Style, Verbosity};
use crate::sync::{Progress, Silent};

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// In files and pipes too.
    Always,
    /// Nowhere.
    Never,
}

/// How much is printed, and how.
#[derive(Clone, Copy)]
pub(super) struct Ui {
    verbosity: Verbosity,
    color: ColorChoice,
}

impl Ui {
    pub(super) fn new(verbosity: Verbosity, color: ColorChoice) -> Ui {
        Ui { verbosity, color }
    }

    pub(super) fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    /// Shows a warning or an error of the log.
    pub(super) fn log(&self, level: Level, text: &str) {
        match level {
            Level::Error => self.error(text),
            _ => self.message(&format!("warning: {text}")),
        }
    }

    /// How to print a result.
    pub(super) fn style(&self) -> Style {
        Style { verbosity: self.verbosity, color: self.has_color(io::stdout().is_terminal()) }
    }

    fn has_color(&self, terminal: bool) -> bool {
        match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                let dumb = host::variable("TERM").is_some_and(|term| term == "dumb");
                terminal && !dumb && host::variable("NO_COLOR").is_none()
            }
        }
    }

    /// Writes a result to stdout, in one piece.
    pub(super) fn result(&self, text: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text).and_then(|()| stdout.flush()) {
            // `xds-sync status | head` has had enough; that is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    /// What is good to know, on stderr; hidden by `--quiet`.
    pub(super) fn message(&self, text: &str) {
        if self.verbosity > Verbosity::Quiet {
            self.plain(text);
        }
    }

    /// What only `--verbose` and people at a terminal want to know.
    pub(super) fn aside(&self, text: &str) {
        if self.verbosity > Verbosity::Normal
            || (self.verbosity == Verbosity::Normal && io::stderr().is_terminal())
        {
            self.plain(text);
        }
    }

    /// What went wrong, on stderr.
    pub(super) fn error(&self, text: &str) {
        let color = self.has_color(io::stderr().is_terminal());
        let word = if color { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
        self.plain(&format!("{word} {text}"));
    }

    /// A line on stderr as it is.
    pub(super) fn plain(&self, text: &str) {
        progress::line(text);
    }

    /// Asks whoever sits there a question; only a yes is one.
    pub(super) fn is_agreed(&self, question: &str) -> io::Result<bool> {
        let mut stderr = io::stderr();
        write!(stderr, "{question} [y/N] ")?;
        stderr.flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
    }

    /// What a run is doing, on stderr where a person watches. `stop` is set when the run is to end.
    pub(super) fn progress(&self, stop: &Arc<AtomicBool>) -> Arc<dyn Progress + Send> {
        if self.verbosity > Verbosity::Quiet && progress::is_watched() {
            Arc::new(Live::new(Arc::clone(stop)))
        } else {
            Arc::new(Silent)
        }
    }
}
