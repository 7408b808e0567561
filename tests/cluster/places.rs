//! What the place where files come to does to them: disks that keep less than they are given, take nothing, or have
//! changed hands.

use crate::support::{Cluster, Run};

const SOUNDS: &str = "/var/lib/xivo/sounds";
const RECORDINGS: &str = "/var/lib/xivo/sounds/recordings";

fn sounds(name: &str) -> String {
    format!("{SOUNDS}/{name}")
}

fn recordings(name: &str) -> String {
    format!("{RECORDINGS}/{name}")
}

fn problems(run: &Run) -> String {
    run.json["problems"].to_string()
}

/// The bytes of a directory of a node that a run put on the wire.
fn bytes(run: &Run, directory: &str) -> u64 {
    let directories = run.node("mds1")["directories"].as_array().unwrap();
    let found = directories.iter().find(|found| found["name"] == directory).unwrap();
    found["bytes"].as_u64().unwrap()
}

#[test]
fn what_disks_do_not_keep_is_told_once_and_costs_no_content() {
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    let (main, mds1, mds2) = (&cluster.main, &cluster["mds1"], &cluster["mds2"]);
    // As a network filesystem without root's rights is, and one of whole seconds.
    mds1.sh(format!(
        "mknod /dev/fuse c 10 229 && mkdir -p /srv/behind/recordings && \
         bindfs -o nonempty --chown-deny --chgrp-deny /srv/behind {SOUNDS}"
    ))
    .ok();
    mds2.sh(format!(
        "mknod /dev/loop-control c 10 237 && for n in $(seq 0 63); do mknod /dev/loop$n b 7 $n; done && \
         truncate -s 16M /srv/image && mkfs.ext4 -q -I 128 /srv/image && mount -o loop /srv/image {SOUNDS} && \
         install -d -o asterisk -g www-data -m 2775 {RECORDINGS}"
    ))
    .ok();
    let of_games = |name: &str| {
        main.sh(format!(
            "chown games:games {0} && touch -d '2026-01-02 03:04:05.678901234' {0}",
            sounds(name)
        ))
        .ok();
    };
    main.write_settled(sounds("greeting.wav"), "greeting");
    of_games("greeting.wav");
    main.write_settled(sounds("other.wav"), "other");
    main.write_settled(recordings("of-main.wav"), "of main");
    main.sh(format!("touch -d '2026-01-02 03:04:05.678901234' {}", recordings("of-main.wav"))).ok();
    mds2.write_settled(recordings("of-mds2.wav"), "of mds2");
    let time = main.mtime_ns(recordings("of-main.wav"));

    let first = main.sync_json([""; 0]);
    first.exits(0);
    for node in [mds1, mds2] {
        assert_eq!(node.read_text(sounds("greeting.wav")), "greeting");
        assert_eq!(node.read_text(recordings("of-main.wav")), "of main");
        assert_eq!(node.read_text(recordings("of-mds2.wav")), "of mds2");
    }
    let told = problems(&first);
    assert!(told.contains("greeting.wav: its owner is root:root and not games:games"), "{told}");
    assert_eq!(told.matches("the disk there does not take it").count(), 2, "once for each directory: {told}");
    let second = main.sync_json([""; 0]);
    assert_eq!((second.exits(0).changes(), problems(&second)), (vec![], "[]".to_owned()));
    let dry = main.sync_json(["-n"]);
    assert_eq!(dry.exits(0).changes(), [""; 0]);

    // The content goes on, and nothing is told anew.
    main.write_settled(sounds("greeting.wav"), "another greeting");
    of_games("greeting.wav");
    mds2.sh(format!("chmod 0660 {}", recordings("of-mds2.wav"))).ok();
    let third = main.sync_json([""; 0]);
    assert_eq!(problems(third.exits(0)), "[]");
    assert_eq!(mds1.read_text(sounds("greeting.wav")), "another greeting");
    assert_eq!(main.sh(format!("stat -c %a {}", recordings("of-mds2.wav"))).ok(), "660\n", "an edit is one");
    main.remove(sounds("greeting.wav"));
    main.sync_json([""; 0]).exits(0);
    assert!(!mds1.exists(sounds("greeting.wav")) && !mds2.exists(sounds("greeting.wav")));
    assert_eq!(main.mtime_ns(recordings("of-main.wav")), time, "a rounded time is nobody's edit");
    assert_eq!(main.sync_json([""; 0]).exits(0).changes(), [""; 0]);
}

#[test]
fn what_a_disk_cannot_take_is_not_sent_and_what_fits_goes() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    mds1.sh(format!(
        "mount -t tmpfs -o size=24m,nr_inodes=60,mode=2775 tmpfs {SOUNDS} && mkdir {RECORDINGS}"
    ))
    .ok();
    main.write_settled(sounds("a.wav"), "a");
    main.sync_json([""; 0]).exits(0);
    let guard = |run: &Run| {
        run.exits(23);
        assert_eq!((&run.json["halted"][0]["guard"], bytes(run, "sounds")), (&"free_space".into(), 0));
        run.json["halted"][0]["detail"].as_str().unwrap().to_owned()
    };

    // More files than the disk has inodes for: one reason for the directory.
    for number in 0..80 {
        main.write_settled(sounds(&format!("many/{number}.wav")), "x");
    }
    let many = guard(&main.sync_json([""; 0]));
    assert!(many.contains("inodes") && many.contains("stay free"), "{many}");
    main.sh(format!("rm -r {SOUNDS}/many")).ok();

    // Ten MiB are left. What is small goes; what is not is told with what stays free.
    mds1.sh(format!("dd if=/dev/zero of={} bs=1M count=14 2>&1", sounds("xds_override.fill"))).ok();
    main.write_settled(sounds("small.wav"), "s".repeat(1000));
    main.sync_json([""; 0]).exits(0);
    assert!(mds1.exists(sounds("small.wav")));
    main.write_settled(sounds("large.wav"), vec![7; 11 << 20]);
    let large = guard(&main.sync_json([""; 0]));
    assert!(large.contains("11.0 MiB are needed") && large.contains("stay free"), "{large}");

    mds1.remove(sounds("xds_override.fill"));
    mds1.sh(format!("mount -o remount,ro {SOUNDS}")).ok();
    for _ in 0..2 {
        let run = main.sync_json([""; 0]);
        run.exits(23);
        assert!(problems(&run).contains("Read-only file system"), "{}", problems(&run));
        assert_eq!(bytes(&run, "sounds"), 0, "nothing is sent to a disk that takes nothing");
    }
    mds1.sh(format!("mount -o remount,rw {SOUNDS}")).ok();
    main.sync_json([""; 0]).exits(0);
    assert_eq!(mds1.read(sounds("large.wav")).len(), 11 << 20);
}

