//! The way to the nodes: sessions with their agents over ssh, or with what they have uploaded.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{self, Config, Node};
use crate::enroll::{key, rotate};
use crate::host;
use crate::model::escape::clean;
use crate::node::ssh::{Connector, HostKeys, NodeOptions, OwnConfig, ShellOutput, SshOptions};
use crate::node::{Accept, Hello, NodeError, NodeErrorKind, NodeSession};
use crate::site::machine;
use crate::site::uploaded::Followers;
use crate::state::{Identity, StateDir};
use crate::sync::Connect;

/// Reaches nodes over ssh.
pub(super) struct Ssh {
    connector: Connector,
    /// Who this Main is.
    identity: Identity,
    /// Its name, for messages.
    name: String,
    nodes: Vec<Node>,
    /// The key of nodes that have none of their own.
    key: PathBuf,
    state_dir: PathBuf,
    /// Whether ssh is told of somebody else who holds the keys.
    has_agent: bool,
    /// Nodes that are not reached over ssh at all.
    pub(super) followers: Option<Arc<Followers>>,
}

/// What this host accepts where it is somebody's node.
const NODE_CONFIG: &str = "/etc/xds-sync/node.toml";

/// Options of ssh by which keys need not lie on Main's disk.
const AGENTS: [&str; 3] = ["identityagent", "pkcs11provider", "securitykeyprovider"];

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
            has_aes: host::has_aes(),
            own_config: host::home().map(|home| OwnConfig::read(&home)).unwrap_or_default(),
            control_dir: state.path().join("ssh"),
        })?;
        let is_agent = |option: &String| {
            let keyword = option.split(['=', ' ']).next().unwrap_or_default();
            AGENTS.iter().any(|agent| keyword.eq_ignore_ascii_case(agent))
        };
        Ok(Ssh {
            connector,
            identity,
            name: config.main.name.clone(),
            nodes: config.nodes.clone(),
            key: ssh.identity.clone(),
            state_dir: config.sync.state_dir.clone(),
            has_agent: ssh.options.iter().any(is_agent),
            followers: None,
        })
    }

    /// What is wrong with the keys that these nodes are reached with, on Main itself; each key once.
    pub(super) fn own_troubles<'n>(&self, nodes: impl Iterator<Item = &'n Node>) -> Vec<String> {
        let keys: BTreeSet<&Path> = nodes.map(|node| node.identity.as_deref().unwrap_or(&self.key)).collect();
        keys.into_iter().filter_map(|key| self.trouble(key)).collect()
    }

    fn trouble(&self, key: &Path) -> Option<String> {
        key::trouble(key).filter(|_| !self.has_agent)
    }

    /// No node is asked with a key that Main itself cannot use: it would seem to be the node that refuses it.
    fn check_key(&self, options: &NodeOptions) -> Result<(), NodeError> {
        match self.trouble(options.identity.as_deref().unwrap_or(&self.key)) {
            None => Ok(()),
            Some(_) => Err(NodeError::new(NodeErrorKind::Unreachable, "Main's own key cannot be used")),
        }
    }

    /// Who this Main is.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Connects with this key and no other.
    pub(super) fn connect_with(
        &self,
        node: &Node,
        identity: &Path,
    ) -> Result<Box<dyn NodeSession>, NodeError> {
        let options =
            NodeOptions { identity: Some(identity.to_owned()), only_identity: true, ..options(node) };
        self.open(node, &options)
    }

    /// Lets the node's shell run a command, where Main's key opens one.
    pub(super) fn shell(&self, node: &Node, command: &str, input: &[u8]) -> Result<ShellOutput, NodeError> {
        self.check_key(&options(node))?;
        self.connector.shell(&node.address, &options(node), command, input)
    }

    fn open(&self, node: &Node, options: &NodeOptions) -> Result<Box<dyn NodeSession>, NodeError> {
        self.check_key(options)?;
        let hello =
            Hello { main: self.identity.id.clone(), epoch: self.identity.epoch, name: self.name.clone() };
        Ok(Box::new(self.connector.connect(&node.address, options, &hello)?))
    }
}

impl Connect for Ssh {
    fn connect(&self, node: &str) -> Result<Box<dyn NodeSession>, NodeError> {
        if let Some(followers) = self.followers.as_ref().filter(|followers| followers.has(node)) {
            return followers.connect(node);
        }
        let known = self.nodes.iter().find(|known| known.name == node);
        let known = known.ok_or_else(|| {
            NodeError::new(NodeErrorKind::Unreachable, format!("no node is named {}", clean(node)))
        })?;
        self.open(known, &options(known))
    }

    fn is_main(&self, id: &str) -> bool {
        let machine = machine();
        // The agent of this host may have a state directory of its own.
        let places = [
            Some(self.state_dir.clone()),
            Accept::read(Path::new(NODE_CONFIG)).ok().map(|accept| accept.state_dir),
        ];
        places.into_iter().flatten().any(|place| machine.id(&place).is_some_and(|own| own == id))
    }
}

/// What is configured for this node alone.
fn options(node: &Node) -> NodeOptions {
    NodeOptions {
        user: node.user.clone(),
        port: node.port,
        identity: node.identity.clone(),
        ..NodeOptions::default()
    }
}
