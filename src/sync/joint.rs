//! A round: nodes that are there together. Pushed directories go edge by edge; both-ways directories are
//! planned once for all, what is new on nodes comes to Main first, and from Main it goes to everybody.
//!
//! The node threads wait for each other only twice: for the plan, which needs everybody's trees, and for
//! Main to have what it gets from nodes. In between they push, so a slow push delays nobody else.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::config::Directory;
use crate::model::{Action, Digest, Outcome, Side, Tree};
use crate::node::{Endpoint as _, NodeError};
use crate::plan::both::both;
use crate::plan::{EdgeInput, EdgePlan, OwnerMap, Plan, apply, intent, safety};
use crate::report::Guard;
use crate::snapshot::tree_digest;
use crate::sync::carry::{self, Job};
use crate::sync::main_side::{MainDirectory, MainTree, scan_one};
use crate::sync::session::{self, EdgeView, Session};
use crate::sync::tally::Tally;
use crate::sync::wire::{FromEndpoint, OnWire};
use crate::sync::{Run, conflicts, lock, pushed, reloads};
use crate::transfer::trash::TrashEntry;

/// What one node has in one both-ways directory.
pub(super) struct Seen {
    session: usize,
    directory: String,
    /// The node's name.
    pub(super) name: String,
    pub(super) tree: Arc<Tree>,
    base: Option<Arc<Tree>>,
    same_rules: bool,
    names: OwnerMap,
}

/// A both-ways directory, planned over the nodes of a round.
struct Joint {
    directory: Directory,
    main: MainTree,
    /// In the order of the plan's edges, which is the configured one.
    seen: Vec<Seen>,
    plan: Plan,
    /// Edges that a guard stopped, by session; the others go on without them.
    halted: Vec<(usize, Guard, String, String)>,
    /// Contents that some node gives, or has given.
    pulled: Mutex<HashSet<Digest>>,
    /// Contents that Main could not get, and why.
    missing: Mutex<BTreeMap<Digest, String>>,
}

/// Main after its part of a joint plan.
struct OnMain {
    outcomes: Vec<Outcome>,
    trashed: Vec<TrashEntry>,
    main: MainTree,
}

type Plans = Arc<BTreeMap<String, Joint>>;
type Done = Arc<BTreeMap<String, OnMain>>;

/// One node thread's ends of the channels of a round. That they are dropped tells the others that the node
/// has nothing more to say, also when it was lost.
struct Part {
    index: usize,
    seen: Sender<Seen>,
    plans: Receiver<Plans>,
    pulled: Sender<()>,
    done: Receiver<Done>,
}

/// Carries a round out, and tells how it went for each node.
pub(super) fn round<'a>(run: &Run<'a>, sessions: Vec<Session<'a>>) -> Vec<Tally> {
    let moving = directories_to_plan(run, &sessions);
    thread::scope(|scope| {
        let (seen_sender, seen) = channel();
        let (pulled_sender, pulled) = channel();
        let mut to_parts = Vec::new();
        let mut threads = Vec::new();
        for (index, session) in sessions.into_iter().enumerate() {
            let (plans_sender, plans) = channel();
            let (done_sender, done) = channel();
            to_parts.push((plans_sender, done_sender));
            let part = Part { index, seen: seen_sender.clone(), plans, pulled: pulled_sender.clone(), done };
            let moving = &moving;
            threads.push(scope.spawn(move || node(run, session, moving, part)));
        }
        drop((seen_sender, pulled_sender));
        coordinate(run, &moving, &seen, &pulled, to_parts);
        let mut tallies = Vec::new();
        for thread in threads {
            match thread.join() {
                Ok(tally) => tallies.push(tally),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        tallies
    })
}

/// The both-ways directories in which any node of the round is not in step.
fn directories_to_plan(run: &Run<'_>, sessions: &[Session<'_>]) -> BTreeSet<String> {
    let current = lock(&run.both);
    let moves = |edge: &&EdgeView<'_>| {
        let main = current.get(&edge.directory.name).or_else(|| match run.main_side().get(edge.directory) {
            Some(MainDirectory::Scanned(main)) => Some(main),
            _ => None,
        });
        edge.is_both() && !edge.closed && main.is_some_and(|main| !edge.is_in_step(main))
    };
    let edges = sessions.iter().flat_map(|session| &session.edges);
    edges.filter(moves).map(|edge| edge.directory.name.clone()).collect()
}

