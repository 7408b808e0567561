//! What a run leaves behind: its entry in the history, the status, what the hub shows of it, the stamp of the last success,
//! and syslog lines.
//!
//! The caller holds the lock of a run. Nothing here can change how the run ended: what cannot be written is logged,
//! or becomes a problem of the report.

use log::Level;
use serde::Deserialize;

use crate::logging::SYSLOG_ONLY;
use crate::model::escape::clean;
use crate::model::rfc3339;
use crate::report::exit::IN_STEP;
use crate::report::overview::Overview;
use crate::report::status::{Scope, Status};
use crate::report::syslog::{self, Line, Severity};
use crate::report::{Problem, Report, Stage, words, wrong};
use crate::state::{RunRecord, StateDir};

/// Records a finished run that ended with `exit_code`. A dry run leaves nothing.
///
/// A history that cannot be written is added to the report's problems.
pub fn run(state: &StateDir, report: &mut Report, exit_code: u8, scope: Scope<'_>) {
    if report.dry_run {
        return;
    }
    let record = RunRecord {
        run: report.run.clone(),
        started: report.started,
        duration: report.duration,
        exit_code,
        wrong: wrong::wrong(report),
        // Lent: of a large run a copy of them counts.
        changes: std::mem::take(&mut report.changes),
    };
    report.problems.extend(history(state, &record).map(|detail| Problem::warning(Stage::History, detail)));
    report.changes = record.changes;
    leave(state, report, exit_code, scope, true);
    syslog::render(report, exit_code).iter().for_each(log_line);
    if let Err(error) = state.end_run() {
        log::error!("{error:#}");
    }
}

/// Records a run that found nothing to do, and that nobody asked for: in the status alone.
pub fn uneventful(state: &StateDir, report: &Report, exit_code: u8, scope: Scope<'_>) {
    leave(state, report, exit_code, scope, false);
}

/// Records that Main has another lease, or none, for the hub's page.
pub(crate) fn lease(state: &StateDir) {
    show(state, |overview| overview);
}

/// Records a publication that somebody has made by hand: what was said of the last one is no longer so.
pub(crate) fn publication(state: &StateDir, problems: &[Problem]) {
    match after_publication(state, problems) {
        Ok(Some(status)) => show(state, |overview| overview.with_status(&status)),
        Ok(None) => show(state, |overview| overview),
        Err(error) => log::error!("{error:#}"),
    }
}

/// Leaves the status after a publication. Returns it; `None`: there was no run yet.
fn after_publication(state: &StateDir, problems: &[Problem]) -> anyhow::Result<Option<Status>> {
    let Some(before) = state.status()?.and_then(|text| Status::parse(&text).ok()) else { return Ok(None) };
    let after = before.clone().after_publication(problems);
    if after != before {
        state.save_status(after.to_json().as_bytes())?;
    }
    Ok(Some(after))
}

/// Records a restoration, which is a change on Main, beside runs.
pub fn restoration(state: &StateDir, record: &RunRecord) {
    for change in &record.changes {
        log_line(&Line::new(Severity::Info, words::change(change)));
    }
    if let Some(problem) = history(state, record) {
        log::error!("{problem}");
    }
}

/// Logs why there is no run, or one of the reasons. The caller tells its user in its own way.
pub fn no_run(why: &str) {
    log_line(&Line::new(Severity::Error, format!("no run: {why}")));
}

/// Logs that a run is not for this host.
pub fn not_this_host(why: &str) {
    log_line(&Line::new(Severity::Info, why));
}

/// What the user is to know about the history: that it was damaged, or that it cannot be written.
fn history(state: &StateDir, record: &RunRecord) -> Option<String> {
    state.history().record(record).unwrap_or_else(|error| Some(clean(&format!("{error:#}"))))
}

/// Leaves how things are now, for `xds-sync status` and for the hub. `is_told`: whether history tells of the run.
fn leave(state: &StateDir, report: &Report, exit_code: u8, scope: Scope<'_>, is_told: bool) {
    match status(state, report, exit_code, scope) {
        Ok(status) => {
            show(state, |overview| overview.after(report, exit_code, is_told).with_status(&status));
        }
        Err(error) => log::error!("{error:#}"),
    }
}

/// Leaves what the hub shows, if this is Main's state.
fn show(state: &StateDir, change: impl FnOnce(Overview) -> Overview) {
    if !state.is_shown() {
        return;
    }
    let overview = change(state.overview());
    let overview = Overview {
        last_success: state.last_success().map(rfc3339),
        published: state.published::<Published>().ok().flatten().map(|known| known.seq),
        ..overview
    };
    if let Err(error) = state.save_overview(&overview) {
        log::warn!("the hub shows an older status: {error:#}");
    }
}

/// Of what Main knows of its store: the newest publication.
#[derive(Deserialize)]
struct Published {
    seq: u64,
}