#[test]
fn a_place_that_changes_hands_or_is_new_goes_on_as_it_was() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    // A new node, on which Asterisk must be able to record.
    mds1.sh(format!("rmdir {RECORDINGS}")).ok();
    for host in [main, mds1] {
        host.sh(format!("mkdir {SOUNDS}/lost+found && touch {SOUNDS}/lost+found/of-{}", host.name)).ok();
    }
    for name in ["a.wav", "b.wav", "gone.wav"] {
        main.write_settled(sounds(name), name);
        main.write_settled(recordings(name), name);
    }
    main.write_settled(recordings("d/old.wav"), "old");
    main.sync_json([""; 0]).exits(0);
    let root = |host: &crate::support::Host| host.sh(format!("stat -c '%a %U:%G' {RECORDINGS}")).ok();
    assert_eq!((root(mds1), root(main)), ("2775 asterisk:www-data\n".to_owned(), root(main)));
    assert_eq!(mds1.sh(format!("ls {SOUNDS}/lost+found")).ok(), "of-mds1\n", "it is the filesystem's own");

    // What a package's update does to a whole tree, with deletions and something new on both ends.
    for host in [main, mds1] {
        host.sh(format!("chown -R games:games {SOUNDS}")).ok();
    }
    main.remove(sounds("gone.wav"));
    main.remove(recordings("gone.wav"));
    mds1.write_settled(recordings("new.wav"), "new");
    main.sync_json([""; 0]).exits(0);
    assert!(!mds1.exists(sounds("gone.wav")) && !mds1.exists(recordings("gone.wav")), "the bases hold");
    assert_eq!(main.read_text(recordings("new.wav")), "new");
    let own = |host: &crate::support::Host| host.sh(format!("stat -c '%a %U' {RECORDINGS}/.xds-sync")).ok();
    assert_eq!((own(main), own(mds1)), ("700 root\n".to_owned(), "700 root\n".to_owned()));

    // One that somebody else has made is refused on Main as well, with the reason and the way out.
    main.sh(format!(
        "cd {RECORDINGS} && mv .xds-sync /tmp/ours && cp -a /tmp/ours .xds-sync && chown -R games .xds-sync"
    ))
    .ok();
    mds1.write_settled(recordings("newer.wav"), "newer");
    let refused = main.sync_json([""; 0]);
    refused.exits(3);
    let why = refused.json["halted"].to_string();
    assert!(why.contains("belongs to user id 5") && why.contains("chown -R root"), "{why}");
    main.sh(format!("cd {RECORDINGS} && rm -r .xds-sync && mv /tmp/ours .xds-sync")).ok();
    main.sync_json([""; 0]).exits(0);

    // A directory that Main deletes stays where a media server has something of its own in it, and comes back to nobody.
    mds1.write_settled(recordings("d/xds_override.wav"), "own");
    main.sh(format!("rm -r {RECORDINGS}/d")).ok();
    main.sync_json([""; 0]).exits(0);
    assert!(!main.exists(recordings("d")) && !mds1.exists(recordings("d/old.wav")));
    assert_eq!(mds1.read_text(recordings("d/xds_override.wav")), "own");
    assert_eq!(main.sync_json([""; 0]).exits(0).changes(), [""; 0]);
}

#[test]
fn a_file_can_be_read_by_whom_its_place_lets_read() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    mds1.sh(format!(
        "install -d -o root -g root -m 0750 {0} && setfacl -m u:games:rx -m d:u:games:rX {0}",
        sounds("en")
    ))
    .ok();
    main.sh(format!("install -d -o root -g root -m 0750 {}", sounds("en"))).ok();
    main.write_settled(sounds("en/a.wav"), "a");
    main.sh(format!("chown root:root {0} && chmod 0640 {0}", sounds("en/a.wav"))).ok();
    let run = main.sync_json([""; 0]);
    assert!(!run.exits(0).changes().iter().any(|change| change.contains("metadata")), "{:?}", run.changes());
    let as_games = |name: &str| mds1.sh(format!("setpriv --reuid games --clear-groups cat {}", sounds(name)));
    assert_eq!(as_games("en/a.wav").ok(), "a");
    main.write_settled(sounds("en/a.wav"), "another");
    main.sh(format!("chown root:root {0} && chmod 0640 {0}", sounds("en/a.wav"))).ok();
    main.sync_json([""; 0]).exits(0);
    assert_eq!(as_games("en/a.wav").ok(), "another");
    assert_eq!(main.sync_json([""; 0]).exits(0).changes(), [""; 0]);
}
