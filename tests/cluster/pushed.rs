//! Pushed directories: what a node has of its own, and what it may not change.

use crate::support::Cluster;

const DIALPLAN: &str = "/etc/asterisk/extensions_extra.d";
const SOUNDS: &str = "/var/lib/xivo/sounds";

fn dialplan(name: &str) -> String {
    format!("{DIALPLAN}/{name}")
}

#[test]
fn a_nodes_own_file_stays_and_its_copy_of_mains_is_overwritten() {
    let cluster = Cluster::new().nodes(1).build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    main.write_settled(dialplan("10-doors.conf"), "[doors]\nexten => 7,1,Hangup()\n");
    mds1.write_settled(dialplan("10-doors.conf"), "[doors]\nexten => 8,1,Hangup()\n");
    mds1.write_settled(dialplan("90-own.conf"), "[own]\nexten => 9,1,Hangup()\n");
    let run = main.sync_json(["--dir", "dialplan"]);
    run.exits(0);
    assert_eq!(run.changes(), ["dialplan mds1 node drift 10-doors.conf"]);
    assert!(mds1.read_text(dialplan("10-doors.conf")).contains("7,1"));
    assert!(mds1.read_text(dialplan("90-own.conf")).contains("9,1"));
    assert!(!main.exists(dialplan("90-own.conf")));
    assert!(mds1.sh(format!("grep -r 8,1 {DIALPLAN}/.xds-sync/trash")).success());

    // Whoever wants to see what only the node has, sees it, in the run and ever after.
    let own = "dialplan: only there: 90-own.conf";
    for _ in 0..2 {
        assert!(main.xds_sync(["sync", "-n", "-v"]).ok().contains(own));
        main.sync_json([""; 0]).exits(0);
        assert!(main.xds_sync(["status", "-v"]).ok().contains(own));
        assert!(!main.xds_sync(["status"]).ok().contains(own));
    }
    mds1.remove(dialplan("90-own.conf"));
    main.sync_json([""; 0]).exits(0);
    assert!(!main.xds_sync(["status", "-v"]).ok().contains(own));

    // And the node tells what Main did there.
    main.sync_json([""; 0]).exits(0);
    let status = mds1.xds_sync(["status"]).ok();
    assert!(status.starts_with("this host is a media server of main, since "), "{status}");
    assert!(status.contains("last run of main ") && status.contains("changed nothing here"), "{status}");
    main.write_settled(dialplan("20-more.conf"), "[more]\nexten => 7,1,Hangup()\n");
    main.sync_json([""; 0]).exits(0);
    let status = mds1.xds_sync(["status"]).ok();
    assert!(
        status.contains("  dialplan: create 1\n") && status.contains("  dialplan reload done"),
        "{status}"
    );
    let json = mds1.xds_sync(["status", "--json"]).json();
    assert_eq!(json["main"]["visit"]["changes"]["dialplan"]["create"], 1);
    main.sync_json(["-n"]).exits(0);
    assert_eq!(mds1.xds_sync(["status"]).ok().lines().nth(2), status.lines().nth(2), "a dry run is no visit");
    let check = main.xds_sync(["nodes", "check", "-v"]).ok();
    assert!(
        check.contains("ok, 0.1.0") && check.contains("dialplan: ") && check.contains(" in the trash"),
        "{check}"
    );
    let json = main.xds_sync(["nodes", "check", "--json"]).json();
    let of_mds1 = &json["nodes"][0];
    assert!(of_mds1["clock_ahead_ms"].as_i64().unwrap().abs() < 60_000, "{json}");
    assert!(of_mds1["directories"][0]["trash_bytes"].as_u64().unwrap() > 0, "{json}");
}

