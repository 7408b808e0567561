//! From nothing: a Main that hands its key out by the hub, a node that gets the program from there, another one that
//! has the package.

use std::time::Duration;

use crate::made::{Administrator, bring, clean_cluster, everything, furnish};
use crate::support::{Host, eventually};

/// Longer than cron can take to come to the next full minute.
const NEXT_MINUTE: Duration = Duration::from_secs(100);
const INSTALL: &str = "apt-get install --yes --quiet=2 ./xds-sync.deb";

#[test]
fn in_under_ten_commands_and_back_to_nothing() {
    let cluster = clean_cluster().build();
    let [main, mds1, mds2] = [&cluster.main, &cluster["mds1"], &cluster["mds2"]];
    for host in cluster.hosts() {
        furnish(host);
    }
    bring(main);
    bring(mds2);
    main.write_settled("/var/lib/xivo/sounds/closed.wav", "closed");

    // --- nine commands ---
    let mut typist = Administrator::default();
    typist.types(main, INSTALL);
    let init = typist.types(main, "xds-sync init --publish hub");
    // What `systemctl enable --now xds-sync-serve` starts.
    typist.typed += 1;
    let serve = main.spawn_xds_sync(["serve"]);
    eventually("the hub to listen", Duration::from_secs(20), || main.sh("ss -Hltn | grep :8443").success());

    let after = |words: &str| init.lines().find_map(|line| Some(line.split_once(words)?.1)).unwrap();
    let new_node = after("on a node without xds-sync: ");
    typist.types(mds1, new_node);
    let join = after("on each node: ");
    typist.types(mds2, INSTALL);
    typist.types(mds2, join);
    typist.types(main, "xds-sync nodes add mds1 10.77.0.11");
    typist.types(main, "xds-sync nodes add mds2 10.77.0.12");
    typist.types(main, "xds-sync sync");
    assert!(typist.typed < 10, "{} commands", typist.typed);
    for node in [mds1, mds2] {
        assert_eq!(node.read_text("/var/lib/xivo/sounds/closed.wav"), "closed");
    }

    // --- all of it again ---
    let before: Vec<String> = cluster.hosts().map(everything).collect();
    typist.types(main, INSTALL);
    typist.types(main, "xds-sync init --publish hub");
    typist.types(mds1, new_node);
    typist.types(mds2, INSTALL);
    typist.types(mds2, join);
    typist.types(main, "xds-sync nodes add mds1 10.77.0.11");
    typist.types(main, "xds-sync nodes add mds2 10.77.0.12");
    main.sync_json([""; 0]).exits(0);
    assert!(main.sync_json([""; 0]).changes().is_empty());
    let now: Vec<String> = cluster.hosts().map(everything).collect();
    for (before, now) in before.iter().zip(&now) {
        assert_same(before, now);
    }

    cron_runs_the_job(main, [mds1, mds2]);
    what_is_installed_answers(main);
    serve.signal(rustix::process::Signal::TERM);
    serve.wait().exits(0);
    purged_on_main(&mut typist, main);
    purged_on_a_node(&mut typist, mds2);
}

#[track_caller]
fn assert_same(before: &str, now: &str) {
    let differs: Vec<_> = now.lines().filter(|line| !before.lines().any(|old| old == *line)).collect();
    assert!(before == now, "changed by doing it again: {differs:#?}");
}

/// Debian's own cron, in its own time.
fn cron_runs_the_job(main: &Host, nodes: [&Host; 2]) {
    main.write("/etc/xds-sync/conf.d/schedule.toml", "[schedule]\ncron = \"* * * * *\"\n");
    main.xds_sync(["init", "--publish", "none"]).ok();
    let stamp = "/var/lib/xds-sync/last-success";
    let last = main.mtime_ns(stamp);
    main.write_settled("/var/lib/xivo/sounds/by-cron.wav", "by cron");
    main.start_cron();
    eventually("cron to run the job, and the job to succeed", NEXT_MINUTE, || main.mtime_ns(stamp) != last);
    assert!(nodes.iter().all(|node| node.exists("/var/lib/xivo/sounds/by-cron.wav")));
    main.await_syslog(
        "(root) CMD (! command -v xds-sync >/dev/null || nice -n 10 ionice -c 2 -n 7 xds-sync sync --quiet --cron)",
    );
    main.await_syslog("sounds: main -> mds2: create by-cron.wav");
    // What cron says of a job that printed something, where there is no mail.
    let noise = main.syslog().into_iter().find(|line| line.contains("MTA"));
    assert_eq!(noise, None, "the job is silent when all went well");
    main.sh("service-of-host stop cron").ok();
}

