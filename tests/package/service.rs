//! The hub as a service: under its real systemd, so that what shields it does not keep it from its work.

use std::time::Duration;

use crate::made::{booted, bring, furnish};
use crate::support::{Host, eventually};

const SERVICE: &str = "xds-sync-serve";
const KEY: &str = "https://127.0.0.1:8443/ssh-key/rsync_xds.pub";
const DOWNLOADS: &str = "https://127.0.0.1:8443/xds-sync";
const CERTIFICATE: &str = "/var/lib/private/xds-sync-hub/hub/certificate.pem";

#[test]
fn the_hub_is_a_service_that_is_started_when_wanted_and_can_do_little() {
    let main = booted("main");
    bring(&main);
    main.sh("apt-get install --yes --quiet=2 ./xds-sync.deb").ok();
    assert_eq!(main.sh(format!("systemctl is-enabled {SERVICE}")).text(), "disabled\n");
    assert_eq!(main.sh(format!("systemctl is-active {SERVICE}")).text(), "inactive\n");

    let init = main.xds_sync(["init", "--publish", "hub"]).ok();
    let start = format!("systemctl enable --now {SERVICE}");
    assert!(init.contains(&start), "{init}");
    main.sh(&start).ok();
    serves(&main);
    main.sh(format!(
        "cd /usr/bin && curl --silent --insecure {DOWNLOADS}/xds-sync.sha256 | sha256sum --check --quiet"
    ))
    .ok();

    let pid = pid(&main);
    let status = main.read_text(format!("/proc/{pid}/status"));
    let is = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        line.unwrap_or_else(|| panic!("no {name} in {status}")).to_owned()
    };
    assert!(!is("Uid").starts_with("0\t"), "not root: {}", is("Uid"));
    assert_eq!((is("CapBnd").trim_start_matches('0'), is("NoNewPrivs").as_str()), ("", "1"));
    assert_eq!(is("Seccomp"), "2");

    // Its certificate is kept; the state of runs does not concern it.
    let certificate = main.read(CERTIFICATE);
    main.sh(format!("systemctl restart {SERVICE}")).ok();
    serves(&main);
    assert!(main.read(CERTIFICATE) == certificate);
    assert!(!main.exists("/var/lib/xds-sync/hub"));

    shows_how_nodes_are(&main);

    let before = self::pid(&main);
    main.sh("dpkg --install ./xds-sync.deb").ok();
    serves(&main);
    assert_ne!(self::pid(&main), before, "after an upgrade the new version runs");

    main.sh("apt-get purge --yes --quiet=2 xds-sync").ok();
    assert_eq!(main.sh(format!("systemctl is-active {SERVICE}")).text(), "inactive\n");
    assert_eq!(main.sh("find /etc/systemd /var/lib /lib/systemd -name '*xds-sync*'").text(), "");
}

#[test]
fn the_daemon_is_a_service_that_init_starts_and_cron_keeps_a_net_under_it() {
    const WATCH: &str = "xds-sync-watch";
    let main = booted("main");
    bring(&main);
    main.sh("apt-get install --yes --quiet=2 ./xds-sync.deb").ok();
    furnish(&main);
    let is = |property: &str| main.sh(format!("systemctl is-{property} {WATCH}")).text();
    assert_eq!((is("enabled"), is("active")), ("disabled\n".to_owned(), "inactive\n".to_owned()));

    main.xds_sync(["init", "--publish", "none", "--watch"]).ok();
    // Active means ready: it has told systemd.
    assert_eq!((is("enabled"), is("active")), ("enabled\n".to_owned(), "active\n".to_owned()));
    let job = || main.read_text("/etc/cron.d/xivo-xds-sync");
    assert!(job().contains("\n17 * * * * root "), "{}", job());
    let status = main.xds_sync(["status"]).text();
    assert!(status.contains("watching since"), "{status}");

    // `init` again leaves that as it is; a reload too.
    main.xds_sync(["init", "--publish", "none"]).ok();
    assert!(job().contains("\n17 * * * * root "), "{}", job());
    main.sh(format!("systemctl reload {WATCH}")).ok();
    eventually("the configuration to be read again", Duration::from_secs(30), || {
        main.sh(format!("journalctl --unit={WATCH} --no-pager")).text().contains("read again")
            || main.sh("grep -rs 'read again' /var/log/syslog").success()
    });
    assert_eq!(is("active"), "active\n");
    main.sh(format!("systemctl stop {WATCH}")).ok();
    let result = main.sh(format!("systemctl show --property=Result,ExecMainStatus {WATCH}")).ok();
    assert!(result.contains("Result=success") && result.contains("ExecMainStatus=0"), "{result}");
    assert!(!main.exists("/run/xds-sync/control"));

    main.sh(format!("systemctl start {WATCH}")).ok();
    main.sh("apt-get purge --yes --quiet=2 xds-sync").ok();
    assert_eq!(is("active"), "inactive\n");
    assert_eq!(main.sh("find /etc/systemd /var/lib/systemd /lib/systemd -name '*xds-sync*'").text(), "");
    assert!(!main.exists("/var/lib/xds-sync") && !main.exists("/etc/cron.d/xivo-xds-sync"));
}

