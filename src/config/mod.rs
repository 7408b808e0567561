//! Stage 1: files, environment and flags → [`Config`].
//!
//! Layers, each over the ones before: built in, `config.toml`, `conf.d/*.toml`, `XDS_SYNC_*`, flags. They
//! are read *raw*, as typed and with their origin, and then *checked*, all mistakes at once.

mod address;
mod check;
mod convert;
mod directories;
mod file;
mod layers;
mod mask;
mod nodes;
mod overlap;
mod postgres;
mod schedule;
mod show;
pub(crate) mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::model::{ConflictPolicy, DeletePolicy, Direction, MaxLoss, Owner, TrashMax};
use crate::snapshot::ScanSpec;

pub(crate) use crate::toml::Mistake;
pub use crate::toml::{Mistakes, Origin};
pub(crate) use address::{canonical, is_host};
pub use check::{Loaded, Sources, load};
pub(crate) use check::{load_for_hub, state_dir};
pub(crate) use convert::{duration, is_name, is_root, is_user, name, word};
pub(crate) use mask::masked;
pub(crate) use overlap::clash;
pub use postgres::{Connection, TlsTrust};
pub use store::Store;

/// The checked configuration of Main.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[main]`
    pub main: MainHost,
    /// `[ssh]`
    pub ssh: Ssh,
    /// `[sync]`
    pub sync: SyncOptions,
    /// `[schedule]`
    pub schedule: Schedule,
    /// `[hub]`
    pub hub: Hub,
    /// `[discovery]`
    pub discovery: Discovery,
    /// `[store]`: where Main publishes; none: nowhere.
    pub store: Option<Store>,
    /// `[[node]]`, in configured order: those to which Main connects.
    pub nodes: Vec<Node>,
    /// `[[node]]` with `via = "store"`, in configured order: those that come by themselves.
    pub followers: Vec<Follower>,
    /// `[[directory]]`, in configured order, or the built-in four
    pub directories: Vec<Directory>,
}

/// `[main]`: this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MainHost {
    /// Its name in reports.
    pub name: String,
    /// Host name or address at which nodes reach it.
    pub host: String,
}

/// `[ssh]`: the way to the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    /// Whom to log in as.
    pub user: String,
    /// TCP port.
    pub port: u16,
    /// Path of the private key.
    pub identity: PathBuf,
    /// Our own list of host keys.
    pub known_hosts: PathBuf,
    /// What to do with a host key that is not in it.
    pub host_keys: HostKeys,
    /// What ssh is asked to run on the node.
    pub agent: String,
    /// Further `ssh -o` options.
    pub options: Vec<String>,
}

/// What to do with the key of a host that was never seen before. A changed key is always refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKeys {
    /// Remember it.
    AcceptNew,
    /// Refuse it.
    Strict,
}

/// `[sync]`: how runs go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncOptions {
    /// Most nodes at once.
    pub parallel: usize,
    /// After this time without an answer, a node is given up for the run.
    pub timeout: Duration,
    /// Bytes a second of content for all nodes together; none: unlimited.
    pub bandwidth: Option<u64>,
    /// ssh's `IPQoS`.
    pub traffic_class: String,
    /// When to reload.
    pub reload: ReloadPolicy,
    /// How long a reload may take on a node: the work of a program that is not ours.
    pub reload_timeout: Duration,
    /// How long trash is kept.
    pub trash_keep: Duration,
    /// What is younger than this is never pruned to make room.
    pub trash_min_keep: Duration,
    /// How much the trash of a root may take.
    pub trash_max: TrashMax,
    /// Where Main keeps its state.
    pub state_dir: PathBuf,
    /// Who may read how runs went, beside root.
    pub status_group: Option<String>,
    /// Syslog's facility.
    pub syslog_facility: String,
}

/// When reloads are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadPolicy {
    /// When what they load has changed.
    Changed,
    /// In every run.
    Always,
}

/// `[schedule]`: when cron starts a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Five fields, as in crontab(5).
    pub cron: String,
}

impl Schedule {
    /// When the next run is after `now`; `None`: never.
    #[must_use]
    pub fn next_after(&self, now: SystemTime) -> Option<SystemTime> {
        schedule::next_after(&self.cron, now)
    }
}

/// `[hub]`: the HTTPS service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hub {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its certificate (PEM); none: one is made and kept.
    pub certificate: Option<PathBuf>,
    /// The certificate's key (PEM).
    pub key: Option<PathBuf>,
    /// A file with the token for the page and the metrics from anywhere but loopback; none: they are for this host alone.
    pub token_file: Option<PathBuf>,
}

