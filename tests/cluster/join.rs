//! From nothing to a running cluster: Main publishes its key, nodes let it in.

use std::time::Duration;

use crate::support::{Cluster, Host, Output, eventually};

const KEYS: &str = "/root/.ssh/authorized_keys";

#[test]
fn nodes_join_by_the_line_that_init_prints_and_leave_again() {
    let cluster = Cluster::new().nodes(2).without_asterisk().without_key().build();
    let main = &cluster.main;
    let init = main.xds_sync(["init", "--publish", "hub"]).ok();
    let line = init.lines().find_map(|line| Some(line.split_once("on each node: xds-sync ")?.1.to_owned()));
    let line = line.unwrap_or_else(|| panic!("no join line in {init}"));
    assert!(line.contains(" --fingerprint SHA256:"), "{line}");
    let again = main.xds_sync(["init", "--publish", "hub"]).ok();
    assert!(!again.contains("made"), "run again, it changes nothing: {again}");

    let serve = main.spawn_xds_sync(["serve"]);
    eventually("the hub listens", Duration::from_secs(20), || main.sh("ss -Hltn | grep :8443").success());

    for node in &cluster.nodes {
        node.write(
            KEYS,
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9ySXHfeZCNtcfgX7M1Zx0jL9OEm6yE0mV0nB7vYx5n somebody\n",
        );
        let before = node.read(KEYS);
        let address = line.split_whitespace().nth(1).unwrap();
        let wrong = format!("SHA256:{}", "A".repeat(43));
        node.xds_sync(["join", address, "--fingerprint", &wrong]).exits(1);
        assert_eq!(node.read(KEYS), before, "a key that is not the one that was meant");
        // Without the fingerprint, the hub's own certificate is nobody's word.
        node.xds_sync(["join", address]).exits(1);
        assert_eq!(node.read(KEYS), before);
        // Only a person may take it as it is.
        node.xds_sync(["join", address, "--insecure"]).exits(1);
        insecure(node, address, "no").exits(1);
        assert_eq!(node.read(KEYS), before);

        node.xds_sync(line.split_whitespace()).ok();
        let joined = node.read_text(KEYS);
        assert!(joined.starts_with(std::str::from_utf8(&before).unwrap()), "other lines stay: {joined}");
        assert!(joined.contains("restrict,command=\"/usr/bin/xds-sync agent\" ssh-ed25519 "), "{joined}");
        assert!(node.exists("/etc/xds-sync/node.toml"));
        node.await_syslog("join: login: ");
        node.xds_sync(line.split_whitespace()).ok();
        assert_eq!(node.read_text(KEYS), joined, "the second time changes nothing");
    }
    main.write_settled("/var/lib/xivo/sounds/a.wav", "a");
    main.sync_json(["--dir", "sounds"]).exits(0);
    assert!(cluster.nodes.iter().all(|node| node.exists("/var/lib/xivo/sounds/a.wav")));

    cluster["mds2"].xds_sync(["leave"]).ok();
    cluster["mds2"].await_syslog("leave: login: removed");
    let run = main.sync_json(["--dir", "sounds"]);
    run.exits(40);
    assert_eq!(run.node("mds2")["state"], "refused");
    let asked = insecure(&cluster["mds2"], line.split_whitespace().nth(1).unwrap(), "yes");
    assert!(asked.ok().contains("Does `xds-sync init` on Main print the same?"));
    main.sync_json(["--dir", "sounds"]).exits(0);

    // Without a syslog daemon a command does the same, and says so once.
    cluster["mds1"].stop_syslog();
    let left = cluster["mds1"].xds_sync(["leave"]);
    assert_eq!(left.exits(0).err().matches("syslog").count(), 1, "{left:?}");

    serve.signal(rustix::process::Signal::TERM);
    serve.wait_for(Duration::from_secs(10)).exits(0);
}

/// Joins at a terminal, where somebody answers.
fn insecure(node: &Host, main: &str, answer: &str) -> Output {
    let join = format!("xds-sync join {main} --insecure");
    node.sh(format!("echo {answer} | script --quiet --return --command '{join}' /dev/null"))
}

