//! Stage 5: changed paths → a running Asterisk that has loaded them.

mod run;
pub mod select;

pub use run::run;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::RelPathBuf;

/// A reload by its name, and what must show in Asterisk afterwards. Main names it; the node's own
/// `node.toml` says which command that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadRequest {
    /// `dialplan`, `moh`, or another name that the node knows.
    pub name: String,
    /// Per directory that names this reload: its root on the node, and the files Main has in it.
    pub files: Vec<(PathBuf, Vec<RelPathBuf>)>,
    /// A command that has not ended by then is killed, and the reload has failed.
    pub timeout: Duration,
}
