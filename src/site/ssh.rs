//! The way to the nodes: sessions with their agents over ssh.

use std::path::Path;

use crate::config::{self, Config, Node};
use crate::enroll::rotate;
use crate::host;
use crate::model::escape::clean;
use crate::node::ssh::{Connector, HostKeys, NodeOptions, OwnConfig, ShellOutput, SshOptions};
use crate::node::{Hello, NodeError, NodeErrorKind, NodeSession};
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
        Ok(Ssh { connector, identity, name: config.main.name.clone(), nodes: config.nodes.clone() })
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
        self.connector.shell(&node.address, &options(node), command, input)
    }

    fn open(&self, node: &Node, options: &NodeOptions) -> Result<Box<dyn NodeSession>, NodeError> {
        let hello =
            Hello { main: self.identity.id.clone(), epoch: self.identity.epoch, name: self.name.clone() };
        Ok(Box::new(self.connector.connect(&node.address, options, &hello)?))
    }
}

impl Connect for Ssh {
    fn connect(&self, node: &str) -> Result<Box<dyn NodeSession>, NodeError> {
        let known = self.nodes.iter().find(|known| known.name == node);
        let known = known.ok_or_else(|| {
            NodeError::new(NodeErrorKind::Unreachable, format!("no node is named {}", clean(node)))
        })?;
        self.open(known, &options(known))
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
