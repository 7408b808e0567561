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
    let output = main.xds_sync(["sync"]);
    assert!(output.text().contains(&format!("--accept-deletes {token}")), "{}", output.text());

    // The token is of this plan and of no other.
    main.remove(sounds("16.wav"));
    let other = main.sync_json(["--accept-deletes", token]);
    other.exits(25);
    assert!(other.json["problems"].to_string().contains("releases no plan of this run"), "{:?}", other.json);
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
    run.exits(3);
    assert!(!mds1.exists(sounds("3.wav")), "another root than before is left alone");
    let tokens = run.json["halted"].as_array().unwrap().iter().filter_map(|guard| guard["token"].as_str());
    let released: Vec<&str> = tokens.flat_map(|token| ["--accept-deletes", token]).collect();
    let run = main.sync_json(&released);
    run.exits(0);
    assert!(mds1.exists(sounds("3.wav")));
    assert!(main.exists(sounds("3.wav")));
    assert_eq!(main.sync_json([""; 0]).exits(0).changes(), [""; 0]);
}

#[test]
fn the_last_recording_may_be_deleted_but_not_several_at_once() {
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    let main = &cluster.main;
    let at = |name: &str| format!("{SOUNDS}/recordings/{name}");
    for name in ["a.wav", "b.wav"] {
        main.write_settled(at(name), name);
    }
    main.sync_json([""; 0]).exits(0);
    cluster["mds1"].remove(at("a.wav"));
    cluster["mds1"].remove(at("b.wav"));
    let run = main.sync_json([""; 0]);
    run.exits(25);
    let state = |node: &str| {
        let directories = run.node(node)["directories"].as_array().unwrap();
        directories.iter().find(|directory| directory["name"] == "recordings").unwrap()["state"].clone()
    };
    assert_eq!(
        (state("mds1"), state("mds2")),
        ("halted".into(), "in-step".into()),
        "the others go on without it"
    );
    assert!(main.exists(at("a.wav")) && cluster["mds2"].exists(at("b.wav")));

    cluster["mds1"].write_settled(at("a.wav"), "a.wav");
    main.sync_json([""; 0]).exits(0);
    assert!(!main.exists(at("b.wav")));
    cluster["mds1"].remove(at("a.wav"));
    main.sync_json([""; 0]).exits(0);
    assert!(!main.exists(at("a.wav")) && !cluster["mds2"].exists(at("a.wav")));
}

#[test]
fn a_full_node_halts_alone_and_goes_on_when_there_is_room() {
    let cluster = Cluster::new().nodes(2).build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    mds1.sh("mount -t tmpfs -o size=1m tmpfs /var/lib/xivo/moh && chown asterisk:www-data /var/lib/xivo/moh")
        .ok();
    let song = "/var/lib/xivo/moh/default/song.wav";
    main.write_settled(song, vec![1; 2_000_000]);
    main.write_settled(sounds("a.wav"), "a");
    let dry = main.sync_json(["-n"]);
    let run = main.sync_json([""; 0]);
    run.exits(23);
    assert_eq!(dry.changes(), run.changes());
    assert!(!run.changes().iter().any(|change| change.starts_with("moh mds1")), "{:?}", run.changes());
    assert_eq!(run.json["halted"][0]["guard"], "free_space");
    let (moh, detail) = ("/var/lib/xivo/moh", run.json["halted"][0]["detail"].as_str().unwrap());
    assert!(detail.contains(&format!("on the disk of {moh}, mounted at {moh}, ")), "{detail}");
    assert!(!mds1.exists(song) && mds1.exists(sounds("a.wav")) && cluster["mds2"].exists(song));
    mds1.sh("mount -o remount,size=64m /var/lib/xivo/moh").ok();
    main.sync_json([""; 0]).exits(0);
    assert_eq!(mds1.read(song), main.read(song));
}

const RECORDINGS: &str = "/var/lib/xivo/sounds/recordings";

