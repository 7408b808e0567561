//! Recordings go both ways.

use crate::support::Cluster;
use crate::support::wav;

const RECORDINGS: &str = "/var/lib/xivo/sounds/recordings";

fn at(name: &str) -> String {
    format!("{RECORDINGS}/{name}")
}

#[test]
fn what_is_recorded_anywhere_is_everywhere_after_one_run() {
    let cluster = Cluster::new().nodes(2).xivo_links().without_asterisk().build();
    for host in cluster.hosts() {
        host.write_settled(at(&format!("{}.wav", host.name)), wav(800));
    }
    cluster["mds2"].write_settled(at("2026/11/late.wav"), wav(1600));
    cluster.main.sync_json([""; 0]).exits(0);
    let everything = cluster.main.tree(RECORDINGS);
    for name in ["main.wav", "mds1.wav", "mds2.wav", "2026/11/late.wav"] {
        assert!(everything.get(name).is_some(), "{name}");
    }
    for node in ["mds1", "mds2"] {
        everything.assert_same(&cluster[node].tree(RECORDINGS));
    }
    assert_eq!(cluster.main.sync_json([""; 0]).exits(0).changes(), [""; 0]);
}

#[test]
fn a_deleted_recording_is_deleted_everywhere_and_stays_so() {
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    let main = &cluster.main;
    for name in ["a.wav", "b.wav", "c.wav", "d.wav"] {
        main.write_settled(at(name), name);
    }
    main.sync_json([""; 0]).exits(0);

    main.remove(at("a.wav"));
    cluster["mds1"].remove(at("b.wav"));
    cluster["mds2"].stop_sshd();
    main.sync_json([""; 0]).exits(40);
    for name in ["a.wav", "b.wav"] {
        assert!(!main.exists(at(name)) && !cluster["mds1"].exists(at(name)), "{name}");
        assert!(cluster["mds2"].exists(at(name)), "{name} was deleted on a node that could not be asked");
    }
    // Nothing is lost: each host that had it has it in its trash, but for the one where it was deleted by hand.
    assert!(main.sh(format!("find {RECORDINGS}/.xds-sync/trash -name b.wav")).ok().contains("b.wav"));

    cluster["mds2"].start_sshd();
    main.sync_json([""; 0]).exits(0);
    for host in cluster.hosts() {
        assert!(!host.exists(at("a.wav")) && !host.exists(at("b.wav")), "{}", host.name);
        assert!(host.exists(at("c.wav")));
    }
    assert_eq!(main.sync_json([""; 0]).exits(0).changes(), [""; 0]);
}

#[test]
fn a_recording_being_made_is_held_back_until_it_is_whole() {
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    main.write_settled(at("first.wav"), wav(800));
    main.sync_json([""; 0]).exits(0);

    // Asterisk fills in the RIFF size when it closes the file.
    let mut unfinished = wav(800);
    unfinished[4..8].fill(0);
    mds1.write_settled(at("call.wav"), &unfinished);
    mds1.write_settled(at("begun.gsm"), "");
    let held = main.sync_json([""; 0]);
    held.exits(0);
    assert_eq!(
        held.changes(),
        ["recordings mds1 main hold begun.gsm", "recordings mds1 main hold call.wav"].map(str::to_owned)
    );
    assert!(!main.exists(at("call.wav")) && !main.exists(at("begun.gsm")));

    mds1.write_settled(at("call.wav"), wav(800));
    mds1.write_settled(at("begun.gsm"), "whole");
    main.sync_json([""; 0]).exits(0);
    main.tree(RECORDINGS).assert_same(&cluster["mds2"].tree(RECORDINGS));
    assert_eq!(main.read(at("call.wav")), wav(800));
}

#[test]
fn a_file_open_for_writing_is_held_back() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    mds1.write_settled(at("call.ulaw"), "first words");
    let writer = mds1.spawn([
        "bash",
        "-c",
        &format!("exec 3>>{}; touch -d '1 hour ago' {0}; exec sleep 600", at("call.ulaw")),
    ]);
    crate::support::eventually("the file is open", std::time::Duration::from_secs(10), || {
        mds1.sh("ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c call.ulaw || true").text().trim() != "0"
    });
    let held = main.sync_json([""; 0]);
    assert!(
        held.changes().contains(&"recordings mds1 main hold call.ulaw".to_owned()),
        "{:?}",
        held.changes()
    );
    writer.signal(rustix::process::Signal::KILL);
    writer.wait();
    main.sync_json([""; 0]).exits(0);
    assert_eq!(main.read_text(at("call.ulaw")), "first words");
}

#[test]
fn the_version_that_loses_a_conflict_is_in_the_trash() {
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    let main = &cluster.main;
    main.write_settled(at("greeting.wav"), "first");
    main.sync_json([""; 0]).exits(0);
    main.write_settled(at("greeting.wav"), "Main's");
    cluster["mds1"].write_settled(at("greeting.wav"), "the node's");
    let run = main.sync_json([""; 0]);
    run.exits(0);
    assert_eq!(
        run.changes(),
        ["recordings mds1 node conflict greeting.wav", "recordings mds2 node update greeting.wav"]
            .map(str::to_owned)
    );
    for host in cluster.hosts() {
        assert_eq!(host.read_text(at("greeting.wav")), "Main's");
    }
    let trash = cluster["mds1"].sh(format!("grep -r . {RECORDINGS}/.xds-sync/trash"));
    assert!(trash.ok().contains("the node's"));
}
