//! A node that follows Main's hub, both under their real systemd: the hub may use the store as docs/store.md has it set up,
//! and Asterisk starts with its files.

use std::time::Duration;

use crate::made::{MAIN_ADDRESS, booted_pair, bring, furnish};
use crate::support::{Host, eventually};

const FOLLOW: &str = "xds-sync-follow";
const SOUNDS: &str = "/var/lib/xivo/sounds";
/// Longer than a service can take to start or stop.
const START: Duration = Duration::from_secs(60);
/// What Asterisk found when it was started. Only systemd's order is looked at, for which any program will do; the hosts have
/// no network to install the real one from.
const FOUND: &str = "/run/found-by-asterisk";

#[test]
fn asterisk_starts_with_the_files_that_a_node_fetches_from_the_hub() {
    let (main, node) = booted_pair();
    for host in [&main, &node] {
        bring(host);
        furnish(host);
        host.sh("apt-get install --yes --quiet=2 ./xds-sync.deb").ok();
    }
    node.write(
        "/etc/systemd/system/asterisk.service",
        format!(
            "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'ls {SOUNDS} >{FOUND}'\n"
        ),
    );
    publishes(&main);
    joins(&main, &node);

    node.sh("systemctl daemon-reload && systemctl enable --quiet xds-sync-follow").ok();
    starts_once_the_hub_answers(&main, &node);
    sends_and_gets(&main, &node);
    starts_without_files_in_the_end(&main, &node);

    node.sh("apt-get purge --yes --quiet=2 xds-sync").ok();
    assert_eq!(state(&node, FOLLOW), "inactive");
    assert_eq!(node.sh("find /etc/systemd /var/lib/systemd /lib/systemd -name '*xds-sync*'").text(), "");
    assert!(!node.exists("/var/lib/xds-sync"));
}

/// The indented block of docs/store.md that begins with this line, as it is to be typed.
fn block(first: &str) -> String {
    let docs = include_str!("../../docs/store.md").lines();
    let lines = docs.skip_while(|line| line.trim() != first).map_while(|line| line.strip_prefix("    "));
    let block: String = lines.map(|line| format!("{line}\n")).collect();
    assert!(!block.is_empty(), "docs/store.md has no block that begins with {first}");
    block
}

/// A store in a directory, and the hub as a service with what docs/store.md gives it.
fn publishes(main: &Host) {
    // Its certificate is for this name, too.
    let host = format!("[main]\nhost = '{MAIN_ADDRESS}'\n");
    main.write("/etc/xds-sync/conf.d/store.toml", format!("{host}[store]\nurl = 'file:///srv/xds-store'\n"));
    main.xds_sync(["init", "--publish", "hub"]).ok();
    main.sh(block("mkdir -m 0700 /srv/xds-store").replace("xds-sync publish", "true")).ok();
    main.sh(block("groupadd --system xds-store")).ok();
    main.mkdir("/etc/systemd/system/xds-sync-serve.service.d");
    main.write("/etc/systemd/system/xds-sync-serve.service.d/override.conf", block("[Service]"));
    main.sh("systemctl daemon-reload && systemctl enable --quiet --now xds-sync-serve").ok();
    main.write_settled(format!("{SOUNDS}/closed.wav"), "closed");
}

fn joins(main: &Host, node: &Host) {
    let certificate = "/var/lib/private/xds-sync-hub/hub/certificate.pem";
    eventually("the hub to have a certificate", START, || main.exists(certificate));
    node.write("/root/hub.crt", main.read(certificate));
    node.write("/root/main.pub", main.read("/root/.ssh/rsync_xds.pub"));
    let url = format!("https://{MAIN_ADDRESS}:8443/store");
    let joined = node
        .xds_sync([
            "join",
            "--store",
            &url,
            "--cacert",
            "/root/hub.crt",
            "--key",
            "/root/main.pub",
            "--name",
            "mds1",
        ])
        .ok();
    let approve = joined.lines().find(|line| line.contains("nodes approve mds1 --key SHA256:"));
    main.sh(approve.unwrap_or_else(|| panic!("{joined}"))).ok();
    main.xds_sync(["publish"]).ok();
    // Pauses of a tenth of a second: what takes minutes at a site.
    let config = node.read_text("/etc/xds-sync/node.toml");
    let startup =
        "[follow.startup]\nmode = 'sync'\nretries = 1000\nretry_pause = '100ms'\nretry_max = '100ms'\n";
    node.write("/etc/xds-sync/node.toml", format!("{config}\n{startup}"));
}

fn starts_once_the_hub_answers(main: &Host, node: &Host) {
    main.sh("systemctl stop xds-sync-serve").ok();
    node.sh("systemctl start --no-block xds-sync-follow.service asterisk.service").ok();
    eventually("the node to have tried more than once", START, || attempt(node) > 2);
    assert_eq!((state(node, FOLLOW), state(node, "asterisk")), ("activating".into(), "inactive".into()));
    assert!(!node.exists(FOUND));
    main.sh("systemctl start xds-sync-serve").ok();
    eventually("Asterisk to be started", START, || state(node, "asterisk") == "active");
    assert_eq!(node.read_text(FOUND), "closed.wav\nrecordings\n");
    assert_eq!((state(node, FOLLOW), standing(node)), ("active".into(), "current".into()));
}

fn sends_and_gets(main: &Host, node: &Host) {
    node.write_settled(format!("{SOUNDS}/recordings/greeting.wav"), "hello");
    main.write_settled(format!("{SOUNDS}/open.wav"), "open");
    main.xds_sync(["publish"]).ok();
    eventually("what was published to be there", START, || node.exists(format!("{SOUNDS}/open.wav")));
    eventually("the recording to be on Main", START, || {
        main.xds_sync(["publish"]).ok();
        main.exists(format!("{SOUNDS}/recordings/greeting.wav"))
    });
    eventually("Main's word that it has it", START, || follow_json(node)["taken"] == 1);
    node.sh("systemctl reload xds-sync-follow").ok();
    let result =
        node.sh("systemctl stop xds-sync-follow && systemctl show --property=Result xds-sync-follow").ok();
    assert_eq!(result, "Result=success\n");
}

fn starts_without_files_in_the_end(main: &Host, node: &Host) {
    main.sh("systemctl stop xds-sync-serve").ok();
    node.sh(format!("systemctl stop asterisk && rm -rf /var/lib/xds-sync/follow* {FOUND}")).ok();
    let config = node.read_text("/etc/xds-sync/node.toml");
    node.write("/etc/xds-sync/node.toml", config.replace("retries = 1000", "retries = 2"));
    node.sh("systemctl start xds-sync-follow.service asterisk.service").ok();
    assert!(node.exists(FOUND), "Asterisk is up, with what was there");
    assert_eq!((state(node, FOLLOW), standing(node)), ("active".into(), "degraded".into()));
}

fn state(host: &Host, unit: &str) -> String {
    host.sh(format!("systemctl is-active {unit}")).text().trim().to_owned()
}

fn follow_json(node: &Host) -> serde_json::Value {
    let text = node.sh("cat /var/lib/xds-sync/follow.json").text();
    serde_json::from_str(&text).unwrap_or_default()
}

fn attempt(node: &Host) -> u64 {
    follow_json(node)["attempt"].as_u64().unwrap_or_default()
}

fn standing(node: &Host) -> String {
    follow_json(node)["state"].as_str().unwrap_or_default().to_owned()
}
