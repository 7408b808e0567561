//! Main at its store: whether it may publish there, and taking and giving up the lease.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use ssh_key::PublicKey;

use super::chain::{self, Found};
use super::envelope::{self, seal};
use super::head::Head;
use super::lease::{Alive, Lease};
use super::objects::create_or_own;
use super::trust::{self, Trust};
use super::{Created, FORMAT, MAX_SMALL, Objects, Sha256, StoreError, names};
use crate::model::{read_rfc3339, rfc3339};
use crate::signing;

/// How long followers may believe that nothing newer was published: longer than any cron job of Main waits.
pub const FRESH: Duration = Duration::from_secs(24 * 3600);

/// Main, as it stands before its store.
pub struct Holder {
    /// The store.
    pub objects: Arc<dyn Objects>,
    /// Main's name.
    pub name: String,
    /// Main's id: two hosts may have one name.
    pub id: String,
    /// Its private key.
    pub identity: PathBuf,
    /// The key that it had before, while that is kept.
    pub previous: PathBuf,
    /// The clock.
    pub now: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

/// What Main remembers of its store, so that one which was set back is noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The store's ULID.
    pub cluster: String,
    /// Of the lease that it holds, or saw last.
    pub epoch: u64,
    /// The newest publication; 0: none.
    pub seq: u64,
    /// Its hash, as an object.
    pub head: Option<Sha256>,
    /// The key that signed last, in OpenSSH's format.
    pub key: String,
}

/// How the store is, as far as this Main believes it.
#[derive(Clone, Debug)]
pub struct Standing {
    /// All keys that may have signed something.
    pub keys: Vec<PublicKey>,
    /// How many of them are in the store.
    pub rotations: u64,
    /// This Main's own key.
    pub own: PublicKey,
    /// The lease in force.
    pub lease: Lease,
    /// The last sign of life.
    pub alive: Option<Alive>,
    /// The newest publication.
    pub head: Option<(Head, Sha256)>,
    /// Number and hash of the last publication; 0: none.
    pub tip: (u64, Option<Sha256>),
}

