//! Files of the administrator's that commands write.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// There was none.
    Made,
    /// There was another one.
    Replaced,
    /// It was there already.
    Kept,
}

/// Puts a text that anybody may read at `path`, in one step: nobody ever reads half of it.
pub fn install(path: &Path, text: &str) -> anyhow::Result<Installed> {
    let before = match fs::read(path) {
        Ok(before) => Some(before),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    if before.as_deref() == Some(text.as_bytes()) {
        return Ok(Installed::Kept);
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    // cron and the configuration pass over names that begin with a dot.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = dir.join(format!(".{name}.new"));
    let write = || {
        fs::write(&new, text)?;
        // cron refuses what others can write.
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("writing {}", path.display()))?;
    Ok(if before.is_some() { Installed::Replaced } else { Installed::Made })
}
