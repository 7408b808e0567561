//! The decisions as tables and laws, and watches on a real disk.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::gather::{Gather, Kind};
use super::inotify::{Seen, WatchLimits, Watches};
use super::own_writes::{Left, OwnWrites};
use super::queues::{Layout, NodeResult, Queues, RunPlan};
use super::{Coalesce, Dirt};
use crate::disk::{HeldRoot, Stamp};
use crate::model::{RelPath, RelPathBuf};
use crate::snapshot::Rules;

const SETTLE: Duration = Duration::from_secs(2);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn path(text: &str) -> RelPathBuf {
    RelPathBuf::new(text.as_bytes()).unwrap()
}

/// Plays events at their moments; when something was taken, by the moment, with nothing else under way.
fn taken(events: &[(u64, Kind, &str)]) -> Vec<u64> {
    let mut gather = Gather::default();
    let mut taken = Vec::new();
    for now in 0..10_000 {
        for (_, kind, name) in events.iter().filter(|(at, ..)| *at == now) {
            gather.add(ms(now), "d", &path(name), *kind, SETTLE);
        }
        if gather.next_due(|_| true).is_some_and(|due| due <= ms(now))
            && !gather.take(ms(now), |_| true).is_empty()
        {
            taken.push(now);
        }
    }
    taken
}

#[test]
fn a_single_change_goes_at_once_and_a_burst_is_gathered() {
    use Kind::{Complete, Created, Directory, Removed, Touched};
    for (what, events, expected) in [
        ("a file that was there is written", vec![(0, Complete, "a")], vec![0]),
        ("a new file is written", vec![(0, Created, "a"), (1, Complete, "a")], vec![26]),
        (
            "under another name, then renamed",
            vec![(0, Created, "t"), (1, Complete, "t"), (2, Removed, "t"), (2, Complete, "a")],
            vec![26],
        ),
        ("one is removed", vec![(0, Removed, "a")], vec![200]),
        (
            "an editor moves the old one away and writes a new one",
            vec![
                (0, Removed, "a"),
                (0, Complete, "a~"),
                (1, Created, "a"),
                (40, Complete, "a"),
                (41, Removed, "a~"),
            ],
            vec![241],
        ),
        ("never closed", vec![(0, Created, "a")], vec![2200]),
        ("its mode is changed while it is written", vec![(0, Created, "a"), (5, Touched, "a")], vec![2200]),
        ("its mode is changed", vec![(0, Touched, "a")], vec![0]),
        ("a directory comes", vec![(0, Directory, "a")], vec![200]),
        (
            "a second one soon after the first",
            vec![(0, Complete, "a"), (100, Complete, "b"), (150, Complete, "c")],
            vec![0, 350],
        ),
        ("a second one later", vec![(0, Complete, "a"), (300, Complete, "b")], vec![0, 300]),
    ] {
        assert_eq!(taken(&events), expected, "{what}");
    }
    let endless: Vec<_> = (0..60).map(|n| (n * 100, Complete, "a")).collect();
    assert_eq!(taken(&endless), [0, 2100, 4200, 6100], "no change waits longer than two seconds");
}

#[test]
fn while_a_run_is_under_way_changes_are_gathered() {
    let mut gather = Gather::default();
    gather.add(ms(0), "d", &path("a"), Kind::Complete, SETTLE);
    assert!(gather.take(ms(10), |_| false).is_empty());
    assert_eq!(gather.next_due(|_| false), Some(ms(200)));
    assert_eq!(gather.next_due(|_| true), Some(ms(0)));
    let taken = gather.take(ms(200), |_| false);
    assert_eq!(taken.len(), 1);
    assert!(taken[0].1.covers(&path("a")) && !taken[0].1.covers(&path("b")));
}

#[test]
fn files_that_were_closed_are_known_to_be_whole_until_their_age_says_so() {
    let mut gather = Gather::default();
    gather.add(ms(0), "d", &path("made"), Kind::Created, SETTLE);
    gather.add(ms(1), "d", &path("a"), Kind::Complete, SETTLE);
    gather.take(ms(500), |_| true);
    assert_eq!(gather.complete(ms(500), "d"), [path("a")]);
    assert!(gather.complete(ms(500), "other").is_empty());
    gather.add(ms(600), "d", &path("a"), Kind::Removed, SETTLE);
    assert!(gather.complete(ms(600), "d").is_empty());
    gather.add(ms(700), "d", &path("b"), Kind::Complete, SETTLE);
    assert!(gather.complete(ms(4000), "d").is_empty());
}

