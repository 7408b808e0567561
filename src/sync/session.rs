//! A node as a run sees it: connected, looked at, and held against what is remembered of its edges.

use std::sync::Arc;

use crate::config::{Directory, Node};
use crate::disk::marker::Marker;
use crate::model::{Digest, Direction, Owner, Tree};
use crate::node::{Endpoint, NodeError};
use crate::plan::{OwnerMap, intent};
use crate::report::Guard;
use crate::snapshot::{Root, Scanned};
use crate::state::{Corrupt, EdgeRecord, Skip};
use crate::sync::main_side::{MainDirectory, MainTree};
use crate::sync::tally::Tally;
use crate::sync::{Run, lock};

/// A connected node.
pub(super) struct Session<'a> {
    pub(super) node: &'a Node,
    pub(super) endpoint: Box<dyn Endpoint>,
    /// Its directories that this run is for, in configured order.
    pub(super) edges: Vec<EdgeView<'a>>,
    pub(super) tally: Tally,
}

/// One edge, before anything is changed.
pub(super) struct EdgeView<'a> {
    pub(super) directory: &'a Directory,
    pub(super) scanned: Scanned,
    /// What is remembered, if it is of this very root in this very state.
    pub(super) remembered: Option<EdgeRecord>,
    /// Whether a run was cut off before Main knew that the node has noted that too.
    pub(super) unconfirmed: bool,
    /// Nothing is to be done on this edge in this run; the tally says why.
    pub(super) closed: bool,
    /// Digest of what a reload depends on, as it is now.
    pub(super) loaded: Digest,
}

/// Connects to a node and looks at all its directories.
pub(super) fn open<'a>(run: &Run<'a>, node: &'a Node) -> Result<Session<'a>, Box<Tally>> {
    let mut tally = Tally::new(node);
    let opened = run.site.connect.connect(node).and_then(|mut endpoint| {
        endpoint.begin(&run.id, run.options.dry_run)?;
        let edges = look(run, node, endpoint.as_mut(), &mut tally)?;
        Ok((endpoint, edges))
    });
    match opened {
        Ok((endpoint, edges)) => Ok(Session { node, endpoint, edges, tally }),
        Err(error) => {
            tally.lost(&error);
            Err(Box::new(tally))
        }
    }
}

fn look<'a>(
    run: &Run<'a>,
    node: &'a Node,
    endpoint: &mut dyn Endpoint,
    tally: &mut Tally,
) -> Result<Vec<EdgeView<'a>>, NodeError> {
    let config = run.site.config;
    let asked = config.directories.iter().filter(|directory| {
        run.is_asked(&run.options.directories, &directory.name) && directory.is_for(node)
    });
    let asked: Vec<&Directory> = asked.collect();
    let specs: Vec<_> =
        asked.iter().map(|directory| config.scan_spec(directory, Some(node), run.options.checksum)).collect();
    let mut edges = Vec::new();
    for (directory, scanned) in asked.into_iter().zip(endpoint.scan_all(&specs)?) {
        let mut edge = EdgeView {
            directory,
            loaded: scanned.loaded,
            scanned,
            remembered: None,
            unconfirmed: false,
            closed: false,
        };
        tally.directory(directory);
        edge.remember(run, node, tally);
        edges.push(edge);
    }
    Ok(edges)
}

