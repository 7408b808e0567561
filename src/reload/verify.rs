//! Whether what was pushed shows in Asterisk.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::asterisk::{Contexts, is_no_extension, moh_directories, moh_entry, moh_files};
use super::command::{Answer, Keep};
use super::{ReloadRequest, contexts};
use crate::model::RelPath;
use crate::model::escape::escape_for_people;

/// What a look at Asterisk tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// All that was pushed. Perhaps with something to warn of.
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
/// Most of a dialplan file that is read; people write some kilobytes.
const MAX_FILE: u64 = 64 << 20;

/// Whether the contexts that pushed files declare show in `dialplan show`.
///
/// That finds files and contexts which Asterisk lost, not a mistake inside of one.
pub(super) fn dialplan(request: &ReloadRequest, ask: &mut Ask<'_>) -> Result<Shown, String> {
    let shown = Contexts::read(&ask("dialplan show", is_no_extension)?.stdout);
    let mut first = None;
    let mut missing = BTreeSet::new();
    for (root, files) in &request.files {
        for file in files.iter().filter(|file| is_included(file)) {
            let declared = contexts::declared(&read(&root.join(OsStr::from_bytes(file.as_bytes()))));
            let lost: Vec<_> = declared.difference(&shown.names).cloned().collect();
            if !lost.is_empty() {
                first.get_or_insert(file);
                missing.extend(lost);
            }
        }
    }
    Ok(match first {
        None => Shown::All(None),
        Some(_) if !shown.complete => Shown::NotYet("Asterisk did not show its whole dialplan".to_owned()),
        // Whatever stops Asterisk stops it for all files that follow.
        Some(first) => Shown::Missing(format!(
            "contexts are missing in Asterisk: {}; look for a mistake in {} or a file before it, and at Asterisk's log",
            listed(missing.iter().map(|name| escape_for_people(name))),
            first.for_people(),
        )),
    })
}

/// Whether `#include DIRECTORY/*` reads this file of the directory.
fn is_included(file: &RelPath) -> bool {
    file.parent().is_none() && !file.name().starts_with(b".")
}

/// The content of a regular file; nothing when there is none: that it did not arrive is told elsewhere.
fn read(path: &Path) -> Vec<u8> {
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

/// Whether pushed files that lie directly in the directory of a loaded class show in `moh show files`.
pub(super) fn moh(request: &ReloadRequest, ask: &mut Ask<'_>) -> Result<Shown, String> {
    let classes = ask("moh show classes", |_| true)?;
    let files = ask("moh show files", |_| true)?;
    // One directory has many names: /var/lib/xivo/moh is a link to /var/lib/asterisk/moh.
    let mut real = RealPaths::default();
    let played: BTreeSet<PathBuf> = moh_directories(&classes.stdout)
        .into_iter()
        .filter_map(|directory| real.of(Path::new(OsStr::from_bytes(directory))))
        .collect();
    let mut shown: BTreeMap<PathBuf, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for file in moh_files(&files.stdout) {
        if let Some(slash) = file.iter().rposition(|&byte| byte == b'/')
            && let Some(directory) = real.of(Path::new(OsStr::from_bytes(&file[..slash])))
        {
            shown.entry(directory).or_default().insert(file[slash + 1..].to_vec());
        }
    }

    let mut missing = Vec::new();
    let mut unplayed = BTreeSet::new();
    for (root, files) in &request.files {
        for file in files {
            let Some(entry) = moh_entry(file.name()) else {
                continue;
            };
            let path = root.join(OsStr::from_bytes(file.as_bytes()));
            let Some(directory) = path.parent().and_then(|parent| real.of(parent)) else {
                continue;
            };
            let is_shown = shown.get(&directory).is_some_and(|entries| entries.contains(entry));
            if is_shown || !path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
                continue;
            }
            if played.contains(&directory) {
                missing.push(file.for_people());
            } else if !shown.contains_key(&directory) {
                unplayed.insert(path.parent().unwrap_or(root).to_owned());
            }
        }
    }
    if !missing.is_empty() {
        return Ok(Shown::NotYet(format!(
            "music on hold is missing in Asterisk: {}; a link to nowhere in a directory keeps Asterisk from reading \
             it: look at its log",
            listed(missing.into_iter()),
        )));
    }
    let unplayed = unplayed.iter().map(|directory| escape_for_people(directory.as_os_str().as_bytes()));
    let warning = (unplayed.len() > 0).then(|| {
        format!("no class of music on hold that Asterisk has loaded plays from {}", listed(unplayed))
    });
    Ok(Shown::All(warning))
}

/// Paths without symlinks, each found once.
#[derive(Default)]
struct RealPaths(BTreeMap<PathBuf, Option<PathBuf>>);

impl RealPaths {
    fn of(&mut self, path: &Path) -> Option<PathBuf> {
        if let Some(known) = self.0.get(path) {
            return known.clone();
        }
        let real = path.canonicalize().ok().filter(|_| path.is_absolute());
        self.0.insert(path.to_owned(), real.clone());
        real
    }
}

/// The first names, and how many more there are.
fn listed(mut names: impl ExactSizeIterator<Item = String>) -> String {
    let mut text = names.by_ref().take(NAMED).collect::<Vec<_>>().join(", ");
    if names.len() > 0 {
        text.push_str(&format!(" and {} more", names.len()));
    }
    text
}
