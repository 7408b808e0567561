//! `conf.d/nodes.toml` beside the configuration, which `add`, `remove` and `import` write.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use rustix::fs::{FlockOperation, flock};

use super::super::exit::StepContext as _;
use super::super::{Context, load};
use crate::config::{Mistake, Origin};
use crate::enroll::install::install;

/// Where it is.
pub(super) fn path(context: &Context) -> PathBuf {
    load::config_path(context).with_file_name("conf.d").join("nodes.toml")
}

/// Changes the file, if that leaves a configuration without mistakes; nothing is written otherwise. Returns whether there
/// was anything to change.
pub(super) fn edit(
    context: &Context,
    change: impl FnOnce(&str) -> anyhow::Result<String>,
) -> anyhow::Result<bool> {
    let path = path(context);
    let _lock = lock(&path).with_context(|| format!("locking {}", path.display()))?;
    let old = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let new = change(&old).with_context(|| path.display().to_string())?;
    if new == old {
        return Ok(false);
    }
    // Only a whole configuration tells whether a name or an address is taken elsewhere.
    let mistakes = load::would_be(context, &path, &new)?;
    ensure!(mistakes.is_empty(), "nothing was changed: {}", in_words(&mistakes, &path));
    install(&path, new.as_bytes()).step("write")?;
    Ok(true)
}

/// One command after the other changes the file: the directory of the configuration has the lock. Where there is none, there
/// is nothing to lose.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let dir = path.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    let dir = match File::open(dir) {
        Ok(dir) => dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    flock(&dir, FlockOperation::LockExclusive)?;
    Ok(Some(dir))
}

/// The mistakes in one line. The lines of the file as it would be are nowhere to be seen.
fn in_words(mistakes: &[Mistake], path: &Path) -> String {
    let of = |mistake: &Mistake| match &mistake.origin {
        Origin::File(file, _) if file == path => mistake.message.clone(),
        _ => mistake.to_string(),
    };
    let would_be = format!("{}:", path.display());
    let words: Vec<String> = mistakes.iter().map(of).collect();
    // Another file may be said to repeat what would stand here.
    let plain = |word: &String| match word.split_once(&would_be) {
        Some((before, line)) => {
            format!("{before}{}{}", path.display(), line.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
        None => word.clone(),
    };
    words.iter().map(plain).collect::<Vec<_>>().join("; ")
}

pub(super) fn show_added(context: &Context, what: &str) {
    context.ui.message(&format!("added {what}; 'xds-sync nodes check' tries to reach it"));
}
