//! Reloads of one kind on one node: the first at once, further ones not before a while has passed.

use std::collections::BTreeMap;
use std::time::Duration;

/// Shortest time between two reloads of a kind on a node: each may interrupt what Asterisk is about.
const APART: Duration = Duration::from_secs(10);

/// When which reload was last carried out, and which ones were put off.
#[derive(Debug, Default)]
pub struct Coalesce {
    done: BTreeMap<(String, String), Duration>,
    put_off: BTreeMap<(String, String), PutOff>,
}

#[derive(Debug)]
struct PutOff {
    /// When it was due first.
    since: Duration,
    until: Duration,
    /// Whether [`Coalesce::due`] has named it.
    told: bool,
}

impl Coalesce {
    /// Whether a reload that is due may be carried out now, and counts as carried out then. While `more` is to come, which
    /// it should load as well, it is put off too, but not for ever.
    pub fn may_reload(&mut self, now: Duration, node: &str, kind: &str, more: bool) -> bool {
        let key = (node.to_owned(), kind.to_owned());
        let free = self.done.get(&key).map_or(Duration::ZERO, |done| *done + APART);
        let since = self.put_off.get(&key).map_or(now, |put_off| put_off.since);
        let until = if more { free.max(since + APART) } else { free };
        if now < until {
            self.put_off.insert(key, PutOff { since, until, told: false });
            return false;
        }
        self.put_off.remove(&key);
        self.done.retain(|_, done| *done + APART > now);
        self.done.insert(key, now);
        true
    }

    /// A reload is carried out now, whatever was before: a person asked for it.
    pub fn reload_now(&mut self, now: Duration, node: &str, kind: &str) {
        let key = (node.to_owned(), kind.to_owned());
        self.put_off.remove(&key);
        self.done.insert(key, now);
    }

    /// When the next reload that was put off may be carried out; then as [`Coalesce::due`] says.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.put_off.values().filter(|put_off| !put_off.told).map(|put_off| put_off.until).min()
    }

    /// The reloads that were put off and may be carried out by now, each named once: node and kind.
    pub fn due(&mut self, now: Duration) -> Vec<(String, String)> {
        let due = self.put_off.iter_mut().filter(|(_, put_off)| !put_off.told && put_off.until <= now);
        let name = |(key, put_off): (&(String, String), &mut PutOff)| {
            put_off.told = true;
            key.clone()
        };
        due.map(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_goes_at_once_and_the_next_ten_seconds_later() {
        let mut reloads = Coalesce::default();
        assert!(reloads.may_reload(at(100), "mds1", "dialplan", false));
        assert!(reloads.may_reload(at(100), "mds2", "dialplan", false));
        assert!(reloads.may_reload(at(100), "mds1", "moh", false));
        assert_eq!(reloads.next_due(), None);
        assert!(!reloads.may_reload(at(101), "mds1", "dialplan", false));
        assert!(!reloads.may_reload(at(109), "mds1", "dialplan", false));
        assert_eq!(reloads.next_due(), Some(at(110)));
        assert_eq!(reloads.due(at(109)), []);
        assert_eq!(reloads.due(at(110)), [("mds1".to_owned(), "dialplan".to_owned())]);
        assert_eq!(reloads.due(at(111)), [], "each is named once");
        assert_eq!(reloads.next_due(), None);
        assert!(reloads.may_reload(at(111), "mds1", "dialplan", false));
    }

    #[test]
    fn while_more_is_to_come_it_waits_but_not_for_ever() {
        let mut reloads = Coalesce::default();
        assert!(!reloads.may_reload(at(1), "mds1", "moh", true));
        assert!(!reloads.may_reload(at(10), "mds1", "moh", true));
        assert!(reloads.may_reload(at(11), "mds1", "moh", true));
        // What comes a minute later is a new batch.
        assert!(!reloads.may_reload(at(71), "mds1", "moh", true));
        assert!(reloads.may_reload(at(72), "mds1", "moh", false));
    }
}