#[test]
fn many_paths_become_directories_and_then_all() {
    let mut dirt = Dirt::default();
    for n in 0..5000 {
        dirt.add(&path(&format!("a/b/{n}")));
    }
    assert!(dirt.len().is_some_and(|len| len <= 1000), "{:?}", dirt.len());
    assert!(dirt.covers(&path("a/b/1")) && dirt.covers(&path("a/b/9999")) && !dirt.covers(&path("c")));
    for n in 0..5000 {
        dirt.add(&path(&format!("{n}")));
    }
    assert_eq!(dirt.len(), None);
    assert!(dirt.covers(&path("z")) && !dirt.is_empty());
}

proptest! {
    /// Whatever is added is covered for ever, in bounded room.
    #[test]
    fn no_path_is_lost(names in proptest::collection::vec("[a-c]{1,2}(/[a-d]{1,2}){0,3}", 1..3000)) {
        let (mut dirt, mut half) = (Dirt::default(), Dirt::default());
        for (n, name) in names.iter().enumerate() {
            if n % 2 == 0 { dirt.add(&path(name)) } else { half.add(&path(name)) }
        }
        dirt.merge(&half);
        for name in &names {
            prop_assert!(dirt.covers(&path(name)));
        }
        prop_assert!(dirt.len().is_none_or(|len| len <= 1001));
    }

    /// Each change is taken, at the latest two seconds after it was known to be whole.
    #[test]
    fn no_change_waits_for_ever(events in proptest::collection::vec((0_u64..5000, 0_usize..5, "[a-d]"), 1..60)) {
        let kinds = [Kind::Complete, Kind::Created, Kind::Removed, Kind::Directory, Kind::Touched];
        let mut events = events;
        events.sort();
        let mut gather = Gather::default();
        let mut waits: BTreeMap<String, u64> = BTreeMap::new();
        let mut next = 0;
        for now in (0..20_000).step_by(10) {
            while let Some((at, kind, name)) = events.get(next).filter(|(at, ..)| *at <= now) {
                gather.add(ms(now), "d", &path(name), kinds[*kind], SETTLE);
                waits.entry(name.clone()).or_insert(*at);
                next += 1;
            }
            for (_, dirt) in gather.take(ms(now), |_| true) {
                waits.retain(|name, _| !dirt.covers(&path(name)));
            }
            for (name, since) in &waits {
                // Until it is settled, and then until the burst is over. Whoever makes it again starts anew.
                let last = events.iter().filter(|(at, _, other)| other == name && *at <= now).map(|(at, ..)| at);
                let last = last.max().copied().unwrap_or(*since);
                prop_assert!(now < last + 4500, "{name} waits since {since}");
            }
        }
        prop_assert!(waits.is_empty(), "{waits:?}");
        prop_assert!(gather.size() == 0);
    }
}

fn layout(nodes: usize) -> Layout {
    let directories = vec![("dialplan".to_owned(), false), ("recordings".to_owned(), true)];
    let all: BTreeSet<String> = directories.iter().map(|(name, _)| name.clone()).collect();
    let nodes = (1..=nodes).map(|n| (format!("mds{n}"), all.clone())).collect();
    Layout { directories, nodes }
}

/// Queues whose nodes are there, and to which nothing is due.
fn queues(nodes: usize) -> Queues {
    let mut queues = Queues::new(layout(nodes));
    for n in 1..=nodes {
        queues.up(ms(0), &format!("mds{n}"));
    }
    while let Some(run) = queues.next_run(ms(0), true) {
        end(&mut queues, ms(0), &run);
    }
    queues
}

fn end(queues: &mut Queues, now: Duration, run: &RunPlan) {
    run.nodes.iter().for_each(|node| release(queues, now, run, node));
    queues.finished(now, run.number, &lost(), 0.0);
}

/// A run is done with a node, and all is well there.
fn release(queues: &mut Queues, now: Duration, run: &RunPlan, node: &str) {
    queues.released(now, run.number, node, &NodeResult::default(), 0.0);
}

fn lost() -> NodeResult {
    NodeResult { lost: true, ..NodeResult::default() }
}

fn names(run: Option<&RunPlan>) -> (String, String) {
    run.map(|run| (run.nodes.join(" "), run.directories.join(" "))).unwrap_or_default()
}

