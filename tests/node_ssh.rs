//! Nodes over a real sshd, on the loopback.
//!
//! The agent is this test's own binary: [`stand_in_for_an_agent`] serves a host without files. What the
//! test harness prints before is a login shell's noise to it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tempfile::TempDir;
use xds_sync::model::{Digest, Direction};
use xds_sync::node::ssh::{Connector, HostKeys, NodeOptions, OwnConfig, SshOptions};
use xds_sync::node::{Accept, Endpoint as _, Hello, NodeError, NodeErrorKind, Remote, agent};
use xds_sync::snapshot::{Root, ScanSpec, Scanned};

#[path = "support/fake_host.rs"]
#[allow(dead_code, unreachable_pub)]
mod fake_host;

use fake_host::Fake;

/// Long enough that no test meets it by chance.
const LONG: Duration = Duration::from_secs(60);

/// A host that has nothing, and is wrong about the digest of that; scanning the directory `die` ends its
/// process, scanning `hang` hangs.
fn empty() -> Fake {
    let none = Digest([0; 32]);
    let scanned = Scanned {
        root: Root::Missing,
        digest: none,
        loaded: none,
        entries: 0,
        settled: true,
        free: Default::default(),
        mount: String::new(),
        leftovers: false,
    };
    Fake {
        scanned: Some(scanned),
        scanning: Some(Box::new(|spec| die_or_hang(&spec.directory))),
        ..Fake::default()
    }
}

fn die_or_hang(directory: &str) {
    if directory == "die" {
        // As a panic would.
        std::io::Write::write_all(&mut std::io::stderr(), b"first words\nlast \x1b[1mwords\n").unwrap();
        std::process::exit(3);
    }
    if directory == "hang" {
        // Longer than the test that asks for it waits, and no longer than it must stay.
        std::thread::sleep(Duration::from_secs(10));
    }
}

#[test]
#[ignore = "no test: what ssh runs"]
fn stand_in_for_an_agent() {
    let accept = Accept::read(Path::new("/nowhere/node.toml")).unwrap();
    // Main may be killed: then this ends with an error, which nobody reads.
    let _ = agent::serve(std::io::stdin(), std::io::stdout(), &mut empty(), &accept, &AtomicU64::new(0));
}

/// How [`a_main_that_is_killed_leaves_no_ssh`] tells the Main it kills where to connect to.
const PORT_AND_DIR: &str = "XDS_SYNC_TEST_MAIN";

#[test]
#[ignore = "no test: a Main that waits to be killed"]
fn stand_in_for_a_main() {
    let told = std::env::var(PORT_AND_DIR).unwrap();
    let (port, dir) = told.split_once(' ').unwrap();
    let connector = Connector::new(options(Path::new(dir), port.parse().unwrap())).unwrap();
    let _remote = connect(&connector).unwrap();
    fs::write(Path::new(dir).join("connected"), "").unwrap();
    loop {
        std::thread::park();
    }
}

