//! What other users of a host can put in the way to a root. Nothing of root's is read or written through it.

use std::time::Duration;

use crate::support::{Cluster, Host, eventually};

const MOH: &str = "/var/lib/xivo/moh";
const SOUNDS: &str = "/var/lib/xivo/sounds";
const RECORDINGS: &str = "/var/lib/xivo/sounds/recordings";
/// A directory of Asterisk's user, on the same filesystem.
const HIS: &str = "/var/lib/xivo/his";
/// The user who owns the directories.
const AS_ASTERISK: &str = "setpriv --reuid=asterisk --regid=asterisk --clear-groups";

/// Changes two names for each other as fast as it can, until there is a file `/tmp/stop`. Tells how often it did.
const FLIPPER: &str = r#"
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
a, b = (os.fsencode(name) for name in sys.argv[1:3])
flips = 0
while not os.path.exists('/tmp/stop'):
    flips += libc.renameat2(-100, a, -100, b, 2) == 0
    time.sleep(0.0003)
print(flips, os.strerror(ctypes.get_errno()))
"#;

fn as_asterisk(host: &Host, script: &str) {
    host.sh(format!("{AS_ASTERISK} sh -c '{script}'")).ok();
}

/// Something of root's that nobody may read, and a directory in which cron would run what is put there.
fn plant_secrets(host: &Host) -> impl Fn(&Host) {
    host.sh("mkdir -p /etc/cron.daily && echo secret >/etc/cron.daily/of-root && chmod 0700 /etc/cron.daily/of-root")
        .ok();
    let list = |host: &Host| host.sh("find /etc/cron.d /etc/cron.daily -printf '%p %m %u %s\\n' | sort").ok();
    let before = list(host);
    move |host: &Host| assert_eq!(list(host), before, "{}: what is root's was touched", host.name)
}

fn directories<'r>(run: &'r crate::support::Run, node: &str, name: &str) -> &'r serde_json::Value {
    let directories = run.node(node)["directories"].as_array().unwrap();
    directories.iter().find(|directory| directory["name"] == name).unwrap()
}

#[test]
fn a_push_does_not_lay_the_way_to_its_next_root() {
    let cluster = Cluster::new()
        .nodes(2)
        .without_asterisk()
        .config(&format!(
            "[[directory]]\nname = 'moh'\npath = '{MOH}'\n[[directory]]\nname = 'e1'\npath = '/srv/e1'\nsettle = '1s'\n\
             [[node]]\nname = 'mds1'\naddress = 'mds1'\npaths = {{ e1 = '{MOH}/x/cron.d' }}\n\
             [[node]]\nname = 'mds2'\naddress = 'mds2'\npaths = {{ e1 = '{MOH}/e1' }}\n"
        ))
        .build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    for node in &cluster.nodes {
        node.write("/etc/xds-sync/node.toml", format!("roots = ['{MOH}']\n[reload]\n"));
    }
    // In a directory of root's, too, and with what would make x a directory of root's own making.
    mds1.sh("chown -R root:root /var/lib/xivo && chmod -R go-w /var/lib/xivo").ok();
    let untouched = plant_secrets(mds1);
    main.mkdir(format!("{MOH}/d1/d2/d3/d4"));
    main.symlink("../../../..", format!("{MOH}/d1/d2/d3/d4/up"));
    main.symlink("d1/d2/d3/d4/up/../../../../etc", format!("{MOH}/x"));
    main.write_settled(format!("{MOH}/hold.wav"), "music");
    main.mkdir("/srv/e1");
    main.write_settled("/srv/e1/pwn", "* * * * * root id\n");
    let run = main.sync_json([""; 0]);
    // The chain is not carried, so that the root is a directory that the run has made.
    assert!(run.output.text().contains("symlink that is absolute or leaves"), "{:?}", run.json);
    assert!(mds1.exists(format!("{MOH}/hold.wav")) && cluster["mds2"].exists(format!("{MOH}/e1/pwn")));
    assert!(!mds1.sh(format!("test -L {MOH}/x")).success());
    untouched(mds1);

    // Without `..`, and made by another Main: it is in the way, and the root is left alone.
    mds1.sh(format!("rm -rf {MOH}/x && ln -s d1 {MOH}/x")).ok();
    let run = main.sync_json([""; 0]);
    assert_eq!(directories(&run, "mds1", "e1")["failed"], 1, "{:?}", run.json);
    assert_eq!(directories(&run, "mds1", "moh")["state"], "in-step", "{:?}", run.json);
    assert!(run.output.text().contains("in a synchronised directory"), "{:?}", run.json);
    assert!(!mds1.exists(format!("{MOH}/d1/cron.d")));
    untouched(mds1);
}

