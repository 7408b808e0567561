//! How the process ends.

use std::fmt;
use std::io;
use std::process::ExitCode;

use rustix::io::Errno;

use super::ui::Ui;
use crate::config::Mistakes;
use crate::host;
use crate::model::escape::clean;
use crate::report::exit::{IN_STEP, LOCKED, PARTIAL, USAGE};
use crate::site::{self, Locked};
use crate::store::StoreError;

/// The code of a command that did what it was asked to.
pub(super) const DONE: u8 = IN_STEP;

/// The step of a command that failed when something may have been changed already: exit 23 instead of 1.
#[derive(Debug)]
pub(super) struct Incomplete(&'static str);

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the step '{}' failed", self.0)
    }
}

/// Names the step that a result is of.
pub(super) trait StepContext<T> {
    /// From here on something may have been changed: an error becomes exit 23 and names the step.
    fn step(self, name: &'static str) -> anyhow::Result<T>;
}

impl<T> StepContext<T> for anyhow::Result<T> {
    fn step(self, name: &'static str) -> anyhow::Result<T> {
        self.map_err(|error| error.context(Incomplete(name)))
    }
}

/// Ends after arguments that cannot be parsed, and after `--help` and `--version`, which clap treats alike.
/// clap's own exit code for the former, 2, means something else here.
pub(super) fn of_usage(error: &clap::Error) -> ExitCode {
    // A reader that has gone has had enough.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { USAGE } else { IN_STEP })
}

/// Tells why a command could not do what it was asked to. What went wrong within a run is in its report and never
/// comes here.
pub(super) fn of_error(ui: &Ui, error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<Mistakes>() {
        Some(mistakes) => show_mistakes(ui, mistakes),
        None => ui.error(&(line_of(error) + advice(error))),
    }
    ExitCode::from(code_of(error))
}

/// Each has its own line, in the form that editors jump to.
pub(super) fn show_mistakes(ui: &Ui, mistakes: &Mistakes) {
    mistakes.0.iter().for_each(|mistake| ui.plain(&clean(&mistake.to_string())));
}

/// What to do about a disk that does not take what is to be written, whichever file it was.
fn advice(error: &anyhow::Error) -> &'static str {
    let kind = error.chain().find_map(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        io.or_else(|| Some(io::Error::from(*cause.downcast_ref::<Errno>()?).kind()))
    });
    match kind {
        Some(io::ErrorKind::StorageFull) => "; make room on that disk (`df -h` and `df -i` show it)",
        Some(io::ErrorKind::QuotaExceeded) => "; raise the quota there, or make room",
        Some(io::ErrorKind::ReadOnlyFilesystem) => "; that disk is mounted read-only (`findmnt` shows it)",
        Some(io::ErrorKind::PermissionDenied) if !host::is_root() => "; run it as root",
        _ => "",
    }
}

pub(super) fn code_of(error: &anyhow::Error) -> u8 {
    if error.is::<Locked>() {
        LOCKED
    } else if error.is::<StoreError>() {
        site::store::code_of(error)
    } else if error.is::<Incomplete>() {
        PARTIAL
    } else {
        USAGE
    }
}

/// An error and its causes in one line.
pub(super) fn line_of(error: &anyhow::Error) -> String {
    clean(&plain(&format!("{error:#}")))
}

/// Without the system's numbers, which say nothing that its words do not.
fn plain(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => plain.push_str(rest),
            _ => plain.extend([" (os error ", part]),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn a_disk_that_is_full_comes_with_advice() {
        for (errno, words) in [
            (Errno::NOSPC, "make room"),
            (Errno::DQUOT, "quota"),
            (Errno::ROFS, "read-only"),
            (Errno::IO, ""),
        ] {
            for error in [anyhow::Error::from(errno), anyhow::Error::from(io::Error::from(errno))] {
                let error = error.context("cannot write /var/lib/xds-sync/lock");
                let advice = advice(&error);
                assert!(advice.contains(words) && advice.is_empty() == words.is_empty(), "{advice}");
            }
        }
    }

    #[test]
    fn words_do_without_numbers() {
        for (text, expected) in [
            ("a: No such file or directory (os error 2)", "a: No such file or directory"),
            ("a: b (os error 2): c (os error 13); d", "a: b: c; d"),
            ("a (os error x)", "a (os error x)"),
        ] {
            assert_eq!(plain(text), expected);
        }
    }

    #[test]
    fn the_code_of_an_error_says_whether_anything_may_have_been_changed() {
        let failed = || anyhow::Result::<()>::Err(anyhow!("No space left on device"));
        for (result, code, text) in [
            (failed(), USAGE, "No space left on device"),
            (failed().step("login"), PARTIAL, "the step 'login' failed: No space left on device"),
            (
                failed().step("login").context("joining"),
                PARTIAL,
                "joining: the step 'login' failed: No space left on device",
            ),
        ] {
            let error = result.err().map(|error| (code_of(&error), line_of(&error)));
            assert_eq!(error, Some((code, text.to_owned())));
        }
    }
}
