//! Everything that a run stands on, opened and owned: configuration, state, lock, nodes, ssh and Main's disk.
//!
//! Commands, a daemon and tests open a [`Site`] in the same way; what a run leaves behind is written by
//! [`record`](crate::record). Nothing here prints.

mod disks;
mod ha;
mod install;
mod known;
mod lock;
mod machine;
mod rotation;
mod ssh;
pub(crate) mod store;
mod uploaded;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use crate::config::{Config, Directory, Node};
use crate::enroll::rotate;
use crate::enroll::waiting::HUB_STATE;
use crate::host;
use crate::model::escape::clean;
use crate::node::{Attempt, NodeError, NodeSession, RootDescription};
use crate::report::{Problem, Report, Stage};
use crate::state::{Identity, Lock, StateDir};
use crate::store::Objects;
use crate::store::head::Head;
use crate::sync::{self, Connect as _, Environment, MainSide, Options, Progress, Silent, Spec};
use crate::threads::side_by_side;
use crate::watch::OwnWrites;

pub(crate) use disks::node_disk;
pub(crate) use ha::{PATH as HA_CONFIG, standby};
pub use known::KnownNodes;
pub use lock::Locked;
pub(crate) use lock::{lock, locked};
pub(crate) use machine::machine;
pub(crate) use rotation::RotationEnd;
use ssh::Ssh;
pub(crate) use uploaded::Followers;

/// The epoch of a Main that has never been taken over from another host.
const FIRST_EPOCH: u64 = 1;

/// The clock.
pub type NowFn = Arc<dyn Fn() -> SystemTime + Send + Sync>;
/// Makes ULIDs.
pub type NewIdFn = Arc<dyn Fn() -> String + Send + Sync>;

/// What whoever opens a site lends to it.
#[derive(Clone)]
pub struct Services {
    /// The clock.
    pub now: NowFn,
    /// Makes ids of runs, roots and bases.
    pub new_id: NewIdFn,
    /// Is told about bytes on their way.
    pub progress: Arc<dyn Progress + Send>,
    /// Once it is set, a run ends at its next safe place.
    pub stop: Arc<AtomicBool>,
}

impl Services {
    /// Services of a site whose progress nobody watches and which nobody stops.
    pub fn new(now: fn() -> SystemTime, new_id: fn() -> String) -> Services {
        Services {
            now: Arc::new(now),
            new_id: Arc::new(new_id),
            progress: Arc::new(Silent),
            stop: Arc::default(),
        }
    }
}

/// Whether a site is opened under the lock of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locking {
    /// It is not: nothing is written to the state that a run depends on.
    Unlocked,
    /// It is, or opening fails with [`Locked`] while another process holds the lock.
    Try,
    /// It is; opening waits while another process holds the lock.
    Wait,
}

/// Whether runs of a site may change nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// All of them are dry runs.
    ReadOnly,
    /// They may. This Main gets an identity, if it has none yet.
    Change,
}

/// What a node told of itself.
#[derive(Debug)]
pub struct NodeCheck {
    /// Its version of this package.
    pub version: String,
    /// Whether it lets Main change nothing.
    pub read_only: bool,
    /// By how much its clock is ahead of Main's, give or take the way there.
    pub ahead_ms: i64,
    /// Directories, and what it has of each, or why that is not to be had.
    pub roots: Vec<(String, Attempt<RootDescription>)>,
}

/// A Main with all that its runs need.
pub struct Site {
    nodes: KnownNodes,
    state: StateDir,
    lock: Option<Lock>,
    ssh: Ssh,
    services: Services,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("state", &self.state).field("lock", &self.lock).finish_non_exhaustive()
    }
}

impl Site {
    /// Opens the state directory, takes the lock, finds nodes, and gets ready to reach them.
    ///
    /// Discovery that fails is no error: see [`KnownNodes::failures`].
    pub fn open(
        config: Config,
        locking: Locking,
        access: Access,
        services: Services,
    ) -> anyhow::Result<Site> {
        let state = state_of(&config)?;
        let lock = match locking {
            Locking::Unlocked => None,
            Locking::Try => Some(lock(&state, || false)?),
            Locking::Wait => Some(lock(&state, || true)?),
        };
        Site::open_in(state, lock, config, access, services)
    }

    /// The same, in a state directory that the caller has opened, and locked if the site is to be.
    pub(crate) fn open_in(
        state: StateDir,
        lock: Option<Lock>,
        config: Config,
        access: Access,
        services: Services,
    ) -> anyhow::Result<Site> {
        let nodes = KnownNodes::find(config, (services.now)())?;
        if lock.is_some() {
            nodes.remember(&state);
        }
        let identity = identity(&state, access, &services.new_id)?;
        let ssh = Ssh::new(nodes.config(), &state, identity)?;
        Ok(Site { nodes, state, lock, ssh, services })
    }