#[test]
fn what_one_node_overwrites_everywhere_waits_for_its_token() {
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    let (main, mds1, mds2) = (&cluster.main, &cluster["mds1"], &cluster["mds2"]);
    main.write(
        "/etc/xds-sync/conf.d/trash.toml",
        "[sync]\ntrash_max = \"1 MiB\"\n[[directory]]\nname = \"recordings\"\npath = \"/var/lib/xivo/sounds/recordings\"\n\
         direction = \"both\"\nmax_add = \"3 MiB\"\n",
    );
    let at = |name: &str| format!("{RECORDINGS}/{name}");
    let original = |number: u64| format!("recording {number} ").repeat(6000);
    for number in 0..30 {
        main.write_settled(at(&format!("{number}.wav")), original(number));
    }
    main.sync_json([""; 0]).exits(0);
    for number in 0..30 {
        mds1.write_settled(at(&format!("{number}.wav")), format!("encrypted {number}"));
    }
    mds2.write_settled(at("new.wav"), "new");
    let halted = main.sync_json([""; 0]);
    halted.exits(25);
    let guard = &halted.json["halted"][0];
    assert_eq!((&guard["directory"], &guard["guard"]), (&"recordings".into(), &"max_change".into()));
    assert!(guard["detail"].as_str().unwrap().contains("30 of 30 files"), "{guard}");
    for host in [main, mds2] {
        assert_eq!(host.read_text(at("7.wav")), original(7), "{}", host.name);
        assert_eq!(host.read_text(at("new.wav")), "new", "the other node's part goes on");
    }

    let token = guard["token"].as_str().unwrap();
    main.sync_json(["--accept-deletes", token]).exits(0);
    assert_eq!(mds2.read_text(at("7.wav")), "encrypted 7");
    // Their originals are beyond trash_max, and too young to go: nothing more is replaced, and new files arrive.
    mds1.write_settled(at("7.wav"), "once more");
    let full = main.sync_json([""; 0]);
    full.exits(23);
    assert_eq!(full.json["halted"][0]["guard"], "free_space", "{}", full.json);
    let trashed = |name: &str| main.sh(format!("find {RECORDINGS}/.xds-sync/trash -name {name}")).ok();
    assert!((0..30).all(|number| trashed(&format!("{number}.wav")).contains("wav")), "an original is gone");
    assert_eq!(mds2.read_text(at("7.wav")), "encrypted 7");
    mds1.write_settled(at("7.wav"), "encrypted 7");
    mds1.write_settled(at("more.wav"), "more");
    main.sync_json([""; 0]).exits(0);
    assert_eq!(mds2.read_text(at("more.wav")), "more");

    mds2.write_settled(at("huge.wav"), vec![7; 4 << 20]);
    let huge = main.sync_json([""; 0]);
    huge.exits(23);
    assert_eq!(huge.json["halted"][0]["guard"], "max_add", "{}", huge.json);
    assert!(!main.exists(at("huge.wav")));
    let token = huge.json["halted"][0]["token"].as_str().unwrap();
    main.sync_json(["--accept-deletes", token]).exits(0);
    assert!(main.exists(at("huge.wav")) && mds1.exists(at("huge.wav")));
}

#[test]
fn root_on_one_node_keeps_nobody_from_recording() {
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    let (main, mds1, mds2) = (&cluster.main, &cluster["mds1"], &cluster["mds2"]);
    main.sh(format!("mkdir {RECORDINGS}/monitor && chown asterisk:www-data {RECORDINGS}/monitor")).ok();
    main.write_settled(format!("{RECORDINGS}/monitor/a.wav"), "a");
    main.sync_json([""; 0]).exits(0);
    mds1.sh(format!(
        "cd {RECORDINGS}/monitor && chmod 0500 . && chown root:root . && mkdir -m 0500 tomorrow && echo x > tomorrow/x.wav \
         && touch -d '1 hour ago' tomorrow/x.wav"
    ))
    .ok();
    main.sync_json([""; 0]).exits(0);
    for host in [main, mds1, mds2] {
        let found =
            host.sh(format!("stat -c '%a %U:%G' {RECORDINGS}/monitor {RECORDINGS}/monitor/tomorrow")).ok();
        assert_eq!(found, "2755 asterisk:www-data\n2755 asterisk:www-data\n", "{}", host.name);
    }
}
