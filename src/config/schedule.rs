//! When cron starts a run: five fields, as in crontab(5).

use std::str::FromStr as _;

use super::convert::{Converted, text};
use super::raw::Raw;

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

/// A schedule that both cron and the `cron` crate understand. cron ignores a whole file for one field that it
/// does not: what is wrong must be said here, or no run ever starts.
pub(super) fn cron(raw: &Raw) -> Converted<String> {
    let text = text(raw)?;
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields[..] else {
        return Err(format!(
            "expected five fields as in crontab(5), such as \"*/15 * * * *\", found '{text}'"
        ));
    };
    for (field, text) in FIELDS.iter().zip(&fields) {
        if !text.split(',').all(|item| field.values(item).is_some()) {
            let Field { name, least, most, .. } = field;
            return Err(format!(
                "expected *, {least}-{most}, a list or */STEP as the {name}, as in crontab(5), found '{text}'"
            ));
        }
    }
    // The crate's expressions begin with seconds.
    let expression = format!("0 {minute} {hour} {day} {month} {}", named(weekday));
    cron::Schedule::from_str(&expression).map_err(|_| format!("not a valid schedule: '{text}'"))?;
    Ok(fields.join(" "))
}

/// crontab(5) counts weekdays from 0, which is Sunday, the crate from 1. Names are the same.
fn named(weekday: &str) -> String {
    if weekday == "*" {
        return weekday.to_owned();
    }
    let days = weekday.split(',').filter_map(|item| FIELDS[4].values(item)).flatten();
    days.map(|day| WEEKDAYS[day]).collect::<Vec<_>>().join(",")
}

impl Field {
    /// What an item of a list stands for: `*`, `5`, `mon`, `1-5`, and `*/2` or `1-5/2`.
    fn values(&self, item: &str) -> Option<Vec<usize>> {
        let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
        let (least, most) = match range.split_once('-') {
            _ if range == "*" => (self.least, self.most),
            Some((least, most)) => (self.value(least)?, self.value(most)?),
            // cron takes a step for ranges only.
            None if step.is_some() => return None,
            None => (self.value(range)?, self.value(range)?),
        };
        let step = step.map_or(Some(1), number)?;
        (least <= most && (1..=self.most).contains(&step)).then(|| (least..=most).step_by(step).collect())
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

    #[test]
    fn weekdays_mean_the_same_to_the_crate() {
        use cron::TimeUnitSpec as _;
        // The crate's Sunday is 1.
        for (field, days) in [
            ("0", vec![1]),
            ("7", vec![1]),
            ("1-5", vec![2, 3, 4, 5, 6]),
            ("5-7", vec![1, 6, 7]),
            ("0-7/7", vec![1]),
            ("*/2", vec![1, 3, 5, 7]),
            ("sun,6", vec![1, 7]),
        ] {
            let schedule = cron::Schedule::from_str(&format!("0 0 0 * * {}", named(field))).unwrap();
            assert_eq!(schedule.days_of_week().iter().collect::<Vec<_>>(), days, "{field}");
        }
    }
}