#[test]
fn a_missing_root_is_not_made_through_what_was_planted_meanwhile() {
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    mds1.sh(format!("rmdir {RECORDINGS}")).ok();
    let untouched = plant_secrets(mds1);
    for number in 0..50 {
        main.write_settled(format!("{MOH}/{number}.wav"), vec![number; 100_000]);
    }
    main.write_settled(format!("{RECORDINGS}/zz"), "#!/bin/sh\n");
    let planted = mds1.spawn([
        "sh",
        "-c",
        &format!(
            "{AS_ASTERISK} sh -c 'while [ ! -e {MOH}/49.wav ]; do :; done; ln -s /etc/cron.daily {RECORDINGS}'"
        ),
    ]);
    let run = main.sync_json([""; 0]);
    planted.wait();
    untouched(mds1);
    assert!(mds1.exists(format!("{MOH}/49.wav")), "{:?}", run.json);
    assert!(cluster["mds2"].exists(format!("{RECORDINGS}/zz")), "{:?}", run.json);
    // Where it came too late it is in the way of the next run, and refused there.
    mds1.sh(format!("rm -rf {RECORDINGS} && ln -s /etc/cron.daily {RECORDINGS}")).ok();
    mds1.sh(format!("chown -h asterisk {RECORDINGS}")).ok();
    let run = main.sync_json([""; 0]);
    let text = run.output.text();
    assert!(text.contains("others than root can change"), "{text}");
    assert!(text.contains(&format!("chown -h root {RECORDINGS}")), "{text}");
    assert_eq!(directories(&run, "mds1", "moh")["state"], "in-step");
    untouched(mds1);
}

/// What a user of a host exchanges with a link to the same place in a tree of root's. What is ours is held by
/// `tests/races.rs`.
const LEVELS: [&str; 5] = [
    "sounds",
    "sounds/recordings",
    "sounds/recordings/d",
    "sounds/recordings/d/sub",
    "sounds/recordings/d/sub/f.wav",
];
/// Where the tree of root's is, which looks like the directories and has what nobody else may read.
const OF_ROOT: &str = "/srv/of-root";

