//! What followers tell of themselves in the store, for whoever asks Main how its nodes are.

use ssh_key::PublicKey;

use super::Followers;
use crate::report::{Follows, Report};
use crate::store::names::Area;
use crate::store::status::NodeStatus;
use crate::store::{MAX_SMALL, StoreError, envelope};

impl Followers {
    /// Adds to a report what each follower has told last. `newest` is the newest publication.
    pub(crate) fn tell(&self, report: &mut Report, newest: u64) {
        for node in &mut report.nodes {
            let Some(key) = self.keys.get(&node.name) else { continue };
            let follows = match self.heard(&node.name, key) {
                Ok(Some(status)) => Follows {
                    seen: Some(status.time),
                    state: Some(status.state),
                    seq: status.seq,
                    newest,
                    error: status.error,
                },
                Ok(None) => Follows { seen: None, state: None, seq: 0, newest, error: None },
                Err(error) => {
                    Follows { seen: None, state: None, seq: 0, newest, error: Some(error.to_string()) }
                }
            };
            node.follows = Some(follows);
        }
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
