//! What the program leaves on disk is for its owner alone, whatever umask it was started with; what is for all is
//! for all; and nothing secret leaves it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, dead_code, unreachable_pub)]

#[path = "support/local.rs"]
mod local;
#[path = "support/wait.rs"]
mod wait;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use xds_sync::model::{Action, Digest, Entry, File, Meta, Outcome, Owner, RelPathBuf, Step, TrashKeep};
use xds_sync::node::{Ended, Endpoint as _, Hello, Peer, Remote};
use xds_sync::reload::ReloadRequest;
use xds_sync::transfer::{BlobRequest, Sink, Source};

use wait::{LIMIT, ends_within};

const PROGRAM: &str = env!("CARGO_BIN_EXE_xds-sync");
/// Nothing at all is taken away, as usual, and all that others could have, and even ourselves.
const UMASKS: [&str; 4] = ["000", "022", "077", "777"];
const RUN: &str = "01KQ0000000000000000000000";

struct Nobody;

impl Peer for Nobody {
    fn ended(&mut self) -> Ended {
        Ended::default()
    }
}

/// A node whose agent was started with a umask, and variables that Main's ssh has set.
struct Node {
    dir: TempDir,
    agent: Child,
}

impl Node {
    fn start(umask: &str) -> (Node, Remote) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let config = format!(
            "roots = [{:?}]\nstate_dir = '{}'\n[reload]\nown = ['/bin/sh', '-c', '/usr/bin/env >{1}/env; umask >{1}/umask']\n",
            at("roots"),
            at("state").display(),
        );
        fs::write(at("node.toml"), config).unwrap();
        let (main, node) = UnixStream::pair().unwrap();
        let end = |stream: &UnixStream| OwnedFd::from(stream.try_clone().unwrap());
        let agent = Command::new("sh")
            .args([
                "-c",
                "umask $0; ulimit -c unlimited; exec $1 agent --node-config node.toml",
                umask,
                PROGRAM,
            ])
            // Of Main's making, where sshd accepts it.
            .env("XDS_SYNC_NODE_CONFIG", "/nowhere")
            .env("SSH_ORIGINAL_COMMAND", "$(touch /owned)")
            .env("LC_ALL", "of-mains-making")
            .current_dir(dir.path())
            .stdin(end(&node))
            .stdout(end(&node))
            .process_group(0)
            .spawn()
            .unwrap();
        drop(node);
        let hello = Hello { main: "01MAIN".to_owned(), epoch: 1, name: "main".to_owned() };
        let mut remote =
            Remote::new(end(&main), end(&main), Box::new(Nobody), &hello, Duration::from_secs(60)).unwrap();
        remote.begin(RUN, false).unwrap();
        (Node { dir, agent }, remote)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It ends with its stream; a test that failed does not wait for that.
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

struct Content(&'static [u8]);

impl Source for Content {
    fn send(&mut self, wanted: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        for index in 0..wanted.len() {
            sink.begin(index)?;
            sink.data(self.0)?;
            sink.end(Ok(()))?;
        }
        Ok(())
    }
}

fn path(text: &str) -> RelPathBuf {
    RelPathBuf::new(text.as_bytes()).unwrap()
}

fn file(content: &[u8]) -> Entry {
    let meta = Meta { mode: 0o644, owner: Owner::default() };
    let digest = Digest(blake3::hash(content).into());
    Entry::File(File { size: content.len() as u64, mtime: 1_600_000_000_000_000_000, digest, meta })
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Every directory below is 0700 and every file 0600, but for some files' names; how many there are.
#[track_caller]
fn is_private(dir: &Path, but: &[&str]) -> usize {
    assert_eq!(mode(dir), 0o700, "{}", dir.display());
    let mut count = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if but.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            count += is_private(&path, but);
        } else {
            assert_eq!(metadata.permissions().mode() & 0o7777, 0o600, "{}", path.display());
            count += 1;
        }
    }
    count
}

/// Puts `content` at `a.wav` in place of `before`.
fn push(remote: &mut Remote, root: &Path, before: Option<Entry>, content: &'static [u8]) {
    remote.scan(&local::spec("moh", root)).unwrap();
    remote.prepare("moh", &TrashKeep::FOREVER, None).unwrap().unwrap();
    let Entry::File(new) = file(content) else { unreachable!() };
    let wanted = BlobRequest { path: path("a.wav"), digest: new.digest, size: new.size, offset: 0 };
    assert_eq!(remote.stage("moh", &[wanted], &mut Content(content)).unwrap(), [Ok(())]);
    let action = Action { path: path("a.wav"), expected: before, step: Step::Put(Entry::File(new)) };
    assert_eq!(remote.commit("moh", &[action]).unwrap(), [Outcome::Done]);
    remote.agree("moh", "01GEN").unwrap().unwrap();
}

#[test]
fn a_node_keeps_what_is_private_private_and_shows_what_is_for_all() {
    for umask in UMASKS {
        let (node, mut remote) = Node::start(umask);
        let root = node.at("roots/made/moh");
        push(&mut remote, &root, None, b"old");
        remote.scan(&local::spec("moh", &root)).unwrap();
        let seen = remote.tree("moh", None).unwrap().get(&path("a.wav")).cloned();
        push(&mut remote, &root, seen, b"new");
        // The directories that it made on the way to a missing root, and the file, are Asterisk's to read.
        for dir in ["roots", "roots/made", "roots/made/moh"] {
            assert_eq!(mode(&node.at(dir)), 0o755, "umask {umask}: {dir}");
        }
        assert_eq!(mode(&root.join("a.wav")), 0o644, "umask {umask}");
        // What lies in the trash is as it was; nobody gets there.
        let ours = is_private(&root.join(".xds-sync"), &["a.wav"]);
        assert!(ours >= 2, "umask {umask}: a marker and an index");
        let state = is_private(&node.at("state"), &[]);
        assert!(state >= 2, "umask {umask}: a cache and which Main it obeys");
    }
}

#[test]
fn a_reload_command_gets_nothing_of_mains_making() {
    let (node, mut remote) = Node::start("077");
    push(&mut remote, &node.at("roots/moh"), None, b"new");
    let reload =
        ReloadRequest { name: "own".to_owned(), roots: Vec::new(), timeout: Duration::from_secs(30) };
    let outcome = remote.reload(&reload).unwrap();
    let environment = fs::read_to_string(node.at("state/env")).unwrap_or_else(|_| panic!("{outcome:?}"));
    let names: Vec<&str> = environment.lines().filter_map(|line| line.split('=').next()).collect();
    assert!(names.contains(&"PATH"), "{names:?}");
    // A shell sets these by itself.
    let known = ["HOME", "LOGNAME", "PATH", "SHELL", "TZ", "USER", "PWD", "OLDPWD", "SHLVL", "_"];
    assert!(names.iter().all(|name| known.contains(name)), "{names:?}");
    assert_eq!(fs::read_to_string(node.at("state/umask")).unwrap(), "0022\n");
}

#[test]
fn an_agent_that_crashes_leaves_no_core() {
    let (mut node, _remote) = Node::start("022");
    let pid = Pid::from_child(&node.agent);
    rustix::process::kill_process(pid, Signal::ABORT).unwrap();
    assert!(ends_within(&mut node.agent, LIMIT));
    let status = node.agent.wait().unwrap();
    assert_eq!((status.signal(), status.core_dumped()), (Some(Signal::ABORT.as_raw()), false));
}

/// Main with a node that nobody answers for, and a secret in its configuration.
struct Main(TempDir);

const SECRET: &str = "hunter2";

impl Main {
    fn new() -> Main {
        let main = Main(tempfile::tempdir().unwrap());
        for dir in ["moh", "moh/sub", ".ssh"] {
            fs::create_dir(main.at(dir)).unwrap();
        }
        fs::write(main.at("moh/a.wav"), "content").unwrap();
        let config = format!(
            "[main]\nname = 'main'\n[ssh]\nidentity = {key:?}\nknown_hosts = {known:?}\n[sync]\nstate_dir = {state:?}\n\
             [discovery]\npostgres = {{ url = 'postgresql://u:{SECRET}@127.0.0.1:1/x', query = 'SELECT 1' }}\n\
             [[node]]\nname = 'mds1'\naddress = '127.0.0.1'\nport = 1\n\
             [[directory]]\nname = 'moh'\npath = {moh:?}\n",
            key = main.at(".ssh/key"),
            known = main.at("state/known_hosts"),
            state = main.at("state"),
            moh = main.at("moh"),
        );
        fs::write(main.at("config.toml"), config).unwrap();
        main
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn run(&self, umask: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("sh");
        command.args(["-c", "umask $0; exec \"$@\"", umask, PROGRAM]).args(arguments);
        command.env("HOME", self.0.path()).env("XDS_SYNC_CONFIG", self.at("config.toml")).output().unwrap()
    }
}

#[test]
fn main_keeps_what_it_remembers_to_itself() {
    for umask in UMASKS {
        let main = Main::new();
        main.run(umask, &["sync", "--quiet"]);
        let known = is_private(&main.at("state"), &[]);
        let named = ["lock", "known_hosts", "status.json", "identity.json"];
        assert!(named.iter().all(|name| main.at("state").join(name).exists()), "umask {umask}");
        assert!(known >= named.len());
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn no_secret_of_the_configuration_is_told() {
    let main = Main::new();
    for arguments in [
        &["config", "show"][..],
        &["config", "check"],
        &["sync"],
        &["sync", "--json"],
        &["sync", "--verbose", "--dry-run"],
        &["status"],
        &["status", "--json"],
        &["nodes", "list"],
        &["nodes", "check"],
    ] {
        let Output { stdout, stderr, .. } = main.run("022", arguments);
        let output = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
        assert!(!output.contains(SECRET), "{arguments:?}: {output}");
        assert!(!output.is_empty(), "{arguments:?}");
    }
    for file in files_below(&main.at("state")) {
        let content = fs::read(&file).unwrap();
        assert!(!content.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()), "{}", file.display());
    }
}
