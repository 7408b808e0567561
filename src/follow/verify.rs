//! Which publication this node is to have: the newest that Main has signed, if that can be told.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ssh_key::PublicKey;

use super::config::Config;
use super::trusted::{Trusted, TrustedFile};
use crate::model::escape::clean;
use crate::model::{off, read_rfc3339, rfc3339};
use crate::report::{Problem, Stage};
use crate::store::chain::{self, Found};
use crate::store::head::Head;
use crate::store::lease::Alive;
use crate::store::names::Area;
use crate::store::{Objects, StoreError};

/// Nothing was done, because of this.
pub(super) struct Stopped {
    pub(super) error: StoreError,
    /// What was verified all the same.
    pub(super) trusted: Option<Box<Trusted>>,
}

impl Stopped {
    pub(super) fn by(error: StoreError, trusted: Trusted) -> Stopped {
        Stopped { error, trusted: Some(Box::new(trusted)) }
    }
}

/// What a publication is followed with.
pub(super) struct Verified {
    pub(super) objects: Arc<dyn Objects>,
    pub(super) area: Area,
    pub(super) trusted: Trusted,
    /// Whether this node has never verified anything before.
    pub(super) is_first: bool,
    /// Why there may be a newer publication than this.
    pub(super) stale: Option<String>,
    /// That a clock is wrong, where that shows otherwise.
    pub(super) behind: Option<Problem>,
}

/// By how much clocks may differ.
const SKEW: Duration = Duration::from_secs(5 * 60);
/// How long a publication can be believed to be the newest that nobody has renewed.
const UNRENEWED: Duration = Duration::from_secs(24 * 60 * 60);

/// What a publication is verified by.
pub(super) struct Verifier<'a> {
    pub(super) config: &'a Config,
    /// The time by this node's clock.
    pub(super) clock: fn() -> SystemTime,
    /// Nothing is written down then.
    pub(super) dry_run: bool,
}

impl Verifier<'_> {
    /// Finds the newest publication, and writes down that this node has seen it before anything else is done with it.
    pub(super) fn verify(
        &self,
        objects: Result<Arc<dyn Objects>, StoreError>,
        file: &TrustedFile,
        pinned: &PublicKey,
        before: Option<Trusted>,
    ) -> Result<Verified, Stopped> {
        let kept = before.clone();
        let stopped = |error| Stopped { error: file.explain(error), trusted: kept.clone().map(Box::new) };
        let objects = objects.map_err(stopped)?;
        let key = before.as_ref().map_or(Ok(pinned.clone()), |before| before.key(pinned)).map_err(stopped)?;
        let seen = before.as_ref().map(Trusted::seen);
        let node = Trusted::asks(before.as_ref(), &self.config.name);
        let found = chain::newest(&*objects, &key, seen.as_ref(), Some(node)).map_err(stopped)?;
        let place = objects.place().to_owned();
        let is_first = before.is_none();
        let (trusted, alive) = match (found, before) {
            (Found::New(newest), before) => {
                let alive = newest.alive.clone();
                let trusted = Trusted::of(*newest, &*objects, &self.config.name, pinned, before.as_ref());
                (trusted.map_err(stopped)?, alive)
            }
            (Found::Same(alive), Some(before)) => {
                let keys = [key, pinned.clone()];
                (before.for_node(&*objects, &self.config.name, &keys).map_err(stopped)?, alive)
            }
            (Found::Same(_) | Found::Empty(_), _) => {
                let detail = format!("nothing is published at {place} yet: run `xds-sync publish` on Main");
                return Err(stopped(StoreError::Unreachable(detail)));
            }
        };
        let stale = self.stale(&place, &trusted.head, alive.as_ref());
        if !self.dry_run && stale.is_none() && Some(&trusted) != kept.as_ref() {
            file.save(&trusted).map_err(|error| stopped(StoreError::local(&error)))?;
        }
        let area = Area::node(&self.config.name)
            .ok_or_else(|| stopped(StoreError::Local("follow.name is no name of a node".to_owned())))?;
        let behind = self.behind(&trusted.head, alive.as_ref());
        Ok(Verified { objects, area, trusted, is_first, stale, behind })
    }

    /// Why there may be a newer publication that the store withholds, if there may.
    fn stale(&self, place: &str, head: &Head, alive: Option<&Alive>) -> Option<String> {
        let until = match alive {
            Some(alive) => read_rfc3339(&alive.expires),
            None => read_rfc3339(&head.time).map(|time| time + UNRENEWED),
        };
        let now = (self.clock)();
        if until.is_some_and(|until| now <= until + SKEW) {
            return None;
        }
        let since = alive.map_or(&head.time, |alive| &alive.issued);
        Some(format!(
            "{place} is stale: {} has not renewed publication {} since {since}, and by this node's clock it is {}; it publishes no \
             more, the store withholds what it publishes, or a clock is wrong",
            clean(&head.main),
            head.seq,
            rfc3339(now)
        ))
    }

    /// What Main says is newer than anything can be: as long as the clocks are so far apart, this node notices that much later
    /// that nobody renews what is published.
    fn behind(&self, head: &Head, alive: Option<&Alive>) -> Option<Problem> {
        let said = alive.map_or(&head.time, |alive| &alive.issued);
        let (then, now) = (read_rfc3339(said)?, (self.clock)());
        (then > now + SKEW).then(|| {
            let main = clean(&head.main);
            let detail = format!(
                "the clocks are wrong: {main} has renewed publication {} at {said}, and by this node's clock it is {} now, {} that; \
                 set the clock that is wrong. Until then this node notices later when {main} publishes no more",
                head.seq,
                rfc3339(now),
                off(now, then)
            );
            Problem::warning(Stage::Connect, detail)
        })
    }
}
