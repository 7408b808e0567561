//! How many threads work on a root at a time.

use std::num::NonZero;
use std::thread;

/// One for each processor, and no more than `most`: beyond some they wait for each other and for the disk.
#[must_use]
pub fn threads(most: usize) -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(most)
}
