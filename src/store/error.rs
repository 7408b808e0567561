//! What goes wrong with a store, as far as a caller does something else for it.

use std::fmt;

/// Why something could not be had from a store, or be put there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// It cannot be reached, or there is none at this place. Later it may be.
    Unreachable(String),
    /// It refuses: credentials, permissions, or what it cannot do.
    Refused(String),
    /// What lies there is not what was signed, not what its name says, or older than what was seen before.
    Tampered(String),
    /// It was written by a newer xds-sync than this one.
    Incompatible(String),
    /// Another Main publishes there: which, and what to say about it.
    Held {
        /// The other Main's name.
        holder: String,
        /// A sentence.
        detail: String,
    },
    /// Something of this host: a file, a key, a program.
    Local(String),
}

impl StoreError {
    /// The sentence.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            StoreError::Unreachable(detail)
            | StoreError::Refused(detail)
            | StoreError::Tampered(detail)
            | StoreError::Incompatible(detail)
            | StoreError::Held { detail, .. }
            | StoreError::Local(detail) => detail,
        }
    }

    /// The same, with what was being done before it.
    #[must_use]
    pub fn while_doing(self, what: &str) -> StoreError {
        let told = |detail: String| format!("{what}: {detail}");
        match self {
            StoreError::Unreachable(detail) => StoreError::Unreachable(told(detail)),
            StoreError::Refused(detail) => StoreError::Refused(told(detail)),
            StoreError::Tampered(detail) => StoreError::Tampered(told(detail)),
            StoreError::Incompatible(detail) => StoreError::Incompatible(told(detail)),
            StoreError::Held { holder, detail } => StoreError::Held { holder, detail: told(detail) },
            StoreError::Local(detail) => StoreError::Local(told(detail)),
        }
    }

    pub(crate) fn local(error: &anyhow::Error) -> StoreError {
        StoreError::Local(format!("{error:#}"))
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail())
    }
}

impl std::error::Error for StoreError {}