/// `[discovery]`: nodes beside `[[node]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// From a database.
    pub postgres: Option<Postgres>,
    /// From a JSON document.
    pub http: Option<Http>,
    /// From WSO2's workers-list.txt.
    pub file: Option<PathBuf>,
}

impl Discovery {
    /// Whether nodes are looked for at all.
    #[must_use]
    pub fn is_used(&self) -> bool {
        *self != Discovery::default()
    }
}

/// `discovery.postgres`
#[derive(Clone, PartialEq, Eq)]
pub struct Postgres {
    /// Connection URL; may hold a password.
    pub url: String,
    /// What the URL says.
    pub connection: Connection,
    /// Gives name and address.
    pub query: String,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a password.
        f.debug_struct("Postgres").field("url", &"…").field("query", &self.query).finish()
    }
}

/// `discovery.http`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// The document.
    pub url: String,
    /// JSON pointer to the list; empty: the document is the list.
    pub items: String,
    /// JSON pointer within an item.
    pub name: String,
    /// JSON pointer within an item.
    pub address: String,
    /// A file with request headers, one a line.
    pub headers_file: Option<PathBuf>,
    /// A file with certificates to trust (PEM).
    pub ca: Option<PathBuf>,
}

/// `[[node]]`: a media server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    /// What ssh connects to.
    pub address: String,
    /// What directories may ask for.
    pub labels: Vec<String>,
    /// Directory → its root here, where that differs from Main's.
    pub paths: BTreeMap<String, PathBuf>,
    /// In the place of `ssh.user`.
    pub user: Option<String>,
    /// In the place of `ssh.port`.
    pub port: Option<u16>,
    /// In the place of `ssh.identity`.
    pub identity: Option<PathBuf>,
}

/// `[[node]]` with `via = "store"`: a media server that fetches what Main publishes. Main never connects to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follower {
    pub name: String,
    /// What it signs its uploads with, in OpenSSH's format, without a comment.
    pub key: String,
    /// What directories may ask for.
    pub labels: Vec<String>,
    /// Directory → its root there, where that differs from Main's.
    pub paths: BTreeMap<String, PathBuf>,
}

/// `[[directory]]`: a tree that is kept the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    pub name: String,
    /// Its root on Main.
    pub path: PathBuf,
    /// Which way files go.
    pub direction: Direction,
    /// What deletions do.
    pub delete: DeletePolicy,
    /// Globs of excluded paths.
    pub exclude: Vec<String>,
    /// Reloads that are due after a change.
    pub reload: Vec<String>,
    /// Only for nodes with one of these; empty: for all.
    pub labels: Vec<String>,
    /// How old a file must be before it is synchronised.
    pub settle: Duration,
    /// Who wins conflicts.
    pub conflict: ConflictPolicy,
    /// When the delete guard stops a run.
    pub max_delete: MaxLoss,
    /// When what one node would overwrite elsewhere stops its part; both-ways directories only.
    pub max_change: MaxLoss,
    /// Most bytes that one node may bring in a run; none: unlimited. Both-ways directories only.
    pub max_add: Option<u64>,
    /// Owner where Main's is not known.
    pub owner: Option<Owner>,
}

impl Directory {
    /// Whether it is synchronised with a node.
    #[must_use]
    pub fn is_for(&self, node: &Node) -> bool {
        self.is_for_labels(&node.labels)
    }

    /// Whether it is synchronised with a node that has these labels.
    #[must_use]
    pub fn is_for_labels(&self, labels: &[String]) -> bool {
        self.labels.is_empty() || self.labels.iter().any(|label| labels.contains(label))
    }
}

impl Node {
    /// Where it keeps a directory.
    #[must_use]
    pub fn root_of<'p>(&'p self, directory: &'p Directory) -> &'p Path {
        self.paths.get(&directory.name).unwrap_or(&directory.path)
    }
}

impl Config {
    /// What to scan for a directory on Main (`None`) or on a node.
    #[must_use]
    pub fn scan_spec(&self, directory: &Directory, node: Option<&Node>, checksum: bool) -> ScanSpec {
        let root = |directory: &Directory| match node {
            Some(node) => node.root_of(directory).to_owned(),
            None => directory.path.clone(),
        };
        let others = self.directories.iter().filter(|other| other.name != directory.name);
        ScanSpec {
            directory: directory.name.clone(),
            root: root(directory),
            direction: directory.direction,
            exclude: directory.exclude.clone(),
            other_roots: others.map(root).collect(),
            settle: directory.settle,
            complete: Vec::new(),
            hold_young: false,
            checksum,
        }
    }
}
