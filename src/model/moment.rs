//! How a moment is written. humantime panics at what RFC 3339 has no words for, and a moment may come from a damaged
//! file or from a clock that is wrong.

#![allow(clippy::disallowed_methods)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last moment that RFC 3339 can name.
const LAST: Duration = Duration::new(253_402_300_799, 999_999_999);

/// In whole seconds.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(nameable(time)).to_string()
}

/// Exactly.
pub(crate) fn rfc3339_nanos(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(nameable(time)).to_string()
}

/// The moment, or the nearest one from 1970 to 9999.
fn nameable(time: SystemTime) -> SystemTime {
    UNIX_EPOCH + time.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_has_a_name() {
        let years = Duration::from_secs(u64::MAX / 1000);
        for (time, name) in [
            (UNIX_EPOCH + Duration::from_millis(1_767_323_045_678), "2026-01-02T03:04:05Z"),
            (UNIX_EPOCH - Duration::from_nanos(1), "1970-01-01T00:00:00Z"),
            (UNIX_EPOCH - years / 10, "1970-01-01T00:00:00Z"),
            (UNIX_EPOCH + Duration::from_millis(900_000_000_000_000_000), "9999-12-31T23:59:59Z"),
            (UNIX_EPOCH + years, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(time), name);
        }
        assert_eq!(rfc3339_nanos(UNIX_EPOCH + years), "9999-12-31T23:59:59.999999999Z");
    }
}
