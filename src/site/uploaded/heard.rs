//! What followers tell of themselves in the store, for whoever asks Main how its nodes are.

use ssh_key::PublicKey;

use super::Followers;
use crate::report::{Follows, NodeReport, Report};
use crate::store::names::Area;
use crate::store::objects::get_each;
use crate::store::status::NodeStatus;
use crate::store::{MAX_SMALL, StoreError, envelope};

impl Followers {
    /// Adds to a report what each follower has told last. `newest` is the newest publication.
    pub(crate) fn tell(&self, report: &mut Report, newest: u64) {
        let known = report.nodes.iter_mut().filter_map(|node| {
            let (key, area) = (self.keys.get(&node.name)?, Area::node(&node.name)?);
            Some(((node, key), area.status()))
        });
        let (nodes, names): (Vec<(&mut NodeReport, &PublicKey)>, Vec<String>) = known.unzip();
        let found = get_each(&*self.objects, &names, MAX_SMALL);
        for (((node, key), name), found) in nodes.into_iter().zip(&names).zip(found) {
            let status = found.and_then(|object| match object {
                Some(object) => self.heard(&node.name, key, name, &object),
                None => Ok(None),
            });
            node.follows = Some(follows(status, newest));
        }
    }

    /// The status that a node has signed. `None`: it has left none yet.
    fn heard(
        &self,
        node: &str,
        key: &PublicKey,
        name: &str,
        object: &[u8],
    ) -> Result<Option<NodeStatus>, StoreError> {
        let status: NodeStatus = envelope::open(object, std::slice::from_ref(key), name)?;
        // Of another store, or of another node with this key.
        Ok(Some(status).filter(|status| status.cluster == self.cluster && status.node == node))
    }
}

fn follows(status: Result<Option<NodeStatus>, StoreError>, newest: u64) -> Follows {
    match status {
        Ok(Some(status)) => Follows {
            seen: Some(status.time),
            state: Some(status.state),
            seq: status.seq,
            newest,
            error: status.error,
        },
        Ok(None) => Follows { seen: None, state: None, seq: 0, newest, error: None },
        Err(error) => Follows { seen: None, state: None, seq: 0, newest, error: Some(error.to_string()) },
    }
}
