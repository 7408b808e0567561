//! Telling nodes that something was published, beside the hub: over NATS, or by a program of the administrator's.
//!
//! An event is a hint and nothing more: it only says that it is worth looking. One that is lost, late, doubled or forged costs a
//! look at the store.

mod exec;
mod nats;

use std::ops::ControlFlow;
use std::path::PathBuf;

use super::StoreError;

/// Where publications are told: `nats://[USER:PASSWORD@]HOST[:PORT]`, `tls://…`, or `exec:PROGRAM`.
#[derive(Clone, PartialEq, Eq)]
pub struct Events {
    /// `nats://…`, `tls://…` or `exec:PROGRAM`.
    pub url: String,
    /// A file with certificates to trust beside the system's (PEM).
    pub ca: Option<PathBuf>,
}

/// Longest word of a publication that is told.
const MAX_TOLD: usize = 64;

impl Events {
    /// Tells of a publication, by epoch and number.
    pub fn tell(&self, (epoch, seq): (u64, u64)) -> Result<(), StoreError> {
        let publication = format!("{epoch}.{seq}");
        match self.program() {
            Some(program) => exec::tell(program, &publication),
            None => nats::tell(&self.url, self.ca.as_deref(), &publication),
        }
    }

    /// Calls `hint` for each publication that is told, and once when it begins to listen: what was told before may have been
    /// missed. Returns when `hint` breaks off; `Err`: nothing more is heard.
    pub fn listen(&self, hint: &mut dyn FnMut() -> ControlFlow<()>) -> Result<(), StoreError> {
        match self.program() {
            Some(program) => exec::listen(program, hint),
            None => nats::listen(&self.url, self.ca.as_deref(), hint),
        }
    }

    fn program(&self) -> Option<&str> {
        self.url.strip_prefix("exec:")
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its URL may hold a password.
        f.debug_struct("Events").finish_non_exhaustive()
    }
}
