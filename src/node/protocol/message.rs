//! Requests and their answers.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::bounded::at_most;
use crate::model::{Action, Entry, Outcome, Owner, RelPathBuf, ReloadOutcome, Step, TrashKeep};
use crate::node::endpoint::KeyChange;
use crate::reload::ReloadRequest;
use crate::snapshot::{ScanSpec, Scanned};
use crate::transfer::trash::{TrashEntry, TrashId};
use crate::transfer::{BlobRequest, MAX_BASES, Received, Signature};

/// Most items of a list in one message. An item is some 250 bytes in memory and may be 4 on the wire:
/// the length of the message alone would bound too little.
pub(crate) const MAX_LIST: usize = 16 * 1024;
/// Most bytes of the items of a list in one request, a third of what a message may have.
const LIST_BYTES: usize = super::frame::MAX_MESSAGE / 3;
/// Most bytes of an entry in an answer: see [`Weight`] of one, and the longest name or target.
const LARGEST_ENTRY: usize = 2 * super::check::MAX_NAME + 128;
/// Most bytes of a text for people; with it, the answer to [`MAX_LIST`] items fits into a message.
pub(crate) const MAX_TEXT: usize = 400;

/// What Main asks. Every one but `Scan`, `KnownOwners`, `Reload` and `ReplaceKey` is about a directory that was scanned.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Scan(ScanSpec),
    /// Answered with `Tree`, one content, which is its encoding, and `Sent`.
    Tree {
        directory: String,
        /// What Main has of a basis, or of one that may be like it.
        basis: Option<Arc<Signature>>,
    },
    KnownOwners(#[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")] Vec<Owner>),
    Prepare {
        directory: String,
        run: String,
        trash: TrashKeep,
    },
    /// Answered with any number of `Need`, each of which Main follows up with these contents, then
    /// `Received`.
    Stage {
        directory: String,
        #[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")]
        wanted: Vec<BlobRequest>,
    },
    /// Answered with the contents, then `Sent`.
    Send {
        directory: String,
        #[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")]
        wanted: Vec<BlobRequest>,
        #[serde(deserialize_with = "at_most::<MAX_BASES, _, _>")]
        bases: Vec<Basis>,
    },
    /// Actions of one commit, of which this is a part: nothing is done before the last one. Each part is
    /// answered with `Outcomes`: none before the last, the first ones then.
    Commit {
        directory: String,
        #[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")]
        actions: Vec<Action>,
        last: bool,
    },
    /// The next outcomes of that commit.
    Outcomes,
    Agree {
        directory: String,
        generation: String,
    },
    Reload(ReloadRequest),
    ReplaceKey(KeyChange),
    /// What the last commit put into the trash. Answered with `Trash`, as `Versions` and `MoreTrash` are.
    Trashed(String),
    Versions {
        directory: String,
        path: RelPathBuf,
    },
    /// The next entries of the last of these.
    MoreTrash,
    Recall {
        directory: String,
        id: TrashId,
        #[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")]
        paths: Vec<RelPathBuf>,
    },
    /// Answered as `Send` is.
    SendTrashed {
        directory: String,
        id: TrashId,
        #[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")]
        wanted: Vec<BlobRequest>,
    },
}

/// What the agent answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// To Main's hello: the version that both speak.
    Welcome(u16),
    Scanned(Scanned),
    /// A tree of that many bytes follows.
    Tree(u64),
    Owners(#[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")] Vec<Owner>),
    Prepared(Result<String, String>),
    Need(#[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")] Vec<Need>),
    Received(#[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")] Received),
    Sent,
    Outcomes(#[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")] Vec<Outcome>),
    Agreed(Result<(), String>),
    Reloaded(ReloadOutcome),
    KeyReplaced(Result<(), String>),
    Trash {
        #[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")]
        entries: Vec<TrashEntry>,
        /// Whether `MoreTrash` has any.
        more: bool,
    },
    /// In the place of `Trash`: why it cannot be read.
    TrashUnread(String),
    Recalled(#[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")] Vec<Result<Entry, String>>),
}

/// A content of a `Stage` request that the agent does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Need {
    /// Which of the wanted.
    pub(crate) index: u32,
    /// From where on.
    pub(crate) offset: u64,
    /// What the agent has of a basis.
    pub(crate) basis: Option<Arc<Signature>>,
}

/// What Main has of a basis of one of the files that it asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Basis {
    /// Which of the wanted.
    pub(crate) index: u32,
    pub(crate) signature: Arc<Signature>,
}

// A request may be as long as its list and all signatures that go with it; a list of needs is shorter.
const _: () =
    assert!(LIST_BYTES + MAX_BASES * (Signature::MAX_ENCODED + 16) + 1024 <= super::frame::MAX_MESSAGE);

impl Reply {
    /// For a message about an answer that nobody asked for.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Reply::Welcome(_) => "a welcome",
            Reply::Scanned(_) => "a scan",
            Reply::Tree(_) => "a tree",
            Reply::Owners(_) => "owners",
            Reply::Prepared(_) => "a marker",
            Reply::Need(_) => "a need",
            Reply::Received(_) => "what it received",
            Reply::Sent => "the end of contents",
            Reply::Outcomes(_) => "outcomes",
            Reply::Agreed(_) => "an agreement",
            Reply::Reloaded(_) => "a reload",
            Reply::KeyReplaced(_) => "a key",
            Reply::Trash { .. } | Reply::TrashUnread(_) => "its trash",
            Reply::Recalled(_) => "what lies in its trash",
        }
    }
}

