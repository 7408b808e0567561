//! From a value as typed to what it means. Errors say what is expected.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use super::raw::Raw;
use crate::model::{MaxDelete, Owner};

pub(super) type Converted<T> = Result<T, String>;

pub(super) fn text(raw: &Raw) -> Converted<String> {
    match raw {
        Raw::Text(text) | Raw::Untyped(text) if text.is_empty() => Err("must not be empty".to_owned()),
        Raw::Text(text) | Raw::Untyped(text) if text.contains(['\n', '\r', '\0']) => {
            Err("must be one line".to_owned())
        }
        Raw::Text(text) | Raw::Untyped(text) => Ok(text.clone()),
        other => Err(format!("expected a string in quotes, found {}", other.kind())),
    }
}

pub(super) fn number(raw: &Raw) -> Converted<i64> {
    match raw {
        Raw::Number(number) => Ok(*number),
        Raw::Untyped(text) => text.parse().map_err(|_| format!("expected a number, found '{text}'")),
        other => Err(format!("expected a number, found {}", other.kind())),
    }
}

pub(super) fn port(raw: &Raw) -> Converted<u16> {
    match u16::try_from(number(raw)?) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err("expected a port from 1 to 65535".to_owned()),
    }
}

pub(super) fn parallel(raw: &Raw) -> Converted<usize> {
    match usize::try_from(number(raw)?) {
        Ok(count @ 1..=1024) => Ok(count),
        _ => Err("expected a number from 1 to 1024".to_owned()),
    }
}

/// A list; from the environment, comma separated.
pub(super) fn list<T>(raw: &Raw, item: impl Fn(&Raw) -> Converted<T>) -> Converted<Vec<T>> {
    match raw {
        Raw::List(items) => items.iter().map(item).collect(),
        Raw::Untyped(text) => {
            let items = text.split(',').map(str::trim).filter(|text| !text.is_empty());
            items.map(|text| item(&Raw::Untyped(text.to_owned()))).collect()
        }
        other => Err(format!("expected a list such as [\"a\", \"b\"], found {}", other.kind())),
    }
}

pub(super) fn duration(raw: &Raw) -> Converted<Duration> {
    let text = text(raw)?;
    humantime::parse_duration(&text)
        .map_err(|_| format!("expected a duration such as \"30s\" or \"15min\", found '{text}'"))
}

pub(super) fn timeout(raw: &Raw) -> Converted<Duration> {
    let timeout = duration(raw)?;
    if timeout < Duration::from_secs(1) { Err("must be at least \"1s\"".to_owned()) } else { Ok(timeout) }
}

/// Bytes a second; none: unlimited.
pub(super) fn bandwidth(raw: &Raw) -> Converted<Option<u64>> {
    let text = text(raw)?;
    if text == "unlimited" {
        return Ok(None);
    }
    let wrong = || format!("expected \"unlimited\" or a rate such as \"4 MiB/s\", found '{text}'");
    let rate = text.strip_suffix("/s").ok_or_else(wrong)?;
    let digits = rate.find(|c: char| !c.is_ascii_digit()).unwrap_or(rate.len());
    let (number, unit) = rate.split_at(digits);
    let unit: u64 = match unit.trim() {
        "B" => 1,
        "kB" | "KB" => 1000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)) {
        // Below this, one chunk of content would take longer than the usual timeout.
        Some(rate) if rate >= 16 << 10 => Ok(Some(rate)),
        Some(_) => Err("must be at least \"16 KiB/s\"".to_owned()),
        None => Err(wrong()),
    }
}

/// One of some words.
pub(super) fn word<T: Copy>(raw: &Raw, words: &[(&str, T)]) -> Converted<T> {
    let found = text(raw)?;
    let known = words.iter().find(|(word, _)| *word == found);
    let names = || words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    known.map(|(_, value)| *value).ok_or_else(|| format!("expected one of {}, found '{found}'", names()))
}

