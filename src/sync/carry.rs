//! Carrying out what was planned for one node, and remembering what both ends have in common then.

use std::collections::{BTreeMap, HashSet};

use crate::config::Node;
use crate::fault::{Point, reach};
use crate::model::{Action, Digest, Direction, Entry, File, Intent, Outcome, Side, Step, Tree};
use crate::node::{Endpoint, NodeError};
use crate::plan::{EdgePlan, OwnerMap, agree, apply};
use crate::report::Guard;
use crate::snapshot::Root;
use crate::snapshot::tree_digest;
use crate::state::{EdgeRecord, InStep, Skip};
use crate::sync::main_side::MainTree;
use crate::sync::session::{EdgeView, known_skips};
use crate::sync::tally::Tally;
use crate::sync::wire::OnWire;
use crate::sync::{Run, lock};
use crate::transfer::{BlobRequest, Source};

/// Room that is left free on a disk beside what a plan needs: logs and recordings go on growing meanwhile.
const SPARE: u64 = 16 << 20;

/// What an edge needs to be carried out.
pub(super) struct Job<'j> {
    pub(super) node: &'j Node,
    pub(super) main: &'j MainTree,
    pub(super) node_tree: &'j Tree,
    pub(super) names: &'j OwnerMap,
    pub(super) base: Option<&'j Tree>,
    pub(super) plan: &'j EdgePlan,
    /// Whether the plan is all that there is to do.
    pub(super) complete: bool,
}

/// Whether the node has room for what is planned; halts the edge otherwise.
pub(super) fn has_room(edge: &mut EdgeView<'_>, tally: &mut Tally, plan: &EdgePlan) -> bool {
    // A root that is not there yet says nothing about its disk.
    if edge.scanned.root == Root::Missing {
        return true;
    }
    let lack = too_little_room(&wanted(&plan.actions), edge.scanned.free);
    if let Some(detail) = &lack {
        edge.closed = true;
        tally.halt(edge.directory, Guard::FreeSpace, format!("{}: {detail}", tally.node.name), None);
    }
    lack.is_none()
}

/// Tells what is planned for an edge, and remembers its standing skips as told.
pub(super) fn tell(run: &Run<'_>, edge: &EdgeView<'_>, tally: &mut Tally, plan: &EdgePlan) {
    let node = tally.node.name.clone();
    let known = known_skips(run, &node, &edge.directory.name);
    let skips = plan.skipped.iter();
    let skips: Vec<Skip> = skips
        .map(|(path, side, reason)| Skip { path: path.clone(), side: *side, reason: reason.clone() })
        .collect();
    tally.planned(edge.directory, plan);
    tally.skipped(edge.directory, &skips, &known);
    if skips != known {
        lock(&run.ledger).set_skips(&edge.directory.name, &node, skips);
    }
}

/// Carries out an edge's plan on its node, and advances its base by what both ends confirm.
pub(super) fn carry(
    run: &Run<'_>,
    endpoint: &mut dyn Endpoint,
    edge: &mut EdgeView<'_>,
    tally: &mut Tally,
    job: &Job<'_>,
) -> Result<(), NodeError> {
    let directory = edge.directory;
    let actions = &job.plan.actions;
    let mut outcomes = Vec::new();
    let mut root = edge.remembered.as_ref().map(|remembered| remembered.root.clone());
    if !actions.is_empty() || root.is_none() {
        match endpoint.prepare(&directory.name, &run.trash_keep())? {
            Ok(id) => root = Some(id),
            Err(why) => {
                tally.fail("commit", directory, &why.to_string());
                return Ok(());
            }
        }
    }
    if !actions.is_empty() {
        outcomes = match bring(run, endpoint, edge, tally, job)? {
            Some(outcomes) => outcomes,
            None => return Ok(()),
        };
        tally.outcomes(directory, Side::Node, actions, &outcomes);
        if actions.iter().any(replaces) {
            tally.trashed(directory, Side::Node, &endpoint.trashed(&directory.name)?);
        }
    }
    let after = apply::apply_done(job.node_tree, actions, &outcomes);
    let agreed = agree::agree(directory.direction, job.base, &job.main.tree, &after, job.names);

    let mut in_step = None;
    if actions.is_empty() {
        let quiet = edge.scanned.settled && job.main.settled && job.plan.changes.is_empty();
        if quiet && job.complete && job.plan.failed.is_empty() {
            in_step = Some(InStep { main: edge.main_key(job.main), node: edge.scanned.digest });
        }
    } else {
        // What the node has now, by its own eyes: the truth for reloads, and proof that all went as planned.
        let spec = run.site.config.scan_spec(directory, Some(job.node), false);
        let now = endpoint.scan(&spec)?;
        edge.loaded = now.loaded;
        // What was not done is not in `after` either: the two agree then, and yet something is left.
        let as_planned =
            outcomes.iter().all(|outcome| *outcome == Outcome::Done) && now.digest == tree_digest(&after);
        if as_planned && job.complete && now.settled && job.main.settled && held_nothing(job.plan) {
            in_step = Some(InStep { main: edge.main_key(job.main), node: now.digest });
        }
    }
    let Some(root) = root else { return Ok(()) };
    remember(run, endpoint, edge, tally, root, agreed, in_step)
}

