//! What goes wrong in a run, and how it is reported.

use std::time::Duration;

use crate::support::{Cluster, eventually, noise};

const SOUNDS: &str = "/var/lib/xivo/sounds";

#[test]
fn a_node_that_is_cut_off_catches_up_later() {
    let cluster =
        Cluster::new().nodes(2).without_asterisk().more_config("[sync]\ntimeout = \"2s\"\n").build();
    let main = &cluster.main;
    main.write_settled(format!("{SOUNDS}/a.wav"), "a");
    cluster.cut("mds1");
    let run = main.sync_json([""; 0]);
    run.exits(40);
    assert_eq!(run.node("mds1")["state"], "unreachable");
    assert!(run.node("mds1")["error"].as_str().unwrap().contains("10.77.0.11"));
    assert!(cluster["mds2"].exists(format!("{SOUNDS}/a.wav")));
    let status = main.xds_sync(["status"]);
    status.exits(40);
    assert!(status.text().contains("mds1") && status.text().contains("unreachable"));
    cluster.mend("mds1");
    main.sync_json([""; 0]).exits(0);
    assert!(cluster["mds1"].exists(format!("{SOUNDS}/a.wav")));
    main.xds_sync(["status"]).exits(0);
}

#[test]
fn nobody_there_is_41_and_a_node_without_the_program_is_2() {
    let cluster = Cluster::new().nodes(1).without_asterisk().without_program("mds1").build();
    let run = cluster.main.sync_json([""; 0]);
    run.exits(2);
    assert_eq!(run.node("mds1")["state"], "incompatible");
    cluster["mds1"].stop_sshd();
    cluster.main.sync_json([""; 0]).exits(41);
}

#[test]
fn a_key_that_is_not_accepted_and_a_changed_host_key_are_refused() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    main.sync_json([""; 0]).exits(0);
    mds1.rename("/root/.ssh/authorized_keys", "/root/.ssh/away");
    let run = main.sync_json([""; 0]);
    run.exits(41);
    assert_eq!(run.node("mds1")["state"], "refused");
    mds1.rename("/root/.ssh/away", "/root/.ssh/authorized_keys");
    main.sync_json([""; 0]).exits(0);

    mds1.stop_sshd();
    mds1.sh("rm /etc/ssh/ssh_host_* && ssh-keygen -A").ok();
    mds1.start_sshd();
    let run = main.sync_json([""; 0]);
    run.exits(41);
    assert_eq!(run.node("mds1")["state"], "refused");
    assert!(run.node("mds1")["error"].as_str().unwrap().contains("ssh-keygen"), "{:?}", run.json);
}

#[test]
fn a_node_that_falls_silent_is_given_up_while_others_are_in_step() {
    let silent = "[ssh]\nagent = \"if [ $(hostname) = mds1 ]; then exec sleep 600; fi; xds-sync agent\"\n";
    let config = format!("{silent}[sync]\ntimeout = \"1s\"\n");
    let cluster = Cluster::new().nodes(2).without_asterisk().more_config(&config).build();
    cluster.main.write_settled(format!("{SOUNDS}/a.wav"), "a");
    let run = cluster.main.sync_json([""; 0]);
    run.exits(30);
    assert_eq!(run.node("mds1")["state"], "timeout");
    assert!(cluster["mds2"].exists(format!("{SOUNDS}/a.wav")));
}

#[test]
fn a_signal_ends_a_run_with_20_and_the_next_one_goes_on() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    let big = format!("{SOUNDS}/big.wav");
    main.write_settled(&big, noise(1, 3_000_000));
    main.write("/etc/xds-sync/conf.d/slow.toml", "[sync]\nbandwidth = \"1 MiB/s\"\n");
    let run = main.spawn_xds_sync(["sync"]);
    eventually("content is on its way", Duration::from_secs(20), || {
        mds1.sh(format!("find {SOUNDS}/.xds-sync/stage -size +64k")).text().contains("part")
    });
    run.signal(rustix::process::Signal::TERM);
    run.wait_for(Duration::from_secs(20)).exits(20);
    assert!(!mds1.exists(&big), "a file that was not whole has become visible");
    main.remove("/etc/xds-sync/conf.d/slow.toml");
    let run = main.sync_json([""; 0]);
    run.exits(0);
    assert_eq!(mds1.read(&big), main.read(&big));
    let directories = run.node("mds1")["directories"].as_array().unwrap();
    let sent = directories.iter().find(|directory| directory["name"] == "sounds").unwrap()["bytes"].as_u64();
    assert!(sent.unwrap() < 3_000_000, "the transfer began anew");
}

