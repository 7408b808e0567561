//! A run of the cron job: what it says becomes a mail, so it says what is news.

use std::path::Path;

use crate::cli::Context;
use crate::host;
use crate::model::escape::clean;
use crate::report::mail::{self, Trouble};
use crate::report::{Report, summary_line};
use crate::state::StateDir;

/// Says what is new of a run, in `state`, the lock of which is held.
pub(super) fn say(context: &Context, state: &StateDir, report: &Report) -> anyhow::Result<()> {
    tell(context, state, &mail::troubles(report), &summary_line(report))
}

/// Says why there was no run, if that is new. With a configuration that has mistakes, `state` is where it usually is.
pub(super) fn say_no_run(context: &Context, state: &Path, lines: &[String]) {
    let opened = state.is_dir().then(|| StateDir::open(state)).and_then(Result::ok);
    let told = opened.map(|state| tell(context, &state, &mail::no_run(lines), "nothing was done"));
    // Whoever cannot remember what was told tells it.
    if !matches!(told, Some(Ok(()))) {
        lines.iter().for_each(|line| context.ui.plain(&clean(line)));
    }
}

fn tell(context: &Context, state: &StateDir, troubles: &[Trouble], last_line: &str) -> anyhow::Result<()> {
    let (text, told) = mail::news(troubles, &state.told(), host::now(), last_line);
    context.ui.result(text.as_bytes())?;
    state.save_told(&told)
}
