//! The bed itself: that its hosts are what the other stories take them for.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Cluster, Host, Kind, eventually, wav};

const SSH: &str = "ssh -i /root/.ssh/rsync_xds -o BatchMode=yes -o StrictHostKeyChecking=accept-new";

/// What a command prints on a node, asked from Main through ssh.
fn over_ssh(main: &Host, node: &str, command: &str) -> String {
    main.sh(format!("{SSH} {node} {command}")).ok()
}

#[test]
fn hosts_have_names_files_and_daemons_of_their_own() {
    let cluster = Cluster::new().node("mds1").node("mds2").build();
    for node in ["mds1", "mds2"] {
        assert_eq!(over_ssh(&cluster.main, node, "'hostname; id -un'"), format!("{node}\nroot\n"));
        let file = "/etc/asterisk/extensions_extra.d/who.conf";
        cluster[node].write(file, format!("[{node}]\nexten => 1,1,NoOp()\n"));
        assert_eq!(
            over_ssh(&cluster.main, node, &format!("cat {file}")),
            format!("[{node}]\nexten => 1,1,NoOp()\n")
        );
        assert!(!cluster.main.exists(file));
        // Only what runs on this host is to be seen there: no init of the machine, no other host's sshd.
        assert_eq!(cluster[node].sh("pgrep -x -c asterisk").ok(), "1\n");
        cluster[node].sh("pgrep cargo").exits(1);
    }
    assert_eq!(cluster.main.sh("pgrep -x -c asterisk").text(), "0\n");
}

#[test]
fn asterisk_loads_what_is_put_there_and_every_reload_is_counted() {
    let cluster = Cluster::new().node("mds1").xivo_links().build();
    let mds1 = &cluster["mds1"];
    assert!(mds1.asterisk("dialplan show").contains("'default'"));
    assert_eq!((mds1.reload_count("dialplan"), mds1.reload_count("moh")), (0, 0));

    mds1.write("/etc/asterisk/extensions_extra.d/10-doors.conf", "[doors]\nexten => 7,1,Hangup()\n");
    assert_eq!(mds1.asterisk("dialplan reload"), "Dialplan reloaded.\n");
    assert!(mds1.asterisk("dialplan show doors").contains("Hangup"));
    assert_eq!((mds1.reload_count("dialplan"), mds1.reload_count("moh")), (1, 0));

    mds1.write("/var/lib/xivo/moh/default/waltz.wav", wav(8000));
    assert!(mds1.exists("/var/lib/asterisk/moh/default/waltz.wav"), "XiVO's link leads there");
    assert_eq!(mds1.asterisk("moh reload"), "");
    assert!(mds1.asterisk("moh show files").contains("waltz"));
    assert_eq!((mds1.reload_count("dialplan"), mds1.reload_count("moh")), (1, 1));

    mds1.stop_asterisk();
    mds1.run(["asterisk", "-rx", "dialplan reload"]).exits(1);
    mds1.start_asterisk();
    assert!(mds1.asterisk("dialplan show doors").contains("Hangup"));
    assert_eq!((mds1.reload_count("dialplan"), mds1.reload_count("moh")), (1, 1), "a start is no reload");
}

#[test]
fn syslog_takes_lines_from_the_host_and_only_from_it() {
    let cluster = Cluster::new().node("mds1").without_asterisk().build();
    cluster.main.sh("logger -p daemon.info -t xivo-xds-sync 'one line'").ok();
    assert!(cluster.main.await_syslog("one line").contains("main xivo-xds-sync: "));
    assert!(!cluster["mds1"].syslog().iter().any(|line| line.contains("one line")));
}

#[test]
fn a_node_can_be_cut_off_refuse_and_come_back() {
    let cluster = Cluster::new().node("mds1").node("mds2").without_asterisk().build();
    let try_ssh = |node: &str| cluster.main.sh(format!("{SSH} {node} true"));
    try_ssh("mds1").ok();

    cluster.cut("mds1");
    // Longer than the kernel would wait for an answer to "who has this address", had it to ask.
    let silence =
        cluster.main.sh(format!("{SSH} -o ConnectTimeout=5 mds1 true").replace("-o ConnectTimeout=2 ", ""));
    assert!(silence.exits(255).err().contains("timed out"), "{silence:?}");
    try_ssh("mds2").ok();
    cluster.mend("mds1");
    try_ssh("mds1").ok();

    cluster["mds1"].stop_sshd();
    assert!(try_ssh("mds1").exits(255).err().contains("refused"));
    cluster["mds1"].start_sshd();
    try_ssh("mds1").ok();
}

