//! What runs did, and what they took away brought back.

use serde_json::Value;

use crate::support::{Cluster, Host, Output, noise};

const SOUNDS: &str = "/var/lib/xivo/sounds";
const RECORDINGS: &str = "/var/lib/xivo/sounds/recordings";

fn sounds(name: &str) -> String {
    format!("{SOUNDS}/{name}")
}

fn recording(name: &str) -> String {
    format!("{RECORDINGS}/{name}")
}

/// Two nodes, in step with a Main that has these sounds.
fn cluster(names: &[&str]) -> Cluster {
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    for name in names {
        cluster.main.write_settled(sounds(name), format!("first {name}"));
    }
    cluster.main.sync_json([""; 0]).exits(0);
    cluster
}

fn restore(main: &Host, args: &[&str]) -> Output {
    main.xds_sync([&["restore"], args].concat())
}

fn history(main: &Host, args: &[&str]) -> Vec<Value> {
    let output = main.xds_sync([&["history", "--json"], args].concat());
    output.exits(0).json()["runs"].as_array().unwrap().clone()
}

/// All hosts have this there, and a further run has nothing to do.
fn everywhere(cluster: &Cluster, path: &str, content: &str) {
    for host in cluster.hosts() {
        assert_eq!(host.read_text(path), content, "{}", host.name);
    }
    assert_eq!(cluster.main.sync_json([""; 0]).exits(0).changes(), [""; 0]);
}

#[test]
fn a_file_removed_by_hand_comes_back_from_a_nodes_trash() {
    let cluster = cluster(&["jazz/a.wav", "b.wav", "c.wav", "d.wav"]);
    let main = &cluster.main;
    let before = main.tree(SOUNDS);
    main.remove(sounds("jazz"));
    main.sync_json([""; 0]).exits(0);
    assert!(!cluster["mds1"].exists(sounds("jazz")));
    assert!(!main.sh(format!("find {SOUNDS}/.xds-sync/trash -name a.wav | grep a.wav")).success());

    let shown = restore(main, &["sounds", "jazz/a.wav", "--dry-run"]);
    assert!(shown.ok().contains("mds2"), "{shown:?}");
    assert!(!main.exists(sounds("jazz")), "a dry run");
    let output = restore(main, &["sounds", "jazz/a.wav"]).ok();
    assert!(output.starts_with("sounds: jazz/a.wav: restored ") && output.contains(" of mds1 "), "{output}");
    // With its mode, owner and time, and with the directory that it was in.
    before.assert_same(&main.tree(SOUNDS));

    main.sync_json([""; 0]).exits(0);
    everywhere(&cluster, &sounds("jazz/a.wav"), "first jazz/a.wav");
    let again = restore(main, &["sounds", "jazz/a.wav"]).ok();
    assert!(again.contains("stands there already"), "{again}");
}