/// Whether what stands at an action's path goes to the trash.
pub(super) fn replaces(action: &Action) -> bool {
    action.expected.as_ref().is_some_and(|expected| !matches!(expected, Entry::Dir(_)))
        && !matches!(action.step, Step::SetMeta(_))
}

fn held_nothing(plan: &EdgePlan) -> bool {
    use crate::model::ChangeKind::{Conflict, Hold, Skip};
    plan.failed.is_empty() && !plan.changes.iter().any(|change| matches!(change.kind, Hold | Conflict | Skip))
}

/// Stages and commits. `None`: a guard stopped the edge.
fn bring(
    run: &Run<'_>,
    endpoint: &mut dyn Endpoint,
    edge: &EdgeView<'_>,
    tally: &mut Tally,
    job: &Job<'_>,
) -> Result<Option<Vec<Outcome>>, NodeError> {
    let directory = edge.directory;
    let actions = &job.plan.actions;
    let wanted = wanted(actions);
    let mut missing = BTreeMap::new();
    if !wanted.is_empty() {
        let source = lock(&run.site.main).source(&directory.name);
        let mut source = match source {
            Ok(source) => source,
            Err(error) => {
                tally.fail("transfer", directory, &error.detail);
                return Ok(None);
            }
        };
        missing = stage(run, endpoint, edge, tally, &wanted, &mut source)?;
    }
    commit_received(actions, lacking(&missing), |ready| endpoint.commit(&directory.name, ready)).map(Some)
}

/// Gets contents onto a node; returns those that did not arrive, and why.
fn stage(
    run: &Run<'_>,
    endpoint: &mut dyn Endpoint,
    edge: &EdgeView<'_>,
    tally: &mut Tally,
    wanted: &[BlobRequest],
    source: &mut dyn Source,
) -> Result<BTreeMap<Digest, String>, NodeError> {
    let node = tally.node.name.clone();
    let mut wire = OnWire {
        source,
        node: &node,
        throttle: &run.throttle,
        now: run.site.now,
        progress: run.site.progress,
        stop: run.site.stop,
        bytes: 0,
    };
    let received = endpoint.stage(&edge.directory.name, wanted, &mut wire);
    tally.directory(edge.directory).bytes += wire.bytes;
    Ok(not_received(wanted, received?))
}

/// The contents that actions need, each once; the source has them at the same paths.
pub(super) fn wanted(actions: &[Action]) -> Vec<BlobRequest> {
    let mut seen = HashSet::new();
    let contents = actions.iter().filter_map(|action| Some((action, needs_content(action)?)));
    contents
        .filter(|(_, file)| seen.insert(file.digest))
        .map(|(action, file)| BlobRequest {
            path: action.path.clone(),
            digest: file.digest,
            size: file.size,
            offset: 0,
        })
        .collect()
}

/// The file whose content must be staged for an action.
pub(super) fn needs_content(action: &Action) -> Option<&File> {
    match &action.step {
        Step::Put(entry) => entry.as_file(),
        _ => None,
    }
}

pub(super) fn not_received(
    wanted: &[BlobRequest],
    received: Vec<Result<(), String>>,
) -> BTreeMap<Digest, String> {
    let mut received = received.into_iter();
    let why = |wanted: &BlobRequest| match received.next() {
        Some(Ok(())) => None,
        Some(Err(why)) => Some((wanted.digest, why)),
        None => Some((wanted.digest, "was not received".to_owned())),
    };
    wanted.iter().filter_map(why).collect()
}

/// Why an action's content is not there, by what did not arrive.
pub(super) fn lacking(missing: &BTreeMap<Digest, String>) -> impl Fn(&Action) -> Option<String> {
    |action| missing.get(&needs_content(action)?.digest).cloned()
}

