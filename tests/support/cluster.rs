//! Bringing a cluster up and taking it down.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::ops::Index;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::host::{Holder, Host};
use super::output::quiet;

const HOST: &str = include_str!("host.sh");
const CLEAN: &str = include_str!("clean.sh");
const SERVICE: &str = include_str!("service.sh");

/// The switch is a host of its own with nothing but a bridge, so that every wire has both ends out of reach of
/// the machine's network.
const SWITCH: &str = r#"
set -euo pipefail
read -r pid _ </proc/self/stat
echo "pid $pid"
ip link add name switch type bridge
ip link set switch up
echo ready
read -r _ || true
"#;

/// Main and its nodes. Dropped, everything is gone.
pub struct Cluster {
    pub main: Host,
    /// In configured order.
    pub nodes: Vec<Host>,
    /// After the hosts: fields are dropped in this order.
    switch: Holder,
}

/// What a cluster is to be like.
pub struct Builder {
    nodes: Vec<String>,
    xivo_links: bool,
    forced_command: bool,
    asterisk: bool,
    asterisk_22: Option<(String, PathBuf)>,
    asterisk_on_main: bool,
    key: bool,
    config: Option<String>,
    more_config: String,
    program: Option<PathBuf>,
    without_program: Vec<String>,
    clean: Option<PathBuf>,
}

impl Cluster {
    /// A cluster of Main alone, to which nodes are added.
    #[allow(clippy::new_ret_no_self)]
    pub fn new() -> Builder {
        Builder {
            nodes: Vec::new(),
            xivo_links: false,
            forced_command: false,
            asterisk: true,
            asterisk_22: None,
            asterisk_on_main: false,
            key: true,
            config: None,
            more_config: String::new(),
            // autopkgtest names the one that is installed.
            program: std::env::var_os("XDS_SYNC_PROGRAM")
                .or_else(|| option_env!("CARGO_BIN_EXE_xds-sync").map(OsString::from))
                .map(PathBuf::from),
            without_program: Vec::new(),
            clean: None,
        }
    }

    /// Main, then the nodes.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        std::iter::once(&self.main).chain(&self.nodes)
    }

    /// Lets the network lose every packet to and from a host: nothing is refused, nothing answers.
    pub fn cut(&self, host: &str) {
        self.set_port(host, "0");
    }

    /// Ends [`Cluster::cut`].
    pub fn mend(&self, host: &str) {
        self.set_port(host, "3");
    }

    /// Holds what goes to and comes from a host to a rate, such as `1mbit`, by a token bucket at each end of its cable.
    pub fn slow_down(&self, host: &str, rate: &str) {
        self.queue(host, "replace", &["tbf", "rate", rate, "burst", "16kb", "latency", "300ms"]);
    }

    /// Ends [`Cluster::slow_down`].
    pub fn speed_up(&self, host: &str) {
        self.queue(host, "del", &[]);
    }

    /// `tc(8)` at both ends of a host's cable.
    fn queue(&self, host: &str, verb: &str, words: &[&str]) {
        let port = port(self.position(host));
        let command = |device| [&["tc", "qdisc", verb, "dev", device, "root"], words].concat();
        in_switch(&self.switch, &command(&port));
        self[host].run(command("eth0")).ok();
    }

    fn position(&self, host: &str) -> usize {
        self.hosts().position(|known| known.name == host).unwrap_or_else(|| panic!("no host {host}"))
    }

    /// `bridge(8)`: a port in state 0 is disabled, in state 3 it forwards.
    fn set_port(&self, host: &str, state: &str) {
        let port = port(self.position(host));
        in_switch(&self.switch, &["bridge", "link", "set", "dev", &port, "state", state]);
    }
}

impl Index<&str> for Cluster {
    type Output = Host;

    fn index(&self, name: &str) -> &Host {
        self.hosts().find(|host| host.name == name).unwrap_or_else(|| panic!("no host {name}"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for host in self.hosts() {
                let lines = host.syslog();
                let last = &lines[lines.len().saturating_sub(20)..];
                eprintln!("--- the end of /var/log/syslog on {}:\n{}", host.name, last.join("\n"));
            }
        }
    }
}

impl Builder {
    /// Adds a node.
    pub fn node(mut self, name: &str) -> Self {
        self.nodes.push(name.to_owned());
        self
    }

    /// Adds `count` nodes: mds1, mds2 and so on.
    pub fn nodes(mut self, count: usize) -> Self {
        self.nodes.extend((1..=count).map(|n| format!("mds{n}")));
        self
    }

