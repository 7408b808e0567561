//! A cluster of both kinds: Main reaches one node over ssh, the other one follows Main's hub.

use crate::support::{Cluster, Host, LIMIT, eventually, wav};

const DOORS: &str = "/etc/asterisk/extensions_extra.d/10-doors.conf";
const RECORDINGS: &str = "/var/lib/xivo/sounds/recordings";
const CERTIFICATE: &str = "/var/lib/xds-sync/hub/certificate.pem";
const CONFIG: &str = r#"
[main]
name = "main"
[hub]
listen = "0.0.0.0:8443"
token_file = "/etc/xds-sync/hub-token"
[store]
url = "file:///srv/xds-store"
[[node]]
name = "mds1"
address = "10.77.0.11"
"#;

#[test]
fn a_node_that_main_cannot_reach_has_what_the_others_have_and_asterisk_uses_it() {
    let cluster = Cluster::new().nodes(2).config(CONFIG).build();
    let (main, mds1, mds2) = (&cluster.main, &cluster["mds1"], &cluster["mds2"]);
    mds2.stop_sshd();
    main.sh("mkdir -m 0700 /srv/xds-store && xds-sync store init").ok();
    let _hub = main.spawn_xds_sync(["serve"]);
    eventually("the hub to have a certificate", LIMIT, || main.exists(CERTIFICATE));
    mds2.write("/root/hub.crt", main.read(CERTIFICATE));
    mds2.write("/root/main.pub", main.read("/root/.ssh/rsync_xds.pub"));
    let join = "xds-sync join --store https://main:8443/store --key main.pub --cacert hub.crt --name mds2";
    let joined = mds2.sh(join).ok();
    let approve = joined.lines().find(|line| line.contains("nodes approve mds2 --key SHA256:"));
    main.sh(approve.unwrap_or_else(|| panic!("{joined}"))).ok();

    main.write_settled(DOORS, "[doors]\nexten => 7,1,Hangup()\n");
    main.write_settled("/var/lib/xivo/moh/default/waltz.wav", wav(8000));
    let syncs = || drop(main.sync_json([""; 0]).exits(0).changes());
    let follows = || drop(mds2.xds_sync(["follow", "--once"]).ok());
    syncs();
    // The hub looks at its configuration every five seconds.
    eventually("the hub to know the node", LIMIT, || mds2.xds_sync(["follow", "--once"]).code == 0);
    for node in [mds1, mds2] {
        assert!(node.asterisk("dialplan show doors").contains("Hangup"), "{}", node.name);
        assert!(node.asterisk("moh show files").contains("waltz"), "{}", node.name);
    }

    // Recordings of each go everywhere, and a deletion of one sticks.
    mds1.write_settled(format!("{RECORDINGS}/one.wav"), wav(800));
    mds2.write_settled(format!("{RECORDINGS}/two.wav"), wav(801));
    follows();
    syncs();
    follows();
    for (host, name) in cluster.hosts().flat_map(|host| ["one", "two"].map(|name| (host, name))) {
        assert!(host.exists(format!("{RECORDINGS}/{name}.wav")), "{name} on {}", host.name);
    }
    mds1.sh(format!("rm {RECORDINGS}/two.wav")).ok();
    for _ in 0..2 {
        syncs();
        follows();
    }
    for host in cluster.hosts() {
        assert!(!host.exists(format!("{RECORDINGS}/two.wav")), "{}", host.name);
        assert!(host.exists(format!("{RECORDINGS}/one.wav")), "{}", host.name);
    }
    assert_eq!(
        (mds2.reload_count("dialplan"), mds2.reload_count("moh")),
        (1, 1),
        "what is in step is not loaded again"
    );
    let status = main.xds_sync(["status"]).ok();
    assert!(status.contains("follows the store"), "{status}");
    the_hub_shows_both(main, mds1, mds2);
}

/// To Main itself, and to others with the token, as soon as there is one.
fn the_hub_shows_both(main: &Host, mds1: &Host, mds2: &Host) {
    mds1.stop_sshd();
    assert_eq!(main.sync_json([""; 0]).code, 40);
    let ask = |host: &Host, options: &str, path: &str| {
        let certificate = if host.name == "main" { CERTIFICATE } else { "/root/hub.crt" };
        let url = format!("https://main:8443{path}");
        let at = if host.name == "main" { "--resolve main:8443:127.0.0.1" } else { "" };
        host.sh(format!(
            "curl --silent --write-out '\\n%{{http_code}}' --cacert {certificate} {at} {options} {url}"
        ))
        .ok()
    };
    let page = ask(main, "", "/");
    for fact in [
        "1 of 2 media servers is not in step",
        "unreachable",
        "Connection refused",
        "follows the store",
        "\n200",
    ] {
        assert!(page.contains(fact), "{fact}: {page}");
    }
    let behind = page.split("<h2 id=\"well\">").next().unwrap();
    assert!(behind.contains("mds1") && !behind.contains("mds2"), "{page}");
    assert!(!page.contains(".wav"), "no file is named: {page}");
    main.sh(format!(
        "curl --silent --cacert {CERTIFICATE} --resolve main:8443:127.0.0.1 https://main:8443/metrics >metrics &&
         promtool check metrics <metrics"
    ))
    .ok();
    let metrics = main.read_text("/root/metrics");
    for fact in
        ["node_up{node=\"mds1\"} 0", "node_in_step{node=\"mds2\"} 1", "follower_publication{node=\"mds2\"} "]
    {
        assert!(metrics.contains(&format!("\nxds_sync_{fact}")), "{fact}: {metrics}");
    }

    assert!(ask(mds2, "", "/").ends_with("\n403"), "no token is there yet");
    main.sh("umask 077; echo correct-horse-battery-staple >/etc/xds-sync/hub-token").ok();
    assert!(ask(mds2, "", "/metrics").ends_with("\n401"));
    assert!(ask(mds2, "--user admin:wrong-horse-battery-staple", "/").ends_with("\n401"));
    assert!(ask(mds2, "--user admin:correct-horse-battery-staple", "/").ends_with("\n200"));
    let bearer = "--header 'Authorization: Bearer correct-horse-battery-staple'";
    assert!(ask(mds2, bearer, "/metrics").ends_with("\n200"));
    main.sh("chmod 644 /etc/xds-sync/hub-token").ok();
    assert!(ask(mds2, bearer, "/metrics").ends_with("\n403"), "what everybody may read is no secret");
}
