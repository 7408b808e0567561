//! What followers tell of themselves in the store, for whoever asks Main how its nodes are.

use ssh_key::PublicKey;

use super::Followers;
use super::uploads::MOST;
use crate::report::{Follows, Report};
use crate::store::names::Area;
use crate::store::status::NodeStatus;
use crate::store::{MAX_SMALL, MAX_UPLOAD, StoreError, envelope};

impl Followers {
    /// Adds to a report what each follower has told last. `newest` is the newest publication.
    pub(crate) fn tell(&self, report: &mut Report, newest: u64) {
        for node in &mut report.nodes {
            let Some(key) = self.keys.get(&node.name) else { continue };
            let follows = match self.heard(&node.name, key) {
                Ok(Some(status)) => Follows {
                    error: self.waits(&node.name, status.uploaded).or(status.error),
                    seen: Some(status.time),
                    state: Some(status.state),
                    seq: status.seq,
                    newest,
                },
                Ok(None) => Follows { seen: None, state: None, seq: 0, newest, error: None },
                Err(error) => {
                    Follows { seen: None, state: None, seq: 0, newest, error: Some(error.to_string()) }
                }
            };
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
    fn heard(&self, node: &str, key: &PublicKey) -> Result<Option<NodeStatus>, StoreError> {
        let Some(area) = Area::node(node) else { return Ok(None) };
        let name = area.status();
        let Some(object) = self.objects.get(&name, MAX_SMALL)? else { return Ok(None) };
        let status: NodeStatus = envelope::open(&object, std::slice::from_ref(key), &name)?;
        // Of another store, or of another node with this key.
        Ok(Some(status).filter(|status| status.cluster == self.cluster && status.node == node))
    }
}
