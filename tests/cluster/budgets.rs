//! What users of one host can make root do has bounds, and beyond them everything else goes on in the same run: other
//! directories, other nodes.

use crate::support::{Cluster, Host, LIMIT, Run, Running, eventually};

const SOUNDS: &str = "/var/lib/xivo/sounds";
const RECORDINGS: &str = "/var/lib/xivo/sounds/recordings";

fn sound(name: &str) -> String {
    format!("{SOUNDS}/{name}")
}

fn recording(name: &str) -> String {
    format!("{RECORDINGS}/{name}")
}

/// Two nodes that are in step.
fn cluster() -> Cluster {
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    cluster.main.write_settled(recording("old.wav"), "old");
    cluster.main.sync_json([""; 0]).exits(0);
    cluster
}

/// The honest work of the moment: a new sound on Main, a new recording on mds2.
fn honest_work(cluster: &Cluster) {
    cluster.main.write_settled(sound("new.wav"), "of main");
    cluster["mds2"].write_settled(recording("new.wav"), "of mds2");
}

fn has_arrived(host: &Host, path: &str) {
    assert!(host.exists(path), "{} has no {path}", host.name);
}

/// The state of a directory on a node.
fn state(run: &Run, node: &str, directory: &str) -> String {
    let directories = run.node(node)["directories"].as_array().unwrap();
    let found = directories.iter().find(|found| found["name"] == directory).unwrap();
    found["state"].as_str().unwrap().to_owned()
}

/// As an unprivileged user: names of 30,000 bytes in all, deep below a directory.
fn make_deep_names(host: &Host, below: &str) {
    let name = "n".repeat(250);
    let deep = [below, &vec![name; 10].join("/")].join("/");
    host.sh(format!(
        "chown asterisk {below} && setpriv --reuid=asterisk --clear-groups bash -c \
         'mkdir -p {deep} && for i in $(seq 10); do ln -s x {deep}/$i; done'"
    ))
    .ok();
}

#[test]
fn more_names_than_the_budget_halt_one_directory_of_one_node() {
    let cluster = cluster();
    let (main, mds1, mds2) = (&cluster.main, &cluster["mds1"], &cluster["mds2"]);
    main.write(
        "/etc/xds-sync/conf.d/limits.toml",
        "[ssh]\nagent = \"env XDS_LIMITS=names=20000 xds-sync agent\"\n",
    );
    make_deep_names(mds1, RECORDINGS);
    honest_work(&cluster);
    let run = main.sync_json([""; 0]);
    run.exits(23);
    let problems = run.json["problems"].to_string();
    assert!(
        problems.contains("more names than can be kept in step")
            && problems.contains("paths and links seen, at most 19.5 KiB"),
        "{problems}"
    );
    assert_eq!(state(&run, "mds1", "recordings"), "partial");
    assert_eq!(run.node("mds2")["state"], "ok");
    [mds1, mds2].into_iter().for_each(|node| has_arrived(node, &sound("new.wav")));
    has_arrived(main, &recording("new.wav"));
    assert!(mds1.exists(recording("old.wav")) && !mds1.exists(recording("new.wav")));

    mds1.sh(format!("rm -r {RECORDINGS}/nnn*")).ok();
    main.sync_json([""; 0]).exits(0);
    has_arrived(mds1, &recording("new.wav"));
}

#[test]
fn more_names_than_the_budget_on_main_halt_that_directory_for_all() {
    let cluster = cluster();
    let main = &cluster.main;
    make_deep_names(main, RECORDINGS);
    honest_work(&cluster);
    let run = main.sh("XDS_LIMITS=names=20000 xds-sync sync --json");
    run.exits(3);
    let halted = &run.json()["halted"];
    assert_eq!(halted.as_array().unwrap().len(), 1, "{halted}");
    assert_eq!(
        (&halted[0]["directory"], &halted[0]["guard"]),
        (&"recordings".into(), &"root_unusable".into())
    );
    assert!(
        halted[0]["detail"].as_str().unwrap().contains("more names than can be kept in step"),
        "{halted}"
    );
    for node in ["mds1", "mds2"] {
        has_arrived(&cluster[node], &sound("new.wav"));
        has_arrived(&cluster[node], &recording("old.wav"));
    }
    assert!(!main.exists(recording("new.wav")));

    // A file that there is no time to read has its turn in a later run, and everything else goes on.
    main.sh(format!("rm -r {RECORDINGS}/nnn*")).ok();
    main.write_settled(sound("late.wav"), "late");
    let run = main.sh("XDS_LIMITS=reading=0 xds-sync sync --json");
    run.exits(0);
    let changes = run.json()["changes"].to_string();
    assert!(changes.contains("not read within the time of a scan, has its turn later"), "{changes}");
    for host in cluster.hosts() {
        has_arrived(host, &recording("new.wav"));
        assert_eq!(host.exists(sound("late.wav")), host.name == "main");
    }
    main.sync_json([""; 0]).exits(0);
    for node in ["mds1", "mds2"] {
        has_arrived(&cluster[node], &sound("late.wav"));
    }
}

