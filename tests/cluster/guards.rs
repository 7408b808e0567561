//! What stops a run before it deletes suspiciously much.

use crate::support::Cluster;

const SOUNDS: &str = "/var/lib/xivo/sounds";

fn sounds(name: &str) -> String {
    format!("{SOUNDS}/{name}")
}

fn cluster() -> Cluster {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    for number in 0..20 {
        cluster.main.write_settled(sounds(&format!("{number}.wav")), number.to_string());
    }
    cluster.main.sync_json([""; 0]).exits(0);
    cluster
}

#[test]
fn more_deletions_than_max_delete_wait_for_their_token() {
    let cluster = cluster();
    let main = &cluster.main;
    for number in 0..15 {
        main.remove(sounds(&format!("{number}.wav")));
    }
    let halted = main.sync_json([""; 0]);
    halted.exits(25);
    let guard = &halted.json["halted"][0];
    assert_eq!((&guard["directory"], &guard["guard"]), (&"sounds".into(), &"max_delete".into()));
    assert!(cluster["mds1"].exists(sounds("3.wav")));
    let token = guard["token"].as_str().unwrap();
    let told = main.xds_sync(["sync"]);
    assert!(told.text().contains(&format!("--accept-deletes {token}")), "{}", told.text());

    // The token is of this plan and of no other.
    main.remove(sounds("16.wav"));
    main.sync_json(["--accept-deletes", token]).exits(25);
    main.write_settled(sounds("16.wav"), "16");
    main.sync_json(["--accept-deletes", token]).exits(0);
    assert!(!cluster["mds1"].exists(sounds("3.wav")) && cluster["mds1"].exists(sounds("16.wav")));
    main.sync_json([""; 0]).exits(0);
}

#[test]
fn a_root_that_is_gone_emptied_or_another_one_deletes_nothing() {
    let cluster = cluster();
    let main = &cluster.main;
    let keeps = || assert!(cluster["mds1"].exists(sounds("3.wav")), "files were deleted on the node");

    main.sh(format!("mkdir /tmp/away && mv {SOUNDS}/*.wav /tmp/away")).ok();
    main.sync_json([""; 0]).exits(25);
    keeps();
    main.sh(format!("mv /tmp/away/*.wav {SOUNDS}")).ok();
    main.sync_json([""; 0]).exits(0);

    main.rename(SOUNDS, "/var/lib/xivo/away");
    main.sync_json(["--dir", "sounds"]).exits(3);
    keeps();
    // As when a disk is not mounted: the empty mount point.
    main.mkdir(SOUNDS);
    main.sync_json(["--dir", "sounds"]).exits(3);
    keeps();
    main.write_settled(sounds("other.wav"), "x");
    main.sync_json(["--dir", "sounds"]).exits(3);
    keeps();
    main.sh(format!("rm -r {SOUNDS}")).ok();
    main.rename("/var/lib/xivo/away", SOUNDS);
    main.sync_json([""; 0]).exits(0);
}

#[test]
fn a_node_whose_root_is_gone_halts_and_a_new_one_is_filled() {
    let cluster = cluster();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    mds1.rename("/var/lib/xivo/moh", "/var/lib/xivo/moh.away");
    let run = main.sync_json([""; 0]);
    run.exits(3);
    assert!(!mds1.exists("/var/lib/xivo/moh"));

    mds1.rename("/var/lib/xivo/moh.away", "/var/lib/xivo/moh");
    mds1.rename(SOUNDS, "/var/lib/xivo/sounds.away");
    mds1.mkdir(sounds("recordings"));
    let run = main.sync_json([""; 0]);
    run.exits(0);
    assert!(mds1.exists(sounds("3.wav")));
    assert!(main.exists(sounds("3.wav")));
}
