//! The lines that `init` prints for a host without xds-sync, and what they are offered by servers that are not Main.

use std::time::Duration;

use crate::support::{Cluster, Host, eventually};

const PROGRAM: &str = "/usr/bin/xds-sync";

fn cluster() -> Cluster {
    Cluster::new().nodes(1).without_asterisk().without_key().without_program("mds1").build()
}

/// The lines with curl and with wget.
fn lines(main: &Host) -> [String; 2] {
    let init = main.xds_sync(["init", "--publish", "hub"]).ok();
    ["on a node without xds-sync: ", "the same with wget: "].map(|before| {
        let line = init.lines().find_map(|line| Some(line.split_once(before)?.1.to_owned()));
        line.unwrap_or_else(|| panic!("no {before:?} in {init}"))
    })
}

fn await_listener(main: &Host) {
    eventually("a server listens", Duration::from_secs(20), || main.sh("ss -Hltn | grep :8443").success());
}

/// Nothing is where the program would be, nor anything of a try.
#[track_caller]
fn assert_nothing_installed(host: &Host) {
    assert_eq!(host.sh("ls -A /usr/bin | grep -E '^[.]?xds-sync'").text(), "");
}

#[test]
fn a_host_with_nothing_but_a_shell_becomes_a_node() {
    let cluster = cluster();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    let [curl, wget] = lines(main);
    let serve = main.spawn_xds_sync(["serve"]);
    await_listener(main);

    let join = |line: &str| mds1.run(["dash", "-c", line]).ok();
    // Root's PATH may lead to another program of that name, which is never called.
    mds1.write("/tmp/bin/xds-sync", "#!/bin/sh\ntouch /root/another-program\n");
    mds1.sh("chmod 755 /tmp/bin/xds-sync").ok();
    let installed = join(&format!("PATH=/tmp/bin:$PATH; {curl}"));
    assert!(installed.contains("installed /usr/bin/xds-sync: xds-sync "), "{installed}");
    assert!(!mds1.exists("/root/another-program"));
    // Again, by a host that has no curl: nothing is left to do.
    mds1.sh("mount --bind /dev/null /usr/bin/curl").ok();
    assert!(!join(&wget).contains("installed"));
    mds1.sh(format!("rm {PROGRAM}")).ok();
    assert!(join(&wget).contains("installed"));
    assert_eq!(mds1.sh("ls -A /usr/bin | grep -c '^.xds-sync'").text(), "0\n", "no leftovers");

    main.write_settled("/var/lib/xivo/sounds/a.wav", "a");
    main.sync_json(["--dir", "sounds"]).exits(0);
    assert!(mds1.exists("/var/lib/xivo/sounds/a.wav"));
    serve.signal(rustix::process::Signal::TERM);
    serve.wait();
}

