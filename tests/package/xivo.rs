//! A XiVO with its own script for this: taken over without touching the media servers, and given back.

use crate::made::{Administrator, bring, clean_cluster, furnish};
use crate::support::{Host, LIMIT, eventually};

const ALIAS: &str = "/usr/bin/xivo-xds-sync";
const CRON: &str = "/etc/cron.d/xivo-xds-sync";
const ENABLED: &str = "/etc/nginx/locations/https-enabled";
const DOWNLOAD: &str = "/usr/share/xivo-certs/xds-sync/xds-sync";
const FETCH: &str = "curl --silent --insecure --write-out %{http_code} --output /tmp/fetched https://main";

#[test]
fn an_existing_xds_is_taken_over_and_comes_back() {
    let cluster = clean_cluster().build();
    let [main, mds1, mds2] = [&cluster.main, &cluster["mds1"], &cluster["mds2"]];
    for host in cluster.hosts() {
        furnish(host);
    }
    let key = existing_xds(main, [mds1, mds2]);
    main.start_nginx();
    bring(main);
    main.write_settled("/var/lib/xivo/sounds/closed.wav", "closed");

    let mut typist = Administrator::default();
    typist.types(main, "apt-get install --yes --quiet=2 ./xds-sync.deb");
    let init = typist.types(main, "xds-sync init");
    assert!(init.contains("kept /root/.ssh/rsync_xds (ssh-rsa "), "{init}");
    assert!(init.contains(&format!("replaced {CRON}")), "{init}");
    typist.types(main, "xds-sync nodes add mds1 10.77.0.11");
    typist.types(main, "xds-sync nodes add mds2 10.77.0.12");
    typist.types(main, "xds-sync nodes install mds1 mds2");
    typist.types(main, "xivo-xds-sync");
    assert!(typist.typed < 10, "{} commands", typist.typed);
    for node in [mds1, mds2] {
        assert_eq!(node.read_text("/var/lib/xivo/sounds/closed.wav"), "closed");
        assert!(node.read_text("/root/.ssh/authorized_keys").contains(&key), "the same key");
    }
    assert_eq!(main.sh(format!("{FETCH}/ssh-key/rsync_xds.pub")).ok(), "200");
    assert!(main.read_text("/tmp/fetched").contains(&key));

    typist.types(main, "xds-sync init");
    upgraded(&mut typist, main);
    given_back(&mut typist, main);
}

/// Main as XiVO leaves it: nginx, a script with its key and its job, in a package that owns the script; and nodes that
/// let that key in. Gives the key.
fn existing_xds(main: &Host, nodes: [&Host; 2]) -> String {
    main.sh(
        "set -e
         mkdir -p /etc/nginx/locations/https-available /etc/nginx/locations/https-enabled /etc/nginx/certificates
         openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=main -days 2 \
             -keyout /etc/nginx/certificates/key.pem -out /etc/nginx/certificates/certificate.pem 2>/dev/null
         rm -f /etc/nginx/sites-enabled/default
         ssh-keygen -q -t rsa -N '' -C root@main -f /root/.ssh/rsync_xds
         install -D -m 0644 /root/.ssh/rsync_xds.pub /usr/share/xivo-certs/rsync_xds.pub",
    )
    .ok();
    main.write(
        "/etc/nginx/sites-enabled/xivo",
        "server {\n    listen 443 ssl;\n    ssl_certificate /etc/nginx/certificates/certificate.pem;\n    \
         ssl_certificate_key /etc/nginx/certificates/key.pem;\n    include /etc/nginx/locations/https-enabled/*;\n}\n",
    );
    main.write(CRON, "*/15 * * * * root /usr/bin/xivo-xds-sync\n");
    let package = "/root/xivo";
    main.write(format!("{package}{ALIAS}"), "#!/bin/sh\necho the script of XiVO\n");
    main.chmod(format!("{package}{ALIAS}"), 0o755);
    main.write(
        format!("{package}/DEBIAN/control"),
        "Package: xivo-config\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@xivo.invalid>\n\
         Description: owns the script\n",
    );
    main.sh(format!("chmod -R g-ws {package} && dpkg-deb --build {package} && dpkg --install {package}.deb"))
        .ok();

    let key = main.read_text("/root/.ssh/rsync_xds.pub");
    for node in nodes {
        node.sh("install -d -m 0700 /root/.ssh").ok();
        node.write("/root/.ssh/authorized_keys", &key);
        node.chmod("/root/.ssh/authorized_keys", 0o600);
    }
    key.split(' ').nth(1).expect("a public key").to_owned()
}

/// What new nodes get is of the new version, the administrator's file is the administrator's, and XiVO's package may be
/// upgraded meanwhile.
fn upgraded(typist: &mut Administrator, main: &Host) {
    let config = "[main]\nhost = \"main\"\n";
    main.write("/etc/xds-sync/config.toml", config);
    main.write(DOWNLOAD, "an older version");
    let link = main.sh(format!("readlink {ENABLED}/xds-sync")).ok();
    typist.types(main, "dpkg --install ./xds-sync.deb");
    assert_eq!(main.read_text("/etc/xds-sync/config.toml"), config);
    assert!(main.read(DOWNLOAD) == main.read("/usr/bin/xds-sync"));
    main.sh(format!("cd $(dirname {DOWNLOAD}) && sha256sum --check --quiet *.sha256")).ok();
    assert_eq!(main.sh(format!("readlink {ENABLED}/xds-sync")).ok(), link);

    main.sh("dpkg --install /root/xivo.deb").ok();
    assert_eq!(main.sh(format!("readlink {ALIAS}")).ok(), "xds-sync\n");
    assert!(main.read_text(format!("{ALIAS}.xivo")).contains("the script of XiVO"));
}

fn given_back(typist: &mut Administrator, main: &Host) {
    // A purge that cannot go on once it comes to the link must not have taken away what the link leads to.
    main.sh(format!("mount --bind {ENABLED} {ENABLED} && mount -o remount,bind,ro {ENABLED}")).ok();
    typist.tries(main, "dpkg --purge xds-sync").exits(1);
    assert!(main.exists(format!("{ENABLED}/xds-sync")));
    main.sh("nginx -t").ok();
    main.sh(format!("umount {ENABLED}")).ok();

    typist.types(main, "dpkg --purge xds-sync");
    for gone in [CRON, "/etc/xds-sync", "/var/lib/xds-sync", "/usr/share/xivo-certs/xds-sync"] {
        assert!(!main.exists(gone), "{gone}");
    }
    for dir in [ENABLED, "/etc/nginx/locations/https-available"] {
        assert_eq!(main.sh(format!("ls -A {dir}")).ok(), "", "{dir}");
    }
    main.sh("nginx -t").ok();
    eventually("nginx to have read that", LIMIT, || {
        main.sh(format!("{FETCH}/ssh-key/rsync_xds.pub")).text() == "404"
    });
    assert_eq!(main.run(["xivo-xds-sync"]).ok(), "the script of XiVO\n");
    assert!(main.exists("/root/.ssh/rsync_xds") && main.exists("/usr/share/xivo-certs/rsync_xds.pub"));
}
