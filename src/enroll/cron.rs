//! The cron job of a Main.

use std::path::Path;

/// In the directory of Debian's cron, under the name that XiVO's own script uses: there is never a second job.
pub(crate) const PATH: &str = "/etc/cron.d/xivo-xds-sync";
/// When runs start beside the service.
pub(crate) const HOURLY: &str = "17 * * * *";
const TEMPLATE: &str = include_str!("../../cron.d/xivo-xds-sync");

/// The job's file: runs at `schedule` (five fields, checked by the configuration), with `config` where
/// that is not the usual place.
#[must_use]
pub(crate) fn job(schedule: &str, config: Option<&Path>) -> String {
    let options = config.map(|path| {
        // In a crontab, `%` ends the command unless a backslash stands before it, quoted or not.
        let quoted = path.to_string_lossy().replace('\'', r"'\''").replace('%', r"\%");
        format!(" --config '{quoted}'")
    });
    TEMPLATE.replace("@SCHEDULE@", schedule).replace("@OPTIONS@", &options.unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::durable::tests::{assert_durable, recorded};
    use crate::enroll::install::{Installed, install};

    fn last_line(job: &str) -> &str {
        job.lines().last().unwrap()
    }

    #[test]
    fn the_job_has_a_path_a_user_and_the_schedule() {
        let plain = job("*/15 * * * *", None);
        assert!(plain.contains("\nPATH="));
        assert_eq!(
            last_line(&plain),
            "*/15 * * * * root ! command -v xds-sync >/dev/null || nice -n 10 ionice -c 2 -n 7 xds-sync sync --quiet --cron"
        );
        let other = job("0 3 * * *", Some(Path::new("/srv/it's 5%.toml")));
        assert!(
            last_line(&other).ends_with(r"sync --quiet --cron --config '/srv/it'\''s 5\%.toml'"),
            "{other}"
        );
        assert!(!other.contains('@'));
    }

    /// An empty file after a power cut would mean that no run ever starts again.
    #[test]
    fn it_is_on_disk_before_it_takes_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("xivo-xds-sync");
        for text in ["one\n", "two\n"] {
            let events = recorded(|| assert!(install(&path, text.as_bytes()).is_ok()));
            assert_durable(&path, &events);
        }
    }

    #[test]
    fn it_is_put_once_and_replaces_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cron.d/xivo-xds-sync");
        assert_eq!(install(&path, b"one\n").unwrap(), Installed::Made);
        assert_eq!(install(&path, b"one\n").unwrap(), Installed::Kept);
        assert_eq!(install(&path, b"two\n").unwrap(), Installed::Replaced);
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left over");
    }
}
