//! What the looks at Asterisk after a reload have in common.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use super::command::{Answer, Keep};

/// What a look at Asterisk tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// All that should show. Perhaps with something to warn of.
    All(Option<String>),
    /// Not all, though it will not get better by itself.
    Missing(String),
    /// Not all, and another reload may have been in the way.
    NotYet(String),
}

/// Asks Asterisk on its command line.
pub(super) type Ask<'a> = dyn FnMut(&str, Keep) -> Result<Answer, String> + 'a;

/// Names in a message; the others are counted.
const NAMED: usize = 5;
/// Most of a configuration file that is read; people write some kilobytes.
const MAX_FILE: u64 = 64 << 20;

/// The content of a regular file; nothing when there is none.
pub(super) fn read(path: &Path) -> Vec<u8> {
    let mut content = Vec::new();
    // A name here can be anything by now, also a FIFO that nobody writes to.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    if let Ok(file) = file
        && file.metadata().is_ok_and(|metadata| metadata.is_file())
    {
        // What could be read before an error counts.
        let _ = file.take(MAX_FILE).read_to_end(&mut content);
    }
    content
}

/// The first names, and how many more there are.
pub(super) fn listed(mut names: impl ExactSizeIterator<Item = String>) -> String {
    let mut text = names.by_ref().take(NAMED).collect::<Vec<_>>().join(", ");
    if names.len() > 0 {
        text.push_str(&format!(" and {} more", names.len()));
    }
    text
}
