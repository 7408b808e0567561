//! The last good answers of discovery, used when a source fails.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Source → its last good answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Answers(pub BTreeMap<String, Answer>);
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    /// When it was given, in RFC 3339.
    pub(crate) at: String,
    /// The nodes in it; never none.
    pub(crate) nodes: Vec<Named>,
}

/// A node as a source names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    pub(crate) name: String,
    /// What ssh connects to.
    pub(crate) address: String,
    /// Whom to log in as, when it says so.
    pub(crate) user: Option<String>,
    /// Directory → its root there, where that differs from Main's.
    pub(crate) paths: BTreeMap<String, PathBuf>,
}
