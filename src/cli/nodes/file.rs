//! `conf.d/nodes.toml` beside the configuration, which `add`, `remove` and `import` write.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::super::exit::Step as _;
use super::super::{Context, load};
use crate::enroll::install::install;

/// Where it is.
pub(super) fn path(context: &Context) -> PathBuf {
    load::config_path(context).with_file_name("conf.d").join("nodes.toml")
}

/// Changes the file, if that leaves a configuration without mistakes. Returns whether there was anything to change.
pub(super) fn edit(
    context: &Context,
    change: impl FnOnce(&str) -> anyhow::Result<String>,
) -> anyhow::Result<bool> {
    let path = path(context);
    let before = match fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let old = before.as_deref().unwrap_or_default();
    let new = change(old).with_context(|| path.display().to_string())?;
    if new == old {
        return Ok(false);
    }
    install(&path, new.as_bytes()).step("write")?;
    // Only a whole configuration tells whether a name or an address is taken elsewhere.
    let Err(mistakes) = load::config(context) else { return Ok(true) };
    put_back(&path, before.as_deref()).step("put back")?;
    Err(mistakes)
}

fn put_back(path: &Path, before: Option<&str>) -> anyhow::Result<()> {
    match before {
        Some(before) => install(path, before.as_bytes()).map(drop),
        None => fs::remove_file(path).with_context(|| format!("removing {}", path.display())),
    }
}

pub(super) fn show_added(context: &Context, what: &str) {
    context.ui.message(&format!("added {what}; 'xds-sync nodes check' tries to reach it"));
}