/// Cuts a list into pieces that each fit into a request.
pub(crate) fn batches<T: Weight>(mut items: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let mut weight = 0;
        let fits = |item: &&T| {
            weight += item.weight();
            weight <= LIST_BYTES
        };
        // One item alone always fits: its paths and targets are bounded.
        let count = items.iter().take(MAX_LIST).take_while(fits).count().max(1);
        let (batch, rest) = items.split_at_checked(count)?;
        items = rest;
        Some(batch)
    })
}

/// About how many bytes an item takes in a message; never less.
pub(crate) trait Weight {
    fn weight(&self) -> usize;
}

impl Weight for BlobRequest {
    fn weight(&self) -> usize {
        self.path.as_bytes().len() + 64
    }
}

/// The answer has an entry for each, whose largest is a symlink with the longest target.
impl Weight for RelPathBuf {
    fn weight(&self) -> usize {
        self.as_bytes().len() + LARGEST_ENTRY
    }
}

impl Weight for TrashEntry {
    fn weight(&self) -> usize {
        self.place.path.as_bytes().len() + 64
    }
}

impl Weight for Owner {
    fn weight(&self) -> usize {
        self.user().map_or(0, str::len) + self.group().map_or(0, str::len) + 24
    }
}

impl Weight for Action {
    fn weight(&self) -> usize {
        let step = match &self.step {
            Step::Put(entry) | Step::SetMeta(entry) => entry.weight(),
            Step::Move { from, from_expected, entry } => {
                from.as_bytes().len() + from_expected.weight() + entry.weight()
            }
            Step::Delete => 0,
        };
        self.path.as_bytes().len() + self.expected.as_ref().map_or(0, Weight::weight) + step + 16
    }
}

impl Weight for Entry {
    fn weight(&self) -> usize {
        match self {
            Entry::Dir(meta) => meta.owner.weight() + 8,
            Entry::File(file) => file.meta.owner.weight() + 72,
            // A number of up to two bytes for each, in a sequence of small numbers.
            Entry::Symlink(link) => link.target.len() * 2 + 16,
            Entry::Excluded | Entry::Busy(_) => 4,
            Entry::Problem(crate::model::EntryProblem::Unreadable(why)) => why.len() + 16,
            Entry::Problem(_) => 4,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::frame::{FrameError, Kind, MAX_MESSAGE, decode};
    use super::*;
    use crate::model::{Digest, RelPathBuf};

    fn wanted(path: Vec<u8>) -> BlobRequest {
        BlobRequest {
            path: RelPathBuf::new(path).unwrap(),
            digest: Digest([255; 32]),
            size: u64::MAX,
            offset: u64::MAX,
        }
    }

    #[test]
    fn every_batch_fits_and_none_is_lost() {
        let long = [&b"n".repeat(255)[..], b"/"].concat().repeat(11);
        for (items, at_least) in [
            (vec![], 0),
            (vec![wanted(b"a".to_vec())], 1),
            (vec![wanted(b"a".to_vec()); MAX_LIST + 1], 2),
            (vec![wanted([&long[..], b"x"].concat()); 3000], 3),
        ] {
            let parts: Vec<&[BlobRequest]> = batches(&items).collect();
            assert!(parts.len() >= at_least, "{}", parts.len());
            assert_eq!(parts.concat(), items);
            for part in parts {
                assert!(part.len() <= MAX_LIST);
                let encoded = postcard::to_stdvec(&Request::Send {
                    directory: String::new(),
                    wanted: part.to_vec(),
                    bases: vec![],
                });
                assert!(encoded.unwrap().len() <= MAX_MESSAGE / 2);
            }
        }
    }

    #[test]
    fn a_list_beyond_its_limit_is_refused() {
        let outcomes = vec![Outcome::Done; MAX_LIST + 1];
        let payload = postcard::to_stdvec(&Reply::Outcomes(outcomes)).unwrap();
        assert!(matches!(decode::<Reply>(Kind::Reply, &payload), Err(FrameError::Broken(_))));
        let payload = postcard::to_stdvec(&Reply::Outcomes(vec![Outcome::Done; MAX_LIST])).unwrap();
        assert!(decode::<Reply>(Kind::Reply, &payload).is_ok());
    }

    #[test]
    fn a_path_that_leads_out_is_refused() {
        for path in [&b"../x"[..], b"/etc/passwd", b"a/../../x", b"..", b"", b"a\0b", b".", b"a//b"] {
            // As `Send` encodes: its number, the directory, one item, whose path comes first.
            let mut payload = vec![5, 1, b'd', 1];
            payload.push(u8::try_from(path.len()).unwrap());
            payload.extend_from_slice(path);
            payload.extend_from_slice(&[0; 35]);
            assert!(decode::<Request>(Kind::Request, &payload).is_err(), "{path:?}");
        }
        let mut payload = vec![5, 1, b'd', 1, 1, b'a'];
        payload.extend_from_slice(&[0; 35]);
        assert!(decode::<Request>(Kind::Request, &payload).is_ok());
    }
}
