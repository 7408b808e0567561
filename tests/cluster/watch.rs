//! The daemon: what changes anywhere is everywhere at once, whatever else happens.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Cluster, Host, LIMIT, Running, eventually, wav};

const DIALPLAN: &str = "/etc/asterisk/extensions_extra.d";
const DOORS: &str = "/etc/asterisk/extensions_extra.d/10-doors.conf";
/// On hosts without Asterisk.
const FILE: &str = "/var/lib/xivo/sounds/file";
const SOUNDS: &str = "/var/lib/xivo/sounds";
const RECORDINGS: &str = "/var/lib/xivo/sounds/recordings";
const CONFIG: &str = "/etc/xds-sync/config.toml";

fn doors(extension: u32) -> String {
    format!("[doors]\nexten => {extension},1,Hangup()\n")
}

/// How the daemon says it is; null where there is none.
fn live(main: &Host) -> Value {
    let output = main.xds_sync(["status", "--json"]);
    output.json()["daemon"].clone()
}

/// Starts the daemon; returns when it has a session with each of these nodes and nothing is left to do.
fn start(main: &Host, nodes: &[&str]) -> Running {
    start_with(main, nodes, &[])
}

fn start_with(main: &Host, nodes: &[&str], environment: &[&str]) -> Running {
    let mut argv = vec!["env"];
    argv.extend(environment);
    argv.extend(["xds-sync", "watch"]);
    let daemon = main.spawn(argv);
    await_idle(main, nodes);
    daemon
}

/// Waits until the daemon has a session with each of these nodes, and nothing left to do for them.
fn await_idle(main: &Host, nodes: &[&str]) {
    eventually("the daemon to have nothing left to do", LIMIT, || {
        let live = live(main);
        let is_idle = |name: &&str| {
            let node = live["nodes"].as_array().into_iter().flatten().find(|node| node["name"] == *name);
            node.is_some_and(|node| node["connected_since"].is_string() && node["lag_ms"].is_null())
        };
        live["running"] == 0 && nodes.iter().all(is_idle)
    });
}

fn await_text(host: &Host, path: &str, text: &str) {
    eventually(&format!("{text:?} in {path} on {}", host.name), LIMIT, || {
        host.exists(path) && host.read_text(path).contains(text)
    });
}

#[test]
fn what_changes_anywhere_is_everywhere_and_a_clean_stop_leaves_nothing() {
    let both = "[[directory]]\nname = \"dialplan\"\npath = \"/etc/asterisk/extensions_extra.d\"\nreload = [\"dialplan\"]\n\
                [[directory]]\nname = \"sounds\"\npath = \"/var/lib/xivo/sounds\"\n\
                [[directory]]\nname = \"recordings\"\npath = \"/var/lib/xivo/sounds/recordings\"\ndirection = \"both\"\n\
                settle = \"0s\"\n";
    let cluster = Cluster::new().nodes(3).more_config(both).build();
    let main = &cluster.main;
    main.write(DOORS, doors(7));
    let nodes = ["mds1", "mds2", "mds3"];
    let daemon = start(main, &nodes);

    // Written, and renamed into place; in a new directory; and removed. Nobody starts a run.
    main.write(DOORS, doors(8));
    main.sh(format!("mkdir -p {SOUNDS}/a/b && echo x >{SOUNDS}/a/b/new.wav")).ok();
    main.sh(format!("echo y >{SOUNDS}/.t && mv {SOUNDS}/.t {SOUNDS}/moved.wav")).ok();
    for node in &cluster.nodes {
        await_text(node, DOORS, "8,1");
        await_text(node, &format!("{SOUNDS}/a/b/new.wav"), "x");
        await_text(node, &format!("{SOUNDS}/moved.wav"), "y");
    }
    main.remove(format!("{SOUNDS}/a"));
    eventually("what was removed is gone", LIMIT, || {
        cluster.nodes.iter().all(|node| !node.exists(format!("{SOUNDS}/a")))
    });
    eventually("the change is loaded", LIMIT, || {
        cluster.nodes.iter().all(|node| node.asterisk("dialplan show doors").contains("'8'"))
    });

    // A recording made on a node comes to Main and to the others.
    cluster["mds2"].write(format!("{RECORDINGS}/2026/call.wav"), wav(800));
    for host in cluster.hosts() {
        eventually(&format!("the recording on {}", host.name), LIMIT, || {
            host.exists(format!("{RECORDINGS}/2026/call.wav"))
        });
    }
    await_idle(main, &nodes);
    assert_eq!(main.sync_json([""; 0]).exits(0).changes(), [""; 0], "a run beside it finds nothing to do");
    let text = main.xds_sync(["status"]).ok();
    assert!(text.contains("watching since") && text.contains("connected since"), "{text}");

    daemon.signal(Signal::TERM);
    daemon.wait_for(Duration::from_secs(20)).exits(0);
    eventually("no agent stays", LIMIT, || {
        cluster.nodes.iter().all(|node| !node.sh("pgrep -x xds-sync").success())
    });
    assert_eq!(live(main), Value::Null);
    main.sync_json([""; 0]).exits(0);
}

