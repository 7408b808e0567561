//! One two-way directory, planned over the nodes of a round.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{Action, Pruned, RelPathBuf, Shortage, Tree};
use crate::plan::both::both;
use crate::plan::{EdgeInput, Plan, kept};
use crate::report::Guard;
use crate::sync::blobs::{self, Missing};
use crate::sync::edge::{EdgeRun, EdgeState, View, known_owners};
use crate::sync::guard::{self, Member};
use crate::sync::halt::Halt;
use crate::sync::node_run::NodeRun;
use crate::sync::origin::Origin;
use crate::sync::spec::DirectorySpec;
use crate::sync::two_way::pulled;
use crate::sync::{Run, conflicts, lock, room};

/// A plan, and who takes part in it.
pub(super) struct RoundPlan {
    pub(super) directory: Arc<DirectorySpec>,
    /// Main as it was planned with.
    pub(super) origin: Arc<Origin>,
    /// The nodes that take part, in the order of the plan's edges, which is the configured one.
    pub(super) members: Vec<String>,
    pub(super) plan: Plan,
    /// Nodes that a guard stopped; the others go on without them.
    halted: Vec<(String, Halt)>,
    /// Why Main's root cannot be changed, if it cannot.
    refusal: Option<String>,
    /// What lacks on Main's disk for actions there, by their paths.
    lacking: BTreeMap<RelPathBuf, Shortage>,
}

impl RoundPlan {
    /// The index of a node's edge in the plan.
    pub(super) fn member(&self, node: &str) -> Option<usize> {
        self.members.iter().position(|member| member == node)
    }

    /// Why the blob that an action on Main needs is not there, if it is not.
    pub(super) fn missing(&self, run: &Run<'_>, action: &Action) -> Option<Missing> {
        if let Some(why) = &self.refusal {
            return Some(Missing::Failed(why.clone()));
        }
        if let Some(shortage) = self.lacking.get(&action.path) {
            return Some(Missing::Failed(format!("{}: {shortage}", run.spec.main)));
        }
        let file = blobs::needed(action)?;
        self.plan.pulls.contains_key(&action.path).then_some(())?;
        pulled::missing(run, &self.directory.name, file.digest)
    }

    /// The actions on Main whose blobs a node gives.
    pub(super) fn pulled_from(&self, node: &str) -> impl Iterator<Item = &Action> {
        let index = self.member(node);
        self.plan.main.iter().filter(move |action| {
            let source = self.plan.pulls.get(&action.path);
            source.is_some() && source == index.as_ref() && !self.lacking.contains_key(&action.path)
        })
    }
}

