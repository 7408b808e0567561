//! What a run has told of itself so far, as rows of text that fit a terminal.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::escape::escape_for_people;
use crate::report::words;
use crate::sync::Phase;

/// Columns that stay free: what the terminal itself shows at the cursor, such as `^C`, must not begin a new line.
pub(super) const MARGIN: usize = 4;
/// The rate is that of the last few seconds.
const WINDOW: Duration = Duration::from_secs(5);
/// A host that does the same for so long is told with the time.
const LONG: Duration = Duration::from_secs(2);
/// A bar narrower than this says nothing, and a wider one no more.
const BAR: std::ops::RangeInclusive<usize> = 8..=30;

/// What was told of each host, in the order in which they came.
#[derive(Default)]
pub(super) struct Board {
    hosts: Vec<Host>,
    rate: Rate,
}

struct Host {
    name: String,
    phase: Phase,
    /// Since when.
    since: Duration,
    planned: u64,
    moved: u64,
    rate: Rate,
    /// Main, which is no node.
    is_main: bool,
}

/// How fast bytes move.
#[derive(Default)]
struct Rate(VecDeque<(Duration, u64)>);

impl Rate {
    fn add(&mut self, now: Duration, bytes: u64) {
        match self.0.back_mut() {
            // One entry for each tenth of a second is enough.
            Some((last, sum)) if now.saturating_sub(*last) < Duration::from_millis(100) => *sum += bytes,
            _ => self.0.push_back((now, bytes)),
        }
        while self.0.front().is_some_and(|(then, _)| now.saturating_sub(*then) > WINDOW) {
            self.0.pop_front();
        }
    }

    /// Bytes in a second; `None` as long as that cannot be said.
    fn per_second(&self, now: Duration) -> Option<u64> {
        let recent = self.0.iter().filter(|(then, _)| now.saturating_sub(*then) <= WINDOW);
        let bytes: u64 = recent.clone().map(|(_, bytes)| bytes).sum();
        let (first, _) = recent.clone().next()?;
        let passed = now.saturating_sub(*first).max(Duration::from_millis(500));
        (bytes > 0).then(|| (bytes as f64 / passed.as_secs_f64()) as u64)
    }
}

impl Board {
    fn host(&mut self, name: &str, now: Duration) -> &mut Host {
        let known = self.hosts.iter().position(|host| host.name == name);
        let at = known.unwrap_or_else(|| {
            self.hosts.push(Host {
                name: name.to_owned(),
                phase: Phase::Connecting,
                since: now,
                planned: 0,
                moved: 0,
                rate: Rate::default(),
                is_main: false,
            });
            self.hosts.len() - 1
        });
        &mut self.hosts[at]
    }

    pub(super) fn at(&mut self, name: &str, phase: Phase, now: Duration) {
        let is_new = self.hosts.iter().all(|host| host.name != name);
        let host = self.host(name, now);
        // Nobody connects to Main.
        host.is_main |= is_new && phase == Phase::Scanning;
        if host.phase != phase {
            (host.phase, host.since) = (phase, now);
        }
    }

    pub(super) fn planned(&mut self, name: &str, bytes: u64) {
        self.host(name, Duration::ZERO).planned += bytes;
    }

    pub(super) fn moved(&mut self, name: &str, bytes: u64, now: Duration) {
        let host = self.host(name, now);
        host.moved += bytes;
        host.rate.add(now, bytes);
        self.rate.add(now, bytes);
    }

    /// The rows: each host that is not done, as far as there is room, and the whole run.
    pub(super) fn rows(&self, now: Duration, width: usize, height: usize, stopped: bool) -> Vec<String> {
        let width = width.saturating_sub(MARGIN).max(1);
        let most = (height / 2).max(2) - 1;
        let busy: Vec<&Host> = self.hosts.iter().filter(|host| host.phase != Phase::Done).collect();
        let name =
            busy.iter().take(most).map(|host| host.shown().chars().count()).max().unwrap_or(0).min(width / 3);
        let mut rows: Vec<String> = busy.iter().take(most).map(|host| host.row(now, name, width)).collect();
        rows.push(self.total(now, width, busy.len().saturating_sub(most), stopped));
        rows.iter_mut().for_each(|row| *row = row.chars().take(width).collect());
        rows
    }

    fn total(&self, now: Duration, width: usize, more: usize, stopped: bool) -> String {
        let nodes: Vec<&Host> = self.hosts.iter().filter(|host| !host.is_main).collect();
        let done = nodes.iter().filter(|host| host.phase == Phase::Done).count();
        if stopped {
            return "ending at the next safe place; again: at once".to_owned();
        }
        if nodes.is_empty() {
            return format!("looking for nodes, {}", words::seconds(now));
        }
        let mut parts = Vec::new();
        if more > 0 {
            parts.push(format!("{more} more"));
        }
        parts.push(format!("{done} of {} done", words::count(nodes.len() as u64, "node", "nodes")));
        let (planned, moved): (u64, u64) =
            nodes.iter().fold((0, 0), |(planned, moved), host| (planned + host.planned, moved + host.moved));
        if planned > 0 {
            parts.push(format!("{} of {}", words::bytes(moved), words::bytes(planned)));
        }
        match left(planned, moved, self.rate.per_second(now)) {
            Some(left) => parts.push(format!("{left} left")),
            None => parts.push(words::seconds(now)),
        }
        let all = parts.join(", ");
        // What is least worth goes first.
        if all.chars().count() > width && parts.len() > 2 {
            parts.remove(parts.len() - 2);
            parts.join(", ")
        } else {
            all
        }
    }
}

