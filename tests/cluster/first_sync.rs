//! The first run on a new cluster, and the one after it.

use crate::support::Cluster;

const DIALPLAN: &str = "/etc/asterisk/extensions_extra.d";
const MOH: &str = "/var/lib/xivo/moh";
const SOUNDS: &str = "/var/lib/xivo/sounds";

fn cluster() -> Cluster {
    let cluster = Cluster::new().node("mds1").node("mds2").xivo_links().build();
    let main = &cluster.main;
    main.write_settled(format!("{DIALPLAN}/10-doors.conf"), "[doors]\nexten => 7,1,Hangup()\n");
    main.write_settled(format!("{MOH}/default/waltz.wav"), crate::support::wav(8000));
    main.write_settled(format!("{SOUNDS}/fr/hello.wav"), crate::support::wav(800));
    main.mkdir(format!("{SOUNDS}/empty"));
    main.chmod(format!("{SOUNDS}/fr/hello.wav"), 0o640);
    cluster
}

#[test]
fn everything_arrives_with_mode_owner_and_time_and_the_next_run_does_nothing() {
    let cluster = cluster();
    let main = &cluster.main;
    main.sync_json(["--quiet"]).exits(0);
    for node in ["mds1", "mds2"] {
        let node = &cluster[node];
        let (here, there) = (main.tree(SOUNDS).visible(), node.tree(SOUNDS).visible());
        here.assert_same(&there);
        let (sent, arrived) = (here.get("fr/hello.wav").unwrap(), there.get("fr/hello.wav").unwrap());
        assert_eq!((sent.mode, sent.mtime_ns), (0o640, arrived.mtime_ns));
        assert_eq!((arrived.mode, &arrived.owner, &arrived.group), (sent.mode, &sent.owner, &sent.group));
        assert_eq!(
            main.mtime_ns(format!("{MOH}/default/waltz.wav")),
            node.mtime_ns(format!("{MOH}/default/waltz.wav"))
        );
        assert_eq!(
            main.read(format!("{DIALPLAN}/10-doors.conf")),
            node.read(format!("{DIALPLAN}/10-doors.conf"))
        );
        assert!(node.asterisk("dialplan show doors").contains("Hangup"));
        assert!(node.asterisk("moh show files").contains("waltz"));
    }
    let before: Vec<_> =
        cluster.hosts().map(|host| (host.tree(DIALPLAN), host.tree(MOH), host.tree(SOUNDS))).collect();
    let second = main.sync_json([""; 0]);
    second.exits(0);
    assert_eq!(second.changes(), [""; 0]);
    for node in ["mds1", "mds2"] {
        for directory in second.node(node)["directories"].as_array().unwrap() {
            assert_eq!(
                (&directory["state"], &directory["bytes"]),
                (&"in-step".into(), &0.into()),
                "{directory}"
            );
        }
        for reload in second.node(node)["reloads"].as_array().unwrap() {
            assert_eq!(reload["state"], "not-needed", "{reload}");
        }
        assert_eq!((cluster[node].reload_count("dialplan"), cluster[node].reload_count("moh")), (1, 1));
    }
    for (host, (dialplan, moh, sounds)) in cluster.hosts().zip(before) {
        dialplan.assert_untouched(&host.tree(DIALPLAN));
        moh.assert_untouched(&host.tree(MOH));
        sounds.assert_untouched(&host.tree(SOUNDS));
    }
}

#[test]
fn a_dry_run_says_what_the_run_then_does_and_touches_nothing() {
    let cluster = cluster();
    let main = &cluster.main;
    cluster["mds1"].write_settled(format!("{SOUNDS}/recordings/mine.wav"), crate::support::wav(800));
    cluster["mds2"].write_settled(format!("{DIALPLAN}/10-doors.conf"), "[old]\n");
    let watched = [DIALPLAN, MOH, SOUNDS, "/etc/xds-sync", "/var/lib/asterisk"];
    let before: Vec<Vec<_>> =
        cluster.hosts().map(|host| watched.map(|path| host.tree(path)).into()).collect();

    let dry = main.sync_json(["--dry-run"]);
    dry.exits(0);
    assert_eq!(dry.json["dry_run"], true);
    for (host, before) in cluster.hosts().zip(before) {
        for (path, before) in watched.iter().zip(before) {
            before.assert_untouched(&host.tree(path));
        }
        assert!(!host.exists("/var/lib/xds-sync/status.json"));
        assert!(!host.syslog().iter().any(|line| line.contains("xivo-xds-sync")), "{}", host.name);
        assert_eq!(host.reload_count("dialplan"), 0);
    }
    main.xds_sync(["sync", "-n", "--exit-code"]).exits(6);

    let real = main.sync_json([""; 0]);
    real.exits(0);
    assert_eq!(real.changes(), dry.changes());
    assert_eq!(real.json["changes"], dry.json["changes"]);
    main.xds_sync(["sync", "-n", "--exit-code"]).exits(0);
}

#[test]
fn syslog_tells_the_run_under_its_ident() {
    let cluster = cluster();
    cluster.main.xds_sync(["sync"]).exits(0);
    let line = cluster.main.await_syslog("10-doors.conf");
    assert!(line.contains("xivo-xds-sync["), "{line}");
    cluster.main.await_syslog("2 nodes in step");
}

#[test]
fn it_works_by_its_old_name_and_behind_a_forced_command() {
    let cluster = Cluster::new().node("mds1").forced_command().build();
    let main = &cluster.main;
    main.write_settled(format!("{DIALPLAN}/10-doors.conf"), "[doors]\nexten => 7,1,Hangup()\n");
    main.sh("ln -s /usr/bin/xds-sync /tmp/xivo-xds-sync && /tmp/xivo-xds-sync -n").ok();
    assert!(!cluster["mds1"].exists(format!("{DIALPLAN}/10-doors.conf")));
    main.sh("/tmp/xivo-xds-sync").ok();
    assert!(cluster["mds1"].exists(format!("{DIALPLAN}/10-doors.conf")));
}
