//! What an administrator is told of a run: enough, and no more.

use crate::support::{Cluster, Host, LIMIT, eventually};

const SOUNDS: &str = "/var/lib/xivo/sounds";
/// Rows of a terminal.
const SCREEN: usize = 24;

#[test]
fn a_run_is_told_on_one_screen_and_says_what_it_would_do_and_what_is_wrong() {
    let cluster = Cluster::new().nodes(3).build();
    let main = &cluster.main;
    main.sh(format!(
        "mkdir {SOUNDS}/en && cd {SOUNDS}/en && for i in $(seq 3000); do echo $i >s$i.wav; done"
    ))
    .ok();
    let doors = "/etc/asterisk/extensions_extra.d/10-doors.conf";
    main.write_settled(doors, "[doors]\nexten => 700,1,Answer()\n");

    // Before and after it is done, in the same words.
    let counted = "sounds: main -> mds1, mds2, mds3: 3001 created (13.6 KiB)";
    let dry = main.xds_sync(["sync", "-n"]).ok();
    assert!(dry.contains(counted) && dry.contains("create 10-doors.conf (32 B)"), "{dry}");
    assert!(dry.contains("dialplan reload would be done") && dry.contains("KiB to send"), "{dry}");
    assert!(main.xds_sync(["sync", "-n", "-v"]).ok().lines().count() > 3000);
    let done = main.xds_sync(["sync"]).ok();
    assert!(done.contains(counted) && done.lines().count() < SCREEN, "{done}");
    assert!(main.xds_sync(["sync", "-n"]).ok().starts_with("0 changes would be made ("));

    main.sh(format!("chmod 640 {doors}; chown asterisk {SOUNDS}/en/s1.wav; touch {SOUNDS}/en/s2.wav")).ok();
    let text = main.xds_sync(["sync", "-n"]).ok();
    for (path, what) in [("10-doors.conf", "mode"), ("en/s1.wav", "owner"), ("en/s2.wav", "time")] {
        assert!(text.contains(&format!("main -> mds1, mds2, mds3: metadata {path} ({what})\n")), "{text}");
    }

    // A node that accepts no changes gets none, and a dry run says so.
    cluster["mds3"].sh("echo 'read_only = true' >>/etc/xds-sync/node.toml").ok();
    let dry = main.xds_sync(["sync", "-n"]);
    dry.exits(40);
    assert!(dry.text().contains("main -> mds1, mds2: metadata 10-doors.conf"), "{}", dry.text());
    assert!(
        dry.text().contains("the node accepts no changes") && dry.text().contains("1 of 3 nodes not reached")
    );
    let run = main.sync_json([""; 0]);
    run.exits(40);
    assert_eq!(run.node("mds3")["state"], "refused");
    cluster["mds3"].sh("sed -i /read_only/d /etc/xds-sync/node.toml").ok();
    main.xds_sync(["sync"]).exits(0);

    // What a guard stopped can be judged.
    main.sh(format!("rm {SOUNDS}/en/s[12]*.wav")).ok();
    let halted = main.xds_sync(["sync"]);
    let text = halted.exits(25).text();
    assert!(
        text.contains("such as en/s1.wav, en/s10.wav, en/s100.wav; all of them: xds-sync sync -n"),
        "{text}"
    );
    assert!(
        text.contains("if it is not, from the nodes, which still have it: xds-sync restore sounds en\n"),
        "{text}"
    );
    assert!(text.lines().count() < SCREEN, "{text}");
}

fn begun(main: &Host) -> bool {
    main.exists("/var/lib/xds-sync/running.json")
}

#[test]
fn a_run_is_visible_while_it_lasts_and_one_that_was_killed_is_told_by_the_next() {
    let cluster =
        Cluster::new().nodes(2).without_asterisk().more_config("[sync]\ntimeout = \"2s\"\n").build();
    let main = &cluster.main;
    main.sync_json([""; 0]).exits(0);
    // It waits for a node that does not answer.
    main.sh("sed -i 's/2s/600s/' /etc/xds-sync/config.toml").ok();
    cluster.cut("mds1");
    let run = main.spawn_xds_sync(["sync"]);
    eventually("the run to begin", LIMIT, || begun(main));
    let status = main.xds_sync(["status"]).text();
    assert!(status.contains("\na run is going on since 2"), "{status}");
    assert!(main.xds_sync(["status", "--json"]).json()["running"]["pid"].is_number());
    main.await_syslog(" begins");
    main.sh("kill -KILL $(cat /var/lib/xds-sync/lock)").ok();
    drop(run);
    let status = main.xds_sync(["status"]).text();
    assert!(status.contains(" did not end\n"), "{status}");

    cluster.mend("mds1");
    let next = main.xds_sync(["sync"]).ok();
    assert!(next.contains("before this one, begun at 2") && next.contains("did not end"), "{next}");
    assert!(!main.xds_sync(["sync"]).ok().contains("did not end"));

    // Whoever ends a run has not lost the nodes.
    cluster.cut("mds1");
    let run = main.spawn_xds_sync(["sync"]);
    eventually("the run to begin", LIMIT, || begun(main));
    main.sh("kill -INT $(cat /var/lib/xds-sync/lock)").ok();
    let run = run.wait();
    let text = run.exits(20).text();
    assert!(text.contains("mds1  partly in step: interrupted\n") && !text.contains("unreachable"), "{text}");
    let status = main.xds_sync(["status"]).text();
    assert!(status.contains("mds1  in step since "), "{status}");
    cluster.mend("mds1");

    // The cron job tells what is news.
    cluster["mds2"].stop_sshd();
    let mails = || main.xds_sync(["sync", "--quiet", "--cron"]).text();
    let mail = mails();
    assert!(mail.starts_with("mds2  unreachable: ") && mail.lines().count() == 2, "{mail}");
    assert_eq!(mails(), "");
    let by_hand = main.xds_sync(["sync", "-q"]).text();
    assert!(by_hand.starts_with("mds2  unreachable: "), "{by_hand}");
    cluster["mds2"].start_sshd();
    let mail = mails();
    assert!(mail.starts_with("over: mds2 unreachable (since 2"), "{mail}");
    assert_eq!(mails(), "");

    // A media server is not a Main without nodes.
    let there = cluster["mds1"].xds_sync(["sync"]);
    there.exits(1);
    assert!(there.err().contains("this host is a media server of main: run this there"), "{}", there.err());
    assert!(!cluster["mds1"].exists("/var/lib/xds-sync/last-success"));
    // Nor are mistakes one line.
    main.write("/etc/xds-sync/conf.d/typo.toml", "[sync]\nparalel = 8\ntrash = 1\n");
    main.xds_sync(["sync"]).exits(1);
    main.await_syslog("typo.toml:2: unknown key");
    main.await_syslog("typo.toml:3: unknown key");
}
