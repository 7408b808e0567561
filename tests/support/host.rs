//! One host of a cluster: its processes, its daemons, their logs and reloads. Its files are in `files.rs`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use super::output::{Output, Running, quiet};
use super::tree::Names;
use super::wait::{ends_within, eventually};

/// How long a host may take for a step of its start. It takes well under a second.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Within which a line that was logged is in the file. It takes milliseconds.
const SOON: Duration = Duration::from_secs(20);

/// A host: Main, or a node. Shared references are enough for everything, also from several threads.
pub struct Host {
    pub name: String,
    pub address: String,
    pub(crate) root: OwnedFd,
    pid: u32,
    /// Last: what the host holds is given back before it ends.
    _holder: Holder,
}

impl Host {
    pub(crate) fn new(name: String, address: String, holder: Holder) -> Self {
        let pid = holder.known_pid();
        let root = File::open(format!("/proc/{pid}/root")).expect("the host's root").into();
        Self { name, address, root, pid, _holder: holder }
    }

    /// A host by itself that systemd has booted: a clean Debian, a copy of this root.
    pub fn booted(name: &str, root: &Path) -> Self {
        let root = root.to_str().expect("a path in UTF-8");
        let mut holder = Holder::start(name, include_str!("booted.sh"), &[("NAME", name), ("ROOT", root)]);
        holder.pid();
        assert_eq!(holder.line(), "ready");
        Self::new(name.to_owned(), "127.0.0.1".to_owned(), holder)
    }

    /// The host's PID 1, as the machine numbers it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    // --- processes ---------------------------------------------------------------------------------------

    /// Runs a bash script as root in /root, waits for its end. Fails nothing by itself: see [`Output::ok`].
    #[track_caller]
    pub fn sh(&self, script: impl AsRef<str>) -> Output {
        self.run(["bash", "-c", script.as_ref()])
    }

    /// Runs a program with arguments and waits for its end.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Output {
        self.spawn(argv).wait()
    }

    /// Starts a program and goes on; it is killed when the result is dropped.
    #[track_caller]
    pub fn spawn<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Running {
        let argv: Vec<_> = argv.into_iter().collect();
        let words: Vec<_> = argv.iter().map(|word| word.as_ref().to_string_lossy()).collect();
        let mut command = self.enter();
        command.args(&argv);
        Running::start(command, format!("{}: {}", self.name, words.join(" ")))
    }

    /// A command that runs what is appended to it on this host.
    pub fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        quiet(&mut command).arg(format!("--target={}", self.pid)).args([
            "--root",
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--wdns=/root",
            "--",
        ]);
        command
    }

    /// Runs `xds-sync` with arguments.
    #[track_caller]
    pub fn xds_sync<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.spawn_xds_sync(args).wait()
    }

    /// Starts `xds-sync` with arguments and goes on.
    #[track_caller]
    pub fn spawn_xds_sync<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Running {
        let mut argv = vec![OsStr::new("xds-sync").to_owned()];
        argv.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self.spawn(argv)
    }

    /// Runs `xds-sync sync --json` with further arguments.
    #[track_caller]
    pub fn sync_json<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        let mut argv = vec![OsStr::new("sync").to_owned(), "--json".into()];
        argv.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        let output = self.xds_sync(argv);
        Run { code: output.code, json: output.json(), output }
    }

    // --- daemons -----------------------------------------------------------------------------------------

    /// Starts sshd; returns when it listens.
    pub fn start_sshd(&self) {
        self.service("start", "sshd");
    }

    /// Stops sshd and ends its connections: further ones are refused.
    pub fn stop_sshd(&self) {
        self.service("stop", "sshd");
    }

    /// Starts Asterisk; returns when it has fully booted.
    pub fn start_asterisk(&self) {
        self.service("start", "asterisk");
    }

    /// Stops Asterisk; returns when it is gone.
    pub fn stop_asterisk(&self) {
        self.service("stop", "asterisk");
    }

    /// Starts the system log.
    pub fn start_syslog(&self) {
        self.service("start", "syslog");
    }

    /// Stops the system log: /dev/log is then a socket that nobody reads.
    pub fn stop_syslog(&self) {
        self.service("stop", "syslog");
    }

    /// Starts cron; it looks at its jobs at every full minute.
    pub fn start_cron(&self) {
        self.service("start", "cron");
    }

    /// Starts nginx; returns when it listens.
    pub fn start_nginx(&self) {
        self.service("start", "nginx");
    }

    /// Starts PostgreSQL, with its socket where Debian has it; returns when it answers.
    pub fn start_postgres(&self) {
        self.service("start", "postgres");
    }

    /// Stops PostgreSQL and ends its connections; returns when it is gone.
    pub fn stop_postgres(&self) {
        self.service("stop", "postgres");
    }

    /// What PostgreSQL answers to SQL in XiVO's database.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        self.run(["psql", "-U", "postgres", "-qAt", "-d", "asterisk", "-c", sql]).ok()
    }

    fn service(&self, verb: &str, name: &str) {
        self.run(["service-of-host", verb, name]).ok();
    }

    /// Takes xds-sync away from this host.
    pub fn remove_program(&self) {
        self.sh("umount /usr/bin/xds-sync && rm /usr/bin/xds-sync").ok();
    }

    // --- logs and reloads ---------------------------------------------------------------------------------

    /// What Asterisk answers to a console command.
    #[track_caller]
    pub fn asterisk(&self, command: &str) -> String {
        self.run(["asterisk", "-rx", command]).ok()
    }

    /// When Asterisk really loaded its `dialplan` or `moh` again, in nanoseconds since 1970; its start is none.
    /// Counted by the generator that Asterisk itself runs for each load.
    pub fn reloads(&self, kind: &str) -> Vec<i128> {
        if !self.exists("/var/log/asterisk/reloads") {
            return Vec::new();
        }
        self.read_text("/var/log/asterisk/reloads")
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(_, loaded)| *loaded == kind)
            .map(|(when, _)| when.parse().expect("nanoseconds"))
            .collect()
    }

    /// How often Asterisk really loaded its `dialplan` or `moh` again since the host came up.
    pub fn reload_count(&self, kind: &str) -> usize {
        self.reloads(kind).len()
    }

    /// The lines of /var/log/syslog so far.
    pub fn syslog(&self) -> Vec<String> {
        if !self.exists("/var/log/syslog") {
            return Vec::new();
        }
        String::from_utf8_lossy(&self.read("/var/log/syslog")).lines().map(str::to_owned).collect()
    }

    /// Waits for a syslog line with `text` in it and gives it.
    #[track_caller]
    pub fn await_syslog(&self, text: &str) -> String {
        let mut found = None;
        eventually(&format!("a syslog line with {text:?} on {}", self.name), SOON, || {
            found = self.syslog().into_iter().find(|line| line.contains(text));
            found.is_some()
        });
        found.expect("just seen")
    }

    pub(crate) fn names(&self) -> Names {
        let table = |path| -> BTreeMap<u32, String> {
            self.read_text(path)
                .lines()
                .filter_map(|line| {
                    let mut fields = line.split(':');
                    let name = fields.next()?.to_owned();
                    Some((fields.nth(1)?.parse().ok()?, name))
                })
                .collect()
        };
        Names { users: table("/etc/passwd"), groups: table("/etc/group") }
    }
}

