//! Main, the agent or the connection ends at every step of a run, one after the other.
//!
//! The list of steps is the product's own: a new one that this story never meets fails it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use xds_sync::fault::Point;

use crate::support::{Cluster, Entry, Host};

const DIALPLAN: &str = "/etc/asterisk/extensions_extra.d";
const SOUNDS: &str = "/var/lib/xivo/sounds";
const RECORDINGS: &str = "/var/lib/xivo/sounds/recordings";
/// Pushed directories, then the one that goes both ways.
const ROOTS: [&str; 3] = [DIALPLAN, SOUNDS, RECORDINGS];
/// The id of a run that never was.
const OLD_RUN: &str = "01000000000000000000000000";

/// Which process ends, or loses the other one.
#[derive(Clone, Copy, PartialEq)]
enum Ends {
    Main,
    Agent,
    Connection,
}

struct Story {
    cluster: Cluster,
    ends: Ends,
    generation: usize,
}

/// What stands in the three directories of a host, but for what is ours.
type Visible = BTreeMap<String, String>;

fn visible(host: &Host) -> Visible {
    let mut all = Visible::new();
    for root in [DIALPLAN, SOUNDS] {
        let ours = |path: &[u8]| {
            path.split(|byte| *byte == b'/')
                .any(|name| name == b".xds-sync" || name.starts_with(b"xds_override"))
        };
        for (path, entry) in host.tree(root).without(ours).0 {
            all.insert(format!("{root}/{}", String::from_utf8_lossy(&path)), what(&entry));
        }
    }
    all
}

fn what(entry: &Entry) -> String {
    format!("{:?} {}", entry.kind, entry.content)
}

impl Story {
    fn begin(ends: Ends) -> Story {
        let directories = "\
            [[directory]]\nname = \"dialplan\"\npath = \"/etc/asterisk/extensions_extra.d\"\nreload = [\"dialplan\"]\n\
            [[directory]]\nname = \"sounds\"\npath = \"/var/lib/xivo/sounds\"\n\
            [[directory]]\nname = \"recordings\"\npath = \"/var/lib/xivo/sounds/recordings\"\ndirection = \"both\"\n";
        let cluster = Cluster::new().nodes(1).more_config(directories).build();
        let mut story = Story { cluster, ends, generation: 0 };
        story.edit();
        story.cluster.main.sync_json([""; 0]).exits(0);
        story
    }

    /// One change of every kind, in both directions, on top of the generation before.
    fn edit(&mut self) {
        self.generation += 1;
        let (g, before) = (self.generation, self.generation - 1);
        let Cluster { main, nodes, .. } = &self.cluster;
        let mds1 = &nodes[0];
        main.write_settled(
            format!("{DIALPLAN}/10-doors.conf"),
            format!("[doors]\nexten => {g},1,Hangup()\n"),
        );
        for (host, root, tag) in
            [(main, SOUNDS, "pushed"), (mds1, RECORDINGS, "recorded"), (main, RECORDINGS, "from main")]
        {
            let at = |name: &str| format!("{root}/{}-{name}", tag.replace(' ', "-"));
            host.write_settled(at("changed.wav"), format!("{tag} changed {g}"));
            host.write_settled(at(&format!("new-{g}.wav")), format!("{tag} new {g}"));
            host.write_settled(at(&format!("once-{g}.wav")), format!("{tag} twice {g}"));
            host.write_settled(at(&format!("again-{g}.wav")), format!("{tag} twice {g}"));
            host.write_settled(at(&format!("dir-{g}/inside.wav")), format!("{tag} inside {g}"));
            host.symlink(format!("new-{g}.wav"), at(&format!("link-{g}")));
            if before == 0 {
                host.write_settled(at("moves-1.wav"), format!("{tag} moves"));
                host.write_settled(at("mode.wav"), format!("{tag} mode"));
                continue;
            }
            host.rename(at(&format!("moves-{before}.wav")), at(&format!("moves-{g}.wav")));
            host.chmod(at("mode.wav"), if g % 2 == 0 { 0o600 } else { 0o644 });
            for gone in [format!("new-{before}.wav"), format!("link-{before}"), format!("dir-{before}")] {
                host.remove(at(&gone));
            }
        }
        // Something to sweep and something to prune, on both ends, where ages have been counted up to now.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        for host in self.cluster.hosts().filter(|_| before > 0) {
            for root in ROOTS {
                host.write(format!("{root}/.xds-sync/trash/{OLD_RUN}/0/old.wav"), "old");
                host.write(format!("{root}/.xds-sync/trash/clock"), format!("{now}\n"));
                host.write(format!("{root}/.xds-sync/stage/making.7"), "left over");
            }
        }
        // It does not know its Main any more.
        let _ = mds1.sh("rm -f /var/lib/xds-sync/main.json");
    }

    /// Lets the process end at a point in the next run; whether it came there.
    fn ends_at(&self, point: Point) -> bool {
        let Cluster { main, nodes, .. } = &self.cluster;
        // Filesystems that cannot exchange are another way through.
        let otherwise = match point {
            Point::TrashLink | Point::RenameOver => "exchange=22,",
            _ => "",
        };
        let fault = |what: &str| format!("env XDS_FAULT={otherwise}{point}={what} xds-sync");
        match self.ends {
            Ends::Main => {
                let run = main.sh(format!("{} sync --quiet", fault("kill")));
                // What a signal ended, as bash reports it: 128 and its number.
                run.code == 137
            }
            Ends::Agent | Ends::Connection => {
                let what = if self.ends == Ends::Agent { "kill" } else { "hang-up" };
                main.write(
                    "/etc/xds-sync/conf.d/fault.toml",
                    format!("[ssh]\nagent = \"{} agent\"\n", fault(what)),
                );
                let run = main.sync_json([""; 0]);
                main.remove("/etc/xds-sync/conf.d/fault.toml");
                crate::support::eventually("the agent is gone", std::time::Duration::from_secs(30), || {
                    !nodes[0].sh("pgrep -f '[x]ds-sync agent'").success()
                });
                run.node("mds1")["state"] == "unreachable"
            }
        }
    }

    /// After an end at a point: nothing is torn or lost, and the next run goes on as if nothing had happened.
    fn check(&self, point: Point, before: &[Visible; 2]) {
        let Cluster { main, nodes, .. } = &self.cluster;
        let mds1 = &nodes[0];
        let now = [visible(main), visible(mds1)];
        for (at, host) in [main, mds1].into_iter().enumerate() {
            let other = &before[1 - at];
            for path in before[at].keys().chain(now[at].keys()) {
                let (old, new, is) = (before[at].get(path), other.get(path), now[at].get(path));
                assert!(
                    is == old || is == new,
                    "{point}: {path} on {} is {is:?}, not {old:?} or {new:?}",
                    host.name
                );
            }
            let mut left: BTreeSet<String> = now[at].values().cloned().collect();
            for root in ROOTS {
                left.extend(host.tree(format!("{root}/.xds-sync/trash")).0.values().map(what));
            }
            let lost = before[at].iter().find(|(_, was)| !left.contains(*was) && !was.starts_with("Dir"));
            assert_eq!(lost, None, "{point}: in neither tree nor trash of {}", host.name);
        }

        let run = main.sync_json([""; 0]);
        assert_eq!(run.code, 0, "{point}: {}", run.json);
        let changes = run.changes();
        assert!(
            !changes.iter().any(|change| change.contains("conflict") || change.contains("drift")),
            "{point}: {changes:?}"
        );
        assert_eq!(visible(main), visible(mds1), "{point}");
        assert!(!main.exists(format!("{SOUNDS}/pushed-new-{}.wav", self.generation - 1)), "{point}");
        for tag in ["recorded", "from-main"] {
            let gone = format!("{RECORDINGS}/{tag}-new-{}.wav", self.generation - 1);
            assert!(!main.exists(&gone), "{point}: {gone} stands again");
        }
        let shown = mds1.asterisk("dialplan show doors");
        assert!(shown.contains(&format!("'{}'", self.generation)), "{point}: {shown}");
    }
}

