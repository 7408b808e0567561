//! What others are told of this node: `follow.json` here, and its status in the store.

use std::sync::Arc;
use std::time::Duration;

use super::json::{Standing, State};
use super::machine::OpenStore;
use super::passed::{Outcome, Passed};
use super::run::Follower;
use crate::model::{ChangeKind, ReloadState, read_rfc3339, rfc3339};
use crate::report::exit::CONFLICT;
use crate::store::names::Area;
use crate::store::status::NodeStatus;
use crate::store::upload::On;
use crate::store::{FORMAT, envelope};
use crate::version;

/// Main is told of what has not changed no more often than this.
const AGAIN: Duration = Duration::from_secs(5 * 60);

impl Outcome {
    /// Why this node does not have what is published, in one line.
    pub(crate) fn why(&self) -> Option<&str> {
        match self {
            Outcome::Current => None,
            Outcome::Degraded(why)
            | Outcome::Stale(why)
            | Outcome::Unreachable(why)
            | Outcome::Refused(why) => Some(why),
        }
    }
}

impl Passed {
    /// Whether it has brought this node what can be had now: trying again at once would change nothing.
    pub(super) fn has_files(&self) -> bool {
        let is_applied =
            || self.trusted.as_ref().is_some_and(|trusted| trusted.applied == Some(trusted.on()));
        match self.outcome {
            Outcome::Current => true,
            // An administrator decides.
            Outcome::Degraded(_) => !self.report.halted.is_empty(),
            Outcome::Stale(_) => is_applied(),
            Outcome::Unreachable(_) | Outcome::Refused(_) => false,
        }
    }

    /// Whether it did, or met with, anything that the history should tell.
    pub(super) fn did_something(&self) -> bool {
        let report = &self.report;
        let is_change = |kind| !matches!(kind, ChangeKind::Hold | ChangeKind::Skip);
        report.changes.iter().any(|change| is_change(change.kind))
            || report.nodes.iter().flat_map(|node| &node.reloads).any(|done| done.state == ReloadState::Done)
    }

    /// How this node is after it. `had_files`: it has had them since it began to follow; `is_starting`: it goes on trying
    /// to get them for the first time.
    pub(crate) fn state(&self, had_files: bool, is_starting: bool) -> State {
        match &self.outcome {
            Outcome::Current => State::Current,
            Outcome::Degraded(_) => State::Degraded,
            Outcome::Stale(_) => State::Stale,
            Outcome::Refused(_) => State::Refused,
            Outcome::Unreachable(_) if had_files => State::Stale,
            Outcome::Unreachable(_) if is_starting => State::Starting,
            Outcome::Unreachable(_) => State::Degraded,
        }
    }
}

impl Follower {
    /// Says that this node begins to follow. Whoever looks meanwhile must not read how it was before.
    pub(super) fn starting(&self, attempt: u32) {
        let before = Standing::read(&self.accept.state_dir);
        let standing =
            Standing { state: State::Starting, attempt, error: None, ..self.standing(before.as_ref()) };
        self.save(&standing);
    }

    /// Tells how a pass went.
    pub(crate) fn tell(&self, passed: &Passed, state: State, attempt: u32) {
        let before = Standing::read(&self.accept.state_dir);
        let now = rfc3339((self.machine.now)());
        let was = self.standing(before.as_ref());
        let (has, uploaded, taken) = match &passed.trusted {
            // Numbers of another store say nothing: what is the same here may be deleted on this node.
            Some(trusted) => {
                (trusted.applied.unwrap_or(On { epoch: 0, seq: 0 }), trusted.uploaded, trusted.taken())
            }
            None => (On { epoch: was.epoch, seq: was.seq }, was.uploaded, was.taken),
        };
        let is_there = !matches!(passed.outcome, Outcome::Unreachable(_));
        let mut standing = Standing {
            state,
            attempt,
            epoch: has.epoch,
            seq: has.seq,
            seen: if is_there { Some(now.clone()) } else { was.seen.clone() },
            uploaded,
            taken,
            error: self.trouble(passed),
            ..was
        };
        let is_news = before.as_ref().is_none_or(|before| standing.differs(before));
        if is_there && !passed.report.dry_run && (is_news || self.is_old(standing.told.as_deref())) {
            match self.tell_main(passed, &standing, &now) {
                Ok(true) => standing.told = Some(now),
                Ok(false) => {}
                Err(error) => log::warn!("Main cannot be told how this node is: {error:#}"),
            }
        }
        self.save(&standing);
    }

    /// Why this node does not have what is published, or what of it waits for somebody.
    fn trouble(&self, passed: &Passed) -> Option<String> {
        let waits = || {
            format!(
                "a conflict waits for a decision on this node: XDS_SYNC_SYNC_STATE_DIR={} xds-sync conflicts",
                self.dir().display()
            )
        };
        let why = passed.outcome.why().map(str::to_owned);
        why.or_else(|| (passed.exit_code == CONFLICT).then(waits))
    }

    /// As it was, or as it is where nothing is known.
    fn standing(&self, before: Option<&Standing>) -> Standing {
        let before = before.filter(|before| before.node == self.config.name).cloned();
        before.unwrap_or_else(|| Standing {
            node: self.config.name.clone(),
            state: State::Starting,
            attempt: 1,
            epoch: 0,
            seq: 0,
            seen: None,
            told: None,
            uploaded: 0,
            taken: 0,
            error: None,
        })
    }

    fn save(&self, standing: &Standing) {
        if let Err(error) = standing.save(&self.accept.state_dir) {
            log::error!("{error:#}");
        }
    }

    fn is_old(&self, told: Option<&str>) -> bool {
        let told = told.and_then(read_rfc3339);
        told.is_none_or(|told| (self.machine.now)().duration_since(told).is_ok_and(|age| age > AGAIN))
    }

    /// Lays the status of this node down in the store, where it may. Whether it did.
    fn tell_main(&self, passed: &Passed, standing: &Standing, now: &str) -> anyhow::Result<bool> {
        let (Some(trusted), Some(area)) = (&passed.trusted, Area::node(&self.config.name)) else {
            return Ok(false);
        };
        let status = NodeStatus {
            v: FORMAT,
            cluster: trusted.head.cluster.clone(),
            node: self.config.name.clone(),
            time: now.to_owned(),
            agent: version::package(),
            state: standing.state.word().to_owned(),
            epoch: standing.epoch,
            seq: standing.seq,
            uploaded: standing.uploaded,
            error: standing.error.clone(),
        };
        let objects = match &passed.store {
            Some(OpenStore(objects)) => Arc::clone(objects),
            None => self.open_store()?,
        };
        objects.put(&area.status(), &envelope::seal(&self.config.identity, &status)?)?;
        Ok(true)
    }
}
