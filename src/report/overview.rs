//! What the hub shows: how all nodes are, and how the last runs went.
//!
//! The hub is another user than root, and whoever sees its page need not be one of Main's administrators. So it does not read
//! the status itself: each run leaves it a copy that names no file, and that stays small whatever went wrong.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::status::Status;
use super::{DirectoryReport, Halted, Problem, Report, milliseconds, summary};
use crate::model::escape::{clean, plain};
use crate::model::{read_rfc3339, rfc3339};

/// Runs that are shown.
const MOST_RUNS: usize = 10;
/// Problems that are shown, and halted directories.
const MOST: usize = 100;
/// Characters of what a host has said.
const MOST_SAID: usize = 1000;
/// How much later than the schedule has it a run may end, and how far ahead a clock may have been.
const GRACE: Duration = Duration::from_secs(300);
/// After which time a status is old where no run is scheduled.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// What stands for a detail that may name a file.
const ELSEWHERE: &str = "'xds-sync status' on Main names the files";
/// Numbers of errors that Linux has words for.
const ERRNOS: std::ops::RangeInclusive<i32> = 1..=133;

/// What is shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Overview {
    /// The status, without names of files.
    pub(crate) status: Status,
    /// Problems and halted directories beyond those in it.
    pub(crate) more: u64,
    /// The end of the last run over everything that left everything in step.
    pub(crate) last_success: Option<String>,
    /// The last run, whatever it was for.
    pub(crate) last_run: Option<RunNote>,
    /// The last runs that were worth telling, the newest first.
    pub(crate) runs: Vec<RunNote>,
    /// All runs since there has been such a file.
    pub(crate) totals: Totals,
    /// The newest publication, where Main has a store.
    pub(crate) published: Option<u64>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunNote {
    pub(crate) run: String,
    pub(crate) ended: String,
    pub(crate) duration_ms: u64,
    pub(crate) exit_code: u8,
    /// Content on the wire.
    pub(crate) bytes: u64,
    /// The run in one line.
    pub(crate) summary: String,
}

/// What only grows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// Exit code → runs.
    pub(crate) runs: BTreeMap<u8, u64>,
    /// Content on the wire.
    pub(crate) bytes: u64,
}

impl Overview {
    /// What is shown after one more run. `is_told`: whether history tells of it.
    #[must_use]
    pub(crate) fn after(mut self, report: &Report, exit_code: u8, is_told: bool) -> Overview {
        let sum = |node: &[DirectoryReport]| node.iter().map(|directory| directory.bytes).sum::<u64>();
        let note = RunNote {
            run: report.run.clone(),
            ended: rfc3339(report.started + report.duration),
            duration_ms: milliseconds(report.duration),
            exit_code,
            bytes: report.nodes.iter().map(|node| sum(&node.directories)).sum(),
            summary: clipped(&summary::summary(report)),
        };
        *self.totals.runs.entry(exit_code).or_default() += 1;
        self.totals.bytes = self.totals.bytes.saturating_add(note.bytes);
        if is_told {
            self.runs.insert(0, note.clone());
            self.runs.truncate(MOST_RUNS);
        }
        self.last_run = Some(note);
        self
    }

    /// With how the cluster is now.
    #[must_use]
    pub(crate) fn with_status(self, status: &Status) -> Overview {
        let mut shown = status.clone();
        for directory in shown.nodes.iter_mut().flat_map(|node| &mut node.directories) {
            directory.held_paths.clear();
            directory.skipped.clear();
            directory.own.iter_mut().for_each(|own| own.paths.clear());
        }
        for node in &mut shown.nodes {
            node.error = node.error.as_deref().map(clipped);
            for reload in &mut node.reloads {
                reload.detail = reload.detail.as_deref().map(clipped);
            }
        }
        let (halted, more_halted) = first(shown.halted.iter().map(without_paths));
        let (problems, more_problems) = first(shown.problems.iter().map(without_names));
        (shown.halted, shown.problems) = (halted, problems);
        Overview { status: shown, more: more_halted + more_problems, ..self }
    }

    /// When the last run ended.
    pub(crate) fn ended(&self) -> Option<SystemTime> {
        read_rfc3339(self.status.ended.as_deref()?)
    }

    /// Whether nothing can be said of how the cluster is now: two runs should have ended since, or there was none.
    /// `next_run` is when the next run after a moment begins.
    pub(crate) fn is_old(
        &self,
        now: SystemTime,
        next_run: impl Fn(SystemTime) -> Option<SystemTime>,
    ) -> bool {
        let Some(ended) = self.ended() else { return true };
        let due = next_run(ended).and_then(next_run).map_or(ended + DAY, |due| due + GRACE);
        // By a clock that was far ahead: nobody knows how old it is.
        now > due || ended > now + GRACE
    }
}

/// The first of what is different, and how many more there are.
fn first<T: PartialEq>(all: impl Iterator<Item = T>) -> (Vec<T>, u64) {
    let (mut first, mut more) = (Vec::new(), 0);
    for one in all {
        if first.contains(&one) {
            continue;
        }
        if first.len() < MOST {
            first.push(one);
        } else {
            more += 1;
        }
    }
    (first, more)
}