/// As another user than root it has what runs leave for it, and the token that root alone may read.
fn shows_how_nodes_are(main: &Host) {
    const TOKEN: &str = "correct-horse-battery-staple";
    // Whoever asks at this address comes from it, and not from loopback.
    main.sh("ip address add 10.79.0.1/32 dev lo").ok();
    furnish(main);
    let code = |options: &str, host: &str| {
        let url = format!("https://{host}:8443/");
        main.sh(format!(
            "curl --silent --insecure --output page --write-out '%{{http_code}}' {options} {url}"
        ))
        .text()
    };
    assert_eq!(code("", "127.0.0.1"), "503", "there was no run yet");
    main.xds_sync(["nodes", "add", "mds1", "10.79.0.11"]).ok();
    assert_eq!(main.xds_sync(["sync"]).code, 41);
    assert_eq!(code("", "127.0.0.1"), "200");
    let page = main.read_text("/root/page");
    assert!(page.contains("mds1") && page.contains("unreachable") && page.contains("10.79.0.11"), "{page}");
    assert_eq!(code("", "10.79.0.1"), "403");

    main.sh(format!("umask 077; echo {TOKEN} >/etc/xds-sync/hub-token")).ok();
    main.write("/etc/xds-sync/conf.d/token.toml", "[hub]\ntoken_file = '/etc/xds-sync/hub-token'\n");
    main.sh(format!("systemctl restart {SERVICE}")).ok();
    serves(main);
    let bearer = |token: &str| format!("--header 'Authorization: Bearer {token}'");
    assert_eq!((code("", "10.79.0.1"), code(&bearer(TOKEN), "10.79.0.1")), ("401".into(), "200".into()));
    // The copy that systemd made is of a file that is gone, and of one that is another now.
    main.sh("mv /etc/xds-sync/hub-token /root").ok();
    assert_eq!(code(&bearer(TOKEN), "10.79.0.1"), "403");
    main.sh("umask 077; echo another-horse-battery-staple >/etc/xds-sync/hub-token").ok();
    assert_eq!(code(&bearer(TOKEN), "10.79.0.1"), "403");
    main.sh(format!("systemctl restart {SERVICE}")).ok();
    serves(main);
    assert_eq!(code(&bearer("another-horse-battery-staple"), "10.79.0.1"), "200");
    main.sh("rm -r /etc/xds-sync/hub-token /etc/xds-sync/conf.d/token.toml /var/lib/xivo").ok();
}

#[track_caller]
fn serves(main: &Host) {
    let wanted = main.read("/root/.ssh/rsync_xds.pub");
    eventually("the service to serve the key", Duration::from_secs(30), || {
        main.sh(format!("curl --silent --insecure {KEY}")).stdout == wanted
    });
}

fn pid(main: &Host) -> String {
    main.sh(format!("systemctl show --property=MainPID --value {SERVICE}")).ok().trim().to_owned()
}