/// Plans every directory that moves over the nodes that have looked at it.
pub(super) fn plan(run: &Run<'_>, nodes: &[NodeRun<'_>], moving: &BTreeSet<String>) -> Vec<RoundPlan> {
    let directories = run.spec.directories.iter().filter(|directory| moving.contains(&directory.name));
    let planned = directories.filter_map(|directory| {
        let origin = run.origins().get(run, &directory.name).ok()?;
        let views: Vec<(&EdgeRun<'_>, &View)> = nodes
            .iter()
            .filter(|node| node.failure.is_none())
            .filter_map(|node| node.edges.iter().find(|edge| edge.name() == directory.name))
            .filter(|edge| edge.is_open())
            .filter_map(|edge| Some((edge, edge.view.as_ref()?)))
            .collect();
        Some(plan_directory(run, directory, origin, views))
    });
    planned.collect()
}

fn plan_directory(
    run: &Run<'_>,
    directory: &Arc<DirectorySpec>,
    origin: Arc<Origin>,
    mut views: Vec<(&EdgeRun<'_>, &View)>,
) -> RoundPlan {
    let origin = as_given(origin, &views);
    let mut halted = Vec::new();
    let mut plan = loop {
        let plan = match plan_views(run, directory, &origin, &views) {
            Ok(plan) => plan,
            Err(halt) => {
                halted.extend(views.drain(..).map(|(edge, _)| (edge.node.to_owned(), halt.clone())));
                break Plan::default();
            }
        };
        let members: Vec<Member<'_>> = views.iter().map(|(edge, view)| edge.member(view)).collect();
        let halts = guard::check(run, directory, &origin, &members, &plan);
        if halts.is_empty() {
            break plan;
        }
        // What is left is planned anew: nothing may depend on what a halted node has.
        for (index, halt) in halts.into_iter().rev() {
            let (edge, _) = views.remove(index);
            halted.push((edge.node.to_owned(), halt));
        }
    };
    let mut refusal = None;
    if !plan.main.is_empty() && run.may_change() {
        match prepare_main(run, directory) {
            Ok(pruned) if pruned.excess > 0 && plan.main.iter().any(guard::replaces) => {
                let halt = guard::trash_is_full(&directory.scan, pruned.excess);
                halted.extend(views.drain(..).map(|(edge, _)| (edge.node.to_owned(), halt.clone())));
                plan = Plan::default();
            }
            Ok(_) => {}
            Err(why) => refusal = Some(why),
        }
    }
    let members = views.iter().map(|(edge, _)| edge.node.to_owned()).collect();
    let lacking = room::lacking_on_main(&plan, origin.free);
    RoundPlan { directory: Arc::clone(directory), origin, members, plan, halted, refusal, lacking }
}

fn plan_views(
    run: &Run<'_>,
    directory: &DirectorySpec,
    origin: &Origin,
    views: &[(&EdgeRun<'_>, &View)],
) -> Result<Plan, Halt> {
    let inputs: Vec<EdgeInput<'_>> = views.iter().map(|(edge, view)| view.input(edge.node)).collect();
    let trees: Vec<&Tree> = views.iter().map(|(_, view)| &*view.tree).collect();
    let owners = known_owners(&mut **lock(&run.env.main), directory, &trees)
        .map_err(|error| Halt::new(Guard::RootUnusable, error.detail))?;
    let nodes: Vec<(&str, &Tree)> = views.iter().map(|(edge, view)| (edge.node, &*view.tree)).collect();
    let decided = conflicts::decisions(&lock(run.ledger), directory, &origin.tree, &nodes);
    let mut plan = both(&directory.policy, origin.root.as_ref(), &origin.tree, &owners, &inputs, &decided);
    kept::expect(&mut plan.main, &origin.found);
    plan.edges
        .iter_mut()
        .zip(views)
        .for_each(|(edge, (_, view))| kept::expect(&mut edge.actions, &view.found));
    Ok(plan)
}

/// Main as if its disk had kept what it was given, as far as any of these edges knows.
fn as_given(origin: Arc<Origin>, views: &[(&EdgeRun<'_>, &View)]) -> Arc<Origin> {
    views.iter().fold(origin, |origin, (_, view)| {
        match kept::as_given(&origin.tree, view.base.as_deref(), &view.kept_on_main) {
            Some(tree) => Arc::new(Origin { tree: Arc::new(tree), ..(*origin).clone() }),
            None => origin,
        }
    })
}

/// Makes Main's root ready for what it gets from nodes, or says why it cannot be.
fn prepare_main(run: &Run<'_>, directory: &DirectorySpec) -> Result<Pruned, String> {
    let prepared = lock(&run.env.main).prepare(&directory.name, &run.spec.trash, None);
    let root = prepared.map_err(|error| error.detail)?.map_err(|refusal| refusal.to_string())?;
    run.warn_of_pruned(&directory.name, &root.pruned);
    Ok(root.pruned)
}

/// Gives every node its part of the plans that are carried out.
pub(super) fn assign(run: &Run<'_>, plans: &[RoundPlan], nodes: &mut [NodeRun<'_>]) {
    for node in nodes {
        for edge in node.edges.iter_mut().filter(|edge| edge.is_open()) {
            let Some(plan) = plans.iter().find(|plan| plan.directory.name == edge.name()) else { continue };
            if let Some((_, halt)) = plan.halted.iter().find(|(node, _)| node == edge.node) {
                edge.state = EdgeState::Halted(halt.clone());
            } else if let Some(index) = plan.member(edge.node) {
                edge.take_plan(run, plan.plan.edges.get(index).cloned().unwrap_or_default());
                let waiting = plan.plan.conflicts.iter().filter(|conflict| conflict.winner.is_none());
                edge.result.waiting = waiting.count() as u64;
            }
        }
    }
}
