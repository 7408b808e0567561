//! What is the newest publication, for whoever knows Main's key and what it has seen before.
//!
//! A hostile store may show anything that was ever signed. So epoch and sequence never go back, one number is never two
//! publications, and each publication names the one before.

use ssh_key::PublicKey;

use super::envelope;
use super::group::Group;
use super::head::Head;
use super::lease::{Alive, Lease};
use super::{MAX_HEAD, MAX_SMALL, Objects, Sha256, StoreError, names, trust};
use crate::signing;

/// More publications than this are not walked over at once; whoever is further behind starts at the newest that Main names.
const MAX_STEPS: u64 = 10_000;

/// The newest publication that was seen before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The store's ULID.
    pub cluster: String,
    /// Of the lease that was in force.
    pub epoch: u64,
    /// Its number.
    pub seq: u64,
    /// Its hash, as an object.
    pub head: Sha256,
}

/// The node that asks: the group of nodes that it is in comes with the publication, in the same round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForNode<'a> {
    /// Its name.
    pub name: &'a str,
    /// The group that it has read already.
    pub has: Option<Group>,
}

/// A publication that was found to be Main's, and to be the newest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newest {
    /// The lease in force.
    pub lease: Lease,
    /// The sign of life of its holder; none before the first publication of an epoch.
    pub alive: Option<Alive>,
    /// The publication.
    pub head: Head,
    /// Its hash, as an object.
    pub hash: Sha256,
    /// What lies where the group is of the node that asks, not verified yet; none: it has that, or nothing lies there.
    pub group: Option<Vec<u8>>,
    /// Number and hash of the last publication there is: that of a Main which had lost its lease counts here.
    pub tip: (u64, Sha256),
    /// Main's key that signed the lease or, where there is one, the sign of life: the one to trust from here on.
    pub key: PublicKey,
}

/// What there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A store in which nothing was published yet.
    Empty(Lease),
    /// The publication that was seen before is still the newest.
    Same(Option<Alive>),
    /// A newer one, or the first that is seen.
    New(Box<Newest>),
}

/// The newest publication. `pinned` is Main's key as it was trusted last; a rotation since then is followed.
pub fn newest(
    objects: &dyn Objects,
    pinned: &PublicKey,
    seen: Option<&Seen>,
    node: Option<ForNode<'_>>,
) -> Result<Found, StoreError> {
    let keys = [pinned.clone()];
    let chain = Chain { objects, keys: &keys, seen, node };
    match chain.newest() {
        Err(tampered @ StoreError::Tampered(_)) => {
            let next = trust::newest(objects, pinned)?;
            if signing::same(&next.key, pinned) {
                return Err(tampered);
            }
            let keys = [pinned.clone(), next.key];
            Chain { objects, keys: &keys, seen, node }.newest()
        }
        found => found,
    }
}

/// The newest publication, for Main, which knows all keys that may have signed it.
pub fn newest_of(objects: &dyn Objects, keys: &[PublicKey]) -> Result<Found, StoreError> {
    Chain { objects, keys, seen: None, node: None }.newest()
}

/// A publication by its number, whatever came after it. `None`: it is not there.
pub fn head(
    objects: &dyn Objects,
    keys: &[PublicKey],
    seq: u64,
) -> Result<Option<(Head, Sha256)>, StoreError> {
    let name = names::head(seq);
    let Some(object) = objects.get(&name, MAX_HEAD)? else { return Ok(None) };
    read_head(&object, keys, seq).map(Some)
}

fn read_head(object: &[u8], keys: &[PublicKey], seq: u64) -> Result<(Head, Sha256), StoreError> {
    let name = names::head(seq);
    let head: Head = envelope::open(object, keys, &name)?;
    head.check()?;
    if head.seq != seq {
        return Err(StoreError::Tampered(format!("{name} is the publication {}", head.seq)));
    }
    Ok((head, Sha256::of(object)))
}

/// The lease of an epoch. `None`: it was never taken.
pub fn lease(objects: &dyn Objects, keys: &[PublicKey], epoch: u64) -> Result<Option<Lease>, StoreError> {
    Ok(signed_lease(objects, keys, epoch)?.map(|(lease, _)| lease))
}

/// Something, with the key that has signed it.
type By<'k, T> = (T, &'k PublicKey);

