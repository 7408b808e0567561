//! What people name on the command line: paths and times.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};

use crate::model::escape::{escape_for_people, unescape};
use crate::model::{RelPathBuf, Zone, rfc3339, rfc3339_nanos};

/// Reads a path in a directory, typed as it is listed, as it is on disk, or in full below `root`.
pub(super) fn path(typed: &OsStr, root: Option<&Path>) -> anyhow::Result<RelPathBuf> {
    let below = root.and_then(|root| Path::new(typed).strip_prefix(root).ok());
    let bytes = below.map_or(typed, Path::as_os_str).as_bytes();
    let listed = std::str::from_utf8(bytes).ok().and_then(unescape).unwrap_or_else(|| bytes.to_vec());
    let trimmed = listed.strip_suffix(b"/").unwrap_or(&listed);
    let path = RelPathBuf::new(trimmed);
    path.with_context(|| format!("{} is no path in a directory", escape_for_people(typed.as_bytes())))
}

/// Reads a moment, typed as an age such as `2h` or `30d`, or as a time such as `2026-01-02`, which is of `zone` unless it
/// says otherwise.
pub(super) fn moment(typed: &str, now: SystemTime, zone: &Zone) -> anyhow::Result<SystemTime> {
    if let Ok(age) = humantime::parse_duration(typed) {
        // An age that reaches back before 1970 means everything.
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        return Ok(SystemTime::UNIX_EPOCH + since.saturating_sub(age));
    }
    if let Some(time) = zone.read(typed) {
        return Ok(time);
    }
    let typed = escape_for_people(typed.as_bytes());
    bail!(
        "{typed} is neither an age such as 2h or 30d nor a time such as 2026-01-02, '2026-01-02 03:04:05' or 2026-01-02T03:04:05Z"
    )
}

/// Nanoseconds since 1970 as a moment; what is older counts as 1970.
pub(super) fn at(nanoseconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}

/// The same in RFC 3339, in seconds.
pub(super) fn seconds(nanoseconds: i64) -> String {
    rfc3339(at(nanoseconds))
}

/// Nanoseconds since 1970 in RFC 3339, exactly; what is older is shown as 1970.
pub(super) fn nanoseconds(nanoseconds: i64) -> String {
    rfc3339_nanos(at(nanoseconds))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_named_in_any_way_that_it_is_seen() {
        let root = Path::new("/var/lib/xivo/moh");
        for (typed, meant) in [
            (&b"jazz/a.wav"[..], Some(&b"jazz/a.wav"[..])),
            (b"jazz/", Some(b"jazz")),
            (b"two\\x0alines", Some(b"two\nlines")),
            (b"two\nlines", Some(b"two\nlines")),
            (b"back\\slash", Some(b"back\\slash")),
            (b"\xff", Some(b"\xff")),
            (b"/var/lib/xivo/moh/jazz/a.wav", Some(b"jazz/a.wav")),
            (b"/var/lib/xivo/moh", None),
            (b"/etc/passwd", None),
            (b"../x", None),
            (b"a\\x2f..\\x2f..", None),
            (b"", None),
        ] {
            let path = path(OsStr::from_bytes(typed), Some(root)).ok();
            assert_eq!(path.as_ref().map(|path| path.as_bytes()), meant, "{typed:?}");
        }
    }

    #[test]
    fn a_moment_is_an_age_or_a_time() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045);
        let zone = Zone::of(jiff::tz::TimeZone::UTC);
        for (typed, read) in [
            ("2h", Some("2026-01-02T01:04:05Z")),
            ("1d 4s", Some("2026-01-01T03:04:01Z")),
            ("2026-01-01", Some("2026-01-01T00:00:00Z")),
            ("2026-01-01T02:03:04Z", Some("2026-01-01T02:03:04Z")),
            ("2026-01-01 02:03:04", Some("2026-01-01T02:03:04Z")),
            ("9999 years", Some("1970-01-01T00:00:00Z")),
            ("yesterday", None),
            ("", None),
            ("2026-13-01", None),
        ] {
            let moment = moment(typed, now, &zone).ok().map(rfc3339);
            assert_eq!(moment.as_deref(), read, "{typed}");
        }
    }
}
