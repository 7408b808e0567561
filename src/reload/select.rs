//! Which reloads are owed.

use std::collections::BTreeMap;

use crate::model::Digest;

/// What an Asterisk notices of directories (see [`Tree::feed_loaded`](crate::model::Tree::feed_loaded)), by
/// their names.
pub type Looks = BTreeMap<String, Digest>;

/// What each directory looked like when a reload last succeeded. `None`: the reload is owed whatever the directory looks
/// like, because one was tried or called for and none has succeeded since. Asterisk carries out a reload that fails, too.
pub type Loaded = BTreeMap<String, Option<Digest>>;

/// Whether a node owes a reload: for one of the directories that name it, it was owed before this run, whoever changed
/// the directory; or this run has changed the directory, be it back to what is on record.
///
/// A directory that is not on `record` counts as loaded as it was `before` this run; one that was not there
/// has to be loaded. A directory that this run did not look at is not in `after`, and owes nothing by it.
#[must_use]
pub fn owed(record: Option<&Loaded>, before: &Looks, after: &Looks) -> bool {
    after.iter().any(|(directory, now)| {
        let was = before.get(directory);
        is_owed(record, directory, was) || was != Some(now)
    })
}

/// Whether a directory that looks like `now` owes a reload, as far as that is on record.
#[must_use]
pub fn is_owed(record: Option<&Loaded>, directory: &str, now: Option<&Digest>) -> bool {
    record.and_then(|record| record.get(directory)).is_some_and(|loaded| loaded.as_ref() != now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `"a1 b2"`: directory `a` looks like 1, `b` like 2.
    fn looks(text: &str) -> Looks {
        let look = |word: &str| {
            let (name, digest) = word.split_at(1);
            (name.to_owned(), Digest([digest.as_bytes()[0]; 32]))
        };
        text.split_whitespace().map(look).collect()
    }

    /// The same of a record; `"a?"`: a reload is owed whatever `a` looks like.
    fn loaded(text: &str) -> Loaded {
        let entry = |(name, digest)| (name, (digest != Digest([b'?'; 32])).then_some(digest));
        looks(text).into_iter().map(entry).collect()
    }

    #[test]
    fn owed_is_what_differs_from_the_last_success() {
        for (record, before, after, expected) in [
            // Nothing on record: what was there counts as loaded.
            (None, "a1", "a1", false),
            (None, "a1", "a2", true),
            (None, "", "a1", true),
            // On record: a node's own edit before this run counts. It may have been loaded: so does one that is undone.
            (Some("a1"), "a1", "a1", false),
            (Some("a1"), "a2", "a2", true),
            (Some("a1"), "a2", "a1", true),
            // One was tried and failed: whatever the files are now, Asterisk may have loaded what they were then.
            (Some("a?"), "a1", "a1", true),
            (Some("a? b1"), "b1", "b1", false),
            (Some("a1"), "a1", "a2", true),
            // A second directory names it since this run.
            (Some("a1"), "a1 b1", "a1 b1", false),
            (Some("a1"), "a1 b1", "a1 b2", true),
            // One was not looked at, or no longer names it.
            (Some("a1 b1"), "a1", "a1", false),
            (Some("a1 b1"), "a2 b1", "b1", false),
            (Some("a1 b1"), "", "", false),
        ] {
            let record = record.map(loaded);
            let owed = owed(record.as_ref(), &looks(before), &looks(after));
            assert_eq!(owed, expected, "record {record:?}, before {before}, after {after}");
        }
    }

    proptest! {
        /// A reload that is owed stays owed, wherever the directories go, until one succeeds.
        #[test]
        fn it_stays_owed_until_it_succeeds(at in prop::collection::btree_map("[abc]", (0..3u8, 0..3u8), 1..4)) {
            let looks = |look: fn(&(u8, u8)) -> u8| -> Looks {
                at.iter().map(|(name, both)| (name.clone(), Digest([look(both); 32]))).collect()
            };
            let (before, after) = (looks(|both| both.0), looks(|both| both.1));
            let tried: Loaded = before.keys().map(|name| (name.clone(), None)).collect();
            prop_assert!(owed(Some(&tried), &before, &after));
            let done: Loaded = after.iter().map(|(name, digest)| (name.clone(), Some(*digest))).collect();
            prop_assert!(!owed(Some(&done), &after, &after));
            prop_assert_eq!(owed(Some(&done), &before, &after), before != after);
        }
    }
}
