//! Small contents into the stage, by several threads: making many files takes longer than the wire does.

use std::os::unix::fs::FileExt as _;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

use super::BlobRequest;
use super::blobs::{create_partial, remove_partial};
use super::durable::Unsynced;
use super::own::OwnDir;
use super::partial::{digest_mismatch, truncated};
use super::source::CHUNK;
use crate::fault::{self, Point, reach};
use crate::threads::threads;

/// Contents up to this long are held until they are whole; longer ones keep a thread busy by themselves.
pub(super) const SMALL: u64 = CHUNK as u64;
/// Fewer small contents than this are not worth a thread.
const MANY: usize = 32;
/// More threads than this only wait for each other in the kernel.
const MOST_THREADS: usize = 4;
/// Contents that wait for a thread: with those at work, some megabytes.
const QUEUE: usize = 16;

/// How many threads that many small files are worth.
pub(super) fn threads_for(files: usize) -> usize {
    if files > MANY { threads(MOST_THREADS) } else { 1 }
}

type Job = (usize, Vec<u8>);

/// Threads that write whole contents.
#[derive(Debug)]
pub(super) struct Writers<'scope> {
    jobs: SyncSender<Job>,
    threads: Vec<ScopedJoinHandle<'scope, Written>>,
}

/// Which contents one of them has written, and how it went.
type Written = Vec<(usize, Result<(), String>)>;

impl<'scope> Writers<'scope> {
    /// As many as the machine has use for; none where few contents are small.
    pub(super) fn start(
        scope: &'scope Scope<'scope, '_>,
        own: &'scope OwnDir,
        wanted: &'scope [BlobRequest],
        unsynced: &Arc<Unsynced>,
    ) -> Option<Writers<'scope>> {
        wanted.iter().filter(|wanted| wanted.size <= SMALL).nth(MANY)?;
        let (jobs, queue) = sync_channel(QUEUE);
        // Theirs alone: when all of them have ended, nobody waits for room in it.
        let queue = Arc::new(Mutex::new(queue));
        let threads = (0..threads(MOST_THREADS)).map(|_| {
            let (queue, unsynced, thread_init) =
                (Arc::clone(&queue), Arc::clone(unsynced), fault::thread_init());
            scope.spawn(move || {
                thread_init();
                work(&queue, own, wanted, &unsynced)
            })
        });
        Some(Writers { threads: threads.collect(), jobs })
    }

    /// Lets one of them write the content of `wanted[index]`.
    pub(super) fn write(&self, index: usize, content: Vec<u8>) {
        // Where nobody takes it, they have all panicked: `finish` passes that on.
        let _ = self.jobs.send((index, content));
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

fn work(queue: &Mutex<Receiver<Job>>, own: &OwnDir, wanted: &[BlobRequest], unsynced: &Unsynced) -> Written {
    let mut written = Written::new();
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((index, content)) = next else { return written };
        let result = write(own, &wanted[index], &content, unsynced);
        written.push((index, result));
        own.progress().fetch_add(1, Ordering::Relaxed);
    }
}

fn write(own: &OwnDir, wanted: &BlobRequest, content: &[u8], unsynced: &Unsynced) -> Result<(), String> {
    if content.len() as u64 != wanted.size {
        return Err(truncated(content.len() as u64, wanted.size));
    }
    if blake3::hash(content) != wanted.digest.0 {
        return Err(digest_mismatch());
    }
    let written = create_partial(own.stage(), &wanted.digest).and_then(|partial| {
        fault::wrote(&partial);
        reach(Point::StageWrite)?;
        partial.write_all_at(content, 0)?;
        unsynced.add(&partial);
        Ok(())
    });
    written.map_err(|error| {
        // Others may fit into the room that it took.
        remove_partial(own.stage(), &wanted.digest);
        error.to_string()
    })
}
