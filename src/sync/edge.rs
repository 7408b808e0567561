//! One directory on one node, as a run sees it: scanned, and matched with what is recorded of it.

use std::collections::HashSet;
use std::sync::Arc;

use ulid::Ulid;

use crate::disk::marker::Marker;
use crate::model::{Digest, KeptTrees, Outcome, Owner, Tree};
use crate::node::{Endpoint, News, NodeError};
use crate::plan::{EdgeInput, EdgePlan, OwnerMap, apply, intent, kept};
use crate::report::{Guard, Stage};
use crate::snapshot::{Root, Scanned, loaded_digest};
use crate::state::{self, Corrupt, EdgeRecord, InStep};
use crate::sync::guard::Member;
use crate::sync::halt::Halt;
use crate::sync::origin::Origin;
use crate::sync::result::{self, EdgeResult, Skips};
use crate::sync::spec::{DirectorySpec, EdgeSpec};
use crate::sync::{Run, lock};

/// An edge in a run.
pub(super) struct EdgeRun<'a> {
    pub(super) spec: &'a EdgeSpec,
    /// The node's name.
    pub(super) node: &'a str,
    pub(super) scanned: Scanned,
    /// What is recorded, if it is of this very root in this very state.
    pub(super) record: Option<EdgeRecord>,
    /// Whether the node itself tells what both ends had in common, and nothing that is recorded does.
    pub(super) tells_base: bool,
    /// Whether a run was cut off before Main knew that the node has noted that record too.
    pub(super) unconfirmed: bool,
    /// Whether the node has agreed with this Main on something since what is recorded.
    pub(super) is_ahead: bool,
    pub(super) state: EdgeState,
    /// Digest of what a reload depends on, as it is now.
    pub(super) loaded: Digest,
    /// What a round plans a two-way directory with.
    pub(super) view: Option<View>,
    pub(super) result: EdgeResult,
}

/// How far an edge has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EdgeState {
    /// It may have to be planned.
    Open,
    /// Both ends are as they were when the edge was last in step, or nothing is to be done for the node here.
    InStep,
    /// It was planned, and the plan was carried out as far as that went.
    Done,
    /// A guard stopped it. Nothing of it was touched.
    Halted(Halt),
    /// Main's directory was stopped for every node, which is told once for all.
    HaltedOnMain,
    /// It cannot go on; its problems tell why.
    Failed,
}

/// What a node has in a directory, beside what both ends last agreed on.
#[derive(Clone)]
pub(super) struct View {
    /// As if its disk had kept what it was given: what is planned with.
    pub(super) tree: Arc<Tree>,
    /// As it is.
    pub(super) found: Arc<Tree>,
    /// What Main's disk is known to make of entries of the base.
    pub(super) kept_on_main: Tree,
    pub(super) base: Option<Arc<Tree>>,
    /// Which owners the node can set.
    pub(super) owners: OwnerMap,
    /// See [`EdgeInput::same_rules`].
    pub(super) same_rules: bool,
}

