//! Changes of an edge → changes in words.

use std::sync::Arc;

use super::words;
use crate::model::{Change, NodeChange};

/// Puts the changes of an edge into words. Of many changes most have the same reason, and what stood there before lies
/// under the same id: neighbours share one text, so that a run with hundreds of thousands of changes holds few.
pub(crate) struct Wording {
    directory: Arc<str>,
    node: Arc<str>,
    reason: Shared,
    id: Shared,
}

impl Wording {
    pub(crate) fn new(directory: &str, node: &str) -> Wording {
        let (reason, id) = (Shared::default(), Shared::default());
        Wording { directory: directory.into(), node: node.into(), reason, id }
    }

    /// A change in words. `id` names what stood there before in the trash of the host whose copy changed.
    pub(crate) fn change(&mut self, change: Change, id: Option<&str>) -> NodeChange {
        let Change { path, to, kind, bytes, is_dir, reason } = change;
        NodeChange {
            directory: Arc::clone(&self.directory),
            node: Arc::clone(&self.node),
            to,
            kind,
            path,
            bytes,
            reason: reason.map(|reason| self.reason.text(&words::reason(&reason))),
            is_dir,
            id: id.map(|id| self.id.text(id)),
        }
    }
}

/// The last of some texts.
#[derive(Default)]
struct Shared(Option<Arc<str>>);

impl Shared {
    fn text(&mut self, text: &str) -> Arc<str> {
        match &self.0 {
            Some(last) if **last == *text => Arc::clone(last),
            _ => Arc::clone(self.0.insert(text.into())),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{ChangeKind, Reason, RelPathBuf, Side};

    #[test]
    fn neighbours_share_what_they_have_in_common() {
        let mut wording = Wording::new("moh", "mds1");
        let mut told = |path: &str, reason, id| {
            let path = RelPathBuf::new(path.as_bytes()).unwrap();
            let (to, kind) = (Side::Node, ChangeKind::Delete);
            wording.change(Change { path, to, kind, bytes: 0, is_dir: false, reason }, id)
        };
        let first = told("a", Some(Reason::NotOnMain), Some("01R-0"));
        let second = told("b", Some(Reason::NotOnMain), Some("01R-0"));
        let third = told("c", Some(Reason::MakesWayForMains), Some("01R-1"));
        let fourth = told("d", None, None);
        assert_eq!(second, NodeChange { path: second.path.clone(), ..first.clone() });
        assert_eq!(first.reason.as_deref(), Some(&*words::reason(&Reason::NotOnMain)));
        assert_eq!(third.reason.as_deref(), Some(&*words::reason(&Reason::MakesWayForMains)));
        assert_eq!((third.id.as_deref(), fourth.id, fourth.reason), (Some("01R-1"), None, None));
        for (one, other) in [
            (Some(&first.directory), Some(&third.directory)),
            (Some(&first.node), Some(&third.node)),
            (first.reason.as_ref(), second.reason.as_ref()),
            (first.id.as_ref(), second.id.as_ref()),
        ] {
            assert!(Arc::ptr_eq(one.unwrap(), other.unwrap()), "{one:?}");
        }
    }
}
