//! Owners, where hosts know different names.

use std::collections::BTreeSet;

use crate::model::{Entry, File, Meta, Owner};

/// Which owners a host can set, and what stands in for the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnerMap {
    /// Users the host does not know.
    pub(crate) unknown_users: BTreeSet<String>,
    /// Groups the host does not know.
    pub(crate) unknown_groups: BTreeSet<String>,
    /// The directory's `owner` setting, as far as the host knows it.
    pub(crate) fallback: Owner,
}

impl OwnerMap {
    /// What the host would make of an owner; `None` parts are left to it.
    #[must_use]
    pub(crate) fn settable(&self, owner: &Owner) -> Owner {
        let user = owner.user().filter(|user| !self.unknown_users.contains(*user));
        let group = owner.group().filter(|group| !self.unknown_groups.contains(*group));
        if user == owner.user() && user.is_some() && group == owner.group() && group.is_some() {
            return owner.clone();
        }
        Owner::new(user.or(self.fallback.user()), group.or(self.fallback.group()))
    }

    /// The entry with an owner that the host can set.
    #[must_use]
    pub(crate) fn adapt(&self, entry: &Entry) -> Entry {
        match entry {
            Entry::Dir(meta) => Entry::Dir(self.adapt_meta(meta)),
            Entry::File(file) => Entry::File(File { meta: self.adapt_meta(&file.meta), ..file.clone() }),
            other => other.clone(),
        }
    }

    fn adapt_meta(&self, meta: &Meta) -> Meta {
        Meta { mode: meta.mode, owner: self.settable(&meta.owner) }
    }

    /// Whether `have`, on this host, is as good as `want`: same content, mode and mtime, and the owner as
    /// far as the host can set it.
    #[must_use]
    pub(crate) fn matches(&self, want: &Entry, have: &Entry) -> bool {
        if want == have {
            return true;
        }
        match (want, have) {
            (Entry::Dir(want), Entry::Dir(have)) => self.matches_meta(want, have),
            (Entry::File(want), Entry::File(have)) => {
                want.digest == have.digest
                    && want.mtime == have.mtime
                    && self.matches_meta(&want.meta, &have.meta)
            }
            _ => false,
        }
    }

    fn matches_meta(&self, want: &Meta, have: &Meta) -> bool {
        let owner = self.settable(&want.owner);
        want.mode == have.mode
            && owner.user().is_none_or(|user| have.owner.user() == Some(user))
            && owner.group().is_none_or(|group| have.owner.group() == Some(group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(user: Option<&str>) -> Entry {
        Entry::Dir(Meta { mode: 0o755, owner: Owner::new(user, Some("root")) })
    }

    #[test]
    fn an_unknown_owner_is_left_to_the_host_or_to_the_fallback() {
        let mut names = OwnerMap { unknown_users: ["asterisk".to_owned()].into(), ..OwnerMap::default() };
        assert!(names.matches(&dir(Some("asterisk")), &dir(Some("nobody"))));
        assert!(!names.matches(&dir(Some("daemon")), &dir(Some("nobody"))));
        names.fallback = Owner::new(Some("pbx"), None);
        assert!(!names.matches(&dir(Some("asterisk")), &dir(Some("nobody"))));
        assert!(names.matches(&dir(Some("asterisk")), &dir(Some("pbx"))));
        assert!(names.matches(&dir(None), &dir(Some("pbx"))));
    }
}