/// How long the rest takes, at this rate.
fn left(planned: u64, moved: u64, rate: Option<u64>) -> Option<String> {
    let rest = planned.saturating_sub(moved);
    let rate = rate.filter(|rate| *rate > 0 && rest > 0)?;
    Some(words::seconds(Duration::from_secs(rest.div_ceil(rate))))
}

impl Host {
    fn shown(&self) -> String {
        escape_for_people(self.name.as_bytes())
    }

    fn row(&self, now: Duration, name: usize, width: usize) -> String {
        let label = format!("{:<name$}  ", self.shown().chars().take(name).collect::<String>());
        let is_moving = self.phase == Phase::Working && self.moved < self.planned;
        let room = width.saturating_sub(label.chars().count());
        let text = if is_moving { self.transfer(now, room) } else { self.doing(now) };
        let free = width.saturating_sub(label.chars().count() + text.chars().count() + 2);
        match is_moving && free >= *BAR.start() {
            true => format!("{label}{text}  {}", self.bar(free.min(*BAR.end()))),
            false => format!("{label}{text}"),
        }
    }

    /// How far it is, how fast and how long it takes; the speed only where there is room.
    fn transfer(&self, now: Duration, room: usize) -> String {
        let rate = self.rate.per_second(now);
        let far = format!("{} of {}", words::bytes(self.moved), words::bytes(self.planned));
        let fast = rate.map(|rate| format!(", {}/s", words::bytes(rate))).unwrap_or_default();
        let left = left(self.planned, self.moved, rate).map(|left| format!(", {left}")).unwrap_or_default();
        let is_room = far.len() + fast.len() + left.len() <= room;
        if is_room { far + &fast + &left } else { far + &left }
    }

    fn doing(&self, now: Duration) -> String {
        let what = match self.phase {
            Phase::Connecting => "connecting",
            Phase::Scanning => "scanning",
            Phase::Working => "comparing, putting in place",
            Phase::Waiting => "waiting for the other nodes",
            Phase::Reloading => "reloading",
            Phase::Done => "done",
        };
        let passed = now.saturating_sub(self.since);
        if passed < LONG { what.to_owned() } else { format!("{what}, {}", words::seconds(passed)) }
    }

    fn bar(&self, width: usize) -> String {
        let full =
            (width as u64 * self.moved.min(self.planned)).checked_div(self.planned).unwrap_or(0) as usize;
        "#".repeat(full) + &"-".repeat(width - full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Main is scanned, mds1 gets something, mds2 does not answer, mds3 is done.
    fn board() -> Board {
        let mut board = Board::default();
        board.at("main", Phase::Scanning, at(0));
        for node in ["mds1", "mds2", "mds3"] {
            board.at(node, Phase::Connecting, at(0));
        }
        board.at("mds1", Phase::Working, at(1));
        board.planned("mds1", 200 * MIB);
        board.planned("mds3", 100 * MIB);
        board.moved("mds3", 100 * MIB, at(1));
        board.at("mds3", Phase::Done, at(4));
        for second in 4..=8 {
            board.moved("mds1", 10 * MIB, at(second));
        }
        board
    }

    #[test]
    fn it_is_told_whom_a_run_waits_for_and_how_long_it_takes() {
        let text = |width| board().rows(at(9), width, 24, false).join("\n");
        insta::assert_snapshot!(text(80), @"
        main  scanning, 9s
        mds1  50.0 MiB of 200.0 MiB, 10.0 MiB/s, 15s  #######-----------------------
        mds2  connecting, 9s
        1 of 3 nodes done, 150.0 MiB of 300.0 MiB, 15s left
        ");
        insta::assert_snapshot!(text(40), @"
        main  scanning, 9s
        mds1  50.0 MiB of 200.0 MiB, 15s
        mds2  connecting, 9s
        1 of 3 nodes done, 15s left
        ");
    }

    #[test]
    fn there_is_a_sign_of_life_before_anything_is_known() {
        assert_eq!(Board::default().rows(at(1), 80, 24, false), ["looking for nodes, 1s"]);
        assert_eq!(
            board().rows(at(9), 80, 24, true).last().map(String::as_str),
            Some("ending at the next safe place; again: at once")
        );
    }

    #[test]
    fn rows_fit_whatever_there_is() {
        let mut board = Board::default();
        for node in 0..100 {
            let name = format!("a-node-with-quite-a-long-name-{node}");
            board.at(&name, Phase::Working, at(0));
            board.planned(&name, u64::MAX / 200);
            board.moved(&name, node * MIB, at(1));
        }
        for (width, height) in [(80, 24), (40, 10), (10, 3), (1, 1), (0, 0)] {
            let rows = board.rows(at(2), width, height, false);
            assert!(
                rows.iter().all(|row| row.chars().count() <= width.saturating_sub(MARGIN).max(1)),
                "{rows:?}"
            );
            assert!(rows.len() <= (height / 2).max(2), "{rows:?}");
        }
        let rows = board.rows(at(2), 80, 24, false);
        assert!(rows[11].starts_with("89 more, 0 of 100 nodes done, "), "{rows:?}");
    }
}
