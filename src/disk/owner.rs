//! Owners between ids and names, as this host knows them.

use std::collections::HashMap;

use nix::unistd::{Gid, Group, Uid, User};

use crate::model::Owner;

/// Looks names up once each: with a directory service behind it, every look-up may cost a round trip.
#[derive(Debug, Default)]
pub struct Owners {
    by_id: HashMap<(u32, u32), Owner>,
    users: HashMap<String, Option<u32>>,
    groups: HashMap<String, Option<u32>>,
}

impl Owners {
    /// The names of a user and a group.
    pub fn of(&mut self, uid: u32, gid: u32) -> Owner {
        let look_up = || {
            // A failed look-up is an id without a name here: the owner is then left to the other host.
            let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
            let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
            Owner::new(user.as_ref().map(|user| &*user.name), group.as_ref().map(|group| &*group.name))
        };
        self.by_id.entry((uid, gid)).or_insert_with(look_up).clone()
    }

    /// The user's id, if the name is known here.
    pub fn uid(&mut self, user: &str) -> Option<u32> {
        if let Some(known) = self.users.get(user) {
            return *known;
        }
        let uid = User::from_name(user).ok().flatten().map(|user| user.uid.as_raw());
        self.users.insert(user.to_owned(), uid);
        uid
    }

    /// The group's id, if the name is known here.
    pub fn gid(&mut self, group: &str) -> Option<u32> {
        if let Some(known) = self.groups.get(group) {
            return *known;
        }
        let gid = Group::from_name(group).ok().flatten().map(|group| group.gid.as_raw());
        self.groups.insert(group.to_owned(), gid);
        gid
    }

    /// What this host can set of an owner: a name it does not know becomes `None`.
    pub fn known(&mut self, owner: &Owner) -> Owner {
        let user = owner.user().filter(|user| self.uid(user).is_some());
        let group = owner.group().filter(|group| self.gid(group).is_some());
        Owner::new(user, group)
    }
}
