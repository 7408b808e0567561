//! `.xds-sync/root.json`: which root this is.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::{HeldRoot, OWN_DIR};
use crate::durable::{self, Options, Points};
use crate::fault::Point;

/// The content of a root's marker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// A ULID that identifies this root for ever.
    pub id: String,
    /// On a node: the base that Main and this root last agreed on.
    #[serde(default)]
    pub generation: Option<String>,
}

const NAME: &str = "root.json";
/// A marker is some hundred bytes; one beyond this is not ours.
const MAX_SIZE: u64 = 64 * 1024;
const POINTS: Points = Points {
    write: Some(Point::MarkerWrite),
    sync: Some(Point::MarkerSync),
    rename: Some(Point::MarkerRename),
    dir_sync: Some(Point::MarkerDirSync),
};

impl Marker {
    /// Reads a root's marker; `None` when there is none.
    pub fn read(root: &HeldRoot) -> io::Result<Option<Marker>> {
        let own = match root.open_own(OWN_DIR) {
            Ok(own) => own,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // Who may write in the root could make one that names another root.
        root.is_to_be_taken_back(&own)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(&own, NAME, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut text = String::new();
        file.take(MAX_SIZE).read_to_string(&mut text)?;
        serde_json::from_str(&text).map(Some).map_err(io::Error::from)
    }

    /// Replaces the marker, durably and in one step; makes `.xds-sync` (0700) when it is missing.
    pub fn write(&self, root: &HeldRoot) -> io::Result<()> {
        match rustix::fs::mkdirat(root, OWN_DIR, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let own = root.open_own(OWN_DIR)?;
        let options = Options { any_mode: true, points: POINTS, ..Options::PRIVATE };
        durable::replace_at(own.as_fd(), NAME.as_ref(), &serde_json::to_vec(self)?, options)?;
        // `.xds-sync` itself may be new.
        rustix::fs::fsync(root)?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let root = HeldRoot::open(dir.path()).unwrap();
        assert_eq!(Marker::read(&root).unwrap(), None);
        for generation in [None, Some("01G".to_owned())] {
            let marker = Marker { id: "01R".to_owned(), generation };
            marker.write(&root).unwrap();
            assert_eq!(Marker::read(&root).unwrap().as_ref(), Some(&marker));
            // On the wire, fields have no names.
            let bytes = postcard::to_stdvec(&marker).unwrap();
            assert_eq!(postcard::from_bytes::<Marker>(&bytes), Ok(marker));
        }
    }

    /// Main halts at another id, and merges without a base at another generation or none: either deletes nothing.
    #[test]
    fn no_damage_makes_it_the_marker_of_an_agreed_base() {
        let dir = tempfile::tempdir().unwrap();
        let root = HeldRoot::open(dir.path()).unwrap();
        let good = Marker { id: "01R".to_owned(), generation: Some("01G".to_owned()) };
        good.write(&root).unwrap();
        let file = dir.path().join(OWN_DIR).join(NAME);
        let bytes = std::fs::read(&file).unwrap();
        let mut damaged: Vec<Vec<u8>> = (0..bytes.len()).map(|at| bytes[..at].to_vec()).collect();
        damaged.extend((0..bytes.len() * 8).map(|bit| {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            flipped
        }));
        for damaged in damaged {
            std::fs::write(&file, &damaged).unwrap();
            if let Ok(read) = Marker::read(&root) {
                let read = read.unwrap();
                assert_ne!(read, good, "{}", String::from_utf8_lossy(&damaged));
            }
        }
    }

    #[test]
    fn a_broken_marker_is_an_error_not_an_absence() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(OWN_DIR)).unwrap();
        std::fs::write(dir.path().join(OWN_DIR).join(NAME), "{").unwrap();
        assert!(Marker::read(&HeldRoot::open(dir.path()).unwrap()).is_err());
    }
}