impl<'a> EdgeRun<'a> {
    /// An edge whose root was just scanned, matched with what Main has recorded of it.
    pub(super) fn new(
        run: &Run<'_>,
        node: &'a str,
        spec: &'a EdgeSpec,
        (scanned, news): (Scanned, News),
    ) -> EdgeRun<'a> {
        let mut edge = EdgeRun {
            spec,
            node,
            loaded: scanned.loaded,
            view: None,
            scanned,
            record: None,
            tells_base: news == News::Changes,
            unconfirmed: false,
            is_ahead: false,
            state: EdgeState::Open,
            result: EdgeResult::default(),
        };
        match (news, &edge.scanned.root) {
            (News::Tree, _) | (_, Root::Unusable(_)) => edge.match_record(run),
            (News::Changes, _) => {}
            (News::Nothing, _) => edge.state = EdgeState::InStep,
        }
        edge
    }

    pub(super) fn directory(&self) -> &'a DirectorySpec {
        &self.spec.directory
    }

    pub(super) fn name(&self) -> &'a str {
        &self.spec.directory.name
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == EdgeState::Open
    }

    /// Nothing is to be done here. What is skipped stays skipped, and was reported before.
    pub(super) fn in_step(&mut self, run: &Run<'_>) {
        self.state = EdgeState::InStep;
        let known = self.known_skips(run);
        self.result.skips = Skips { known: known.clone(), now: known };
        self.result.unkept = lock(run.ledger).unkept(self.name(), self.node);
    }

    /// Takes over what is planned for the edge. The skips that a report names are recorded as reported.
    pub(super) fn take_plan(&mut self, run: &Run<'_>, plan: EdgePlan) {
        let known = self.known_skips(run);
        let now = result::skips(&plan);
        if now != known {
            lock(run.ledger).set_skips(self.name(), self.node, now.clone());
        }
        self.result.skips = Skips { known, now };
        self.result.unkept = lock(run.ledger).unkept(self.name(), self.node);
        self.result.plan = plan;
    }

    fn known_skips(&self, run: &Run<'_>) -> state::Skips {
        lock(run.ledger).skips(self.name(), self.node)
    }

    /// Nothing more is to be done here in this run, because of this.
    pub(super) fn fail(&mut self, stage: Stage, detail: impl Into<String>) {
        self.result.fail(stage, detail.into());
        self.state = EdgeState::Failed;
    }

    /// Holds the node's root against what is recorded of this edge.
    fn match_record(&mut self, run: &Run<'_>) {
        let (directory, state) = (self.name(), run.env.state);
        let record = self.trusted(state.edge(directory, self.node));
        let next = self.trusted(state.next_edge(directory, self.node));
        let root = self.spec.scan.root.display();
        match (&self.scanned.root, record) {
            (Root::Unusable(why), _) => {
                let detail = format!("{root}: {why}");
                self.fail(Stage::Scan, detail);
            }
            (Root::Missing, Some(_)) => {
                let node = self.node;
                let detail = format!("{root} is missing on {node}; is its disk mounted?");
                self.state = EdgeState::Halted(Halt::new(Guard::NodeRootMissing, detail));
            }
            (Root::Marked(marker), record) if is_of(marker, record.as_ref()) => self.record = record,
            (Root::Marked(marker), _) if is_of(marker, next.as_ref()) => {
                self.record = next;
                self.unconfirmed = true;
            }
            (_, None) => {}
            // Another run of this Main was here after what is recorded.
            (Root::Marked(marker), Some(record)) if is_later(marker, &record, run.epoch) => {
                self.is_ahead = true;
            }
            // The same root in another state: a backup was put back.
            (Root::Marked(marker), Some(record)) if marker.id == record.root => self.warn_replaced(),
            (Root::Marked(marker), _) if next.is_some_and(|next| next.root == marker.id) => {
                self.warn_replaced();
            }
            (Root::Marked(_) | Root::Unmarked, Some(record)) => {
                let halt = self.replaced_root(&record);
                match halt.token.as_ref().is_some_and(|token| run.is_accepted(token)) {
                    true => self.warn_replaced(),
                    false => self.state = EdgeState::Halted(halt),
                }
            }
        }
    }

    /// Goes on without a base, as if the edge was new.
    fn warn_replaced(&mut self) {
        let detail = "the node's directory was replaced or restored since the last run; \
                      merging without a base: nothing is deleted";
        self.result.warn(Stage::Scan, detail.to_owned());
    }

    /// What stands where the recorded root was is another one: who may write in the directory above may have put it
    /// there, and with a merge both ends would get what the other one has.
    fn replaced_root(&self, record: &EdgeRecord) -> Halt {
        let (directory, root) = (self.name(), self.spec.scan.root.display());
        let found = match &self.scanned.root {
            Root::Marked(marker) => marker.id.as_str(),
            Root::Unmarked | Root::Missing | Root::Unusable(_) => "",
        };
        let what = match found {
            "" => "has no marker .xds-sync/root.json any more",
            _ => "is not the directory that was synchronised before",
        };
        let detail = format!("{root} {what} on {}; once released, it is merged with Main's", self.node);
        let mut hash = blake3::Hasher::new();
        for part in ["another root", directory, self.node, &record.root, found] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        // As long as the tokens of plans.
        let token = hash.finalize().to_hex()[..12].to_owned();
        Halt::new(Guard::NodeRootReplaced, detail).released_by(&token)
    }

    fn trusted(&mut self, read: Result<Option<EdgeRecord>, Corrupt>) -> Option<EdgeRecord> {
        read.unwrap_or_else(|corrupt| {
            self.warn_without_base(&corrupt.to_string());
            None
        })
    }

    fn warn_without_base(&mut self, corrupt: &str) {
        let detail = format!("{corrupt}; merging as if there was none: nothing is deleted");
        self.result.warn(Stage::State, detail);
    }

    /// What the node has, and what both ends last agreed on, as far as it can be read. Where a run was cut off, what it
    /// set out to do tells what both ends had in common.
    pub(super) fn look(
        &mut self,
        session: &mut dyn Endpoint,
        origin: &Origin,
        with_owners_of_node: bool,
    ) -> Result<View, NodeError> {
        let main = &origin.tree;
        let stored = self.record.as_ref().map(EdgeRecord::base).transpose().map(|base| base.map(Arc::new));
        let is_agreed = self.tells_base || self.record.as_ref().is_some_and(|record| record.agreed);
        // A node that was left alone has the base; one without a base may have been filled by other means, with
        // what Main has.
        let base = stored.as_ref().ok().and_then(Option::as_ref).filter(|_| is_agreed);
        let found = session.tree(self.name(), Some(base.unwrap_or(main)))?;
        let intent = self.record.as_ref().and_then(EdgeRecord::intent).transpose();
        let base = match (stored, intent) {
            (Ok(None), _) => None,
            (Ok(Some(base)), Ok(None)) => Some(base),
            (Ok(Some(base)), Ok(Some(intent))) => {
                Some(Arc::new(intent::recover_base(&base, &intent, main, &found)))
            }
            (Err(corrupt), _) | (_, Err(corrupt)) => {
                self.warn_without_base(&corrupt.to_string());
                None
            }
        };
        let base = session.common(self.name(), base.as_deref()).map(Arc::new).or(base);
        // A base that was never agreed on knows some paths only, if any.
        let base = base.filter(|base| is_agreed || !base.is_empty());
        let kept = self.kept();
        let given = kept::as_given(&found, base.as_deref(), &kept.node);
        let tree = given.map_or_else(|| Arc::clone(&found), Arc::new);
        let trees: &[&Tree] = if with_owners_of_node { &[main, &tree] } else { &[main] };
        let owners = known_owners(session, self.directory(), trees)?;
        let same_rules = self.record.as_ref().is_none_or(|record| {
            // What is absent from a base that was never agreed on says nothing.
            record.agreed && record.rules == self.rules()
        });
        Ok(View { tree, found, kept_on_main: kept.main, base, owners, same_rules })
    }

    /// What the disks of both ends are known to make of entries of the base. Who has every file read again wants everything
    /// tried again.
    fn kept(&self) -> KeptTrees {
        let record = self.record.as_ref().filter(|_| !self.spec.scan.checksum);
        record.and_then(|record| record.kept().ok()).unwrap_or_default()
    }

    /// What a reload will depend on when all that is planned has been done.
    pub(super) fn loaded_as_planned(&self, view: &View) -> Digest {
        let actions = &self.result.plan.actions;
        let done = vec![Some(Outcome::Done); actions.len()];
        loaded_digest(&apply::apply_done(&view.tree, actions, &done))
    }

    /// Whether both ends are just as they were when the edge was last in step, now that Main's tree has this digest.
    pub(super) fn is_in_step(&self, main: Digest) -> bool {
        let now = InStep { main: self.main_key(main), node: self.scanned.digest };
        self.record.as_ref().is_some_and(|record| record.in_step.as_ref() == Some(&now))
    }

    /// Digest of Main's tree and of the policies it is planned under: a change of either calls for a new plan.
    pub(super) fn main_key(&self, main: Digest) -> Digest {
        let mut hash = blake3::Hasher::new();
        hash.update(&main.0);
        hash.update(&self.rules().0);
        hash.update(&self.directory().policy_digest().0);
        Digest(hash.finalize().into())
    }

    /// Digest of the rules that decide what belongs to the directory.
    pub(super) fn rules(&self) -> Digest {
        self.spec.scan.rules_digest()
    }

    /// As a guard looks at it.
    pub(super) fn member<'m>(&'m self, view: &'m View) -> Member<'m> {
        Member {
            name: self.node,
            base: view.base.as_deref(),
            tree: &view.tree,
            scanned: &self.scanned,
            root: &self.spec.scan.root,
        }
    }
}