/// One node's part of a round.
fn node(run: &Run<'_>, mut session: Session<'_>, moving: &BTreeSet<String>, part: Part) -> Tally {
    let result = take_part(run, &mut session, moving, part);
    if let Err(error) = result {
        session.tally.lost(&error);
    }
    session.tally
}

fn take_part(
    run: &Run<'_>,
    session: &mut Session<'_>,
    moving: &BTreeSet<String>,
    part: Part,
) -> Result<(), NodeError> {
    let Part { index, seen, plans, pulled, done } = part;
    for edge in 0..session.edges.len() {
        if session.edges[edge].is_both() && !session.edges[edge].closed {
            look(run, session, edge, moving, index, &seen)?;
        }
    }
    drop(seen);
    // Without plans there is nothing to do both ways: a guard stopped it, or the coordinator broke down,
    // which shows where it is joined.
    let plans = plans.recv().unwrap_or_default();
    let pulling = run.permits.take();
    for joint in plans.values() {
        tell(run, session, index, joint);
        if !run.options.dry_run && !run.is_stopped() {
            set_out(run, session, index, joint)?;
            pull(run, session, index, joint)?;
        }
    }
    drop((pulling, pulled));
    {
        let _permit = run.permits.take();
        pushed::push_all(run, session)?;
    }
    if run.options.dry_run {
        return Ok(());
    }
    let done = done.recv().unwrap_or_default();
    let _permit = run.permits.take();
    for (directory, on_main) in done.iter() {
        if let Some(joint) = plans.get(directory)
            && !run.is_stopped()
        {
            bring(run, session, index, joint, on_main)?;
        }
    }
    reloads::reload(run, session)
}

/// Hands what a node has to the coordinator, if its directory is to be planned.
fn look(
    run: &Run<'_>,
    session: &mut Session<'_>,
    index: usize,
    moving: &BTreeSet<String>,
    part: usize,
    seen: &Sender<Seen>,
) -> Result<(), NodeError> {
    let Session { node, endpoint, edges, tally } = session;
    let edge = &mut edges[index];
    let Some(main) = session::main_tree(run, edge, tally) else { return Ok(()) };
    let directory = &edge.directory.name;
    if !moving.contains(directory) {
        let known = session::known_skips(run, &node.name, &edge.directory.name);
        tally.skipped(edge.directory, &known, &known);
        return Ok(());
    }
    let (tree, base) = edge.trees(endpoint.as_mut(), &main.tree, tally)?;
    let names = session::names(endpoint.as_mut(), edge.directory, &[&main.tree, &tree])?;
    let same_rules = edge.same_rules();
    let (directory, name) = (directory.clone(), node.name.clone());
    // The coordinator listens until every sender is gone.
    let _ = seen.send(Seen { session: part, directory, name, tree, base, same_rules, names });
    Ok(())
}

/// Plans the directories of a round, lets the nodes pull, and commits on Main.
fn coordinate(
    run: &Run<'_>,
    moving: &BTreeSet<String>,
    seen: &Receiver<Seen>,
    pulled: &Receiver<()>,
    parts: Vec<(Sender<Plans>, Sender<Done>)>,
) {
    let mut by_directory: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
    for seen in seen {
        by_directory.entry(seen.directory.clone()).or_default().push(seen);
    }
    // Held until Main has changed: another round plans with what Main has then.
    let mut current = lock(&run.both);
    let mut plans = BTreeMap::new();
    for directory in run.directories().filter(|directory| moving.contains(&directory.name)) {
        let Some(seen) = by_directory.remove(&directory.name) else { continue };
        let main = current.get(&directory.name).cloned().or_else(|| match run.main_side().get(directory) {
            Some(MainDirectory::Scanned(main)) => Some(main.clone()),
            _ => None,
        });
        if let Some(main) = main {
            plans.insert(directory.name.clone(), plan(run, directory, main, seen));
        }
    }
    if !run.options.dry_run {
        plans.values().for_each(|joint| prepare(run, joint));
    }
    let plans = Arc::new(plans);
    let mut done_senders = Vec::new();
    for (plans_sender, done_sender) in parts {
        // A node that was lost no longer listens.
        let _ = plans_sender.send(Arc::clone(&plans));
        done_senders.push(done_sender);
    }
    for () in pulled {}
    if run.options.dry_run || run.is_stopped() {
        return;
    }
    let mut done = BTreeMap::new();
    for (name, joint) in plans.iter() {
        conflicts::remember(run, &joint.directory, &joint.plan, &joint.seen);
        let on_main = commit(run, joint);
        current.insert(name.clone(), on_main.main.clone());
        done.insert(name.clone(), on_main);
    }
    let done = Arc::new(done);
    for sender in done_senders {
        let _ = sender.send(Arc::clone(&done));
    }
}

