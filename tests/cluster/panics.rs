//! A panic in one node's thread is that node's failure, and nothing else.

use crate::support::Cluster;

const SOUNDS: &str = "/var/lib/xivo/sounds";
const INTERNAL: i32 = 70;

/// What `xds-sync` prints as JSON for these arguments.
fn json(cluster: &Cluster, args: &[&str]) -> serde_json::Value {
    cluster.main.xds_sync(args).json()
}

#[test]
fn a_panic_in_one_nodes_thread_is_the_failure_of_that_node_alone() {
    let cluster = Cluster::new().nodes(3).without_asterisk().build();
    let main = &cluster.main;
    main.write_settled(format!("{SOUNDS}/a.wav"), "one");
    main.sync_json([""; 0]).exits(0);
    main.write_settled(format!("{SOUNDS}/a.wav"), "two");
    // Something to remember in the ledger: what is skipped.
    main.sh(format!("mkfifo {SOUNDS}/pipe")).ok();
    let ledger = main.meta("/var/lib/xds-sync/ledger.json");

    // Whichever comes there first.
    let output = main.sh("XDS_FAULT=agree=panic xds-sync sync --json");
    output.exits(INTERNAL);
    let report = output.json();
    assert_eq!(report["exit_code"], INTERNAL);
    let nodes = report["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    let (failed, fine): (Vec<_>, Vec<_>) = nodes.iter().partition(|node| node["exit_code"] != 0);
    assert_eq!(failed.len(), 1, "{report}");
    assert_eq!(failed[0]["exit_code"], INTERNAL);
    let name = failed[0]["name"].as_str().unwrap();
    for node in fine {
        assert_eq!(node["state"], "ok");
        assert_eq!(cluster[node["name"].as_str().unwrap()].read_text(format!("{SOUNDS}/a.wav")), "two");
    }
    let problems = report["problems"].as_array().unwrap();
    assert!(problems.iter().any(|problem| problem["node"] == name), "{report}");

    // What a run leaves behind is there.
    use std::os::unix::fs::MetadataExt as _;
    assert_ne!(main.meta("/var/lib/xds-sync/ledger.json").ino(), ledger.ino(), "the ledger was not written");
    let status = json(&cluster, &["status", "--json"]);
    assert_eq!((&status["run"], &status["exit_code"]), (&report["run"], &INTERNAL.into()));
    let history = json(&cluster, &["history", "--json"]);
    assert!(history["runs"].as_array().unwrap().iter().any(|run| run["run"] == report["run"]), "{history}");
    main.await_syslog(&format!("{name}: "));

    main.sync_json([""; 0]).exits(0);
    for node in &cluster.nodes {
        assert_eq!(node.read_text(format!("{SOUNDS}/a.wav")), "two");
    }
    assert_eq!(main.sync_json([""; 0]).exits(0).changes(), [""; 0]);
}

/// The round's own work is nobody's thread in particular: all nodes in it have failed, and nobody waits for them.
#[test]
fn a_panic_while_main_changes_ends_the_run_of_the_nodes_in_that_round() {
    const RECORDINGS: &str = "/var/lib/xivo/sounds/recordings";
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    let main = &cluster.main;
    main.sync_json([""; 0]).exits(0);
    cluster["mds1"].write_settled(format!("{RECORDINGS}/r.wav"), "recorded");

    let output = main.sh("XDS_FAULT=commit.told=panic xds-sync sync --json");
    output.exits(INTERNAL);
    let report = output.json();
    let nodes = report["nodes"].as_array().unwrap();
    assert!(nodes.iter().all(|node| node["exit_code"] == INTERNAL), "{report}");

    main.sync_json([""; 0]).exits(0);
    for host in cluster.nodes.iter().chain([main]) {
        assert_eq!(host.read_text(format!("{RECORDINGS}/r.wav")), "recorded");
    }
}