#[test]
fn a_main_that_lost_its_state_takes_over_by_a_higher_epoch() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let main = &cluster.main;
    main.write_settled("/var/lib/xivo/sounds/a.wav", "a");
    main.sync_json([""; 0]).exits(0);
    main.sh("rm -r /var/lib/xds-sync/*").ok();
    let refused = main.sync_json([""; 0]);
    refused.exits(41);
    assert!(
        refused.node("mds1")["error"].as_str().unwrap().contains("init --takeover"),
        "{:?}",
        refused.json
    );
    main.xds_sync(["init", "--publish", "none", "--takeover"]).ok();
    main.remove("/var/lib/xivo/sounds/a.wav");
    main.write_settled("/var/lib/xivo/sounds/b.wav", "b");
    main.sync_json([""; 0]).exits(0);
    assert!(cluster["mds1"].exists("/var/lib/xivo/sounds/b.wav"));
    assert!(cluster["mds1"].exists("/var/lib/xivo/sounds/a.wav"), "without a base nothing is deleted");
}

#[test]
fn a_new_key_reaches_every_node_and_the_old_one_goes() {
    let cluster = Cluster::new().nodes(2).without_asterisk().forced_command().build();
    let main = &cluster.main;
    let public = || main.read_text("/root/.ssh/rsync_xds.pub").split(' ').nth(1).unwrap().to_owned();
    let old = public();
    let keys = |node: &str| cluster[node].read_text(KEYS);
    let sync = |name: &str| {
        main.write_settled(format!("/var/lib/xivo/sounds/{name}"), name);
        main.sync_json(["--dir", "sounds"]).exits(0);
        assert!(cluster.nodes.iter().all(|node| node.exists(format!("/var/lib/xivo/sounds/{name}"))));
    };
    sync("before.wav");
    let rotate = || main.xds_sync(["init", "--publish", "none", "--rotate"]);

    // Nobody is there: nothing is switched.
    for node in &cluster.nodes {
        node.stop_sshd();
    }
    rotate().exits(41);
    assert_eq!(public(), old);
    cluster["mds1"].start_sshd();

    let output = rotate();
    output.exits(40);
    assert!(output.text().contains("mds1 has the new key alone"), "{}", output.text());
    assert!(output.text().contains("mds2 has not moved"), "{}", output.text());
    assert!(!output.text().contains("marker"), "only what was asked for: {}", output.text());
    let quiet = main.xds_sync(["init", "--publish", "none", "--rotate", "-q"]);
    assert!(quiet.exits(40).err().contains("mds2 has not moved"), "{quiet:?}");
    let unfinished = "run `xds-sync init --rotate` again";
    assert!(main.sync_json([""; 0]).json.to_string().contains(unfinished));
    assert!(main.xds_sync(["nodes", "check"]).err().contains(unfinished));
    let new = public();
    assert_ne!(new, old);
    assert!(keys("mds1").contains(&new) && !keys("mds1").contains(&old), "{}", keys("mds1"));
    assert!(keys("mds1").contains("command=\"/usr/bin/xds-sync agent\""), "{}", keys("mds1"));

    // The one that was away is still reached, until it has moved as well.
    cluster["mds2"].start_sshd();
    sync("between.wav");
    assert!(keys("mds2").contains(&old));
    rotate().exits(0);
    assert_eq!(public(), new, "it went on, and did not begin again");
    assert!(keys("mds2").contains(&new) && !keys("mds2").contains(&old), "{}", keys("mds2"));
    assert!(!main.exists("/root/.ssh/rsync_xds.old"));
    sync("after.wav");
}

#[test]
fn main_brings_the_program_to_nodes_of_an_existing_xds_cluster() {
    let cluster = Cluster::new().nodes(2).without_asterisk().without_program("mds1").build();
    let (main, mds1, mds2) = (&cluster.main, &cluster["mds1"], &cluster["mds2"]);
    let before = mds1.read_text(KEYS);
    main.sync_json(["--dir", "sounds"]).exits(2);
    mds2.stop_sshd();

    let output = main.xds_sync(["nodes", "install", "mds1", "mds2"]);
    output.exits(40);
    assert!(output.text().contains("mds1      installed, and joined"), "{}", output.text());
    assert!(
        output.err().contains("mds2: ") && output.err().contains("Connection refused"),
        "{}",
        output.err()
    );
    let joined = mds1.read_text(KEYS);
    assert!(joined.contains("restrict,command=\"/usr/bin/xds-sync agent\" ssh-ed25519 "), "{joined}");
    assert!(before.starts_with("ssh-ed25519 "), "{before}");
    assert_eq!(joined.lines().count(), 1, "the key opens a shell no more: {joined}");
    assert_eq!(mds1.sh("ls -A /usr/bin | grep -c '^xds-sync'").text(), "1\n", "no leftovers");

    // Run again, nothing changes; a node that has the program already joins.
    mds2.start_sshd();
    let output = main.xds_sync(["nodes", "install", "mds1", "mds2"]).ok();
    assert!(output.contains("mds1      has joined already"), "{output}");
    assert!(output.contains("mds2      joined; the program was there already"), "{output}");
    assert_eq!(mds1.read_text(KEYS), joined);
    main.write_settled("/var/lib/xivo/sounds/a.wav", "a");
    main.sync_json(["--dir", "sounds"]).exits(0);
    assert!(cluster.nodes.iter().all(|node| node.exists("/var/lib/xivo/sounds/a.wav")));
}

