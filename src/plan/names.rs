//! Owners, where hosts know different names.

use std::collections::BTreeSet;

use crate::model::{Entry, File, Meta, Owner};

/// Which owners a host can set, and what stands in for the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerMap {
    /// Users the host does not know.
    pub unknown_users: BTreeSet<String>,
    /// Groups the host does not know.
    pub unknown_groups: BTreeSet<String>,
    /// The directory's `owner` setting, as far as the host knows it.
    pub fallback: Owner,
}

impl OwnerMap {
    /// What the host would make of an owner; `None` parts are left to it.
    #[must_use]
    pub fn settable(&self, owner: &Owner) -> Owner {
        let user = owner.user().filter(|user| !self.unknown_users.contains(*user));
        let group = owner.group().filter(|group| !self.unknown_groups.contains(*group));
        if user == owner.user() && user.is_some() && group == owner.group() && group.is_some() {
            return owner.clone();
        }
        Owner::new(user.or(self.fallback.user()), group.or(self.fallback.group()))
    }

    /// The entry with an owner that the host can set.
    #[must_use]
    pub fn adapt(&self, entry: &Entry) -> Entry {
        let meta = |meta: &Meta| Meta { mode: meta.mode, owner: self.settable(&meta.owner) };
        match entry {
            Entry::Dir(dir) => Entry::Dir(meta(dir)),
            Entry::File(file) => Entry::File(File { meta: meta(&file.meta), ..file.clone() }),
            other => other.clone(),
        }
    }

    /// Whether `have`, on this host, is as good as `want`: same content, mode and mtime, and the owner as
    /// far as the host can set it.
    #[must_use]
    pub fn satisfied(&self, want: &Entry, have: &Entry) -> bool {
        if want == have {
            return true;
        }
        let meta = |want: &Meta, have: &Meta| {
            let owner = self.settable(&want.owner);
            let agrees = |want: Option<&str>, have: Option<&str>| want.is_none() || want == have;
            want.mode == have.mode
                && agrees(owner.user(), have.owner.user())
                && agrees(owner.group(), have.owner.group())
        };
        match (want, have) {
            (Entry::Dir(want), Entry::Dir(have)) => meta(want, have),
            (Entry::File(want), Entry::File(have)) => {
                want.digest == have.digest && want.mtime == have.mtime && meta(&want.meta, &have.meta)
            }
            _ => false,
        }
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
        assert!(names.satisfied(&dir(Some("asterisk")), &dir(Some("nobody"))));
        assert!(!names.satisfied(&dir(Some("daemon")), &dir(Some("nobody"))));
        names.fallback = Owner::new(Some("pbx"), None);
        assert!(!names.satisfied(&dir(Some("asterisk")), &dir(Some("nobody"))));
        assert!(names.satisfied(&dir(Some("asterisk")), &dir(Some("pbx"))));
        assert!(names.satisfied(&dir(None), &dir(Some("pbx"))));
    }
}
