//! Small blobs into the stage, by several threads: creating many files takes longer than receiving them.

use std::os::unix::fs::FileExt as _;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

use super::BlobRequest;
use super::blobs::{MANY, MOST_THREADS, create_partial, remove_partial};
use super::durable::Unsynced;
use super::own::OwnDir;
use super::partial::{digest_mismatch, truncated};
use super::read::CHUNK;
use crate::fault::{self, Point, reach};
use crate::threads::threads;

/// Blobs up to this many bytes are held until they are whole; longer ones keep a thread busy by themselves.
pub(super) const SMALL: u64 = CHUNK as u64;
/// Blobs that wait for a thread; with those that are being written, some megabytes.
const QUEUE: usize = 16;

type Job = (usize, Vec<u8>);

/// Threads that write whole blobs.
#[derive(Debug)]
pub(super) struct Writers<'scope> {
    jobs: SyncSender<Job>,
    threads: Vec<ScopedJoinHandle<'scope, Written>>,
}

/// Which blobs one of them has written, and how that went.
type Written = Vec<(usize, Result<(), String>)>;

impl<'scope> Writers<'scope> {
    /// As many as the machine has use for; none where few blobs are small.
    pub(super) fn start(
        scope: &'scope Scope<'scope, '_>,
        own: &'scope OwnDir,
        requests: &'scope [BlobRequest],
        unsynced: &Arc<Unsynced>,
    ) -> Option<Writers<'scope>> {
        requests.iter().filter(|request| request.size <= SMALL).nth(MANY)?;
        let (jobs, queue) = sync_channel(QUEUE);
        // Only the threads hold the receiver: when all of them have ended, `send` fails instead of waiting for room.
        let queue = Arc::new(Mutex::new(queue));
        let threads = (0..threads(MOST_THREADS)).map(|_| {
            let (queue, unsynced, thread_init) =
                (Arc::clone(&queue), Arc::clone(unsynced), fault::thread_init());
            scope.spawn(move || {
                thread_init();
                work(&queue, own, requests, &unsynced)
            })
        });
        Some(Writers { threads: threads.collect(), jobs })
    }

    /// Lets one of them write the blob of `requests[index]`.
    pub(super) fn write(&self, index: usize, blob: Vec<u8>) {
        // This fails when all of them have panicked, which `finish` passes on.
        let _ = self.jobs.send((index, blob));
    }

    /// Waits for them; what each has written.
    pub(super) fn finish(self) -> Vec<Written> {
        drop(self.jobs);
        let join = |thread: ScopedJoinHandle<'scope, Written>| match thread.join() {
            Ok(written) => written,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        self.threads.into_iter().map(join).collect()
    }
}

fn work(
    queue: &Mutex<Receiver<Job>>,
    own: &OwnDir,
    requests: &[BlobRequest],
    unsynced: &Unsynced,
) -> Written {
    let mut written = Written::new();
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((index, blob)) = next else { return written };
        let result = write(own, &requests[index], &blob, unsynced);
        written.push((index, result));
        own.progress().fetch_add(1, Ordering::Relaxed);
    }
}

fn write(own: &OwnDir, request: &BlobRequest, blob: &[u8], unsynced: &Unsynced) -> Result<(), String> {
    if blob.len() as u64 != request.size {
        return Err(truncated(blob.len() as u64, request.size));
    }
    if blake3::hash(blob) != request.digest.0 {
        return Err(digest_mismatch());
    }
    let written = create_partial(own.stage(), &request.digest).and_then(|partial| {
        fault::wrote(&partial);
        reach(Point::StageWrite)?;
        partial.write_all_at(blob, 0)?;
        unsynced.add(&partial);
        Ok(())
    });
    written.map_err(|error| {
        // Others may fit into the room that it took.
        remove_partial(own.stage(), &request.digest);
        error.to_string()
    })
}