    /// Makes /var/lib/xivo/moh and the directories below /var/lib/xivo/sounds the symlinks that they are on XiVO,
    /// the one to all call recordings among them.
    pub fn xivo_links(mut self) -> Self {
        self.xivo_links = true;
        self
    }

    /// Nodes let Main's key run `xds-sync agent` and nothing else.
    pub fn forced_command(mut self) -> Self {
        self.forced_command = true;
        self
    }

    /// No Asterisk on the nodes, for what is not about reloads.
    pub fn without_asterisk(mut self) -> Self {
        self.asterisk = false;
        self
    }

    /// This node has the Asterisk 22 of this root (scripts/asterisk22-root) instead of the machine's 16.
    pub fn asterisk_22(mut self, node: &str, root: impl Into<PathBuf>) -> Self {
        self.asterisk_22 = Some((node.to_owned(), root.into()));
        self
    }

    /// An Asterisk on Main too.
    pub fn asterisk_on_main(mut self) -> Self {
        self.asterisk_on_main = true;
        self
    }

    /// Main has no key pair and no node knows one.
    pub fn without_key(mut self) -> Self {
        self.key = false;
        self
    }

    /// Replaces the whole configuration that Main gets.
    pub fn config(mut self, toml: &str) -> Self {
        self.config = Some(toml.to_owned());
        self
    }

    /// Is appended to the configuration that Main gets: sections beside `[main]` and `[[node]]`.
    pub fn more_config(mut self, toml: &str) -> Self {
        self.more_config.push_str(toml);
        self
    }

    /// The xds-sync to use, where it is not the one that cargo built for this test.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// This host has no xds-sync.
    pub fn without_program(mut self, host: &str) -> Self {
        self.without_program.push(host.to_owned());
        self
    }

    /// Every host is a clean Debian, a copy of this root: without xds-sync, Asterisk, key or configuration.
    pub fn clean_debian(mut self, root: impl Into<PathBuf>) -> Self {
        self.clean = Some(root.into());
        self
    }

    /// Brings the cluster up; returns when every daemon of every host answers.
    pub fn build(self) -> Cluster {
        demand_prerequisites();
        let names: Vec<String> =
            std::iter::once("main".to_owned()).chain(self.nodes.iter().cloned()).collect();
        let addresses: Vec<String> = (0..names.len()).map(address).collect();
        let hosts_file = names.iter().zip(&addresses).fold(String::new(), |mut text, (name, address)| {
            let _ = writeln!(text, "{address} {name}");
            text
        });
        // Nobody asks who has an address: a host that is cut off must be as silent as one behind a dead
        // router, and not be given up after three seconds for want of an answer to that question.
        let neighbours = addresses.iter().enumerate().fold(String::new(), |mut text, (at, address)| {
            let _ = writeln!(text, "neighbour replace {address} lladdr {} dev eth0", hardware_address(at));
            text
        });

        // All hosts start at once; each is at work on itself while the wires are laid.
        let mut switch = Holder::start("switch", SWITCH, &[]);
        let mut holders: Vec<Holder> = names
            .iter()
            .zip(&addresses)
            .enumerate()
            .map(|(at, (name, address))| self.start_host(at, name, address, &hosts_file, &neighbours))
            .collect();
        switch.pid();
        assert_eq!(switch.line(), "ready");
        lay_wires(&switch, &mut holders);
        let mut hosts = Vec::new();
        for holder in &mut holders {
            holder.send_line("wired");
        }
        for ((name, address), mut holder) in names.into_iter().zip(addresses).zip(holders) {
            assert_eq!(holder.line(), "ready");
            hosts.push(Host::new(name, address, holder));
        }
        let main = hosts.remove(0);
        let cluster = Cluster { main, nodes: hosts, switch };
        if self.clean.is_none() {
            self.introduce(&cluster);
        }
        cluster
    }

