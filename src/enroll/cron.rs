//! The cron job of a Main.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;

/// Where Debian's cron looks. XiVO's own script has its job under the same name, so there is never a second.
pub const PATH: &str = "/etc/cron.d/xivo-xds-sync";
const TEMPLATE: &str = include_str!("../../cron.d/xivo-xds-sync");

/// What became of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// There was none.
    Made,
    /// There was another one.
    Replaced,
    /// It was there already.
    Kept,
}

/// The job's file: runs at `schedule` (five fields, checked by the configuration), with `config` where
/// that is not the usual place.
#[must_use]
pub fn job(schedule: &str, config: Option<&Path>) -> String {
    let options = config.map(|path| {
        // In a crontab, `%` ends the command unless a backslash stands before it, quoted or not.
        let quoted = path.to_string_lossy().replace('\'', r"'\''").replace('%', r"\%");
        format!(" --config '{quoted}'")
    });
    TEMPLATE.replace("@SCHEDULE@", schedule).replace("@OPTIONS@", &options.unwrap_or_default())
}

/// Puts the job at `path`, in one step: cron never reads half of it.
pub fn install(path: &Path, job: &str) -> anyhow::Result<Job> {
    let before = match fs::read(path) {
        Ok(before) => Some(before),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    if before.as_deref() == Some(job.as_bytes()) {
        return Ok(Job::Kept);
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    // cron passes over names with a dot in them.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = dir.join(format!(".{name}.new"));
    let write = || {
        fs::write(&new, job)?;
        // cron refuses a job that others can write.
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("writing {}", path.display()))?;
    Ok(if before.is_some() { Job::Replaced } else { Job::Made })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn last_line(job: &str) -> &str {
        job.lines().last().unwrap()
    }

    #[test]
    fn the_job_has_a_path_a_user_and_the_schedule() {
        let plain = job("*/15 * * * *", None);
        assert!(plain.contains("\nPATH="));
        assert_eq!(
            last_line(&plain),
            "*/15 * * * * root ! command -v xds-sync >/dev/null || xds-sync sync --quiet"
        );
        let other = job("0 3 * * *", Some(Path::new("/srv/it's 5%.toml")));
        assert!(last_line(&other).ends_with(r"sync --quiet --config '/srv/it'\''s 5\%.toml'"), "{other}");
        assert!(!other.contains('@'));
    }

    #[test]
    fn it_is_put_once_and_replaces_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cron.d/xivo-xds-sync");
        assert_eq!(install(&path, "one\n").unwrap(), Job::Made);
        assert_eq!(install(&path, "one\n").unwrap(), Job::Kept);
        assert_eq!(install(&path, "two\n").unwrap(), Job::Replaced);
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left over");
    }
}