/// Plans one directory over all nodes that are there, less those that a guard stops.
fn plan(run: &Run<'_>, directory: &Directory, main: MainTree, mut seen: Vec<Seen>) -> Joint {
    let order = |seen: &Seen| run.site.config.nodes.iter().position(|node| node.name == seen.name);
    seen.sort_by_key(order);
    let mut halted = Vec::new();
    let mut plan = plan_edges(run, directory, &main, &seen);
    let token = safety::token(&directory.name, &plan);
    let emptied =
        |seen: &Seen| safety::emptied_of_several(seen.base.as_deref(), &seen.tree) && main.tree.has_content();
    if seen.iter().any(emptied) && !run.is_accepted(&token) {
        for seen in seen.extract_if(.., |seen| emptied(seen)) {
            let detail = format!(
                "{} has become empty on {}; its files would be deleted everywhere",
                directory.name, seen.name
            );
            halted.push((seen.session, Guard::Emptied, detail, token.clone()));
        }
        plan = plan_edges(run, directory, &main, &seen);
    }
    if let Some((guard, detail)) = guard(directory, &main.tree, &seen, &plan) {
        let token = safety::token(&directory.name, &plan);
        if !run.is_accepted(&token) {
            for seen in seen.drain(..) {
                halted.push((seen.session, guard, detail.clone(), token.clone()));
            }
            plan = Plan::default();
        }
    }
    Joint {
        directory: directory.clone(),
        main,
        seen,
        plan,
        halted,
        pulled: Mutex::default(),
        missing: Mutex::default(),
    }
}

fn plan_edges(run: &Run<'_>, directory: &Directory, main: &MainTree, seen: &[Seen]) -> Plan {
    let edges: Vec<EdgeInput<'_>> = seen
        .iter()
        .map(|seen| EdgeInput {
            name: &seen.name,
            base: seen.base.as_deref(),
            same_rules: seen.same_rules,
            node: &seen.tree,
            names: &seen.names,
        })
        .collect();
    let trees: Vec<&Tree> = seen.iter().map(|seen| &*seen.tree).collect();
    let main_names = session::names(&mut *lock(&run.site.main), directory, &trees).unwrap_or_default();
    let decided = conflicts::decisions(&lock(&run.ledger), directory, &main.tree, seen);
    both(&pushed::policy(directory), &main.tree, &main_names, &edges, &decided)
}

fn guard(directory: &Directory, main: &Tree, seen: &[Seen], plan: &Plan) -> Option<(Guard, String)> {
    let nodes: Vec<&Tree> = seen.iter().map(|seen| &*seen.tree).collect();
    let deletes = plan.edges.iter().any(|edge| safety::deletes(&edge.actions));
    if deletes && seen.iter().any(|seen| safety::emptied_of_several(seen.base.as_deref(), main)) {
        let path = directory.path.display();
        return Some((
            Guard::Emptied,
            format!("{path} has become empty; its files would be deleted everywhere"),
        ));
    }
    let (host, deletions) = safety::exceeds(directory.max_delete, plan, main, &nodes)?;
    let host = host.map_or("Main", |index| &seen[index].name);
    Some((Guard::MaxDelete, format!("{deletions} on {host}")))
}

