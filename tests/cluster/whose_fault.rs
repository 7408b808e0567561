//! What is wrong on Main, or in its list of nodes, is told as that, and not as a node's trouble.

use crate::support::{Cluster, Run};

const SOUNDS: &str = "/var/lib/xivo/sounds";
const RECORDINGS: &str = "/var/lib/xivo/sounds/recordings";
const NODES: &str = "/etc/xds-sync/conf.d/more.toml";

fn error(run: &Run, node: &str) -> String {
    run.node(node)["error"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn one_machine_under_two_names_is_one_node_and_a_copy_is_told_how_to_become_another() {
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    let (main, mds1, mds2) = (&cluster.main, &cluster["mds1"], &cluster["mds2"]);
    let more = |name: &str, address: &str| {
        main.write(NODES, format!("[[node]]\nname = \"{name}\"\naddress = \"{address}\"\n"));
    };
    main.write_settled(format!("{RECORDINGS}/a.wav"), "a");
    main.sync_json([""; 0]).exits(0);

    // mds1 once more, by its name. What is deleted stays so.
    more("media1", "mds1");
    main.remove(format!("{RECORDINGS}/a.wav"));
    for _ in 0..3 {
        let run = main.sync_json([""; 0]);
        run.exits(40);
        assert!(error(&run, "media1").contains("media1 is the same machine as mds1"), "{:?}", run.json);
        assert_eq!(run.node("mds1")["state"], "ok");
        assert!(!main.exists(format!("{RECORDINGS}/a.wav")) && !mds1.exists(format!("{RECORDINGS}/a.wav")));
    }
    // Also when it is asked for alone, or the other is away.
    main.sync_json(["--node", "media1"]).exits(41);

    // Main itself is no node.
    main.sh("cat /root/.ssh/rsync_xds.pub >>/root/.ssh/authorized_keys").ok();
    more("third", "10.77.0.1");
    let run = main.sync_json([""; 0]);
    run.exits(40);
    assert!(error(&run, "third").contains("third is the same machine as Main"), "{:?}", run.json);

    // Addresses that were exchanged are another matter.
    main.remove(NODES);
    let exchange = || {
        let swap = "s/10.77.0.11/X/; s/10.77.0.12/10.77.0.11/; s/X/10.77.0.12/";
        main.sh(format!("sed -i '{swap}' /etc/xds-sync/config.toml")).ok();
    };
    exchange();
    let run = main.sync_json([""; 0]);
    run.exits(3);
    assert!(run.json.to_string().contains("node_root_replaced"), "{:?}", run.json);
    assert!(["mds1", "mds2"].iter().all(|node| run.node(node)["state"] != "refused"), "{:?}", run.json);
    exchange();
    main.sync_json([""; 0]).exits(0);

    // A copy with the disk of another.
    let id = mds1.read("/var/lib/xds-sync/machine.json");
    mds2.write("/var/lib/xds-sync/machine.json", id);
    let run = main.sync_json([""; 0]);
    run.exits(40);
    let refused = ["mds1", "mds2"].map(|node| error(&run, node)).concat();
    assert!(refused.contains("remove machine.json"), "{:?}", run.json);
    mds2.remove("/var/lib/xds-sync/machine.json");
    main.sync_json([""; 0]).exits(0);
}

#[test]
fn trouble_with_the_key_of_main_is_told_once_and_as_its_own() {
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    let main = &cluster.main;
    let key = "/root/.ssh/rsync_xds";
    main.write_settled(format!("{SOUNDS}/a.wav"), "a");
    for (spoil, remedy) in [
        ("mv $K $K.away", "run `xds-sync init`"),
        ("chmod 644 $K", "chmod 600 /root/.ssh/rsync_xds"),
        ("ssh-keygen -q -p -P '' -N secret -f $K", "ssh-keygen -p -f /root/.ssh/rsync_xds"),
        ("echo garbage >$K", "put back a good copy"),
        ("ssh-keygen -q -t ed25519 -N '' -f /root/other; cp /root/other.pub $K.pub", "run `xds-sync init`"),
    ] {
        main.sh(format!("K={key}; cp -a $K /root/key; cp -a $K.pub /root/key.pub; {spoil}")).ok();
        let run = main.sync_json([""; 0]);
        run.exits(41);
        let told = run.json.to_string();
        assert_eq!(told.matches(remedy).count(), 1, "{told}");
        assert!(!told.contains("xds-sync join"), "{told}");
        let checked = main.xds_sync(["nodes", "check"]);
        assert_eq!(checked.exits(41).err().matches(remedy).count(), 1, "{checked:?}");
        main.sh(format!("rm -f {key} {key}.pub; cp -a /root/key {key}; cp -a /root/key.pub {key}.pub")).ok();
    }
    main.sync_json([""; 0]).exits(0);

    // The public key of another one is not handed out.
    let own = main.sh(format!("ssh-keygen -l -f {key} | cut -d' ' -f2")).ok();
    main.sh(format!("cp /root/other.pub {key}.pub")).ok();
    let init = main.xds_sync(["init", "--publish", "none"]).ok();
    assert!(init.contains("was of another key") && init.contains(own.trim()), "{init}");
    main.sync_json([""; 0]).exits(0);

    // Nor is a disk of Main that nothing can be written to each node's trouble.
    main.sh("mount --bind /var/lib/xds-sync /var/lib/xds-sync && mount -o remount,bind,ro /var/lib/xds-sync")
        .ok();
    let checked = main.xds_sync(["nodes", "check"]);
    assert_eq!(checked.exits(1).err().matches("Read-only file system").count(), 1, "{checked:?}");
    assert!(checked.err().contains("on Main") && checked.text().is_empty(), "{checked:?}");
}

#[test]
fn first_steps_go_on_past_what_fails_and_say_what_keeps_main_out() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    let moh = "/var/lib/xivo/moh";
    main.sh(format!("mount --bind {moh} {moh} && mount -o remount,bind,ro {moh}")).ok();
    let init = main.xds_sync(["init", "--publish", "none"]);
    let told = init.exits(23).text();
    assert!(told.contains("marker    FAILED: marking moh") && told.contains("Read-only"), "{told}");
    assert!(told.contains("sounds: made in") && told.contains("cron job  made"), "{told}");
    let quiet = main.xds_sync(["init", "--publish", "none", "-q"]);
    assert!(quiet.exits(23).err().contains("marking moh"), "{quiet:?}");
    main.sh(format!("umount {moh}")).ok();
    main.xds_sync(["init", "--publish", "none"]).ok();

    // What is not added is not complained about as if it were there.
    let added = main.xds_sync(["nodes", "add", "mds9", "10.77.0.11"]);
    let why = added.exits(1).err();
    assert!(why.contains("nothing was changed: ") && why.contains("'mds1' has the address"), "{why}");
    assert!(!why.contains("nodes.toml"), "{why}");
    main.xds_sync(["nodes", "add", "mds9", "10.77.0.99"]).ok();
    main.await_syslog("nodes add: mds9");
    main.xds_sync(["nodes", "remove", "mds9"]).ok();
    main.await_syslog("nodes remove: mds9");

    // Where nobody serves the key.
    let join = |what: &[&str]| mds1.xds_sync([&["join"], what].concat());
    let why = join(&["main"]).exits(1).err();
    assert!(why.contains("port 443") && why.contains("systemctl start xds-sync-serve"), "{why}");
    assert!(!why.contains("os error"), "{why}");

    // sshd itself is asked whether the line is of use.
    mds1.write("/root/main.pub", main.read("/root/.ssh/rsync_xds.pub"));
    let by_file = ["--key", "/root/main.pub", "main"];
    join(&by_file).exits(0);
    let config = mds1.read_text("/etc/ssh/sshd_config");
    for (more, says) in [
        ("AuthorizedKeysFile /etc/ssh/keys/%u", "sshd reads keys from '/etc/ssh/keys/%u'"),
        ("PermitRootLogin no", "PermitRootLogin is 'no'"),
        ("Match User root\nAllowUsers admin", "AllowUsers"),
    ] {
        mds1.write("/etc/ssh/sshd_config", format!("{more}\n{config}"));
        if more.starts_with("Match") {
            mds1.write("/etc/ssh/sshd_config", format!("{config}{more}\n"));
        }
        let told = join(&by_file);
        assert!(told.exits(23).text().contains(says), "{told:?}");
    }
    mds1.write("/etc/ssh/sshd_config", &config);
    mds1.sh("chmod 777 /root/.ssh").ok();
    let told = join(&by_file);
    assert!(told.exits(23).text().contains("chmod go-w /root/.ssh"), "{told:?}");
    mds1.sh("chmod 700 /root/.ssh").ok();
    join(&by_file).exits(0);

    let at_a_terminal = mds1.sh("script --quiet --return --command 'xds-sync agent' /dev/null </dev/null");
    assert!(at_a_terminal.exits(1).text().contains("for Main's ssh"), "{at_a_terminal:?}");
}
