//! When cron starts a run: five fields, as in crontab(5).

use std::time::SystemTime;

use jiff::Zoned;
use jiff::civil::Date;

use crate::toml::Raw;
use crate::toml::{Converted, text};

/// One of the five.
struct Field {
    name: &'static str,
    least: usize,
    most: usize,
    /// Names of its values, from the least one on.
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
/// Both 0 and 7 are Sunday.
const WEEKDAYS: [&str; 8] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, most: 59, names: &[] },
    Field { name: "hour", least: 0, most: 23, names: &[] },
    Field { name: "day of month", least: 1, most: 31, names: &[] },
    Field { name: "month", least: 1, most: 12, names: &MONTHS },
    Field { name: "day of week", least: 0, most: 7, names: &WEEKDAYS },
];

/// A schedule that cron accepts. cron ignores a whole file for one field that it does not understand: a mistake must
/// be reported here, or no run would ever start. Crates that parse crontabs accept more than Debian's cron does.
pub(super) fn cron(raw: &Raw) -> Converted<String> {
    let text = text(raw)?;
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!(
            "expected five fields as in crontab(5), such as \"*/15 * * * *\", found '{text}'"
        ));
    }
    for (field, text) in FIELDS.iter().zip(&fields) {
        if !text.split(',').all(|item| field.accepts(item)) {
            let Field { name, least, most, .. } = field;
            return Err(format!(
                "expected *, {least}-{most}, a list or */STEP as the {name}, as in crontab(5), found '{text}'"
            ));
        }
    }
    Ok(fields.join(" "))
}

/// The next moment of a schedule that was checked, in the local time that cron goes by; `None`: there is none, as with
/// "0 0 31 2 *".
pub(super) fn next_after(schedule: &str, now: SystemTime) -> Option<SystemTime> {
    let now = Zoned::try_from(now).ok()?;
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = fields.try_into().ok()?;
    let matches = |field: &Field, text: &str, value: i8| {
        usize::try_from(value).is_ok_and(|value| {
            text.split(',')
                .any(|item| field.values(item).is_some_and(|mut values| values.any(|is| is == value)))
        })
    };
    let [minute_field, hour_field, day_field, month_field, weekday_field] = &FIELDS;
    let is_day = |date: Date| {
        let by_day = matches(day_field, days, date.day());
        let weekday = date.weekday().to_sunday_zero_offset();
        let by_weekday = matches(weekday_field, weekdays, weekday)
            || (weekday == 0 && matches(weekday_field, weekdays, 7));
        // As crontab(5) has it: where both are restricted either is enough.
        let is_free = |text: &str| text.starts_with('*');
        let is_it = match is_free(days) || is_free(weekdays) {
            true => by_day && by_weekday,
            false => by_day || by_weekday,
        };
        is_it && matches(month_field, months, date.month())
    };
    let first = now.datetime();
    let mut date = first.date();
    // Every date comes again within so many days, a leap day on a certain weekday as well.
    for _ in 0..40 * 366 {
        if is_day(date) {
            let times = (0..24).flat_map(|hour| (0..60).map(move |minute| (hour, minute)));
            let times = times.filter(|(hour, minute)| {
                matches(hour_field, hours, *hour) && matches(minute_field, minutes, *minute)
            });
            // A time that the clocks leave out is the first one after it.
            let moments = times.filter_map(|(hour, minute)| {
                date.at(hour, minute, 0, 0).to_zoned(now.time_zone().clone()).ok()
            });
            if let Some(next) = moments.into_iter().find(|moment| *moment > now) {
                return Some(SystemTime::from(next.timestamp()));
            }
        }
        date = date.tomorrow().ok()?;
    }
    None
}

impl Field {
    /// Whether an item of a list is `*`, `5`, `mon`, `1-5`, `*/2` or `1-5/2`.
    fn accepts(&self, item: &str) -> bool {
        self.values(item).is_some()
    }

    /// What such an item stands for.
    fn values(&self, item: &str) -> Option<impl Iterator<Item = usize>> {
        let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.least, self.most),
            Some((first, last)) => (self.value(first)?, self.value(last)?),
            // cron takes a step only after a range.
            None if step.is_some() => return None,
            None => (self.value(range)?, self.value(range)?),
        };
        let step = step.map_or(Some(1), number)?;
        let is_fine = first <= last && (1..=self.most).contains(&step);
        is_fine.then(|| (first..=last).step_by(step))
    }

    fn value(&self, text: &str) -> Option<usize> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let value = named.map(|at| at + self.least).or_else(|| number(text))?;
        (self.least..=self.most).contains(&value).then_some(value)
    }
}

/// Digits alone: `parse` would take a sign too.
fn number(text: &str) -> Option<usize> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Converted<String> {
        cron(&Raw::Text(text.to_owned()))
    }

    #[test]
    fn schedules_are_crontabs() {
        for good in [
            "*/15 * * * *",
            "0 3 * * 0",
            "0 3 * * 7",
            "0 3 * * 1-5",
            "0 3 1,15 1-6/2 *",
            "0 3 * * 5-7",
            "0 3 * JAN-mar mon,Wed",
            "0-59/59 23 31 12 */2",
        ] {
            assert_eq!(checked(good).as_deref(), Ok(good));
        }
        assert_eq!(checked(" 0  3\t* * * ").as_deref(), Ok("0 3 * * *"));
    }

    #[test]
    fn the_next_moment_is_that_of_crontab() {
        let at = |text: &str| {
            SystemTime::from(
                text.parse::<jiff::civil::DateTime>()
                    .unwrap()
                    .to_zoned(jiff::tz::TimeZone::system())
                    .unwrap()
                    .timestamp(),
            )
        };
        for (schedule, now, next) in [
            ("*/15 * * * *", "2026-01-02T03:04:05", "2026-01-02T03:15:00"),
            ("*/15 * * * *", "2026-01-02T03:15:00", "2026-01-02T03:30:00"),
            ("0 3 * * *", "2026-01-02T03:00:01", "2026-01-03T03:00:00"),
            ("30 23 31 12 *", "2026-12-31T23:30:00", "2027-12-31T23:30:00"),
            ("0 3 * * sun", "2026-01-02T12:00:00", "2026-01-04T03:00:00"),
            ("0 3 * * 7", "2026-01-02T12:00:00", "2026-01-04T03:00:00"),
            ("0 3 13 * fri", "2026-01-03T12:00:00", "2026-01-09T03:00:00"),
            ("0 3 29 2 *", "2026-01-03T12:00:00", "2028-02-29T03:00:00"),
            ("7,9-11/2 4 * jan-mar 1", "2026-04-01T00:00:00", "2027-01-04T04:07:00"),
        ] {
            assert_eq!(next_after(schedule, at(now)), Some(at(next)), "{schedule} {now}");
        }
        assert_eq!(next_after("0 0 31 2 *", at("2026-01-01T00:00:00")), None);
    }

    #[test]
    fn what_cron_would_not_take_is_refused() {
        for bad in [
            "",
            "* * * *",
            "* * * * * *",
            "@hourly",
            "x * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * 32 * *",
            "* * * 13 *",
            "0 3 * * 8",
            "0 3 * * 5-2",
            "30-10 * * * *",
            "*/0 * * * *",
            "*/99 * * * *",
            "1/5 * * * *",
            "0,, * * * *",
            "0 3 ? * *",
            "0 3 * january *",
            "0 3 * * monday",
            "0 3 * * fri-sun",
            "+5 * * * *",
            "-5 * * * *",
            "5- * * * *",
            "0 3 L * *",
            "* * * * 1#2",
        ] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }
}