impl Joint {
    /// The edge of a session in the plan, if it takes part.
    fn edge(&self, session: usize) -> Option<(usize, &Seen, &EdgePlan)> {
        let index = self.seen.iter().position(|seen| seen.session == session)?;
        Some((index, &self.seen[index], self.plan.edges.get(index)?))
    }
}

fn edge_of<'e, 'a>(edges: &'e mut [EdgeView<'a>], joint: &Joint) -> Option<&'e mut EdgeView<'a>> {
    edges.iter_mut().find(|edge| edge.directory.name == joint.directory.name && !edge.closed)
}

fn tell(run: &Run<'_>, session: &mut Session<'_>, index: usize, joint: &Joint) {
    let Session { edges, tally, .. } = session;
    let Some(edge) = edge_of(edges, joint) else { return };
    if let Some((_, guard, detail, token)) = joint.halted.iter().find(|(halted, ..)| *halted == index) {
        edge.closed = true;
        tally.halt(edge.directory, *guard, detail.clone(), Some(token.clone()));
    } else if let Some((_, _, plan)) = joint.edge(index)
        && carry::has_room(edge, tally, plan)
    {
        carry::tell(run, edge, tally, plan);
        let waiting = joint.plan.conflicts.iter().filter(|conflict| conflict.winner.is_none()).count();
        tally.directory(edge.directory).waiting = waiting as u64;
    }
}

/// Notes what is about to become of this edge, before Main or the node changes.
fn set_out(run: &Run<'_>, session: &mut Session<'_>, index: usize, joint: &Joint) -> Result<(), NodeError> {
    let Some((_, seen, plan)) = joint.edge(index) else { return Ok(()) };
    let Session { endpoint, edges, tally, .. } = session;
    let Some(edge) = edge_of(edges, joint) else { return Ok(()) };
    let actions = joint.plan.main.iter().chain(&plan.actions);
    let intent = intent::intent(actions, &joint.main.tree, &seen.tree);
    carry::set_out(run, endpoint.as_mut(), edge, tally, seen.base.as_deref(), &intent)
}

/// Brings to Main's stage what Main gets from this node.
fn pull(run: &Run<'_>, session: &mut Session<'_>, index: usize, joint: &Joint) -> Result<(), NodeError> {
    let Some((edge, ..)) = joint.edge(index) else { return Ok(()) };
    let mine = |action: &&Action| joint.plan.pulls.get(&action.path) == Some(&edge);
    let actions: Vec<Action> = joint.plan.main.iter().filter(mine).cloned().collect();
    let mut wanted = carry::wanted(&actions);
    wanted.retain(|wanted| !lock(&joint.missing).contains_key(&wanted.digest));
    // The same content at another path may be on its way from another node.
    wanted.retain(|wanted| lock(&joint.pulled).insert(wanted.digest));
    if wanted.is_empty() {
        return Ok(());
    }
    if let Some(detail) = carry::too_little_room(&wanted, joint.main.free) {
        let why = format!("{}: {detail}", run.site.config.main.name);
        lock(&joint.missing).extend(wanted.iter().map(|wanted| (wanted.digest, why.clone())));
        return Ok(());
    }
    let directory = &joint.directory.name;
    let mut source = FromEndpoint { endpoint: session.endpoint.as_mut(), directory, lost: None };
    let mut wire = OnWire {
        source: &mut source,
        node: &session.node.name,
        throttle: &run.throttle,
        now: run.site.now,
        progress: run.site.progress,
        stop: run.site.stop,
        bytes: 0,
    };
    // Not under Main's lock: a slow node must not keep the others from Main.
    let staging = lock(&run.site.main).staging(directory);
    let received = staging.map(|staging| staging.stage(&wanted, &mut wire));
    session.tally.directory(&joint.directory).bytes += wire.bytes;
    if let Some(lost) = source.lost {
        return Err(lost);
    }
    let missing = match received {
        Ok(received) => carry::not_received(&wanted, received),
        Err(error) => wanted.iter().map(|wanted| (wanted.digest, error.detail.clone())).collect(),
    };
    lock(&joint.missing).extend(missing);
    Ok(())
}