#[test]
fn a_node_that_is_away_delays_nobody_and_gets_all_when_it_returns() {
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    let (main, mds1, mds2) = (&cluster.main, &cluster["mds1"], &cluster["mds2"]);
    mds2.stop_sshd();
    let mut daemon = start(main, &["mds1"]);
    main.write(FILE, doors(7));
    await_text(mds1, FILE, "7,1");
    let log = || main.syslog().iter().filter(|line| line.contains("mds2: not connected")).count();
    eventually("it is said that mds2 is away", LIMIT, || log() == 1);
    mds2.start_sshd();
    await_text(mds2, FILE, "7,1");
    main.await_syslog("mds2: connected again");

    // Its line is cut: nothing is refused, nothing answers.
    cluster.cut("mds2");
    main.write(FILE, doors(8));
    await_text(mds1, FILE, "8,1");
    main.write(FILE, doors(9));
    await_text(mds1, FILE, "9,1");
    cluster.mend("mds2");
    await_text(mds2, FILE, "9,1");
    assert!(daemon.is_running());
    assert_eq!(log(), 1, "told once for each time that it goes");
}

#[test]
fn killed_at_any_moment_it_leaves_nothing_stale() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    let daemon = start(main, &["mds1"]);
    main.sh(format!("head -c 30000000 /dev/urandom >{SOUNDS}/large.wav")).ok();
    daemon.signal(Signal::KILL);
    let _ = daemon.wait();
    main.write(FILE, doors(7));
    // A run needs no daemon, and a new daemon no run.
    main.sync_json(["--wait"]).exits(0);
    main.tree(SOUNDS).assert_same(&mds1.tree(SOUNDS));
    let _daemon = start(main, &["mds1"]);
    main.write(FILE, doors(8));
    await_text(mds1, FILE, "8,1");
    let second = main.xds_sync(["watch"]);
    assert!(second.err().contains("running already"), "{second:?}");
}