/// What `xds-sync sync --json` came to.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub json: Value,
    pub output: Output,
}

impl Run {
    /// Demands this exit code.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        self.output.exits(code);
        self
    }

    /// The changes, each as `directory node to action path`, in the order reported.
    #[track_caller]
    pub fn changes(&self) -> Vec<String> {
        let word = |change: &Value, key: &str| change[key].as_str().unwrap_or("-").to_owned();
        let changes =
            self.json["changes"].as_array().unwrap_or_else(|| panic!("no changes in {:?}", self.output));
        changes
            .iter()
            .map(|change| {
                ["directory", "node", "to", "action", "path"].map(|key| word(change, key)).join(" ")
            })
            .collect()
    }

    /// The object of this node.
    #[track_caller]
    pub fn node(&self, name: &str) -> &Value {
        let nodes = self.json["nodes"].as_array().into_iter().flatten();
        nodes
            .into_iter()
            .find(|node| node["name"] == name)
            .unwrap_or_else(|| panic!("no {name} in {:?}", self.output))
    }
}

/// The namespaces of one host and the shell that is PID 1 in them. They have no names anywhere, so hosts of
/// clusters that run at the same time cannot meet, and nothing can be left over: when the pipe to the shell
/// closes, which the kernel sees to however this process ends, the shell ends and takes all processes and mounts
/// of the host with it.
pub(crate) struct Holder {
    pid: u32,
    name: String,
    child: Child,
    lines: Receiver<String>,
    stderr: File,
}

impl Holder {
    /// Starts a script as PID 1 of new namespaces; its first line must be `pid N`.
    pub(crate) fn start(name: &str, script: &str, environment: &[(&str, &str)]) -> Self {
        let stderr = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut command = Command::new("unshare");
        let mut child = quiet(&mut command)
            .args([
                "--fork",
                "--pid",
                "--mount",
                "--uts",
                "--net",
                "--ipc",
                "--propagation=private",
                "--kill-child",
                "--",
            ])
            .args(["bash", "-c", r#"eval "$SCRIPT""#])
            .env("SCRIPT", script)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr.as_file().try_clone().expect("dup"))
            .spawn()
            .unwrap_or_else(|why| panic!("cannot start unshare: {why}"));
        let stdout = child.stdout.take().expect("piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { pid: 0, name: name.to_owned(), child, lines, stderr: stderr.reopen().expect("reopen") }
    }

    /// The number of the shell in the machine's PID namespace.
    pub(crate) fn pid(&mut self) -> u32 {
        if self.pid == 0 {
            let line = self.line();
            self.pid = line.strip_prefix("pid ").and_then(|pid| pid.parse().ok()).expect("the line `pid N`");
        }
        self.pid
    }

    /// The same, once [`Holder::pid`] has been asked.
    pub(crate) fn known_pid(&self) -> u32 {
        assert_ne!(self.pid, 0, "{} has not printed its number", self.name);
        self.pid
    }

    /// Lets the script read a line.
    pub(crate) fn send_line(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        // A script that has failed is noticed, with its reason, where its answer is awaited.
        let _ = writeln!(stdin, "{line}");
    }

    /// The next line that the script writes.
    pub(crate) fn line(&mut self) -> String {
        self.lines.recv_timeout(START_LIMIT).unwrap_or_else(|_| {
            let mut stderr = String::new();
            let _ = std::io::Read::read_to_string(&mut self.stderr, &mut stderr);
            panic!("host {} does not come up:\n{stderr}", self.name)
        })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if !ends_within(&mut self.child, Duration::from_secs(5)) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