#[test]
fn what_main_has_just_lost_comes_back_from_where_it_still_stands() {
    let cluster = cluster(&["en/a.wav", "en/deep/b.wav", "en/c.wav", "d.wav"]);
    let main = &cluster.main;
    for at in 0..14 {
        main.write_settled(sounds(&format!("en/old{at}.wav")), "old");
        main.write_settled(sounds(&format!("en/new{at}.wav")), format!("new {at}"));
    }
    main.sh(format!("chmod 2770 {SOUNDS}/en/deep && chown www-data:asterisk {SOUNDS}/en/deep")).ok();
    main.sync_json([""; 0]).exits(0);
    // Deleted on purpose, and carried by a run.
    main.sh(format!("rm {SOUNDS}/en/old*")).ok();
    main.sync_json([""; 0]).exits(0);
    let before = main.tree(SOUNDS);

    // One file, by mistake, and no run since.
    main.remove(sounds("d.wav"));
    let shown = restore(main, &["sounds", "d.wav", "-n"]).ok();
    assert!(shown.contains("* -  ") && shown.contains("no: Main lost it since the last run"), "{shown}");
    assert!(!main.exists(sounds("d.wav")));
    let output = restore(main, &["sounds", "d.wav"]).ok();
    assert!(output.starts_with("sounds: d.wav: restored as it stands on mds1 ("), "{output}");
    before.assert_same(&main.tree(SOUNDS));

    // A directory, as a whole: what was deleted on purpose stays deleted.
    main.sh(format!("rm -rf {SOUNDS}/en")).ok();
    main.sync_json([""; 0]).exits(25);
    let asked = restore(main, &["sounds", "en"]);
    let said = asked.exits(1).err();
    assert!(
        said.contains("* 17 files (")
            && said.contains("lost on Main since the last run; still on mds1, mds2"),
        "{said}"
    );
    assert!(said.contains("  14 files (") && said.contains("replaced or deleted "), "{said}");
    assert!(said.contains("nothing was restored: with --yes these 17 files come back"), "{said}");
    assert!(!main.exists(sounds("en")), "nothing comes back without a yes");
    let refused = restore(main, &["sounds", "en/a.wav", "--id", "01KQ0000000000000000000000-0"]);
    assert!(refused.exits(1).err().contains("it still stands on mds1, mds2"), "{refused:?}");
    restore(main, &["sounds", "en", "--yes"]).exits(0);
    before.assert_same(&main.tree(SOUNDS));
    assert_eq!(main.sync_json([""; 0]).exits(0).changes(), [""; 0]);
    let restored = history(main, &["sounds", "en/a.wav"]).pop().unwrap();
    assert_eq!(restored["changes"][0]["reason"], "restored: as it stood on mds1");

    // An edit that went wrong, before it is spread; and then what only a node has.
    main.write_settled(sounds("d.wav"), "spoilt");
    restore(main, &["sounds", "d.wav"]).exits(0);
    assert_eq!(main.read_text(sounds("d.wav")), "first d.wav");
    assert!(main.sh(format!("grep -r spoilt {SOUNDS}/.xds-sync/trash")).success(), "it went to the trash");
    cluster["mds2"].write_settled(sounds("own.wav"), "of mds2");
    restore(main, &["sounds", "own.wav"]).exits(0);
    assert_eq!(main.read_text(sounds("own.wav")), "of mds2");
}

#[test]
fn what_a_node_that_was_away_still_has_does_not_come_back_with_what_was_just_lost() {
    let cluster = cluster(&["en/a.wav", "en/b.wav", "c.wav"]);
    let main = &cluster.main;
    cluster["mds2"].stop_sshd();
    main.remove(sounds("en/b.wav"));
    main.sync_json([""; 0]).exits(40);
    cluster["mds2"].start_sshd();
    main.sh(format!("rm -rf {SOUNDS}/en")).ok();
    restore(main, &["sounds", "en"]).exits(0);
    assert!(main.exists(sounds("en/a.wav")));
    assert!(!main.exists(sounds("en/b.wav")), "that was deleted on purpose, and mds1 knows");
    restore(main, &["sounds", "en/b.wav", "--node", "mds2"]).exits(0);
    assert_eq!(main.read_text(sounds("en/b.wav")), "first en/b.wav");
}