    fn start_host(&self, at: usize, name: &str, address: &str, hosts_file: &str, neighbours: &str) -> Holder {
        if let Some(root) = &self.clean {
            let environment = [
                ("NAME", name),
                ("ADDRESS", address),
                ("HOSTS", hosts_file),
                ("NEIGHBOURS", neighbours),
                ("ROOT", root.to_str().expect("a path in UTF-8")),
                ("SERVICE", SERVICE),
                ("START", "syslog sshd"),
            ];
            return Holder::start(name, CLEAN, &environment);
        }
        let is_main = at == 0;
        let program = match &self.program {
            Some(path) if !self.without_program.iter().any(|host| host == name) => {
                path.canonicalize().unwrap_or_else(|why| panic!("{}: {why}", path.display()))
            }
            _ => PathBuf::new(),
        };
        let has_asterisk = if is_main { self.asterisk_on_main } else { self.asterisk };
        let root_with_22 = match &self.asterisk_22 {
            Some((node, root)) if node == name => root.as_path(),
            _ => Path::new(""),
        };
        let yes = |flag: bool| if flag { "yes" } else { "no" };
        let environment = [
            ("NAME", name),
            ("ADDRESS", address),
            ("HOSTS", hosts_file),
            ("NEIGHBOURS", neighbours),
            ("PROGRAM", program.to_str().expect("a path in UTF-8")),
            ("SERVICE", SERVICE),
            // syslog first: sshd is heard from its first line on.
            ("START", if has_asterisk { "syslog sshd asterisk" } else { "syslog sshd" }),
            ("ASTERISK_22", root_with_22.to_str().expect("a path in UTF-8")),
            ("LINKS", yes(self.xivo_links)),
            ("KEY", yes(is_main && self.key)),
        ];
        Holder::start(name, HOST, &environment)
    }

    /// Main's key goes to the nodes, the nodes into Main's configuration.
    fn introduce(&self, cluster: &Cluster) {
        if self.key {
            let key = cluster.main.read_text("/root/.ssh/rsync_xds.pub");
            let options =
                if self.forced_command { r#"restrict,command="/usr/bin/xds-sync agent" "# } else { "" };
            for node in &cluster.nodes {
                node.write("/root/.ssh/authorized_keys", format!("{options}{key}"));
                node.chmod("/root/.ssh/authorized_keys", 0o600);
            }
        }
        let config = self.config.clone().unwrap_or_else(|| {
            cluster.nodes.iter().fold("[main]\nname = \"main\"\n".to_owned(), |mut text, node| {
                let _ =
                    write!(text, "\n[[node]]\nname = \"{}\"\naddress = \"{}\"\n", node.name, node.address);
                text
            })
        });
        cluster.main.write("/etc/xds-sync/config.toml", format!("{config}\n{}", self.more_config));
    }
}

/// Main is 10.77.0.1, the nodes are 10.77.0.11 and on. Every cluster has its own network, so these repeat.
fn address(at: usize) -> String {
    format!("10.77.0.{}", if at == 0 { 1 } else { 10 + at })
}

/// The hardware address, fixed so that every host can know every other's beforehand.
fn hardware_address(at: usize) -> String {
    format!("02:00:0a:4d:00:{at:02x}")
}

fn port(at: usize) -> String {
    format!("port{at}")
}

fn lay_wires(switch: &Holder, holders: &mut [Holder]) {
    let mut batch = String::new();
    for (at, holder) in holders.iter_mut().enumerate() {
        let (port, mac, pid) = (port(at), hardware_address(at), holder.pid());
        let _ = writeln!(batch, "link add {port} type veth peer name eth0 address {mac} netns {pid}");
        let _ = writeln!(batch, "link set {port} master switch up");
    }
    in_switch(switch, &["bash", "-c", &format!("ip -batch - <<'IP'\n{batch}IP")]);
}

fn in_switch(switch: &Holder, argv: &[&str]) {
    let mut command = Command::new("nsenter");
    quiet(&mut command).arg(format!("--target={}", switch.known_pid())).args(["--net", "--"]).args(argv);
    let output = command.output().expect("nsenter");
    assert!(output.status.success(), "{argv:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A bed that cannot be made is a failure that says what to do, never a test skipped.
fn demand_prerequisites() {
    static CHECKED: std::sync::OnceLock<Result<(), String>> = std::sync::OnceLock::new();
    let check = || {
        if !rustix::process::getuid().is_root() {
            return Err(
                "the tests in tests/cluster make network and mount namespaces: run them as root".to_owned()
            );
        }
        let needed = [
            "/usr/sbin/sshd",
            "/usr/sbin/asterisk",
            "/usr/sbin/rsyslogd",
            "/usr/bin/unshare",
            "/usr/bin/nsenter",
        ];
        let mut missing: Vec<_> = needed.into_iter().filter(|program| !Path::new(program).exists()).collect();
        // Both are of Debian's iproute2.
        for program in ["ip", "tc"] {
            let is_there = |dir: &&str| Path::new(dir).join(program).exists();
            if !["/usr/sbin", "/usr/bin", "/sbin"].iter().any(is_there) {
                missing.push(program);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!("a cluster needs {}: scripts/setup installs what is missing", missing.join(", ")))
    };
    if let Err(why) = CHECKED.get_or_init(check) {
        panic!("{why}");
    }
}
