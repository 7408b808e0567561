//! Which reloads are owed.

use std::collections::BTreeMap;

use crate::model::Digest;

/// What an Asterisk notices of directories (see [`Tree::feed_loaded`](crate::model::Tree::feed_loaded)), by
/// their names.
pub type Loaded = BTreeMap<String, Digest>;

/// Whether a node owes a reload: one of the directories that name it differs there, `after` this run, from
/// what it was when that reload last succeeded, whoever changed it.
///
/// A directory that is not on `record` counts as loaded as it was `before` this run; one that was not there
/// has to be loaded. A directory that this run did not look at is not in `after`, and owes nothing by it.
#[must_use]
pub fn owed(record: Option<&Loaded>, before: &Loaded, after: &Loaded) -> bool {
    after.iter().any(|(directory, now)| {
        let loaded = record.and_then(|record| record.get(directory)).or_else(|| before.get(directory));
        loaded != Some(now)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `"a1 b2"`: directory `a` looks like 1, `b` like 2.
    fn loaded(text: &str) -> Loaded {
        let looks = |word: &str| {
            let (name, digest) = word.split_at(1);
            (name.to_owned(), Digest([digest.as_bytes()[0]; 32]))
        };
        text.split_whitespace().map(looks).collect()
    }

    #[test]
    fn owed_is_what_differs_from_the_last_success() {
        for (record, before, after, expected) in [
            // Nothing on record: what was there counts as loaded.
            (None, "a1", "a1", false),
            (None, "a1", "a2", true),
            (None, "", "a1", true),
            // On record: a node's own edit before this run counts, and so does one that was undone.
            (Some("a1"), "a1", "a1", false),
            (Some("a1"), "a2", "a2", true),
            (Some("a1"), "a2", "a1", false),
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
            let owed = owed(record.as_ref(), &loaded(before), &loaded(after));
            assert_eq!(owed, expected, "record {record:?}, before {before}, after {after}");
        }
    }

    proptest! {
        /// Whoever puts `before` on record when a reload fails owes it in the next run too; a success, none.
        #[test]
        fn it_stays_owed_until_it_succeeds(looks in prop::collection::btree_map("[abc]", (0..3u8, 0..3u8), 0..4)) {
            let at = |look: fn(&(u8, u8)) -> u8| -> Loaded {
                looks.iter().map(|(name, both)| (name.clone(), Digest([look(both); 32]))).collect()
            };
            let (before, after) = (at(|both| both.0), at(|both| both.1));
            prop_assert_eq!(owed(Some(&before), &after, &after), owed(None, &before, &after));
            prop_assert!(!owed(Some(&after), &after, &after));
        }
    }
}