#[test]
fn a_forced_command_is_all_that_the_key_may_do() {
    let cluster =
        Cluster::new().node("mds1").without_asterisk().forced_command().program("/bin/hostname").build();
    // The stand-in for xds-sync takes `agent` for a host name to set, which shows that it was called so.
    cluster.main.sh(format!("{SSH} mds1 cat /etc/shadow")).ok();
    assert_eq!(cluster["mds1"].sh("hostname").ok(), "agent\n");
}

#[test]
fn files_are_written_and_described_as_a_xivo_has_them() {
    let cluster = Cluster::new().node("mds1").without_asterisk().xivo_links().build();
    let main = &cluster.main;
    let name = b"caf\xe9 \n'$(x)'.wav";
    use std::os::unix::ffi::OsStrExt;
    let path =
        std::path::Path::new("/var/lib/xivo/sounds/recordings/deep").join(std::ffi::OsStr::from_bytes(name));
    main.write(&path, "one");
    main.symlink("elsewhere", "/var/lib/xivo/sounds/recordings/link");
    let before = main.tree("/var/lib/xivo/sounds/recordings");

    let file = before.get([b"deep/".as_slice(), name].concat()).unwrap();
    assert_eq!((file.kind, file.mode, file.size), (Kind::File, 0o664, 3));
    assert_eq!((file.owner.as_str(), file.group.as_str()), ("asterisk", "www-data"));
    assert_eq!(before.get("deep").unwrap().mode, 0o2775);
    assert_eq!(before.get("link").unwrap().content, "elsewhere");
    before.assert_untouched(&main.tree("/var/lib/asterisk/sounds/custom"));

    cluster["mds1"].write(&path, "one");
    let differences = before.differences(&cluster["mds1"].tree("/var/lib/xivo/sounds/recordings"));
    assert_eq!(differences.len(), 2, "the link and the file's mtime: {differences:?}");

    main.write_settled(&path, "two");
    assert_ne!(before, main.tree("/var/lib/xivo/sounds/recordings"));
}

#[test]
fn a_running_command_is_signalled_where_it_runs() {
    let cluster = Cluster::new().without_asterisk().build();
    let script = "trap 'echo terminated; exit 7' TERM; echo running; while :; do read -rt 1 <> <(:); done";
    let running = cluster.main.spawn(["bash", "-c", script]);
    eventually("the script to run", Duration::from_secs(20), || running.stdout() == b"running\n");
    running.signal(rustix::process::Signal::TERM);
    assert_eq!(running.wait().exits(7).text(), "running\nterminated\n");
}

#[test]
fn nothing_is_left_of_a_cluster() {
    let mounts = || std::fs::read_to_string("/proc/self/mounts").unwrap();
    let before = mounts();
    let cluster = Cluster::new().node("mds1").build();
    let namespace = pid_namespace(&cluster["mds1"]);
    assert!(in_namespace(&namespace) > 0);
    drop(cluster);
    assert_eq!(in_namespace(&namespace), 0);
    assert_eq!(mounts(), before);
}

#[test]
fn nothing_is_left_when_the_test_is_killed() {
    let mut test = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "bed::held_until_killed", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(test.stdout.take().unwrap()).lines().map_while(Result::ok);
    let namespace = lines.find_map(|line| line.strip_prefix("up in ").map(str::to_owned)).unwrap();
    assert!(in_namespace(&namespace) > 0);
    test.kill().unwrap();
    test.wait().unwrap();
    eventually("the host to be gone", Duration::from_secs(20), || in_namespace(&namespace) == 0);
}

#[test]
#[ignore = "is started, and killed, by the test before it"]
fn held_until_killed() {
    let cluster = Cluster::new().node("mds1").build();
    println!("\nup in {}", pid_namespace(&cluster["mds1"]));
    loop {
        std::thread::park();
    }
}

fn pid_namespace(host: &Host) -> String {
    host.run(["readlink", "/proc/1/ns/pid"]).ok().trim().to_owned()
}

/// How many processes of the machine are in this PID namespace.
fn in_namespace(pid_namespace: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|process| {
            std::fs::read_link(process.path().join("ns/pid")).is_ok_and(|ns| ns.as_os_str() == pid_namespace)
        })
        .count()
}
