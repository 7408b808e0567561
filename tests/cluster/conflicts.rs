//! A conflict that waits for an administrator.

use crate::support::Cluster;

const GREETING: &str = "/var/lib/xivo/sounds/recordings/greeting.wav";
const MANUAL: &str = r#"
[[directory]]
name = "recordings"
path = "/var/lib/xivo/sounds/recordings"
direction = "both"
conflict = "manual"
"#;

#[test]
fn nothing_moves_until_somebody_decides() {
    let cluster = Cluster::new().nodes(2).without_asterisk().more_config(MANUAL).build();
    let main = &cluster.main;
    main.write_settled(GREETING, "first");
    main.sync_json([""; 0]).exits(0);
    main.write_settled(GREETING, "Main's");
    cluster["mds1"].write_settled(GREETING, "of mds1");
    for _ in 0..2 {
        main.sync_json([""; 0]).exits(43);
        assert_eq!(main.read_text(GREETING), "Main's");
        assert_eq!(cluster["mds1"].read_text(GREETING), "of mds1");
        assert_eq!(cluster["mds2"].read_text(GREETING), "first");
    }
    let listed = main.xds_sync(["conflicts", "--json"]);
    let conflict = &listed.json()["conflicts"][0];
    assert_eq!((&conflict["path"], &conflict["state"]), (&"greeting.wav".into(), &"waiting".into()));
    assert_eq!(conflict["versions"].as_array().unwrap().len(), 3);

    let shown = main.xds_sync(["conflicts"]).ok();
    let line =
        |host: &str| shown.lines().find(|line| line.trim_start().starts_with(host)).unwrap().to_owned();
    assert!(line("mds2:").ends_with("; did not change it") && !line("mds1:").contains("did not"), "{shown}");
    // Each version can be listened to before anything is decided.
    for (host, content) in [("mds1", "of mds1"), ("main", "Main's"), ("mds2", "first")] {
        let to = format!("/tmp/of-{host}.wav");
        main.xds_sync(["conflicts", "show", "recordings", "greeting.wav", "--fetch", host, "--to", &to])
            .exits(0);
        assert_eq!(main.read_text(&to), content);
    }
    main.xds_sync(["conflicts", "show", "recordings", "greeting.wav", "--fetch", "mds9", "--to", "/tmp/x"])
        .exits(1);
    main.xds_sync(["conflicts", "clear"]).exits(0);
    assert_eq!(main.xds_sync(["conflicts"]).ok(), shown, "what waits stays");

    main.xds_sync(["conflicts", "resolve", "recordings", "greeting.wav", "--keep", "nobody"]).exits(1);
    main.xds_sync(["conflicts", "resolve", "recordings", "other.wav", "--keep", "main"]).exits(1);
    main.xds_sync(["conflicts", "resolve", "recordings", "greeting.wav", "--keep", "mds1"]).exits(0);
    main.sync_json([""; 0]).exits(0);
    for host in cluster.hosts() {
        assert_eq!(host.read_text(GREETING), "of mds1", "{}", host.name);
    }
    assert!(main.sh("grep -r \"Main's\" /var/lib/xivo/sounds/recordings/.xds-sync/trash").success());
    let listed = main.xds_sync(["conflicts", "--json"]);
    let conflict = &listed.json()["conflicts"][0];
    assert_eq!((&conflict["state"], &conflict["winner"]), (&"decided".into(), &"mds1".into()));
    assert_eq!(main.sync_json([""; 0]).exits(0).changes(), [""; 0]);
    main.xds_sync(["conflicts", "clear", "recordings", "greeting.wav"]).exits(0);
    assert_eq!(main.xds_sync(["conflicts"]).ok(), "no conflicts\n");
}
