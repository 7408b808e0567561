//! Work with only so many nodes at once: handshakes and hashing cost CPU that calls need.

use std::sync::{Condvar, Mutex};

use crate::sync::lock;

pub(super) struct Permits {
    free: Mutex<usize>,
    returned: Condvar,
}

/// Gives its permit back when it is dropped.
pub(super) struct Permit<'a>(&'a Permits);

impl Permits {
    pub(super) fn new(count: usize) -> Permits {
        Permits { free: Mutex::new(count), returned: Condvar::new() }
    }

    /// Waits for a free permit.
    pub(super) fn take(&self) -> Permit<'_> {
        let free = lock(&self.free);
        let waited = self.returned.wait_while(free, |free| *free == 0);
        *waited.unwrap_or_else(std::sync::PoisonError::into_inner) -= 1;
        Permit(self)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *lock(&self.0.free) += 1;
        self.0.returned.notify_one();
    }
}