#[test]
fn a_node_that_takes_no_program_keeps_its_key() {
    let cluster = Cluster::new().nodes(1).without_asterisk().without_program("mds1").build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    let before = mds1.read(KEYS);
    mds1.sh("mount --bind /usr/bin /usr/bin && mount -o remount,bind,ro /usr/bin").ok();
    let output = main.xds_sync(["nodes", "install", "mds1"]);
    output.exits(41);
    assert!(output.err().contains("mds1: installing the program: "), "{}", output.err());
    assert!(output.err().contains("Read-only file system"), "{}", output.err());
    assert_eq!(mds1.read(KEYS), before);
}

#[test]
fn a_copy_of_main_is_noticed_and_changes_nothing() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    let sounds = |name: &str| format!("/var/lib/xivo/sounds/{name}");
    main.write_settled(sounds("a.wav"), "first");
    main.sync_json([""; 0]).exits(0);
    // The state of Main is what tells a copy from it, and today's from that of a backup.
    let swap = |away: &str, back: &str| {
        let state = "/var/lib/xds-sync";
        let empty = format!("find {state} -mindepth 1 -delete");
        main.sh(format!("rm -rf {away} && cp -aT {state} {away} && {empty} && cp -aT {back} {state}")).ok();
    };
    main.sh("cp -aT /var/lib/xds-sync /srv/copy").ok();
    main.sync_json(["--dry-run"]).exits(0);
    main.write_settled(sounds("a.wav"), "second");
    main.sync_json([""; 0]).exits(0);

    swap("/srv/original", "/srv/copy");
    main.write_settled(sounds("a.wav"), "of the copy");
    let refused = main.sync_json([""; 0]);
    refused.exits(41);
    let error = refused.node("mds1")["error"].as_str().unwrap();
    assert!(error.contains("a copy of Main") && error.contains("init --takeover"), "{error}");
    assert_eq!(mds1.read_text(sounds("a.wav")), "second");

    // Either of them can be Main: here the original goes on, until the other one takes over.
    swap("/srv/copy", "/srv/original");
    main.write_settled(sounds("a.wav"), "third");
    main.sync_json([""; 0]).exits(0);
    swap("/srv/original", "/srv/copy");
    main.xds_sync(["init", "--publish", "none", "--takeover"]).ok();
    mds1.await_syslog("auth: ");
    main.write_settled(sounds("a.wav"), "taken over");
    main.sync_json([""; 0]).exits(0);
    assert_eq!(mds1.read_text(sounds("a.wav")), "taken over");
    swap("/srv/copy", "/srv/original");
    main.sync_json([""; 0]).exits(41);
}

#[test]
fn a_line_that_a_stolen_key_added_is_gone_after_the_rotation() {
    let cluster = Cluster::new().nodes(1).without_asterisk().forced_command().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    main.write_settled("/var/lib/xivo/sounds/a.wav", "a");
    main.sync_json(["--dir", "sounds"]).exits(0);
    // What `ReplaceKey` would have made of the thief's request: Main's line with another key.
    main.sh("ssh-keygen -q -t ed25519 -N '' -C thief -f /srv/evil").ok();
    let evil = main.read_text("/srv/evil.pub").split(' ').nth(1).unwrap().to_owned();
    mds1.sh(format!(
        "cp -a {KEYS} /tmp/keys && sed -E 's,(ssh-ed25519) [^ ]+,\\1 {evil},' /tmp/keys >> {KEYS}"
    ))
    .ok();
    assert!(mds1.read_text(KEYS).contains(&evil));
    let output = main.xds_sync(["init", "--publish", "none", "--rotate"]).exits(0).text();
    assert!(output.contains("mds1: 1 line of xds-sync: ssh-ed25519 SHA256:"), "{output}");
    assert!(!mds1.read_text(KEYS).contains(&evil), "{}", mds1.read_text(KEYS));
    mds1.await_syslog("auth: key: ");
    main.sync_json(["--dir", "sounds"]).exits(0);
}