/// Runs under each level on each host; 200 are the long form.
fn rounds() -> usize {
    std::env::var("XDS_FLIPS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2)
}

/// Makes the tree of root's. What is returned holds that all of it is as it was, with its times.
fn plant_tree(host: &Host) -> impl Fn(&Host) {
    host.sh(format!(
        "umask 077; rm -rf {OF_ROOT}; mkdir -p {OF_ROOT}/sounds/recordings && cd {OF_ROOT}/sounds/recordings && \
         mkdir -p d/sub .xds-sync/stage .xds-sync/trash && \
         for f in f.wav own.wav meta.wav gone.wav; do echo of-root-alone >d/sub/$f; done"
    ))
    .ok();
    let list = |host: &Host| {
        host.sh(format!("cd {OF_ROOT} && find . -printf '%p %m %U %G %s %T@ %C@\\n' | sort")).ok()
    };
    let before = list(host);
    move |host: &Host| assert_eq!(list(host), before, "{}: what is root's was touched", host.name)
}

/// What its users do in the recordings of a host: new contents, a file that goes or comes, a change of its mode. It is
/// settled, and whatever is in the way is.
fn work(host: &Host, round: usize) {
    let mode = if round.is_multiple_of(2) { "640" } else { "664" };
    let gone = if round.is_multiple_of(2) { "rm -f gone.wav" } else { "echo again >gone.wav" };
    host.sh(format!(
        "{AS_ASTERISK} sh -c 'cd {RECORDINGS}/d/sub && echo {round} {name} >f.wav && echo {round} >of-{name}-{round}.wav && \
         {gone}; chmod {mode} meta.wav; touch -d \"1 hour ago\" *.wav'",
        name = host.name
    ));
}

/// One level on one host: whatever it flips, nothing of root's is read, written, given to somebody else or deleted, and
/// the other directories go on.
fn flips_lead_nowhere(cluster: &Cluster, at: &Host, level: &str) {
    let main = &cluster.main;
    let untouched = plant_tree(at);
    let (name, aside) = (format!("/var/lib/xivo/{level}"), format!("{HIS}/aside"));
    at.sh("rm -f /tmp/stop").ok();
    at.write("/tmp/flip.py", FLIPPER);
    at.chmod("/tmp/flip.py", 0o644);
    as_asterisk(at, &format!("mkdir -p {HIS} && ln -sfn {OF_ROOT}/{level} {aside}"));
    let mut flipping = at.spawn(["sh", "-c", &format!("{AS_ASTERISK} python3 /tmp/flip.py {name} {aside}")]);
    let others = cluster.hosts().filter(|host| host.name != at.name);
    let elsewhere = others.last().unwrap();
    for round in 0..rounds() {
        work(at, round);
        work(elsewhere, round);
        // The honest work of the same moment.
        let music = format!("{MOH}/{}-{round}.wav", level.replace('/', "-"));
        main.write_settled(&music, at.name.as_bytes());
        let run = main.sync_json([""; 0]);
        // With all of a node's files behind a link, that directory halts.
        assert!([0, 3, 23, 25].contains(&run.code), "{} {level}: {:?}", at.name, run.json);
        for node in &cluster.nodes {
            assert_eq!(node.read_text(&music), at.name, "{} {level}: {:?}", at.name, run.json);
        }
    }
    assert!(flipping.is_running());
    at.sh("touch /tmp/stop").ok();
    let flipped = flipping.wait().ok();
    let flips: usize = flipped.split(' ').next().unwrap().parse().unwrap();
    assert!(flips > rounds(), "{} {level}: nobody flipped: {flipped}", at.name);
    untouched(at);
    as_asterisk(at, &format!("if [ -L {name} ]; then rm {name} && mv {aside} {name}; else rm {aside}; fi"));
    untouched(at);
    for host in cluster.hosts() {
        let found =
            host.sh(format!("grep -rl of-root-alone /var/lib/xivo; find /var/lib/xivo -lname '{OF_ROOT}*'"));
        assert_eq!(found.text(), "", "{}: what is root's on {} is here", host.name, at.name);
    }
    eventually("the cluster to be in step again", Duration::from_secs(20), || {
        main.sync_json([""; 0]).code == 0
    });
}

#[test]
fn a_link_that_flips_under_many_runs_leads_nowhere() {
    // As built in, but for the reloads: nothing here plays music.
    let directories = [("moh", MOH, "push"), ("sounds", SOUNDS, "push"), ("recordings", RECORDINGS, "both")];
    let config: String = directories
        .iter()
        .map(|(name, path, way)| {
            format!("[[directory]]\nname = '{name}'\npath = '{path}'\ndirection = '{way}'\n")
        })
        .collect();
    let cluster = Cluster::new().nodes(2).without_asterisk().more_config(&config).build();
    let main = &cluster.main;
    as_asterisk(main, &format!("mkdir -p {RECORDINGS}/d/sub && cd {RECORDINGS}/d/sub && echo a >meta.wav"));
    work(main, 1);
    main.sync_json([""; 0]).exits(0);
    for at in [main, &cluster["mds1"]] {
        for level in LEVELS {
            flips_lead_nowhere(&cluster, at, level);
        }
    }
}

#[test]
fn another_directory_than_before_halts_and_a_link_to_one_is_refused() {
    let cluster = Cluster::new().nodes(2).build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    main.write_settled(format!("{RECORDINGS}/a.wav"), "a");
    main.sync_json([""; 0]).exits(0);
    for at in [main, mds1] {
        at.sh("echo password >/etc/asterisk/manager.conf && chmod 0600 /etc/asterisk/manager.conf").ok();
        at.sh("chown root:root /etc/asterisk/manager.conf").ok();
        as_asterisk(at, &format!("mv {RECORDINGS} {SOUNDS}.old || mv {RECORDINGS} /var/lib/asterisk/old"));
        as_asterisk(at, &format!("ln -s /etc/asterisk {RECORDINGS}"));
        main.write_settled(format!("{MOH}/{}.wav", at.name), "music");
        let run = main.sync_json([""; 0]);
        assert!(run.output.text().contains(&format!("chown -h root {RECORDINGS}")), "{:?}", run.json);
        // His own directory, moved there, is another one.
        as_asterisk(at, &format!("rm {RECORDINGS} && mkdir {RECORDINGS} && echo x >{RECORDINGS}/own.wav"));
        let run = main.sync_json([""; 0]);
        run.exits(3);
        let guard = &run.json["halted"][0];
        let expected = if at.name == "main" { "root_unmarked" } else { "node_root_replaced" };
        assert_eq!((&guard["directory"], &guard["guard"]), (&"recordings".into(), &expected.into()));
        assert_eq!(guard["token"].is_string(), at.name != "main");
        // A marker of his own does not make it the right one.
        as_asterisk(
            at,
            &format!("mkdir -m 700 {RECORDINGS}/.xds-sync && echo x >{RECORDINGS}/.xds-sync/root.json"),
        );
        let run = main.sync_json([""; 0]);
        assert!(run.output.text().contains("belongs to user id"), "{:?}", run.json);
        for host in cluster.hosts() {
            assert!(!host.exists(format!("{RECORDINGS}/manager.conf")), "{}", host.name);
            if host.name != at.name {
                assert!(host.exists(format!("{RECORDINGS}/a.wav")), "{}", host.name);
                assert!(!host.exists(format!("{RECORDINGS}/own.wav")), "{}", host.name);
            }
        }
        for node in &cluster.nodes {
            assert!(node.exists(format!("{MOH}/{}.wav", at.name)), "{}", node.name);
        }
        at.sh(format!(
            "rm -r {RECORDINGS}; mv {SOUNDS}.old {RECORDINGS} || mv /var/lib/asterisk/old {RECORDINGS}"
        ))
        .ok();
        main.sync_json([""; 0]).exits(0);
    }
}

#[test]
fn main_marks_adopts_and_restores_through_nobodys_link() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let main = &cluster.main;
    // With its cron job, which `init` makes also where it cannot mark a root.
    main.xds_sync(["init"]).ok();
    let untouched = plant_secrets(main);
    main.write_settled(format!("{RECORDINGS}/a.wav"), "a");
    main.sync_json([""; 0]).exits(0);
    main.remove(format!("{RECORDINGS}/a.wav"));
    main.sync_json([""; 0]).exits(0);
    as_asterisk(main, &format!("mv {RECORDINGS} {SOUNDS}/old && ln -s /etc/cron.daily {RECORDINGS}"));
    for command in [&["init"][..], &["init", "--adopt", "recordings"], &["restore", "recordings", "a.wav"]] {
        let output = main.xds_sync(command);
        assert!(!output.success(), "{command:?}: {output:?}");
        let said = output.text() + &output.err();
        assert!(said.contains(&format!("chown -h root {RECORDINGS}")), "{command:?}: {said}");
        untouched(main);
    }
    main.sh(format!("rm {RECORDINGS} && mv {SOUNDS}/old {RECORDINGS}")).ok();
    // To a place in his directory: nothing is left there but the file.
    main.sh(format!("mkdir {SOUNDS}/to && chown asterisk {SOUNDS}/to")).ok();
    main.xds_sync(["restore", "recordings", "a.wav", "--to", &format!("{SOUNDS}/to/a.wav")]).ok();
    assert_eq!(main.sh(format!("ls -A {SOUNDS}/to")).ok(), "a.wav\n");
}