/// Readies Main's root for what it gets from nodes. Should that fail, so will every content and action, each
/// with the reason.
fn prepare(run: &Run<'_>, joint: &Joint) {
    if joint.plan.main.is_empty() {
        return;
    }
    let prepared = lock(&run.site.main).prepare(&joint.directory.name, &run.trash_keep());
    if let Err(why) | Ok(Err(why)) =
        prepared.map(|prepared| prepared.map_err(String::from)).map_err(|error| error.detail)
    {
        let contents = joint.plan.main.iter().filter_map(carry::needs_content);
        lock(&joint.missing).extend(contents.map(|file| (file.digest, why.clone())));
    }
}

/// Puts in place on Main what the plan says, and looks at Main again.
fn commit(run: &Run<'_>, joint: &Joint) -> OnMain {
    let directory = &joint.directory.name;
    let actions = &joint.plan.main;
    if actions.is_empty() {
        return OnMain { outcomes: Vec::new(), trashed: Vec::new(), main: joint.main.clone() };
    }
    let (committed, trashed) = {
        let mut main = lock(&run.site.main);
        let missing = lock(&joint.missing);
        let lacks = carry::lacking(&missing);
        let committed = carry::commit_received(actions, lacks, |ready| main.commit(directory, ready));
        (committed, main.trashed(directory).unwrap_or_default())
    };
    let outcomes = committed.unwrap_or_else(|error| vec![Outcome::Failed(error.detail); actions.len()]);
    let tree = apply::apply_done(&joint.main.tree, actions, &outcomes);
    // By its own eyes: only what is there as planned may be remembered as in step.
    let main = match scan_one(run, &joint.directory) {
        MainDirectory::Scanned(now) => {
            let all_done = outcomes.iter().all(|outcome| *outcome == Outcome::Done);
            let settled = all_done && now.settled && now.digest == tree_digest(&tree);
            MainTree { tree: Arc::new(tree), settled, ..now }
        }
        MainDirectory::Halted(..) => MainTree { tree: Arc::new(tree), settled: false, ..joint.main.clone() },
    };
    OnMain { outcomes, trashed, main }
}

/// Brings a node what the plan says, from Main.
fn bring(
    run: &Run<'_>,
    session: &mut Session<'_>,
    index: usize,
    joint: &Joint,
    on_main: &OnMain,
) -> Result<(), NodeError> {
    let Some((_, seen, plan)) = joint.edge(index) else { return Ok(()) };
    {
        let Session { edges, tally, .. } = &mut *session;
        let Some(edge) = edge_of(edges, joint) else { return Ok(()) };
        let told: BTreeSet<_> =
            plan.changes.iter().filter(|change| change.to == Side::Main).map(|change| &change.path).collect();
        let mine =
            joint.plan.main.iter().zip(&on_main.outcomes).filter(|(action, _)| told.contains(&action.path));
        let (actions, outcomes): (Vec<_>, Vec<_>) =
            mine.map(|(action, outcome)| (action.clone(), outcome.clone())).unzip();
        tally.outcomes(edge.directory, Side::Main, &actions, &outcomes);
        tally.trashed(edge.directory, Side::Main, &on_main.trashed);
    }
    // What Main did not get cannot go on to this node; whoever it came from has reported it.
    let on_its_way = |action: &&Action| match carry::needs_content(action) {
        Some(file) => on_main
            .main
            .tree
            .get(&action.path)
            .and_then(|entry| entry.as_file())
            .is_some_and(|has| has.digest == file.digest),
        None => true,
    };
    let actions: Vec<Action> = plan.actions.iter().filter(on_its_way).cloned().collect();
    let complete = actions.len() == plan.actions.len();
    let plan = EdgePlan { actions, ..plan.clone() };
    if !plan.actions.is_empty() {
        reloads::before_changes(run, session);
    }
    let Session { node, endpoint, edges, tally } = session;
    let Some(edge) = edge_of(edges, joint) else { return Ok(()) };
    let job = Job {
        node,
        main: &on_main.main,
        node_tree: &seen.tree,
        names: &seen.names,
        base: seen.base.as_deref(),
        plan: &plan,
        complete,
    };
    carry::carry(run, endpoint.as_mut(), edge, tally, &job)
}
