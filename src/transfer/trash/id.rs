//! The names of versions in a trash.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::MOST_VERSIONS;

/// Names a version among those of its path in one host's trash: the run that put it there, and which of
/// that run's versions it is. As text `RUN-VERSION`.
///
/// Names a directory of the trash and nothing else, for every value by construction: a peer's as well.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrashId {
    run: String,
    version: u32,
}

/// The text is no [`TrashId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadTrashId;

impl fmt::Display for BadTrashId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "not the id of a version: such as 01KDYC00000000000000000000-0, as 'xds-sync history' tells it",
        )
    }
}

impl std::error::Error for BadTrashId {}

impl TrashId {
    /// The version with this number of what `run` put into the trash.
    pub fn new(run: &str, version: u32) -> Result<TrashId, BadTrashId> {
        if run_time(run).is_none() || version >= MOST_VERSIONS {
            return Err(BadTrashId);
        }
        Ok(TrashId { run: run.to_owned(), version })
    }

    /// The run that put it there; a ULID.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Which of that run's versions of its path.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// When that run started, in milliseconds since 1970.
    #[must_use]
    pub fn started_ms(&self) -> u64 {
        run_time(&self.run).unwrap_or(0)
    }

    /// Its directory below the trash.
    pub(super) fn dir(&self) -> String {
        format!("{}/{}", self.run, self.version)
    }
}

impl fmt::Display for TrashId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.run, self.version)
    }
}

impl FromStr for TrashId {
    type Err = BadTrashId;

    fn from_str(text: &str) -> Result<TrashId, BadTrashId> {
        let (run, number) = text.split_once('-').ok_or(BadTrashId)?;
        let version: u32 = number.parse().map_err(|_| BadTrashId)?;
        // Not `+1` nor `01`: a version has one name.
        if version.to_string() != number {
            return Err(BadTrashId);
        }
        TrashId::new(run, version)
    }
}

impl TryFrom<String> for TrashId {
    type Error = BadTrashId;

    fn try_from(text: String) -> Result<TrashId, BadTrashId> {
        text.parse()
    }
}

impl From<TrashId> for String {
    fn from(id: TrashId) -> String {
        id.to_string()
    }
}

/// The milliseconds since 1970 at which a run started, if this is a run's name.
pub(super) fn run_time(name: &str) -> Option<u64> {
    let ulid = Ulid::from_string(name).ok()?;
    (ulid.to_string() == name).then(|| ulid.timestamp_ms())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_written_and_nothing_else_is_one() {
        let id = TrashId::new("01KQ0000000000000000000000", 12).unwrap();
        assert_eq!(id.to_string(), "01KQ0000000000000000000000-12");
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in [
            "",
            "-",
            "01KQ0000000000000000000000",
            "01KQ0000000000000000000000-",
            "01KQ0000000000000000000000-+1",
            "01KQ0000000000000000000000-01",
            "01KQ0000000000000000000000-1000",
            "01KQ0000000000000000000000-0/..",
            "01kq0000000000000000000000-0",
            "..-0",
            "../../etc-0",
        ] {
            assert_eq!(text.parse::<TrashId>(), Err(BadTrashId), "{text}");
        }
    }
}
