//! A disk that fills and a file that changes while content is on its way.

use std::time::Duration;

use crate::support::{Cluster, eventually, noise};

const SOUNDS: &str = "/var/lib/xivo/sounds";
const MIB: usize = 1 << 20;

fn sounds(name: &str) -> String {
    format!("{SOUNDS}/{name}")
}

/// So slow that there is time to do something meanwhile.
fn slow(cluster: &Cluster) {
    cluster.main.write("/etc/xds-sync/conf.d/slow.toml", "[sync]\nbandwidth = \"4 MiB/s\"\n");
}

fn await_content_on_its_way(cluster: &Cluster) {
    eventually("content is on its way", Duration::from_secs(20), || {
        cluster["mds1"].sh(format!("find {SOUNDS}/.xds-sync/stage -size +64k")).text().contains("stage")
    });
}

#[test]
fn a_disk_that_fills_during_the_transfer_keeps_its_old_files_and_delays_nobody() {
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    let (main, mds1, mds2) = (&cluster.main, &cluster["mds1"], &cluster["mds2"]);
    mds1.sh(format!("mount -t tmpfs -o size=64m,mode=2775 tmpfs {SOUNDS} && mkdir {SOUNDS}/recordings")).ok();
    let (old, new) = (|number: u8| noise(number, MIB), |number: u8| noise(100 + number, MIB));
    let name = |number: u8| sounds(&format!("f{number}.wav"));
    for number in 0..8 {
        main.write_settled(name(number), old(number));
    }
    main.sync_json([""; 0]).exits(0);

    for number in 0..8 {
        main.write_settled(name(number), new(number));
    }
    slow(&cluster);
    let run = main.spawn_xds_sync(["sync", "--json"]);
    await_content_on_its_way(&cluster);
    // Somebody else takes all the room there is; that file is nobody's to carry.
    mds1.sh(format!("dd if=/dev/zero of={} bs=64k 2>/dev/null || true", sounds("xds_override.fill"))).ok();
    let run = run.wait();
    run.exits(23);
    let problems = run.json()["problems"].to_string();
    assert!(problems.contains("mds1") && problems.contains("No space left"), "{problems}");
    for number in 0..8 {
        let seen = mds1.read(name(number));
        assert!(seen == old(number) || seen == new(number), "{number} is torn");
        assert_eq!(mds2.read(name(number)), new(number));
    }
    assert!((0..8).any(|number| mds1.read(name(number)) == old(number)), "the disk was never full");

    mds1.remove(sounds("xds_override.fill"));
    main.remove("/etc/xds-sync/conf.d/slow.toml");
    main.sync_json([""; 0]).exits(0);
    for number in 0..8 {
        assert_eq!(mds1.read(name(number)), new(number));
    }
    assert_eq!(mds1.sh(format!("ls -A {SOUNDS}/.xds-sync/stage")).text(), "");
}

#[test]
fn a_file_that_is_rewritten_during_its_transfer_never_arrives_torn() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    let name = sounds("long.wav");
    let versions = [1, 2, 3].map(|version| noise(version, 6 * MIB));
    main.write_settled(&name, &versions[0]);
    main.sync_json([""; 0]).exits(0);
    main.write_settled(&name, &versions[1]);
    slow(&cluster);
    let run = main.spawn_xds_sync(["sync", "--json"]);
    await_content_on_its_way(&cluster);
    // In place, as an editor or `cp` does, from its first byte on.
    main.write_settled(&name, &versions[2]);
    run.wait();
    let seen = mds1.read(&name);
    assert!(versions.contains(&seen), "torn");
    main.remove("/etc/xds-sync/conf.d/slow.toml");
    main.sync_json([""; 0]).exits(0);
    assert_eq!(mds1.read(&name), versions[2]);
    assert_eq!(main.sync_json([""; 0]).exits(0).changes(), [""; 0]);
}

/// A quota is over, or the disk full, in the middle of one file: root of a node meets that on a network filesystem.
#[test]
fn a_quota_that_is_over_in_the_middle_of_a_file_fails_that_file_alone() {
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    main.write_settled(sounds("old.wav"), noise(1, MIB));
    main.sync_json([""; 0]).exits(0);
    for (errno, words) in [("122", "Disk quota exceeded"), ("28", "No space left on device")] {
        let names = ["a", "b", "c"].map(|name| sounds(&format!("{errno}{name}.wav")));
        for (number, name) in (2..).zip(&names) {
            main.write_settled(name, noise(number + 10 * errno.len() as u8, 3 * MIB));
        }
        // The first file's second block.
        main.write(
            "/etc/xds-sync/conf.d/fault.toml",
            format!("[ssh]\nagent = \"env XDS_FAULT=stage.write:2={errno} xds-sync agent\"\n"),
        );
        let run = main.sync_json([""; 0]);
        run.exits(23);
        let problems = run.json["problems"].as_array().unwrap();
        let failed: Vec<String> = problems.iter().map(|problem| problem["path"].to_string()).collect();
        assert!(!problems.is_empty() && problems.len() < 6, "{problems:?}");
        assert!(
            problems.iter().all(|problem| problem["detail"].as_str().unwrap().contains(words)),
            "{problems:?}"
        );
        assert!(!run.json.to_string().contains("os error"), "{}", run.json);
        for name in &names {
            assert_eq!(
                mds1.exists(name),
                !failed.iter().any(|path| name.ends_with(path.trim_matches('"'))),
                "{name}"
            );
        }
        main.remove("/etc/xds-sync/conf.d/fault.toml");
        main.sync_json([""; 0]).exits(0);
        main.tree(SOUNDS).assert_same(&mds1.tree(SOUNDS));
        assert_eq!(mds1.sh(format!("ls -A {SOUNDS}/.xds-sync/stage")).text(), "");
    }
}

#[test]
fn a_full_disk_of_mains_state_is_told_as_such_and_nothing_is_half_recorded() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    let state = "/var/lib/xds-sync";
    main.sh(format!("mkdir -p {state} && mount -t tmpfs -o size=8m,mode=0700 tmpfs {state}")).ok();
    main.write_settled(sounds("old.wav"), "old");
    main.sync_json([""; 0]).exits(0);
    main.sh(format!("dd if=/dev/zero of={state}/filler bs=64k 2>/dev/null; df {state}")).ok();

    main.write_settled(sounds("old.wav"), "new");
    main.write_settled(sounds("more.wav"), "more");
    let run = main.xds_sync(["sync"]);
    assert_ne!(run.code, 0, "{run:?}");
    let said = run.err() + &run.text() + &main.syslog().join("\n");
    assert!(said.contains(state) && said.contains("No space left on device"), "{said}");
    assert!(!said.contains("os error"), "{said}");
    let status = main.xds_sync(["status"]);
    assert_ne!(status.code, 70, "{status:?}");

    main.remove(format!("{state}/filler"));
    main.sync_json([""; 0]).exits(0);
    main.tree(SOUNDS).assert_same(&mds1.tree(SOUNDS));
    assert_eq!(main.sync_json([""; 0]).exits(0).changes(), [""; 0]);
}
