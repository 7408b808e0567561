//! What followers tell of themselves in the store, for whoever asks Main how its nodes are.

use super::Followers;
use super::uploads::MOST;
use crate::report::{Follows, NodeReport, Report};
use crate::store::names::Area;
use crate::store::objects::get_each;
use crate::store::status::NodeStatus;
use crate::store::{MAX_SMALL, MAX_UPLOAD, StoreError, envelope};

impl Followers {
    /// Adds to a report what each follower has told last. `newest` is the newest publication.
    pub(crate) fn tell(&self, report: &mut Report, newest: u64) {
        let known = report.nodes.iter_mut().filter_map(|node| {
            let area = Area::node(&node.name).filter(|_| self.has(&node.name))?;
            Some((node, area.status()))
        });
        let (nodes, names): (Vec<&mut NodeReport>, Vec<String>) = known.unzip();
        let found = get_each(&*self.objects, &names, MAX_SMALL);
        for ((node, name), found) in nodes.into_iter().zip(&names).zip(found) {
            let status = found.and_then(|object| match object {
                Some(object) => self.heard(&node.name, name, &object),
                None => Ok(None),
            });
            let mut follows = follows(status.as_ref(), newest);
            if let Ok(Some(status)) = &status {
                follows.error = self.waits(&node.name, status.uploaded).or(follows.error);
            }
            node.follows = Some(follows);
        }
    }

    /// Why nothing more is taken in of what a node uploads, which has put `uploaded` there.
    fn waits(&self, node: &str, uploaded: u64) -> Option<String> {
        let read =
            self.seen().get(node).map(|seen| seen.uploads.iter().map(|(seq, _)| *seq).collect::<Vec<_>>());
        let read = read?;
        let last = read.last().or(self.taken.get(node)).copied().unwrap_or(0);
        if uploaded <= last {
            return None;
        }
        if read.len() as u64 >= MOST {
            return Some(format!(
                "{MOST} of its uploads wait for a decision, and none of the {} after them is taken in: `xds-sync conflicts` names \
                 what is to be decided",
                uploaded - last
            ));
        }
        // What came after this run has read is no hole.
        let name = Area::node(node)?.upload(last + 1);
        let is_lost = matches!(self.objects.get(&name, MAX_UPLOAD), Ok(None));
        is_lost.then(|| {
            format!("{name} has gone from the store, and nothing that it uploads is taken in until it has put that back")
        })
    }

    /// The status that a node has signed. `None`: it has left none yet.
    fn heard(&self, node: &str, name: &str, object: &[u8]) -> Result<Option<NodeStatus>, StoreError> {
        let status: NodeStatus = envelope::open(object, &[self.key(node)?], name)?;
        // Of another store, or of another node with this key.
        Ok(Some(status).filter(|status| status.cluster == self.cluster && status.node == node))
    }
}

fn follows(status: Result<&Option<NodeStatus>, &StoreError>, newest: u64) -> Follows {
    let nothing = Follows { seen: None, state: None, seq: 0, newest, error: None };
    match status {
        Ok(Some(status)) => Follows {
            seen: Some(status.time.clone()),
            state: Some(status.state.clone()),
            seq: status.seq,
            newest,
            error: status.error.clone(),
        },
        Ok(None) => nothing,
        Err(error) => Follows { error: Some(error.to_string()), ..nothing },
    }
}
