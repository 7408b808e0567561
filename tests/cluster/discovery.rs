//! Nodes that nobody configured: found where the cluster's own tools write them down.

use crate::support::{Cluster, Run};

const SOUNDS: &str = "/var/lib/xivo/sounds";
/// Without `[[node]]`: what is there is found.
const CONFIG: &str = "[main]\nname = \"main\"\n[sync]\ntimeout = \"5s\"\n\
    [discovery.postgres]\nurl = \"postgresql:///asterisk?user=postgres\"\n";
/// XiVO's table. Main is in it, under a name of its own.
const TABLE: &str =
    "CREATE TABLE mediaserver (id serial, name varchar, display_name varchar, voip_ip varchar);
    INSERT INTO mediaserver (name, voip_ip) VALUES
        ('default', '10.77.0.1'), ('mds1', '10.77.0.11'), ('mds2', '10.77.0.12')";

/// A cluster whose Main has XiVO's database.
fn cluster(config: &str) -> Cluster {
    let cluster = Cluster::new().nodes(2).without_asterisk().config(config).build();
    cluster.main.start_postgres();
    cluster.main.sh("createdb -U postgres asterisk").ok();
    cluster.main.sql(TABLE);
    cluster
}

/// What the run says of finding nodes.
fn discovery(run: &Run) -> Vec<String> {
    let problems = run.json["problems"].as_array().unwrap().iter();
    let of_discovery = problems.filter(|problem| problem["stage"] == "discovery");
    of_discovery.map(|problem| problem["detail"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn nodes_of_the_database_are_synchronised_also_while_it_is_away() {
    let cluster = cluster(CONFIG);
    let main = &cluster.main;
    let everywhere = |name: &str| {
        let path = format!("{SOUNDS}/{name}");
        cluster.nodes.iter().all(|node| node.exists(&path))
    };
    let add = |name: &str| main.write_settled(format!("{SOUNDS}/{name}"), name);
    add("a.wav");
    let dry = main.sync_json(["-n"]);
    dry.exits(0);
    assert_eq!(dry.changes().len(), 2);
    assert!(!everywhere("a.wav"));
    let run = main.sync_json([""; 0]);
    run.exits(0);
    assert_eq!(run.json["nodes"].as_array().unwrap().len(), 2, "Main itself is none of them");
    assert!(everywhere("a.wav"));
    let listed = main.xds_sync(["nodes", "list"]).ok();
    assert_eq!(listed, "mds1  10.77.0.11  root    postgres\nmds2  10.77.0.12  root    postgres\n");
    main.xds_sync(["nodes", "check", "mds2"]).exits(0);

    main.stop_postgres();
    add("b.wav");
    let run = main.sync_json([""; 0]);
    run.exits(40);
    assert!(everywhere("b.wav"), "the last good answer stands in");
    let problems = discovery(&run);
    assert!(
        problems[0].contains("discovery.postgres") && problems[0].ends_with("is used: mds1, mds2"),
        "{problems:?}"
    );
    assert!(run.output.err().contains(&problems[0]), "on stderr too: {}", run.output.err());
    main.await_syslog("problem: discovery: discovery.postgres");
    main.xds_sync(["status"]).exits(40);
    let listed = main.xds_sync(["nodes", "list", "--json"]);
    let json = listed.exits(40).json();
    assert_eq!(
        (&json["nodes"][0]["source"], &json["nodes"][1]["name"]),
        (&"postgres".into(), &"mds2".into())
    );
    assert!(json["nodes"][0]["last_good"].as_str().unwrap().starts_with("20"), "{json}");
    main.xds_sync(["nodes", "check"]).exits(40);

    // Without any node to go by. What is known of them is kept until they are found again.
    let knows_mds1 = || main.read_text("/var/lib/xds-sync/ledger.json").contains("\"mds1\"");
    assert!(knows_mds1());
    main.rename("/var/lib/xds-sync/discovery.json", "/var/lib/xds-sync/away");
    main.sync_json([""; 0]).exits(41);
    main.write("/var/lib/xds-sync/discovery.json", "{\"version\": 1}");
    let run = main.sync_json([""; 0]);
    run.exits(41);
    assert!(discovery(&run).iter().any(|problem| problem.contains("discovery.json cannot be trusted")));

    assert!(knows_mds1());
    main.start_postgres();
    add("c.wav");
    let run = main.sync_json([""; 0]);
    run.exits(0);
    assert!(everywhere("c.wav"));
    main.sync_json([""; 0]).exits(0);
    main.xds_sync(["status"]).exits(0);
}

#[test]
fn a_node_that_the_database_does_not_name_any_more_keeps_its_files() {
    let cluster = cluster(&format!("{CONFIG}[[node]]\nname = \"one\"\naddress = \"10.77.0.11\"\n"));
    let main = &cluster.main;
    for name in ["a.wav", "b.wav"] {
        main.write_settled(format!("{SOUNDS}/{name}"), name);
    }
    let run = main.sync_json([""; 0]);
    run.exits(0);
    assert_eq!(run.json["nodes"].as_array().unwrap().len(), 2, "one is configured, and not found once more");
    assert_eq!(run.node("one")["state"], "ok");

    main.sql("DELETE FROM mediaserver WHERE name <> 'default'");
    main.remove(format!("{SOUNDS}/a.wav"));
    let run = main.sync_json([""; 0]);
    run.exits(40);
    let problems = discovery(&run);
    assert!(problems[0].contains("names no node any more, where it named mds2"), "{problems:?}");
    assert!(!cluster["mds1"].exists(format!("{SOUNDS}/a.wav")), "configured, and so in step");
    assert!(cluster["mds2"].exists(format!("{SOUNDS}/a.wav")), "nothing is done there");

    main.remove("/var/lib/xds-sync/discovery.json");
    let run = main.sync_json([""; 0]);
    run.exits(0);
    assert_eq!(run.json["nodes"].as_array().unwrap().len(), 1);
}

#[test]
fn a_new_key_leaves_nobody_behind_who_could_not_be_found() {
    let cluster = cluster(CONFIG);
    let main = &cluster.main;
    main.sync_json([""; 0]).exits(0);
    main.stop_postgres();
    let output = main.xds_sync(["init", "--publish", "none", "--rotate"]);
    output.exits(40);
    assert!(output.text().contains("mds2 has the new key alone"), "{}", output.text());
    assert!(output.text().contains("could not be found now"), "{}", output.text());
    assert!(main.exists("/root/.ssh/rsync_xds.old"));
    main.start_postgres();
    let output = main.xds_sync(["init", "--publish", "none", "--rotate"]);
    output.exits(0);
    assert!(!main.exists("/root/.ssh/rsync_xds.old"), "{}", output.text());
    main.sync_json([""; 0]).exits(0);
}

#[test]
fn a_list_is_read_live_beside_the_database() {
    let list = "/etc/xds-sync/workers-list.txt";
    let cluster = cluster(&format!("{CONFIG}[discovery]\nfile = \"{list}\"\n"));
    let main = &cluster.main;
    main.sql("DELETE FROM mediaserver WHERE name = 'mds2'");
    main.write(list, "root@10.77.0.12:/srv/sounds\nroot@10.77.0.11:/srv/sounds\n");
    cluster["mds2"]
        .write("/etc/xds-sync/node.toml", "roots = [\"/etc/asterisk\", \"/var/lib/xivo\", \"/srv\"]\n");
    cluster["mds2"].mkdir("/srv/sounds");
    main.write_settled(format!("{SOUNDS}/a.wav"), "a");
    let run = main.sync_json(["--dir", "sounds"]);
    run.exits(0);
    assert_eq!(run.node("mds1")["state"], "ok", "the database comes first");
    assert_eq!(run.node("10.77.0.12")["state"], "ok");
    assert!(cluster["mds1"].exists(format!("{SOUNDS}/a.wav")));
    assert!(
        cluster["mds2"].exists("/srv/sounds/a.wav") && !cluster["mds2"].exists(format!("{SOUNDS}/a.wav"))
    );
    main.write(list, "\n");
    main.sync_json(["--dir", "sounds"]).exits(40);
}