#[test]
fn an_overwritten_version_comes_back_by_its_id_and_a_second_restore_takes_that_back() {
    let cluster = cluster(&["a.wav", "b.wav"]);
    let main = &cluster.main;
    for content in ["second", "third"] {
        main.write_settled(sounds("a.wav"), content);
        main.sync_json([""; 0]).exits(0);
    }
    let runs = history(main, &["sounds", "a.wav", "--node", "mds1"]);
    let actions: Vec<&Value> = runs.iter().map(|run| &run["changes"][0]["action"]).collect();
    assert_eq!(actions, ["create", "update", "update"], "the newest last");
    assert_eq!(runs[0]["changes"][0]["id"], Value::Null);
    let first = runs[1]["changes"][0]["id"].as_str().unwrap();

    // The beginning of an id will do, as lists show it.
    let beginning = format!("{}-{}", &first[..10], &first[27..]);
    restore(main, &["sounds", "a.wav", "--id", &beginning]).exits(0);
    assert_eq!(main.read_text(sounds("a.wav")), "first a.wav");
    let several = restore(main, &["sounds", "a.wav", "--id", &first[..1]]);
    assert!(several.exits(1).err().contains("several begin like that"), "{several:?}");
    main.sync_json([""; 0]).exits(0);
    everywhere(&cluster, &sounds("a.wav"), "first a.wav");
    // What stood there is the newest in the trash now.
    restore(main, &["sounds", "a.wav"]).exits(0);
    main.sync_json([""; 0]).exits(0);
    everywhere(&cluster, &sounds("a.wav"), "third");

    let restored = history(main, &["sounds", "a.wav"]);
    let restored = restored.iter().flat_map(|run| run["changes"].as_array().unwrap());
    let restored: Vec<&Value> = restored.filter(|change| change["to"] == "main").collect();
    assert_eq!(restored.len(), 2, "a restoration stands in the history");
    assert!(restored[0]["id"].is_string() && restored[0]["reason"].as_str().unwrap().contains(first));
    main.await_syslog("main: update a.wav");

    for (args, why) in [
        (&["sounds", "a.wav", "--id", "01KQ0000000000000000000000-0"][..], "there are others"),
        (&["sounds", "never.wav"], "no version of it"),
        (&["sounds", "a.wav", "--id", "../../etc-0"], "not the id of a version"),
        (&["nothing", "a.wav"], "unknown directory"),
        (&["sounds", "a.wav", "--node", "mds9"], "unknown node"),
        (&["sounds", "../../etc/shadow"], "no path in a directory"),
        (&["sounds", ".xds-sync/root.json"], "is excluded"),
        (&["sounds", "xds_override/a.wav"], "is excluded"),
        (&["sounds", "recordings/a.wav"], "belongs to the directory recordings"),
    ] {
        let refused = restore(main, args);
        assert!(refused.exits(1).err().contains(why), "{refused:?}");
    }
    assert_eq!(main.sync_json([""; 0]).exits(0).changes(), [""; 0]);
}

#[test]
fn a_directory_comes_back_as_a_run_took_it_away() {
    let cluster = cluster(&["jazz/a.wav", "jazz/deep/b.wav", "jazz/c.wav", "d.wav"]);
    let main = &cluster.main;
    let before = main.tree(SOUNDS);
    main.remove(sounds("jazz/c.wav"));
    main.sync_json([""; 0]).exits(0);
    main.remove(sounds("jazz"));
    main.sync_json([""; 0]).exits(0);

    let output = restore(main, &["sounds", "jazz"]).ok();
    assert_eq!(output.lines().count(), 2, "{output}");
    main.sync_json([""; 0]).exits(0);
    let after = main.tree(SOUNDS);
    for path in ["jazz/a.wav", "jazz/deep/b.wav"] {
        let same = |tree: &crate::support::Tree| {
            tree.get(path)
                .map(|entry| (entry.mode, entry.owner.clone(), entry.mtime_ns, entry.content.clone()))
        };
        assert_eq!(same(&after), same(&before), "{path}");
    }
    assert!(after.get("jazz/c.wav").is_none(), "that went in another run");
    for node in ["mds1", "mds2"] {
        after.assert_same(&cluster[node].tree(SOUNDS));
    }
}

#[test]
fn what_stands_in_the_way_is_not_touched() {
    let cluster = cluster(&["a.wav", "b.wav"]);
    let main = &cluster.main;
    main.remove(sounds("a.wav"));
    main.sync_json([""; 0]).exits(0);
    main.write_settled(sounds("a.wav/inner.wav"), "inner");
    let refused = restore(main, &["sounds", "a.wav"]);
    assert!(refused.exits(23).text().contains("a directory stands there"), "{refused:?}");
    assert_eq!(main.read_text(sounds("a.wav/inner.wav")), "inner");

    // Another disk is mounted there: nothing is restored onto it.
    main.remove(sounds("a.wav"));
    main.rename(SOUNDS, "/var/lib/xivo/sounds.away");
    main.sh(format!("mkdir {SOUNDS}")).ok();
    let refused = restore(main, &["sounds", "a.wav"]);
    assert!(refused.exits(3).err().contains("marker"), "{refused:?}");
    assert_eq!(main.sh(format!("ls -A {SOUNDS}")).ok(), "");
}