fn text(nodes: &str, directories: &str) -> (String, String) {
    (nodes.to_owned(), directories.to_owned())
}

#[test]
fn a_slow_node_holds_up_no_other() {
    let mut queues = queues(3);
    queues.mark(ms(1), "dialplan", None, &Dirt::whole());
    let first = queues.next_run(ms(1), true).unwrap();
    assert_eq!(names(Some(&first)), text("mds1 mds2 mds3", "dialplan"));
    // Two are done with it, the first one is slow.
    release(&mut queues, ms(1), &first, "mds2");
    release(&mut queues, ms(1), &first, "mds3");
    queues.mark(ms(2), "dialplan", None, &Dirt::whole());
    let second = queues.next_run(ms(2), true).unwrap();
    assert_eq!(names(Some(&second)), text("mds2 mds3", "dialplan"));
    assert_eq!(queues.next_run(ms(2), true), None);
    end(&mut queues, ms(3), &second);
    end(&mut queues, ms(9), &first);
    let third = queues.next_run(ms(9), true).unwrap();
    assert_eq!(names(Some(&third)), text("mds1", "dialplan"));
}

#[test]
fn what_a_node_has_not_confirmed_stays_due_to_it() {
    let mut queues = queues(2);
    queues.mark(ms(1000), "dialplan", None, &Dirt::whole());
    let run = queues.next_run(ms(1000), true).unwrap();
    let failed = NodeResult { failed: ["dialplan".to_owned()].into(), ..NodeResult::default() };
    queues.down("mds2");
    queues.released(ms(1500), run.number, "mds1", &failed, 0.0);
    queues.finished(ms(1500), run.number, &lost(), 0.0);
    assert_eq!(queues.next_run(ms(1600), true), None, "not before a second has passed");
    assert_eq!(queues.next_due(ms(1600)), Some(ms(2500)));
    assert_eq!(queues.waiting(ms(3000), "mds2"), (None, Some(ms(2000))));
    assert_eq!(names(queues.next_run(ms(2500), true).as_ref()), text("mds1", "dialplan"));
    queues.up(ms(9000), "mds2");
    assert_eq!(names(queues.next_run(ms(9000), true).as_ref()), text("mds2", "dialplan"));
}

#[test]
fn a_node_that_is_back_before_its_loss_is_told_has_missed_everything() {
    let mut queues = queues(1);
    let asked = queues.ask(&[], &[], false);
    queues.down("mds1");
    queues.up(ms(10), "mds1");
    queues.released(ms(11), asked.number, "mds1", &lost(), 0.0);
    assert_eq!(names(queues.next_run(ms(11), true).as_ref()), text("mds1", "dialplan"));
    let mut queues = self::queues(1);
    let asked = queues.ask(&[], &[], false);
    queues.down("mds1");
    queues.released(ms(11), asked.number, "mds1", &lost(), 0.0);
    assert_eq!(queues.waiting(ms(12), "mds1"), (Some(0), None), "once it is back");
}

#[test]
fn two_way_directories_have_one_run_at_a_time() {
    let mut queues = queues(2);
    queues.mark(ms(1), "recordings", None, &Dirt::whole());
    queues.mark(ms(1), "dialplan", None, &Dirt::whole());
    let pushed = queues.next_run(ms(1), true).unwrap();
    assert_eq!(names(Some(&pushed)), text("mds1 mds2", "dialplan"));
    release(&mut queues, ms(1), &pushed, "mds1");
    let both = queues.next_run(ms(1), true).unwrap();
    assert_eq!(names(Some(&both)), text("mds1", "recordings"));
    end(&mut queues, ms(2), &pushed);
    assert_eq!(queues.next_run(ms(2), true), None, "the other run of it is not over");
    assert!(!queues.may_begin(&["recordings".to_owned()].into()));
    end(&mut queues, ms(3), &both);
    assert_eq!(names(queues.next_run(ms(3), true).as_ref()), text("mds2", "recordings"));
}

#[test]
fn files_that_are_held_are_looked_at_again_less_and_less_often() {
    let mut queues = queues(1);
    queues.mark(ms(0), "dialplan", None, &Dirt::whole());
    let mut now = ms(0);
    let mut pauses = Vec::new();
    for _ in 0..5 {
        let run = queues.next_run(now, true).unwrap();
        let held = NodeResult { held: [("dialplan".to_owned(), ms(2000))].into(), ..NodeResult::default() };
        queues.released(now, run.number, "mds1", &held, 0.0);
        end(&mut queues, now, &run);
        let next = queues.next_due(now).unwrap();
        pauses.push((next - now).as_secs());
        now = next;
    }
    assert_eq!(pauses, [2, 2, 4, 8, 16]);
}

