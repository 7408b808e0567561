//! `follow.json` in the state directory: how this node follows, for people and for what watches over hosts.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::durable::{self, Options};

const NAME: &str = "follow.json";

/// How a follower is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It has not had what is published yet, and is at it.
    Starting,
    /// It has what is published.
    Current,
    /// It has not got all of what is published: something failed, was stopped by a guard, or there was no time for it before
    /// the host had to start.
    Degraded,
    /// It does not know whether it has what is published: the store does not answer, or nobody has been there for long.
    Stale,
    /// What lies in the store is not believed, or the store refuses this node.
    Refused,
}

impl State {
    /// The word in `follow.json`, in the status in the store, and for systemd.
    pub(crate) fn word(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Current => "current",
            State::Degraded => "degraded",
            State::Stale => "stale",
            State::Refused => "refused",
        }
    }
}

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// This node's name on Main.
    pub(crate) node: String,
    pub(crate) state: State,
    /// The number of the attempt to get the files, since this service was started.
    pub(crate) attempt: u32,
    /// The publication that this node has, wholly; 0: none.
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    /// When the store was last heard of, in RFC 3339.
    pub(crate) seen: Option<String>,
    /// When Main was last told of this, in RFC 3339.
    pub(crate) told: Option<String>,
    /// The last upload of this node, and the last one that Main has acknowledged: what it has recorded may be deleted here by
    /// a retention of its own once both are the same.
    pub(crate) uploaded: u64,
    pub(crate) taken: u64,
    /// Why it is not current, or what waits for an administrator.
    pub(crate) error: Option<String>,
}

impl Standing {
    /// Whether it says something else than another one of this node, beside when.
    pub(super) fn differs(&self, other: &Standing) -> bool {
        let told = |one: &Standing| (one.state, one.epoch, one.seq, one.uploaded, one.error.clone());
        told(self) != told(other)
    }

    /// Replaces the file. When the store was last heard of may be lost in a power cut; all else is on disk.
    pub(crate) fn save(&self, state_dir: &Path) -> anyhow::Result<()> {
        let path = state_dir.join(NAME);
        let undated = |standing: &Standing| Standing { seen: None, ..standing.clone() };
        let sync = Standing::read(state_dir).is_none_or(|before| undated(&before) != undated(self));
        let mut text = serde_json::to_vec_pretty(self).context("writing follow.json")?;
        text.push(b'\n');
        durable::replace(&path, &text, Options { sync, ..Options::PUBLIC })
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// What was saved last; `None`: nothing that can be read.
    pub(crate) fn read(state_dir: &Path) -> Option<Standing> {
        serde_json::from_slice(&durable::read(&state_dir.join(NAME)).ok()??).ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let standing = Standing {
            node: "mds1".to_owned(),
            state: State::Degraded,
            attempt: 3,
            epoch: 1,
            seq: 41,
            seen: None,
            told: None,
            uploaded: 7,
            taken: 6,
            error: Some("two\nlines".to_owned()),
        };
        assert_eq!(Standing::read(dir.path()), None);
        standing.save(dir.path()).unwrap();
        assert_eq!(Standing::read(dir.path()), Some(standing));
        let text = std::fs::read_to_string(dir.path().join(NAME)).unwrap();
        assert!(text.contains("\"state\": \"degraded\"") && text.contains("\"seq\": 41"), "{text}");
    }
}