/// Leaves the status for `xds-sync status`, and the stamp of a full run that left everything in step. Returns the status.
fn status(state: &StateDir, report: &Report, exit_code: u8, scope: Scope<'_>) -> anyhow::Result<Status> {
    // A status that cannot be read says nothing; the new one replaces it.
    let before = state.status()?.and_then(|text| Status::parse(&text).ok()).unwrap_or_default();
    let after = before.after(report, exit_code, scope);
    state.save_status(after.to_json().as_bytes())?;
    let is_outdated = scope.newer.is_some() && after.status_code != IN_STEP;
    if exit_code == IN_STEP && scope.is_full() && !is_outdated {
        state.stamp_last_success(report.started + report.duration)?;
    }
    Ok(after)
}

/// To syslog alone: commands print the report on stdout.
fn log_line(line: &Line) {
    let level = match line.severity {
        Severity::Error => Level::Error,
        Severity::Warning => Level::Warn,
        Severity::Info => Level::Info,
    };
    log::log!(target: SYSLOG_ONLY, level, "{}", line.text);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    use crate::report::samples;
    use crate::state::{Asked, OVERVIEW};

    const FULL: Scope<'_> = Scope { nodes: &[], directories: &[], newer: None };

    fn state() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        (dir, state)
    }

    fn runs(state: &StateDir) -> Vec<RunRecord> {
        state.history().runs(&Asked::default()).unwrap()
    }

    #[test]
    fn a_run_leaves_history_and_status_and_a_full_success_its_stamp() {
        let (_dir, state) = state();
        let stamp = state.path().join("last-success");
        let mut report = samples::eventful();
        run(&state, &mut report, 25, FULL);
        assert_eq!(runs(&state).len(), 1);
        assert_eq!(Status::parse(&state.status().unwrap().unwrap()).unwrap().exit_code, Some(25));
        assert!(!stamp.exists());

        let only = ["mds1".to_owned()];
        run(&state, &mut samples::report(Vec::new()), 0, Scope { nodes: &only, ..Scope::default() });
        assert!(!stamp.exists(), "it was not for all nodes");
        let mut report = samples::report(Vec::new());
        run(&state, &mut report, 0, FULL);
        assert_eq!(stamp.metadata().unwrap().modified().unwrap(), report.started + report.duration);
    }

    #[test]
    fn the_hub_gets_a_copy_that_is_its_own_and_only_on_main() {
        let (dir, state) = state();
        run(&state, &mut samples::eventful(), 25, FULL);
        assert!(!state.path().join(OVERVIEW).exists(), "a node's own runs are shown nowhere");

        let hub = dir.path().join("hub");
        let state = state.shown_by(&hub);
        run(&state, &mut samples::eventful(), 25, FULL);
        assert!(!hub.exists(), "no such service was ever started");
        std::fs::create_dir(&hub).unwrap();
        uneventful(&state, &samples::report(vec![samples::node("mds1")]), 0, FULL);
        let read = |dir: &std::path::Path| std::fs::read(dir.join(OVERVIEW)).unwrap();
        assert_eq!(read(&hub), read(state.path()));
        assert_eq!(std::fs::metadata(hub.join(OVERVIEW)).unwrap().permissions().mode() & 0o777, 0o600);
        let shown: Overview = state.overview();
        assert_eq!((shown.runs.len(), &shown.totals.runs), (1, &[(0, 1), (25, 1)].into()));
        assert_eq!(shown.last_success, shown.status.ended);
        assert_eq!(shown.published, None);

        state.save_published(&serde_json::json!({"seq": 7, "cluster": "01J"})).unwrap();
        publication(&state, &[]);
        let published: Overview = state.overview();
        assert_eq!(published, Overview { published: Some(7), ..shown });

        std::fs::write(state.path().join(OVERVIEW), "damaged").unwrap();
        run(&state, &mut samples::eventful(), 25, FULL);
        assert_eq!(state.overview::<Overview>().totals.runs, [(25, 1)].into());
    }

    /// Whoever has the hub's directory cannot have root write elsewhere.
    #[test]
    fn what_a_hub_has_planted_leads_nowhere() {
        let (dir, state) = state();
        let (hub, other) = (dir.path().join("hub"), dir.path().join("other"));
        std::fs::create_dir(&hub).unwrap();
        std::fs::write(&other, "of others").unwrap();
        for name in [OVERVIEW.to_owned(), format!(".{OVERVIEW}.new")] {
            std::os::unix::fs::symlink(&other, hub.join(name)).unwrap();
        }
        let state = state.shown_by(&hub);
        run(&state, &mut samples::eventful(), 25, FULL);
        assert_eq!(std::fs::read(&other).unwrap(), b"of others");
        assert!(std::fs::symlink_metadata(hub.join(OVERVIEW)).unwrap().is_file());
    }

    #[test]
    fn a_dry_run_leaves_nothing() {
        let (_dir, state) = state();
        let mut report = samples::eventful();
        report.dry_run = true;
        run(&state, &mut report, 0, FULL);
        assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_history_that_cannot_be_written_is_a_problem_of_the_report() {
        let (_dir, state) = state();
        std::fs::create_dir_all(state.path().join("history.db/x")).unwrap();
        let mut report = samples::report(Vec::new());
        run(&state, &mut report, 0, FULL);
        assert!(
            matches!(&report.problems[..], [problem] if problem.stage == Stage::History && !problem.fails)
        );
        assert!(state.status().unwrap().is_some());
    }
}