/// Whoever stands between Main and a new node: any certificate, and any answer.
const IN_BETWEEN: &str = "\
user root;
worker_processes 1;
events {}
http {
    server {
        listen 8443 ssl;
        ssl_certificate /root/server.crt;
        ssl_certificate_key /root/server.key;
        default_type application/octet-stream;
        location = /xds-sync/mds_install.sh { include /root/script.conf; }
        location = /redirected { return 302 http://main/xds-sync; }
        location = /empty { return 200 \"\"; }
        location = /endless { alias /root/endless; }
        location = /wrong { alias /root/evil; }
        location = /slow { alias /usr/bin/xds-sync; limit_rate 1; }
        location = /right { alias /usr/bin/xds-sync; }
    }
    server {
        listen 80;
        location = /xds-sync { alias /usr/bin/xds-sync; }
        location = /xds-sync/mds_install.sh { alias /root/evil; }
    }
}
";

fn start_in_between(main: &Host) {
    main.sh("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=main \
             -keyout server.key -out server.crt 2>/dev/null && truncate -s 1T endless")
        .ok();
    main.write("/root/nginx.conf", IN_BETWEEN);
    main.write("/root/evil", "#!/bin/sh\ntouch /root/evil-ran\necho xds-sync 0.1.0\n");
    answer_for_the_script(main, "alias /root/evil;");
    await_listener(main);
}

fn answer_for_the_script(main: &Host, answer: &str) {
    main.write("/root/script.conf", answer);
    // Started anew, so that no worker of before answers.
    main.sh("[ ! -e /run/nginx.pid ] || service-of-host stop nginx; mkdir -p /var/log/nginx /var/lib/nginx; nginx -c /root/nginx.conf").ok();
}

#[test]
fn nothing_runs_as_root_that_is_not_the_script_of_main() {
    let cluster = cluster();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    let [curl, wget] = lines(main);
    start_in_between(main);
    for answer in [
        "alias /root/evil;",
        "return 302 http://main/xds-sync/mds_install.sh;",
        "return 200 \"\";",
        "alias /root/endless;",
        "return 404;",
    ] {
        answer_for_the_script(main, answer);
        for line in [&curl, &wget] {
            let run = mds1.sh(line);
            run.exits(1);
            assert!(run.text().ends_with("mds_install.sh: FAILED\n"), "{answer}: {run:?}");
            assert!(!mds1.exists("/root/evil-ran"), "{answer}: {run:?}");
            assert!(
                mds1.sh("stat --format=%s mds_install.sh").ok().trim().parse::<u64>().unwrap() <= 64 << 10
            );
            assert_nothing_installed(mds1);
        }
    }
}

#[test]
fn what_is_not_the_program_of_main_is_not_installed() {
    let cluster = cluster();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    let [line, _] = lines(main);
    let join = line.split_once("sh mds_install.sh ").unwrap().1;
    let sum_of =
        |host: &Host, file: &str| host.sh(format!("sha256sum {file} | cut -c1-64")).ok().trim().to_owned();
    let sum = sum_of(main, PROGRAM);
    start_in_between(main);
    // As it comes with the package, but with less patience and room.
    let script = include_str!("../../scripts/mds_install.sh")
        .replace("\nmax_seconds=600\n", "\nmax_seconds=3\n")
        .replace("\nmax_bytes=134217728\n", &format!("\nmax_bytes={}\n", main.read(PROGRAM).len()));
    mds1.write("/root/script", script);
    let install = |options: &str| mds1.sh(format!("dash script {options} {join}"));

    for (with, without) in [("curl", "wget"), ("wget", "curl")] {
        mds1.sh(format!("mount --bind /dev/null /usr/bin/{without}")).ok();
        for (answer, why) in [
            ("redirected", ""),
            ("empty", "nothing came from https://main:8443/empty"),
            ("endless", "bytes came from https://main:8443/endless"),
            ("wrong", "has SHA-256 "),
            ("slow", ""),
            ("missing", "nothing came from "),
        ] {
            let run = install(&format!("--binary https://main:8443/{answer} --sha256 {sum}"));
            run.exits(1);
            assert!(
                run.err().contains(why) && run.err().contains("nothing was installed"),
                "{with}: {run:?}"
            );
            assert_nothing_installed(mds1);
        }
        mds1.sh(format!("umount /usr/bin/{without}")).ok();
    }
    mds1.sh("mount --bind /dev/null /usr/bin/curl && mount --bind /dev/null /usr/bin/wget").ok();
    assert!(install(&format!("--sha256 {sum}")).exits(1).err().contains("neither curl nor wget"));
    mds1.sh("umount /usr/bin/curl /usr/bin/wget").ok();

    // Without a checksum nothing is installed, wherever it comes from.
    for binary in ["", "--binary https://main:8443/right", "--binary /bin/true"] {
        assert!(install(binary).exits(1).err().contains("--sha256 SUM is needed"), "{binary}");
    }
    assert!(
        install(&format!("--binary http://main/xds-sync --sha256 {sum}"))
            .exits(1)
            .err()
            .contains("only https")
    );
    // The checksum is right, and it is another file.
    mds1.write("/root/evil", "#!/bin/sh\ntouch /root/evil-ran\necho xds-sync 0.1.0\n");
    for (file, why) in
        [("/root/evil", "is no program"), ("/bin/true", "is not xds-sync"), ("/bin/false", "does not run")]
    {
        let run = install(&format!("--binary {file} --sha256 {}", sum_of(mds1, file)));
        assert!(run.exits(1).err().contains(why), "{run:?}");
    }
    assert_nothing_installed(mds1);
    assert!(!mds1.exists("/root/evil-ran"));

    // The same server hands out the right one, and that is installed; the key is not from there, and is refused.
    let run = install(&format!("--binary https://main:8443/right --sha256 {sum}"));
    assert!(run.text().contains("installed /usr/bin/xds-sync: xds-sync "), "{run:?}");
    run.exits(1);
    assert!(!mds1.exists("/root/.ssh/authorized_keys") || mds1.read("/root/.ssh/authorized_keys").is_empty());
}

#[test]
fn one_client_cannot_close_the_hub() {
    let cluster = Cluster::new().nodes(2).without_asterisk().without_key().build();
    let (main, mds1, mds2) = (&cluster.main, &cluster["mds1"], &cluster["mds2"]);
    let init = main.xds_sync(["init", "--publish", "hub"]).ok();
    let join = init.lines().find_map(|line| line.split_once("on each node: ")).unwrap().1;
    let _serve = main.spawn_xds_sync(["serve"]);
    await_listener(main);
    // As many as there are places at all. They are at it for longer than the rest of this takes.
    let url = "https://main:8443/xds-sync/xds-sync";
    let _slow = mds1.spawn([
        "bash",
        "-c",
        &format!("for i in {{1..64}}; do curl -sk --limit-rate 1k -o /dev/null {url} & done; wait"),
    ]);
    eventually("the places of mds1 are taken", Duration::from_secs(20), || {
        main.sh("ss -Htn state established 'sport = :8443' | wc -l").ok().trim() == "8"
    });
    mds2.sh(format!("curl -sSfk -o program {url} && cmp program /usr/bin/xds-sync")).ok();
    mds2.sh(join).ok();
    assert_eq!(
        main.sh("ss -Htn state established 'sport = :8443' | wc -l").ok(),
        "8\n",
        "mds1 is still at it"
    );
}

#[test]
fn the_hub_needs_no_secrets() {
    let cluster = Cluster::new().nodes(1).without_asterisk().without_key().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    let init = main.xds_sync(["init", "--publish", "hub"]).ok();
    let join = init.lines().find_map(|line| line.split_once("on each node: ")).unwrap().1;
    let (open, secret) = ("/etc/xds-sync/conf.d/discovery.toml", "/etc/xds-sync/conf.d/secrets.toml");
    main.write(open, "[discovery.postgres]\nquery = \"SELECT name, voip_ip FROM mediaserver\"\n");
    main.write(secret, "[discovery.postgres]\nurl = \"postgresql://xds:password@db/asterisk\"\n");
    main.sh(format!("chmod 644 {open} {secret}")).ok();
    let checked = main.xds_sync(["config", "check"]);
    assert!(
        checked.exits(0).err().contains("secrets.toml:2: discovery.postgres.url: holds a secret"),
        "{checked:?}"
    );
    main.sh(format!("chmod 600 {secret}")).ok();
    let checked = main.xds_sync(["config", "check"]);
    assert!(!checked.exits(0).err().contains("secret"), "{checked:?}");

    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "HOME=/tmp"];
    let own_state = "XDS_SYNC_SYNC_STATE_DIR=/tmp/hub";
    let as_nobody = |args: &[&str]| main.spawn([&nobody, &[own_state, "xds-sync"][..], args].concat());
    let serve = as_nobody(&["serve"]);
    await_listener(main);
    mds1.sh(join).ok();
    serve.signal(rustix::process::Signal::TERM);
    let served = serve.wait();
    let skipped = format!("{secret} is skipped");
    assert!(served.exits(0).err().contains(&skipped) && !served.err().contains("password"), "{served:?}");
    // What needs them says so.
    let refused = as_nobody(&["config", "check"]).wait();
    assert!(refused.exits(1).text().contains("secrets.toml:1: cannot be read"), "{refused:?}");
}
