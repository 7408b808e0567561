//! Main's or a node's state is wrong, old or damaged: then nothing is deleted.

use crate::support::Cluster;

const SOUNDS: &str = "/var/lib/xivo/sounds";

fn sounds(name: &str) -> String {
    format!("{SOUNDS}/{name}")
}

fn cluster() -> Cluster {
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    for name in ["a.wav", "b.wav", "c.wav", "recordings/r1.wav", "recordings/r2.wav", "recordings/r3.wav"] {
        cluster.main.write_settled(sounds(name), name);
    }
    cluster.main.sync_json([""; 0]).exits(0);
    cluster
}

fn problems(run: &crate::support::Run) -> String {
    run.json["problems"].to_string()
}

#[test]
fn a_node_restored_from_an_old_image_deletes_nothing_anywhere() {
    let cluster = cluster();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    mds1.sh("tar -C / -cf /srv/image.tar var/lib/xivo var/lib/xds-sync").ok();
    main.write_settled(sounds("recordings/new.wav"), "made after the image");
    main.remove(sounds("a.wav"));
    main.sync_json([""; 0]).exits(0);
    mds1.sh(format!(
        "rm -r /var/lib/xivo/* /var/lib/xds-sync/* && tar -C / -xf /srv/image.tar && ls {SOUNDS}"
    ))
    .ok();

    let run = main.sync_json([""; 0]);
    run.exits(0);
    assert!(problems(&run).contains("replaced or restored"), "{}", problems(&run));
    assert!(!run.changes().iter().any(|change| change.contains(" delete ")), "{:?}", run.changes());
    for host in cluster.hosts() {
        for name in ["b.wav", "c.wav", "recordings/r1.wav", "recordings/r2.wav", "recordings/new.wav"] {
            assert!(host.exists(sounds(name)), "{} lost {name}", host.name);
        }
    }
    assert_eq!(main.sync_json([""; 0]).exits(0).changes(), [""; 0]);
}

#[test]
fn a_replaced_disk_is_filled_and_empties_nobody() {
    let cluster = cluster();
    let mds1 = &cluster["mds1"];
    mds1.sh(format!("mount -t tmpfs tmpfs {SOUNDS} && mkdir {SOUNDS}/recordings")).ok();
    let halted = cluster.main.sync_json([""; 0]);
    halted.exits(3);
    let guards = halted.json["halted"].as_array().unwrap();
    assert_eq!(guards.len(), 2, "{guards:?}");
    let tokens: Vec<&str> = guards.iter().filter_map(|guard| guard["token"].as_str()).collect();
    assert!(guards.iter().all(|guard| guard["guard"] == "node_root_replaced"), "{guards:?}");
    let run = cluster.main.sync_json(["--accept-deletes", tokens[0], "--accept-deletes", tokens[1]]);
    run.exits(0);
    for host in cluster.hosts() {
        for name in ["a.wav", "recordings/r1.wav"] {
            assert!(host.exists(sounds(name)), "{} lost {name}", host.name);
        }
    }
}

#[test]
fn a_damaged_base_is_said_and_counts_as_none() {
    let cluster = cluster();
    let main = &cluster.main;
    for damage in
        ["truncate -s 20", "dd if=/dev/zero bs=1 count=4 seek=60 conv=notrunc status=none of=", "echo x >"]
    {
        for directory in ["sounds", "recordings"] {
            let space = if damage.ends_with('=') { "" } else { " " };
            main.sh(format!("{damage}{space}/var/lib/xds-sync/edges/{directory}/mds1")).ok();
        }
        main.remove(sounds("recordings/r1.wav"));
        let run = main.sync_json([""; 0]);
        run.exits(0);
        assert!(problems(&run).contains("cannot be trusted"), "{}", problems(&run));
        assert!(
            main.exists(sounds("recordings/r1.wav")),
            "what only one end has is not deleted without a base"
        );
        assert!(cluster["mds1"].exists(sounds("a.wav")));
        assert_eq!(main.sync_json([""; 0]).exits(0).changes(), [""; 0]);
    }
}

#[test]
fn a_damaged_ledger_ends_the_run_before_anything_is_touched() {
    let cluster = cluster();
    let main = &cluster.main;
    main.remove(sounds("a.wav"));
    main.sh("sed -i 's/roots/rOots/' /var/lib/xds-sync/ledger.json").ok();
    let run = main.xds_sync(["sync"]);
    run.exits(1);
    assert!(run.err().contains("ledger.json") && run.err().contains("move it away"), "{}", run.err());
    assert!(cluster["mds1"].exists(sounds("a.wav")));
}

#[test]
fn a_damaged_hash_cache_is_made_anew() {
    let cluster = cluster();
    for host in cluster.hosts() {
        host.sh("for f in /var/lib/xds-sync/cache/*; do echo nonsense > $f; done").ok();
    }
    assert_eq!(cluster.main.sync_json([""; 0]).exits(0).changes(), [""; 0]);
}
