//! What stops a directory, or one edge of it, before anything is touched.

use crate::report::Guard;

/// Why a directory, or one edge of it, is left alone in this run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Halt {
    pub(super) guard: Guard,
    /// What the guard saw, and what to do.
    pub(super) detail: String,
    /// What releases exactly this plan; `None` where no token can.
    pub(super) token: Option<String>,
}

impl Halt {
    pub(super) fn new(guard: Guard, detail: String) -> Halt {
        Halt { guard, detail, token: None }
    }
}