fn without_paths(halted: &Halted) -> Halted {
    Halted { paths: Vec::new(), restore: Vec::new(), detail: clipped(&halted.detail), ..halted.clone() }
}

/// What goes wrong with a directory's files may be told with a name of one; the system's own words are not.
fn without_names(problem: &Problem) -> Problem {
    let detail = match problem.directory {
        Some(_) => system_words(&problem.detail).unwrap_or_else(|| ELSEWHERE.to_owned()),
        None => clipped(&problem.detail),
    };
    Problem { path: None, detail, ..problem.clone() }
}

/// The words of an error of the system at the end of a detail.
fn system_words(detail: &str) -> Option<String> {
    let last = detail.rsplit(": ").next()?;
    let words = |number| plain(&io::Error::from_raw_os_error(number).to_string());
    ERRNOS.map(words).find(|words| words == last)
}

fn clipped(text: &str) -> String {
    let text = clean(text);
    match text.char_indices().nth(MOST_SAID) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::samples::{eventful, node, problem, report, started};
    use super::super::status::Scope;
    use super::super::{Guard, PathNote, Stage, samples};
    use super::*;
    use crate::model::{RelPathBuf, Side};

    fn overview(report: &Report) -> Overview {
        let code = report.exit_code();
        let status = Status::default().after(report, code, Scope::default());
        Overview::default().after(report, code, true).with_status(&status)
    }

    #[test]
    fn it_names_no_file() {
        let mut run = eventful();
        let path = |path: &str| RelPathBuf::new(path.as_bytes()).unwrap();
        let note = PathNote { path: path("monitor/fifo"), side: Side::Node, reason: None };
        run.nodes[1].directories[1].skipped = vec![note];
        run.nodes[1].directories[1].own =
            Some(super::super::NodesOwn { count: 1, paths: vec![path("monitor/own.wav")] });
        let of = |detail: &str| Problem {
            directory: Some("recordings".to_owned()),
            ..Problem::failure(Stage::Commit, detail)
        };
        run.problems.push(of("its content is not that of monitor/old.wav"));
        run.problems.push(of("put monitor/new.wav: Read-only file system"));
        let shown = overview(&run);
        let text = serde_json::to_string(&shown).unwrap();
        assert!(!text.contains(".wav") && !text.contains("monitor") && !text.contains("jazz"), "{text}");
        let details: Vec<&str> = shown.status.problems.iter().map(|problem| &*problem.detail).collect();
        assert!(details.contains(&"No space left on device"), "{details:?}");
        assert!(details.contains(&"Read-only file system") && details.contains(&ELSEWHERE), "{details:?}");
        let recordings = &shown.status.nodes[1].directories[1];
        assert_eq!((recordings.held, recordings.left_alone), (1, 1), "how many there are is told");
        assert_eq!(shown.status.halted[0].token.as_deref(), Some("moh-4f2a"));
        assert_eq!(shown.status.status_code, 25);
    }

    #[test]
    fn it_stays_small_whatever_goes_wrong() {
        let mut run = report(vec![node("mds1")]);
        run.nodes[0].error = Some("é".repeat(100_000));
        run.halted = vec![samples::halted("moh", Guard::MaxDelete); 1000];
        run.problems = vec![Problem { directory: Some("moh".to_owned()), ..problem(Stage::Commit) }; 50_000];
        let rows = (0..1000).map(|row| Problem::warning(Stage::Discovery, format!("row {row}")));
        run.problems.extend(rows);
        let mut shown = overview(&run);
        for _ in 0..100 {
            shown = shown.after(&run, 25, true);
        }
        assert!(serde_json::to_string(&shown).unwrap().len() < 64 * 1024);
        assert_eq!((shown.status.problems.len(), shown.more), (100, 901));
        assert_eq!((shown.status.halted.len(), shown.runs.len()), (1, 10));
    }

    #[test]
    fn runs_are_counted_and_those_that_did_something_are_told() {
        let quiet = report(vec![node("mds1")]);
        let shown = overview(&eventful()).after(&quiet, 0, false);
        assert_eq!(shown.totals.runs, [(0, 1), (25, 1)].into());
        assert_eq!(shown.totals.bytes, 5_242_880);
        assert_eq!(shown.runs.len(), 1);
        assert_eq!(shown.runs[0].summary, "2 changes, 1 of 3 nodes in step (412 ms)");
        assert_eq!(shown.last_run.unwrap().exit_code, 0);
    }

    #[test]
    fn it_is_old_when_two_runs_should_have_ended_since() {
        let shown = overview(&eventful());
        let quarter = Duration::from_secs(900);
        let next = |after: SystemTime| Some(after + quarter);
        let minutes = |minutes: u64| started() + Duration::from_secs(60 * minutes);
        for (now, is_old) in [(0, false), (29, false), (34, false), (36, true), (7 * 24 * 60, true)] {
            assert_eq!(shown.is_old(minutes(now), next), is_old, "{now} minutes later");
        }
        assert!(shown.is_old(started() - 2 * GRACE, next), "it is of the future");
        assert!(!shown.is_old(started() + DAY, |_| None) && shown.is_old(started() + 2 * DAY, |_| None));
        assert!(Overview::default().is_old(started(), next), "there was no run");
    }
}