#[test]
fn roots_in_what_is_never_synchronised_are_refused() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    mds1.write("/etc/asterisk/xds_override.d/local.conf", "the node's own");
    for path in ["/etc/asterisk/xds_override.d", "/var/lib/xivo/moh/.xds-sync/trash"] {
        let added = format!("[[directory]]\nname = 'own'\npath = '{path}'\n");
        main.write("/etc/xds-sync/conf.d/own.toml", added);
        let output = main.xds_sync(["config", "check"]);
        output.exits(1);
        assert!((output.text() + &output.err()).contains("is ever synchronised"), "{output:?}");
    }
    // Where only a symlink shows it: on Main and on the node.
    main.write(
        "/etc/xds-sync/conf.d/own.toml",
        format!("[[directory]]\nname = 'own'\npath = '/var/lib/xivo/own'\n[[directory]]\nname = 'moh'\npath = '{MOH}'\n"),
    );
    main.write_settled(format!("{MOH}/hold.wav"), "music");
    main.write("/var/lib/xivo/own/local.conf", "Main's");
    mds1.sh("ln -s /etc/asterisk/xds_override.d /var/lib/xivo/own").ok();
    mds1.write("/etc/xds-sync/node.toml", "roots = [\"/var/lib/xivo\", \"/etc/asterisk\"]\n");
    let run = main.sync_json([""; 0]);
    assert!(run.output.text().contains("never synchronised"), "{:?}", run.json);
    assert_eq!(mds1.read_text("/etc/asterisk/xds_override.d/local.conf"), "the node's own");
    assert!(mds1.exists(format!("{MOH}/hold.wav")), "{:?}", run.json);
}
