//! A run of the cron job: what it says becomes a mail, so it says what is news.

use std::path::Path;

use crate::cli::Context;
use crate::host;
use crate::model::escape::clean;
use crate::report::mail::{self, Told};
use crate::report::{Report, summary_line};
use crate::state::StateDir;

/// Says what is new of a run, in `state`, the lock of which is held.
pub(super) fn say(context: &Context, state: &StateDir, report: &Report) -> anyhow::Result<()> {
    let (text, told) = mail::news(&mail::troubles(report), &state.told(), host::now(), &summary_line(report));
    tell(context, state, &text, &told)
}

/// Says why there was no run, if that is new. With a configuration that has mistakes, `state` is where it usually is.
pub(super) fn say_no_run(context: &Context, state: &Path, lines: &[String]) {
    let opened = state.is_dir().then(|| StateDir::open(state)).and_then(Result::ok);
    let told = opened.map(|state| {
        let (text, told) = mail::news_of_no_run(lines, &state.told(), host::now());
        tell(context, &state, &text, &told)
    });
    // Whoever cannot remember what was told tells it.
    if !matches!(told, Some(Ok(()))) {
        lines.iter().for_each(|line| context.ui.plain(&clean(line)));
    }
}

fn tell(context: &Context, state: &StateDir, text: &str, told: &Told) -> anyhow::Result<()> {
    context.ui.result(text.as_bytes())?;
    state.save_told(told)
}