#[test]
fn what_is_due_again_waits_for_no_other_node_of_the_run() {
    let mut queues = queues(4);
    queues.mark(ms(0), "dialplan", None, &Dirt::whole());
    let run = queues.next_run(ms(0), true).unwrap();
    let dialplan = || "dialplan".to_owned();
    let held = NodeResult { held: [(dialplan(), ms(2000))].into(), ..NodeResult::default() };
    let failed = NodeResult { failed: [dialplan()].into(), ..NodeResult::default() };
    queues.released(ms(100), run.number, "mds1", &held, 0.0);
    queues.released(ms(200), run.number, "mds2", &failed, 0.0);
    release(&mut queues, ms(300), &run, "mds3");
    // The fourth one is silent. It alone has waited since the change.
    assert_eq!(queues.next_due(ms(300)), Some(ms(1200)));
    assert_eq!(queues.waiting(ms(300), "mds3"), (Some(0), None));
    assert_eq!(queues.waiting(ms(300), "mds4"), (None, Some(ms(300))));
    let again = queues.next_run(ms(1200), true).unwrap();
    assert_eq!(names(Some(&again)), text("mds2", "dialplan"));
    end(&mut queues, ms(1300), &again);
    let again = queues.next_run(ms(2100), true).unwrap();
    assert_eq!(names(Some(&again)), text("mds1", "dialplan"));
    end(&mut queues, ms(2200), &again);
    // Told twice, it is what it was the first time.
    queues.released(ms(2300), run.number, "mds1", &failed, 0.0);
    assert_eq!(queues.next_run(ms(9000), true), None);

    queues.finished(ms(9000), run.number, &failed, 0.0);
    assert_eq!(names(queues.next_run(ms(10_000), true).as_ref()), text("mds4", "dialplan"));
}

/// A week with a change every now and then, a node that comes and goes, and runs that fail.
#[test]
fn a_week_of_events_leaves_nothing_behind() {
    let mut gather = Gather::default();
    let mut queues = queues(3);
    let mut reloads = Coalesce::default();
    let (mut random, mut most) = (1_u64, 0);
    let mut under_way: Vec<(u64, RunPlan)> = Vec::new();
    for second in (0..7 * 24 * 3600_u64).step_by(15) {
        let now = Duration::from_secs(second);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let dice = random >> 33;
        let kind = [Kind::Complete, Kind::Created, Kind::Removed, Kind::Directory][(dice % 4) as usize];
        let directory = if dice % 3 == 0 { "recordings" } else { "dialplan" };
        gather.add(now, directory, &path(&format!("{}/{}", dice % 7, dice % 100_000)), kind, SETTLE);
        match dice % 1000 {
            0 => queues.down("mds3"),
            1 => queues.up(now, "mds3"),
            2 => gather.add_whole(now, "dialplan"),
            _ => {}
        }
        for (directory, dirt) in gather.take(now, |directory| queues.is_idle(directory)) {
            queues.mark(now, &directory, None, &dirt);
        }
        while let Some(run) = queues.next_run(now, true) {
            under_way.push((second + dice % 5, run));
        }
        let (over, left): (Vec<_>, Vec<_>) = under_way.into_iter().partition(|(ends, _)| *ends <= second);
        under_way = left;
        for (_, run) in over {
            let mut result = |node: &String| {
                let failed = dice % 50 == 0;
                let failed = if failed { run.directories.iter().cloned().collect() } else { BTreeSet::new() };
                reloads.may_reload(now, node, "dialplan", false);
                NodeResult { lost: dice % 77 == 0, failed, ..NodeResult::default() }
            };
            for node in run.nodes.iter().skip((dice % 3) as usize) {
                queues.released(now, run.number, node, &result(node), 0.5);
            }
            queues.finished(now, run.number, &lost(), 0.5);
        }
        reloads.due(now);
        most = most.max(gather.size() + queues.size() + under_way.len());
    }
    assert!(most < 8000, "{most}");
    queues.up(ms(0), "mds3");
    let end_of_week = Duration::from_secs(8 * 24 * 3600);
    for (_, run) in under_way {
        end(&mut queues, end_of_week, &run);
    }
    while let Some(run) = queues.next_run(end_of_week, true) {
        end(&mut queues, end_of_week, &run);
    }
    gather.take(end_of_week, |_| true);
    assert_eq!(gather.size() + queues.size(), 0);
}