    /// The configuration, with all known nodes.
    #[must_use]
    pub fn config(&self) -> &Config {
        self.nodes.config()
    }

    /// The nodes, and how they came to be known.
    #[must_use]
    pub fn nodes(&self) -> &KnownNodes {
        &self.nodes
    }

    /// What this Main remembers.
    #[must_use]
    pub fn state(&self) -> &StateDir {
        &self.state
    }

    /// Who this Main is.
    pub(crate) fn identity(&self) -> &Identity {
        self.ssh.identity()
    }

    /// Main's disk, for runs that go on side by side and tell those who watch it what they have put in place.
    pub(crate) fn main_disk(&self, own_writes: &Arc<OwnWrites>) -> Box<dyn MainSide> {
        let Services { now, new_id, stop, .. } = &self.services;
        Box::new(disks::main_disk(&self.state, now, new_id, stop).sharing(Arc::clone(own_writes)))
    }

    /// Whether the machine with this id is Main itself.
    pub(crate) fn is_main(&self, machine: &str) -> bool {
        self.ssh.is_main(machine)
    }

    /// Connects with a node's agent.
    pub(crate) fn connect(&self, node: &str) -> Result<Box<dyn NodeSession>, NodeError> {
        self.ssh.connect(node)
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        (self.services.now)()
    }

