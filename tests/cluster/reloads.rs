//! Asterisk loads what it must, once, after the files are in place, and until it has.

#[path = "../support/asterisk22.rs"]
mod asterisk22;

use crate::support::Cluster;

const DOORS: &str = "/etc/asterisk/extensions_extra.d/10-doors.conf";

/// mds1 has Asterisk 16, mds2 has Asterisk 22.
fn cluster() -> Cluster {
    let config = "[sync]\ntimeout = \"5s\"\nreload_timeout = \"3s\"\n";
    let cluster = Cluster::new().nodes(2).asterisk_22("mds2", asterisk22::root()).more_config(config).build();
    for (node, version) in cluster.nodes.iter().zip(["Asterisk 16.", "Asterisk 22."]) {
        assert!(node.asterisk("core show version").starts_with(version));
    }
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

/// Each of them, and the other one.
const BOTH: [(&str, &str); 2] = [("mds1", "mds2"), ("mds2", "mds1")];

#[test]
fn a_reload_that_failed_is_owed_until_it_succeeds() {
    let cluster = cluster();
    for (at, (node, other)) in BOTH.into_iter().enumerate() {
        let host = &cluster[node];
        host.stop_asterisk();
        let extension = format!("8{at},1");
        cluster.main.write_settled(DOORS, format!("[doors]\nexten => {extension},Hangup()\n"));
        let failed = cluster.main.sync_json([""; 0]);
        failed.exits(42);
        assert_eq!(reload(&failed, node, "dialplan")["state"], "failed");
        assert_eq!(reload(&failed, other, "dialplan")["state"], "done");
        assert!(host.read_text(DOORS).contains(&extension), "files do not wait for Asterisk");
        cluster.main.sync_json([""; 0]).exits(42);

        host.start_asterisk();
        let before = host.reload_count("dialplan");
        let done = cluster.main.sync_json([""; 0]);
        done.exits(0);
        assert_eq!(done.changes(), [""; 0]);
        assert_eq!(reload(&done, node, "dialplan")["state"], "done");
        assert_eq!(host.reload_count("dialplan"), before + 1);
        cluster.main.sync_json([""; 0]).exits(0);
        assert_eq!(host.reload_count("dialplan"), before + 1);
    }
}

const BROKEN: &str = "/etc/asterisk/extensions_extra.d/05-broken.conf";

/// Asterisk carries out a reload that fails. Files that are back to what they were do not make that undone.
#[test]
fn a_broken_file_that_is_taken_back_is_reloaded() {
    let cluster = cluster();
    cluster.main.write_settled(BROKEN, "[broken]\nexten => 78,1,NoOp()\n[open\n");
    cluster.main.sync_json([""; 0]).exits(42);
    for node in &cluster.nodes {
        assert!(!node.asterisk("dialplan show doors").contains("'7'"), "{}", node.name);
    }
    cluster.main.remove(BROKEN);
    let run = cluster.main.sync_json([""; 0]);
    run.exits(0);
    for node in &cluster.nodes {
        assert_eq!(reload(&run, &node.name, "dialplan")["state"], "done");
        assert!(node.asterisk("dialplan show doors").contains("'7'"), "{}", node.name);
        assert!(!node.asterisk("dialplan show broken").contains("'78'"), "{}", node.name);
    }
    let before = counts(&cluster);
    cluster.main.sync_json([""; 0]).exits(0);
    assert_eq!(counts(&cluster), before);
}

/// A node's own change that was loaded by hand, and that the next run takes back.
#[test]
fn what_a_run_restores_is_loaded() {
    let cluster = cluster();
    for node in &cluster.nodes {
        node.write_settled(DOORS, "[doors]\nexten => 9,1,Hangup()\n");
        node.asterisk("dialplan reload");
        assert!(node.asterisk("dialplan show doors").contains("'9'"));
    }
    let run = cluster.main.sync_json([""; 0]);
    run.exits(0);
    for node in &cluster.nodes {
        assert_eq!(reload(&run, &node.name, "dialplan")["state"], "done");
        assert!(node.asterisk("dialplan show doors").contains("'7'"), "{}", node.name);
    }
}

/// Its disk is not mounted: a working Asterisk goes on from memory.
#[test]
fn what_is_halted_is_not_reloaded() {
    let cluster = cluster();
    let before = counts(&cluster);
    for node in &cluster.nodes {
        node.sh("cd /etc/asterisk && mv extensions_extra.d away && cd /var/lib/xivo && mv moh away").ok();
    }
    for args in [&[][..], &["--reload"]] {
        let run = cluster.main.sync_json(args);
        assert_ne!(run.code, 0);
        for node in &cluster.nodes {
            for kind in ["dialplan", "moh"] {
                assert_eq!(reload(&run, &node.name, kind)["state"], "not-needed", "{:?}", run.output);
            }
        }
    }
    assert_eq!(counts(&cluster), before);
    for node in &cluster.nodes {
        node.sh("cd /etc/asterisk && mv away extensions_extra.d && cd /var/lib/xivo && mv away moh").ok();
        assert!(node.asterisk("dialplan show doors").contains("'7'"), "{}", node.name);
    }
    cluster.main.sync_json([""; 0]).exits(0);
    assert_eq!(counts(&cluster), before);
}

/// The reload takes longer than a node may be silent.
#[test]
fn a_long_reload_has_a_limit_of_its_own() {
    let config = "[sync]\ntimeout = \"2s\"\nreload_timeout = \"30s\"\n";
    let cluster = Cluster::new().nodes(2).asterisk_22("mds2", asterisk22::root()).more_config(config).build();
    for node in &cluster.nodes {
        node.sh("sed -i '2a [ $1 = moh ] || sleep 6' /usr/local/sbin/confgen").ok();
    }
    cluster.main.write_settled(DOORS, "[doors]\nexten => 7,1,Hangup()\n");
    let run = cluster.main.sync_json([""; 0]);
    run.exits(0);
    assert!(run.json["duration_ms"].as_u64().is_none_or(|duration| duration > 5000), "{:?}", run.json);
    for node in &cluster.nodes {
        assert_eq!(reload(&run, &node.name, "dialplan")["state"], "done");
        assert!(node.asterisk("dialplan show doors").contains("'7'"), "{}", node.name);
    }
}

#[test]
fn a_hanging_asterisk_is_a_failed_reload_and_delays_no_other_node() {
    let cluster = cluster();
    for (at, (node, other)) in BOTH.into_iter().enumerate() {
        cluster[node].sh("pkill -STOP -x asterisk").ok();
        cluster.main.write_settled(DOORS, format!("[doors]\nexten => 8{at},1,Hangup()\n"));
        let run = cluster.main.sync_json([""; 0]);
        run.exits(42);
        assert_eq!(reload(&run, node, "dialplan")["state"], "failed");
        assert!(reload(&run, node, "dialplan")["detail"].as_str().unwrap().contains("sync.reload_timeout"));
        assert_eq!(reload(&run, other, "dialplan")["state"], "done");
        cluster[node].sh("pkill -CONT -x asterisk").ok();
        cluster.main.sync_json([""; 0]).exits(0);
    }
}

#[test]
fn what_a_node_changed_itself_is_loaded_too() {
    let cluster = cluster();
    for node in &cluster.nodes {
        node.write_settled("/etc/asterisk/extensions_extra.d/90-own.conf", "[own]\nexten => 9,1,Hangup()\n");
    }
    cluster.main.sync_json([""; 0]).exits(0);
    assert_eq!(counts(&cluster), [(2, 1), (2, 1)]);

    // One that is lost because of a file of Main's, which itself shows, is Main's business, too.
    cluster.main.write_settled(BROKEN, "[broken]\nexten => 78,1,NoOp()\n;-- never closed\n");
    let run = cluster.main.sync_json([""; 0]);
    run.exits(42);
    for node in &cluster.nodes {
        let reload = reload(&run, &node.name, "dialplan");
        let detail = reload["detail"].as_str().unwrap();
        assert!(
            detail.contains("missing in Asterisk: doors, own; look for a mistake in 10-doors.conf"),
            "{detail}"
        );
    }
}

/// Asterisk loads nothing of a directory from which everything is gone, and goes on with what it had.
#[test]
fn an_old_dialplan_is_no_success() {
    let cluster = cluster();
    for node in &cluster.nodes {
        node.sh("rm /etc/asterisk/extensions_extra.d/xds_override-host.conf").ok();
    }
    cluster.main.remove(DOORS);
    let halted = cluster.main.sync_json([""; 0]);
    let tokens: Vec<_> = halted.json["halted"].as_array().unwrap().iter().collect();
    let tokens: Vec<String> =
        tokens.iter().map(|halted| halted["token"].as_str().unwrap().to_owned()).collect();
    let accept: Vec<String> =
        tokens.into_iter().flat_map(|token| ["--accept-deletes".to_owned(), token]).collect();
    let run = cluster.main.sync_json(&accept);
    run.exits(42);
    for node in &cluster.nodes {
        let reload = reload(&run, &node.name, "dialplan");
        assert_eq!(reload["state"], "failed", "{reload}");
        let detail = reload["detail"].as_str().unwrap();
        assert!(detail.contains("goes on with the dialplan that it had"), "{detail}");
        assert!(
            detail.ends_with("extensions.conf includes extensions_extra.d/*, which matches no file"),
            "{detail}"
        );
        assert!(node.asterisk("dialplan show doors").contains("'7'"), "{}", node.name);
    }
    cluster.main.write_settled(DOORS, "[windows]\nexten => 6,1,Hangup()\n");
    cluster.main.sync_json([""; 0]).exits(0);
    for node in &cluster.nodes {
        assert!(!node.asterisk("dialplan show doors").contains("'7'"), "{}", node.name);
    }
}

/// Files that Asterisk does not include, and music that nobody will hear: a warning, until it is no longer so.
#[test]
fn a_warning_stays_in_status() {
    let cluster = cluster();
    for node in &cluster.nodes {
        node.sh("sed -i 's,extra.d/[*],&.conf,' /etc/asterisk/extensions.conf").ok();
    }
    const README: &str = "/etc/asterisk/extensions_extra.d/README";
    const SONG: &str = "/var/lib/xivo/moh/default/song.mp3";
    cluster.main.write_settled(README, "for example:\n[example]\nexten => 1,1,NoOp()\n");
    cluster.main.write_settled(SONG, "no module plays this");
    cluster.main.sync_json([""; 0]).exits(0);
    let before = counts(&cluster);
    let warnings = [
        "dialplan reload done, but Asterisk shows nothing of README, which its extensions.conf may not include",
        "moh reload done, but music on hold that cannot be played: /var/lib/xivo/moh/default/song.mp3",
    ];
    let told = |warning: &str| {
        let status = cluster.main.xds_sync(["status"]).ok();
        status.matches(warning).count()
    };
    for _ in 0..2 {
        assert_eq!(warnings.map(told), [2, 2]);
        cluster.main.sync_json([""; 0]).exits(0);
        assert_eq!(counts(&cluster), before, "it is not owed");
    }
    cluster.main.remove(README);
    cluster.main.remove(SONG);
    cluster.main.sync_json([""; 0]).exits(0);
    assert_eq!(warnings.map(told), [0, 0]);
}
