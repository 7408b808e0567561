//! A cluster of both kinds: Main reaches one node over ssh, the other one follows Main's hub.

use crate::support::{Cluster, LIMIT, eventually, wav};

const DOORS: &str = "/etc/asterisk/extensions_extra.d/10-doors.conf";
const RECORDINGS: &str = "/var/lib/xivo/sounds/recordings";
const CERTIFICATE: &str = "/var/lib/xds-sync/hub/certificate.pem";
const CONFIG: &str = r#"
[main]
name = "main"
[hub]
listen = "0.0.0.0:8443"
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
}
