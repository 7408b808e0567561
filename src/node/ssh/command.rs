//! The command line of ssh.

use std::ffi::OsString;
use std::path::Path;

use super::control::Control;
use super::options::{HostKeys, NodeOptions, SshOptions, quoted};
use crate::model::escape::escape_for_people;
use crate::node::{NodeError, NodeErrorKind};

/// How many seconds a master outlives its last stream. A run tells it to end when it is done; this is for runs that were
/// killed.
const LINGER: &str = "ControlPersist=10s";
/// The ciphers that are fastest where the processor supports AES, followed by the others that ssh offers by
/// default, in its order. `^`, which would do that, is not known to versions before 8.0.
const AES_FIRST: &str = "Ciphers=aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,\
                         aes128-ctr,aes192-ctr,aes256-ctr";

/// Options that ssh_config cannot override: ssh takes the first value of an option, and the command line
/// comes first.
const ALWAYS: [&str; 12] = [
    // Nobody is there to answer a prompt.
    "BatchMode=yes",
    // The node gets a stream, and nothing else from this host.
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=yes",
    "Tunnel=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "RequestTTY=no",
    // The host key is looked up under our name for the node, in our own file, and nowhere else.
    "CheckHostIP=no",
    "HashKnownHosts=no",
    "UpdateHostKeys=no",
    // At lower levels ssh does not say why it failed; at higher ones the node decides how much it logs.
    "LogLevel=INFO",
];

/// A node, with its options checked.
pub(super) struct Target<'a> {
    options: &'a SshOptions,
    pub(super) address: &'a str,
    pub(super) user: &'a str,
    port: u16,
    pub(super) identity: &'a Path,
    previous_identity: Option<&'a Path>,
    only_identity: bool,
    /// The node's name in known_hosts, as ssh itself would write it.
    pub(super) alias: String,
    /// Whether known_hosts has a key of it.
    pub(super) known: bool,
}

impl<'a> Target<'a> {
    pub(super) fn new(
        options: &'a SshOptions,
        address: &'a str,
        node: &'a NodeOptions,
    ) -> Result<Target<'a>, NodeError> {
        let refused = |what: &str, word: &str| {
            let word = escape_for_people(word.as_bytes());
            NodeError::new(NodeErrorKind::Unreachable, format!("{word} is no {what}"))
        };
        let address = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
        if !is_address(address) {
            return Err(refused("host name or address", address));
        }
        let user = node.user.as_deref().unwrap_or(&options.user);
        if !is_user(user) {
            return Err(refused("user name", user));
        }
        let identity = node.identity.as_deref().unwrap_or(&options.identity);
        if quoted(identity).is_err() {
            return Err(refused("path that ssh takes", &identity.to_string_lossy()));
        }
        let port = node.port.unwrap_or(options.port);
        let alias = match port {
            22 => address.to_ascii_lowercase(),
            _ => format!("[{}]:{port}", address.to_ascii_lowercase()),
        };
        let known = known_hosts(options).is_none_or(|known_hosts| knows(&known_hosts, &alias));
        let previous_identity = options.previous_identity.as_deref().filter(|_| node.identity.is_none());
        let only_identity = node.only_identity;
        Ok(Target { options, address, user, port, identity, previous_identity, only_identity, alias, known })
    }

    /// Our own known_hosts file.
    pub(super) fn known_hosts(&self) -> &Path {
        &self.options.known_hosts
    }

    /// Whether unknown hosts are refused.
    pub(super) fn is_strict(&self) -> bool {
        self.options.host_keys == HostKeys::Strict
    }

    /// The options of this connection, as in ssh_config(5), for `-o`.
    pub(super) fn options(&self) -> Vec<String> {
        let options = self.options;
        // `accept-new` would accept a key of another type than the known one from a known host, and so from
        // another host that answers in its place.
        let strict = if self.known || self.is_strict() { "yes" } else { "accept-new" };
        // Both were checked by `SshOptions::check` and `new`. ssh would refuse an empty value.
        let path = |path: &Path| quoted(path).unwrap_or_default();
        let ours = [
            LINGER.to_owned(),
            format!("StrictHostKeyChecking={strict}"),
            format!("UserKnownHostsFile={}", path(&options.known_hosts)),
            format!("HostKeyAlias={}", self.alias),
        ];
        let only = if self.only_identity { &["IdentitiesOnly=yes", "IdentityAgent=none"][..] } else { &[] };
        // ssh tries all the files it is given, in this order.
        let previous = self.previous_identity.map(|previous| format!("IdentityFile={}", path(previous)));
        let aes = options.has_aes && !options.own_config.sets_ciphers;
        let aes = aes.then(|| AES_FIRST.to_owned());
        let defaults = [
            // Neither keys that whoever calls has in an agent, nor other ways in that ssh_config knows of: each
            // would let Main in elsewhere than at the agent, or use up the tries that sshd allows.
            "IdentitiesOnly=yes".to_owned(),
            "IdentityAgent=none".to_owned(),
            "PreferredAuthentications=publickey".to_owned(),
            format!("ConnectTimeout={}", options.connect_timeout().as_secs()),
            // The master of a dead connection ends as well, after our own timeout.
            format!("ServerAliveInterval={}", options.timeout.as_secs().max(1)),
            "ServerAliveCountMax=2".to_owned(),
            format!("IPQoS={}", options.traffic_class),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            format!("IdentityFile={}", path(self.identity)),
        ];
        let always = ALWAYS.into_iter().map(str::to_owned);
        let only = only.iter().copied().map(str::to_owned);
        let given = options.options.iter().cloned();
        always.chain(ours).chain(only).chain(given).chain(defaults).chain(previous).chain(aes).collect()
    }

    /// Those of the master.
    pub(super) fn arguments(&self, control: &Control) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = ["-M", "-N", "-f", "-S"].map(OsString::from).to_vec();
        arguments.push(control.socket().to_string_lossy().replace('%', "%%").into());
        arguments.push("-E".into());
        arguments.push(control.log().into());
        self.connect(arguments)
    }

    /// Those of an ssh that is no master, and runs a command that does nothing.
    pub(super) fn arguments_without_master(&self, control: &Control) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            ["-o", "ControlMaster=no", "-o", "ControlPath=none", "-E"].map(OsString::from).to_vec();
        arguments.push(control.log().into());
        let mut arguments = self.connect(arguments);
        arguments.push("true".into());
        arguments
    }

    /// With how and where to connect.
    fn connect(&self, mut arguments: Vec<OsString>) -> Vec<OsString> {
        arguments.extend(["-l", self.user, "-p"].map(OsString::from));
        arguments.push(self.port.to_string().into());
        for option in self.options() {
            arguments.push("-o".into());
            arguments.push(option.into());
        }
        arguments.push("--".into());
        arguments.push(self.address.into());
        arguments
    }
}

