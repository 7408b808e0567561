//! What the stories begin with: the package, and hosts to install it on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::support::{Builder, Cluster, Host, Output};

/// On the cable of a [`booted_pair`].
pub(crate) const MAIN_ADDRESS: &str = "10.78.0.1";
const NODE_ADDRESS: &str = "10.78.0.11";

/// The package, built once for all stories; lintian has seen it.
fn package() -> &'static Path {
    static PACKAGE: OnceLock<PathBuf> = OnceLock::new();
    PACKAGE.get_or_init(|| {
        let output = script("scripts/deb", &["--quick"]);
        output.lines().last().expect("the last line says where it is").into()
    })
}

/// The root of a clean Debian. One that is complete is kept from one test run to the next.
fn clean_debian() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("debian-root");
        script("scripts/debian-root", &[root.to_str().expect("a path in UTF-8")]);
        root
    })
}

/// Main and two nodes, each a clean Debian.
pub(crate) fn clean_cluster() -> Builder {
    Cluster::new().nodes(2).clean_debian(clean_debian())
}

/// A clean Debian by itself, with systemd.
pub(crate) fn booted(name: &str) -> Host {
    Host::booted(name, clean_debian())
}

/// Main and a node, each with systemd, and a cable between them.
pub(crate) fn booted_pair() -> (Host, Host) {
    let (main, node) = (booted("main"), booted("mds1"));
    let cable = |end: &str, peer: &Host| format!("{end} netns {}", peer.pid());
    let added = format!("ip link add {} type veth peer {}", cable("eth0", &main), cable("eth0", &node));
    let output = Command::new("sh").args(["-c", &added]).output().expect("ip");
    assert!(output.status.success(), "{added}: {}", String::from_utf8_lossy(&output.stderr));
    for (host, address) in [(&main, MAIN_ADDRESS), (&node, NODE_ADDRESS)] {
        host.sh(format!("ip address add {address}/24 dev eth0 && ip link set eth0 up")).ok();
    }
    (main, node)
}

fn script(path: &str, args: &[&str]) -> String {
    let mut command = Command::new(path);
    // With these, which cargo sets for a test, build scripts would take this for another build.
    let of_cargo = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    for (name, _) in
        std::env::vars().filter(|(name, _)| of_cargo.iter().any(|prefix| name.starts_with(prefix)))
    {
        command.env_remove(name);
    }
    let output = command.args(args).stdin(Stdio::null()).output().expect(path);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{path}: {stdout}{}", String::from_utf8_lossy(&output.stderr));
    stdout
}

/// The package, brought to a host.
pub(crate) fn bring(host: &Host) {
    host.write("/root/xds-sync.deb", fs::read(package()).expect("the package"));
}

/// Directories as XiVO has them, with something in one.
pub(crate) fn furnish(host: &Host) {
    host.mkdir("/etc/asterisk/extensions_extra.d");
    for dir in ["moh", "sounds/recordings"] {
        host.mkdir(format!("/var/lib/xivo/{dir}"));
    }
}

/// An administrator at several hosts: what is typed, and that it was not much.
#[derive(Default)]
pub(crate) struct Administrator {
    pub(crate) typed: usize,
}

impl Administrator {
    /// Types a line; it must do what it is to do.
    #[track_caller]
    pub(crate) fn types(&mut self, host: &Host, line: &str) -> String {
        self.tries(host, line).ok()
    }

    /// Types a line.
    pub(crate) fn tries(&mut self, host: &Host, line: &str) -> Output {
        self.typed += 1;
        let output = host.sh(format!("{{ {line}\n}} 2>&1"));
        println!("root@{}:~# {line}\n{}", host.name, output.text().trim_end());
        output
    }
}

/// Everything on a host that installing, `init`, `join` and `nodes add` may have to do with: names, modes, contents.
pub(crate) fn everything(host: &Host) -> String {
    host.sh(
        "find /etc /root /usr/bin/*xds-sync* /usr/share/xivo-certs /usr/share/xds-sync -xdev \
             -printf '%p %M %u:%g %l\\n' | sort
         find /etc /root /usr/share/xivo-certs -xdev -type f -print0 | sort --zero-terminated | xargs -0 sha256sum",
    )
    .text()
}
