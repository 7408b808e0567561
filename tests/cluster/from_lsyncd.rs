//! The worked example of docs/from-lsyncd.md, word for word: first with lsyncd, then in its place.

use crate::support::{Cluster, Host, LIMIT, eventually};

const PAGE: &str = include_str!("../../docs/from-lsyncd.md");
const DIALPLAN: &str = "/etc/asterisk/extensions_extra.d";
const SOUNDS: &str = "/var/lib/xivo/sounds";

/// The page's block of this language.
fn block(language: &str) -> &str {
    let (_, block) = PAGE.split_once(&format!("```{language}\n")).expect("a block");
    block.split_once("```").expect("its end").0
}

fn await_file(node: &Host, path: &str, text: &str) {
    eventually(&format!("{text:?} in {path} on {}", node.name), LIMIT, || {
        node.exists(path) && node.read_text(path).contains(text)
    });
}

#[test]
fn the_worked_example_does_what_lsyncd_did() {
    let cluster = Cluster::new().nodes(2).build();
    let main = &cluster.main;
    for node in &cluster.nodes {
        let address = &node.address;
        main.sh(format!("ssh -i /root/.ssh/rsync_xds -o StrictHostKeyChecking=accept-new {address} true"))
            .ok();
        node.write(format!("{SOUNDS}/own.wav"), "the node's own");
    }
    main.write(format!("{DIALPLAN}/10-doors.conf"), "[doors]\nexten => 7,1,Hangup()\n");
    main.write(format!("{SOUNDS}/hello.wav"), "hello");
    main.write(format!("{SOUNDS}/hello.bak"), "not this");
    main.write(format!("{SOUNDS}/recordings/call.wav"), "nor this");

    main.write("/root/lsyncd.lua", block("lua"));
    main.sh("lsyncd /root/lsyncd.lua").ok();
    for node in &cluster.nodes {
        await_file(node, &format!("{DIALPLAN}/10-doors.conf"), "7,1");
        await_file(node, &format!("{SOUNDS}/hello.wav"), "hello");
    }
    main.write(format!("{SOUNDS}/later.wav"), "later");
    for node in &cluster.nodes {
        await_file(node, &format!("{SOUNDS}/later.wav"), "later");
        assert!(
            !node.exists(format!("{SOUNDS}/hello.bak"))
                && !node.exists(format!("{SOUNDS}/recordings/call.wav"))
        );
        assert!(node.exists(format!("{SOUNDS}/own.wav")), "delete = false");
    }
    eventually("lsyncd to tell its status", LIMIT, || main.exists("/run/lsyncd.status"));
    main.sh("pkill -x lsyncd").ok();
    eventually("lsyncd to end", LIMIT, || !main.sh("pgrep -x lsyncd").success());

    main.write("/etc/xds-sync/config.toml", block("toml"));
    main.xds_sync(["config", "check"]).ok();
    let dry = main.sync_json(["--dry-run"]);
    dry.exits(0);
    assert_eq!(dry.changes(), [""; 0], "lsyncd's copies are the same");
    let _daemon = main.spawn_xds_sync(["watch"]);
    for node in &cluster.nodes {
        main.await_syslog(&format!("node {}: ", node.name));
    }
    main.write(format!("{DIALPLAN}/10-doors.conf"), "[doors]\nexten => 8,1,Hangup()\n");
    main.write(format!("{SOUNDS}/hello.wav"), "good evening");
    main.write(format!("{SOUNDS}/new.bak"), "not this");
    main.remove(format!("{SOUNDS}/later.wav"));
    for node in &cluster.nodes {
        await_file(node, &format!("{SOUNDS}/hello.wav"), "good evening");
        eventually("the change is loaded", LIMIT, || node.asterisk("dialplan show doors").contains("'8'"));
        for kept in ["own.wav", "later.wav"] {
            assert!(node.exists(format!("{SOUNDS}/{kept}")), "delete = \"keep\": {kept}");
        }
        for kept_out in ["hello.bak", "new.bak", "recordings/call.wav"] {
            assert!(!node.exists(format!("{SOUNDS}/{kept_out}")), "{kept_out}");
        }
    }
}