/// An absolute path; a leading `~/` is the home directory.
pub(super) fn path(raw: &Raw, home: &Path) -> Converted<PathBuf> {
    let text = text(raw)?;
    let path = match text.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None => PathBuf::from(&text),
    };
    if !path.is_absolute() {
        return Err(format!("expected an absolute path, found '{text}'"));
    }
    if path.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(format!("the path must not contain '..', found '{text}'"));
    }
    // Without a slash at the end or doubled ones, so that equal roots are equal.
    Ok(path.components().collect())
}

pub(super) fn name(raw: &Raw) -> Converted<String> {
    let text = text(raw)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !text.chars().all(allowed) || text.starts_with(['-', '.']) || text.len() > 64 {
        return Err(format!("a name has letters, digits, '.', '_' and '-' only, found '{text}'"));
    }
    Ok(text)
}

pub(super) fn reload(raw: &Raw) -> Converted<String> {
    let text = text(raw)?;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    if text.chars().all(allowed) {
        return Ok(text);
    }
    Err(format!("expected the name of a reload such as \"dialplan\", not a command, found '{text}'"))
}

pub(super) fn host(raw: &Raw) -> Converted<String> {
    let text = text(raw)?;
    if is_host(&text) {
        Ok(text)
    } else {
        Err(format!("expected a host name or an IP address, found '{text}'"))
    }
}

/// Whether a text looks like what ssh can connect to: an IP address or a DNS name.
#[must_use]
pub fn is_host(text: &str) -> bool {
    // fe80::1%eth0 names the interface too.
    let (address, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
    if let Ok(address) = IpAddr::from_str(address) {
        return zone.is_none_or(|zone| address.is_ipv6() && is_label(zone));
    }
    // What is all digits and dots was meant to be an address.
    zone.is_none()
        && text.len() <= 253
        && text.split('.').all(is_label)
        && !text.chars().all(|c| c.is_ascii_digit() || c == '.')
}

fn is_label(label: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    !label.is_empty() && label.len() <= 63 && label.chars().all(allowed) && !label.starts_with('-')
}

pub(super) fn user(raw: &Raw) -> Converted<String> {
    let text = text(raw)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !text.chars().all(allowed) || text.starts_with('-') {
        return Err(format!("expected a user's name, found '{text}'"));
    }
    Ok(text)
}

pub(super) fn owner(raw: &Raw) -> Converted<Owner> {
    let text = text(raw)?;
    let wrong = || format!("expected \"user:group\" such as \"asterisk:www-data\", found '{text}'");
    let (owner, group) = text.split_once(':').ok_or_else(wrong)?;
    let part = |name: &str| user(&Raw::Text(name.to_owned())).map_err(|_| wrong());
    Ok(Owner::new(Some(&part(owner)?), Some(&part(group)?)))
}

pub(super) fn max_delete(raw: &Raw) -> Converted<MaxDelete> {
    match raw {
        Raw::Number(number) => {
            u64::try_from(*number).map(MaxDelete::Files).map_err(|_| "must not be negative".to_owned())
        }
        _ => text(raw)?.parse().map_err(str::to_owned),
    }
}

pub(super) fn glob(raw: &Raw) -> Converted<String> {
    let text = text(raw)?;
    globset::Glob::new(&text).map_err(|error| format!("not a valid pattern: {error}"))?;
    Ok(text)
}

pub(super) fn address(raw: &Raw) -> Converted<SocketAddr> {
    let text = text(raw)?;
    text.parse().map_err(|_| format!("expected ADDRESS:PORT such as \"127.0.0.1:8443\", found '{text}'"))
}

pub(super) fn traffic_class(raw: &Raw) -> Converted<String> {
    // ssh_config(5), IPQoS.
    const CLASSES: [&str; 25] = [
        "af11",
        "af12",
        "af13",
        "af21",
        "af22",
        "af23",
        "af31",
        "af32",
        "af33",
        "af41",
        "af42",
        "af43",
        "cs0",
        "cs1",
        "cs2",
        "cs3",
        "cs4",
        "cs5",
        "cs6",
        "cs7",
        "ef",
        "le",
        "lowdelay",
        "throughput",
        "none",
    ];
    let text = text(raw)?;
    if CLASSES.contains(&text.as_str()) || text.parse::<u8>().is_ok_and(|number| number < 64) {
        return Ok(text);
    }
    Err(format!("expected a class that ssh's IPQoS knows, such as \"cs1\" or \"none\", found '{text}'"))
}

/// Five fields as in crontab(5).
pub(super) fn cron(raw: &Raw) -> Converted<String> {
    let text = text(raw)?;
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields[..] else {
        return Err(format!(
            "expected five fields as in crontab(5), such as \"*/15 * * * *\", found '{text}'"
        ));
    };
    let weekday = weekday.split(',').map(named_weekdays).collect::<Vec<_>>().join(",");
    // The crate's expressions begin with seconds.
    let expression = format!("0 {minute} {hour} {day} {month} {weekday}");
    cron::Schedule::from_str(&expression)
        .map_err(|error| format!("not a valid schedule '{text}': {error}"))?;
    Ok(fields.join(" "))
}

/// crontab(5) counts weekdays from 0 or 7, which are Sunday; the crate counts from 1. Names are the same.
fn named_weekdays(item: &str) -> String {
    const NAMES: [&str; 8] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"];
    let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) else {
        return item.to_owned();
    };
    let step = step.map_or(Ok(1), str::parse::<usize>).unwrap_or(0);
    if first > last || last > 7 || step == 0 {
        // Left to the crate, which refuses it.
        return format!("{item}!");
    }
    (first..=last).step_by(step).map(|day| NAMES[day]).collect::<Vec<_>>().join(",")
}