#[test]
fn many_tiny_files_of_one_node_do_not_fill_mains_disk() {
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    main.sh(format!("mkdir -p {RECORDINGS} && mount -t tmpfs -o size=2m tmpfs {RECORDINGS}")).ok();
    main.write_settled(recording("old.wav"), "old");
    main.sync_json([""; 0]).exits(0);
    // 600 files of some bytes, each of which takes a block of 4 KiB.
    mds1.sh(format!(
        "cd {RECORDINGS} && for i in $(seq 600); do echo $i >$i.wav; done && touch -d '1 hour ago' *.wav"
    ))
    .ok();
    honest_work(&cluster);
    let run = main.sync_json([""; 0]);
    run.exits(23);
    let problems = run.json["problems"].as_array().unwrap();
    let of_room = problems.iter().filter(|problem| problem["detail"].to_string().contains("stay free"));
    assert_eq!(of_room.count(), 100);
    let rest = problems.last().unwrap()["detail"].as_str().unwrap();
    assert_eq!(rest, "500 more problems, not listed");
    assert!(main.syslog().len() < 200, "{}", main.syslog().len());
    let free: u64 =
        main.sh(format!("df --output=avail -k {RECORDINGS} | tail -1")).ok().trim().parse().unwrap();
    assert!(free > 1024, "{free} KiB are free");
    assert_eq!(main.sh(format!("ls -A {RECORDINGS}/.xds-sync/stage")).text(), "");
    assert!(!main.exists(recording("1.wav")));
    // What another node has new, and what Main pushes, is in place after the same run.
    has_arrived(main, &recording("new.wav"));
    for node in ["mds1", "mds2"] {
        has_arrived(&cluster[node], &recording("new.wav"));
        has_arrived(&cluster[node], &sound("new.wav"));
    }

    mds1.sh(format!("cd {RECORDINGS} && rm [0-9]*.wav")).ok();
    main.sync_json([""; 0]).exits(0);
}

#[test]
fn little_room_is_enough_for_a_small_change() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    mds1.sh(format!("mount -t tmpfs -o size=1m,mode=2775 tmpfs {SOUNDS} && mkdir {RECORDINGS}")).ok();
    main.write_settled(sound("small.wav"), [1; 1000]);
    main.sync_json([""; 0]).exits(0);
    has_arrived(mds1, &sound("small.wav"));
}

#[test]
fn sparse_files_cost_nothing_and_hold_up_nobody() {
    let cluster = cluster();
    let (main, mds1, mds2) = (&cluster.main, &cluster["mds1"], &cluster["mds2"]);
    for (host, path) in [(mds1, recording("huge.wav")), (main, sound("huge.wav"))] {
        host.sh(format!("truncate -s 15T {path} && touch -d '1 hour ago' {path}")).ok();
    }
    honest_work(&cluster);
    let run = main.sync_json([""; 0]);
    run.exits(0);
    let skipped: Vec<_> = run.changes().into_iter().filter(|change| change.contains("huge.wav")).collect();
    assert!(skipped.iter().all(|change| change.contains(" skip ")) && skipped.len() == 3, "{skipped:?}");
    assert!(run.json["changes"].to_string().contains("of 15.0 TiB allocated, too many holes to carry"));
    for node in [mds1, mds2] {
        has_arrived(node, &sound("new.wav"));
        has_arrived(node, &recording("new.wav"));
        assert!(!node.exists(sound("huge.wav")));
    }
    has_arrived(main, &recording("new.wav"));
    assert!(!main.exists(recording("huge.wav")) && mds1.exists(recording("huge.wav")));
    assert_eq!(main.sync_json([""; 0]).exits(0).changes(), [""; 0]);
}

/// Holds a write lease on a file, as its owner may, and does not give it back when asked.
fn lease(host: &Host, path: &str) -> Running {
    host.write_settled(path, "leased");
    host.sh(format!("chown asterisk {path}")).ok();
    // F_SETLEASE, F_WRLCK.
    let take = format!(
        "$SIG{{IO}} = 'IGNORE'; open(F, '+<', '{path}') or die; fcntl(F, 1024, 1) or die; \
         open(H, '>', '/tmp/held'); close(H); sleep 600"
    );
    let held = host.spawn(["setpriv", "--reuid=asterisk", "--clear-groups", "perl", "-e", &take]);
    eventually("the lease is held", LIMIT, || host.exists("/tmp/held"));
    held
}

#[test]
fn leases_hold_up_nobody() {
    let cluster = cluster();
    let (main, mds1, mds2) = (&cluster.main, &cluster["mds1"], &cluster["mds2"]);
    let _held = [lease(mds1, &recording("leased.wav")), lease(main, &sound("leased.wav"))];
    honest_work(&cluster);
    let run = main.sync_json([""; 0]);
    run.exits(0);
    let held: Vec<_> = run.changes().into_iter().filter(|change| change.contains("leased.wav")).collect();
    // The kernel takes a lease away after 45 s: a run that waited for it would carry the file.
    assert!(held.iter().all(|change| change.contains(" hold ")) && held.len() == 3, "{held:?}");
    for node in [mds1, mds2] {
        has_arrived(node, &sound("new.wav"));
        has_arrived(node, &recording("new.wav"));
        assert!(!node.exists(sound("leased.wav")));
    }
    has_arrived(main, &recording("new.wav"));
}

#[test]
fn an_agent_does_not_outlive_its_main() {
    let cluster = cluster();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    main.write(
        "/etc/xds-sync/conf.d/slow.toml",
        format!(
            "[sync]\ntimeout = \"4s\"\n\
             [[directory]]\nname = \"sounds\"\npath = \"{SOUNDS}\"\nsettle = \"10m\"\n"
        ),
    );
    // The scan of a pushed directory waits for a young file to settle.
    mds1.write(sound("young.wav"), "x");
    let mut run = main.spawn_xds_sync(["sync", "--quiet"]);
    eventually("the agent runs", LIMIT, || mds1.sh("pgrep -f '[x]ds-sync agent'").success());
    assert!(run.is_running());
    run.signal(rustix::process::Signal::KILL);
    run.wait();
    eventually("the agent has ended", LIMIT, || !mds1.sh("pgrep -f '[x]ds-sync agent'").success());
}