/// Ends the process at every point; returns those that it came to.
fn points_met(ends: Ends) -> BTreeSet<Point> {
    let mut story = Story::begin(ends);
    let mut met = BTreeSet::new();
    for point in Point::ALL {
        story.edit();
        let before = [visible(&story.cluster.main), visible(&story.cluster.nodes[0])];
        if story.ends_at(*point) {
            met.insert(*point);
        }
        story.check(*point, &before);
    }
    let run = story.cluster.main.sync_json([""; 0]);
    assert_eq!(run.exits(0).changes(), [""; 0]);
    met
}

/// What only Main does.
const OF_MAIN: [Point; 11] = [
    Point::StateWrite,
    Point::StateSync,
    Point::StateRename,
    Point::StateDirSync,
    Point::Intent,
    Point::Agree,
    Point::Agreed,
    Point::Promote,
    Point::Reload,
    Point::Reloaded,
    Point::Ledger,
];
/// What only an agent does.
const OF_AGENT: [Point; 2] = [Point::BindWrite, Point::BindRename];
/// What Main does once, in its first run.
const OF_FIRST_RUN: [Point; 4] =
    [Point::MarkerWrite, Point::MarkerSync, Point::MarkerRename, Point::MarkerDirSync];

fn all_but(left_out: &[Point]) -> BTreeSet<Point> {
    Point::ALL.iter().filter(|point| !left_out.contains(point)).copied().collect()
}

#[test]
fn main_is_killed_at_every_step() {
    assert_eq!(points_met(Ends::Main), all_but(&[&OF_AGENT[..], &OF_FIRST_RUN].concat()));
}

#[test]
fn main_is_killed_at_every_step_of_its_first_run() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    main.write_settled(format!("{SOUNDS}/main.wav"), "main's");
    mds1.write_settled(format!("{RECORDINGS}/node.wav"), "the node's");
    for point in OF_FIRST_RUN {
        let run = main.sh(format!("XDS_FAULT={point}=kill xds-sync sync --quiet"));
        assert_eq!(run.code, 137, "{point}: {}", run.err());
    }
    main.sync_json([""; 0]).exits(0);
    assert_eq!(visible(main), visible(mds1));
    assert_eq!(main.read_text(format!("{RECORDINGS}/node.wav")), "the node's");
    assert_eq!(main.sync_json([""; 0]).exits(0).changes(), [""; 0]);
}

#[test]
fn the_agent_is_killed_at_every_step() {
    assert_eq!(points_met(Ends::Agent), all_but(&OF_MAIN));
}

#[test]
fn the_connection_ends_at_every_step() {
    assert_eq!(points_met(Ends::Connection), all_but(&OF_MAIN));
}
