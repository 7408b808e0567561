//! What the cron job says, which cron sends as a mail. A problem is told when it begins, when it changes, once a day, and
//! when it is over: a node that is away for a weekend is no 192 mails.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{NodeReport, Report, remedy, summary, words};
use crate::model::rfc3339;

/// A problem that stays is told again after so long: a day, less what one daily run may begin earlier than another.
const AGAIN: Duration = Duration::from_secs(23 * 3600);

/// The key of why there was none.
const NO_RUN: &str = "no run";

/// Something that is wrong now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// By which it is known again.
    key: String,
    /// What it is like: another one is news.
    state: String,
    /// What it is, for who is told that it is over; empty where that is no news.
    title: String,
    /// All that is to be said of it.
    text: String,
}

/// What was told, by keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told(BTreeMap<String, ToldTrouble>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ToldTrouble {
    state: String,
    title: String,
    /// When it was told first.
    since: String,
    /// When it was told last.
    told: String,
}

/// What is to be said after a run, and what has been said then. `last_line` ends a mail that says anything.
pub(crate) fn news(now: &[Trouble], told: &Told, time: SystemTime, last_line: &str) -> (String, Told) {
    let is_over = |_: &str| true;
    news_of(now, told, time, last_line, is_over)
}

/// The same where there was no run: nothing is known of what was wrong before.
pub(crate) fn news_of_no_run(lines: &[String], told: &Told, time: SystemTime) -> (String, Told) {
    let is_over = |key: &str| key == NO_RUN;
    news_of(&no_run(lines), told, time, "nothing was done", is_over)
}

fn news_of(
    now: &[Trouble],
    told: &Told,
    time: SystemTime,
    last_line: &str,
    is_over: impl Fn(&str) -> bool,
) -> (String, Told) {
    let mut text = String::new();
    let mut after = BTreeMap::new();
    let mut untold = 0;
    for trouble in now {
        let before = told.0.get(&trouble.key);
        let is_known =
            before.is_some_and(|before| before.state == trouble.state && !is_old(&before.told, time));
        if is_known {
            untold += 1;
        } else {
            text += &trouble.text;
            text.push('\n');
        }
        let stamp = rfc3339(time);
        let entry = ToldTrouble {
            state: trouble.state.clone(),
            title: trouble.title.clone(),
            since: before.map_or_else(|| stamp.clone(), |before| before.since.clone()),
            told: before.filter(|_| is_known).map_or(stamp, |before| before.told.clone()),
        };
        after.insert(trouble.key.clone(), entry);
    }
    let gone: Vec<_> = told.0.iter().filter(|(key, _)| !after.contains_key(*key)).collect();
    for (key, before) in gone {
        if !is_over(key) {
            after.insert(key.clone(), before.clone());
        } else if !before.title.is_empty() {
            text += &format!("over: {} (since {})\n", words::name(&before.title), words::name(&before.since));
        }
    }
    if !text.is_empty() {
        if untold > 0 {
            text += &format!(
                "and as told before, {}: xds-sync status\n",
                words::count(untold, "problem", "problems")
            );
        }
        text += last_line;
        text.push('\n');
    }
    (text, Told(after))
}

/// Whether it was told so long ago that it is told again. By a clock that was wrong then, it was.
fn is_old(told: &str, now: SystemTime) -> bool {
    let told = humantime::parse_rfc3339(told).ok();
    told.and_then(|told| now.duration_since(told).ok()).is_none_or(|age| age >= AGAIN)
}

/// Why there was no run.
fn no_run(lines: &[String]) -> Vec<Trouble> {
    let text = lines.join("\n");
    vec![Trouble {
        key: NO_RUN.to_owned(),
        state: without_numbers(&text),
        title: format!("no run: {}", lines.first().map_or("", String::as_str)),
        text,
    }]
}

/// What is wrong after a run.
pub(crate) fn troubles(report: &Report) -> Vec<Trouble> {
    let nodes = report.nodes.iter().filter(|node| report.node_exit_code(node) != 0);
    let mut troubles: Vec<Trouble> = nodes.map(|node| of_node(report, node)).collect();
    troubles.extend(report.halted.iter().map(|halted| {
        let mut lines = vec![format!("HALTED {}", words::halted(halted))];
        lines.extend(remedy::remedies(halted).iter().map(|remedy| format!("       {remedy}")));
        let place = format!("{} on {}", halted.directory, halted.nodes.join(", "));
        let place = if halted.nodes.is_empty() { halted.directory.clone() } else { place };
        Trouble {
            key: format!("halted {place}"),
            // A token changes with every file.
            state: halted.guard.word().to_owned(),
            title: format!("{place} halted ({})", halted.guard.word()),
            text: lines.join("\n"),
        }
    }));
    for one in super::places::shared(&report.problems) {
        let (word, what) = (if one.problem.fails { "ERROR" } else { "warning" }, one.words());
        troubles.push(Trouble {
            key: format!("{word} {}", without_numbers(&what)),
            state: String::new(),
            // That somebody was warned of something is never over.
            title: if one.problem.fails { what.clone() } else { String::new() },
            text: format!("{word} {what}"),
        });
    }
    if report.interrupted {
        let text = "interrupted".to_owned();
        troubles.push(Trouble { key: text.clone(), state: String::new(), title: String::new(), text });
    }
    troubles
}

fn of_node(report: &Report, node: &NodeReport) -> Trouble {
    let (name, state) = (words::name(&node.name), words::state(node.state));
    Trouble {
        key: format!("node {}", node.name),
        state: format!("{state}, {}", report.node_exit_code(node)),
        title: format!("{name} {state}"),
        text: format!("{name}  {}", summary::node(report, node)),
    }
}

