//! Asterisk loads what it must, once, after the files are in place, and until it has.

use crate::support::Cluster;

const DOORS: &str = "/etc/asterisk/extensions_extra.d/10-doors.conf";

fn cluster() -> Cluster {
    let cluster = Cluster::new().nodes(2).more_config("[sync]\ntimeout = \"5s\"\n").build();
    cluster.main.write_settled(DOORS, "[doors]\nexten => 7,1,Hangup()\n");
    cluster.main.write_settled("/var/lib/xivo/moh/default/waltz.wav", crate::support::wav(8000));
    cluster.main.sync_json([""; 0]).exits(0);
    cluster
}

fn counts(cluster: &Cluster) -> Vec<(usize, usize)> {
    cluster.nodes.iter().map(|node| (node.reload_count("dialplan"), node.reload_count("moh"))).collect()
}

fn reload<'r>(run: &'r crate::support::Run, node: &str, name: &str) -> &'r serde_json::Value {
    let reloads = run.node(node)["reloads"].as_array().unwrap();
    reloads.iter().find(|reload| reload["name"] == name).unwrap()
}

#[test]
fn one_changed_dialplan_file_is_one_dialplan_reload_after_it_is_in_place() {
    let cluster = cluster();
    assert_eq!(counts(&cluster), [(1, 1), (1, 1)]);
    cluster.main.write(DOORS, "[doors]\nexten => 8,1,Hangup()\n");
    let run = cluster.main.sync_json([""; 0]);
    run.exits(0);
    assert_eq!(counts(&cluster), [(2, 1), (2, 1)]);
    for node in &cluster.nodes {
        assert!(node.asterisk("dialplan show doors").contains("'8'"));
        assert!(node.reloads("dialplan")[1] >= node.ctime_ns(DOORS), "loaded before the file was in place");
        assert_eq!(reload(&run, &node.name, "moh")["state"], "not-needed");
    }
    // An mtime alone is nothing to Asterisk.
    cluster
        .main
        .set_mtime(DOORS, std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000));
    assert_eq!(cluster.main.sync_json([""; 0]).exits(0).changes().len(), 2);
    assert_eq!(counts(&cluster), [(2, 1), (2, 1)]);
    cluster.main.sync_json(["--reload"]).exits(0);
    assert_eq!(counts(&cluster), [(3, 2), (3, 2)]);
}

#[test]
fn a_reload_that_failed_is_owed_until_it_succeeds() {
    let cluster = cluster();
    let mds1 = &cluster["mds1"];
    mds1.stop_asterisk();
    cluster.main.write_settled(DOORS, "[doors]\nexten => 8,1,Hangup()\n");
    let failed = cluster.main.sync_json([""; 0]);
    failed.exits(42);
    assert_eq!(reload(&failed, "mds1", "dialplan")["state"], "failed");
    assert_eq!(reload(&failed, "mds2", "dialplan")["state"], "done");
    assert!(mds1.read_text(DOORS).contains("8,1"), "files do not wait for Asterisk");
    cluster.main.sync_json([""; 0]).exits(42);

    mds1.start_asterisk();
    let before = mds1.reload_count("dialplan");
    let done = cluster.main.sync_json([""; 0]);
    done.exits(0);
    assert_eq!(done.changes(), [""; 0]);
    assert_eq!(reload(&done, "mds1", "dialplan")["state"], "done");
    assert_eq!(mds1.reload_count("dialplan"), before + 1);
    cluster.main.sync_json([""; 0]).exits(0);
    assert_eq!(mds1.reload_count("dialplan"), before + 1);
}

#[test]
fn a_hanging_asterisk_is_a_failed_reload_and_delays_no_other_node() {
    let cluster = cluster();
    cluster["mds1"].sh("pkill -STOP -x asterisk").ok();
    cluster.main.write_settled(DOORS, "[doors]\nexten => 8,1,Hangup()\n");
    let run = cluster.main.sync_json([""; 0]);
    run.exits(42);
    assert_eq!(reload(&run, "mds1", "dialplan")["state"], "failed");
    assert_eq!(reload(&run, "mds2", "dialplan")["state"], "done");
    cluster["mds1"].sh("pkill -CONT -x asterisk").ok();
    cluster.main.sync_json([""; 0]).exits(0);
}

#[test]
fn what_a_node_changed_itself_is_loaded_too() {
    let cluster = cluster();
    cluster["mds2"]
        .write_settled("/etc/asterisk/extensions_extra.d/90-own.conf", "[own]\nexten => 9,1,Hangup()\n");
    cluster.main.sync_json([""; 0]).exits(0);
    assert_eq!(counts(&cluster), [(1, 1), (2, 1)]);
}
