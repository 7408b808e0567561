//! What the daemon tells of itself: the living part of `xds-sync status`.

use std::io::{self, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::escape::clean;
use crate::report::status_text::Reader;
use crate::report::text::Verbosity;
use crate::report::words;

/// How the daemon is now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Live {
    pub(crate) pid: u32,
    /// When it began.
    pub(crate) since: String,
    /// When the next full run is.
    pub(crate) next_run: Option<String>,
    /// Runs under way.
    pub(crate) running: usize,
    /// Runs that have begun since the configuration was read.
    pub(crate) runs: u64,
    pub(crate) nodes: Vec<LiveNode>,
    /// Directories of which no events come, so that they are looked at regularly.
    pub(crate) polled: Vec<Polled>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LiveNode {
    pub(crate) name: String,
    /// Since when it is connected; `None`: it is not.
    pub(crate) connected_since: Option<String>,
    /// Why it is not.
    pub(crate) error: Option<String>,
    /// How many changes it has not confirmed; `None`: more than are counted.
    pub(crate) queue: Option<usize>,
    /// For how long the oldest of them has waited; `None`: there is none.
    pub(crate) lag_ms: Option<u64>,
    /// When something was last changed on it, or came from it.
    pub(crate) last_change: Option<String>,
}

/// A directory without events.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Polled {
    /// `None`: Main.
    pub(crate) node: Option<String>,
    pub(crate) directory: String,
    pub(crate) why: String,
}

impl Live {
    /// Writes it for an administrator.
    pub(crate) fn write(&self, reader: &Reader<'_>, out: &mut dyn Write) -> io::Result<()> {
        let is_quiet = reader.style.verbosity == Verbosity::Quiet;
        if !is_quiet {
            let Live { pid, since, .. } = self;
            write!(out, "watching since {}, process {pid}", reader.ago(since))?;
            match &self.next_run {
                Some(next) => writeln!(out, "; next full run {}", reader.ago(next))?,
                None => writeln!(out)?,
            }
        }
        let width = self.nodes.iter().map(|node| words::name(&node.name).chars().count()).max().unwrap_or(0);
        for node in &self.nodes {
            if is_quiet && node.connected_since.is_some() {
                continue;
            }
            write!(out, "{:<width$}  ", words::name(&node.name))?;
            match (&node.connected_since, &node.error) {
                (Some(since), _) => write!(out, "connected since {}", reader.ago(since))?,
                (None, Some(error)) => write!(out, "not connected: {}", clean(error))?,
                (None, None) => write!(out, "connecting")?,
            }
            match (node.queue, node.lag_ms) {
                (_, None) => {}
                (Some(0), Some(_)) => {}
                (Some(1), Some(lag)) => write!(out, ", 1 change waiting for {}", waited(lag))?,
                (Some(count), Some(lag)) => write!(out, ", {count} changes waiting for {}", waited(lag))?,
                (None, Some(lag)) => write!(out, ", to be looked at as a whole for {}", waited(lag))?,
            }
            match &node.last_change {
                Some(change) => writeln!(out, ", last change {}", reader.ago(change))?,
                None => writeln!(out)?,
            }
        }
        for Polled { node, directory, why } in self.polled.iter().filter(|_| !is_quiet) {
            let host = node.as_ref().map_or_else(|| "Main".to_owned(), |node| words::name(node));
            writeln!(out, "{} on {host} is looked at regularly: {}", words::name(directory), clean(why))?;
        }
        Ok(())
    }
}

fn waited(milliseconds: u64) -> String {
    words::duration(Duration::from_millis(milliseconds))
}