#[test]
fn a_version_is_written_to_a_file_only_to_look_at_it() {
    let cluster = cluster(&["a.wav", "b.wav"]);
    let main = &cluster.main;
    main.remove(sounds("a.wav"));
    main.sync_json([""; 0]).exits(0);
    restore(main, &["sounds", "a.wav", "--to", "/tmp/look.wav"]).exits(0);
    assert_eq!(main.read_text("/tmp/look.wav"), "first a.wav");
    assert!(!main.exists(sounds("a.wav")));
    let refused = restore(main, &["sounds", "a.wav", "--to", "/tmp/look.wav"]);
    assert!(refused.exits(1).err().contains("cannot write /tmp/look.wav"), "{refused:?}");
    assert_eq!(main.sh("ls -A /tmp | grep xds-sync || true").ok(), "");
}

#[test]
fn a_nodes_own_edit_of_a_pushed_file_is_brought_to_everybody() {
    let cluster = cluster(&["a.wav", "b.wav"]);
    let main = &cluster.main;
    cluster["mds2"].write_settled(sounds("a.wav"), "edited on mds2");
    let run = main.sync_json([""; 0]);
    assert_eq!(run.exits(0).changes(), ["sounds mds2 node drift a.wav"]);
    let drift = history(main, &["--node", "mds2"]).pop().unwrap();
    assert_eq!(drift["run"], run.json["run"]);
    let id = drift["changes"][0]["id"].as_str().unwrap();
    assert!(id.starts_with(run.json["run"].as_str().unwrap()), "{id}");

    restore(main, &["sounds", "a.wav", "--run", run.json["run"].as_str().unwrap()]).exits(0);
    main.sync_json([""; 0]).exits(0);
    everywhere(&cluster, &sounds("a.wav"), "edited on mds2");
}

#[test]
fn what_lost_a_conflict_is_brought_back_and_so_is_a_deleted_recording() {
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    let main = &cluster.main;
    for name in ["a.wav", "b.wav", "c.wav"] {
        main.write_settled(recording(name), "first");
    }
    main.sync_json([""; 0]).exits(0);
    main.write_settled(recording("a.wav"), "Main's");
    cluster["mds1"].write_settled(recording("a.wav"), "of mds1");
    cluster["mds2"].remove(recording("b.wav"));
    main.sync_json([""; 0]).exits(0);
    everywhere(&cluster, &recording("a.wav"), "Main's");
    assert!(!main.exists(recording("b.wav")));

    let shown = main.xds_sync(["conflicts", "show", "recordings", "a.wav"]).ok();
    assert!(shown.contains("BLAKE3 ") && shown.contains("the version of main stayed"), "{shown}");
    let conflict = history(main, &["recordings", "a.wav"]).pop().unwrap();
    let lost =
        conflict["changes"].as_array().unwrap().iter().find(|change| change["node"] == "mds1").unwrap();
    assert_eq!(lost["action"], "conflict");

    restore(main, &["recordings", "a.wav", "--node", "mds1", "--id", lost["id"].as_str().unwrap()]).exits(0);
    // Main's own trash has that one.
    restore(main, &["recordings", "b.wav", "--node", "main"]).exits(0);
    main.sync_json([""; 0]).exits(0);
    everywhere(&cluster, &recording("a.wav"), "of mds1");
    everywhere(&cluster, &recording("b.wav"), "first");
}

#[test]
fn a_node_that_cannot_be_asked_is_named() {
    let cluster = cluster(&["a.wav", "b.wav"]);
    let main = &cluster.main;
    main.remove(sounds("a.wav"));
    main.sync_json([""; 0]).exits(0);
    cluster["mds1"].stop_sshd();
    let output = restore(main, &["sounds", "a.wav", "--json"]);
    assert!(output.exits(0).err().contains("mds1 was not asked"), "{output:?}");
    let restored = &output.json()["restored"][0];
    assert_eq!((&restored["host"], &restored["state"]), (&"mds2".into(), &"restored".into()));
    assert_eq!(main.read_text(sounds("a.wav")), "first a.wav");
    restore(main, &["sounds", "never.wav"]).exits(40);
    cluster["mds2"].stop_sshd();
    restore(main, &["sounds", "never.wav"]).exits(41);
}

