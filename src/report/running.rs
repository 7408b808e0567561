//! A run that is going on, or that was killed.

use serde::Serialize;

use super::status_text::Reader;
use super::words;

/// A run that has begun and has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Running {
    pub(crate) run: String,
    pub(crate) started: String,
    /// The process that carries it out; none: it was killed.
    pub(crate) pid: Option<u32>,
}

impl Running {
    /// `a run is going on since 2026-01-02 04:04:05 (5m ago): process 4711`.
    pub(crate) fn words(&self, reader: &Reader<'_>) -> String {
        let since = reader.ago(&self.started);
        match self.pid {
            Some(pid) => format!("a run is going on since {since}: process {pid}"),
            None => format!("the run {} that began at {since} did not end", words::name(&self.run)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::samples::started;
    use super::super::text::{Style, Verbosity};
    use super::*;
    use crate::model::Zone;

    #[test]
    fn who_carries_it_out_is_told_or_that_nobody_does() {
        let mut running = Running {
            run: "01KDYC00000000000000000000".to_owned(),
            started: "2026-01-02T03:04:05Z".to_owned(),
            pid: Some(4711),
        };
        let zone = Zone::of(jiff::tz::TimeZone::UTC);
        let style = Style { verbosity: Verbosity::Normal, color: false };
        let reader = Reader { now: started() + Duration::from_secs(300), zone: &zone, style };
        assert_eq!(
            running.words(&reader),
            "a run is going on since 2026-01-02 03:04:05 (5m ago): process 4711"
        );
        running.pid = None;
        assert_eq!(
            running.words(&reader),
            "the run 01KDYC00000000000000000000 that began at 2026-01-02 03:04:05 (5m ago) did not end"
        );
    }
}
