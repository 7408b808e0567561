//! The way to Main's own disk, and to the nodes.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Context as _;

use super::exit;
use crate::config::{self, Config, Node};
use crate::enroll::{authorized_keys, rotate};
use crate::host;
use crate::model::{ReloadOutcome, ReloadState};
use crate::node::ssh::{Connector, HostKeys, NodeOptions, OwnConfig, ShellOutput, SshOptions};
use crate::node::{
    Accept, Hello, KeyChange, Local, LocalOptions, NodeError, NodeSession, Refusal, ReplaceKey,
};
use crate::reload::{self, ReloadRequest};
use crate::state::{Identity, StateDir};
use crate::sync::Connect;

/// Reaches nodes over ssh.
pub(super) struct Ssh {
    connector: Connector,
    /// Who this Main is.
    identity: Identity,
    /// Its name, for messages.
    name: String,
}

impl Ssh {
    pub(super) fn new(config: &Config, state: &StateDir, identity: Identity) -> anyhow::Result<Ssh> {
        let ssh = &config.ssh;
        let connector = Connector::new(SshOptions {
            user: ssh.user.clone(),
            port: ssh.port,
            identity: ssh.identity.clone(),
            previous_identity: Some(rotate::previous(&ssh.identity)).filter(|previous| previous.exists()),
            known_hosts: ssh.known_hosts.clone(),
            host_keys: match ssh.host_keys {
                config::HostKeys::AcceptNew => HostKeys::AcceptNew,
                config::HostKeys::Strict => HostKeys::Strict,
            },
            agent: ssh.agent.clone(),
            options: ssh.options.clone(),
            traffic_class: config.sync.traffic_class.clone(),
            timeout: config.sync.timeout,
            persist: ssh.persist,
            now: host::now,
            has_aes: host::has_aes(),
            own_config: host::home().map(|home| OwnConfig::read(&home)).unwrap_or_default(),
            control_dir: state.path().join("ssh"),
        })?;
        Ok(Ssh { connector, identity, name: config.main.name.clone() })
    }
}

impl Connect for Ssh {
    fn connect(&self, node: &Node) -> Result<Box<dyn NodeSession>, NodeError> {
        self.open(node, NodeOptions { identity: node.identity.clone(), ..options(node) })
    }
}

/// What differs for a node, but for its key.
fn options(node: &Node) -> NodeOptions {
    NodeOptions { user: node.user.clone(), port: node.port, ..NodeOptions::default() }
}

impl Ssh {
    /// Connects with this key and no other.
    pub(super) fn connect_with(
        &self,
        node: &Node,
        identity: &Path,
    ) -> Result<Box<dyn NodeSession>, NodeError> {
        let identity = Some(identity.to_owned());
        self.open(node, NodeOptions { identity, only_identity: true, ..options(node) })
    }

    /// Shakes hands with the node's agent, and hangs up again.
    pub(super) fn reach(&self, node: &Node) -> Result<(), NodeError> {
        self.connect(node).map(drop)
    }

    /// Lets the node's shell run a command, where Main's key opens one.
    pub(super) fn shell(&self, node: &Node, command: &str, input: &[u8]) -> Result<ShellOutput, NodeError> {
        let options = NodeOptions { identity: node.identity.clone(), ..options(node) };
        self.connector.shell(&node.address, &options, command, input)
    }

    fn open(&self, node: &Node, options: NodeOptions) -> Result<Box<dyn NodeSession>, NodeError> {
        let hello =
            Hello { main: self.identity.id.clone(), epoch: self.identity.epoch, name: self.name.clone() };
        Ok(Box::new(self.connector.connect(&node.address, &options, &hello)?))
    }
}

/// Main's own disk.
pub(super) fn main_disk(state: &StateDir) -> Local {
    // Main's Asterisk is the administrator's, who edits there and reloads there.
    let reload = |request: &ReloadRequest| ReloadOutcome {
        name: request.name.clone(),
        state: ReloadState::NotNeeded,
        detail: None,
    };
    let replace_key = |_: &KeyChange| Err(Refusal::new("no key lets anyone in here"));
    disk(&state.cache_dir(), Box::new(reload), Box::new(replace_key), Arc::default())
}

/// What a node's own commands get of the agent's environment. Not what Main's ssh can put there:
/// `SSH_ORIGINAL_COMMAND`, and `LANG` and `LC_*` where sshd accepts them.
const FOR_COMMANDS: [&str; 6] = ["HOME", "LOGNAME", "PATH", "SHELL", "TZ", "USER"];

/// A node's own disk, as its agent serves it; `progress` grows with whatever it does.
pub(super) fn node_disk(accept: &Accept, progress: &Arc<AtomicU64>) -> Local {
    let commands = accept.reload.clone();
    let set = |name: &str| Some((name.into(), host::variable(name)?));
    let environment: Vec<(OsString, OsString)> = FOR_COMMANDS.into_iter().filter_map(set).collect();
    let reload = move |request: &ReloadRequest| reload::run(request, &commands, &environment);
    let replace_key = |change: &KeyChange| {
        let replaced = host::home()
            .context("HOME is not set")
            .and_then(|home| rotate::accept(&authorized_keys::path_below(&home), change));
        replaced.map_err(|error| Refusal::new(exit::line_of(&error)))
    };
    disk(&accept.state_dir.join("cache"), Box::new(reload), Box::new(replace_key), Arc::clone(progress))
}

type Reload = Box<dyn FnMut(&ReloadRequest) -> ReloadOutcome + Send>;

fn disk(cache_dir: &Path, reload: Reload, replace_key: ReplaceKey, progress: Arc<AtomicU64>) -> Local {
    Local::new(LocalOptions {
        cache_dir: cache_dir.to_owned(),
        clock: Box::new(host::now),
        new_id: Box::new(host::ulid),
        reload,
        replace_key,
        progress,
    })
}