#[test]
fn a_damaged_history_is_said_and_stops_nothing() {
    let cluster = cluster(&["a.wav", "b.wav"]);
    let main = &cluster.main;
    let database = "/var/lib/xds-sync/history.db";
    assert_eq!(main.sh(format!("stat -c %a {database}")).ok(), "600\n");
    main.sync_json(["--dry-run"]).exits(0);
    assert_eq!(history(main, &[]).len(), 1, "a dry run is no run");
    main.write(database, "this is no database, however long it may be ".repeat(100));
    assert!(main.xds_sync(["history"]).exits(1).err().contains("history.db cannot be trusted"));

    main.write_settled(sounds("a.wav"), "second");
    let run = main.sync_json([""; 0]);
    run.exits(0);
    let problem = &run.json["problems"][0];
    assert_eq!(problem["stage"], "history");
    assert!(
        problem["detail"].as_str().unwrap().contains("set aside as /var/lib/xds-sync/history.db.damaged")
    );
    assert_eq!(cluster["mds1"].read_text(sounds("a.wav")), "second");
    let runs = history(main, &[]);
    assert_eq!(runs.len(), 1);
    assert_eq!((&runs[0]["exit_code"], &runs[0]["run"]), (&0.into(), &run.json["run"]));
    let change = &runs[0]["changes"][0];
    for key in ["directory", "node", "to", "action", "path", "bytes", "reason", "id"] {
        assert!(change.get(key).is_some(), "{key}: {change}");
    }
    assert_eq!(history(main, &["--since", "1h"]).len(), 1);
    assert_eq!(history(main, &["--since", "1h", "--last", "7"]).len(), 1);
    let lines = main.xds_sync(["history"]).ok();
    assert!(lines.lines().count() == 1 && lines.ends_with("  ok       2 updated\n"), "{lines}");
    main.sync_json([""; 0]).exits(0);
    main.sync_json([""; 0]).exits(0);
    assert!(main.xds_sync(["history"]).ok().contains("  2 runs found all in step"));

    // It can be read where nothing can be written.
    main.sh("mount --bind /var/lib/xds-sync /var/lib/xds-sync && mount -o remount,ro,bind /var/lib/xds-sync")
        .ok();
    assert_eq!(main.xds_sync(["history"]).ok().lines().count(), 2);
    assert!(main.xds_sync(["status"]).ok().contains("in step"));
    let refused = main.xds_sync(["sync"]);
    assert!(
        refused.exits(1).err().contains("lock") && refused.err().contains("mounted read-only"),
        "{refused:?}"
    );
    main.sh("umount /var/lib/xds-sync").ok();
    assert!(main.xds_sync(["history", "sounds", "a.wav"]).ok().contains("update a.wav"));
}

#[test]
fn the_oldest_versions_go_once_the_trash_is_beyond_its_size() {
    let cluster = cluster(&[]);
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    main.write("/etc/xds-sync/conf.d/trash.toml", "[sync]\ntrash_max = \"2 MiB\"\ntrash_min_keep = \"0s\"\n");
    // Each version takes 768 KiB: two fit, and a third until the next run begins.
    for version in 1..=5 {
        main.write_settled(sounds("long.wav"), noise(version, 768 * 1024));
        main.sync_json([""; 0]).exits(0);
    }
    main.write_settled(sounds("other.wav"), "x");
    main.sync_json([""; 0]).exits(0);
    let trashed =
        mds1.sh(format!("find {SOUNDS}/.xds-sync/trash -name long.wav -printf '%p\\n' | sort")).ok();
    let versions: Vec<Vec<u8>> = trashed.lines().map(|path| mds1.read(path)).collect();
    assert!(versions == [3, 4].map(|version| noise(version, 768 * 1024)), "{trashed}");
    assert_eq!(mds1.read(sounds("long.wav")), noise(5, 768 * 1024));
}