    /// What [`sync`] and [`sync::restore`] work with.
    #[must_use]
    pub fn environment(&self) -> Environment<'_> {
        let Services { now, new_id, progress, stop } = &self.services;
        Environment {
            state: &self.state,
            connect: &self.ssh,
            main: Mutex::new(self.main_disk(&Arc::default())),
            now: &**now,
            new_id: &**new_id,
            progress: &**progress,
            stop,
            shared: None,
            may_reload: &|_, _| true,
            merged: &|_, _| (),
        }
    }

    /// What a run with these options is to do.
    #[must_use]
    pub fn spec(&self, options: &Options) -> Spec {
        let mut spec = self.own_spec(options);
        if self.ssh.followers.is_some() {
            self.add_followers(&mut spec, options);
        }
        spec
    }

    /// The same without the nodes that follow the store: there may be very many.
    fn own_spec(&self, options: &Options) -> Spec {
        // A row that was dropped may have been a node, and may be one again.
        let knows_all_nodes = self.nodes.problems().is_empty();
        Spec::new(self.config(), options, knows_all_nodes)
    }

    /// From now on nodes that follow the store take part in runs, with what they have uploaded there, if there are any and this
    /// Main has a store.
    pub(crate) fn join_followers(&mut self) -> anyhow::Result<()> {
        self.ssh.followers = self.followers()?;
        Ok(())
    }

    /// The nodes that follow the store, by what they have uploaded there. `None`: there are none, or no store yet.
    pub(crate) fn followers(&self) -> anyhow::Result<Option<Arc<Followers>>> {
        if self.config().followers.is_empty() {
            return Ok(None);
        }
        let Some(record) = self.store_record()? else { return Ok(None) };
        // A Main that is passive takes nothing in either.
        let head = self.held()?.head;
        self.uploads_in(self.store()?.objects, record.cluster, head.as_ref().map(|(head, _)| head)).map(Some)
    }

    /// Adds to the report of a run what they have told of themselves.
    pub(crate) fn hear(&self, followers: &Followers, report: &mut Report) {
        let newest = self.store_record().ok().flatten().map_or(0, |record| record.seq);
        followers.tell(report, newest);
    }

    /// Adds what they have uploaded to what a run is to do.
    pub(crate) fn add_followers(&self, spec: &mut Spec, options: &Options) {
        let asked: BTreeSet<&String> = options.nodes.iter().collect();
        let is_asked = |name: &String| asked.is_empty() || asked.contains(name);
        let followers = self.config().followers.iter().filter(|node| is_asked(&node.name));
        followers.for_each(|node| spec.add_follower(self.config(), &node.as_node(), options));
    }

    /// A run for those of them alone that have uploaded something; `None`: there are none.
    pub(crate) fn take_in(&self, options: &Options) -> anyhow::Result<Option<Report>> {
        let nodes = self.ssh.followers.as_ref().map(|followers| followers.with_uploads()).unwrap_or_default();
        if nodes.is_empty() {
            return Ok(None);
        }
        self.sync(&Options { nodes, ..options.clone() }).map(Some)
    }

    /// They take part in runs, with what they have uploaded to this store.
    #[cfg(test)]
    pub(crate) fn take_uploads(
        &mut self,
        objects: Arc<dyn Objects>,
        cluster: &str,
        head: Option<&Head>,
    ) -> anyhow::Result<()> {
        self.ssh.followers = Some(self.uploads_in(objects, cluster.to_owned(), head)?);
        Ok(())
    }

    /// The same, of a store that is open: its ULID, and its newest publication.
    fn uploads_in(
        &self,
        objects: Arc<dyn Objects>,
        cluster: String,
        head: Option<&Head>,
    ) -> anyhow::Result<Arc<Followers>> {
        let followers = self.config().followers.iter();
        let keys = followers.map(|node| (node.name.clone(), node.key.clone())).collect();
        Followers::new(objects, cluster, self.state.clone(), keys, head).map(Arc::new)
    }

    /// After a run: the last upload of each follower that was taken in, for the next publication, which has what came of it.
    /// `None`: none was asked for.
    pub(crate) fn settle_uploads(&self) -> anyhow::Result<Option<BTreeMap<String, u64>>> {
        self.ssh.followers.as_ref().map(|followers| followers.settle(self.config())).transpose()
    }

    /// Carries out one run. Its report includes what went wrong with finding nodes.
    ///
    /// What happens to one node or directory is in the report; `Err` is Main's own state that could not be read.
    pub fn sync(&self, options: &Options) -> anyhow::Result<Report> {
        let spec = self.spec(options);
        let mut report = sync::run(&self.environment(), &spec)?;
        report.problems.extend(self.problems(&spec));
        if let Some(followers) = &self.ssh.followers {
            self.hear(followers, &mut report);
        }
        Ok(report)
    }

    /// What went wrong with finding nodes, and with reaching any from here, for the report of a run.
    pub(crate) fn problems(&self, spec: &Spec) -> Vec<Problem> {
        let is_asked = |node: &&Node| spec.nodes.iter().any(|asked| asked.name == node.name);
        let troubles = self.own_troubles(self.config().nodes.iter().filter(is_asked));
        let rotation = self.unfinished_rotation().map(|detail| Problem::warning(Stage::Connect, detail));
        let nowhere = self.nowhere().map(|detail| Problem::warning(Stage::Config, detail));
        let troubles = troubles.into_iter().map(|detail| Problem::failure(Stage::Connect, detail));
        self.nodes.problems().into_iter().chain(rotation).chain(nowhere).chain(troubles).collect()
    }

    /// That a rotation of Main's key was begun and is not finished, and what to do about it.
    #[must_use]
    pub fn unfinished_rotation(&self) -> Option<String> {
        let previous = rotate::previous(&self.config().ssh.identity);
        previous.exists().then(|| {
            let previous = previous.display();
            format!(
                "the rotation of Main's key is not finished, {previous} is still let in by some node: run `xds-sync init \
                 --rotate` again when all are back"
            )
        })
    }

    /// Directories that are for no node, a line each.
    fn nowhere(&self) -> impl Iterator<Item = String> {
        let Config { nodes, directories, .. } = self.config();
        let is_lost =
            |directory: &&Directory| !nodes.is_empty() && !nodes.iter().any(|node| directory.is_for(node));
        directories.iter().filter(is_lost).map(|directory| {
            let labels: Vec<String> = directory.labels.iter().map(|label| format!("'{label}'")).collect();
            format!("{} goes nowhere: no node has the label {}", directory.name, labels.join(" or "))
        })
    }

    /// What keeps Main itself from reaching these nodes: trouble with its keys, each told once.
    #[must_use]
    pub fn own_troubles<'n>(&self, nodes: impl Iterator<Item = &'n Node>) -> Vec<String> {
        self.ssh.own_troubles(nodes)
    }

    /// Asks the agents of these nodes for what they tell of themselves, several at once; results are in the same order.
    #[must_use]
    pub fn check(&self, nodes: &[&Node]) -> Vec<Result<NodeCheck, NodeError>> {
        side_by_side(nodes, self.config().sync.parallel, |node| self.check_one(node))
    }

    fn check_one(&self, node: &Node) -> Result<NodeCheck, NodeError> {
        let mut session = self.ssh.connect(&node.name)?;
        let directories: Vec<&Directory> =
            self.config().directories.iter().filter(|directory| directory.is_for(node)).collect();
        let roots: Vec<PathBuf> =
            directories.iter().map(|directory| node.root_of(directory).to_owned()).collect();
        // The trash takes its time to be looked through; the clock is read at the end of that.
        let described = session.describe(&roots)?;
        let now = self.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        let ahead_ms = i64::try_from(described.now_ms)
            .unwrap_or(i64::MAX)
            .saturating_sub(i64::try_from(now).unwrap_or(i64::MAX));
        let names = directories.iter().map(|directory| directory.name.clone());
        let roots = names.zip(described.roots).collect();
        Ok(NodeCheck { version: described.version, read_only: described.read_only, ahead_ms, roots })
    }
}