// --- on a real disk -----------------------------------------------------------------------------------------

struct Disk {
    dir: tempfile::TempDir,
    watches: Watches,
    own: Arc<OwnWrites>,
}

fn disk(limits: WatchLimits, exclude: &[&str]) -> (Disk, Result<(), String>) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a/b", "skip/deep", ".xds-sync/stage"] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    let own = Arc::new(OwnWrites::default());
    let mut watches = Watches::new(limits, Arc::clone(&own)).unwrap();
    let exclude: Vec<String> = exclude.iter().map(|&glob| glob.to_owned()).collect();
    let rules = Rules::new(&exclude, Vec::new()).unwrap();
    let added = watches.add("d", HeldRoot::open(dir.path()).unwrap(), rules);
    (Disk { dir, watches, own }, added)
}

impl Disk {
    fn root(&self) -> &Path {
        self.dir.path()
    }

    /// What has happened, as `Kind path`.
    fn seen(&mut self) -> Vec<String> {
        let seen = self.watches.read().unwrap();
        let text = |seen: Seen| match seen {
            Seen::Path { path, kind, .. } => format!("{kind:?} {}", path.for_people()),
            Seen::Whole { .. } => "Whole".to_owned(),
            Seen::Gone { .. } => "Gone".to_owned(),
        };
        seen.into_iter().map(text).collect()
    }
}

