//! What came of a pass.

use super::machine::OpenStore;
use super::trusted::Trusted;
use crate::model::escape::clean;
use crate::report::Report;
use crate::report::exit::{ALL_LOST, CONFLICT, IN_STEP, PARTIAL, RELOAD, TAMPERED, TIMEOUT, first_of};
use crate::store::StoreError;

/// How a pass ended, as far as it was about the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// This node has what is published.
    Current,
    /// Not all of it; why.
    Degraded(String),
    /// Nobody has renewed the publication for too long: there may be a newer one that is withheld.
    Stale(String),
    /// The store does not answer.
    Unreachable(String),
    /// What lies there is not believed, or the store refuses.
    Refused(String),
}

/// What came of a pass.
#[derive(Debug)]
pub struct Passed {
    pub report: Report,
    pub exit_code: u8,
    pub(crate) outcome: Outcome,
    /// What this node has verified, if anything.
    pub(crate) trusted: Option<Trusted>,
    /// The store, if it was there.
    pub(super) store: Option<OpenStore>,
}

/// How a run ended whose own exit code is `own`.
pub(super) fn judge(
    own: u8,
    stale: Option<String>,
    failures: Vec<StoreError>,
    report: &Report,
) -> (u8, Outcome) {
    let of_store = failures.into_iter().map(|error| {
        let detail = clean(error.detail());
        match error {
            StoreError::Tampered(_) => (TAMPERED, Outcome::Refused(detail)),
            StoreError::Refused(_) | StoreError::Incompatible(_) | StoreError::Held { .. } => {
                (ALL_LOST, Outcome::Refused(detail))
            }
            StoreError::Unreachable(_) => (ALL_LOST, Outcome::Unreachable(detail)),
            StoreError::Local(_) => (PARTIAL, Outcome::Degraded(detail)),
        }
    });
    let of_stale = stale.map(|detail| (TIMEOUT, Outcome::Stale(detail)));
    match of_store.chain(of_stale).max_by_key(|(code, _)| *code) {
        Some((code, outcome)) => (first_of(&[own, code]), outcome),
        // A host whose Asterisk is not up yet has its files; the reload stays owed.
        None if matches!(own, IN_STEP | CONFLICT | RELOAD) => (own, Outcome::Current),
        None => (own, Outcome::Degraded(why(report))),
    }
}

/// Why a run has not done everything, as far as one line says it.
fn why(report: &Report) -> String {
    let halted = report.halted.iter().map(|halted| &halted.detail);
    let lost = report.nodes.iter().filter_map(|node| node.error.as_ref());
    let failed = report.problems.iter().filter(|problem| problem.fails).map(|problem| &problem.detail);
    let reload =
        report.nodes.iter().flat_map(|node| &node.reloads).filter_map(|reload| reload.detail.as_ref());
    let first = halted.chain(lost).chain(failed).chain(reload).next();
    first.map_or_else(|| "something was left undone".to_owned(), |why| clean(why))
}