#[test]
fn beside_it_sync_asks_it_and_the_configuration_is_read_again() {
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    let main = &cluster.main;
    let daemon = start(main, &["mds1", "mds2"]);
    // A dry run confirms nothing; a run through the daemon reports as itself.
    cluster["mds1"].write_settled(format!("{SOUNDS}/drifted.wav"), "drift");
    main.write_settled(format!("{SOUNDS}/drifted.wav"), "Main's");
    let dry = main.sync_json(["--dry-run", "--exit-code", "--node", "mds1"]);
    assert!([0, 6].contains(&dry.code), "{dry:?}");
    let run = main.sync_json(["--node", "mds1"]);
    run.exits(0);
    assert_eq!(run.json["nodes"].as_array().unwrap().len(), 1);
    main.xds_sync(["sync", "--dir", "nothing"]).exits(1);
    main.xds_sync(["sync", "--node", "nobody"]).exits(1);
    assert_eq!(cluster["mds1"].read_text(format!("{SOUNDS}/drifted.wav")), "Main's");

    // A bad configuration is refused, and the old one stays.
    let good = main.read_text(CONFIG);
    main.write(CONFIG, format!("{good}\n[sync]\nparallel = \"many\"\n"));
    daemon.signal(Signal::HUP);
    main.await_syslog("the configuration stays as it was");
    main.write(FILE, doors(7));
    await_text(&cluster["mds2"], FILE, "7,1");

    // A good one counts: mds2 is a node no longer.
    let without = good.replace("[[node]]\nname = \"mds2\"\naddress = \"10.77.0.12\"\n", "");
    assert_ne!(without, good);
    main.write(CONFIG, without);
    daemon.signal(Signal::HUP);
    eventually("the daemon has one node", LIMIT, || {
        live(main)["nodes"].as_array().is_some_and(|all| all.len() == 1)
    });
    main.write(FILE, doors(8));
    await_text(&cluster["mds1"], FILE, "8,1");
    assert!(cluster["mds2"].read_text(FILE).contains("7,1"));

    // One that was not read again yet is read when a run is asked for.
    main.write(CONFIG, good);
    main.sync_json([""; 0]).exits(0);
    assert!(cluster["mds2"].read_text(FILE).contains("8,1"));
}

#[test]
fn lost_events_and_a_limit_of_watches_cost_time_and_nothing_else() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    main.sh(format!("mkdir -p {SOUNDS}/d{{1..120}}")).ok();
    let daemon = start_with(main, &["mds1"], &["XDS_LIMITS=watches=100"]);
    let warning = main.await_syslog("fs.inotify.max_user_watches");
    assert!(warning.contains("sounds"), "{warning}");
    // Where nothing is watched it is looked at regularly.
    main.sh(format!("for d in {SOUNDS}/d*; do echo x >$d/f; done")).ok();
    eventually("all files are there", LIMIT, || {
        mds1.sh(format!("test $(find {SOUNDS} -name f | wc -l) = 120")).success()
    });
    drop(daemon);

    // A queue that overflows with every few events.
    let _daemon = start_with(main, &["mds1"], &["XDS_LIMITS=events=5"]);
    main.sh(format!("for d in {SOUNDS}/d*; do mkdir $d/new; echo y >$d/new/g; done")).ok();
    eventually("all files are there", LIMIT, || {
        mds1.sh(format!("test $(find {SOUNDS} -name g | wc -l) = 120")).success()
    });
    main.write(format!("{SOUNDS}/d7/new/late"), "z");
    await_text(mds1, &format!("{SOUNDS}/d7/new/late"), "z");
}

#[test]
fn twenty_edits_in_two_seconds_are_few_reloads_and_the_last_one_has_them_all() {
    let cluster = Cluster::new().nodes(2).build();
    let main = &cluster.main;
    main.write(DOORS, doors(1));
    let _daemon = start(main, &["mds1", "mds2"]);
    let before: Vec<usize> = cluster.nodes.iter().map(|node| node.reload_count("dialplan")).collect();
    main.sh(format!(
        "for n in $(seq 20); do printf '[e%s]\\nexten => 1,1,Hangup()\\n' $n >{DIALPLAN}/20-e$n.conf; sleep 0.1; done"
    ))
    .ok();
    for (node, before) in cluster.nodes.iter().zip(before) {
        eventually("the last edit is loaded", LIMIT, || {
            node.asterisk("dialplan show e20").contains("'1'")
                && node.asterisk("dialplan show e7").contains("'1'")
        });
        let reloads = node.reload_count("dialplan") - before;
        assert!((1..=3).contains(&reloads), "{reloads} reloads on {}", node.name);
    }
}

#[test]
fn once_it_does_what_is_due_and_ends() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    cluster.main.write(FILE, doors(7));
    cluster.main.sh("XDS_SYNC_SYNC_STATUS_GROUP=nogroup xds-sync watch --once").ok();
    assert!(cluster["mds1"].read_text(FILE).contains("7,1"));
    // It leaves what other runs leave: for monitors, and for the hub.
    let left = cluster
        .main
        .sh("cd /var/lib/xds-sync && stat --format '%a %G' status.json && stat --format %a overview.json")
        .ok();
    assert_eq!(left, "640 nogroup\n600\n");
    assert!(cluster.main.read_text("/var/lib/xds-sync/overview.json").contains("mds1"));
    cluster["mds1"].stop_sshd();
    cluster.main.xds_sync(["watch", "--once"]).exits(41);
}