#[test]
fn what_happens_to_files_is_seen() {
    let (mut disk, added) = disk(WatchLimits::default(), &[]);
    added.unwrap();
    let root = disk.root().to_owned();
    fs::write(root.join("a/b/new"), "x").unwrap();
    assert_eq!(disk.seen(), ["Created a/b/new", "Complete a/b/new"]);
    fs::write(root.join("a/b/new"), "y").unwrap();
    // Opened for writing and cut, then closed: what is between is not asked for.
    assert_eq!(disk.seen(), ["Complete a/b/new"]);
    fs::rename(root.join("a/b/new"), root.join("top")).unwrap();
    assert_eq!(disk.seen(), ["Removed a/b/new", "Complete top"]);
    fs::set_permissions(root.join("top"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(disk.seen(), ["Touched top"]);
    symlink("top", root.join("link")).unwrap();
    fs::hard_link(root.join("top"), root.join("other")).unwrap();
    assert_eq!(disk.seen(), ["Complete link", "Complete other"]);
    fs::remove_file(root.join("other")).unwrap();
    assert_eq!(disk.seen(), ["Removed other"]);
    assert_eq!(disk.seen(), [""; 0], "each is told once");
}

#[test]
fn directories_are_watched_as_they_come_and_go() {
    let (mut disk, added) = disk(WatchLimits::default(), &[]);
    added.unwrap();
    let (root, before) = (disk.root().to_owned(), disk.watches.len());
    fs::create_dir_all(root.join("n/m")).unwrap();
    assert!(disk.seen().contains(&"Directory n".to_owned()));
    disk.seen();
    fs::write(root.join("n/m/f"), "x").unwrap();
    assert_eq!(disk.seen().last().unwrap(), "Complete n/m/f");
    fs::rename(root.join("n"), root.join("a/n")).unwrap();
    assert_eq!(disk.seen(), ["Removed n", "Directory a/n"]);
    fs::write(root.join("a/n/m/f"), "y").unwrap();
    assert_eq!(disk.seen(), ["Complete a/n/m/f"]);
    let outside = tempfile::tempdir_in(root.parent().unwrap()).unwrap();
    fs::rename(root.join("a/n"), outside.path().join("n")).unwrap();
    assert_eq!(disk.seen(), ["Removed a/n"]);
    fs::write(outside.path().join("n/m/f"), "z").unwrap();
    assert_eq!(disk.seen(), [""; 0], "what has left is nobody's business");
    assert_eq!(disk.watches.len(), before);
}

#[test]
fn what_is_excluded_is_not_watched() {
    let (mut disk, added) = disk(WatchLimits::default(), &["skip/", "*.bak"]);
    added.unwrap();
    let root = disk.root().to_owned();
    assert_eq!(disk.watches.len(), 3, "the root, a and a/b");
    for name in ["skip/deep/f", ".xds-sync/stage/f", "x.bak", "xds_override.conf"] {
        fs::write(root.join(name), "x").unwrap();
    }
    assert_eq!(disk.seen(), [""; 0]);
}

#[test]
fn a_root_that_cannot_be_watched_as_a_whole_says_what_to_do() {
    let limits = WatchLimits { watches: 2, ..WatchLimits::default() };
    let (mut disk, added) = disk(limits, &[]);
    let why = added.unwrap_err();
    assert!(why.contains("fs.inotify.max_user_watches"), "{why}");
    assert!(!disk.watches.is_whole("d"));
    fs::write(disk.root().join("f"), "x").unwrap();
    assert_eq!(disk.seen(), ["Created f", "Complete f"], "what is watched is seen at once all the same");
}

#[test]
fn after_an_overflow_all_is_looked_at_and_new_directories_are_watched() {
    let (mut disk, added) = disk(WatchLimits { events: 3, ..WatchLimits::default() }, &[]);
    added.unwrap();
    let root = disk.root().to_owned();
    fs::create_dir_all(root.join("n/m")).unwrap();
    for n in 0..5 {
        fs::write(root.join(format!("{n}")), "x").unwrap();
    }
    assert_eq!(disk.seen(), ["Whole"]);
    fs::write(root.join("n/m/f"), "x").unwrap();
    assert_eq!(disk.seen(), ["Created n/m/f", "Complete n/m/f"]);
}

#[test]
fn a_root_that_goes_is_told() {
    let (mut disk, added) = disk(WatchLimits::default(), &[]);
    added.unwrap();
    let root = disk.root().to_owned();
    let moved = root.with_extension("moved");
    fs::rename(&root, &moved).unwrap();
    assert_eq!(disk.seen(), ["Gone"]);
    fs::rename(&moved, &root).unwrap();
    assert!(RelPath::new(b"x").is_ok());
}

#[test]
fn what_a_commit_of_our_own_left_is_no_news_until_somebody_changes_it() {
    let (mut disk, added) = disk(WatchLimits::default(), &[]);
    added.unwrap();
    let (root, own) = (disk.root().to_owned(), Arc::clone(&disk.own));
    let stage = root.join(".xds-sync/stage/blob");
    fs::write(root.join("old"), "x").unwrap();
    disk.seen();

    let commit = own.begin("d");
    fs::write(&stage, "y").unwrap();
    fs::rename(&stage, root.join("new")).unwrap();
    fs::rename(root.join("old"), root.join(".xds-sync/old")).unwrap();
    assert_eq!(disk.seen(), [""; 0], "until it is over nobody can say whose that is");
    assert!(disk.watches.again_after().is_some());
    fs::write(root.join("other"), "z").unwrap();
    let stamp = Stamp::of(&rustix::fs::lstat(root.join("new")).unwrap());
    commit.leave([(path("new"), Left::There(stamp)), (path("old"), Left::Gone)]);
    drop(commit);
    assert_eq!(disk.seen(), ["Own new", "Own old", "Created other", "Complete other"]);
    assert_eq!(disk.watches.again_after(), None);

    // Somebody gives it another mode.
    fs::set_permissions(root.join("new"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(disk.seen(), ["Touched new"]);
    fs::write(root.join("old"), "x").unwrap();
    fs::remove_file(root.join("old")).unwrap();
    assert_eq!(disk.seen().last().unwrap(), "Removed old");

    // Watches that end tell what they could not yet.
    let commit = own.begin("d");
    fs::write(root.join("late"), "x").unwrap();
    assert_eq!(disk.seen(), [""; 0]);
    drop(commit);
    assert_eq!(disk.watches.rest().len(), 2, "made and closed");
}

#[test]
fn an_own_file_is_whole_and_no_dirt() {
    let mut gather = Gather::default();
    gather.add(ms(0), "d", &path("a"), Kind::Own, SETTLE);
    assert!(!gather.has("d"));
    assert_eq!(gather.next_due(|_| true), None);
    assert_eq!(gather.complete(ms(500), "d"), [path("a")]);
    gather.add(ms(600), "d", &path("a"), Kind::Created, SETTLE);
    assert!(gather.complete(ms(600), "d").is_empty(), "somebody writes it again");
}