/// Commits the actions whose content is there; those that lack it have failed, for the reason that `lacks` gives.
pub(super) fn commit_received(
    actions: &[Action],
    lacks: impl Fn(&Action) -> Option<String>,
    commit: impl FnOnce(&[Action]) -> Result<Vec<Outcome>, NodeError>,
) -> Result<Vec<Outcome>, NodeError> {
    let ready: Vec<Action> = actions.iter().filter(|action| lacks(action).is_none()).cloned().collect();
    let mut done = commit(&ready)?.into_iter();
    let outcome = |action: &Action| match lacks(action) {
        Some(why) => Outcome::Failed(why),
        None => done.next().unwrap_or_else(|| Outcome::Failed("the node did not say how it went".to_owned())),
    };
    Ok(actions.iter().map(outcome).collect())
}

/// Why the contents do not fit, if they do not.
pub(super) fn too_little_room(wanted: &[BlobRequest], free: u64) -> Option<String> {
    let needed: u64 = wanted.iter().map(|wanted| wanted.size).fold(0, u64::saturating_add);
    if needed == 0 || needed.saturating_add(SPARE) <= free {
        return None;
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    Some(format!("{} MiB are needed and {} MiB are free", mib(needed), mib(free)))
}

/// Notes on both ends what is about to become of an edge, before anything is touched: should this run be cut off, the
/// next one tells what it did from what people did since.
pub(super) fn set_out(
    run: &Run<'_>,
    endpoint: &mut dyn Endpoint,
    edge: &mut EdgeView<'_>,
    tally: &mut Tally,
    base: Option<&Tree>,
    intent: &Intent,
) -> Result<(), NodeError> {
    // Without a base nothing is deleted, and who has what does not matter.
    let (Some(old), Some(base)) = (&edge.remembered, base) else { return Ok(()) };
    if intent.goal.is_empty() {
        return Ok(());
    }
    let generation = (run.site.new_id)();
    let new = EdgeRecord::new(old.root.clone(), generation, old.rules, None, base, Some(intent));
    note(run, endpoint, edge, tally, new)
}

/// Writes the edge's new base on both ends, if there is anything new.
fn remember(
    run: &Run<'_>,
    endpoint: &mut dyn Endpoint,
    edge: &mut EdgeView<'_>,
    tally: &mut Tally,
    root: String,
    base: Tree,
    in_step: Option<InStep>,
) -> Result<(), NodeError> {
    let old = edge.remembered.as_ref();
    let unchanged = |old: &EdgeRecord| {
        let same_base = || old.base().is_ok_and(|known| known == base);
        old.root == root && old.rules == edge.rules() && old.intent().is_none() && same_base()
    };
    let generation = match old.filter(|old| unchanged(old)) {
        Some(old) if old.in_step == in_step => return Ok(()),
        Some(old) => old.generation.clone(),
        None => (run.site.new_id)(),
    };
    let new = EdgeRecord::new(root, generation, edge.rules(), in_step, &base, None);
    note(run, endpoint, edge, tally, new)
}

/// Makes both ends remember the same of an edge. Main has the old and the new until the node has noted the new
/// one: whenever either of them stops, the node's marker tells which of them holds.
fn note(
    run: &Run<'_>,
    endpoint: &mut dyn Endpoint,
    edge: &mut EdgeView<'_>,
    tally: &mut Tally,
    new: EdgeRecord,
) -> Result<(), NodeError> {
    let (state, directory, node) = (run.site.state, &edge.directory.name, tally.node.name.clone());
    let same_generation = edge.remembered.as_ref().is_some_and(|old| old.generation == new.generation);
    let prepared = || {
        if edge.unconfirmed {
            // What holds must not be overwritten by what may come to nothing.
            state.promote_edge(directory, &node)?;
        }
        if same_generation {
            return state.save_edge(directory, &node, &new);
        }
        state.save_next_edge(directory, &node, &new)?;
        Ok(reach(Point::Agree)?)
    };
    if let Err(error) = prepared() {
        tally.fail("state", edge.directory, &format!("{error:#}"));
        return Ok(());
    }
    edge.unconfirmed = false;
    if !same_generation {
        if let Err(why) = endpoint.agree(directory, &new.generation)? {
            tally.fail("state", edge.directory, &why.to_string());
            return Ok(());
        }
        edge.unconfirmed = true;
        let met = reach(Point::Agreed).map_err(anyhow::Error::from);
        match met.and_then(|()| state.promote_edge(directory, &node)) {
            Ok(()) => edge.unconfirmed = false,
            Err(error) => tally.fail("state", edge.directory, &format!("{error:#}")),
        }
    }
    edge.remembered = Some(new);
    Ok(())
}

/// The direction decides which plan an edge takes part in.
pub(super) fn is_pushed(edge: &EdgeView<'_>) -> bool {
    edge.directory.direction == Direction::Push && !edge.closed
}
