//! Bringing to Main's stage what Main gets from nodes.

use std::sync::Arc;
use std::thread::Scope;

use crate::model::Digest;
use crate::node::NodeError;
use crate::sync::blobs::{self, Missing};
use crate::sync::metered::{FromEndpoint, Metered};
use crate::sync::node_run::{NodeRun, Parts};
use crate::sync::rendezvous::Rendezvous;
use crate::sync::two_way::pulled::Pull;
use crate::sync::two_way::round_plan::RoundPlan;
use crate::sync::{Cluster, Run, lock};
use crate::transfer::BlobRequest;

/// Lets every node send what Main is to get from it. Returns those that are done by a deadline; it begins when the
/// first one is. The others go on sending, and come to a later round.
pub(super) fn pull<'scope, 'env, 'a>(
    run: &'env Run<'a>,
    cluster: &'env Cluster<'a>,
    scope: &'scope Scope<'scope, 'env>,
    nodes: Vec<NodeRun<'a>>,
    plans: &[RoundPlan],
) -> Vec<NodeRun<'a>> {
    let done = Arc::new(Rendezvous::new(nodes.len()));
    for mut node in nodes {
        let orders: Vec<Order> = plans.iter().filter_map(|plan| Order::new(plan, &node.spec.name)).collect();
        let done = Arc::clone(&done);
        scope.spawn(move || {
            node.step(|node| send_all(run, node, &orders));
            if let Err(late) = done.arrive(node) {
                cluster.hand_over(late);
            }
        });
    }
    done.close()
}

/// What Main asks one node for, in one directory.
struct Order {
    directory: String,
    requests: Vec<BlobRequest>,
    /// Bytes free on Main's filesystem.
    free: u64,
}

impl Order {
    fn new(plan: &RoundPlan, node: &str) -> Option<Order> {
        let requests = blobs::requests(&plan.pulled_from(node));
        let directory = plan.directory.name.clone();
        (!requests.is_empty()).then_some(Order { directory, requests, free: plan.origin.free })
    }
}

fn send_all(run: &Run<'_>, node: &mut NodeRun<'_>, orders: &[Order]) -> Result<(), NodeError> {
    if orders.is_empty() {
        return Ok(());
    }
    let _permit = run.permits.take();
    orders.iter().try_for_each(|order| send(run, node, order))
}

fn send(run: &Run<'_>, node: &mut NodeRun<'_>, order: &Order) -> Result<(), NodeError> {
    let claim = Claim::new(run, order);
    if claim.requests.is_empty() {
        return Ok(());
    }
    if let Some(detail) = blobs::too_little_room(&claim.requests, order.free) {
        claim.fail(&format!("{}: {detail}", run.spec.main));
        return Ok(());
    }
    let name = &node.spec.name;
    let Parts { session, edges, .. } = node.parts()?;
    let mut source = FromEndpoint { endpoint: session, directory: &order.directory, lost: None };
    let mut wire = Metered::new(run, name, &mut source);
    // Not under Main's lock: a slow node must not keep the others from Main.
    let staging = lock(&run.env.main).staging(&order.directory);
    let received = staging.map(|staging| staging.stage(&claim.requests, &mut wire));
    let bytes = wire.bytes;
    if let Some(edge) = edges.iter_mut().find(|edge| edge.name() == order.directory) {
        edge.result.bytes += bytes;
    }
    if let Some(lost) = source.lost {
        claim.fail(&lost.detail);
        return Err(lost);
    }
    match received {
        Ok(received) => claim.finish(received),
        Err(error) => claim.fail(&error.detail),
    }
    Ok(())
}

/// The blobs of an order that nobody else is sending, or has sent. No two nodes may write the same blob to the stage
/// at the same time.
struct Claim<'c> {
    run: &'c Run<'c>,
    directory: &'c str,
    requests: Vec<BlobRequest>,
}

impl<'c> Claim<'c> {
    fn new(run: &'c Run<'_>, order: &'c Order) -> Claim<'c> {
        let mut pulls = lock(&run.pulls);
        let mut requests = order.requests.clone();
        requests.retain(|request| {
            let key = (order.directory.clone(), request.digest);
            let is_new = !pulls.contains_key(&key);
            if is_new {
                pulls.insert(key, Pull::UnderWay);
            }
            is_new
        });
        Claim { run, directory: &order.directory, requests }
    }

    fn set(&self, digest: Digest, pull: Pull) {
        lock(&self.run.pulls).insert((self.directory.to_owned(), digest), pull);
    }

    fn finish(&self, received: Vec<Result<(), String>>) {
        let failed = blobs::failed(&self.requests, received);
        for request in &self.requests {
            let pull = match failed.get(&request.digest) {
                Some(Missing::Failed(why)) => Pull::Failed(why.clone()),
                Some(Missing::NotReached) | None => Pull::Staged,
            };
            self.set(request.digest, pull);
        }
    }

    fn fail(&self, why: &str) {
        self.requests.iter().for_each(|request| self.set(request.digest, Pull::Failed(why.to_owned())));
    }
}

impl Drop for Claim<'_> {
    /// Whatever ends the sending, a panic too, nobody waits for these blobs any more.
    fn drop(&mut self) {
        let mut pulls = lock(&self.run.pulls);
        for request in &self.requests {
            let key = (self.directory.to_owned(), request.digest);
            if let Some(pull) = pulls.get_mut(&key).filter(|pull| matches!(pull, Pull::UnderWay)) {
                *pull = Pull::Failed("was not received".to_owned());
            }
        }
    }
}