/// Names, pages and completions, as they came with the package.
fn what_is_installed_answers(main: &Host) {
    main.sh("xivo-xds-sync -n && xds-sync config check").ok();
    let listed = main.sh("dpkg --listfiles xds-sync").ok();
    for page in ["man1/xds-sync.1", "man1/xds-sync-join.1", "man5/xds-sync-config.5"] {
        assert!(listed.contains(&format!("/usr/share/man/{page}.gz\n")), "{listed}");
    }
    main.sh("bash -c '. /usr/share/bash-completion/completions/xds-sync && complete -p xds-sync'").ok();
}

fn purged_on_main(typist: &mut Administrator, main: &Host) {
    main.write("/etc/xds-sync/hub-token", "the administrator's own");
    main.mkdir("/var/lib/xivo/sounds/.xds-sync/trash/kept");
    let job = main.sh("tail --lines=1 /etc/cron.d/xivo-xds-sync | cut --delimiter=' ' --fields=7-").ok();

    typist.types(main, "apt-get remove --yes --quiet=2 xds-sync");
    assert!(main.exists("/etc/cron.d/xivo-xds-sync") && main.exists("/var/lib/xds-sync"));
    assert!(!main.exists("/usr/bin/xivo-xds-sync"), "the alias, and its diversion");
    let silent = main.run(["sh", "-c", job.trim_end()]);
    assert_eq!((silent.code, silent.text() + &silent.err()), (0, String::new()), "{job}");

    typist.types(main, "apt-get purge --yes --quiet=2 xds-sync");
    for gone in [
        "/etc/cron.d/xivo-xds-sync",
        "/etc/xds-sync/config.toml",
        "/etc/xds-sync/conf.d/nodes.toml",
        "/etc/xds-sync/conf.d/hub.toml",
        "/var/lib/xds-sync",
        "/usr/share/xds-sync",
    ] {
        assert!(!main.exists(gone), "{gone}");
    }
    for kept in [
        "/root/.ssh/rsync_xds",
        "/root/.ssh/rsync_xds.pub",
        "/usr/share/xivo-certs/rsync_xds.pub",
        "/var/lib/xivo/sounds/closed.wav",
        "/var/lib/xivo/sounds/.xds-sync/trash/kept",
        "/etc/xds-sync/hub-token",
        "/etc/xds-sync/conf.d/schedule.toml",
    ] {
        assert!(main.exists(kept), "{kept}");
    }
    assert_eq!(main.sh("dpkg-divert --list '*xds*'").text(), "");
}

fn purged_on_a_node(typist: &mut Administrator, node: &Host) {
    let keys = "/root/.ssh/authorized_keys";
    let joined = node.read_text(keys);
    let others = "# of the administrator\n  ssh-ed25519 AAAA somebody\n";
    node.write(keys, format!("{others}{joined}no-pty ssh-ed25519 AAAB another, without a line end"));
    typist.types(node, "apt-get purge --yes --quiet=2 xds-sync");
    assert_eq!(
        node.read_text(keys),
        format!("{others}no-pty ssh-ed25519 AAAB another, without a line end"),
        "nobody may run a program that is gone; all else stays"
    );
    assert_eq!(node.sh("stat --format='%a %U' .ssh/authorized_keys").ok(), "600 root\n");
    assert!(!node.exists("/etc/xds-sync"));
    assert!(node.exists("/var/lib/xivo/sounds/closed.wav"));
}
