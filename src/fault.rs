//! Fail points: where a test may end or fail a run, or look at it from outside. A release build has none.
//!
//! Every step that changes a disk comes past a [`Point`] *before* it is done, so that a process that ends at a
//! point has done all before it and nothing after. `tests/cluster/points.rs` ends real processes at every
//! one of [`Point::ALL`], and fails when a point is never met; `tests/simulation.rs` does the same by chance.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
#[cfg(debug_assertions)]
use std::sync::OnceLock;

macro_rules! points {
    (
        run { $($(#[$doc:meta])* $point:ident = $name:literal,)* }
        publication { $($(#[$store_doc:meta])* $store_point:ident = $store_name:literal,)* }
    ) => {
        /// A step of which a test may make the last one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Point {
            $($(#[$doc])* $point,)*
            $($(#[$store_doc])* $store_point,)*
        }

        impl Point {
            /// Every point of a run, in the order in which it first meets them.
            pub const ALL: &[Point] = &[$(Point::$point,)*];

            /// Every point of a publication, likewise.
            pub const OF_STORE: &[Point] = &[$(Point::$store_point,)*];

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Point::$point => $name,)*
                    $(Point::$store_point => $store_name,)*
                }
            }
        }
    };
}

points! {
    run {
    /// A hash cache takes the place of the one before.
    CacheRename = "cache.rename",
    /// `.xds-sync`, its stage or its trash is opened, and made where it is missing.
    OwnDir = "own.dir",
    /// A marker is made under another name.
    MarkerWrite = "marker.write",
    /// It goes to disk.
    MarkerSync = "marker.sync",
    /// It takes the place of the one before.
    MarkerRename = "marker.rename",
    /// The directory it is in goes to disk.
    MarkerDirSync = "marker.dir-sync",
    /// A node writes down which Main it obeys.
    BindWrite = "bind.write",
    /// That takes the place of what it wrote before.
    BindRename = "bind.rename",
    /// Something is swept out of the stage.
    SweepRemove = "sweep.remove",
    /// Something old is deleted from the trash for good.
    PruneRemove = "prune.remove",
    /// A partial file is made in the stage.
    StageCreate = "stage.create",
    /// Bytes go into it.
    StageWrite = "stage.write",
    /// All partial files go to disk.
    StageSync = "stage.sync",
    /// A verified partial file gets the name of its digest.
    StageRename = "stage.rename",
    /// The stage itself goes to disk.
    StageDirSync = "stage.dir-sync",
    /// A blob is copied within the stage.
    CopyCreate = "copy.create",
    /// Something is given mode and owner.
    Metadata = "metadata",
    /// It is given its time.
    Mtime = "mtime",
    /// Files that are complete go to disk before they are put in place.
    ReadySync = "ready.sync",
    /// A directory is made in the stage.
    DirCreate = "dir.create",
    /// A symlink is made in the stage.
    LinkCreate = "link.create",
    /// Something takes a name, in the tree or in the trash, that nothing had.
    RenameNew = "rename.new",
    /// What stands at a path and what waits in the trash change places.
    Exchange = "exchange",
    /// They have changed places, and what was replaced has not been looked at.
    Exchanged = "exchanged",
    /// Where a filesystem cannot exchange: the old one gets its second name in the trash.
    TrashLink = "trash.link",
    /// Then the new one is renamed over it.
    RenameOver = "rename.over",
    /// An empty directory is removed.
    DirRemove = "dir.remove",
    /// A directory is made in the trash.
    TrashDir = "trash.dir",
    /// Digests are appended to the index of a run's trash.
    TrashIndex = "trash.index",
    /// All that a commit did goes to disk.
    CommitSync = "commit.sync",
    /// A commit is reported as done.
    CommitTold = "commit.told",
    /// A file of Main's state is made under another name.
    StateWrite = "state.write",
    /// It goes to disk.
    StateSync = "state.sync",
    /// It takes the place of the one before.
    StateRename = "state.rename",
    /// The directory it is in goes to disk.
    StateDirSync = "state.dir-sync",
    /// What a run is about to make of an edge is recorded on Main.
    Intent = "intent",
    /// Both ends are about to note a new base.
    Agree = "agree",
    /// The node has noted it, Main has not.
    Agreed = "agreed",
    /// Main takes what the node has noted for what both have noted.
    Promote = "promote",
    /// An owed reload is about to be asked for.
    Reload = "reload",
    /// It has succeeded, and that is not on record.
    Reloaded = "reloaded",
    /// All nodes are done, and the ledger is not on disk.
    Ledger = "ledger",
    }
    publication {
    /// A part of a file is about to be put into the store.
    StorePart = "store.part",
    /// A tree is.
    StoreTree = "store.tree",
    /// A group of nodes is.
    StoreNodes = "store.nodes",
    /// A head is: the publication itself.
    StoreHead = "store.head",
    /// A sign of life is, which names the newest head.
    StoreAlive = "store.alive",
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a test does at points.
pub trait Watch: Send + Sync {
    /// The step at this point comes next. An error is what the step ends with instead; not to return is the
    /// end of the process, as far as that thread is concerned.
    fn reach(&self, point: Point) -> io::Result<()>;

    /// This file's content was changed: a power cut may undo that.
    fn wrote(&self, _: BorrowedFd<'_>) {}

    /// It is on disk; without a file, all of the filesystem is.
    fn synced(&self, _: Option<BorrowedFd<'_>>) {}

    /// What a thread does first that this one starts.
    fn thread_init(&self) -> Box<dyn FnOnce() + Send> {
        Box::new(|| {})
    }
}

#[cfg(debug_assertions)]
static WATCH: OnceLock<Box<dyn Watch>> = OnceLock::new();

/// Lets `watch` see every point of this process from now on; the first one that is installed stays.
#[cfg(debug_assertions)]
pub fn install(watch: Box<dyn Watch>) {
    let _ = WATCH.set(watch);
}

/// The step after this one may be made the last, or fail.
#[cfg(debug_assertions)]
pub(crate) fn reach(point: Point) -> io::Result<()> {
    WATCH.get().map_or(Ok(()), |watch| watch.reach(point))
}

/// See [`Watch::wrote`].
#[cfg(debug_assertions)]
pub(crate) fn wrote(file: impl AsFd) {
    WATCH.get().into_iter().for_each(|watch| watch.wrote(file.as_fd()));
}

/// See [`Watch::synced`].
#[cfg(debug_assertions)]
pub(crate) fn synced(file: Option<BorrowedFd<'_>>) {
    WATCH.get().into_iter().for_each(|watch| watch.synced(file));
}

/// See [`Watch::thread_init`].
#[cfg(debug_assertions)]
pub(crate) fn thread_init() -> Box<dyn FnOnce() + Send> {
    WATCH.get().map_or_else(|| Box::new(|| {}) as _, |watch| watch.thread_init())
}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn thread_init() -> impl FnOnce() + Send {
    || {}
}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn wrote(_: impl AsFd) {}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn synced(_: Option<BorrowedFd<'_>>) {}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn reach(_: Point) -> io::Result<()> {
    Ok(())
}