#[test]
fn what_runs_put_in_place_themselves_starts_no_further_run() {
    let both = "[[directory]]\nname = \"recordings\"\npath = \"/var/lib/xivo/sounds/recordings\"\ndirection = \"both\"\n\
                settle = \"0s\"\ndelete = \"propagate\"\n";
    let cluster = Cluster::new().nodes(3).without_asterisk().more_config(both).build();
    let (main, nodes) = (&cluster.main, ["mds1", "mds2", "mds3"]);
    main.write(format!("{RECORDINGS}/first.wav"), wav(80));
    let _daemon = start(main, &nodes);
    let runs = || live(main)["runs"].as_u64().unwrap();
    let before = runs();
    // An echo of one would be a run of its own, or come with the run for the next one: never with all of them.
    for turn in 0..6 {
        let (node, path) = (nodes[turn % 3], format!("{RECORDINGS}/call{turn}.wav"));
        cluster[node].sh(format!("cp {RECORDINGS}/first.wav {path}")).ok();
        for host in cluster.hosts() {
            eventually(&format!("{path} on {}", host.name), LIMIT, || host.exists(&path));
        }
        await_idle(main, &nodes);
    }
    assert_eq!(runs() - before, 6, "one for each recording");

    // Somebody else's changes of the same files are changes.
    main.sh(format!("echo edited >{RECORDINGS}/call0.wav")).ok();
    cluster["mds3"].sh(format!("echo edited >{RECORDINGS}/call1.wav; rm {RECORDINGS}/call2.wav")).ok();
    for host in cluster.hosts() {
        eventually("both edits are there", LIMIT, || {
            host.sh(format!("cd {RECORDINGS} && grep -q edited call0.wav && grep -q edited call1.wav"))
                .success()
        });
        eventually("what was removed is gone", LIMIT, || !host.exists(format!("{RECORDINGS}/call2.wav")));
    }
    // Also where a run had removed them.
    cluster["mds2"].sh(format!("cp {RECORDINGS}/first.wav {RECORDINGS}/call2.wav")).ok();
    for host in cluster.hosts() {
        eventually("it is there again", LIMIT, || host.exists(format!("{RECORDINGS}/call2.wav")));
    }
}

#[test]
fn killed_in_the_middle_of_a_file_the_next_one_goes_on_and_nothing_stays() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    let daemon = start(main, &["mds1"]);
    cluster.slow_down("mds1", "8mbit");
    main.sh(format!("head -c 20000000 /dev/urandom >{SOUNDS}/.t && mv {SOUNDS}/.t {SOUNDS}/large.wav")).ok();
    let staged = || mds1.sh(format!("find {SOUNDS}/.xds-sync/stage -type f -size +1000k")).text();
    eventually("a part of the file to be there", LIMIT, || !staged().is_empty());
    daemon.signal(Signal::KILL);
    let _ = daemon.wait();
    assert!(!mds1.exists(format!("{SOUNDS}/large.wav")));
    assert_eq!(live(main), Value::Null, "nobody is asked where nobody listens");

    cluster.speed_up("mds1");
    let daemon = start(main, &["mds1"]);
    main.await_syslog("did not end: it was killed");
    main.tree(SOUNDS).assert_same(&mds1.tree(SOUNDS));
    assert_eq!(staged(), "");
    daemon.signal(Signal::TERM);
    daemon.wait_for(Duration::from_secs(20)).exits(0);
    for host in cluster.hosts() {
        eventually(&format!("no process of ours to be on {}", host.name), LIMIT, || {
            !host.sh("pgrep -x 'xds-sync|ssh'").success()
        });
    }
    assert_eq!(main.sh("ls -A /var/lib/xds-sync/ssh").ok(), "", "no socket of either");
}
