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
        known_id(&mut self.users, user, |name| Some(User::from_name(name).ok()??.uid.as_raw()))
    }

    /// The group's id, if the name is known here.
    pub fn gid(&mut self, group: &str) -> Option<u32> {
        known_id(&mut self.groups, group, |name| Some(Group::from_name(name).ok()??.gid.as_raw()))
    }

    /// What this host can set of an owner: a name it does not know becomes `None`.
    pub fn known(&mut self, owner: &Owner) -> Owner {
        let user = owner.user().filter(|user| self.uid(user).is_some());
        let group = owner.group().filter(|group| self.gid(group).is_some());
        Owner::new(user, group)
    }
}

/// The id of a name, looked up when it is asked for the first time. One that is known takes no memory anew: it is asked
/// for every file.
fn known_id(
    known: &mut HashMap<String, Option<u32>>,
    name: &str,
    look_up: impl FnOnce(&str) -> Option<u32>,
) -> Option<u32> {
    if let Some(id) = known.get(name) {
        return *id;
    }
    let id = look_up(name);
    known.insert(name.to_owned(), id);
    id
}