impl Site {
    /// Asks every node which epoch it knows, where that is above this Main's; `None`: it would obey this Main as it is.
    pub(crate) fn known_epochs(&self) -> Vec<(String, Result<Option<u64>, NodeError>)> {
        let nodes = &self.config().nodes;
        let asked =
            side_by_side(nodes, self.config().sync.parallel, |node| match self.ssh.connect(&node.name) {
                Ok(_) => Ok(None),
                Err(error) if error.epoch.is_some() => Ok(error.epoch),
                Err(error) => Err(error),
            });
        nodes.iter().map(|node| node.name.clone()).zip(asked).collect()
    }
}

/// The state directory, which a group may look into where the configuration says so, and of which the hub shows a part.
pub(crate) fn state_of(config: &Config) -> anyhow::Result<StateDir> {
    let state = StateDir::open(&config.sync.state_dir)?.shown_by(Path::new(HUB_STATE));
    let Some(name) = &config.sync.status_group else { return Ok(state) };
    let shared = match host::group(name) {
        Some(group) => state.clone().readable_for(group),
        None => Err(anyhow::anyhow!("there is no such group on this host")),
    };
    // Monitors go without; nodes do not.
    Ok(shared.unwrap_or_else(|error| {
        log::warn!("sync.status_group = \"{name}\": {error:#}");
        state
    }))
}

/// Who this Main is: as remembered, or from now on.
fn identity(state: &StateDir, access: Access, new_id: &NewIdFn) -> anyhow::Result<Identity> {
    if let Some(identity) = state.identity()? {
        return Ok(identity);
    }
    let identity = Identity { id: new_id(), epoch: FIRST_EPOCH };
    // A node is bound to this identity from the first change on.
    if access == Access::Change {
        state.save_identity(&identity)?;
    }
    Ok(identity)
}

/// An error and its causes in one line.
fn line_of(error: &anyhow::Error) -> String {
    clean(&format!("{error:#}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::config::{Sources, load};
    use crate::record;
    use crate::report::status::{Scope, Status};

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045)
    }

    fn new_id() -> String {
        "01KDYC00000000000000000000".to_owned()
    }

    fn config(dir: &Path) -> Config {
        let (file, state, root) = (dir.join("config.toml"), dir.join("state"), dir.join("moh"));
        fs::create_dir_all(&root).unwrap();
        let text = format!("[sync]\nstate_dir = {state:?}\n[[directory]]\nname = \"moh\"\npath = {root:?}\n");
        fs::write(&file, text).unwrap();
        let sources = Sources {
            file_was_named: true,
            file,
            env: Vec::new(),
            overrides: Vec::new(),
            home: dir.to_owned(),
            host_name: "main".to_owned(),
            replaced: None,
        };
        load(&sources).unwrap().config
    }

    #[test]
    fn a_run_needs_no_command() {
        let dir = tempfile::tempdir().unwrap();
        let open =
            |locking| Site::open(config(dir.path()), locking, Access::Change, Services::new(now, new_id));
        let site = open(Locking::Try).unwrap();
        assert!(open(Locking::Try).unwrap_err().is::<Locked>());
        assert!(open(Locking::Unlocked).is_ok());
        assert_eq!(site.state().identity().unwrap().unwrap().epoch, FIRST_EPOCH);

        let mut report = site.sync(&Options::default()).unwrap();
        assert_eq!((report.run.as_str(), report.started, report.exit_code()), (&*new_id(), now(), 0));
        record::run(site.state(), &mut report, 0, Scope::default());
        let status = Status::parse(&site.state().status().unwrap().unwrap()).unwrap();
        assert_eq!(status.exit_code, Some(0));
        drop(site);
        assert!(open(Locking::Try).is_ok());
    }

    #[test]
    fn without_changes_nobody_is_remembered_as_main() {
        let dir = tempfile::tempdir().unwrap();
        let services = Services::new(now, new_id);
        let site = Site::open(config(dir.path()), Locking::Try, Access::ReadOnly, services).unwrap();
        assert_eq!(site.state().identity().unwrap(), None);
    }
}