impl EdgeView<'_> {
    /// Holds the node's root against what is remembered of this edge.
    fn remember(&mut self, run: &Run<'_>, node: &Node, tally: &mut Tally) {
        let directory = self.directory;
        let mut trusted = |read: Result<Option<EdgeRecord>, Corrupt>| match read {
            Ok(remembered) => remembered,
            Err(corrupt) => {
                let told = format!("{corrupt}; merging as if there was none: nothing is deleted");
                tally.warn("state", directory, &told);
                None
            }
        };
        let state = run.site.state;
        let remembered = trusted(state.edge(&directory.name, &node.name));
        let next = trusted(state.next_edge(&directory.name, &node.name));
        let root = node.root_of(directory).display().to_string();
        match (&self.scanned.root, remembered) {
            (Root::Unusable(why), _) => {
                self.closed = true;
                tally.fail("scan", directory, &format!("{root}: {why}"));
            }
            (Root::Missing, Some(_)) => {
                self.closed = true;
                let detail = format!(
                    "{root} is missing on {}; is its disk mounted? If it is to be filled anew, create it there",
                    node.name
                );
                tally.halt(directory, Guard::NodeRootMissing, detail, None);
            }
            (Root::Marked(marker), remembered) if is_of(marker, remembered.as_ref()) => {
                self.remembered = remembered;
            }
            (Root::Marked(marker), _) if is_of(marker, next.as_ref()) => {
                self.remembered = next;
                self.unconfirmed = true;
            }
            (_, None) => {}
            (Root::Marked(_) | Root::Unmarked, Some(_)) => {
                let told = "the node's directory was replaced or restored since the last run; \
                            merging without a base: nothing is deleted";
                tally.warn("scan", directory, told);
            }
        }
    }

    /// What the node has, and what both ends last agreed on: as far as it can be read, and held against what a run
    /// that was cut off had set out to do.
    pub(super) fn trees(
        &self,
        endpoint: &mut dyn Endpoint,
        main: &Arc<Tree>,
        tally: &mut Tally,
    ) -> Result<(Arc<Tree>, Option<Arc<Tree>>), NodeError> {
        let agreed = self.remembered.as_ref().map(EdgeRecord::base).transpose();
        // A node that was left alone has what was agreed on; one without a base may have been filled by other means.
        let agreed = agreed.map(|base| base.map(Arc::new));
        let like = agreed.as_ref().ok().and_then(Option::as_ref).unwrap_or(main);
        let node = endpoint.tree(&self.directory.name, Some(like))?;
        let base =
            agreed.and_then(|base| match (base, self.remembered.as_ref().and_then(EdgeRecord::intent)) {
                (Some(base), Some(intent)) => {
                    Ok(Some(Arc::new(intent::believed(&base, &intent?, main, &node))))
                }
                (base, _) => Ok(base),
            });
        let base = base.unwrap_or_else(|corrupt| {
            let told = format!("{corrupt}; merging as if there was none: nothing is deleted");
            tally.warn("state", self.directory, &told);
            None
        });
        Ok((node, base))
    }

    pub(super) fn is_both(&self) -> bool {
        self.directory.direction == Direction::Both
    }

    /// Whether both ends are just as they were when the edge was last in step.
    pub(super) fn is_in_step(&self, main: &MainTree) -> bool {
        let in_step = self.remembered.as_ref().and_then(|edge| edge.in_step.as_ref());
        in_step
            .is_some_and(|in_step| in_step.main == self.main_key(main) && in_step.node == self.scanned.digest)
    }

    /// Main's tree and the policies it is planned under: a change of either calls for a new plan.
    pub(super) fn main_key(&self, main: &MainTree) -> Digest {
        let d = self.directory;
        let mut hash = blake3::Hasher::new();
        hash.update(&main.digest.0);
        hash.update(format!("{:?} {:?} {:?} {:?}", d.direction, d.delete, d.conflict, d.owner).as_bytes());
        Digest(hash.finalize().into())
    }

    /// The rules that decide what is excluded.
    pub(super) fn rules(&self) -> Digest {
        Digest(blake3::hash(format!("{:?}", self.directory.exclude).as_bytes()).into())
    }

    /// Whether the base was made under the exclusion rules of now.
    pub(super) fn same_rules(&self) -> bool {
        self.remembered.as_ref().is_none_or(|edge| edge.rules == self.rules())
    }
}

/// Whether a root is in the state that is remembered.
fn is_of(marker: &Marker, remembered: Option<&EdgeRecord>) -> bool {
    let same =
        |edge: &EdgeRecord| marker.id == edge.root && marker.generation.as_deref() == Some(&*edge.generation);
    remembered.is_some_and(same)
}

/// Main's tree for an edge, unless a guard closed the directory.
pub(super) fn main_tree<'r>(
    run: &'r Run<'_>,
    edge: &mut EdgeView<'_>,
    tally: &mut Tally,
) -> Option<&'r MainTree> {
    match run.main_side().get(edge.directory) {
        Some(MainDirectory::Scanned(main)) => Some(main),
        Some(MainDirectory::Halted(..)) | None => {
            edge.closed = true;
            tally.halted_on_main(edge.directory);
            None
        }
    }
}

/// Which of the owners in trees a host can set.
pub(super) fn names(
    endpoint: &mut dyn Endpoint,
    directory: &Directory,
    trees: &[&Tree],
) -> Result<OwnerMap, NodeError> {
    let mut owners: Vec<Owner> = Vec::new();
    let metas = trees.iter().flat_map(|tree| tree.iter()).filter_map(|(_, entry)| entry.meta());
    for owner in metas.map(|meta| &meta.owner) {
        if owners.last() != Some(owner) && !owners.contains(owner) {
            owners.push(owner.clone());
        }
    }
    let fallback = directory.owner.clone().unwrap_or_default();
    owners.push(fallback);
    let mut known = endpoint.known_owners(&owners)?;
    let mut names = OwnerMap { fallback: known.pop().unwrap_or_default(), ..OwnerMap::default() };
    for (owner, known) in owners.iter().zip(known) {
        if known.user().is_none() {
            names.unknown_users.extend(owner.user().map(str::to_owned));
        }
        if known.group().is_none() {
            names.unknown_groups.extend(owner.group().map(str::to_owned));
        }
    }
    Ok(names)
}

/// The standing skips that the last plan of an edge met.
pub(super) fn known_skips(run: &Run<'_>, node: &str, directory: &str) -> Vec<Skip> {
    lock(&run.ledger).skips(directory, node).to_vec()
}