/// A host name, an IPv4 or an IPv6 address, the last perhaps with its interface; never an option.
fn is_address(address: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'%');
    (1..=255).contains(&address.len()) && !address.starts_with('-') && address.bytes().all(plain)
}

fn is_user(user: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'@' | b'+' | b'$');
    (1..=255).contains(&user.len()) && !user.starts_with('-') && user.bytes().all(plain)
}

/// The text of our known_hosts file, empty when there is none yet. `None` when it cannot be read: then no
/// unknown host is accepted.
fn known_hosts(options: &SshOptions) -> Option<String> {
    match std::fs::read(&options.known_hosts) {
        // A byte that is not UTF-8 damages its own line only.
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(String::new()),
        Err(_) => None,
    }
}

/// Whether a known_hosts file has a key for `alias`. Lines with hashes or patterns are left to ssh.
fn knows(known_hosts: &str, alias: &str) -> bool {
    known_hosts.lines().any(|line| {
        let hosts = line.split_whitespace().find(|word| !word.starts_with('@')).unwrap_or("");
        hosts.split(',').any(|host| host.eq_ignore_ascii_case(alias))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::options::tests::options;
    use super::*;

    #[test]
    fn addresses() {
        for (address, allowed) in [
            ("10.0.0.11", true),
            ("mds-1.example.org", true),
            ("2001:db8::1", true),
            ("fe80::1%eth0", true),
            ("-oProxyCommand=x", false),
            ("a b", false),
            ("a;b", false),
            ("$(id)", false),
            ("user@host", false),
            ("a\nb", false),
            ("", false),
        ] {
            assert_eq!(is_address(address), allowed, "{address}");
        }
    }

    #[test]
    fn who_is_known() {
        let file = "# a comment\nmds1,10.0.0.11 ssh-ed25519 AAAA\n@revoked [mds2]:2222 ssh-rsa AAAA\n|1|x|y ssh-rsa A\n";
        for (alias, known) in [
            ("mds1", true),
            ("MDS1", true),
            ("10.0.0.11", true),
            ("[mds2]:2222", true),
            ("mds2", false),
            ("#", true),
        ] {
            assert_eq!(knows(file, alias), known, "{alias}");
        }
        assert!(!knows("", "mds1"));
    }

    #[test]
    fn a_damaged_known_hosts_lets_nobody_in_as_new() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known_hosts");
        let options = SshOptions { known_hosts: file.clone(), ..options() };
        let strict = |address| {
            let node = NodeOptions::default();
            let target = Target::new(&options, address, &node).unwrap();
            target.options().contains(&"StrictHostKeyChecking=yes".to_owned())
        };
        assert!(!strict("mds1"), "there is none yet");
        std::fs::write(&file, b"mds1 ssh-ed25519 AAAA\nm\xffs2 ssh-ed25519 AAAA\n").unwrap();
        assert!(strict("mds1"), "the damage is in another line");
        assert!(!strict("mds3"));
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert!(strict("mds1"), "what cannot be read may say anything");
    }
}