#[test]
fn overrides_stay_on_both_sides_also_in_a_directory_that_main_deletes() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    let sounds = |name: &str| format!("{SOUNDS}/{name}");
    for name in
        ["a.wav", "b.wav", "c.wav", "fr/hello.wav", "fr/xds_override.wav", "xds_override_fr/hello.wav"]
    {
        main.write_settled(sounds(name), "Main's");
    }
    mds1.write_settled(sounds("fr/xds_override.wav"), "the node's");
    mds1.write_settled(sounds("xds_override_mds/x.wav"), "the node's");
    main.sync_json([""; 0]).exits(0);
    assert_eq!(mds1.read_text(sounds("fr/hello.wav")), "Main's");
    assert_eq!(mds1.read_text(sounds("fr/xds_override.wav")), "the node's");
    assert_eq!(main.read_text(sounds("fr/xds_override.wav")), "Main's");
    assert!(!mds1.exists(sounds("xds_override_fr")) && !main.exists(sounds("xds_override_mds")));

    main.remove(sounds("fr"));
    main.sync_json([""; 0]).exits(0);
    assert!(!mds1.exists(sounds("fr/hello.wav")));
    assert_eq!(mds1.read_text(sounds("fr/xds_override.wav")), "the node's");
    assert_eq!(main.sync_json([""; 0]).exits(0).changes(), [""; 0]);
}

#[test]
fn deletions_spread_also_to_a_node_that_was_away() {
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    let main = &cluster.main;
    let sounds = |name: &str| format!("{SOUNDS}/{name}");
    for name in ["a.wav", "b.wav", "fr/c.wav"] {
        main.write_settled(sounds(name), name);
    }
    main.sync_json([""; 0]).exits(0);
    main.remove(sounds("a.wav"));
    main.remove(sounds("fr"));
    cluster["mds2"].stop_sshd();
    let run = main.sync_json([""; 0]);
    run.exits(40);
    assert_eq!(
        (&run.node("mds1")["state"], &run.node("mds2")["state"]),
        (&"ok".into(), &"unreachable".into())
    );
    assert!(!cluster["mds1"].exists(sounds("a.wav")) && !cluster["mds1"].exists(sounds("fr")));
    cluster["mds2"].start_sshd();
    main.sync_json([""; 0]).exits(0);
    main.tree(SOUNDS).assert_same(&cluster["mds2"].tree(SOUNDS));
    assert!(cluster["mds2"].sh(format!("find {SOUNDS}/.xds-sync/trash -name a.wav")).ok().contains("a.wav"));
}

#[test]
fn a_renamed_file_is_moved_and_not_sent() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let main = &cluster.main;
    let sounds = |name: &str| format!("{SOUNDS}/{name}");
    main.write_settled(sounds("old/long.wav"), vec![7; 300_000]);
    main.write_settled(sounds("other.wav"), "x");
    main.sync_json([""; 0]).exits(0);
    main.rename(sounds("old"), sounds("new"));
    let run = main.sync_json([""; 0]);
    run.exits(0);
    let changes = ["create new", "rename new/long.wav", "delete old"]
        .map(|change| format!("sounds mds1 node {change}"));
    assert_eq!(run.changes(), changes);
    let directories = run.node("mds1")["directories"].as_array().unwrap();
    assert!(directories.iter().all(|directory| directory["bytes"] == 0), "{directories:?}");
    main.tree(SOUNDS).assert_same(&cluster["mds1"].tree(SOUNDS));
}

#[test]
fn of_a_changed_large_file_only_what_changed_crosses_the_wire() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    let song = "/var/lib/xivo/sounds/song.wav";
    main.sh(format!("head -c 20000000 /dev/urandom >{song}; touch -d '1 hour ago' {song}")).ok();
    main.sync_json(["--dir", "sounds"]).exits(0);
    main.sh(format!(
        "printf x | dd of={song} bs=1 seek=9999999 conv=notrunc; touch -d '30 minutes ago' {song}"
    ))
    .ok();
    let run = main.sync_json(["--dir", "sounds"]);
    run.exits(0);
    assert_eq!(mds1.read(song), main.read(song));
    let sent = run.node("mds1")["directories"][0]["bytes"].as_u64().unwrap();
    assert!((1..200_000).contains(&sent), "{sent} bytes");
    assert_eq!(run.json["changes"][0]["bytes"], 20_000_000, "a change is as large as its file");
}
