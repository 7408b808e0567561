//! Requests and their answers.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::bounded::at_most;
use crate::model::{
    Action, Entry, EntryProblem, Meta, Outcome, Owner, RelPathBuf, ReloadOutcome, Step, TrashKeep,
};
use crate::node::endpoint::{Description, KeyChange, PreparedRoot};
use crate::node::error::{Attempt, Refusal};
use crate::reload::ReloadRequest;
use crate::snapshot::{ScanSpec, Scanned};
use crate::transfer::trash::{TrashEntry, TrashId};
use crate::transfer::{BlobRequest, MAX_BASES, Received, Signature};
use crate::watch::Seen;

use super::limits::{MAX_LIST, MAX_MESSAGE, MAX_NAME, MAX_WATCHED};

/// Most bytes of the items of a list in one request, a third of what a message may have.
const LIST_BYTES: usize = MAX_MESSAGE / 3;
/// Most bytes of an entry in an answer: see [`Weight`] of one, and the longest name or target.
const LARGEST_ENTRY: usize = 2 * MAX_NAME + 128;

/// What Main asks. All but `Begin` and `Watch` belong to a run that has begun, and those that name a directory to one that was
/// scanned in it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// A run begins; one that is open ends before.
    Begin {
        run: String,
        dry_run: bool,
    },
    /// The run ends.
    End,
    Scan(ScanSpec),
    /// Answered with `Tree`, one blob, which is its encoding, and `Sent`.
    Tree {
        directory: String,
        /// The signature of a similar tree that Main has, if it has one.
        basis: Option<Arc<Signature>>,
    },
    KnownOwners(#[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")] Vec<Owner>),
    Prepare {
        directory: String,
        trash: TrashKeep,
        /// What a root that is missing is to have.
        root: Option<Meta>,
    },
    /// Answered with `StageCleared`.
    ClearStage(String),
    /// Answered with any number of `Need`, each of which Main follows up with the blobs it names, then
    /// `Received`.
    Stage {
        directory: String,
        #[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")]
        wanted: Vec<BlobRequest>,
    },
    /// Answered with the blobs, then `Sent`.
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
    /// From now on `Changed` tells what happens in these directories. Belongs to no run.
    Watch(#[serde(deserialize_with = "at_most::<MAX_WATCHED, _, _>")] Vec<ScanSpec>),
    /// Belongs to no run.
    Describe(#[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")] Vec<PathBuf>),
}

/// What has changed below roots that the agent watches.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Changed(#[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")] pub(crate) Vec<Seen>);

/// Lines of text for people.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Lines(#[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")] pub(crate) Vec<String>);

/// What the agent answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// To Main's hello: the version that both speak.
    Welcome(u16),
    Begun {
        /// The id of the node's machine, if it has one.
        machine: Option<String>,
        /// Whether the node accepts no changes.
        read_only: bool,
    },
    Ended,
    Scanned(Scanned),
    /// A tree of that many bytes follows.
    Tree(u64),
    Owners(#[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")] Vec<Owner>),
    Prepared(Attempt<PreparedRoot>),
    StageCleared(Attempt<()>),
    Need(#[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")] Vec<Need>),
    Received(#[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")] Received),
    Sent,
    Outcomes(#[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")] Vec<Outcome>),
    Agreed(Attempt<()>),
    Reloaded(ReloadOutcome),
    KeyReplaced(Attempt<Lines>),
    Trash {
        #[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")]
        entries: Vec<TrashEntry>,
        /// Whether `MoreTrash` has any.
        more: bool,
    },
    /// Instead of `Trash`: why it cannot be read.
    TrashUnreadable(Refusal),
    Recalled(#[serde(deserialize_with = "at_most::<MAX_LIST, _, _>")] Vec<Attempt<Entry>>),
    /// For each, why it cannot be watched.
    Watching(#[serde(deserialize_with = "at_most::<MAX_WATCHED, _, _>")] Vec<Attempt<()>>),
    Described(Description),
}

/// A blob of a `Stage` request that the agent does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Need {
    /// The blob's index in the request.
    pub(crate) index: u32,
    /// The first byte that it lacks.
    pub(crate) offset: u64,
    /// The signature of the basis that the agent has, if it has one.
    pub(crate) basis: Option<Arc<Signature>>,
}

/// The signature of a basis that Main has of one of the blobs that it asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Basis {
    /// The blob's index in the request.
    pub(crate) index: u32,
    pub(crate) signature: Arc<Signature>,
}

// A request may be as long as its list and all signatures that go with it; a list of needs is shorter.
const _: () = assert!(LIST_BYTES + MAX_BASES * (Signature::MAX_ENCODED + 16) + 1024 <= MAX_MESSAGE);

impl Reply {
    /// For messages about an unexpected answer.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Reply::Welcome(_) => "a welcome",
            Reply::Described(_) => "a description",
            Reply::Begun { .. } => "the begin of a run",
            Reply::Ended => "the end of a run",
            Reply::Scanned(_) => "a scan",
            Reply::Tree(_) => "a tree",
            Reply::Owners(_) => "owners",
            Reply::Prepared(_) => "a marker",
            Reply::StageCleared(_) => "a cleared stage",
            Reply::Need(_) => "a need",
            Reply::Received(_) => "results of a stage",
            Reply::Sent => "the end of blobs",
            Reply::Outcomes(_) => "outcomes",
            Reply::Agreed(_) => "an agreement",
            Reply::Reloaded(_) => "a reload",
            Reply::KeyReplaced(_) => "a key",
            Reply::Trash { .. } | Reply::TrashUnreadable(_) => "entries of its trash",
            Reply::Recalled(_) => "versions from its trash",
            Reply::Watching(_) => "what it watches",
        }
    }
}

/// Cuts a list into batches that each fit into a request.
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
            Entry::Problem(EntryProblem::Unreadable(why)) => why.len() + 16,
            Entry::Problem(_) => 24,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::frame::{FrameError, Kind, decode};
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
            let mut payload = vec![8, 1, b'd', 1];
            payload.push(u8::try_from(path.len()).unwrap());
            payload.extend_from_slice(path);
            payload.extend_from_slice(&[0; 35]);
            assert!(decode::<Request>(Kind::Request, &payload).is_err(), "{path:?}");
        }
        let mut payload = vec![8, 1, b'd', 1, 1, b'a'];
        payload.extend_from_slice(&[0; 35]);
        assert!(decode::<Request>(Kind::Request, &payload).is_ok());
    }
}