impl View {
    /// As the planner looks at it.
    pub(super) fn input<'v>(&'v self, node: &'v str) -> EdgeInput<'v> {
        EdgeInput {
            name: node,
            base: self.base.as_deref(),
            same_rules: self.same_rules,
            node: &self.tree,
            names: &self.owners,
        }
    }
}

/// Whether a root is in the state that is recorded.
fn is_of(marker: &Marker, record: Option<&EdgeRecord>) -> bool {
    record.is_some_and(|record| marker.id == record.root && marker.generation == record.generation)
}

/// Whether a root has agreed on something later than what is recorded, with a Main of this epoch. That was not this host
/// then, but a copy of it; or this host was restored from a backup since.
///
/// A generation is a ULID, which tells its time, as an epoch does. One from before the last takeover may be of another
/// Main.
fn is_later(marker: &Marker, record: &EdgeRecord, epoch: u64) -> bool {
    let made = marker.generation.as_deref().and_then(|generation| Ulid::from_string(generation).ok());
    marker.id == record.root
        && marker.generation > record.generation
        && made.is_some_and(|made| made.timestamp_ms() / 1000 > epoch)
}

/// Which of the owners in trees a host can set.
pub(super) fn known_owners(
    host: &mut dyn Endpoint,
    directory: &DirectorySpec,
    trees: &[&Tree],
) -> Result<OwnerMap, NodeError> {
    let mut seen: HashSet<&Owner> = HashSet::new();
    let mut owners: Vec<Owner> = Vec::new();
    let metas = trees.iter().flat_map(|tree| tree.iter()).filter_map(|(_, entry)| entry.meta());
    for owner in metas.map(|meta| &meta.owner) {
        if owners.last() != Some(owner) && seen.insert(owner) {
            owners.push(owner.clone());
        }
    }
    owners.push(directory.owner.clone().unwrap_or_default());
    let mut known = host.known_owners(&owners)?;
    let mut map = OwnerMap { fallback: known.pop().unwrap_or_default(), ..OwnerMap::default() };
    for (owner, known) in owners.iter().zip(known) {
        if known.user().is_none() {
            map.unknown_users.extend(owner.user().map(str::to_owned));
        }
        if known.group().is_none() {
            map.unknown_groups.extend(owner.group().map(str::to_owned));
        }
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::EdgeHeader;

    #[test]
    fn a_generation_that_this_main_never_made_is_noticed() {
        let generation = |seconds: u64| Some(Ulid::from_parts(seconds * 1000, 1).to_string());
        let record = |generation| {
            let rules = Digest([0; 32]);
            let header = EdgeHeader { root: "A".to_owned(), generation, rules, agreed: true, in_step: None };
            EdgeRecord::new(header, &Tree::default(), &KeptTrees::default(), None)
        };
        for (root, node, recorded, epoch, is_ahead) in [
            ("A", generation(200), generation(100), 0, true),
            // What the node has is older: it was restored.
            ("A", generation(100), generation(200), 0, false),
            ("A", None, generation(200), 0, false),
            // It is of another root.
            ("B", generation(200), generation(100), 0, false),
            // What was agreed on before this Main took over may be of another one.
            ("A", generation(200), generation(100), 300, false),
            ("A", generation(400), generation(100), 300, true),
            ("A", generation(200), None, 0, true),
            ("A", Some("no ULID".to_owned()), None, 0, false),
        ] {
            let marker = Marker { id: root.to_owned(), generation: node };
            assert_eq!(
                is_later(&marker, &record(recorded.clone()), epoch),
                is_ahead,
                "{marker:?} {recorded:?} {epoch}"
            );
        }
    }
}