pub(super) fn facility(raw: &Raw) -> Converted<String> {
    const FACILITIES: [&str; 14] = [
        "auth", "authpriv", "cron", "daemon", "syslog", "user", "local0", "local1", "local2", "local3",
        "local4", "local5", "local6", "local7",
    ];
    let text = text(raw)?;
    if FACILITIES.contains(&text.as_str()) {
        Ok(text)
    } else {
        Err(format!("expected one of {}", FACILITIES.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Raw {
        Raw::Text(text.to_owned())
    }

    #[test]
    fn hosts() {
        for good in ["10.0.0.1", "::1", "fe80::1%eth0", "mds1", "mds-1.example.org", "xn--bcher-kva.example"]
        {
            assert!(is_host(good), "{good}");
        }
        for bad in [
            "",
            "-oProxyCommand=x",
            "10.0.0",
            "999.1.1.1",
            "a b",
            "a;b",
            "$(x)",
            "a/b",
            "1.2.3.4%x",
            "user@h",
        ] {
            assert!(!is_host(bad), "{bad}");
        }
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
            "0 3 * * mon",
        ] {
            assert!(cron(&typed(good)).is_ok(), "{good}: {:?}", cron(&typed(good)));
        }
        for bad in
            ["", "* * * *", "* * * * * *", "60 * * * *", "@hourly", "0 3 * * 8", "0 3 * * 5-2", "x * * * *"]
        {
            assert!(cron(&typed(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates() {
        assert_eq!(bandwidth(&typed("unlimited")), Ok(None));
        assert_eq!(bandwidth(&typed("4 MiB/s")), Ok(Some(4 << 20)));
        assert_eq!(bandwidth(&typed("500kB/s")), Ok(Some(500_000)));
        for bad in ["4", "4 MiB", "MiB/s", "-1 MiB/s", "1 B/s", "99999999999999 GiB/s"] {
            assert!(bandwidth(&typed(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_absolute_and_plain() {
        let home = Path::new("/root");
        assert_eq!(path(&typed("~/.ssh/key"), home), Ok("/root/.ssh/key".into()));
        assert_eq!(path(&typed("/srv//moh/"), home), Ok("/srv/moh".into()));
        for bad in ["srv", "./x", "/a/../b", ""] {
            assert!(path(&typed(bad), home).is_err(), "{bad}");
        }
    }
}
