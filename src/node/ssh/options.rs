//! How to reach nodes in general, and what differs for one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{MAX_CONTROL, OwnConfig};

/// How to reach nodes.
#[derive(Clone, Debug)]
pub struct SshOptions {
    /// The user on the node.
    pub user: String,
    /// The port of the node's sshd.
    pub port: u16,
    /// Main's private key. ssh_config may name more; those of an agent are not tried unless `options` ask for it.
    pub identity: PathBuf,
    /// The key before it, for nodes that do not know the new one yet.
    pub previous_identity: Option<PathBuf>,
    /// Our own known_hosts file.
    pub known_hosts: PathBuf,
    /// What to do about a host that is not in it.
    pub host_keys: HostKeys,
    /// The command that starts the agent, for the node's shell.
    pub agent: String,
    /// Further `-o` options, as in ssh_config(5).
    pub options: Vec<String>,
    /// The `IPQoS` of the connection.
    pub traffic_class: String,
    /// The longest silence of a node.
    pub timeout: Duration,
    /// Whether this host's processor is fast at AES. Then AES ciphers are offered first, unless
    /// `own_config` sets ciphers.
    pub has_aes: bool,
    /// The configuration files that ssh reads by itself.
    pub own_config: OwnConfig,
    /// A private directory for control sockets; other processes may use it as well.
    pub control_dir: PathBuf,
}

/// What differs for one node.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// See [`SshOptions::user`].
    pub user: Option<String>,
    /// See [`SshOptions::port`].
    pub port: Option<u16>,
    /// See [`SshOptions::identity`]. With it, no previous one is tried.
    pub identity: Option<PathBuf>,
    /// Whether no other key than `identity` is tried, whatever ssh itself knows.
    pub only_identity: bool,
}

/// What to do about a host whose key is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKeys {
    /// The first key that a node shows is its key from then on.
    AcceptNew,
    /// Only hosts that are in known_hosts already.
    Strict,
}

/// Longest time that a node's sshd may take to answer.
const MAX_CONNECT: Duration = Duration::from_secs(10);

impl SshOptions {
    pub(super) fn connect_timeout(&self) -> Duration {
        // ssh counts in whole seconds, and takes 0 for never.
        Duration::from_secs(self.timeout.min(MAX_CONNECT).as_secs().max(1))
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        for path in
            [&self.identity, &self.known_hosts, &self.control_dir].into_iter().chain(&self.previous_identity)
        {
            quotable(path)?;
        }
        // The longest name is that of the largest process id and count.
        let longest = self.control_dir.as_os_str().len() + "/4194304-18446744073709551615/s".len();
        ensure!(
            longest <= MAX_CONTROL,
            "{} is too long a path for control sockets",
            self.control_dir.display()
        );
        for option in &self.options {
            ensure!(!option.chars().any(char::is_control), "the ssh option {option:?} is not one line");
        }
        Ok(())
    }
}

/// A path as a value in ssh_config(5): quoted, and without what ssh would expand.
pub(super) fn quoted(path: &Path) -> anyhow::Result<String> {
    Ok(format!("\"{}\"", quotable(path)?.replace('%', "%%")))
}

/// ssh_config has no escape for these characters that every version understands.
fn quotable(path: &Path) -> anyhow::Result<&str> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    let special = |c: char| c.is_control() || matches!(c, '"' | '\\' | '$');
    ensure!(!text.contains(special), "ssh takes no path with quotes, backslashes or $: {text:?}");
    Ok(text)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Typical options of a Main.
    pub(in crate::node::ssh) fn options() -> SshOptions {
        SshOptions {
            user: "root".to_owned(),
            port: 22,
            identity: "/k/key".into(),
            previous_identity: None,
            known_hosts: "/k/known_hosts".into(),
            host_keys: HostKeys::AcceptNew,
            agent: String::new(),
            options: vec![],
            traffic_class: "cs1".to_owned(),
            timeout: Duration::from_secs(30),
            has_aes: true,
            own_config: OwnConfig::default(),
            control_dir: "/k".into(),
        }
    }

    #[test]
    fn paths_for_ssh() {
        for (path, expected) in [
            ("/root/.ssh/key", Some("\"/root/.ssh/key\"")),
            ("~/.ssh/key", Some("\"~/.ssh/key\"")),
            ("/my files/100%h", Some("\"/my files/100%%h\"")),
            ("/a\"b", None),
            ("/a\\b", None),
            ("/${HOME}", None),
            ("/a\nb", None),
        ] {
            assert_eq!(quoted(Path::new(path)).ok().as_deref(), expected, "{path}");
        }
    }
}