#[test]
fn a_bad_configuration_touches_nothing() {
    let cluster = Cluster::new().nodes(1).without_asterisk().more_config("[sync]\nparalel = 2\n").build();
    cluster.main.write_settled(format!("{SOUNDS}/a.wav"), "a");
    let run = cluster.main.xds_sync(["sync", "--json"]);
    run.exits(1);
    assert_eq!(run.text(), "");
    assert!(run.err().contains("config.toml:") && run.err().contains("parallel"), "{}", run.err());
    assert!(!cluster["mds1"].exists(format!("{SOUNDS}/a.wav")));
    assert!(!cluster.main.exists("/var/lib/xds-sync/ledger.json"));
}

#[test]
fn two_runs_at_once_are_one() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let main = &cluster.main;
    main.mkdir("/var/lib/xds-sync");
    main.chmod("/var/lib/xds-sync", 0o700);
    let holder = main.spawn(["flock", "/var/lib/xds-sync/lock", "sleep", "60"]);
    eventually("the lock is held", Duration::from_secs(10), || {
        !main.sh("flock --nonblock /var/lib/xds-sync/lock true").success()
    });
    let run = main.xds_sync(["sync", "--json"]);
    run.exits(75);
    assert_eq!(run.text(), "");
    main.sh("pkill -x sleep").ok();
    holder.wait();
    main.sync_json([""; 0]).exits(0);
}

#[test]
fn names_of_every_kind_arrive_byte_for_byte_both_ways() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    let long = "x".repeat(251) + ".wav";
    let mut names: Vec<Vec<u8>> = [
        "with space.wav",
        "two\nlines.wav",
        "quote'\"s.wav",
        "$(touch owned).wav",
        "`id`.wav",
        "-rf",
        "--help",
        "back\\slash.wav",
        "\u{1b}[31mred.wav",
        "caf\u{e9}.wav",
        "a;b|c&d.wav",
        "%s%n.wav",
        "...",
        &long,
    ]
    .map(|name| name.as_bytes().to_vec())
    .into();
    names.push(b"latin1-\xe9.wav".to_vec());
    let path = |directory: &str, name: &[u8]| {
        use std::os::unix::ffi::OsStrExt as _;
        std::path::Path::new(directory).join(std::ffi::OsStr::from_bytes(name))
    };
    let recordings = "/var/lib/xivo/sounds/recordings";
    for name in &names {
        main.write_settled(path("/var/lib/xivo/sounds/odd", name), name);
        mds1.write_settled(path(&format!("{recordings}/odd"), name), name);
    }
    let dry = main.xds_sync(["sync", "-n", "-v"]);
    let json = main.sync_json([""; 0]);
    json.exits(0);
    main.tree("/var/lib/xivo/sounds/odd").assert_same(&mds1.tree("/var/lib/xivo/sounds/odd"));
    main.tree(recordings).assert_same(&mds1.tree(recordings));
    for name in &names {
        assert_eq!(&mds1.read(path("/var/lib/xivo/sounds/odd", name)), name);
        assert_eq!(&main.read(path(&format!("{recordings}/odd"), name)), name);
    }
    assert!(!main.sh("find / -xdev -name owned").text().contains("owned"));
    let text = dry.text();
    assert!(text.contains("two\\x0alines.wav") && text.contains("\\x1b[31mred.wav"), "{text}");
    assert!(text.contains("latin1-\\xe9.wav") && text.contains("back\\x5cslash.wav"), "{text}");
    assert_eq!(
        text.lines().filter(|line| line.contains(" create odd")).count(),
        2 * (names.len() + 1),
        "{text}"
    );
    assert!(json.changes().iter().any(|change| change.ends_with("odd/two\\x0alines.wav")));
    main.await_syslog("odd/two\\x0alines.wav");
    assert!(!main.syslog().iter().any(|line| line.contains('\u{1b}')));
}
