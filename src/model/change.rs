//! What a run changes on an edge, and why: the lines of a report, before and after they are put into words.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::entry::{Busy, Entry, EntryProblem};
use super::path::RelPathBuf;
use super::words::words;

/// One end of an edge; of a change, the end whose copy it alters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Side {
    Node,
    Main,
}

words!(Side {
    Node => "node",
    Main => "main",
});

impl Side {
    #[must_use]
    pub fn other(self) -> Side {
        match self {
            Side::Main => Side::Node,
            Side::Node => Side::Main,
        }
    }
}

/// The `action` of a change in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum ChangeKind {
    /// It was not there.
    Create,
    /// Its content changes.
    Update,
    /// It goes to the trash.
    Delete,
    /// Mode, owner or mtime alone.
    Metadata,
    /// It moves; the reason names where from.
    Rename,
    /// A node's own edit of a pushed file: overwritten, or kept after Main deleted its own.
    Drift,
    /// Several ends changed it differently.
    Conflict,
    /// Held back for now: it is being written.
    Hold,
    /// Not carried.
    Skip,
}

words!(ChangeKind {
    Create => "create",
    Update => "update",
    Delete => "delete",
    Metadata => "metadata",
    Rename => "rename",
    Drift => "drift",
    Conflict => "conflict",
    Hold => "hold",
    Skip => "skip",
});

impl ChangeKind {
    /// Whether something is changed by it; what is held back or skipped stays as it is.
    #[must_use]
    pub fn is_difference(self) -> bool {
        !matches!(self, ChangeKind::Hold | ChangeKind::Skip)
    }

    /// Whether it leaves something for another run, or for a decision.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, ChangeKind::Hold | ChangeKind::Conflict | ChangeKind::Skip)
    }
}

/// What a change of metadata is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub time: bool,
    pub mode: bool,
    pub owner: bool,
}

impl Attributes {
    /// Those in which two entries of the same content differ. What one of them leaves open is no difference, and neither
    /// are the times of directories.
    #[must_use]
    pub fn of(before: &Entry, after: &Entry) -> Attributes {
        let differs = |a: Option<&str>, b: Option<&str>| b.is_some() && a != b;
        let (mode, owner) = match (before.meta(), after.meta()) {
            (Some(a), Some(b)) => (
                a.mode != b.mode,
                differs(a.owner.user(), b.owner.user()) || differs(a.owner.group(), b.owner.group()),
            ),
            _ => (false, false),
        };
        let time = match (before.as_file(), after.as_file()) {
            (Some(a), Some(b)) => a.mtime != b.mtime,
            _ => false,
        };
        Attributes { time, mode, owner }
    }
}

/// A host, as reasons name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostName {
    Main,
    Node(String),
}

/// Why a change is made, or why a path is left alone. `report::words` puts it into words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Main has a file or link above it.
    MakesWayForMains,
    /// A file or link won over the directory that it is in.
    MakesWayForFile,
    /// The node lost a pushed file.
    LostOnNode,
    /// Only the node has it, and the directory is mirrored.
    NotOnMain,
    /// The node's version of a pushed file is overwritten.
    ChangedOnNode,
    /// What the node has in the place of a pushed file is of a kind that is not carried.
    ReplacesProblem(EntryProblem),
    /// Main deleted a pushed file that the node had changed.
    KeptAsNodesOwn,
    /// One host changed what another one deleted.
    ChangeBeatsDeletion { changed_on: HostName },
    /// One host deleted it, and the directory's policy keeps what others have.
    KeptByPolicy,
    /// Several hosts changed it differently, and this version stays.
    ConflictDecided { winner: HostName },
    /// Several hosts changed it differently, and an administrator decides.
    ConflictWaits,
    /// A node changed a pushed file, and somebody there decides.
    ConflictWaitsOnNode,
    /// A node changed a pushed file, and its version stays there.
    NodesStays,
    /// Mode, owner or time alone.
    Attributes(Attributes),
    /// It was at this path before.
    MovedFrom(RelPathBuf),
    /// It came out of the trash of a host, or from where it stood there.
    Restored { id: Option<String>, host: String },
    /// Being written, on the end that the change would come from.
    Busy(Busy),
    /// Being written on the node, where a push would overwrite it.
    BusyOnNode(Busy),
    /// Its node has more that is new than the `max` paths that a run takes from one.
    TooManyAtOnce { max: usize },
    /// It was no longer what the scan saw when its turn came.
    ChangedDuringRun,
    /// It cannot be read, or is of a kind that is not carried.
    Problem(EntryProblem),
    /// The node has a directory in the place of a pushed file, with something in it that must not be touched.
    NodeDirectoryInTheWay { kept: RelPathBuf },
    /// A file won over a directory, which has something in it that must not be touched.
    DirectoryInTheWay { kept: RelPathBuf },
}

/// What happens to one path of one edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub path: RelPathBuf,
    /// Whose copy.
    pub to: Side,
    pub kind: ChangeKind,
    /// The file's size in bytes, 0 for all else.
    pub bytes: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Why, where that does not go without saying.
    pub reason: Option<Reason>,
}

/// A change that actions stand behind: it has happened when they are confirmed, and not before.
///
/// All of them are actions on the host that `change.to` names. Every action of a host belongs to exactly one planned
/// change, and the change's path is the action's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedChange {
    pub change: Change,
    /// Index of the action that makes the change.
    pub action: usize,
    /// Index of the action before it that removes what stands there, where that is of another type.
    pub clearing: Option<usize>,
}

impl PlannedChange {
    /// Its actions, in the order in which they are done.
    pub fn actions(&self) -> impl Iterator<Item = usize> {
        self.clearing.into_iter().chain([self.action])
    }
}

/// A path that is left alone on both ends, because of what one of them has there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockedPath {
    pub path: RelPathBuf,
    /// The end that has it.
    pub side: Side,
    pub reason: Reason,
}

/// One change of one edge in words, as reports and the history have it. Its texts are shared with others: a large run has
/// hundreds of thousands of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeChange {
    pub directory: Arc<str>,
    /// The node that got it, or that it came from.
    pub node: Arc<str>,
    pub to: Side,
    #[serde(rename = "action")]
    pub kind: ChangeKind,
    pub path: RelPathBuf,
    /// The file's size in bytes, 0 for all else.
    pub bytes: u64,
    pub reason: Option<Arc<str>>,
    /// Whether it is a directory. Not part of a run's JSON.
    #[serde(skip)]
    pub is_dir: bool,
    /// Names what stood there before, in the trash of the host whose copy changed. Not part of a run's JSON.
    #[serde(skip)]
    pub id: Option<Arc<str>>,
}