/// An sshd with its own key and port, and a key that it lets in.
struct Sshd {
    dir: TempDir,
    port: u16,
    /// Further lines of its configuration.
    more: String,
    running: Option<Child>,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn keygen(kind: &str, file: &Path) {
    let _ = fs::remove_file(file);
    let made = Command::new("ssh-keygen").args(["-q", "-N", "", "-t", kind, "-f"]).arg(file).status();
    assert!(made.expect("these tests need ssh-keygen: install openssh-client").success());
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Sshd {
    fn start() -> Sshd {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        keygen("ed25519", &at("host_key"));
        keygen("ed25519", &at("identity"));
        fs::copy(at("identity.pub"), at("authorized_keys")).unwrap();
        let mut sshd = Sshd { dir, port: free_port(), more: String::new(), running: None };
        sshd.run();
        sshd
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&mut self) {
        let program = Path::new("/usr/sbin/sshd");
        assert!(program.exists(), "these tests need {}: install openssh-server", program.display());
        // Where sshd of root separates its privileges to; its service makes it elsewhere.
        let _ = fs::create_dir_all("/run/sshd");
        let config = format!(
            "Port {}\nListenAddress 127.0.0.1\nListenAddress ::1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\n\
             UsePAM no\nPidFile none\nPermitRootLogin prohibit-password\nPasswordAuthentication no\nMaxStartups 100\n{}",
            self.port,
            self.at("host_key").display(),
            self.at("authorized_keys").display(),
            self.more,
        );
        fs::write(self.at("sshd_config"), config).unwrap();
        let mut running = Command::new(program)
            .args(["-D", "-e", "-f"])
            .arg(self.at("sshd_config"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(running.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        while !said.last().is_some_and(|line: &String| line.contains("listening on 127.0.0.1")) {
            let line = log.next().unwrap_or_else(|| panic!("sshd does not start: {said:?}"));
            said.push(line.unwrap());
        }
        std::thread::spawn(move || log.for_each(drop));
        self.running = Some(running);
    }

    fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill().unwrap();
            running.wait().unwrap();
        }
    }

    fn options(&self) -> SshOptions {
        options(self.dir.path(), self.port)
    }

    fn connect(&self) -> Result<Remote, NodeError> {
        connect(&Connector::new(self.options()).unwrap())
    }

    fn connect_with(&self, change: impl FnOnce(&mut SshOptions)) -> Result<Remote, NodeError> {
        let mut options = self.options();
        change(&mut options);
        connect(&Connector::new(options).unwrap())
    }
}

fn options(dir: &Path, port: u16) -> SshOptions {
    SshOptions {
        user: nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name,
        port,
        identity: dir.join("identity"),
        previous_identity: None,
        known_hosts: dir.join("state/known_hosts"),
        host_keys: HostKeys::AcceptNew,
        agent: stand_in("stand_in_for_an_agent"),
        options: vec![],
        traffic_class: "cs1".to_owned(),
        timeout: LONG,
        has_aes: true,
        own_config: OwnConfig::default(),
        control_dir: dir.join("control"),
    }
}

fn stand_in(name: &str) -> String {
    format!("{} --exact {name} --ignored --nocapture", std::env::current_exe().unwrap().display())
}

/// Connects and begins a dry run.
fn connect(connector: &Connector) -> Result<Remote, NodeError> {
    let mut remote = connector.connect("127.0.0.1", &NodeOptions::default(), &hello())?;
    remote.begin("01RUN", true)?;
    Ok(remote)
}

fn hello() -> Hello {
    Hello { main: "01MAIN".into(), epoch: 1, name: "main".into() }
}

fn spec(directory: &str) -> ScanSpec {
    ScanSpec {
        directory: directory.to_owned(),
        root: "/var/lib/xivo/moh".into(),
        direction: Direction::Push,
        exclude: vec!["*.bak".to_owned()],
        other_roots: vec![],
        settle: Duration::ZERO,
        complete: Vec::new(),
        hold_young: false,
        checksum: false,
    }
}

/// The processes that were started for what lies below `dir`.
fn processes(dir: &Path) -> Vec<String> {
    let needle = dir.join("control").to_string_lossy().into_owned();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&needle))
        .collect()
}

/// Waits for a condition that nobody announces.
fn await_that(what: &str, condition: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn await_no_ssh(dir: &Path) {
    await_that("ssh is still running", || processes(dir).is_empty());
    let left: Vec<_> = fs::read_dir(dir.join("control")).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[track_caller]
fn refused(met: Result<Remote, NodeError>, kind: NodeErrorKind, words: &str) -> NodeError {
    let error = met.err().expect("it is refused");
    assert_eq!(error.kind, kind, "{error}");
    assert!(error.detail.contains(words), "{error}");
    error
}

#[test]
fn a_node_is_reached_behind_noise_and_nothing_stays() {
    let sshd = Sshd::start();
    let noisy = |options: &mut SshOptions| {
        options.agent = format!("echo 'Last login'; printf '\\033[31m\\n'; exec {}", options.agent);
    };
    let mut remote = sshd.connect_with(noisy).unwrap();
    assert_eq!(remote.scan(&spec("moh")).unwrap().root, Root::Missing);
    assert_eq!(remote.tree("moh", None).unwrap_err().kind, NodeErrorKind::Lost, "it lied about its digest");
    assert!(!processes(sshd.dir.path()).is_empty());
    drop(remote);
    await_no_ssh(sshd.dir.path());
    // Now its key is known.
    let known = fs::read_to_string(sshd.at("state/known_hosts")).unwrap();
    assert!(known.starts_with(&format!("[127.0.0.1]:{} ", sshd.port)), "{known}");
    sshd.connect_with(|options| options.host_keys = HostKeys::Strict).unwrap();
}

#[test]
fn many_are_reached_at_once() {
    let sshd = Sshd::start();
    let connector = Connector::new(sshd.options()).unwrap();
    std::thread::scope(|scope| {
        for address in ["127.0.0.1", "::1", "localhost", "[::1]"].repeat(2) {
            let connector = &connector;
            scope.spawn(move || {
                let mut remote = connector.connect(address, &NodeOptions::default(), &hello()).unwrap();
                remote.begin("01RUN", true).unwrap();
                remote.scan(&spec("moh")).unwrap();
            });
        }
    });
    await_no_ssh(sshd.dir.path());
}

#[test]
fn what_differs_for_a_node_holds_for_it() {
    let sshd = Sshd::start();
    fs::rename(sshd.at("identity"), sshd.at("other key")).unwrap();
    let mut options = sshd.options();
    options.port = 1;
    options.user = "nobody-of-that-name".to_owned();
    let node = NodeOptions {
        user: Some(sshd.options().user),
        port: Some(sshd.port),
        identity: Some(sshd.at("other key")),
        only_identity: false,
    };
    Connector::new(options).unwrap().connect("127.0.0.1", &node, &hello()).unwrap();
}

#[test]
fn the_former_key_is_tried_where_the_new_one_is_not_known() {
    let sshd = Sshd::start();
    let old = sshd.at("identity.old");
    fs::rename(sshd.at("identity"), &old).unwrap();
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(sshd.at("identity"));
    assert!(keygen.status().unwrap().success());
    refused(sshd.connect(), NodeErrorKind::Refused, "xds-sync join");
    let mut options = sshd.options();
    options.previous_identity = Some(old.clone());
    let connector = Connector::new(options).unwrap();
    connect(&connector).unwrap();
    // Whether a key works by itself is asked of that key alone.
    let only = |identity: PathBuf| {
        let node = NodeOptions { identity: Some(identity), only_identity: true, ..NodeOptions::default() };
        connector.connect("127.0.0.1", &node, &hello())
    };
    only(old).unwrap();
    refused(only(sshd.at("identity")), NodeErrorKind::Refused, "xds-sync join");
}

#[test]
fn a_key_that_is_not_accepted_is_refused() {
    let sshd = Sshd::start();
    fs::write(sshd.at("authorized_keys"), "").unwrap();
    refused(sshd.connect(), NodeErrorKind::Refused, "xds-sync join");
    await_no_ssh(sshd.dir.path());
}

/// Neither seven keys, after which sshd has enough, nor one that is let in with another command.
#[test]
fn the_keys_in_the_callers_agent_make_no_difference() {
    let sshd = Sshd::start();
    let socket = sshd.at("agent");
    let mut agent = Command::new("ssh-agent");
    let agent = agent.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
    let agent = Running(agent);
    await_that("the agent does not listen", || socket.exists());
    let keys: Vec<PathBuf> = (0..7).map(|number| sshd.at(&format!("other{number}"))).collect();
    for key in &keys {
        keygen("ed25519", key);
        let mut add = Command::new("ssh-add");
        let add = add.arg("-q").arg(key).env("SSH_AUTH_SOCK", &socket).status().unwrap();
        assert!(add.success());
    }
    let other = fs::read_to_string(sshd.at("other0.pub")).unwrap();
    let ours = fs::read_to_string(sshd.at("identity.pub")).unwrap();
    for let_in in [ours.clone(), format!("command=\"echo backup only\" {other}{ours}")] {
        fs::write(sshd.at("authorized_keys"), let_in).unwrap();
        let _ = fs::remove_file(sshd.at("connected"));
        let main = main_beside(&sshd, &[("SSH_AUTH_SOCK", &socket)]);
        await_that("Main does not connect", || sshd.at("connected").exists());
        drop(main);
    }
    // Who asks for the agent gets it: the key itself need not lie on the disk.
    fs::rename(sshd.at("identity"), sshd.at("away")).unwrap();
    let mut add = Command::new("ssh-add");
    assert!(add.arg("-q").arg(sshd.at("away")).env("SSH_AUTH_SOCK", &socket).status().unwrap().success());
    sshd.connect_with(|options| options.options = vec![format!("IdentityAgent={}", socket.display())])
        .unwrap();
    drop(agent);
}

#[test]
fn a_banner_of_the_node_is_not_what_ssh_says() {
    let mut sshd = Sshd::start();
    drop(sshd.connect().unwrap());
    sshd.stop();
    let banner = "Legal.\nroot: Permission denied (to all but staff).\nHost key verification failed.\n";
    fs::write(sshd.at("banner"), banner).unwrap();
    sshd.more = format!("Banner {}\n", sshd.at("banner").display());
    sshd.run();
    fs::write(sshd.at("authorized_keys"), "").unwrap();
    let error = refused(sshd.connect(), NodeErrorKind::Refused, "xds-sync join");
    assert!(!error.detail.contains("ssh-keygen") && !error.detail.contains("staff"), "{error}");
    sshd.stop();
    sshd.more.push_str("MaxAuthTries 0\n");
    sshd.run();
    let error = refused(sshd.connect(), NodeErrorKind::Refused, "ended the connection");
    assert!(error.detail.contains("Too many authentication failures"), "{error}");
}

#[test]
fn what_fails_at_the_jump_host_is_said_of_the_jump_host() {
    let (sshd, gate) = (Sshd::start(), Sshd::start());
    let config = gate.at("ssh_config");
    let own = format!(
        "Host gate\nHostName 127.0.0.1\nPort {}\nIdentityFile {}\nUserKnownHostsFile {}\n\
         StrictHostKeyChecking yes\nHostKeyAlias gate\nBatchMode yes\nIdentityAgent none\n",
        gate.port,
        gate.at("identity").display(),
        gate.at("gate_known_hosts").display(),
    );
    fs::write(&config, own).unwrap();
    let through = |options: &mut SshOptions| {
        options.options = vec![format!("ProxyCommand=ssh -F {} -W %h:%p gate", config.display())];
    };
    let known = |name: &str| {
        let key = fs::read_to_string(gate.at(name)).unwrap();
        fs::write(gate.at("gate_known_hosts"), format!("gate {key}")).unwrap();
    };
    known("identity.pub");
    let error = refused(sshd.connect_with(through), NodeErrorKind::Unreachable, "jump host");
    assert!(error.detail.contains("Host key for gate has changed"), "{error}");
    known("host_key.pub");
    fs::write(gate.at("authorized_keys"), "").unwrap();
    let error = refused(sshd.connect_with(through), NodeErrorKind::Unreachable, "jump host");
    assert!(error.detail.contains("@127.0.0.1: Permission denied (publickey"), "{error}");
    fs::copy(gate.at("identity.pub"), gate.at("authorized_keys")).unwrap();
    let elsewhere = |options: &mut SshOptions| {
        through(options);
        options.port = free_port();
    };
    refused(sshd.connect_with(elsewhere), NodeErrorKind::Unreachable, "Connection refused");
    sshd.connect_with(through).unwrap();
    await_no_ssh(sshd.dir.path());
}

#[test]
fn an_option_that_ssh_does_not_know_is_said_to_be_ours() {
    let sshd = Sshd::start();
    let met = sshd.connect_with(|options| options.options = vec!["NoSuchOption=yes".to_owned()]);
    let error = refused(met, NodeErrorKind::Unreachable, "see ssh.options");
    assert!(error.detail.contains("nosuchoption"), "{error}");
}

#[test]
fn a_changed_host_key_is_refused_whatever_its_type() {
    for kind in ["ed25519", "ecdsa"] {
        let mut sshd = Sshd::start();
        drop(sshd.connect().unwrap());
        sshd.stop();
        keygen(kind, &sshd.at("host_key"));
        sshd.run();
        let error = refused(sshd.connect(), NodeErrorKind::Refused, "has changed");
        assert!(error.detail.contains(&sshd.at("state/known_hosts").display().to_string()), "{error}");
        // What it says to do is what helps.
        let command = error.detail.split('`').nth(1).unwrap();
        assert!(
            Command::new("sh")
                .args(["-c", command])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap()
                .success()
        );
        sshd.connect().unwrap();
    }
}

#[test]
fn an_unknown_host_is_refused_when_that_is_asked_for() {
    let sshd = Sshd::start();
    let met = sshd.connect_with(|options| options.host_keys = HostKeys::Strict);
    refused(met, NodeErrorKind::Refused, "host_keys is \"strict\"");
}

#[test]
fn what_cannot_be_reached_is_said_in_the_words_of_ssh() {
    let dir = tempfile::tempdir().unwrap();
    keygen("ed25519", &dir.path().join("identity"));
    let connector = Connector::new(options(dir.path(), free_port())).unwrap();
    let met = |address: &str| connector.connect(address, &NodeOptions::default(), &hello());
    refused(met("127.0.0.1"), NodeErrorKind::Unreachable, "Connection refused");
    refused(met("mds1.invalid"), NodeErrorKind::Unreachable, "Could not resolve hostname");
    for address in ["-oProxyCommand=touch${IFS}x", "a b", "", "\x1b[2J"] {
        refused(met(address), NodeErrorKind::Unreachable, "is no host name or address");
    }
    await_no_ssh(dir.path());
}

#[test]
fn a_host_that_says_nothing_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    keygen("ed25519", &dir.path().join("identity"));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = options(dir.path(), silent.local_addr().unwrap().port());
    options.timeout = Duration::from_secs(1);
    refused(connect(&Connector::new(options).unwrap()), NodeErrorKind::Unreachable, "timed out");
    await_no_ssh(dir.path());
}

#[test]
fn a_node_without_the_program_or_with_another_is_told() {
    let sshd = Sshd::start();
    for (agent, kind, words) in [
        ("/nowhere/xds-sync agent", NodeErrorKind::AgentMissing, "install"),
        ("echo noise; no-such-xds-sync agent", NodeErrorKind::AgentMissing, "install"),
        ("echo This account is not available; exit 1", NodeErrorKind::Incompatible, "\"This account is not"),
        (
            "echo error: unrecognized subcommand >&2; exit 2",
            NodeErrorKind::Incompatible,
            "status 2: \"error: unrec",
        ),
        ("cat", NodeErrorKind::Timeout, "did not begin"),
    ] {
        let met = sshd.connect_with(|options| {
            options.agent = agent.to_owned();
            // Only `cat` waits for it.
            options.timeout = Duration::from_secs(if agent == "cat" { 1 } else { 60 });
        });
        refused(met, kind, words);
    }
    await_no_ssh(sshd.dir.path());
}

#[test]
fn an_agent_that_dies_is_lost_with_its_last_words() {
    let sshd = Sshd::start();
    let mut remote = sshd.connect().unwrap();
    let error = remote.scan(&spec("die")).unwrap_err();
    assert_eq!(error.kind, NodeErrorKind::Lost);
    assert!(error.detail.ends_with("last \\x1b[1mwords"), "{error}");
}

#[test]
fn an_agent_that_hangs_is_given_up_and_its_connection_too() {
    let sshd = Sshd::start();
    let mut remote = sshd.connect_with(|options| options.timeout = Duration::from_secs(2)).unwrap();
    assert_eq!(remote.scan(&spec("hang")).unwrap_err().kind, NodeErrorKind::Timeout);
    drop(remote);
    await_no_ssh(sshd.dir.path());
}

/// A process that is killed at the end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A Main in a process of its own, with these variables in its environment.
fn main_beside(sshd: &Sshd, env: &[(&str, &Path)]) -> Running {
    let mut main = Command::new(std::env::current_exe().unwrap());
    main.args(["--exact", "stand_in_for_a_main", "--ignored", "--nocapture"])
        .env(PORT_AND_DIR, format!("{} {}", sshd.port, sshd.dir.path().display()))
        .envs(env.iter().copied())
        .stdout(Stdio::null());
    Running(main.spawn().unwrap())
}

#[test]
fn a_main_that_is_killed_leaves_no_ssh() {
    let sshd = Sshd::start();
    let main = main_beside(&sshd, &[]);
    await_that("Main does not connect", || sshd.at("connected").exists());
    drop(main);
    await_that("ssh is still running", || processes(sshd.dir.path()).is_empty());
    // What it left lying is swept by the next.
    drop(sshd.connect().unwrap());
    await_no_ssh(sshd.dir.path());
}

#[test]
fn the_users_own_options_hold_where_they_may() {
    let sshd = Sshd::start();
    let port = free_port();
    let listening = TcpListener::bind(("127.0.0.1", port)).unwrap();
    // A proxy that goes elsewhere is used; what would weaken the connection is not.
    let met = sshd.connect_with(|options| {
        options.options = vec!["ProxyCommand=false".to_owned()];
    });
    refused(met, NodeErrorKind::Unreachable, "ssh says");
    sshd.connect_with(|options| {
        options.options = vec![
            "StrictHostKeyChecking=no".to_owned(),
            "UserKnownHostsFile=/dev/null".to_owned(),
            format!("LocalForward={port} localhost:1"),
            "ExitOnForwardFailure=yes".to_owned(),
        ];
    })
    .unwrap();
    assert!(fs::read_to_string(sshd.at("state/known_hosts")).unwrap().contains("127.0.0.1"));
    drop(listening);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}
