//! The way to Main's own disk, and to the nodes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::config::{self, Config, Node};
use crate::host;
use crate::model::{ReloadOutcome, ReloadState};
use crate::node::ssh::{Connector, HostKeys, NodeOptions, SshOptions};
use crate::node::{Accept, Endpoint, Hello, Local, LocalOptions, NodeError};
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
    /// Whether the nodes are to be told that nothing will be changed.
    dry_run: bool,
}

impl Ssh {
    pub(super) fn new(
        config: &Config,
        state: &StateDir,
        identity: Identity,
        dry_run: bool,
    ) -> anyhow::Result<Ssh> {
        let ssh = &config.ssh;
        let connector = Connector::new(SshOptions {
            user: ssh.user.clone(),
            port: ssh.port,
            identity: ssh.identity.clone(),
            known_hosts: ssh.known_hosts.clone(),
            host_keys: match ssh.host_keys {
                config::HostKeys::AcceptNew => HostKeys::AcceptNew,
                config::HostKeys::Strict => HostKeys::Strict,
            },
            agent: ssh.agent.clone(),
            options: ssh.options.clone(),
            traffic_class: config.sync.traffic_class.clone(),
            timeout: config.sync.timeout,
            control_dir: state.path().join("ssh"),
        })?;
        Ok(Ssh { connector, identity, name: config.main.name.clone(), dry_run })
    }
}

impl Connect for Ssh {
    fn connect(&self, node: &Node, run: &str) -> Result<Box<dyn Endpoint>, NodeError> {
        let options =
            NodeOptions { user: node.user.clone(), port: node.port, identity: node.identity.clone() };
        let hello = Hello {
            main: self.identity.id.clone(),
            epoch: self.identity.epoch,
            name: self.name.clone(),
            run: run.to_owned(),
            dry_run: self.dry_run,
        };
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
    disk(&state.cache_dir(), Box::new(reload), Arc::default())
}

/// A node's own disk, as its agent serves it; `progress` grows with whatever it does.
pub(super) fn node_disk(accept: &Accept, progress: &Arc<AtomicU64>) -> Local {
    let commands = accept.reload.clone();
    let reload = move |request: &ReloadRequest| reload::run(request, &commands);
    disk(&accept.state_dir.join("cache"), Box::new(reload), Arc::clone(progress))
}

type Reload = Box<dyn FnMut(&ReloadRequest) -> ReloadOutcome + Send>;

fn disk(cache_dir: &Path, reload: Reload, progress: Arc<AtomicU64>) -> Local {
    Local::new(LocalOptions {
        cache_dir: cache_dir.to_owned(),
        clock: Box::new(host::now),
        new_id: Box::new(host::ulid),
        reload,
        progress,
    })
}