/// A text in which all numbers are the same: how much room is left is another number each time, and no news.
fn without_numbers(text: &str) -> String {
    let mut last_was_digit = false;
    let kept = text.chars().filter_map(|c| {
        let is_digit = c.is_ascii_digit();
        let kept = (!is_digit || !last_was_digit).then_some(if is_digit { '#' } else { c });
        last_was_digit = is_digit;
        kept
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::super::samples::{eventful, node, problem, report, started};
    use super::*;
    use crate::report::{NodeState, Stage};

    /// Runs at these minutes, each with the nodes that are lost; what each of them says.
    fn mails(runs: &[(u64, &[(&str, NodeState)])]) -> Vec<String> {
        let mut told = Told::default();
        let mut mails = Vec::new();
        for (minutes, lost) in runs {
            let nodes = lost.iter().map(|(name, state)| {
                let mut node = node(name);
                (node.state, node.directories) = (*state, Vec::new());
                node
            });
            let time = started() + Duration::from_secs(60 * minutes);
            let (text, after) = news(&troubles(&report(nodes.collect())), &told, time, "last line");
            // As it is kept from one run to the next.
            told =
                serde_json::from_slice(&serde_json::to_vec(&after).unwrap_or_default()).unwrap_or_default();
            mails.push(text);
        }
        mails
    }

    const AWAY: (&str, NodeState) = ("mds2", NodeState::Unreachable);

    #[test]
    fn a_problem_is_told_when_it_begins_once_a_day_and_when_it_is_over() {
        let day = 24 * 60;
        assert_eq!(
            mails(&[
                (0, &[]),
                (15, &[AWAY]),
                (30, &[AWAY]),
                (day, &[AWAY]),
                (day + 15, &[AWAY]),
                (2 * day, &[]),
                (2 * day + 15, &[])
            ]),
            [
                "",
                "mds2  unreachable\nlast line\n",
                "",
                "mds2  unreachable\nlast line\n",
                "",
                "over: mds2 unreachable (since 2026-01-02T03:19:05Z)\nlast line\n",
                "",
            ]
        );
    }

    #[test]
    fn what_changes_is_told_and_beside_it_how_much_stays() {
        assert_eq!(
            mails(&[
                (0, &[AWAY]),
                (15, &[("mds2", NodeState::Refused)]),
                (30, &[("mds2", NodeState::Refused), ("mds3", NodeState::Timeout)]),
            ]),
            [
                "mds2  unreachable\nlast line\n",
                "mds2  refused\nlast line\n",
                "mds3  timed out\nand as told before, 1 problem: xds-sync status\nlast line\n",
            ]
        );
    }

    #[test]
    fn where_there_is_no_run_nothing_else_is_over() {
        let mut away = node("mds2");
        (away.state, away.directories) = (NodeState::Unreachable, Vec::new());
        let lost = troubles(&report(vec![away]));
        let (_, told) = news(&lost, &Told::default(), started(), "last line");
        let why = ["config.toml:3: unknown key".to_owned()];
        let (text, told) = news_of_no_run(&why, &told, started());
        assert_eq!(text, "config.toml:3: unknown key\nnothing was done\n");
        assert_eq!(news_of_no_run(&why, &told, started()).0, "");
        let (text, _) = news(&lost, &told, started(), "last line");
        assert_eq!(
            text,
            "over: no run: config.toml:3: unknown key (since 2026-01-02T03:04:05Z)\nand as told before, 1 problem: xds-sync status\nlast line\n"
        );
    }

    #[test]
    fn a_clock_that_was_ahead_hides_nothing() {
        let (_, told) = news(&no_run(&["no".to_owned()]), &Told::default(), started() + 9 * AGAIN, "");
        assert_ne!(news(&no_run(&["no".to_owned()]), &told, started(), "").0, "");
    }

    #[test]
    fn all_that_is_wrong_with_a_run_is_in_its_first_mail() {
        let (text, told) = news(&troubles(&eventful()), &Told::default(), started(), "last line");
        insta::assert_snapshot!(text, @r#"
        mds2  1 held back, 1 failed, 1 in conflict, waiting for a decision, moh halted, dialplan reload failed, owed: Unable to connect to remote asterisk
        mds3  unreachable: ssh: connect to host 10.0.0.13 port 22: No route to host
        HALTED moh on mds2: 40 of 60 files would be deleted (max_delete); nothing was touched
               such as jazz/a.wav, jazz/b.wav; all of them: xds-sync sync -n -v --accept-deletes moh-4f2a
               if that is right: xds-sync sync --accept-deletes moh-4f2a
               if it is not, from the nodes, which still have it: xds-sync restore moh jazz
        ERROR commit mds2: recordings: monitor/\x092.wav: No space left on device
        warning discovery: row 3: the name "a\x07b" is dropped
        last line
        "#);
        assert_eq!(news(&troubles(&eventful()), &told, started(), "last line").0, "");
        insta::assert_snapshot!(news(&[], &told, started(), "last line").0, @r"
        over: commit mds2: recordings: monitor/\x5cx092.wav: No space left on device (since 2026-01-02T03:04:05Z)
        over: moh on mds2 halted (max_delete) (since 2026-01-02T03:04:05Z)
        over: mds2 partly in step (since 2026-01-02T03:04:05Z)
        over: mds3 unreachable (since 2026-01-02T03:04:05Z)
        last line
        ");
    }

    #[test]
    fn another_number_is_no_news() {
        let full = |free: u32| {
            let mut full = report(Vec::new());
            full.problems = vec![problem(Stage::Commit)];
            full.problems[0].detail = format!("9 MiB are needed and {free} MiB are free");
            troubles(&full)
        };
        let (_, told) = news(&full(100), &Told::default(), started(), "");
        assert_eq!(news(&full(99), &told, started(), "").0, "");
    }
}
