//! How a moment is written. humantime panics at what RFC 3339 has no words for, and a moment may come from a damaged
//! file or from a clock that is wrong.

#![allow(clippy::disallowed_methods)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

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

/// What RFC 3339 names, in UTC; `None`: it is none.
pub(crate) fn read_rfc3339(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}

/// How far `clock` is from `other`, such as `1day 2h ahead of`, in minutes from an hour on.
pub(crate) fn off(clock: SystemTime, other: SystemTime) -> String {
    let (by, which) = match clock.duration_since(other) {
        Ok(by) => (by, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    let unit = if by.as_secs() < 3600 { 1 } else { 60 };
    let by = Duration::from_secs(by.as_secs() / unit * unit);
    format!("{} {which}", humantime::format_duration(by))
}

/// The time zone in which people read and type times. Machines get UTC.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone);

impl Zone {
    /// This one.
    #[must_use]
    pub fn of(zone: TimeZone) -> Zone {
        Zone(zone)
    }

    /// `2026-01-02 04:04:05`, as the clock on the wall shows it there.
    #[must_use]
    pub fn tell(&self, time: SystemTime) -> String {
        match Timestamp::try_from(nameable(time)) {
            Ok(time) => time.to_zoned(self.0.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
            // The last hours of the year 9999.
            Err(_) => rfc3339(time),
        }
    }

    /// What was typed as a day or a time of this zone, or in RFC 3339 with an offset of its own.
    #[must_use]
    pub fn read(&self, typed: &str) -> Option<SystemTime> {
        let absolute = typed.parse::<Timestamp>().ok();
        let local = || typed.parse::<DateTime>().ok()?.to_zoned(self.0.clone()).ok();
        let time = absolute.or_else(|| Some(local()?.timestamp()))?;
        Some(SystemTime::from(time))
    }
}

/// The moment, or the nearest one from 1970 to 9999.
fn nameable(time: SystemTime) -> SystemTime {
    UNIX_EPOCH + time.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
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

    #[test]
    fn people_read_and_type_the_time_of_their_clock() {
        let paris = Zone::of(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap());
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let winter = at(1_767_323_045);
        assert_eq!(paris.tell(winter), "2026-01-02 04:04:05");
        assert_eq!(paris.tell(at(1_782_961_445)), "2026-07-02 05:04:05");
        assert_eq!(paris.tell(UNIX_EPOCH + Duration::from_secs(u64::MAX / 1000)), "9999-12-31T23:59:59Z");
        for (typed, read) in [
            ("2026-01-02 04:04:05", Some(winter)),
            ("2026-01-02T04:04:05", Some(winter)),
            ("2026-01-02T03:04:05Z", Some(winter)),
            ("2026-01-02T05:04:05+02:00", Some(winter)),
            ("2026-01-02 04:04", Some(at(1_767_323_040))),
            ("2026-01-02", Some(at(1_767_308_400))),
            ("2026-13-01", None),
            ("", None),
        ] {
            assert_eq!(paris.read(typed), read, "{typed}");
        }
    }
}
