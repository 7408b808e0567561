//! When cron starts a run: five fields, as in crontab(5).

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

impl Field {
    /// Whether an item of a list is `*`, `5`, `mon`, `1-5`, `*/2` or `1-5/2`.
    fn accepts(&self, item: &str) -> bool {
        let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
        let is_range = match range.split_once('-') {
            _ if range == "*" => true,
            Some((first, last)) => {
                self.value(first).zip(self.value(last)).is_some_and(|(first, last)| first <= last)
            }
            // cron takes a step only after a range.
            None => step.is_none() && self.value(range).is_some(),
        };
        let step = step.map_or(Some(1), number);
        is_range && step.is_some_and(|step| (1..=self.most).contains(&step))
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
}