impl std::fmt::Debug for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Holder").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Holder {
    fn time(&self) -> String {
        rfc3339((self.now)())
    }

    /// This Main's own public key.
    pub fn own_key(&self) -> Result<PublicKey, StoreError> {
        signing::public_key(&self.identity).map_err(|error| StoreError::local(&error))
    }

    /// Looks at the store. `record` is what this Main remembers of it.
    pub fn standing(&self, record: Option<&Record>) -> Result<Standing, StoreError> {
        let objects = &*self.objects;
        let own = self.own_key()?;
        let mut keys = trust::all(objects)?;
        let rotations = keys.len() as u64;
        if chain::newest_epoch(objects)? == 0 {
            return Err(StoreError::Unreachable(format!(
                "there is no store at {}: is it mounted? Where there never was one, run `xds-sync store init`",
                objects.place()
            )));
        }
        if !keys.iter().any(|key| signing::same(key, &own)) {
            keys.push(own.clone());
        }
        if let Some(record) = record {
            self.check_record(record, &keys)?;
            self.check_stranger(record.epoch + 1, &keys)?;
        }
        let found = chain::newest_of(objects, &keys).map_err(|error| self.foreign(error))?;
        let (lease, alive, head, tip) = match found {
            Found::New(newest) => {
                let tip = (newest.tip.0, Some(newest.tip.1));
                (newest.lease, newest.alive, Some((newest.head, newest.hash)), tip)
            }
            Found::Empty(lease) => {
                let alive = chain::alive(objects, &keys, lease.epoch)?;
                let known = record.filter(|record| record.seq == lease.prev_seq);
                let tip = (lease.prev_seq, known.and_then(|record| record.head));
                (lease, alive, None, tip)
            }
            Found::Same(_) => return Err(StoreError::Local("nothing was seen before".to_owned())),
        };
        if let Some(record) = record {
            self.check_set_back(record, &lease, tip, &keys)?;
        }
        Ok(Standing { keys, rotations, own, lease, alive, head, tip })
    }

    fn check_record(&self, record: &Record, keys: &[PublicKey]) -> Result<(), StoreError> {
        let is_known = PublicKey::from_openssh(&record.key)
            .is_ok_and(|known| keys.iter().any(|key| signing::same(key, &known)));
        if is_known {
            return Ok(());
        }
        Err(StoreError::Tampered(format!(
            "{} does not have the key with which this Main has published: it is another store, or was set back (rollback)",
            self.objects.place()
        )))
    }

    /// Whether somebody whose key is not known here has taken the next lease: then nothing is published either.
    fn check_stranger(&self, epoch: u64, keys: &[PublicKey]) -> Result<(), StoreError> {
        let name = names::lease(epoch);
        let Some(object) = self.objects.get(&name, MAX_SMALL)? else { return Ok(()) };
        match envelope::open::<Lease>(&object, keys, &name) {
            Err(StoreError::Tampered(why)) => {
                let text = String::from_utf8_lossy(&object);
                let claimed =
                    text.split_once("-----END SSH SIGNATURE-----\n").map_or("", |(_, payload)| payload);
                let claimed = serde_json::from_str::<Lease>(claimed).ok().map(|lease| lease.main);
                match claimed.filter(|name| names::is_name(name)) {
                    Some(holder) => Err(StoreError::Held {
                        detail: format!(
                            "the lease {epoch} is {holder}'s, as it says itself: it is signed with a key that this Main does not \
                             know. This Main publishes nothing"
                        ),
                        holder,
                    }),
                    None => Err(StoreError::Tampered(why)),
                }
            }
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    fn foreign(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Tampered(why) => StoreError::Tampered(format!("{}: {why}", self.objects.place())),
            error => error,
        }
    }

    /// Whether the store is older than what this Main has published there.
    fn check_set_back(
        &self,
        record: &Record,
        lease: &Lease,
        tip: (u64, Option<Sha256>),
        keys: &[PublicKey],
    ) -> Result<(), StoreError> {
        let place = self.objects.place();
        let set_back = |what: String| Err(StoreError::Tampered(format!("rollback: {place} {what}")));
        if lease.cluster != record.cluster {
            return Err(StoreError::Tampered(format!(
                "{place} is another store than this Main has published in"
            )));
        }
        if lease.epoch < record.epoch || tip.0 < record.seq {
            return set_back(format!(
                "is at publication {} of lease {}, and this Main knows {} of {}: an older copy was restored",
                tip.0, lease.epoch, record.seq, record.epoch
            ));
        }
        if record.seq == 0 || (tip.0 == record.seq && tip.1 == record.head) {
            return Ok(());
        }
        // One that was collected as garbage says nothing.
        match chain::head(&*self.objects, keys, record.seq)? {
            Some((_, hash)) if Some(hash) != record.head => {
                set_back(format!("has another publication {} than this Main has made", record.seq))
            }
            _ => Ok(()),
        }
    }

    /// Whether this Main holds the lease.
    pub fn check_held(&self, standing: &Standing) -> Result<(), StoreError> {
        let lease = &standing.lease;
        if lease.main_id != self.id {
            return Err(StoreError::Held {
                holder: lease.main.clone(),
                detail: format!(
                    "the lease of {} is held by {} since {}: this Main publishes nothing. To take it over, run `xds-sync store \
                     release` there and `xds-sync store claim` here",
                    self.objects.place(),
                    lease.main,
                    lease.time
                ),
            });
        }
        if standing.alive.as_ref().is_some_and(|alive| alive.released) {
            return Err(StoreError::Held {
                holder: lease.main.clone(),
                detail: "this Main has released the lease: `xds-sync store claim` takes it again".to_owned(),
            });
        }
        Ok(())
    }

    /// Whether nobody has taken the lease after this one meanwhile.
    pub(super) fn check_not_fenced(&self, standing: &Standing) -> Result<(), StoreError> {
        let next = standing.lease.epoch + 1;
        self.check_stranger(next, &standing.keys)?;
        match chain::lease(&*self.objects, &standing.keys, next)? {
            None => Ok(()),
            Some(lease) => Err(StoreError::Held {
                detail: format!(
                    "{} has taken the lease of {} meanwhile: this Main publishes nothing any more",
                    lease.main,
                    self.objects.place()
                ),
                holder: lease.main,
            }),
        }
    }

    /// Makes the store, and takes its first lease. `record`: the store as it was before it was lost, if it was.
    pub fn init(&self, new_id: &str, record: Option<&Record>) -> Result<Record, StoreError> {
        let objects = &*self.objects;
        if chain::newest_epoch(objects)? > 0 {
            return match self
                .standing(record)
                .and_then(|standing| self.check_held(&standing).map(|()| standing))
            {
                // The same once more is no mistake.
                Ok(standing) => self.remember(&standing),
                Err(error) => Err(error.while_doing("there is a store already")),
            };
        }
        let own = self.own_key()?;
        let cluster = record.map_or(new_id, |record| &record.cluster).to_owned();
        let key = text_of(&own)?;
        let first = Trust { v: FORMAT, cluster: cluster.clone(), n: 1, key: key.clone(), time: self.time() };
        create_or_own(objects, &names::trust(1), &seal(&self.identity, &first)?)?;
        let prev_seq = record.map_or(0, |record| record.seq);
        let lease = self.lease(&cluster, record.map_or(0, |record| record.epoch) + 1, prev_seq);
        self.take(&lease)?;
        let head = record.and_then(|record| record.head);
        Ok(Record { cluster, epoch: lease.epoch, seq: prev_seq, head, key })
    }

    fn lease(&self, cluster: &str, epoch: u64, prev_seq: u64) -> Lease {
        Lease {
            v: FORMAT,
            cluster: cluster.to_owned(),
            epoch,
            main: self.name.clone(),
            main_id: self.id.clone(),
            time: self.time(),
            prev_seq,
        }
    }

    fn take(&self, lease: &Lease) -> Result<(), StoreError> {
        let object = seal(&self.identity, lease)?;
        match create_or_own(&*self.objects, &names::lease(lease.epoch), &object)? {
            Created::New => Ok(()),
            Created::There => Err(StoreError::Held {
                holder: "another Main".to_owned(),
                detail: format!("another Main has just taken the lease {}", lease.epoch),
            }),
        }
    }

    /// Takes the lease anew where it is signed with a key that this Main has no more: who knows the new key alone could not
    /// read it.
    pub(super) fn renew(&self, standing: Standing) -> Result<Standing, StoreError> {
        let own = std::slice::from_ref(&standing.own);
        match chain::lease(&*self.objects, own, standing.lease.epoch) {
            Err(StoreError::Tampered(_)) => {
                let next = self.lease(&standing.lease.cluster, standing.lease.epoch + 1, standing.tip.0);
                self.take(&next)?;
                Ok(Standing { lease: next, ..standing })
            }
            found => found.map(|_| standing),
        }
    }

    /// Takes the lease. `force` names the Main that it is taken from, where that one has not released it.
    pub fn claim(&self, record: Option<&Record>, force: Option<&str>) -> Result<Record, StoreError> {
        let standing = match self.standing(record) {
            // Who claims looks at the store as it is, whoever has been there since.
            Err(StoreError::Held { .. }) => self.standing(None)?,
            standing => standing?,
        };
        let lease = &standing.lease;
        let is_released = standing.alive.as_ref().is_some_and(|alive| alive.released);
        if lease.main_id == self.id && !is_released {
            return self.remember(&standing);
        }
        let is_stale = standing
            .alive
            .as_ref()
            .is_some_and(|alive| read_rfc3339(&alive.expires).is_some_and(|expires| expires < (self.now)()));
        let holder = lease.main.clone();
        let held = |detail: String| Err(StoreError::Held { holder: holder.clone(), detail });
        match force {
            Some(name) if name != lease.main => {
                return held(format!("the lease is not {name}'s but {}'s", lease.main));
            }
            Some(_) => {}
            None if is_released || is_stale => {}
            None => {
                return held(format!(
                    "the lease is held by {} since {}: run `xds-sync store release` there; where that Main is gone for good, \
                     `xds-sync store claim --force {}`",
                    lease.main, lease.time, lease.main
                ));
            }
        }
        let next = self.lease(&lease.cluster, lease.epoch + 1, standing.tip.0);
        self.take(&next)?;
        self.remember(&Standing { lease: next, ..standing })
    }

    /// Gives the lease up: another Main may claim it.
    pub fn release(&self, record: Option<&Record>) -> Result<Record, StoreError> {
        let standing = self.standing(record)?;
        let is_released = standing.alive.as_ref().is_some_and(|alive| alive.released);
        if !(is_released && standing.lease.main_id == self.id) {
            self.check_held(&standing)?;
            self.put_alive(&standing, true)?;
        }
        self.remember(&standing)
    }

    /// Says which publication is the newest.
    pub(super) fn put_alive(&self, standing: &Standing, released: bool) -> Result<(), StoreError> {
        let now = (self.now)();
        let alive = Alive {
            v: FORMAT,
            cluster: standing.lease.cluster.clone(),
            epoch: standing.lease.epoch,
            seq: standing.head.as_ref().map_or(0, |(head, _)| head.seq),
            head: standing.head.as_ref().map_or(Sha256([0; 32]), |(_, hash)| *hash),
            main: self.name.clone(),
            issued: rfc3339(now),
            expires: rfc3339(now + FRESH),
            released,
        };
        self.objects.put(&names::alive(alive.epoch), &seal(&self.identity, &alive)?)
    }

    /// Whether this Main's key is the newest in the store. One that follows the newest is appended; `None`: it is none that
    /// nodes would trust.
    pub(super) fn append_key(&self, standing: &mut Standing) -> Result<Option<bool>, StoreError> {
        let in_store = usize::try_from(standing.rotations).unwrap_or(0).min(standing.keys.len());
        let newest = in_store.checked_sub(1).map(|last| &standing.keys[last]);
        let Some(newest) = newest else { return Ok(None) };
        if signing::same(newest, &standing.own) {
            return Ok(Some(false));
        }
        let previous = signing::public_key(&self.previous);
        if !previous.is_ok_and(|previous| signing::same(&previous, newest)) {
            return Ok(None);
        }
        self.add_key(&self.previous, &standing.own, &standing.lease.cluster, standing.rotations + 1)?;
        standing.rotations += 1;
        Ok(Some(true))
    }

    /// Lets `next` follow the key in the store, which `identity` is, before this Main signs with it.
    pub fn hand_over_key(&self, next: &std::path::Path) -> Result<(), StoreError> {
        let keys = trust::all(&*self.objects)?;
        let own = self.own_key()?;
        let next = signing::public_key(next).map_err(|error| StoreError::local(&error))?;
        match keys.last() {
            Some(newest) if signing::same(newest, &own) => {
                let epoch = chain::newest_epoch(&*self.objects)?;
                let lease = chain::lease(&*self.objects, &keys, epoch)?;
                let cluster = lease.map(|lease| lease.cluster).unwrap_or_default();
                self.add_key(&self.identity, &next, &cluster, keys.len() as u64 + 1)
            }
            // It was handed over by a rotation that did not end, or is not this Main's to hand over.
            _ => Ok(()),
        }
    }

    fn add_key(
        &self,
        signer: &std::path::Path,
        key: &PublicKey,
        cluster: &str,
        n: u64,
    ) -> Result<(), StoreError> {
        let next = Trust { v: FORMAT, cluster: cluster.to_owned(), n, key: text_of(key)?, time: self.time() };
        match create_or_own(&*self.objects, &names::trust(n), &seal(signer, &next)?)? {
            Created::New => Ok(()),
            Created::There => Err(StoreError::Tampered(format!(
                "{} is another key than this Main's: somebody else has its key",
                names::trust(n)
            ))),
        }
    }

    /// What to remember of the store.
    pub fn remember(&self, standing: &Standing) -> Result<Record, StoreError> {
        Ok(Record {
            cluster: standing.lease.cluster.clone(),
            epoch: standing.lease.epoch,
            seq: standing.tip.0,
            head: standing.tip.1,
            key: text_of(&standing.own)?,
        })
    }
}

fn text_of(key: &PublicKey) -> Result<String, StoreError> {
    key.to_openssh().map_err(|error| StoreError::Local(format!("writing a public key as text: {error}")))
}
