//! A run that is going on, or that was killed.

use std::time::SystemTime;

use serde::Serialize;

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
    /// `a run is going on since 2026-01-02T03:04:05Z (5m ago): process 4711`.
    pub(crate) fn words(&self, now: SystemTime) -> String {
        let since = super::status_text::ago(&self.started, now);
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
    use super::*;

    #[test]
    fn who_carries_it_out_is_told_or_that_nobody_does() {
        let mut running = Running {
            run: "01KDYC00000000000000000000".to_owned(),
            started: "2026-01-02T03:04:05Z".to_owned(),
            pid: Some(4711),
        };
        let now = started() + Duration::from_secs(300);
        assert_eq!(running.words(now), "a run is going on since 2026-01-02T03:04:05Z (5m ago): process 4711");
        running.pid = None;
        assert_eq!(
            running.words(now),
            "the run 01KDYC00000000000000000000 that began at 2026-01-02T03:04:05Z (5m ago) did not end"
        );
    }
}
