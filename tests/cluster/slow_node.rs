//! One slow node delays nobody. What shows it is an order of events: the others are done while the slow one is still
//! at work. Its line is made fast again once that has been seen.

use crate::support::{Cluster, LIMIT, Running, eventually, noise};

const DOORS: &str = "/etc/asterisk/extensions_extra.d/10-doors.conf";
const SOUNDS: &str = "/var/lib/xivo/sounds";
const RECORDINGS: &str = "/var/lib/xivo/sounds/recordings";
/// At 1 Mbit/s this takes longer than everything else together on a machine that is busy elsewhere.
const LARGE: usize = 6_000_000;

/// Three nodes that are in step; then the line of mds1 has 1 Mbit/s, Main has a changed dialplan file and mds2 has a
/// new recording.
fn cluster() -> Cluster {
    let held = "[ssh]\nagent = \"while [ -e /run/hold ]; do sleep 0.02; done; xds-sync agent\"\n";
    let cluster = Cluster::new().nodes(3).more_config(held).build();
    cluster.main.write_settled(DOORS, "[doors]\nexten => 7,1,Hangup()\n");
    cluster.main.sync_json([""; 0]).exits(0);
    cluster.slow_down("mds1", "1mbit");
    cluster.main.write_settled(DOORS, "[doors]\nexten => 8,1,Hangup()\n");
    cluster["mds2"].write_settled(format!("{RECORDINGS}/short.wav"), "of mds2");
    cluster
}

/// Starts a run in which mds1 answers first, so that no other node is done only because mds1 was late.
fn start(cluster: &Cluster) -> Running {
    let others = [&cluster["mds2"], &cluster["mds3"]];
    others.iter().for_each(|node| node.write("/run/hold", ""));
    let run = cluster.main.spawn_xds_sync(["sync", "--quiet"]);
    eventually("the agent of mds1 runs", LIMIT, || cluster["mds1"].sh("pgrep -x xds-sync").success());
    others.iter().for_each(|node| node.remove("/run/hold"));
    run
}

/// Waits until something has happened, which must be before the run is over.
fn during(run: &mut Running, what: &str, mut has_happened: impl FnMut() -> bool) {
    eventually(what, LIMIT, || has_happened() || !run.is_running());
    assert!(run.is_running(), "{what}: not before the run was over");
}

fn has_loaded_the_change(cluster: &Cluster, node: &str) -> bool {
    cluster[node].reload_count("dialplan") == 2 && cluster[node].read_text(DOORS).contains("8,1")
}

/// The run goes on over a fast line, and is then as every other.
fn finish(cluster: &Cluster, run: Running) {
    cluster.speed_up("mds1");
    run.wait().exits(0);
    // Nodes that were late have brought or got the rest by the next run at the latest.
    cluster.main.sync_json([""; 0]).exits(0);
    for node in &cluster.nodes {
        cluster.main.tree(SOUNDS).assert_same(&node.tree(SOUNDS));
        assert_eq!(node.reload_count("dialplan"), 2, "{}", node.name);
    }
    assert_eq!(cluster.main.sync_json([""; 0]).exits(0).changes(), [""; 0]);
}

#[test]
fn one_slow_node_delays_nobody() {
    let cluster = cluster();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    main.write_settled(format!("{SOUNDS}/large.wav"), noise(1, LARGE));
    mds1.write_settled(format!("{RECORDINGS}/long.wav"), noise(2, LARGE));
    let mut run = start(&cluster);
    for node in ["mds2", "mds3"] {
        during(&mut run, "what is pushed is in place and loaded", || {
            cluster[node].exists(format!("{SOUNDS}/large.wav")) && has_loaded_the_change(&cluster, node)
        });
    }
    during(&mut run, "the recording of another node is on Main and on the third node", || {
        [main, &cluster["mds3"]].iter().all(|host| host.exists(format!("{RECORDINGS}/short.wav")))
    });
    // Neither of the two has come, whichever the slow node does first.
    let has_come =
        mds1.exists(format!("{SOUNDS}/large.wav")) || main.exists(format!("{RECORDINGS}/long.wav"));
    assert!(!has_come, "the slow node was waited for");
    finish(&cluster, run);
}

#[test]
fn a_recording_that_comes_slowly_delays_no_other_nodes_files_and_reloads() {
    let cluster = cluster();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    mds1.write_settled(format!("{RECORDINGS}/long.wav"), noise(2, LARGE));
    let mut run = start(&cluster);
    for node in ["mds2", "mds3"] {
        during(&mut run, "what is pushed is loaded", || has_loaded_the_change(&cluster, node));
    }
    assert!(!main.exists(format!("{RECORDINGS}/long.wav")), "the slow recording came first");
    finish(&cluster, run);
}

#[test]
fn a_recording_that_comes_slowly_delays_no_other_nodes_recording() {
    let cluster = cluster();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    mds1.write_settled(format!("{RECORDINGS}/long.wav"), noise(2, LARGE));
    let mut run = start(&cluster);
    during(&mut run, "the recording of another node is on Main and on the third node", || {
        [main, &cluster["mds3"]].iter().all(|host| host.exists(format!("{RECORDINGS}/short.wav")))
    });
    assert!(!main.exists(format!("{RECORDINGS}/long.wav")), "the slow recording came first");
    finish(&cluster, run);
}

/// Each node answers well within the time that nodes wait for each other, counted from the one before it.
#[test]
fn nodes_that_answer_one_after_the_other_do_not_hold_the_first_one() {
    const NODES: usize = 8;
    let late = "[ssh]\nagent = \"sleep $(( 2 * ($(hostname | tr -d a-z) - 1) )); xds-sync agent\"\n";
    let cluster = Cluster::new().nodes(NODES).without_asterisk().more_config(late).build();
    let (main, mds1, last) = (&cluster.main, &cluster["mds1"], cluster.nodes.last().unwrap());
    main.write_settled(format!("{SOUNDS}/pushed.wav"), "Main's");
    mds1.write_settled(format!("{RECORDINGS}/first.wav"), "of mds1");
    last.write_settled(format!("{RECORDINGS}/last.wav"), "of the last one");
    let mut run = main.spawn_xds_sync(["sync", "--quiet"]);
    during(&mut run, "the first node is done", || {
        mds1.exists(format!("{SOUNDS}/pushed.wav")) && main.exists(format!("{RECORDINGS}/first.wav"))
    });
    assert!(last.sh("pgrep -x sleep").success(), "the last node had answered before the first one was done");
    for node in &cluster.nodes {
        node.sh("pkill -x sleep || true").ok();
    }
    run.wait().exits(0);
    main.sync_json([""; 0]).exits(0);
    for node in &cluster.nodes {
        main.tree(SOUNDS).assert_same(&node.tree(SOUNDS));
    }
}