fn signed_lease<'k>(
    objects: &dyn Objects,
    keys: &'k [PublicKey],
    epoch: u64,
) -> Result<Option<By<'k, Lease>>, StoreError> {
    let object = objects.get(&names::lease(epoch), MAX_SMALL)?;
    object.map(|object| read_lease(&object, keys, epoch)).transpose()
}

fn read_lease<'k>(object: &[u8], keys: &'k [PublicKey], epoch: u64) -> Result<By<'k, Lease>, StoreError> {
    let name = names::lease(epoch);
    let (lease, key): By<'_, Lease> = envelope::open_signed(object, keys, &name)?;
    if lease.epoch != epoch {
        return Err(StoreError::Tampered(format!("{name} is the lease {}", lease.epoch)));
    }
    Ok((lease, key))
}

/// The sign of life of an epoch. `None`: nothing was published in it.
pub fn alive(objects: &dyn Objects, keys: &[PublicKey], epoch: u64) -> Result<Option<Alive>, StoreError> {
    Ok(signed_alive(objects, keys, epoch)?.map(|(alive, _)| alive))
}

fn signed_alive<'k>(
    objects: &dyn Objects,
    keys: &'k [PublicKey],
    epoch: u64,
) -> Result<Option<By<'k, Alive>>, StoreError> {
    let object = objects.get(&names::alive(epoch), MAX_SMALL)?;
    object.map(|object| read_alive(&object, keys, epoch)).transpose()
}

fn read_alive<'k>(object: &[u8], keys: &'k [PublicKey], epoch: u64) -> Result<By<'k, Alive>, StoreError> {
    let name = names::alive(epoch);
    let (alive, key): By<'_, Alive> = envelope::open_signed(object, keys, &name)?;
    if alive.epoch != epoch {
        return Err(StoreError::Tampered(format!("{name} is of the lease {}", alive.epoch)));
    }
    Ok((alive, key))
}

/// The newest epoch that the store names, whoever signed it; 0: none.
pub fn newest_epoch(objects: &dyn Objects) -> Result<u64, StoreError> {
    let leases = objects.list(names::LEASES)?;
    Ok(leases.iter().filter_map(|name| names::epoch_in(name)).max().unwrap_or(0))
}

fn rollback(detail: &str) -> StoreError {
    StoreError::Tampered(format!("rollback: {detail}"))
}

struct Chain<'a> {
    objects: &'a dyn Objects,
    keys: &'a [PublicKey],
    seen: Option<&'a Seen>,
    node: Option<ForNode<'a>>,
}

/// A publication, and its hash, as an object.
type Hashed = (Head, Sha256);

/// How far the publications go.
struct Walked {
    /// The newest that the lease allows.
    head: Hashed,
    /// See [`Newest::group`].
    group: Option<Vec<u8>>,
    /// Number and hash of the last there is.
    tip: (u64, Sha256),
}

/// What is asked for first, as all of it was at one moment.
struct First<'k> {
    alive: Option<By<'k, Alive>>,
    /// Whether there is a lease after the one that was seen.
    has_next_lease: bool,
    next_head: Option<Hashed>,
}

impl<'a> Chain<'a> {
    fn newest(&self) -> Result<Found, StoreError> {
        let first = self.seen.map(|seen| self.first(seen)).transpose()?;
        if let (Some(seen), Some(First { alive: Some((alive, _)), has_next_lease: false, next_head: None })) =
            (self.seen, &first)
            && (alive.seq, alive.head) == (seen.seq, seen.head)
        {
            return Ok(Found::Same(Some(alive.clone())));
        }
        // What was read and verified once is not again.
        let (lease, lease_key, alive, next_head) = match first {
            Some(First { alive, has_next_lease: false, next_head }) => {
                let (lease, key) = self.newest_lease(false)?;
                let alive = if self.is_of_seen(&lease) { alive } else { self.alive_of(&lease)? };
                (lease, key, alive, next_head)
            }
            first => {
                let (lease, key) = self.newest_lease(true)?;
                let alive = self.alive_of(&lease)?;
                (lease, key, alive, first.and_then(|first| first.next_head))
            }
        };
        let key = alive.as_ref().map_or(lease_key, |(_, key)| key).clone();
        let alive = alive.map(|(alive, _)| alive);
        for cluster in
            [Some(&lease.cluster), alive.as_ref().map(|alive| &alive.cluster)].into_iter().flatten()
        {
            self.check_cluster(cluster)?;
        }
        let named = alive.as_ref().map_or(0, |alive| alive.seq).max(lease.prev_seq);
        let start = self.seen.map_or(0, |seen| seen.seq).max(named);
        // Of a store that was lost and made anew, the lease alone knows how far the first one had come.
        let is_new = self.seen.is_none_or(|seen| lease.epoch > seen.epoch);
        if is_new
            && start <= lease.prev_seq
            && self.is_missing(start.max(1))?
            && self.is_missing(start + 1)?
        {
            return Ok(Found::Empty(lease));
        }
        let start =
            if is_new && start == lease.prev_seq && self.is_missing(start)? { start + 1 } else { start };
        let Walked { head: (head, hash), group, tip } =
            self.walk(&lease, alive.as_ref(), start.max(1), next_head)?;
        if let Some(seen) = self.seen
            && (head.seq, lease.epoch) == (seen.seq, seen.epoch)
        {
            return Ok(Found::Same(alive));
        }
        Ok(Found::New(Box::new(Newest { lease, alive, head, hash, group, tip, key })))
    }

