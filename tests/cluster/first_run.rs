//! The very first run is cut off, when no base exists yet: the next one knows what that run did from what people did
//! since.

use crate::support::{Cluster, Host, noise};

const SOUNDS: &str = "/var/lib/xivo/sounds";
const RECORDINGS: &str = "/var/lib/xivo/sounds/recordings";
const KILLED: i32 = 137;

/// A run in which the agent meets a fail point.
fn run_with_agent(main: &Host, fault: &str) {
    let config = format!("[ssh]\nagent = \"env XDS_FAULT={fault} xds-sync agent\"\n");
    main.write("/etc/xds-sync/conf.d/fault.toml", config);
    main.sync_json([""; 0]).exits(41);
    main.remove("/etc/xds-sync/conf.d/fault.toml");
}

fn no_leftovers(host: &Host) {
    for root in [SOUNDS, RECORDINGS] {
        assert_eq!(host.sh(format!("ls -A {root}/.xds-sync/stage")).text(), "", "{root} on {}", host.name);
    }
}

#[test]
fn a_recording_that_main_had_pulled_may_be_recorded_again() {
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    let greeting = format!("{RECORDINGS}/greeting.wav");
    mds1.write_settled(&greeting, "first");
    main.sh("XDS_FAULT=commit.told=kill xds-sync sync --quiet").exits(KILLED);
    assert_eq!(main.read_text(&greeting), "first", "Main was to have it by then");

    mds1.write_settled(&greeting, "second, and longer");
    let run = main.sync_json([""; 0]);
    run.exits(0);
    assert!(!run.changes().iter().any(|change| change.contains("conflict")), "{:?}", run.changes());
    for host in cluster.hosts() {
        assert_eq!(host.read_text(&greeting), "second, and longer", "{}", host.name);
    }
    assert_eq!(main.sync_json([""; 0]).exits(0).changes(), [""; 0]);
}

#[test]
fn what_was_pushed_may_change_on_main_and_is_no_drift() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    let (kept, changed) = (format!("{SOUNDS}/kept.wav"), format!("{SOUNDS}/changed.wav"));
    let gone = format!("{SOUNDS}/gone.wav");
    for file in [&kept, &changed, &gone] {
        main.write_settled(file, "first");
    }
    run_with_agent(main, "commit.told=kill");
    assert_eq!(mds1.read_text(&changed), "first", "the node was to have it by then");

    main.write_settled(&changed, "second, and longer");
    main.remove(&gone);
    let run = main.sync_json([""; 0]);
    run.exits(0);
    assert_eq!(run.changes(), ["sounds mds1 node update changed.wav", "sounds mds1 node delete gone.wav"]);
    main.tree(SOUNDS).assert_same(&mds1.tree(SOUNDS));
}

#[test]
fn parts_in_a_stage_go_even_where_nothing_else_is_to_be_done() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    let part = |host: &Host, root: &str| {
        host.sh(format!("find {root}/.xds-sync/stage -size +1000k")).text().lines().count()
    };
    // On the node, which was to get a file that Main then has no more.
    main.write_settled(format!("{SOUNDS}/pushed.wav"), noise(1, 2 << 20));
    run_with_agent(main, "stage.sync=kill");
    assert_eq!(part(mds1, SOUNDS), 1, "a part was to be left");
    main.remove(format!("{SOUNDS}/pushed.wav"));
    main.sync_json([""; 0]).exits(0);
    no_leftovers(mds1);

    // On Main, where a recording was to come from a node that then has it no more.
    mds1.write_settled(format!("{RECORDINGS}/pulled.wav"), noise(2, 2 << 20));
    main.sh("XDS_FAULT=stage.sync=kill xds-sync sync --quiet").exits(KILLED);
    assert_eq!(part(main, RECORDINGS), 1, "a part was to be left");
    mds1.remove(format!("{RECORDINGS}/pulled.wav"));
    main.sync_json([""; 0]).exits(0);
    no_leftovers(main);
}