    fn is_of_seen(&self, lease: &Lease) -> bool {
        self.seen.is_some_and(|seen| seen.epoch == lease.epoch)
    }

    fn alive_of(&self, lease: &Lease) -> Result<Option<By<'a, Alive>>, StoreError> {
        signed_alive(self.objects, self.keys, lease.epoch)
    }

    /// What mostly says that nothing is new, in one round trip.
    fn first(&self, seen: &Seen) -> Result<First<'a>, StoreError> {
        let (next_epoch, next_seq) = (seen.epoch + 1, seen.seq + 1);
        let (alive, lease, head) =
            (names::alive(seen.epoch), names::lease(next_epoch), names::head(next_seq));
        let wanted = [(&*alive, MAX_SMALL), (&*lease, MAX_SMALL), (&*head, MAX_HEAD)];
        let mut found = self.objects.get_all(&wanted)?.into_iter();
        let mut next = || found.next().flatten();
        let (alive, lease, head) = (next(), next(), next());
        let alive = alive.map(|object| read_alive(&object, self.keys, seen.epoch)).transpose()?;
        let next_lease = lease.map(|object| read_lease(&object, self.keys, next_epoch)).transpose()?;
        if let Some((alive, _)) = &alive {
            self.check_cluster(&alive.cluster)?;
        }
        let next_head = head.map(|object| read_head(&object, self.keys, next_seq)).transpose()?;
        Ok(First { alive, has_next_lease: next_lease.is_some(), next_head })
    }

    fn check_cluster(&self, cluster: &str) -> Result<(), StoreError> {
        match self.seen {
            Some(seen) if seen.cluster != cluster => Err(StoreError::Tampered(format!(
                "{} is another store than the one that was seen before",
                self.objects.place()
            ))),
            _ => Ok(()),
        }
    }

    /// The lease in force. `may_be_next`: the one after that which was seen may have been taken.
    fn newest_lease(&self, may_be_next: bool) -> Result<By<'a, Lease>, StoreError> {
        let place = self.objects.place();
        let mut epoch = match self.seen {
            Some(seen) => seen.epoch,
            None => newest_epoch(self.objects)?,
        };
        let lease = |epoch| signed_lease(self.objects, self.keys, epoch);
        let Some(mut found) = lease(epoch.max(1))? else {
            // An empty place is more often one that is not mounted than one that was wiped.
            let newest = newest_epoch(self.objects)?;
            if newest > epoch {
                // It was lost, and made anew by a Main that remembers it.
                let gone = || StoreError::Tampered(format!("{} is not there", names::lease(newest)));
                return lease(newest)?.ok_or_else(gone);
            }
            return match newest {
                0 => Err(StoreError::Unreachable(format!("there is no store at {place}"))),
                newest => Err(rollback(&format!(
                    "the newest lease at {place} is {newest}, and {epoch} was seen before"
                ))),
            };
        };
        if !may_be_next {
            return Ok(found);
        }
        for _ in 0..MAX_STEPS {
            epoch = found.0.epoch + 1;
            match lease(epoch)? {
                Some(next) if next.0.cluster == found.0.cluster && next.0.prev_seq >= found.0.prev_seq => {
                    found = next;
                }
                Some(_) => {
                    return Err(StoreError::Tampered(format!(
                        "{} does not follow the lease before it",
                        names::lease(epoch)
                    )));
                }
                None => return Ok(found),
            }
        }
        Err(StoreError::Tampered(format!("{place} has too many leases")))
    }

    fn is_missing(&self, seq: u64) -> Result<bool, StoreError> {
        Ok(self.objects.get(&names::head(seq), MAX_HEAD)?.is_none())
    }

    /// The newest publication that the lease allows, from the one with this number on. `known` is one that was read before.
    fn walk(
        &self,
        lease: &Lease,
        alive: Option<&Alive>,
        start: u64,
        mut known: Option<Hashed>,
    ) -> Result<Walked, StoreError> {
        let place = self.objects.place();
        let missing = || match self.seen {
            Some(seen) if seen.seq >= start => {
                rollback(&format!("the publication {start} is not at {place} any more, and was seen before"))
            }
            _ => StoreError::Tampered(format!(
                "the publication {start}, of which {place} speaks, is not there"
            )),
        };
        let first = match known.take_if(|(head, _)| head.seq == start) {
            Some(known) => Some(known),
            None => head(self.objects, self.keys, start)?,
        };
        let mut last = first.ok_or_else(missing)?;
        self.check_seen(&last)?;
        if let Some(alive) = alive
            && alive.seq == start
            && alive.head != last.1
        {
            return Err(StoreError::Tampered(format!(
                "{place}: {} is not the one that was published",
                names::head(start)
            )));
        }
        let (mut best, mut group, mut is_fenced) = (last.clone(), None, false);
        for seq in start + 1..=start.saturating_add(MAX_STEPS) {
            let wanted = if is_fenced { None } else { self.group_in(&last.0) };
            let (next, beside) = self.next(seq, known.take_if(|(head, _)| head.seq == seq), wanted)?;
            if !is_fenced {
                (best, group) = (last.clone(), beside);
            }
            let Some(next) = next else { break };
            if next.0.prev != Some(last.1) {
                return Err(StoreError::Tampered(format!(
                    "{} does not follow the one before it",
                    names::head(seq)
                )));
            }
            self.check_seen(&next)?;
            // Who published under an older lease, after the newer one was taken, did not know of it yet.
            is_fenced = next.0.epoch < lease.epoch && seq > lease.prev_seq;
            last = next;
        }
        if best.0.cluster != lease.cluster || best.0.epoch > lease.epoch {
            return Err(StoreError::Tampered(format!("{} is not of this lease", names::head(best.0.seq))));
        }
        Ok(Walked { head: best, group, tip: (last.0.seq, last.1) })
    }

    /// The group of the node that asks, where it is another one than the node has.
    fn group_in(&self, head: &Head) -> Option<Group> {
        let node = self.node?;
        head.group_of(node.name).filter(|group| node.has != Some(*group))
    }

    /// A publication, which may be `known`, and what lies where a group of the one before it is: in one round trip.
    fn next(
        &self,
        seq: u64,
        known: Option<Hashed>,
        group: Option<Group>,
    ) -> Result<(Option<Hashed>, Option<Vec<u8>>), StoreError> {
        let (name, group) = (names::head(seq), group.map(|group| (group.name(), group.len)));
        let head = known.is_none().then_some((&*name, MAX_HEAD));
        let beside = group.as_ref().map(|(name, len)| (&**name, *len));
        let wanted: Vec<(&str, u64)> = head.into_iter().chain(beside).collect();
        if wanted.is_empty() {
            return Ok((known, None));
        }
        let mut found = self.objects.get_all(&wanted)?.into_iter();
        let next = match known {
            Some(known) => Some(known),
            None => found.next().flatten().map(|object| read_head(&object, self.keys, seq)).transpose()?,
        };
        Ok((next, found.next().flatten()))
    }

    fn check_seen(&self, (head, hash): &Hashed) -> Result<(), StoreError> {
        let Some(seen) = self.seen else { return Ok(()) };
        self.check_cluster(&head.cluster)?;
        if head.seq < seen.seq {
            return Err(rollback(&format!(
                "publication {} is the newest, and {} was seen before",
                head.seq, seen.seq
            )));
        }
        let follows = head.seq != seen.seq + 1 || head.prev == Some(seen.head);
        if (head.seq == seen.seq && *hash != seen.head) || !follows {
            return Err(rollback(&format!(
                "publication {} is another one than what was seen before leads to",
                head.seq
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::panic, clippy::unwrap_used)]
mod tests;
